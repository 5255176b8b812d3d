//! A partition whose records only a slow object store has, beside one that is at hand.

use chronik::broker::tiering::{StoredObject, UploadDone, UploadError};
use chronik::config::Config;
use chronik::wal::SegmentId;

use super::*;

/// Two topics of a partition each: of the first only the store has the records, and nobody has read them yet.
fn tiered() -> (Harness, Uuid, Uuid) {
    let mut config = Config::default();
    config.storage.local_path = Some("a store".into());
    config.storage.local_free_bytes = u64::MAX;
    let mut h = Harness::with(config);
    let (cold, hot) = (create(&mut h, "cold", 1), create(&mut h, "hot", 1));
    produce(&mut h, "cold", 0);
    h.checkpoint();
    let object = StoredObject { incarnation: 1, bytes: 1 << 20, crc: 1 };
    let result = Ok(vec![(SegmentId::FIRST, object)]);
    h.broker.uploaded(h.now, UploadDone { result, free_bytes: Some(0), has_looked: true, has_superfluous: false });
    for _ in 0..4 {
        h.settle();
        h.pass_ms(6000);
    }
    h.settle();
    assert_eq!(h.evicted, [SegmentId::FIRST]);
    h.holds_reads = true;
    (h, cold, hot)
}

fn both<'a>(cold: Uuid, hot: Uuid) -> Fetch<'a> {
    let told = fetch(13).topic("cold", cold, vec![part(0, 0, 1 << 20)]);
    told.topic("hot", hot, vec![part(0, 0, 1 << 20)]).wait(100, 1)
}

#[test]
fn a_store_that_is_slow_keeps_back_nothing_that_is_at_hand() {
    let (mut h, cold, hot) = tiered();
    produce(&mut h, "hot", 0);
    let conn = h.connect();
    let wanted = both(cold, hot);
    wanted.send(&mut h, conn);
    assert_eq!(h.reads.len(), 1);
    h.pass_ms(499);
    assert!(wanted.answered(&mut h, conn).is_none(), "the store has had less than half a second");
    h.pass_ms(1);
    let told = wanted.answered(&mut h, conn).expect("an answer without the store");
    assert!(told.parts.iter().any(|part| part.contains("1 batches")), "{:?}", told.parts);
    // Who asks again waits for the same look-up.
    wanted.send(&mut h, conn);
    let told = wanted.answered(&mut h, conn).expect("what is at hand");
    assert!(told.parts.iter().any(|part| part.contains("1 batches")), "{:?}", told.parts);
    assert_eq!(h.reads.len(), 1, "a second look-up was begun for the same");
}

#[test]
fn what_the_store_brings_late_wakes_whoever_waits_for_it() {
    let (mut h, cold, hot) = tiered();
    let conn = h.connect();
    let wanted = both(cold, hot);
    wanted.send(&mut h, conn);
    h.pass_ms(500);
    let told = wanted.answered(&mut h, conn).expect("its time is up");
    assert!(told.parts.iter().all(|part| !part.contains("1 batches")), "{:?}", told.parts);
    wanted.send(&mut h, conn);
    assert!(wanted.answered(&mut h, conn).is_none());
    // It comes: the waiting fetch looks again, and now it is at hand.
    h.holds_reads = false;
    let late = h.reads.pop().expect("a look-up");
    h.answer_read(late);
    h.settle();
    let told = wanted.answered(&mut h, conn).expect("it was woken");
    assert!(told.parts.iter().any(|part| part.contains("1 batches")), "{:?}", told.parts);
}

#[test]
fn a_client_that_leaves_and_one_whose_topic_goes_leave_nothing_behind() {
    let (mut h, cold, hot) = tiered();
    let (conn, other) = (h.connect(), h.connect());
    let wanted = both(cold, hot);
    wanted.send(&mut h, conn);
    wanted.send(&mut h, other);
    h.broker.disconnected(h.now, conn);
    delete(&mut h, "cold");
    h.holds_reads = false;
    for late in std::mem::take(&mut h.reads) {
        h.answer_read(late);
    }
    h.settle();
    let told = wanted.answered(&mut h, other).expect("an answer");
    assert!(told.parts.iter().any(|part| part.contains("UNKNOWN_TOPIC")), "{:?}", told.parts);
}

/// Each time that a backup was in the way counted as a failure of the store, and the next try came later and later: with backups at
/// short intervals, minutes.
#[test]
fn an_upload_that_a_backup_was_in_the_way_of_comes_again_soon_however_often_that_happens() {
    let mut config = Config::default();
    config.storage.local_path = Some("a store".into());
    config.storage.upload_interval_ms = 1000;
    let mut h = Harness::with(config);
    create(&mut h, "news", 1);
    produce(&mut h, "news", 0);
    for times in 1..=10 {
        h.settle();
        h.pass_ms(chronik::limits::UPLOAD_RETRY_US / 1000 + 1);
        h.settle();
        assert_eq!(h.uploads, times, "uploads that were begun");
        let error = UploadError { sentence: "a backup is made".into(), is_deposed: false, is_busy: true };
        let done = UploadDone { result: Err(error), free_bytes: None, has_looked: false, has_superfluous: false };
        h.broker.uploaded(h.now, done);
    }
}
