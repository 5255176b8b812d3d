//! Owns the tests of the moment that a backup holds: the server goes on at every step of the copy.

use std::fmt;
use std::io::Result;
use std::sync::{Arc, Mutex};

use chronik::backup::{create, restore, Kind, Origin, Selection, Target, Unwatched};
use chronik::store::ObjectStore;
use chronik::sys::disk::{Disk, DiskFile, OpenMode};
use chronik::wal::frozen;
use chronik::wal::settings::{Entropy, MetadataStore};

use super::memory_store::{Hook, MemStore};
use super::support::*;
use crate::sim::disk::SimDisk;

/// A disk on which something happens before the nth call.
struct Racing {
    inner: SimDisk,
    state: Mutex<(u64, Option<(u64, Hook)>)>,
}

impl fmt::Debug for Racing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Racing")
    }
}

impl Racing {
    fn new(inner: &SimDisk, nth: u64, hook: Hook) -> Racing {
        Racing { inner: inner.clone(), state: Mutex::new((0, Some((nth, hook)))) }
    }

    fn step(&self) -> &SimDisk {
        let due = {
            let mut state = self.state.lock().unwrap();
            state.0 += 1;
            let calls = state.0;
            state.1.take_if(|(at, _)| *at == calls)
        };
        if let Some((_, hook)) = due {
            hook();
        }
        &self.inner
    }

    fn has_happened(&self) -> bool {
        self.state.lock().unwrap().1.is_none()
    }
}

impl Disk for Racing {
    fn create(&self, path: &str, bytes: u64) -> Result<Arc<dyn DiskFile>> {
        self.step().create(path, bytes)
    }
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn DiskFile>> {
        self.step().open(path, mode)
    }
    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>> {
        self.step().read(path, bytes_max)
    }
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.step().replace(path, bytes)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.step().rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> Result<()> {
        self.step().link(from, to)
    }
    fn remove(&self, path: &str) -> Result<()> {
        self.step().remove(path)
    }
    fn list(&self, dir: &str) -> Result<Vec<(String, u64)>> {
        self.step().list(dir)
    }
    fn create_dir(&self, dir: &str) -> Result<()> {
        self.step().create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> Result<()> {
        self.step().sync_dir(dir)
    }
    fn free_bytes(&self) -> Result<u64> {
        self.step().free_bytes()
    }
}

/// Segments are filled, their records deleted, checkpoints written, segments removed, topics made: what the copy looks at
/// changes as much as it can.
fn much_happens(house: &mut House) {
    house.produce("orders", 0, b"while it was copied");
    for _ in 0..3 {
        house.fill_segment("bills");
        let end = house.produce("bills", 0, b"kept") + 1;
        house.trim("bills", 0, end - 1);
        house.pass_ms(120_000);
    }
    house.make_topic("late", 1);
    house.produce("late", 0, b"late");
    house.commit("readers", "late", 0, 1);
}

#[test]
fn a_copy_holds_one_moment_whatever_happens_while_it_is_made() {
    let mut happened = 0;
    for nth in 1.. {
        let disk = empty_disk();
        let mut house = busy_house(&disk);
        let before = house.records("orders", 0);
        let shared = Arc::new(Mutex::new(house));
        let theirs = Arc::clone(&shared);
        let hook: Hook = Box::new(move || much_happens(&mut theirs.lock().unwrap()));
        let racing = Arc::new(Racing::new(&disk, nth, hook));
        let store = Arc::new(MemStore::default());
        let origin = Origin::on(Arc::clone(&racing) as Arc<dyn Disk>, false);
        let created = create(&origin, &*store, NOW_MS, &mut Entropy::Seeded(nth), &Unwatched)
            .unwrap_or_else(|error| panic!("call {nth}: {error}"));
        assert_eq!(verified(&store, &created.manifest).faults, [], "call {nth}");
        let copy = restored(&store, &created.manifest, &Selection::default()).unwrap();
        let mut copy = House::start(&copy, 99);
        let (then, now) = (copy.records("orders", 0), shared.lock().unwrap().records("orders", 0));
        assert!(then.len() >= before.len() && now.starts_with(&then), "call {nth}: {} records", then.len());
        // A moment before the last topic was made, or one after its record and its offset.
        let late = copy.node.broker.contents().iter().any(|topic| topic.name == "late");
        if late && copy.committed("readers", "late", 0) == 1 {
            assert_eq!(copy.records("late", 0).len(), 1, "call {nth}");
        }
        copy.produce("orders", 0, b"it goes on");
        if !racing.has_happened() {
            break;
        }
        happened += 1;
    }
    assert!(happened > 20, "the copy took {happened} steps only");
}

#[test]
fn a_backup_at_rest_is_all_that_there_was() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    assert_eq!(disk.list(frozen::DIR).unwrap(), [], "second names are left");
    let topics: Vec<_> = created.manifest.topics.iter().map(|t| (t.name.as_str(), t.partitions, t.offsets)).collect();
    assert_eq!(topics.len(), 2);
    assert_eq!(topics[1], ("orders", 2, 18));
    let copy = restored(&store, &created.manifest, &Selection::default()).unwrap();
    let mut copy = House::start(&copy, 99);
    assert_eq!(copy.state(), house.state());
}

