//! Owns the tests of a server with a second tier, on a simulated disk and a store in memory: what goes, what stays, what is read.

use std::sync::Arc;

use chronik::backup::{self, find_upload, restore_tiered, Kind, Manifest, Origin, Selection, Target, Unwatched};
use chronik::store::ObjectStore;
use chronik::sys::disk::Disk;
use chronik::tier::owner::Owner;
use chronik::tier::upload::{Subject, Uploader};
use chronik::wal::settings::{Entropy, MetadataStore};
use chronik::wal::{frozen, marker, segment};
use chronik::wire::batch::batches;
use chronik::wire::msg::*;
use chronik::wire::{self, ErrorCode};

use crate::backup::memory_store::{Failing, MemStore};
use crate::backup::support::{bytes_of, empty_disk, fetch_from, restored, House, State, NOW_MS};
use crate::sim::disk::{SimDisk, Trouble, CAPACITY_BYTES, CHANGES};

/// What a topic is made with so that only its newest segment stays.
pub(super) const KEEPS_LITTLE: &[(&str, &str)] = &[("local.retention.ms", "1000"), ("segment.bytes", "1048576")];

pub(super) fn tiered(disk: &SimDisk, seed: u64, store: &Arc<MemStore>) -> House {
    House::start_tiered(disk, seed, MetadataStore::Log, Some(store.clone())).unwrap()
}

pub(super) fn make_topic(house: &mut House, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, configs, ..Default::default() };
    let body = house.call(5, &CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() });
    let response: CreateTopicsResponse<'_> = wire::decode(&body, 5).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{:?}", response.topics[0].error_message);
}

/// Long enough for an upload, for two checkpoints, and for what they allow.
pub(super) fn settle(house: &mut House) {
    for _ in 0..30 {
        house.pass_ms(11_000);
    }
}

/// An empty disk, whose server takes over what is in the store, as a restore does first.
fn owning_disk(store: &MemStore, manifest: &Manifest) -> SimDisk {
    let disk = empty_disk();
    let mut owner = Owner::on(Arc::new(disk.clone()), "restored", Entropy::Seeded(79)).unwrap();
    owner.claim(store, &manifest.directory(), None, true).unwrap();
    disk
}

pub(super) fn files(disk: &SimDisk) -> Vec<String> {
    let of = |dir: &str| disk.list(dir).unwrap_or_default().into_iter().map(move |(name, _)| name);
    of(segment::DIR).chain(of(segment::PACKS_DIR)).collect()
}

/// The objects of whole segments: not the pieces of the one that is being written.
pub(super) fn segments_in(store: &MemStore) -> Vec<String> {
    store.keys().into_iter().filter(|key| key.contains("/segments/") && !key.contains('_')).collect()
}

/// A server of which most is in the store only.
fn evicted_house(disk: &SimDisk, store: &Arc<MemStore>) -> House {
    evicted(tiered(disk, 1, store), disk)
}

/// A new server with a second tier, when most of what it has written is there only.
pub fn evicted(mut house: House, disk: &SimDisk) -> House {
    make_topic(&mut house, "old", KEEPS_LITTLE);
    for _ in 0..3 {
        house.fill_segment("old");
    }
    house.commit("readers", "old", 0, 3);
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "{:?} of {:?} went: {:?}", house.evicted, files(disk), house.uploads);
    house
}

#[test]
fn what_only_the_store_has_is_read_as_before_also_after_a_crash() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", KEEPS_LITTLE);
    for _ in 0..3 {
        house.fill_segment("old");
    }
    let before = house.records("old", 0);
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "{:?}", house.uploads);
    for id in &house.evicted {
        assert!(!files(&disk).iter().any(|file| segment::path(*id).ends_with(file.as_str())), "{id} has a file");
    }
    assert_eq!(house.records("old", 0), before);
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    assert_eq!(house.records("old", 0), before);
    assert!(house.node.broker.remote_segments().count() >= 2);
}

#[test]
fn what_only_the_store_has_is_read_where_the_disk_is_full() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let before = house.records("old", 0);
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    disk.set_capacity(0);
    assert_eq!(house.records("old", 0), before);
    disk.set_capacity(CAPACITY_BYTES);
    house.produce("old", 0, b"there is room again");
    assert_eq!(house.records("old", 0).len(), before.len() + 1);
}

#[test]
fn a_start_without_the_store_says_what_is_missing() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    drop(evicted_house(&disk, &store));
    let disk = disk.power_cut().restart();
    let why = House::start_tiered(&disk, 2, MetadataStore::Log, None).err().expect("it starts");
    assert!(why.contains("object storage only") && why.contains("--storage"), "{why}");
}

