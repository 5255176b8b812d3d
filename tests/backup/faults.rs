//! Owns the tests of stores and disks that fail at any step: a backup is whole or not there, and the next one succeeds.

use std::sync::Arc;

use chronik::backup::{list, Kind, Selection, State};

use super::memory_store::{Failing, MemStore};
use super::support::*;
use crate::sim::disk::{Op, Trouble, CHANGES};

#[test]
fn a_store_that_fails_at_any_call_leaves_no_half_backup() {
    for how in [Failing::Before, Failing::After] {
        let disk = empty_disk();
        let mut house = busy_house(&disk);
        for nth in 1.. {
            let store = Arc::new(MemStore::default());
            back_up(&disk, &store, 1).unwrap();
            house.produce("orders", 0, b"more");
            let calls = store.calls();
            store.fail(nth, 1, how);
            let result = back_up(&disk, &store, 2);
            if store.calls() - calls < nth {
                break;
            }
            store.heal();
            for found in list(&*store).unwrap() {
                let is_first = found.manifest.as_ref().is_some_and(|m| m.time_ms == NOW_MS + 60_000);
                assert!(found.state == State::Complete || (found.manifest.is_none() && !is_first), "{nth}: {found:?}");
            }
            // An answer that got lost leaves a whole backup or none.
            if result.is_ok() {
                assert_eq!(verified(&store, &newest(&store)).faults, [], "{how:?} {nth}");
            }
            // The word of who failed may stay; it does not keep others from making backups.
            let next = back_up(&disk, &store, 3).unwrap_or_else(|error| panic!("{how:?} {nth}: {error}"));
            assert_eq!(next.manifest, newest(&store));
            assert_eq!(verified(&store, &next.manifest).faults, [], "{how:?} {nth}");
        }
        assert_eq!(House::start(&restored_newest(&disk), 50).state(), house.state());
    }
}

fn restored_newest(disk: &crate::sim::disk::SimDisk) -> crate::sim::disk::SimDisk {
    let store = Arc::new(MemStore::default());
    let created = back_up(disk, &store, 9).unwrap();
    restored(&store, &created.manifest, &Selection::default()).unwrap()
}

#[test]
fn what_was_sent_before_an_error_is_not_sent_again() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    store.fail(7, 1000, Failing::Before);
    back_up(&disk, &store, 1).unwrap_err();
    store.heal();
    let segments = |store: &MemStore| store.keys().iter().filter(|key| key.contains("/segments/")).count();
    let sent_before = segments(&store);
    assert!(sent_before > 0);
    let second = back_up(&disk, &store, 2).unwrap();
    let third = back_up(&disk, &store, 3).unwrap();
    let all = segments(&store) as u64;
    // Tail and checkpoint belong to each backup alone.
    assert!(second.sent_objects <= all - sent_before as u64 + 2, "{second:?}");
    assert!(third.sent_objects <= 2, "{third:?}");
    assert!(third.sent_bytes < second.manifest.bytes() / 2);
}

#[test]
fn a_half_uploaded_object_is_noticed_and_sent_again() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    // The manifest is lost, so that nobody vouches for the segments.
    back_up(&disk, &store, 1).unwrap();
    for key in store.keys().iter().filter(|key| key.contains("/manifests/")) {
        store.tamper(key, None);
    }
    let keys = store.keys();
    let mut segments = keys.iter().filter(|key| key.contains("/segments/"));
    let (half, changed) = (segments.next().unwrap(), segments.next().unwrap());
    let bytes = store.bytes(half);
    store.tamper(half, Some(bytes[..bytes.len() / 2].to_vec()));
    let mut bytes = store.bytes(changed);
    bytes[10_000] ^= 1;
    store.tamper(changed, Some(bytes));
    let created = back_up(&disk, &store, 2).unwrap();
    assert_eq!(created.notes.len(), 2, "{:?}", created.notes);
    assert_eq!(verified(&store, &created.manifest).faults, []);
}

#[test]
fn a_disk_that_fails_at_any_call_harms_neither_server_nor_backups() {
    for trouble in [Trouble::Error, Trouble::Full] {
        for nth in 1.. {
            let disk = empty_disk();
            let mut house = busy_house(&disk);
            let store = Arc::new(MemStore::default());
            let ops = [CHANGES, &[Op::Read, Op::Open]].concat();
            let before = disk.count(&ops);
            disk.plan(&ops, "", nth, trouble);
            let result = back_up(&disk, &store, 1);
            let is_over = disk.count(&ops) - before < nth;
            disk.forget_plans();
            if let Ok(created) = &result {
                assert_eq!(verified(&store, &created.manifest).faults, [], "{trouble:?} {nth}");
            } else {
                assert!(store.keys().iter().all(|key| !key.contains("/manifests/")), "{trouble:?} {nth}");
            }
            house.produce("orders", 0, b"the server goes on");
            back_up(&disk, &store, 2).unwrap_or_else(|error| panic!("{trouble:?} {nth}: {error}"));
            if is_over {
                assert!(result.is_ok() && nth > 20);
                break;
            }
        }
    }
}

#[test]
fn a_process_that_dies_while_it_copies_leaves_a_directory_that_starts() {
    for nth in (1..).step_by(3) {
        let disk = empty_disk();
        let house = busy_house(&disk);
        let before = disk.count(CHANGES);
        disk.plan(CHANGES, "", nth, Trouble::Cut);
        let store = Arc::new(MemStore::default());
        let result = back_up(&disk, &store, 1);
        let is_over = disk.count(CHANGES) - before < nth;
        drop(house);
        disk.forget_plans();
        let disk = disk.restart();
        let mut house = House::start(&disk, 2);
        assert_eq!(house.records("orders", 0).len(), 11, "call {nth}");
        let created = back_up(&disk, &store, 2).unwrap();
        assert_eq!(verified(&store, &created.manifest).faults, [], "call {nth}");
        if is_over {
            assert!(result.is_ok());
            break;
        }
    }
}

#[test]
fn an_object_that_vanishes_meanwhile_is_noticed_before_there_is_a_manifest() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    back_up(&disk, &store, 1).unwrap();
    let key = store.keys().into_iter().find(|key| key.contains("/segments/")).unwrap();
    // When all segments were found to be there already.
    let (theirs, lost) = (Arc::clone(&store), key.clone());
    store.before_put("/backups/", Box::new(move || theirs.tamper(&lost, None)));
    let error = back_up(&disk, &store, 3).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged);
    assert!(error.sentence.contains(&key), "{error}");
    let created = back_up(&disk, &store, 4).unwrap();
    assert_eq!(verified(&store, &created.manifest).faults, []);
}
