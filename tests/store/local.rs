//! Owns the tests of the store that is a folder.

use std::fs;
use std::path::PathBuf;

use chronik::store::{get_bytes, Kind, LocalStore, ObjectStore, PutMode};

use super::contract;

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("chronik-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_keeps_the_contract() {
    let folder = Folder::new("contract");
    contract::holds(&LocalStore::open(&folder.0.join("deep/er")), 1_000_000, 1003);
}

#[test]
fn a_folder_that_is_not_there_is_no_bucket_until_something_is_put() {
    let folder = Folder::new("missing");
    let store = LocalStore::open(&folder.0);
    assert_eq!(store.head("a").unwrap_err().kind, Kind::NoBucket);
    assert_eq!(store.list("", None).unwrap_err().kind, Kind::NoBucket);
    assert!(!folder.0.exists(), "looking makes nothing");
    store.put("a", b"x", PutMode::IfAbsent).unwrap();
    assert_eq!(store.head("b").unwrap_err().kind, Kind::NotFound);
}

#[test]
fn what_is_written_is_never_seen_half_and_leaves_no_trace_when_it_failed() {
    let folder = Folder::new("trace");
    let store = LocalStore::open(&folder.0);
    store.put("a/b", b"1", PutMode::Overwrite).unwrap();
    store.put("a/b", b"2", PutMode::IfAbsent).unwrap_err();
    let files = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(folder.0.join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(files(".chronik-tmp"), ["lock"]);
    assert_eq!(store.list("", None).unwrap().objects.len(), 1, "the folder of uploads isn't listed");
    assert_eq!(store.put(".chronik-tmp/x", b"", PutMode::Overwrite).unwrap_err().kind, Kind::Other);
    store.delete("a/b").unwrap();
    assert_eq!(files(""), [".chronik-tmp"], "empty folders go with their last object");
}

#[test]
fn uploads_of_ended_processes_are_swept_and_those_of_living_ones_are_not() {
    let folder = Folder::new("sweep");
    let store = LocalStore::open(&folder.0);
    store.put("a", b"1", PutMode::Overwrite).unwrap();
    let temp = folder.0.join(".chronik-tmp");
    fs::write(temp.join("1-1-dead"), b"half").unwrap();
    let living = fs::File::create(temp.join("2-2-living")).unwrap();
    let lock = chronik::sys::lock::FileLock::of(living, true).unwrap().unwrap();
    LocalStore::open(&folder.0);
    assert!(!temp.join("1-1-dead").exists() && temp.join("2-2-living").exists());
    drop(lock);
    LocalStore::open(&folder.0);
    assert!(!temp.join("2-2-living").exists());
    assert_eq!(get_bytes(&store, "a", None, 10).unwrap().0, b"1");
}

#[test]
fn a_key_that_is_a_folder_of_another_is_refused_in_one_sentence() {
    let folder = Folder::new("nested");
    let store = LocalStore::open(&folder.0);
    store.put("a", b"1", PutMode::Overwrite).unwrap();
    for mode in [PutMode::Overwrite, PutMode::IfAbsent] {
        let error = store.put("a/b", b"2", mode).unwrap_err();
        assert_eq!(error.kind, Kind::Other, "{error}");
        assert!(error.sentence.contains("already"), "{error}");
    }
    store.put("c/d", b"1", PutMode::Overwrite).unwrap();
    for mode in [PutMode::Overwrite, PutMode::IfAbsent] {
        assert_eq!(store.put("c", b"2", mode).unwrap_err().kind, Kind::Other);
    }
    assert_eq!(store.head("c").unwrap_err().kind, Kind::NotFound);
    assert_eq!(store.head("a/b").unwrap_err().kind, Kind::NotFound);
}

#[test]
fn states_differ_even_if_length_and_moment_are_the_same() {
    let folder = Folder::new("states");
    let store = LocalStore::open(&folder.0);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        assert!(seen.insert(store.put("a", b"same", PutMode::Overwrite).unwrap()));
    }
}