#[test]
fn nothing_goes_before_the_store_has_it_and_writing_goes_on_meanwhile() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    store.fail(1, u64::MAX >> 1, Failing::Before);
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", KEEPS_LITTLE);
    for _ in 0..3 {
        house.fill_segment("old");
        settle(&mut house);
    }
    assert!(house.evicted.is_empty() && house.uploads.iter().all(Result::is_err), "{:?}", house.uploads);
    // Not again and again: each failure doubles the wait.
    assert!((3..40).contains(&house.uploads.len()), "{} tries", house.uploads.len());
    store.heal();
    settle(&mut house);
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "{:?}", house.uploads);
}

#[test]
fn a_disk_with_little_room_lets_the_oldest_go_whatever_topics_want() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    house.make_topic("all", 1);
    for _ in 0..3 {
        house.fill_segment("all");
    }
    settle(&mut house);
    assert!(house.evicted.is_empty(), "local.retention.ms is -2, and there is room");
    // One byte less than `House` wants to have free.
    house.free_bytes = Some(House::LOCAL_FREE_BYTES - 1);
    house.fill_segment("all");
    settle(&mut house);
    let gone = house.evicted.clone();
    assert!(!gone.is_empty());
    let names = files(&disk);
    let oldest = gone.iter().max().unwrap();
    assert!(names.iter().filter_map(|name| segment::id_of(name)).all(|id| id > *oldest), "{gone:?} of {names:?}");
}

#[test]
fn so_much_of_a_partition_stays_here_as_is_asked_for_and_that_can_be_changed() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", &[("local.retention.bytes", "20000000"), ("segment.bytes", "1048576")]);
    for _ in 0..4 {
        house.fill_segment("old");
    }
    let before = house.records("old", 0);
    settle(&mut house);
    let here = |house: &mut House| -> usize {
        let from = special(house, "old", -4);
        before.iter().filter(|(offset, _)| *offset >= from).map(|(_, behind_crc)| 21 + behind_crc.len()).sum()
    };
    // Segments of 11 MiB of the log are what leaves the disk.
    let bytes = here(&mut house);
    assert!(
        (20_000_000..20_000_000 + (12 << 20)).contains(&bytes) && !house.evicted.is_empty(),
        "{bytes} bytes are here"
    );
    alter(&mut house, "old", "local.retention.bytes", "1");
    settle(&mut house);
    let fewer = here(&mut house);
    assert!(fewer < 12 << 20 && fewer < bytes, "{fewer} bytes are here");
    assert_eq!(house.records("old", 0), before);
}

#[test]
fn compacted_topics_stay_on_the_disk() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "compacted", &[("cleanup.policy", "compact"), ("local.retention.ms", "1000")]);
    for _ in 0..2 {
        house.fill_segment("compacted");
    }
    settle(&mut house);
    assert!(house.uploads.iter().any(Result::is_ok));
    assert!(house.evicted.is_empty());
}

/// Compacted, and never due for it.
const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1")];

/// Bytes of a topic that the tidier was told to rewrite.
fn rewritten(house: &House, topic: &str) -> u64 {
    let id = house.node.broker.contents().into_iter().find(|content| content.name == topic).expect("a topic").id;
    let parts = house.jobs.iter().flat_map(|job| &job.parts).filter(|part| part.id.topic == id);
    parts.flat_map(|part| &part.sources).map(|source| source.bytes).sum()
}

/// A server with a topic that may go and a compacted one of which a little is in every segment.
fn mixed_house(disk: &SimDisk, store: &Arc<MemStore>, old: &[(&str, &str)]) -> House {
    let mut house = tiered(disk, 1, store);
    make_topic(&mut house, "old", old);
    make_topic(&mut house, "table", COMPACTED);
    for _ in 0..3 {
        house.produce("table", 0, &[b't'; 300_000]);
        house.fill_segment("old");
    }
    house
}

#[test]
fn a_little_that_must_stay_is_written_elsewhere_once_and_the_rest_goes() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = mixed_house(&disk, &store, KEEPS_LITTLE);
    let before = (house.records("old", 0), house.records("table", 0));
    settle(&mut house);
    settle(&mut house);
    assert_eq!(house.evicted.len(), 3, "{:?}: {:?}", house.uploads, files(&disk));
    let table: u64 = before.1.iter().map(|(_, behind_crc)| 21 + behind_crc.len() as u64).sum();
    assert_eq!((rewritten(&house, "table"), rewritten(&house, "old")), (table, 0));
    assert_eq!(special(&mut house, "table", -4), 0, "all of it is on the disk");
    assert!(special(&mut house, "old", -4) > 0);
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    settle(&mut house);
    assert_eq!((house.records("old", 0), house.records("table", 0)), before);
    assert_eq!(rewritten(&house, "table") + rewritten(&house, "old"), 0, "{:?}", house.jobs);
    // What the store holds is the same.
    let shared: Arc<dyn ObjectStore> = store.clone();
    let (other, manifest) = (empty_disk(), find_upload(&*shared, None).unwrap());
    restore_tiered(&Target::on(Arc::new(other.clone())), &shared, &manifest, NOW_MS, &Unwatched).unwrap();
    let mut house = tiered(&other, 3, &store);
    assert_eq!((house.records("old", 0), house.records("table", 0)), before);
    assert_eq!(special(&mut house, "table", -4), 0);
}

