//! Owns the test of what uploads cost: every request that a store sees of the server's uploader, whatever it is for.

use std::sync::Arc;

use chronik::backup::Unwatched;
use chronik::limits;
use chronik::sys::disk::Disk;
use chronik::tier::owner::Owner;
use chronik::tier::upload::{Subject, Uploader};
use chronik::wal::settings::Entropy;

use super::bucket::Bucket;
use crate::backup::support::{empty_disk, House, NOW_MS};

/// Segments of the default size in a GiB.
const SEGMENTS: usize = ((1u64 << 30) / limits::SEGMENT_BYTES_DEFAULT) as usize;

/// What a GiB may cost.
const REQUESTS_MAX: usize = 40;

/// What an upload costs beside its segments: the owner's object written and looked at twice, the end of the log, the checkpoint and the
/// manifest, and those three of an older upload removed. One that asks the store what it holds costs more.
const OWN_MAX: usize = 9;
const ASKING_MAX: usize = 24;

/// Whole segments of the log among the objects that were uploaded.
fn segments(bucket: &Bucket) -> usize {
    bucket.uploaded().iter().filter(|key| !key.contains('_')).count()
}

/// The segments are smaller than the default; one of that size goes in one request too, as `limits` holds. The store knows nothing
/// but HTTP, so tries, questions, the owner's object, the index of what there is and what is removed again are counted.
#[test]
fn a_gib_of_sealed_segments_is_uploaded_with_at_most_forty_requests_of_any_kind() {
    let (disk, bucket) = (empty_disk(), Bucket::start());
    let mut house = House::start(&disk, 1);
    house.make_topic("log", 1);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut uploader = Uploader::new(Subject {
        disk: Arc::clone(&disk),
        root: None,
        directory_id: house.node.directory(),
        store: bucket.store(),
        owner: Owner::on(disk, "house", Entropy::Seeded(78)).unwrap(),
        take_over: false,
        metrics: Arc::default(),
        entropy: Entropy::Seeded(77),
    });
    let mut now_ms = NOW_MS;
    let mut upload = |house: &mut House, count: usize| {
        (0..count).for_each(|_| house.fill_segment("log"));
        now_ms += 60_000;
        let done = uploader.upload(now_ms, false, &Unwatched);
        assert!(done.result.is_ok(), "{:?}", done.result);
    };
    // A GiB at once, when the store is asked what it holds, and then in three uploads, one a minute: 6 MB/s.
    for (counts, each) in [(&[8][..], ASKING_MAX), (&[3, 3, 2], OWN_MAX), (&[3, 3, 2], OWN_MAX)] {
        let (before, sent) = (bucket.requests().len(), segments(&bucket));
        counts.iter().for_each(|count| upload(&mut house, *count));
        let requests = bucket.requests().split_off(before);
        assert_eq!(segments(&bucket) - sent, SEGMENTS, "{requests:#?}");
        let own = requests.len() - SEGMENTS;
        assert!(requests.len() <= REQUESTS_MAX && own <= each * counts.len(), "{own}: {requests:#?}");
    }
}
