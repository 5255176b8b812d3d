//! Owns the tests of who may write in a store: one server, whatever was copied, and whenever it was interrupted.

use std::fs;
use std::sync::Arc;

use chronik::backup::Kind;
use chronik::sys::disk::Disk;
use chronik::tier::owner::{Owner, FILE};
use chronik::wal::settings::Entropy;

use crate::backup::memory_store::{Failing, MemStore};
use crate::backup::support::empty_disk;
use crate::net::process::TempDir;
use crate::sim::disk::SimDisk;

const DIRECTORY: &str = "00112233445566778899aabbccddeeff";

fn owner(disk: &SimDisk, seed: u64) -> Owner {
    Owner::on(Arc::new(disk.clone()), &format!("server {seed}"), Entropy::Seeded(seed)).unwrap()
}

/// A disk that holds what another one holds, to the last block.
fn snapshot(disk: &SimDisk) -> SimDisk {
    let copy = empty_disk();
    copy.replace(FILE, &disk.read(FILE, 4096).unwrap()).unwrap();
    copy
}

#[test]
fn of_two_disks_that_are_the_same_only_one_is_the_owner() {
    let (disk, store) = (empty_disk(), MemStore::default());
    let mut first = owner(&disk, 1);
    let known = first.claim(&store, DIRECTORY, None, false).unwrap();
    // A copy of this moment that starts while the first one does nothing takes its place, and the first one finds that out.
    let mut copy = owner(&snapshot(&disk), 2);
    let theirs = copy.claim(&store, DIRECTORY, None, false).unwrap();
    assert_eq!(first.check(&store, DIRECTORY, &known).unwrap_err().kind, Kind::Deposed);
    let refused = first.claim(&store, DIRECTORY, Some(known), false).unwrap_err();
    assert_eq!(refused.kind, Kind::Deposed);
    assert!(refused.sentence.contains("server 2") && refused.sentence.contains("--storage-take-over"), "{refused}");
    assert_eq!(owner(&disk, 3).claim(&store, DIRECTORY, None, false).unwrap_err().kind, Kind::Deposed);
    copy.check(&store, DIRECTORY, &theirs).unwrap();
    // When it is told to, the first one takes it back.
    first.claim(&store, DIRECTORY, None, true).unwrap();
    assert_eq!(copy.claim(&store, DIRECTORY, Some(theirs), false).unwrap_err().kind, Kind::Deposed);
}

#[test]
fn a_copy_from_before_the_last_upload_is_refused() {
    let (disk, store) = (empty_disk(), MemStore::default());
    let mut first = owner(&disk, 1);
    let known = first.claim(&store, DIRECTORY, None, false).unwrap();
    let copy = snapshot(&disk);
    let known = first.claim(&store, DIRECTORY, Some(known), false).unwrap();
    assert_eq!(owner(&copy, 2).claim(&store, DIRECTORY, None, false).unwrap_err().kind, Kind::Deposed);
    first.check(&store, DIRECTORY, &known).unwrap();
}

/// Whatever a call to the store comes to, and wherever the power goes, the server does not lose its own objects.
#[test]
fn an_interrupted_claim_locks_nobody_out() {
    for how in [Failing::Before, Failing::After] {
        for nth in 1..=5 {
            let (disk, store) = (empty_disk(), MemStore::default());
            let mut now = owner(&disk, 1);
            let mut known = now.claim(&store, DIRECTORY, None, false).ok();
            store.fail(nth, 1, how);
            for _ in 0..3 {
                known = now.claim(&store, DIRECTORY, known.take(), false).ok();
            }
            store.heal();
            let mut next = owner(&disk.power_cut().restart(), 2);
            let known = next.claim(&store, DIRECTORY, None, false).unwrap_or_else(|why| panic!("{how:?} {nth}: {why}"));
            next.claim(&store, DIRECTORY, Some(known), false).unwrap();
        }
    }
}

#[test]
fn a_disk_that_takes_no_new_token_does_not_stop_uploads() {
    let (disk, store) = (empty_disk(), MemStore::default());
    let mut first = owner(&disk, 1);
    let known = first.claim(&store, DIRECTORY, None, false).unwrap();
    disk.set_capacity(0);
    let known = first.claim(&store, DIRECTORY, Some(known), false).unwrap();
    first.check(&store, DIRECTORY, &known).unwrap();
    disk.set_capacity(1 << 30);
    owner(&disk, 2).claim(&store, DIRECTORY, None, false).unwrap();
}

#[test]
fn a_directory_that_was_copied_file_by_file_is_another_one() {
    let (dir, copy, store) = (TempDir::new("owner"), TempDir::new("owner-copy"), MemStore::default());
    fs::create_dir_all(&dir.0).unwrap();
    fs::create_dir_all(&copy.0).unwrap();
    let mut first = Owner::of_directory(&dir.0).unwrap();
    let known = first.claim(&store, DIRECTORY, None, false).unwrap();
    fs::copy(dir.0.join(FILE), copy.0.join(FILE)).unwrap();
    let mut other = Owner::of_directory(&copy.0).unwrap();
    assert_eq!(other.claim(&store, DIRECTORY, None, false).unwrap_err().kind, Kind::Deposed);
    first.claim(&store, DIRECTORY, Some(known), false).unwrap();
    Owner::of_directory(&dir.0).unwrap().claim(&store, DIRECTORY, None, false).unwrap();
}