#[test]
fn nothing_is_written_elsewhere_while_nothing_is_to_go() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = mixed_house(&disk, &store, &[]);
    settle(&mut house);
    assert!(house.uploads.iter().any(Result::is_ok) && house.evicted.is_empty());
    assert!(house.jobs.is_empty(), "{:?}", house.jobs);
    // For want of room it is.
    house.free_bytes = Some(House::LOCAL_FREE_BYTES - 1);
    house.fill_segment("old");
    settle(&mut house);
    assert!(!house.evicted.is_empty() && rewritten(&house, "table") > 0);
    assert_eq!(special(&mut house, "table", -4), 0);
}

#[test]
fn a_segment_of_which_much_must_stay_is_left_as_it_is() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", KEEPS_LITTLE);
    make_topic(&mut house, "table", COMPACTED);
    for _ in 0..5 {
        house.produce("table", 0, &[b't'; 900_000]);
    }
    house.fill_segment("old");
    settle(&mut house);
    assert!(house.uploads.iter().any(Result::is_ok) && house.evicted.is_empty());
    assert!(house.jobs.is_empty(), "{:?}", house.jobs);
}

/// What had moved out of its way made a segment look worth rewriting, just before its file went.
#[test]
fn a_segment_that_is_about_to_go_is_not_rewritten() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", KEEPS_LITTLE);
    make_topic(&mut house, "table", COMPACTED);
    house.make_topic("gone", 1);
    for _ in 0..2 {
        house.produce("gone", 0, &[b'g'; 900_000]);
    }
    for _ in 0..3 {
        house.produce("table", 0, &[b't'; 700_000]);
    }
    house.fill_segment("old");
    house.delete_topic("gone");
    settle(&mut house);
    settle(&mut house);
    assert_eq!(house.evicted.len(), 1, "{:?}: {:?}", house.uploads, house.jobs);
    assert!(rewritten(&house, "table") > 0 && rewritten(&house, "old") == 0, "{:?}", house.jobs);
}

/// Lets a topic be compacted from now on, whatever there is to gain.
fn compact(house: &mut House, topic: &str) {
    alter(house, topic, "min.cleanable.dirty.ratio", "0");
    alter(house, topic, "cleanup.policy", "compact");
}

#[test]
fn a_topic_that_becomes_compacted_later_is_compacted_over_the_store() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let before = house.records("old", 0);
    let objects = segments_in(&store).len();
    compact(&mut house, "old");
    settle(&mut house);
    let after = house.records("old", 0);
    assert!(after.len() < 5 && after.last() == before.last(), "{} of {}", after.len(), before.len());
    assert!(after.iter().all(|record| before.contains(record)));
    assert_eq!(house.node.broker.remote_segments().count(), 0, "{:?}", files(&disk));
    settle(&mut house);
    assert!(segments_in(&store).len() < objects, "what nobody needs stays in the store: {:?}", segments_in(&store));
    drop(house);
    let disk = disk.power_cut().restart();
    assert_eq!(tiered(&disk, 2, &store).records("old", 0), after);
}

#[test]
fn a_compaction_waits_for_a_store_that_is_away_and_nothing_else_does() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let old = house.records("old", 0).len();
    make_topic(&mut house, "table", &[("segment.bytes", "1048576")]);
    compact(&mut house, "table");
    store.fail(1, u64::MAX >> 1, Failing::Before);
    compact(&mut house, "old");
    let (jobs, remote) = (house.jobs.len(), house.node.broker.remote_segments().count());
    house.fill_segment("table");
    settle(&mut house);
    assert!(house.records("table", 0).len() < 5, "another topic was not compacted");
    let id = house.node.broker.contents().into_iter().find(|content| content.name == "old").unwrap().id;
    let tries = house.jobs[jobs..].iter().filter(|job| job.parts.iter().any(|part| part.id.topic == id)).count();
    assert!((2..10).contains(&tries), "{tries} tries");
    assert_eq!(house.node.broker.remote_segments().count(), remote);
    store.heal();
    settle(&mut house);
    settle(&mut house);
    assert_eq!(house.node.broker.remote_segments().count(), 0, "{:?}", house.uploads);
    assert!(house.records("old", 0).len() < old);
}

