//! Owns the tests of objects that are made smaller: how much was deleted, what is fetched for it, what a crash leaves.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use chronik::sys::disk::Disk;

use super::tiers::{files, make_topic, segments_in, settle, tiered, KEEPS_LITTLE};
use crate::backup::memory_store::{Failing, MemStore};
use crate::backup::support::{empty_disk, House};
use crate::sim::disk::{SimDisk, Trouble, CAPACITY_BYTES, CHANGES};

/// Bytes of the objects of whole segments.
fn stored_bytes(store: &MemStore) -> u64 {
    segments_in(store).iter().map(|key| store.bytes(key).len() as u64).sum()
}

/// A server with a topic whose records lie in the store beside those of a larger one.
fn shared_house(disk: &SimDisk, store: &Arc<MemStore>) -> House {
    let mut house = tiered(disk, 1, store);
    make_topic(&mut house, "stays", KEEPS_LITTLE);
    make_topic(&mut house, "gone", KEEPS_LITTLE);
    for _ in 0..3 {
        house.produce("stays", 0, &[b's'; 900_000]);
        house.fill_segment("gone");
    }
    house.produce("stays", 0, b"the newest piece of a topic stays here");
    settle(&mut house);
    assert!(house.evicted.len() >= 2, "{:?} of {:?} went: {:?}", house.evicted, files(disk), house.uploads);
    house
}

#[test]
fn an_object_of_which_most_was_deleted_gives_its_space_back_though_something_in_it_stays() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&disk, &store);
    let (before, full) = (house.records("stays", 0), stored_bytes(&store));
    house.delete_topic("gone");
    for _ in 0..6 {
        settle(&mut house);
    }
    let left = stored_bytes(&store);
    assert!(left < full / 3, "{left} of {full} bytes are left in the store: {:?}", segments_in(&store));
    assert_eq!(house.records("stays", 0), before);
    assert!(house.node.broker.remote_segments().count() > 0, "what was put together leaves the disk again");
    // And then there is nothing more to do.
    let (jobs, uploads) = (house.jobs.len(), house.uploads.len());
    for _ in 0..3 {
        settle(&mut house);
    }
    assert_eq!((house.jobs.len(), house.uploads.len()), (jobs, uploads), "it never comes to rest");
    drop(house);
    let disk = disk.power_cut().restart();
    assert_eq!(tiered(&disk, 2, &store).records("stays", 0), before);
}

#[test]
fn a_crash_at_any_change_while_objects_are_made_smaller_loses_nothing() {
    let (base, stored) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&base, &stored);
    let (before, full) = (house.records("stays", 0), stored_bytes(&stored));
    drop(house);
    let base = base.power_cut().restart();
    for trouble in [Trouble::Cut, Trouble::Kill] {
        let mut struck = 0;
        for nth in 1.. {
            let (disk, store) = (base.copied(nth), Arc::new(stored.copied()));
            let mut house = tiered(&disk, 2, &store);
            house.delete_topic("gone");
            disk.plan(CHANGES, "packs", nth, trouble);
            // What it makes of a machine that dies under it is of no interest.
            let _ = catch_unwind(AssertUnwindSafe(|| settle(&mut house)));
            drop(house);
            if disk.is_down().is_none() {
                break;
            }
            struck += 1;
            let mut house = tiered(&disk.restart(), 3, &store);
            assert_eq!(house.records("stays", 0), before, "{trouble:?} at change {nth}");
            for _ in 0..6 {
                settle(&mut house);
            }
            assert_eq!(house.records("stays", 0), before, "{trouble:?} at change {nth}, later");
            let left = stored_bytes(&store);
            assert!(left < full / 3, "{trouble:?} at change {nth}: {left} of {full} bytes are left in the store");
        }
        assert!(struck > 10, "{struck} crashes are no test");
    }
}

