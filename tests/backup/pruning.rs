//! Owns the tests of giving space back, above all while backups are being made.

use std::sync::{Arc, Mutex};

use chronik::backup::{delete, keep, keep_tier, list, sweep, Failure, Guard, Kind, Manifest, Selection, State};
use chronik::store::{ObjectStore, PutMode};

use super::memory_store::{Failing, MemStore};
use super::support::*;
use crate::sim::disk::SimDisk;

/// A store with three backups, of which the first alone needs a segment.
fn three_backups(disk: &SimDisk, house: &mut House, store: &MemStore) -> Vec<Manifest> {
    let mut made = vec![back_up(disk, store, 1).unwrap().manifest];
    let end = house.produce("bills", 0, b"kept");
    house.trim("bills", 0, end);
    for number in 2..=3 {
        house.fill_segment("bills");
        let end = house.produce("bills", 0, b"kept");
        house.trim("bills", 0, end);
        house.pass_ms(120_000);
        made.push(back_up(disk, store, number).unwrap().manifest);
    }
    made
}

#[test]
fn only_what_no_backup_names_goes() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let directory = made[0].directory();
    let before = store.keys().len();
    let swept = delete(&*store, &directory, &made[0].backup).unwrap();
    assert!(swept.objects > 0, "{swept:?}");
    assert_eq!(store.keys().len(), before - swept.objects as usize - 1 + 1, "the manifest went, the clock came");
    for manifest in &made[1..] {
        assert_eq!(verified(&store, manifest).faults, []);
    }
    assert_eq!(list(&*store).unwrap().len(), 2);
}

#[test]
fn a_tier_is_swept_after_a_kill_in_the_middle_of_a_sweep() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let directory = made[0].directory();
    let sweeping = format!("{directory}/sweeping");
    store.put(&sweeping, &&b"at work\n"[..], PutMode::IfAbsent).unwrap();
    assert!(sweep(&*store, &directory).unwrap().is_put_off, "others respect that word");
    let (swept, last) = keep_tier(&*store, &directory, &made[2], false, &mut || Ok(())).unwrap();
    assert!(!swept.is_put_off && swept.objects > 0, "{swept:?}");
    assert_eq!(last.expect("one more is left").backup, made[1].backup);
    assert!(!store.keys().contains(&sweeping));
    assert_eq!(verified(&store, &made[2]).faults, []);
}

/// What it has listed may be another one's by then, who sends the same log.
#[test]
fn who_is_deposed_in_the_middle_of_a_sweep_removes_nothing_more() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let before = store.keys();
    for nth in 1..=2 {
        let mut asked = 0;
        let guard: Guard<'_> = &mut || {
            asked += 1;
            if asked < nth {
                Ok(())
            } else {
                Err(Failure::new(Kind::Deposed, "another server has taken over"))
            }
        };
        assert_eq!(keep_tier(&*store, &made[0].directory(), &made[2], false, guard).unwrap_err().kind, Kind::Deposed);
        let left = store.keys().into_iter().filter(|key| before.contains(key) && !key.contains("/manifests/")).count();
        let all = before.iter().filter(|key| !key.contains("/manifests/")).count();
        assert!(left == all, "{left} of {all} are left");
    }
}

#[test]
fn the_newest_stay_and_the_last_one_always() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let directory = made[0].directory();
    let (deleted, _) = keep(&*store, &directory, Some(2), None).unwrap();
    assert_eq!(deleted, [made[0].backup.clone()]);
    let (deleted, _) = keep(&*store, &directory, None, Some(i64::MAX)).unwrap();
    assert_eq!(deleted, [made[1].backup.clone()]);
    let (deleted, _) = keep(&*store, &directory, Some(0), None).unwrap();
    assert!(deleted.is_empty());
    assert_eq!(verified(&store, &made[2]).faults, []);
}