/// What is damaged in the store is not written anew as if it were sound, and what is not is compacted all the same.
#[test]
fn a_damaged_object_is_not_compacted() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let house = evicted_house(&disk, &store);
    let path = segment::path(house.evicted[0]);
    let key = segments_in(&store).into_iter().find(|key| key.contains(&path)).unwrap();
    let mut bytes = store.bytes(&key);
    for at in (8192..bytes.len()).step_by(4096) {
        bytes[at] ^= 1;
    }
    store.tamper(&key, Some(bytes));
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    let remote = house.node.broker.remote_segments().count();
    compact(&mut house, "old");
    settle(&mut house);
    assert_eq!(house.node.broker.remote_segments().count(), remote);
    assert!(house.jobs.len() < 3, "{} tries of what cannot be mended", house.jobs.len());
}

/// Sets a configuration of the broker (`name` is empty) or of a topic.
fn alter(house: &mut House, name: &str, setting: &str, value: &str) {
    let configs =
        vec![IncrementalAlterConfigsAlterableConfig { name: setting, config_operation: 0, value: Some(value) }];
    let resource_type = if name.is_empty() { 4 } else { 2 };
    let resources = vec![IncrementalAlterConfigsResource { resource_type, resource_name: name, configs }];
    let body = house.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
    let response: IncrementalAlterConfigsResponse<'_> = wire::decode(&body, 1).unwrap();
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE, "{:?}", response.responses[0].error_message);
}

/// A restore looked at topics with the defaults of a broker that nobody has ever changed, and left what is compacted in the store.
#[test]
fn topics_that_are_compacted_by_the_brokers_changed_default_come_to_the_disk_in_a_restore() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    alter(&mut house, "", "log.cleanup.policy", "compact");
    alter(&mut house, "", "log.cleaner.min.cleanable.ratio", "1");
    house.make_topic("table", 1);
    house.fill_segment("table");
    settle(&mut house);
    assert!(house.uploads.iter().any(Result::is_ok) && house.evicted.is_empty());
    let before = house.records("table", 0);
    drop(house);
    let shared: Arc<dyn ObjectStore> = store.clone();
    let (disk, manifest) = (empty_disk(), find_upload(&*shared, None).unwrap());
    restore_tiered(&Target::on(Arc::new(disk.clone())), &shared, &manifest, NOW_MS, &Unwatched).unwrap();
    let mut house = tiered(&disk, 3, &store);
    assert_eq!(house.node.broker.remote_segments().count(), 0, "{:?}", files(&disk));
    assert_eq!(house.records("table", 0), before[..house.offsets("table", 0).1 as usize]);
}

#[test]
fn what_is_deleted_goes_from_the_store_too() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    house.make_topic("other", 1);
    assert!(segments_in(&store).len() >= 2);
    house.delete_topic("old");
    settle(&mut house);
    // Two uploads later nothing names it any more.
    for _ in 0..3 {
        house.fill_segment("other");
        settle(&mut house);
    }
    assert_eq!(house.node.broker.remote_segments().count(), 0);
    let named: Vec<String> = find_upload(&*store, None).unwrap().objects.into_iter().map(|object| object.key).collect();
    let left: Vec<String> = segments_in(&store).into_iter().filter(|key| !named.contains(key)).collect();
    assert!(left.len() <= 2, "{left:?}");
}

#[test]
fn what_an_interrupted_upload_left_is_swept() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    house.make_topic("all", 1);
    house.fill_segment("all");
    settle(&mut house);
    let folder = segments_in(&store)[0].split_once('/').unwrap().0.to_owned();
    let orphan = format!("{folder}/segments/wal/00000000000000000999.log-0000000000000001-4096");
    store.put(&orphan, &vec![0u8; 4096], chronik::store::PutMode::IfAbsent).unwrap();
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    settle(&mut house);
    assert!(!store.keys().contains(&orphan), "{:?}", house.uploads);
}

#[test]
fn an_empty_machine_and_the_store_give_everything_back() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    house.make_topic("new", 2);
    house.produce("new", 1, b"the last one");
    house.fill_segment("new");
    settle(&mut house);
    let before: State = house.state();
    let whole = find_upload(&*store, None).unwrap().bytes();
    drop(house);

    let shared: Arc<dyn ObjectStore> = store.clone();
    let manifest = find_upload(&*shared, None).unwrap();
    let disk = owning_disk(&store, &manifest);
    let restored = restore_tiered(&Target::on(Arc::new(disk.clone())), &shared, &manifest, NOW_MS, &Unwatched).unwrap();
    assert!(restored.bytes < whole / 2, "{} of {whole} bytes were fetched", restored.bytes);
    let mut house = tiered(&disk, 3, &store);
    assert_eq!(house.state().records, before.records);
    assert_eq!(house.committed("readers", "old", 0), 3);
    assert_eq!(house.epoch_end("new", 1, 0), 1, "the epoch before the restore has ended");
    // It goes on in the same store.
    house.fill_segment("new");
    settle(&mut house);
    assert!(house.uploads.iter().all(Result::is_ok), "{:?}", house.uploads);
    assert_eq!(house.records("old", 0), before.records[&("old".to_owned(), 0)]);
}

