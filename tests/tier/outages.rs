//! Owns the tests of a server whose bucket is away, refuses it, or holds something else than what was sent: S3's own client, over HTTP.

use std::sync::mpsc;

use chronik::wal::settings::MetadataStore;
use chronik::wire::batch::batches;
use chronik::wire::msg::*;
use chronik::wire::{self, ErrorCode};

use super::bucket::Bucket;
use super::tiers::{evicted, make_topic, settle, KEEPS_LITTLE};
use crate::backup::support::{bytes_of, empty_disk, fetch_from, House};
use crate::logged::Logged;
use crate::net::process::{Server, TempDir};
use crate::sim::disk::SimDisk;
use crate::store::server as http;

fn tiered(disk: &SimDisk, seed: u64, bucket: &Bucket) -> House {
    House::start_tiered(disk, seed, MetadataStore::Log, Some(bucket.store())).unwrap()
}

/// A server of which most is in the bucket only.
fn evicted_house(disk: &SimDisk, bucket: &Bucket) -> House {
    evicted(tiered(disk, 1, bucket), disk)
}

/// What a fetch from an offset is answered with: batches by their offsets, or an error without any.
fn read_at(house: &mut House, offset: i64) -> Result<Vec<(i64, Vec<u8>)>, ErrorCode> {
    let body = house.call(11, &fetch_from("old", 0, offset, 1 << 20));
    let response: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
    let answer = &response.responses[0].partitions[0];
    let found = batches(bytes_of(&answer.records)).map(|batch| {
        let batch = batch.unwrap();
        (batch.header.base_offset, batch.bytes[21..].to_vec())
    });
    let found: Vec<_> = found.collect();
    match answer.error_code {
        ErrorCode::NONE => Ok(found),
        error => {
            assert!(found.is_empty(), "records beside {error:?}");
            Err(error)
        }
    }
}

/// Lets an hour pass, in which somebody writes and reads every minute; the seconds in which uploads were tried.
fn an_hour(house: &mut House) -> Vec<i64> {
    let mut tries = Vec::new();
    let mut lag = house.metrics.tier_lag_bytes.get();
    for second in 0..3600 {
        let known = house.uploads.len();
        if second % 60 == 0 {
            let offset = house.produce("old", 0, &vec![b'h'; 900_000]);
            assert_eq!(read_at(house, offset).map(|found| found[0].0), Ok(offset), "what was written just now");
            let now = house.metrics.tier_lag_bytes.get();
            assert!(now >= lag, "the lag falls from {lag} to {now}");
            lag = now;
        }
        if second % 600 == 599 {
            assert_eq!(read_at(house, 0), Err(ErrorCode::KAFKA_STORAGE_ERROR), "what only the store has");
        }
        house.pass_ms(1000);
        if house.uploads.len() > known {
            tries.push(second);
        }
    }
    assert!(lag > 3 * (12 << 20), "{lag} bytes wait");
    tries
}

#[test]
fn an_hour_of_503_costs_uploads_and_cold_reads_and_nothing_else() {
    let (disk, bucket, logged) = (empty_disk(), Bucket::start(), Logged::listen());
    let mut house = evicted_house(&disk, &bucket);
    let before = house.records("old", 0);
    let (evicted, uploads) = (house.evicted.len(), house.uploads.len());
    assert_eq!(house.metrics.tier_lag_bytes.get(), 0);
    logged.take();
    bucket.refuse(0, 503, "SlowDown");
    let tries = an_hour(&mut house);
    assert!(house.uploads[uploads..].iter().all(Result::is_err), "{:?}", &house.uploads[uploads..]);
    assert_eq!(house.evicted.len(), evicted, "something has left the disk that the store lacks");
    let waits: Vec<i64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits[0] <= 6 && waits.last() == Some(&300), "{waits:?}");
    let said = logged.take();
    let of = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!((of("was not uploaded"), of("cannot be read now")), (1, 6), "{said:#?}");
    assert!(said.len() == 7 && said.iter().all(|line| line.contains("SlowDown")), "{said:#?}");

    bucket.heal();
    for _ in 0..3 {
        settle(&mut house);
    }
    assert_eq!(house.metrics.tier_lag_bytes.get(), 0, "{:?}", house.uploads.last());
    assert!(house.evicted.len() > evicted + 2);
    let after = house.records("old", 0);
    assert_eq!((&after[..before.len()], after.len()), (&before[..], before.len() + 60));
    assert_eq!(logged.take(), [] as [String; 0]);
}

#[test]
fn keys_that_expire_in_mid_upload_lose_nothing_and_what_was_sent_is_not_sent_again() {
    let (disk, bucket, logged) = (empty_disk(), Bucket::start(), Logged::listen());
    let mut house = tiered(&disk, 1, &bucket);
    make_topic(&mut house, "old", KEEPS_LITTLE);
    bucket.refuse(4, 403, "ExpiredToken");
    for _ in 0..3 {
        house.fill_segment("old");
    }
    let before = house.records("old", 0);
    settle(&mut house);
    assert!(house.uploads.len() > 2 && house.uploads.iter().all(Result::is_err), "{:?}", house.uploads);
    let sent = bucket.uploaded();
    assert!((1..3).contains(&sent.len()), "it was to end in the middle: {sent:?}");
    assert!(house.evicted.is_empty(), "an upload that has not ended counts");
    let said = logged.take();
    // In the middle, and then at the beginning.
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().all(|line| line.contains("the session token is expired")), "{said:#?}");
    bucket.heal();
    settle(&mut house);
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "{:?}", house.uploads);
    let mut all = bucket.uploaded();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "sent twice: {all:?}");
    assert_eq!(house.records("old", 0), before);
}

