//! Owns the tests of the segment that is being written: backups share its pieces.

use std::sync::Arc;

use chronik::backup::{Manifest, Object, Role, Selection};

use super::memory_store::MemStore;
use super::support::*;

fn tail(manifest: &Manifest) -> Vec<&Object> {
    manifest.objects.iter().filter(|object| object.role == Role::Tail).collect()
}

fn tail_bytes(manifest: &Manifest) -> u64 {
    tail(manifest).iter().map(|piece| piece.bytes).sum()
}

/// A server restored from the newest backup, and what it holds.
fn state_of_newest(store: &Arc<MemStore>) -> State {
    let copy = restored(store, &newest(store), &Selection::default()).unwrap();
    House::start(&copy, 999).state()
}

/// Each backup sent the whole beginning of the segment that was being written, however little was new in it.
#[test]
fn a_tail_is_sent_in_few_pieces_and_no_byte_often() {
    let disk = empty_disk();
    let mut house = House::start(&disk, 1);
    house.make_topic("orders", 1);
    let store = Arc::new(MemStore::default());
    let (mut sent, mut whole, mut last) = (0, 0, 0);
    for n in 0..100 {
        house.produce("orders", 0, &vec![n as u8; 1000 + 17_000 * (n % 5)]);
        let created = back_up(&disk, &store, n as i64).unwrap();
        let pieces = tail(&created.manifest);
        let halves =
            pieces.windows(2).all(|two| two[0].bytes >= two[1].bytes && two[0].start + two[0].bytes == two[1].start);
        assert!(halves && pieces.len() <= 12, "backup {n}: {pieces:?}");
        last = tail_bytes(&created.manifest);
        whole += last;
        let own: u64 = created.manifest.objects.iter().filter(|o| o.role == Role::Checkpoint).map(|o| o.bytes).sum();
        sent += created.sent_bytes - own;
    }
    assert!(last > 3 << 20, "{last}");
    assert!(sent < 8 * last && whole > 40 * last, "{sent} bytes were sent for {last}, where all at once is {whole}");
    assert_eq!(verified(&store, &newest(&store)).faults, []);
    assert_eq!(state_of_newest(&store), house.state());
}

#[test]
fn nothing_is_sent_again_of_a_tail_in_which_nothing_is_new() {
    let disk = empty_disk();
    let _house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let first = back_up(&disk, &store, 1).unwrap().manifest;
    let second = back_up(&disk, &store, 2).unwrap();
    assert_eq!(tail(&second.manifest), tail(&first));
    assert!(second.sent_bytes < tail_bytes(&first), "{} bytes were sent", second.sent_bytes);
}

#[test]
fn a_sealed_segment_is_one_object_and_its_pieces_go() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let first = back_up(&disk, &store, 1).unwrap().manifest;
    house.fill_segment("bills");
    let second = back_up(&disk, &store, 2).unwrap().manifest;
    let of_before = tail(&first)[0];
    let path = &of_before.path;
    assert!(second.objects.iter().any(|object| object.role == Role::Segment && object.path == *path));
    chronik::backup::delete(&*store, &first.directory(), &first.backup).unwrap();
    assert!(!store.keys().contains(&of_before.key), "{:?}", store.keys());
    assert_eq!(verified(&store, &second).faults, []);
    assert_eq!(state_of_newest(&store), house.state());
}

#[test]
fn a_piece_that_is_gone_is_sent_again() {
    let disk = empty_disk();
    let mut house = busy_house(&disk);
    let store = Arc::new(MemStore::default());
    let first = back_up(&disk, &store, 1).unwrap().manifest;
    let key = tail(&first)[0].key.clone();
    store.tamper(&key, None);
    house.produce("orders", 0, b"one more");
    let second = back_up(&disk, &store, 2).unwrap().manifest;
    assert_eq!(tail(&second).len(), 1);
    assert_eq!(verified(&store, &second).faults, []);
    assert_eq!(state_of_newest(&store), house.state());
}