/// The log that the first upload sent did not know yet that it was sent: a restore of it fetched every segment.
#[test]
fn a_restore_after_a_single_upload_leaves_its_segments_in_the_store() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    store.fail(1, u64::MAX >> 1, Failing::Before);
    let mut house = tiered(&disk, 1, &store);
    house.make_topic("all", 1);
    make_topic(&mut house, "table", COMPACTED);
    for _ in 0..3 {
        house.fill_segment("all");
    }
    house.fill_segment("table");
    house.fill_segment("all");
    store.heal();
    while !house.uploads.iter().any(Result::is_ok) {
        house.pass_ms(1000);
    }
    let before = house.state();
    drop(house);
    assert_eq!(store.keys().iter().filter(|key| key.contains("/manifests/")).count(), 1, "{:?}", store.keys());

    let shared: Arc<dyn ObjectStore> = store.clone();
    let manifest = find_upload(&*shared, None).unwrap();
    let disk = owning_disk(&store, &manifest);
    let restored = restore_tiered(&Target::on(Arc::new(disk.clone())), &shared, &manifest, NOW_MS, &Unwatched).unwrap();
    assert!(restored.bytes < manifest.bytes() / 2, "{} of {} bytes were fetched", restored.bytes, manifest.bytes());
    let mut house = tiered(&disk, 3, &store);
    assert!(house.node.broker.remote_segments().count() >= 3, "{:?}", files(&disk));
    assert_eq!(house.state().records, before.records);
    assert_eq!(special(&mut house, "table", -4), 0, "what is compacted is on the disk");
    // What was left in the store stays there, whatever is uploaded and removed from now on, and is found after a crash.
    for _ in 0..3 {
        house.fill_segment("all");
        settle(&mut house);
    }
    let after = house.state();
    drop(house);
    let disk = disk.power_cut().restart();
    assert_eq!(tiered(&disk, 4, &store).state().records, after.records);
}

/// Has a restore go wrong at its `nth` change of the disk and go on; false when there was no such change.
fn restored_in_two(store: &Arc<MemStore>, trouble: Trouble, nth: u64, truth: &[(i64, Vec<u8>)]) -> bool {
    let shared: Arc<dyn ObjectStore> = store.clone();
    let manifest = find_upload(&*shared, None).unwrap();
    let restore =
        |disk: &SimDisk| restore_tiered(&Target::on(Arc::new(disk.clone())), &shared, &manifest, NOW_MS, &Unwatched);
    let target = empty_disk();
    target.plan(CHANGES, "", nth, trouble);
    let result = restore(&target);
    let is_over = target.count(CHANGES) < nth;
    assert!(!is_over || result.is_ok());
    target.forget_plans();
    let target = target.restart();
    if target.contents(marker::RESTORING).is_some() {
        let refused = House::start_tiered(&target, 98, MetadataStore::Log, Some(shared.clone())).err().unwrap();
        assert!(refused.contains("interrupted"), "{trouble:?} {nth}: {refused}");
    }
    if target.contents(marker::RESTORING).is_some() || target.contents(marker::PATH).is_none() {
        restore(&target).unwrap_or_else(|error| panic!("{trouble:?} {nth}: {error}"));
    }
    assert_eq!(tiered(&target, 99, store).records("table", 0), truth, "{trouble:?} {nth}");
    !is_over
}

#[test]
fn a_restore_from_the_tier_that_is_cut_off_or_meets_a_full_disk_anywhere_goes_on() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = mixed_house(&disk, &store, KEEPS_LITTLE);
    settle(&mut house);
    let truth = house.records("table", 0);
    for trouble in [Trouble::Cut, Trouble::Full, Trouble::Error] {
        let count = (1..).take_while(|nth| restored_in_two(&store, trouble, *nth, &truth)).count();
        assert!(count > 15, "{trouble:?}: {count} changes");
    }
}