#[test]
fn a_manifest_that_can_not_be_read_keeps_everything() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let key = store.keys().into_iter().find(|key| key.contains("/manifests/")).unwrap();
    let mut bytes = store.bytes(&key);
    bytes[30] ^= 1;
    store.tamper(&key, Some(bytes));
    let before = store.keys().len();
    let error = sweep(&*store, &made[0].directory()).unwrap_err();
    assert!(error.sentence.contains("Nothing was removed"), "{error}");
    assert!(store.keys().len() >= before);
    assert!(list(&*store).unwrap().iter().any(|found| matches!(found.state, State::Unreadable(_))));
    // It can be deleted by its name.
    delete(&*store, &made[0].directory(), &made[0].backup).unwrap();
    assert_eq!(verified(&store, &made[2]).faults, []);
}

/// Every manifest that is there names objects that are there.
fn all_are_whole(store: &Arc<MemStore>, when: &str) {
    for found in list(&**store).unwrap() {
        assert!(matches!(found.state, State::Complete | State::Unfinished), "{when}: {found:?}");
        if let Some(manifest) = &found.manifest {
            assert_eq!(verified(store, manifest).faults, [], "{when}");
        }
    }
}

#[test]
fn deleting_and_sweeping_at_any_step_of_a_backup_harms_none() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let mut put_off = 0;
    for nth in 1.. {
        let store = Arc::new(MemStore::default());
        let first = back_up(&disk, &store, 1).unwrap().manifest;
        let (theirs, directory) = (Arc::clone(&store), first.directory());
        let outcome = Arc::new(Mutex::new(None));
        let told = Arc::clone(&outcome);
        // The second backup needs nothing new; all its segments are the first one's, which goes now.
        store.before_call(
            nth,
            Box::new(move || {
                *told.lock().unwrap() = Some(delete(&*theirs, &directory, &first.backup).unwrap());
            }),
        );
        let _ = back_up(&disk, &store, 2);
        let Some(swept) = *outcome.lock().unwrap() else { break };
        put_off += u64::from(swept.is_put_off);
        all_are_whole(&store, &format!("call {nth}"));
        back_up(&disk, &store, 3).unwrap();
        all_are_whole(&store, &format!("after call {nth}"));
    }
    assert!(put_off > 5, "{put_off}");
}

#[test]
fn a_backup_that_is_made_at_any_step_of_a_sweep_is_whole() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let mut busy = 0;
    for nth in 1.. {
        let store = Arc::new(MemStore::default());
        let first = back_up(&disk, &store, 1).unwrap().manifest;
        let (theirs, its_disk) = (Arc::clone(&store), disk.clone());
        let outcome = Arc::new(Mutex::new(None));
        let told = Arc::clone(&outcome);
        store.before_call(nth, Box::new(move || *told.lock().unwrap() = Some(back_up(&its_disk, &theirs, 9))));
        delete(&*store, &first.directory(), &first.backup).unwrap();
        let Some(result) = outcome.lock().unwrap().take() else { break };
        busy += u64::from(result.is_err());
        all_are_whole(&store, &format!("call {nth}"));
    }
    assert!(busy > 3, "{busy}");
}

#[test]
fn the_word_of_the_dead_counts_until_it_is_stale() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let made = three_backups(&disk, &mut house, &store);
    let directory = made[0].directory();
    // It dies behind its word, which it can't take back either.
    store.fail(4, 1000, Failing::Before);
    back_up(&disk, &store, 4).unwrap_err();
    store.heal();
    assert!(store.keys().iter().any(|key| key.contains("/making/")));
    assert!(delete(&*store, &directory, &made[0].backup).unwrap().is_put_off);
    store.pass_ms(2 * 60 * 60 * 1000);
    assert!(sweep(&*store, &directory).unwrap().objects > 0);
    assert!(!store.keys().iter().any(|key| key.contains("/making/")));
    // A sweeper that died keeps backups out as long as its word counts.
    store.fail(6, 1000, Failing::Before);
    sweep(&*store, &directory).unwrap_err();
    store.heal();
    assert!(store.keys().iter().any(|key| key.ends_with("/sweeping")));
    assert!(back_up(&disk, &store, 5).is_err());
    store.pass_ms(2 * 60 * 60 * 1000);
    let created = back_up(&disk, &store, 6).unwrap();
    sweep(&*store, &directory).unwrap();
    restored(&store, &created.manifest, &Selection::default()).unwrap();
}