#[test]
fn objects_are_made_smaller_when_the_store_is_back_and_there_is_room() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&disk, &store);
    let (before, full) = (house.records("stays", 0), stored_bytes(&store));
    let first = house.jobs.len();
    let free = disk.free_bytes().unwrap();
    disk.set_capacity(CAPACITY_BYTES - free + (12 << 20));
    house.delete_topic("gone");
    settle(&mut house);
    assert!(house.jobs.len() > first && stored_bytes(&store) >= full * 9 / 10, "{:?}", house.jobs);
    disk.set_capacity(CAPACITY_BYTES);
    store.fail(1, u64::MAX >> 1, Failing::Before);
    for _ in 0..3 {
        settle(&mut house);
    }
    assert!(house.jobs.len() < first + 20, "{} jobs", house.jobs.len() - first);
    store.heal();
    for _ in 0..6 {
        settle(&mut house);
    }
    let left = stored_bytes(&store);
    assert!(left < full / 3, "{left} of {full} bytes are left in the store: {:?}", segments_in(&store));
    assert_eq!(house.records("stays", 0), before);
}

/// Eviction for want of room ends as soon as there is as much as is wanted; it has to be enough for this too.
#[test]
fn objects_are_made_smaller_on_a_disk_that_is_kept_nearly_full() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&disk, &store);
    let full = stored_bytes(&store);
    let free = disk.free_bytes().unwrap();
    // A segment of the log, which is to fit beside it, and the records; not what is to stay free on top.
    disk.set_capacity(CAPACITY_BYTES - free + (12 << 20) + House::LOCAL_FREE_BYTES);
    house.delete_topic("gone");
    for _ in 0..6 {
        settle(&mut house);
    }
    let left = stored_bytes(&store);
    assert!(left < full / 3, "{left} of {full} bytes are left in the store: {:?}", house.jobs);
}

#[test]
fn an_object_that_is_lost_keeps_no_other_from_being_made_smaller() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&disk, &store);
    let (full, objects) = (stored_bytes(&store), segments_in(&store));
    house.delete_topic("gone");
    // Any of them may come first.
    store.tamper(&objects[0], None);
    for _ in 0..12 {
        settle(&mut house);
    }
    let left = stored_bytes(&store);
    assert!(left < full / 2, "{left} of {full} bytes are left in the store: {:?}", segments_in(&store));
    let uploads = house.uploads.len();
    for _ in 0..6 {
        settle(&mut house);
    }
    assert!(house.uploads.len() <= uploads + 2, "{} uploads for nothing", house.uploads.len() - uploads);
}

/// What had been forgotten just before a crash stayed in the store of a server that writes nothing else.
#[test]
fn what_was_deleted_before_a_crash_goes_from_the_store_after_it() {
    let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
    let mut house = shared_house(&disk, &store);
    house.delete_topic("gone");
    house.delete_topic("stays");
    while house.node.broker.remote_segments().count() > 0 {
        house.pass_ms(1000);
    }
    let uploads = house.uploads.len();
    house.pass_ms(1000);
    assert_eq!(house.uploads.len(), uploads, "the crash comes too late");
    assert!(stored_bytes(&store) > 20 << 20);
    drop(house);
    let disk = disk.power_cut().restart();
    let mut house = tiered(&disk, 2, &store);
    settle(&mut house);
    assert!(stored_bytes(&store) < 1 << 20, "{:?}", segments_in(&store));
    let uploads = house.uploads.len();
    settle(&mut house);
    assert_eq!(house.uploads.len(), uploads, "it never comes to rest");
}

/// It sent the whole state again each minute, and each of these uploads stayed.
#[test]
fn a_manifest_that_cannot_be_read_makes_no_uploads_without_end() {
    for refuses in [false, true] {
        let (disk, store) = (empty_disk(), Arc::<MemStore>::default());
        let house = shared_house(&disk, &store);
        drop(house);
        match refuses {
            true => store.refuse_deletes(),
            false => {
                let key = store.keys().into_iter().find(|key| key.contains("/manifests/")).unwrap();
                store.tamper(&key, Some(b"nonsense".to_vec()));
            }
        }
        let disk = disk.power_cut().restart();
        let mut house = tiered(&disk, 2, &store);
        house.delete_topic("gone");
        for _ in 0..100 {
            settle(&mut house);
        }
        assert!(house.uploads.len() < 20, "{} uploads in nine hours", house.uploads.len());
    }
}