#[test]
fn a_backup_elsewhere_holds_what_only_the_store_has() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let before = house.state();
    let backups = Arc::<MemStore>::default();
    let make = |origin: Origin| backup::create(&origin, &*backups, NOW_MS, &mut Entropy::Seeded(5), &Unwatched);
    let refused = make(Origin::on(Arc::new(disk.clone()), false)).unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
    assert!(refused.sentence.contains("--storage"), "{refused}");
    let created = make(Origin::on(Arc::new(disk.clone()), false).with_tier(store.clone())).unwrap();
    let copy = restored(&backups, &created.manifest, &Selection::default()).unwrap();
    let mut other = House::start(&copy, 9);
    assert_eq!(other.state().records, before.records);
}

/// The uploader of another server on the same directory.
fn uploader(disk: &SimDisk, house: &House, store: &Arc<MemStore>, take_over: bool) -> Uploader {
    let own = Arc::new(empty_disk());
    Uploader::new(Subject {
        disk: Arc::new(disk.clone()),
        root: None,
        directory_id: house.node.directory(),
        store: store.clone(),
        owner: Owner::on(own, "other:/copy", Entropy::Seeded(78)).unwrap(),
        take_over,
        metrics: Arc::default(),
        entropy: Entropy::Seeded(77),
    })
}

#[test]
fn a_copy_of_the_directory_keeps_its_hands_off_until_it_is_told() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let keys = store.keys();
    let done = uploader(&disk, &house, &store, false).upload(NOW_MS, false, &Unwatched);
    let refused = done.result.unwrap_err();
    assert!(refused.is_deposed && refused.sentence.contains("--storage-take-over"), "{refused:?}");
    assert_eq!(store.keys(), keys, "a stranger has changed the store");
    // Now the copy takes over, and the first one must not rely on the store any more.
    let done = uploader(&disk, &house, &store, true).upload(NOW_MS, false, &Unwatched);
    assert!(done.result.is_ok());
    let before = (house.evicted.len(), house.uploads.len());
    house.fill_segment("old");
    settle(&mut house);
    assert!(house.uploads[before.1..].iter().all(Result::is_err), "{:?}", house.uploads);
    assert_eq!(house.evicted.len(), before.0);
}

/// The manifest of a server that was deposed in mid-upload came after that of its successor, and a restore took it for the newest.
#[test]
fn a_server_that_is_deposed_while_it_uploads_writes_no_manifest() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let mut successor = uploader(&disk, &house, &store, true);
    // The checkpoint is sent after everything else but the manifest.
    let hook = move || assert!(successor.upload(NOW_MS, false, &Unwatched).result.is_ok());
    store.before_put("/backups/", Box::new(hook));
    house.fill_segment("old");
    settle(&mut house);
    assert!(house.uploads.last().is_some_and(Result::is_err), "{:?}", house.uploads);
    let manifests = store.keys().into_iter().filter(|key| key.contains("/manifests/")).count();
    assert_eq!(manifests, 1, "{:?}", store.keys());
}

/// The manifest before one that looked stayed, with all that it named, until the next look, which may be after 64 uploads.
#[test]
fn two_manifests_are_kept_also_after_an_upload_that_looked() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = House::start(&disk, 1);
    let mut uploads = uploader(&disk, &house, &store, false);
    house.make_topic("all", 1);
    for (time, looks) in [false, false, true, false, true, true, false, false].into_iter().enumerate() {
        house.fill_segment("all");
        let done = uploads.upload(NOW_MS + 1000 * time as i64, looks, &Unwatched);
        assert!(done.result.is_ok() && !done.has_superfluous, "{:?}", done.result);
        let manifests = store.keys().into_iter().filter(|key| key.contains("/manifests/")).count();
        assert_eq!(manifests, (time + 1).min(2), "after upload {time}: {:?}", store.keys());
    }
    // Whoever could not remove something says so, for the next upload to come soon.
    store.fail_put("sweeping");
    assert!(uploads.upload(NOW_MS + 9000, true, &Unwatched).has_superfluous);
    store.heal();
    assert!(!uploads.upload(NOW_MS + 10_000, false, &Unwatched).has_superfluous);
}

/// A clock that goes back made the newest upload look like the oldest, so that it was removed, with what only it named.
#[test]
fn a_clock_that_goes_back_does_not_make_the_last_upload_an_old_one() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    house.make_topic("all", 1);
    for _ in 0..3 {
        house.fill_segment("all");
        settle(&mut house);
    }
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    house.now.wall_ms -= 86_400_000;
    house.fill_segment("all");
    let last = house.offsets("all", 0).1;
    settle(&mut house);
    let newest = find_upload(&*store, None).unwrap();
    assert_eq!(newest.topics[0].offsets as i64, last);
    assert!(newest.objects.iter().all(|object| store.keys().contains(&object.key)));
}

#[test]
fn an_upload_leaves_no_second_names_behind() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    drop(evicted_house(&disk, &store));
    let left = disk.list(frozen::DIR).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