#[test]
fn leader_epochs_rise_so_that_clients_find_out() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let end = house.offsets("orders", 0).1;
    house.produce("orders", 0, b"lost with the machine");
    let copy = restored(&store, &created.manifest, &Selection::default()).unwrap();
    let mut copy = House::start(&copy, 99);
    copy.produce("orders", 0, b"another record at the same offset");
    assert_eq!(copy.epoch_end("orders", 0, 0), end, "where the epoch of before ended");
    let epoch = copy.epoch("orders", 0);
    assert!(epoch > 0);
    assert_eq!(copy.epoch_end("orders", 0, epoch), end + 1);
}

#[test]
fn no_two_restores_of_one_backup_give_an_epoch_to_different_records() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let mut epochs = Vec::new();
    for seconds in [10, 11] {
        let shared: Arc<dyn ObjectStore> = store.clone();
        let disk = empty_disk();
        let (target, now_ms) = (Target::on(Arc::new(disk.clone())), NOW_MS + seconds * 1000);
        restore(&target, &shared, &created.manifest, &Selection::default(), now_ms, &Unwatched).unwrap();
        epochs.push(House::start(&disk, seconds as u64).epoch("orders", 0));
    }
    assert!(epochs[1] > epochs[0], "{epochs:?}");
}

#[test]
fn metadata_in_files_is_copied_only_at_rest() {
    let disk = empty_disk();
    let mut house = House::start_with(&disk, 1, MetadataStore::Files).unwrap();
    house.make_topic("orders", 1);
    house.produce("orders", 0, b"one");
    house.commit("readers", "orders", 0, 1);
    let store = Arc::new(MemStore::default());
    let refused = back_up(&disk, &store, 1).unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
    assert!(refused.sentence.contains("--file-metadata") && refused.sentence.contains("Stop the server"), "{refused}");
    assert!(store.keys().iter().all(|key| !key.contains("/manifests/")));

    let state = house.state();
    drop(house);
    let disk = disk.process_died();
    let origin = Origin::on(Arc::new(disk.clone()), true);
    let created = create(&origin, &*store, NOW_MS, &mut Entropy::Seeded(2), &Unwatched).unwrap();
    assert_eq!(verified(&store, &created.manifest).faults, []);
    let copy = restored(&store, &created.manifest, &Selection::default()).unwrap();
    let mut copy = House::start_with(&copy, 99, MetadataStore::Files).unwrap();
    assert_eq!(copy.state(), state);
    assert_eq!(copy.committed("readers", "orders", 0), 1);
}

#[test]
fn a_damaged_log_is_said_and_not_copied() {
    let disk = empty_disk();
    let house = busy_house(&disk);
    let at = house.node.position();
    // A group in the middle of the segment that is being written; later ones prove that it had been there.
    disk.rot(&at.segment.to_string(), 4096 + 4, 0xff).unwrap();
    let store = MemStore::default();
    let error = back_up(&disk, &store, 1).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged);
    assert!(error.sentence.contains(&at.segment.to_string()) && error.sentence.contains("4096"), "{error}");
}
