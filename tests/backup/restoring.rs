//! Owns the tests of restoring: the whole, some topics, other names, and restores that are cut off.

use std::sync::Arc;

use chronik::backup::{find, Kind, Selection, Wanted};
use chronik::sys::disk::Disk;
use chronik::wal::{checkpoint, marker};

use super::memory_store::{Failing, MemStore};
use super::support::*;
use crate::sim::disk::{Trouble, CAPACITY_BYTES, CHANGES};

fn some(topics: &[&str], renames: &[(&str, &str)]) -> Selection {
    Selection {
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        renames: renames.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect(),
    }
}

#[test]
fn some_topics_come_back_with_records_and_offsets_and_nothing_else() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let copy = empty_disk();
    let done = restore_into(&copy, &store, &created.manifest, &some(&["ord*"], &[])).unwrap();
    assert_eq!(done.topics, ["orders"]);
    assert!(done.objects < created.manifest.objects.len() as u64, "segments without these topics are not fetched");
    let mut copy = House::start(&copy, 99);
    for partition in 0..2 {
        assert_eq!(copy.records("orders", partition), house.records("orders", partition));
        assert_eq!(copy.offsets("orders", partition), house.offsets("orders", partition));
    }
    assert_eq!(copy.committed("readers", "orders", 0), 4);
    assert_eq!(copy.node.broker.contents().len(), 1);
    copy.produce("orders", 1, b"it goes on");
    copy.make_topic("bills", 1);
    assert_eq!(copy.records("bills", 0), []);
}

#[test]
fn a_bit_that_changes_in_the_only_checkpoint_of_a_restored_directory_costs_nothing() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let copy = restored(&store, &created.manifest, &some(&["orders"], &[])).unwrap();
    let [seq] = checkpoint::list(&copy).unwrap()[..] else { panic!("one checkpoint") };
    copy.rot(&checkpoint::path(seq), 100, 1).unwrap();
    let mut copy = House::start(&copy, 99);
    for partition in 0..2 {
        assert_eq!(copy.records("orders", partition), house.records("orders", partition));
    }
}

#[test]
fn a_topic_comes_back_under_another_name() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let selection = some(&["bills"], &[("orders", "orders-2026")]);
    let copy = restored(&store, &created.manifest, &selection).unwrap();
    let mut copy = House::start(&copy, 99);
    assert_eq!(copy.records("orders-2026", 0), house.records("orders", 0));
    assert_eq!(copy.committed("readers", "orders-2026", 0), 4);
    assert_eq!(copy.committed("readers", "orders", 0), -1);
    assert_eq!(copy.records("bills", 0), house.records("bills", 0));
    let error = restored(&store, &created.manifest, &some(&["nothing"], &[])).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[test]
fn a_directory_that_is_there_is_never_overwritten() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let before = disk.contents(marker::PATH);
    let error = restore_into(&disk, &store, &created.manifest, &Selection::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert_eq!(disk.contents(marker::PATH), before);
    assert!(disk.contents(marker::RESTORING).is_none());
}

#[test]
fn a_restore_that_is_cut_off_anywhere_does_not_start_and_goes_on() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let state = house.state();
    for selection in [Selection::default(), some(&["orders"], &[])] {
        for (trouble, nth) in (1..).flat_map(|nth| [(Trouble::Cut, nth), (Trouble::Full, nth), (Trouble::Error, nth)]) {
            let target = empty_disk();
            target.plan(CHANGES, "", nth, trouble);
            let result = restore_into(&target, &store, &created.manifest, &selection);
            let is_over = target.count(CHANGES) < nth;
            target.forget_plans();
            let target = target.restart();
            if result.is_err() && target.contents(marker::RESTORING).is_some() {
                let refused = House::start_with(&target, 98, chronik::wal::settings::MetadataStore::Log).err().unwrap();
                assert!(refused.contains("interrupted"), "{trouble:?} {nth}: {refused}");
            }
            if result.is_err() && target.contents(marker::PATH).is_none()
                || target.contents(marker::RESTORING).is_some()
            {
                restore_into(&target, &store, &created.manifest, &selection)
                    .unwrap_or_else(|error| panic!("{trouble:?} {nth}: {error}"));
            }
            let mut copy = House::start(&target, 99);
            match selection.is_everything() {
                true => assert_eq!(copy.state(), state, "{trouble:?} {nth}"),
                false => assert_eq!(copy.records("orders", 0), house.records("orders", 0), "{trouble:?} {nth}"),
            }
            if is_over {
                assert!(result.is_ok() && nth > 15, "{nth}");
                break;
            }
        }
    }
}