/// Offset and epoch for a timestamp with a meaning of its own.
fn special(house: &mut House, topic: &str, timestamp: i64) -> i64 {
    let partitions =
        vec![ListOffsetsPartition { partition_index: 0, timestamp, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: topic, partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let body = house.call(11, &request);
    let response: ListOffsetsResponse<'_> = wire::decode(&body, 11).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
    response.topics[0].partitions[0].offset
}

/// KIP-405, KIP-1005 and KIP-1023.
#[test]
fn offsets_tell_where_the_local_part_begins_and_the_stored_one_ends() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let (start, end) = house.offsets("old", 0);
    let local = special(&mut house, "old", -4);
    let (stored, pending) = (special(&mut house, "old", -5), special(&mut house, "old", -6));
    assert!(start < local && local <= end, "{start} {local} {end}");
    assert!(stored >= local - 1 && stored < end, "{stored} of {end}");
    assert_eq!(pending, stored + 1);
    house.make_topic("empty", 1);
    assert_eq!([-4, -5, -6].map(|timestamp| special(&mut house, "empty", timestamp)), [0, -1, 0]);
}

/// What a power cut took, or what a server went on to write whose folder another one took over, had later groups than what is the
/// log now, and a restore took it for the newest.
#[test]
fn another_history_with_later_groups_is_not_taken_for_the_newest() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut first = evicted_house(&disk, &store);
    let shared: Arc<dyn ObjectStore> = store.clone();
    let manifest = find_upload(&*shared, None).unwrap();
    let copy = owning_disk(&store, &manifest);
    restore_tiered(&Target::on(Arc::new(copy.clone())), &shared, &manifest, NOW_MS, &Unwatched).unwrap();
    first.make_topic("other", 1);
    for n in 0..200 {
        first.produce("other", 0, format!("of another history {n}").as_bytes());
    }
    first.fill_segment("other");
    settle(&mut first);
    drop(first);
    let mut second = tiered(&copy, 4, &store);
    second.make_topic("ours", 1);
    second.fill_segment("ours");
    settle(&mut second);
    let newest = find_upload(&*store, None).unwrap();
    assert!(newest.topics.iter().any(|topic| topic.name == "ours"), "{:?}", newest.topics);
}

#[test]
fn a_lost_object_stops_no_upload_and_a_damaged_manifest_no_restore() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let gone = segment::path(house.evicted[0]);
    let key = segments_in(&store).into_iter().find(|key| key.contains(&gone)).unwrap();
    store.tamper(&key, None);
    drop(house);
    let disk = disk.power_cut().restart();
    house = tiered(&disk, 2, &store);
    house.make_topic("new", 1);
    house.fill_segment("new");
    settle(&mut house);
    assert!(house.uploads.iter().all(Result::is_ok), "{:?}", house.uploads);
    let newest = find_upload(&*store, None).unwrap();
    let key = store.keys().into_iter().find(|key| key.ends_with(&format!("manifests/{}", newest.backup))).unwrap();
    store.tamper(&key, Some(b"nonsense".to_vec()));
    assert_ne!(find_upload(&*store, None).unwrap().backup, newest.backup);
}

#[test]
fn a_local_copy_stays_when_its_object_went_long_after_it_was_sent() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    make_topic(&mut house, "old", &[("local.retention.ms", "3600000"), ("segment.bytes", "1048576")]);
    for _ in 0..3 {
        house.fill_segment("old");
    }
    let before = house.records("old", 0);
    settle(&mut house);
    assert!(house.evicted.is_empty(), "an hour is not over");
    segments_in(&store).iter().for_each(|key| store.tamper(key, None));
    house.pass_ms(3_700_000);
    settle(&mut house);
    assert!(!house.evicted.is_empty(), "they were sent again: {:?}", house.uploads);
    assert_eq!(house.records("old", 0), before);
}

#[test]
fn taking_over_with_an_older_copy_begins_new_epochs() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let epoch = house.epoch("old", 0);
    drop(house);
    let copy = disk.power_cut().restart();
    let mut house = House::start_taking_over(&copy, 5, &store).unwrap();
    assert!(house.epoch("old", 0) > epoch);
}

#[test]
fn what_is_deleted_goes_from_the_store_of_a_server_that_writes_nothing_else() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let before = segments_in(&store).len();
    house.delete_topic("old");
    for _ in 0..3 {
        settle(&mut house);
    }
    let left = segments_in(&store);
    let (uploads, remote) = (&house.uploads, house.node.broker.remote_segments().count());
    assert!(left.len() < before && left.len() <= 1, "{left:?}, {remote} remote, {uploads:?}, {:?}", files(&disk));
    // And then there is nothing more to do.
    let uploads = house.uploads.len();
    for _ in 0..3 {
        settle(&mut house);
    }
    assert_eq!(house.uploads.len(), uploads, "it never comes to rest");
}

