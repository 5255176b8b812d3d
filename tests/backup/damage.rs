//! Owns the tests of verifying: whatever is wrong with a backup is said, with the object, the place and the topics.

use std::sync::Arc;

use chronik::backup::Role;

use super::memory_store::MemStore;
use super::support::*;

#[test]
fn every_missing_cut_or_changed_object_is_named() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    back_up(&disk, &store, 1).unwrap();
    house.produce("orders", 0, b"in the second piece of the tail");
    let manifest = back_up(&disk, &store, 2).unwrap().manifest;
    assert_eq!(manifest.objects.iter().filter(|object| object.role == Role::Tail).count(), 2);
    let sound = verified(&store, &manifest);
    assert!(sound.is_sound() && sound.groups > 20, "{sound:?}");
    assert_eq!(sound.bytes, manifest.bytes());
    for object in &manifest.objects {
        let bytes = store.bytes(&object.key);
        for at in [0, bytes.len() / 3, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            store.tamper(&object.key, Some(changed));
            let found = verified(&store, &manifest);
            assert_eq!(found.faults.len(), 1, "{} at {at}: {found:?}", object.path);
            assert_eq!((&found.faults[0].key, &found.faults[0].path), (&object.key, &object.path));
        }
        store.tamper(&object.key, Some(bytes[..bytes.len() - 10].to_vec()));
        assert_eq!(verified(&store, &manifest).faults[0].key, object.key);
        store.tamper(&object.key, Some(bytes));
    }
    let key = manifest.objects[0].key.clone();
    store.tamper(&key, None);
    let found = verified(&store, &manifest);
    assert!(found.faults.iter().any(|fault| fault.key == key && fault.what.contains("missing")), "{found:?}");
}

#[test]
fn the_place_and_the_topics_of_a_damage_are_told() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let manifest = back_up(&disk, &store, 1).unwrap().manifest;
    let segment = manifest.objects.iter().find(|object| object.role == Role::Segment).unwrap();
    let mut bytes = store.bytes(&segment.key);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    store.tamper(&segment.key, Some(bytes));
    let found = verified(&store, &manifest);
    let fault = &found.faults[0];
    let position = fault.position.unwrap() as usize;
    assert!(position <= at && at - position < 2 << 20, "{fault:?}");
    assert_eq!(fault.topics, ["bills"]);
}