#[test]
fn an_interrupted_restore_is_continued_and_not_begun_anew() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let target = empty_disk();
    store.fail(3, 1000, Failing::Before);
    let error = restore_into(&target, &store, &created.manifest, &Selection::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Store);
    store.heal();
    let error = restore_into(&target, &store, &created.manifest, &some(&["orders"], &[])).unwrap_err();
    assert!(error.sentence.contains("interrupted restore"), "{error}");
    let done = restore_into(&target, &store, &created.manifest, &Selection::default()).unwrap();
    assert!(done.kept_bytes > 0);
    assert_eq!(done.kept_bytes + done.bytes, created.manifest.bytes());
    House::start(&target, 99);
}

#[test]
fn a_changed_object_is_not_restored() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    for object in &created.manifest.objects {
        let bytes = store.bytes(&object.key);
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x10;
        let longer = [&bytes[..], &[0; 4096]].concat();
        for wrong in [Some(changed), Some(bytes[..bytes.len() - 1].to_vec()), Some(longer), None] {
            let is_gone = wrong.is_none();
            if is_gone {
                store.tamper(&object.key, None);
            } else {
                store.tamper(&object.key, wrong);
            }
            let error = restored(&store, &created.manifest, &Selection::default()).unwrap_err();
            assert!(matches!(error.kind, Kind::Damaged | Kind::Disk), "{} {error}", object.path);
            if is_gone {
                assert!(error.sentence.contains(&object.key), "{error}");
                let source = bytes.clone();
                chronik::store::ObjectStore::put(&*store, &object.key, &source, chronik::store::PutMode::Overwrite)
                    .unwrap();
            } else {
                store.tamper(&object.key, Some(bytes.clone()));
            }
        }
    }
    restored(&store, &created.manifest, &Selection::default()).unwrap();
}

#[test]
fn a_disk_without_room_is_said_before_anything_is_fetched() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let created = back_up(&disk, &store, 1).unwrap();
    let target = empty_disk();
    target.set_capacity(1 << 20);
    let calls = store.calls();
    let error = restore_into(&target, &store, &created.manifest, &Selection::default()).unwrap_err();
    assert_eq!((error.kind, store.calls()), (Kind::Disk, calls));
    assert!(error.sentence.contains("are free"), "{error}");
    target.set_capacity(CAPACITY_BYTES);
    restore_into(&target, &store, &created.manifest, &Selection::default()).unwrap();
}

#[test]
fn the_newest_backup_up_to_a_time_is_found() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = MemStore::default();
    let mut made = Vec::new();
    for number in 1..=4 {
        house.produce("orders", 0, b"more");
        made.push(back_up(&disk, &store, number).unwrap().manifest);
    }
    let find = |ms| find(&store, &Wanted { to_time_ms: Some(ms), ..Wanted::default() });
    assert_eq!(find(made[1].time_ms).unwrap(), made[1]);
    assert_eq!(find(made[1].time_ms + 59_999).unwrap(), made[1]);
    assert_eq!(find(i64::MAX).unwrap(), made[3]);
    assert_eq!(find(made[0].time_ms - 1).unwrap_err().kind, Kind::NotFound);
    let by_name =
        |name: &str| chronik::backup::find(&store, &Wanted { backup: Some(name.into()), ..Wanted::default() });
    assert_eq!(by_name(&made[2].backup).unwrap(), made[2]);
    assert_eq!(by_name("20").unwrap_err().kind, Kind::Refused);
    assert_eq!(by_name("no-such").unwrap_err().kind, Kind::NotFound);
    let empty: &dyn Disk = &empty_disk();
    assert!(empty.list("wal").is_err());
}

#[test]
fn a_restored_server_backs_up_beside_the_one_it_came_from() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let first = back_up(&disk, &store, 1).unwrap();
    let copy_disk = restored(&store, &first.manifest, &Selection::default()).unwrap();
    let mut copy = House::start(&copy_disk, 99);
    // Both go on from the same segment, and both seal it: at different ends.
    for (house, value) in [(&mut house, b"here "), (&mut copy, b"there")] {
        house.produce("orders", 0, value);
        house.fill_segment("bills");
    }
    let (here, there) = (back_up(&disk, &store, 2).unwrap(), back_up(&copy_disk, &store, 3).unwrap());
    for (manifest, house) in [(&here.manifest, &mut house), (&there.manifest, &mut copy)] {
        assert_eq!(verified(&store, manifest).faults, []);
        let again = restored(&store, manifest, &Selection::default()).unwrap();
        assert_eq!(House::start(&again, 7).records("orders", 0), house.records("orders", 0));
    }
}