/// Offsets of the batches, and the error, of a fetch that is answered at once or when its time is over.
fn fetched(house: &mut House, offset: i64, bytes_max: i32) -> (Vec<i64>, ErrorCode) {
    house.send(11, &fetch_from("old", 0, offset, bytes_max));
    let body = house.answer::<FetchRequest<'_>>(11).or_else(|| {
        house.pass_ms(600);
        house.answer::<FetchRequest<'_>>(11)
    });
    let body = body.expect("an answer within the time that a fetch waits for the store");
    let response: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
    let answer = &response.responses[0].partitions[0];
    let found = batches(bytes_of(&answer.records)).map(|batch| batch.unwrap().header.base_offset);
    (found.collect(), answer.error_code)
}

/// A store that always took longer than a fetch waits gave nothing at all where the disk cache could not keep what was brought.
#[test]
fn a_store_that_is_always_too_slow_gives_what_it_has_little_by_little() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    let local = special(&mut house, "old", -4);
    house.slow_reads = Some(Vec::new());
    let (mut at, mut rounds) = (0, 0);
    while at < local {
        rounds += 1;
        assert!(rounds <= 4 * local, "it does not get beyond {at} of {local}");
        let (found, error) = fetched(&mut house, at, 2 << 20);
        assert_eq!(error, ErrorCode::NONE);
        assert!(found.first().is_none_or(|first| *first == at), "{found:?} at {at}");
        at = found.last().map_or(at, |last| last + 1);
        house.hand_over_reads();
    }
    // Every look-up that was begun has served somebody: four MiB are read at a time, and two fit into an answer.
    assert!(rounds < 2 * local, "{rounds} rounds for {local} batches");
}

#[test]
fn what_came_too_late_serves_smaller_fetches_and_goes_when_nobody_asks() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    house.slow_reads = Some(Vec::new());
    assert_eq!(fetched(&mut house, 0, 4 << 20), (vec![], ErrorCode::NONE));
    house.hand_over_reads();
    // A batch has 900,000 bytes. From here on nothing is handed over.
    assert_eq!(fetched(&mut house, 0, 1 << 20).0, [0]);
    assert_eq!(fetched(&mut house, 1, 2 << 20).0, [1, 2]);
    assert_eq!(fetched(&mut house, 3, 4 << 20).0, [3], "four were read");
    assert_eq!(fetched(&mut house, 0, 1 << 20).0, [] as [i64; 0], "it is kept no longer than until it was told");
    // Whoever asks while a reader is on its way waits for it, and is given what it brings at once.
    house.send(11, &fetch_from("old", 0, 0, 1 << 20));
    assert!(house.answer::<FetchRequest<'_>>(11).is_none());
    house.hand_over_reads();
    let body = house.answer::<FetchRequest<'_>>(11).expect("an answer");
    let response: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
    assert!(!bytes_of(&response.responses[0].partitions[0].records).is_empty());
    assert_eq!(fetched(&mut house, 1, 1 << 20).0, [] as [i64; 0]);
    house.hand_over_reads();
    house.pass_ms(61_000);
    assert_eq!(fetched(&mut house, 1, 1 << 20).0, [] as [i64; 0], "it is kept for ever");
}

#[test]
fn a_look_up_that_fails_late_is_told_to_who_asks_again() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = evicted_house(&disk, &store);
    house.slow_reads = Some(Vec::new());
    store.fail(1, u64::MAX >> 1, Failing::Before);
    assert_eq!(fetched(&mut house, 0, 4 << 20), (vec![], ErrorCode::NONE));
    store.heal();
    house.hand_over_reads();
    assert_eq!(fetched(&mut house, 0, 4 << 20), (vec![], ErrorCode::KAFKA_STORAGE_ERROR));
    assert_eq!(fetched(&mut house, 0, 4 << 20), (vec![], ErrorCode::NONE), "an error is told once");
    house.hand_over_reads();
    assert_eq!(fetched(&mut house, 0, 1 << 20).0, [0]);
}

/// What an upload that failed at its end had sent was fetched again by the next one, to compare it.
#[test]
fn what_a_failed_upload_has_sent_is_not_read_again() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = tiered(&disk, 1, &store);
    house.make_topic("all", 1);
    store.fail_put("manifests/");
    house.fill_segment("all");
    settle(&mut house);
    assert!(house.uploads[0].is_err() && house.uploads.last().unwrap().is_ok(), "{:?}", house.uploads);
    assert!(!segments_in(&store).is_empty());
    assert!(store.sent_bytes() < 1 << 20, "{} bytes were read from the store", store.sent_bytes());
}