/// Reads from every third batch on: what comes is what was there before, and the rest an error. How many errors there were.
fn errors_of(house: &mut House, before: &[(i64, Vec<u8>)], case: &str) -> usize {
    let mut errors = 0;
    for (offset, _) in before.iter().step_by(3) {
        match read_at(house, *offset) {
            Ok(found) => {
                assert_eq!(found.first().map(|first| first.0), Some(*offset), "{case}: a gap");
                assert!(found.iter().all(|batch| before.contains(batch)), "{case}: other records at {offset}");
            }
            Err(ErrorCode::KAFKA_STORAGE_ERROR | ErrorCode::CORRUPT_MESSAGE) => errors += 1,
            Err(other) => panic!("{case}: {other:?} at {offset}"),
        }
    }
    errors
}

#[test]
fn what_was_changed_or_lost_behind_the_servers_back_is_an_error_and_never_other_records() {
    let (disk, bucket, logged) = (empty_disk(), Bucket::start(), Logged::listen());
    let mut house = evicted_house(&disk, &bucket);
    let before = house.records("old", 0);
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &bucket);
    let first = house.node.broker.remote_segments().map(|(id, _)| id).min().expect("a segment in the store only");
    let path = chronik::wal::segment::path(first);
    let keys: Vec<String> = bucket.segments().into_keys().collect();
    let key = keys.iter().find(|key| key.contains(&path)).expect("its object");
    let other = keys.iter().find(|key| !key.contains(&path)).expect("another object");
    let whole = bucket.bytes(key);
    let changed = whole.iter().enumerate().map(|(at, byte)| if at % 4096 == 100 { byte ^ 0x20 } else { *byte });
    let cases = [
        ("lost", None),
        ("empty", Some(Vec::new())),
        ("cut in half", Some(whole[..whole.len() / 2].to_vec())),
        ("changed in each page", Some(changed.collect())),
        ("of another segment", Some(bucket.bytes(other))),
    ];
    for (case, bytes) in cases {
        logged.take();
        bucket.tamper(key, bytes);
        assert!(errors_of(&mut house, &before, case) > 0, "{case}: nobody has noticed");
        let said = logged.take();
        assert!(said.iter().any(|line| line.contains(&path)), "{case}: the segment is not named: {said:#?}");
        bucket.tamper(key, Some(whole.clone()));
        assert_eq!(errors_of(&mut house, &before, case), 0, "{case}: it is there again");
        house.pass_ms(61_000);
    }
}

#[test]
fn half_an_object_does_not_stand_for_a_segment_and_is_sent_again() {
    let (disk, bucket) = (empty_disk(), Bucket::start());
    let mut house = tiered(&disk, 1, &bucket);
    make_topic(&mut house, "old", &[("local.retention.ms", "3600000"), ("segment.bytes", "1048576")]);
    for _ in 0..3 {
        house.fill_segment("old");
    }
    let before = house.records("old", 0);
    settle(&mut house);
    let mut sent = bucket.segments();
    // Pieces of the segment that is being written are not what is read.
    sent.retain(|key, _| !key.contains('_'));
    assert!(sent.len() >= 2 && house.evicted.is_empty(), "an hour is not over: {:?}", house.uploads);
    for (key, bytes) in &sent {
        bucket.tamper(key, Some(bucket.bytes(key)[..bytes / 2].to_vec()));
    }
    house.pass_ms(3_700_000);
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "they were sent again: {:?}", house.uploads);
    let now = bucket.segments();
    assert!(sent.iter().all(|(key, bytes)| now.get(key).is_none_or(|now| now == bytes)), "{now:?}");
    assert_eq!(house.records("old", 0), before);
}

/// It waited for as long as the store may say nothing, half a minute or twice that.
#[test]
fn a_stop_does_not_wait_for_a_store_that_says_nothing() {
    let (asked, is_asked) = mpsc::channel();
    let silent = http::Server::start(move |_, _| {
        asked.send(()).ok();
        http::Reply::silent()
    });
    let (dir, url) = (TempDir::new("silent-store"), silent.url());
    // With an endpoint of its own and no key file it asks without a key.
    let tier = ["--storage", "gcs", "--gcs-bucket", "bucket", "--gcs-endpoint", &url];
    let args = [&tier[..], &["--enable-backup", "--backup-url", "gs://bucket/backups"]].concat();
    let server = Server::start(&dir.0, &args);
    is_asked.recv().expect("the first backup looks for others");
    let (status, said) = server.stop();
    assert!(status.success(), "{status}: {said:#?}");
    assert!(said.iter().any(|line| line.contains("does not answer, and is not waited for")), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("everything acknowledged is on the disk")), "{said:#?}");
}
