//! Owns the tests of the disk cache of objects: bytes as in the object, one request however many ask, a bound that holds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chronik::store::Room;
use chronik::sys::disk::Disk;
use chronik::sys::mailbox::mailbox;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::tier::cache::{BlockCache, CacheSettings, Object, Source, DIR};
use parking_lot::{Condvar, Mutex};

use crate::backup::support::empty_disk;
use crate::sim::disk::{Op, SimDisk, Trouble};

const BLOCK: usize = 4096;

/// A folder that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("chronik-tier-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(&self.0, Writing::Buffered).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Objects whose byte at each position follows from it; what was asked is noted.
#[derive(Debug, Default)]
struct Numbers {
    asked: Mutex<Vec<(u64, usize)>>,
    /// How many of the next requests fail.
    failing: Mutex<usize>,
    /// While closed, requests wait.
    gate: Mutex<bool>,
    /// Bytes of a request that come before it waits.
    before_gate: Mutex<usize>,
    opened: Condvar,
}

fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

impl Source for Numbers {
    fn fetch(&self, _key: &str, from: u64, len: usize, sink: &mut dyn Room) -> io::Result<()> {
        self.asked.lock().push((from, len));
        let bytes: Vec<u8> = (from..from + len as u64).map(byte_at).collect();
        let (before, bytes) = bytes.split_at((*self.before_gate.lock()).min(len));
        sink.write_all(before)?;
        let mut closed = self.gate.lock();
        while *closed {
            self.opened.wait(&mut closed);
        }
        let mut failing = self.failing.lock();
        if *failing > 0 {
            *failing -= 1;
            return Err(io::Error::other("the store is away"));
        }
        // In pieces that are no blocks.
        bytes.chunks(1000).try_for_each(|piece| sink.write_all(piece))
    }
}

impl Numbers {
    fn asked(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut *self.asked.lock())
    }
}

/// A cache of so many blocks, four of which are in one file.
fn settings(blocks: u64) -> CacheSettings {
    CacheSettings {
        block_bytes: BLOCK,
        slab_bytes: 4 * BLOCK as u64,
        bytes_max: blocks * BLOCK as u64,
        ahead_blocks_max: 4,
        free_bytes_min: 0,
        memory_bytes_max: 0,
    }
}

fn object(bytes: u64) -> Object {
    Object { key: "wal/7".into(), bytes }
}

fn open(scratch: &Scratch, source: &Arc<Numbers>, settings: CacheSettings) -> BlockCache {
    BlockCache::open(scratch.disk(), source.clone(), settings).unwrap()
}

fn files(scratch: &Scratch) -> usize {
    std::fs::read_dir(scratch.0.join(DIR)).unwrap().count()
}

fn file_bytes(disk: &dyn Disk) -> u64 {
    disk.list(DIR).unwrap().iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn every_range_reads_as_it_is_in_the_object() {
    let (scratch, source) = (Scratch::new("ranges"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(3));
    let object = object(10 * BLOCK as u64 + 100);
    let mut buf = vec![0; 3 * BLOCK];
    for position in [0, 1, 4095, 4096, 5000, 30_000, 40_960, 41_059, 12_288, 0] {
        for len in [0, 1, 100, BLOCK, 2 * BLOCK + 7] {
            let read = cache.read_at(&object, &mut buf[..len], position).unwrap();
            assert_eq!(read as u64, (len as u64).min(object.bytes - position), "{position} {len}");
            let expected: Vec<u8> = (position..position + read as u64).map(byte_at).collect();
            assert_eq!(buf[..read], expected, "{position} {len}");
            assert!(cache.bytes() <= 3 * BLOCK as u64);
            assert!(file_bytes(&*scratch.disk()) <= 3 * BLOCK as u64);
        }
    }
    assert_eq!(cache.read_at(&object, &mut buf, object.bytes).unwrap(), 0);
    assert_eq!(cache.read_at(&object, &mut buf, object.bytes + 5).unwrap(), 0);
}

#[test]
fn what_is_cached_is_not_asked_for_again_until_it_is_forgotten() {
    let (scratch, source) = (Scratch::new("again"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(8));
    let object = object(4 * BLOCK as u64);
    let mut buf = vec![0; 10];
    cache.read_at(&object, &mut buf, 3 * BLOCK as u64).unwrap();
    cache.read_at(&object, &mut buf, 3 * BLOCK as u64 + 50).unwrap();
    assert_eq!(source.asked(), [(3 * BLOCK as u64, BLOCK)]);
    cache.forget("wal/7");
    assert_eq!((cache.bytes(), files(&scratch)), (0, 0));
    cache.read_at(&object, &mut buf, 3 * BLOCK as u64).unwrap();
    assert_eq!(source.asked().len(), 1);
}

#[test]
fn many_readers_of_a_block_make_one_request() {
    let (scratch, source) = (Scratch::new("single"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(8));
    let object = object(BLOCK as u64);
    *source.gate.lock() = true;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|at| {
                let (cache, object) = (&cache, &object);
                scope.spawn(move || {
                    let mut buf = [0; 8];
                    cache.read_at(object, &mut buf, at * 8).unwrap();
                    buf[0] == byte_at(at * 8)
                })
            })
            .collect();
        while source.asked.lock().is_empty() {
            std::thread::yield_now();
        }
        *source.gate.lock() = false;
        source.opened.notify_all();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });
    assert_eq!(source.asked().len(), 1);
}

#[test]
fn a_block_can_be_read_while_the_rest_of_its_request_is_on_its_way() {
    let (scratch, source) = (Scratch::new("streamed"), Arc::new(Numbers::default()));
    let (sender, receiver) = mailbox(4);
    let cache = open(&scratch, &source, CacheSettings { memory_bytes_max: 8 * BLOCK, ..settings(64) });
    cache.reads_ahead(sender);
    let object = object(20 * BLOCK as u64);
    let mut buf = vec![0; 10];
    for block in 0..2 {
        cache.read_at(&object, &mut buf, block * BLOCK as u64).unwrap();
    }
    let ahead = receiver.try_recv().unwrap();
    assert_eq!(ahead.block(), 3);
    (*source.before_gate.lock(), *source.gate.lock()) = (2 * BLOCK + 10, true);
    std::thread::scope(|scope| {
        scope.spawn(|| cache.prefetch(&ahead));
        while source.asked.lock().len() < 3 {
            std::thread::yield_now();
        }
        for block in 3..5 {
            cache.read_at(&object, &mut buf, block * BLOCK as u64).unwrap();
            assert_eq!(buf[0], byte_at(block * BLOCK as u64));
        }
        // What comes after these is asked for already.
        assert_eq!(receiver.try_recv().map(|ahead| ahead.block()), Some(7));
        *source.gate.lock() = false;
        source.opened.notify_all();
    });
    cache.read_at(&object, &mut buf, 6 * BLOCK as u64).unwrap();
    assert_eq!(source.asked().len(), 3);
}

/// What of a broken request has come is not fetched again.
#[test]
fn what_came_before_a_request_broke_is_kept() {
    let (scratch, source) = (Scratch::new("broken"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(64));
    let object = object(20 * BLOCK as u64);
    let mut buf = vec![0; 10];
    cache.read_at(&object, &mut buf, 0).unwrap();
    (*source.before_gate.lock(), *source.failing.lock()) = (BLOCK + 10, 1);
    assert!(cache.read_at(&object, &mut buf, BLOCK as u64).is_err());
    *source.before_gate.lock() = 0;
    source.asked();
    cache.read_at(&object, &mut buf, BLOCK as u64).unwrap();
    assert!(source.asked().is_empty());
    cache.read_at(&object, &mut buf, 2 * BLOCK as u64).unwrap();
    assert_eq!(source.asked().first().map(|(from, _)| *from), Some(2 * BLOCK as u64));
}

#[test]
fn what_is_written_behind_is_kept_unless_it_was_forgotten_or_too_much_waits() {
    let (scratch, source) = (Scratch::new("behind"), Arc::new(Numbers::default()));
    let (sender, receiver) = mailbox(2);
    let cache = open(&scratch, &source, settings(64));
    cache.writes_behind(sender);
    let object = object(20 * BLOCK as u64);
    let read = |block: u64| assert_eq!(cache.read_at(&object, &mut [0; 10], block * BLOCK as u64).unwrap(), 10);
    // Two of the three wait; the disk does not keep up with the last one.
    [0, 5, 10].into_iter().for_each(read);
    assert_eq!(cache.bytes(), 0);
    (0..2).for_each(|_| cache.write_behind(&receiver.try_recv().unwrap()));
    source.asked();
    [0, 5, 10].into_iter().for_each(read);
    assert_eq!(source.asked(), [(10 * BLOCK as u64, BLOCK)]);
    let late = receiver.try_recv().unwrap();
    cache.forget("wal/7");
    cache.write_behind(&late);
    assert_eq!((cache.bytes(), files(&scratch)), (0, 0));
}

/// What came of an object after it was found damaged, or was gone, was kept, and read again and again.
#[test]
fn what_is_on_its_way_when_its_object_is_forgotten_is_not_kept() {
    for helped in [false, true] {
        let (scratch, source) = (Scratch::new(&format!("under-way-{helped}")), Arc::new(Numbers::default()));
        let (sender, receiver) = mailbox(8);
        let cache = open(&scratch, &source, CacheSettings { memory_bytes_max: 16 * BLOCK, ..settings(64) });
        if helped {
            cache.writes_behind(sender);
        }
        let object = object(20 * BLOCK as u64);
        let read = |block: u64| {
            let mut buf = [0; 10];
            assert_eq!(cache.read_at(&object, &mut buf, block * BLOCK as u64).unwrap(), 10);
            assert_eq!(buf[0], byte_at(block * BLOCK as u64));
        };
        let waits = |requests: usize| {
            while source.asked.lock().len() < requests {
                std::thread::yield_now();
            }
        };
        let opens = || {
            *source.gate.lock() = false;
            source.opened.notify_all();
        };
        read(0);
        // Of two blocks the first has come.
        (*source.before_gate.lock(), *source.gate.lock()) = (BLOCK + 10, true);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(1));
            waits(2);
            cache.forget("wal/7");
            opens();
            reader.join().unwrap();
        });
        std::iter::from_fn(|| receiver.try_recv()).for_each(|order| cache.write_behind(&order));
        assert_eq!((cache.bytes(), files(&scratch)), (0, 0));
        source.asked();
        (1..3).for_each(read);
        assert_eq!(source.asked().len(), 2);
        // Who waits for what is not kept asks by himself.
        (*source.before_gate.lock(), *source.gate.lock()) = (0, true);
        std::thread::scope(|scope| {
            scope.spawn(|| read(9));
            waits(1);
            scope.spawn(|| read(9));
            cache.forget("wal/7");
            waits(2);
            opens();
        });
        source.asked();
        read(9);
        assert!(source.asked().is_empty());
    }
}

/// Each block had its descriptor: a cache of 10 GiB had ten thousand, and connections none.
#[cfg(target_os = "linux")]
#[test]
fn blocks_on_the_disk_take_no_descriptors() {
    let (scratch, source) = (Scratch::new("descriptors"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(64));
    let object = object(20 * BLOCK as u64);
    for block in 0..20 {
        cache.read_at(&object, &mut [0; 10], block * BLOCK as u64).unwrap();
    }
    assert_eq!(files(&scratch), 5);
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    assert_eq!(open.filter(|path| path.starts_with(&scratch.0)).count(), 0);
}

#[test]
fn a_failure_is_told_and_not_kept() {
    let (scratch, source) = (Scratch::new("failure"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(8));
    *source.failing.lock() = 1;
    let mut buf = [0; 8];
    assert!(cache.read_at(&object(BLOCK as u64), &mut buf, 0).is_err());
    assert!(cache.read_at(&object(BLOCK as u64), &mut buf, 0).is_ok());
    assert_eq!((cache.counts().failures, cache.counts().requests), (1, 2));
}

#[test]
fn reading_on_from_front_to_back_brings_more_with_each_request() {
    let (scratch, source) = (Scratch::new("sequential"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(64));
    let object = object(20 * BLOCK as u64);
    let mut buf = vec![0; BLOCK];
    for block in 0..20 {
        cache.read_at(&object, &mut buf, block * BLOCK as u64).unwrap();
    }
    let lengths: Vec<usize> = source.asked().iter().map(|(_, len)| len / BLOCK).collect();
    assert_eq!(lengths, [1, 2, 4, 4, 4, 4, 1]);
}

#[test]
fn reading_ahead_is_asked_for_once_somebody_goes_on() {
    let (scratch, source) = (Scratch::new("ahead"), Arc::new(Numbers::default()));
    let (sender, receiver) = mailbox(4);
    let cache = open(&scratch, &source, settings(64));
    cache.reads_ahead(sender);
    let object = object(20 * BLOCK as u64);
    let mut buf = vec![0; 10];
    let mut read = |block: u64| cache.read_at(&object, &mut buf, block * BLOCK as u64).unwrap();
    read(0);
    assert!(receiver.try_recv().is_none());
    read(1);
    let ahead = receiver.try_recv().unwrap();
    assert_eq!(ahead.block(), 3);
    cache.prefetch(&ahead);
    assert_eq!(source.asked(), [(0, BLOCK), (BLOCK as u64, 2 * BLOCK), (3 * BLOCK as u64, 4 * BLOCK)]);
    read(2);
    assert!(receiver.try_recv().is_none());
    // The first use of what was read ahead asks for what follows it.
    read(3);
    assert_eq!(receiver.try_recv().map(|ahead| ahead.block()), Some(7));
    assert!(source.asked().is_empty());
}

#[test]
fn a_full_disk_costs_the_place_in_the_cache_only() {
    let (scratch, source) = (Scratch::new("full"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, CacheSettings { free_bytes_min: u64::MAX / 2, ..settings(8) });
    let mut buf = [0; 8];
    assert_eq!(cache.read_at(&object(BLOCK as u64), &mut buf, 16).unwrap(), 8);
    assert_eq!((buf[0], cache.bytes(), files(&scratch)), (byte_at(16), 0, 0));
}

/// Reads blocks of an object, each of which has its own bytes.
fn read_blocks(cache: &BlockCache, object: &Object, blocks: std::ops::Range<u64>) {
    let mut buf = vec![0; BLOCK];
    for block in blocks {
        let position = block * BLOCK as u64;
        assert_eq!(cache.read_at(object, &mut buf, position).unwrap(), BLOCK);
        assert!(buf.iter().enumerate().all(|(at, byte)| *byte == byte_at(position + at as u64)), "block {block}");
    }
}

/// New files for blocks, and the removal of old ones, cost more than the bytes that are written.
#[test]
fn a_full_cache_goes_on_with_the_files_that_it_has() {
    let (scratch, source) = (Scratch::new("over"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, CacheSettings { slab_bytes: 3 * BLOCK as u64, ..settings(4) });
    let object = object(20 * BLOCK as u64);
    let names = || {
        let entries = std::fs::read_dir(scratch.0.join(DIR)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    read_blocks(&cache, &object, 0..4);
    let before = names();
    assert_eq!((before.len(), file_bytes(&*scratch.disk())), (2, 4 * BLOCK as u64));
    read_blocks(&cache, &object, 4..20);
    assert_eq!((names(), cache.bytes()), (before, 4 * BLOCK as u64));
    source.asked();
    read_blocks(&cache, &object, 16..20);
    assert!(source.asked().is_empty());
    read_blocks(&cache, &object, 0..1);
    assert_eq!(source.asked(), [(0, BLOCK)]);
}

/// On a disk that fails, or is full, now and then.
fn on_troubled_disk(settings: CacheSettings) -> (SimDisk, Arc<Numbers>, BlockCache) {
    let (disk, source) = (empty_disk(), Arc::new(Numbers::default()));
    let settings = CacheSettings { ahead_blocks_max: 1, ..settings };
    let cache = BlockCache::open(Arc::new(disk.clone()), source.clone(), settings).unwrap();
    (disk, source, cache)
}

/// Of a block that was being written over another when the disk failed, or was full, nothing is ever read; nor of that other one. Where
/// it failed nothing is written again.
#[test]
fn a_block_that_cannot_be_written_over_another_is_not_kept() {
    for trouble in [Trouble::Error, Trouble::Full] {
        for (op, asked) in [(Op::Open, vec![0, 2]), (Op::Write, vec![0, 1, 2])] {
            let (disk, source, cache) = on_troubled_disk(settings(2));
            let object = object(20 * BLOCK as u64);
            read_blocks(&cache, &object, 0..2);
            disk.plan(&[op], DIR, 1, trouble);
            read_blocks(&cache, &object, 2..3);
            disk.forget_plans();
            assert_eq!((cache.bytes(), disk.list(DIR).unwrap().len()), (BLOCK as u64, 1), "{trouble:?} {op:?}");
            source.asked();
            read_blocks(&cache, &object, 0..3);
            let asked: Vec<_> = asked.into_iter().map(|block| (block * BLOCK as u64, BLOCK)).collect();
            assert_eq!(source.asked(), asked, "{trouble:?} {op:?}");
        }
    }
}

/// A disk that has failed for a while has its cache again afterwards.
#[test]
fn a_file_in_which_nothing_can_be_written_makes_room_for_another() {
    let (disk, source, cache) = on_troubled_disk(settings(2));
    let object = object(20 * BLOCK as u64);
    read_blocks(&cache, &object, 0..2);
    (1..3).for_each(|nth| disk.plan(&[Op::Write], DIR, nth, Trouble::Error));
    read_blocks(&cache, &object, 2..4);
    assert_eq!((cache.bytes(), file_bytes(&disk)), (0, 0));
    disk.plan(&[Op::Create], DIR, 1, Trouble::Error);
    read_blocks(&cache, &object, 4..5);
    assert_eq!((cache.bytes(), file_bytes(&disk)), (0, 0));
    read_blocks(&cache, &object, 5..7);
    source.asked();
    read_blocks(&cache, &object, 5..7);
    assert_eq!((source.asked(), file_bytes(&disk)), (vec![], 2 * BLOCK as u64));
}

/// It was forgotten, and could not be written again either.
#[test]
fn a_block_whose_file_cannot_be_opened_for_a_moment_is_fetched_and_stays() {
    let (disk, source, cache) = on_troubled_disk(settings(2));
    let object = object(20 * BLOCK as u64);
    read_blocks(&cache, &object, 0..2);
    source.asked();
    (1..3).for_each(|nth| disk.plan(&[Op::Open, Op::Create], DIR, nth, Trouble::Error));
    read_blocks(&cache, &object, 1..2);
    assert_eq!(source.asked(), [(BLOCK as u64, BLOCK)]);
    disk.forget_plans();
    read_blocks(&cache, &object, 0..2);
    assert_eq!((source.asked(), cache.bytes()), (vec![], 2 * BLOCK as u64));
}

/// With no room left for one more block nothing was written any more, though none was needed.
#[test]
fn a_full_cache_on_a_full_disk_goes_on_and_gives_back_what_the_disk_lacks() {
    const STAYS_FREE: u64 = 8 * BLOCK as u64;
    let (disk, source, cache) = on_troubled_disk(CacheSettings { free_bytes_min: STAYS_FREE, ..settings(8) });
    let object = object(40 * BLOCK as u64);
    read_blocks(&cache, &object, 0..8);
    disk.set_capacity(disk.used_bytes() + STAYS_FREE);
    read_blocks(&cache, &object, 8..16);
    source.asked();
    read_blocks(&cache, &object, 8..16);
    assert_eq!((source.asked(), file_bytes(&disk)), (vec![], 8 * BLOCK as u64));
    // Others have written a byte.
    disk.set_capacity(disk.used_bytes() + STAYS_FREE - 1);
    read_blocks(&cache, &object, 16..20);
    assert_eq!(file_bytes(&disk), 4 * BLOCK as u64);
    source.asked();
    read_blocks(&cache, &object, 16..20);
    assert_eq!(source.asked(), []);
    // There is room again, but not for all that is wanted.
    disk.set_capacity(disk.used_bytes() + STAYS_FREE + 7 * BLOCK as u64);
    read_blocks(&cache, &object, 20..24);
    assert_eq!(file_bytes(&disk), 7 * BLOCK as u64);
    disk.set_capacity(0);
    read_blocks(&cache, &object, 24..30);
    assert_eq!((file_bytes(&disk), cache.bytes()), (0, 0));
}

#[test]
fn a_block_that_was_lost_or_cut_on_the_local_disk_is_fetched_again() {
    let (scratch, source) = (Scratch::new("lost"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(8));
    let mut buf = [0; 8];
    cache.read_at(&object(BLOCK as u64), &mut buf, 0).unwrap();
    for entry in std::fs::read_dir(scratch.0.join(DIR)).unwrap() {
        std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_len(4).unwrap();
    }
    assert_eq!(cache.read_at(&object(BLOCK as u64), &mut buf, 8).unwrap(), 8);
    assert_eq!((buf[0], source.asked().len()), (byte_at(8), 2));
}

/// Where the disk has no room, each piece that a reader took of a block cost a request of its own.
#[test]
fn what_was_fetched_last_is_in_memory_also_where_the_disk_has_no_room() {
    let (scratch, source) = (Scratch::new("memory"), Arc::new(Numbers::default()));
    let (sender, receiver) = mailbox(4);
    let limits = CacheSettings { free_bytes_min: u64::MAX / 2, memory_bytes_max: 9 * BLOCK, ..settings(64) };
    let cache = open(&scratch, &source, limits);
    cache.reads_ahead(sender);
    let object = object(20 * BLOCK as u64);
    let mut buf = vec![0; BLOCK / 4];
    let mut read = |block: u64| {
        for piece in 0..4 {
            let position = block * BLOCK as u64 + piece * BLOCK as u64 / 4;
            assert_eq!(cache.read_at(&object, &mut buf, position).unwrap(), buf.len());
            assert!(buf.iter().enumerate().all(|(at, byte)| *byte == byte_at(position + at as u64)));
        }
    };
    (0..3).for_each(&mut read);
    assert_eq!(source.asked(), [(0, BLOCK), (BLOCK as u64, 2 * BLOCK)]);
    // Reading ahead goes on too.
    let ahead = receiver.try_recv().unwrap();
    cache.prefetch(&ahead);
    assert_eq!(source.asked(), [(3 * BLOCK as u64, 4 * BLOCK)]);
    read(3);
    assert_eq!(receiver.try_recv().map(|ahead| ahead.block()), Some(7));
    (4..7).for_each(&mut read);
    assert!(source.asked().is_empty() && files(&scratch) == 0);
    // What came first has made room.
    (7..10).for_each(&mut read);
    source.asked();
    read(0);
    assert_eq!(source.asked(), [(0, BLOCK)]);
    cache.forget("wal/7");
    read(6);
    assert_eq!(source.asked().len(), 1);
    read(6);
    assert!(source.asked().is_empty());
    // And what was needed last is given back when nothing is needed for a while.
    cache.rest();
    read(6);
    assert_eq!(source.asked().len(), 1);
}

/// What readers of old places have fetched, in bytes, for each byte of theirs: each has an object of its own, reads on in pieces of
/// half a block, and looks at its end before each, as the log does. The first takes `speed` pieces where the others take one. What is
/// read ahead comes as soon as it is asked for, which is when memory has to hold most.
fn fetched_per_byte(readers: u64, speed: u64, settings: CacheSettings) -> f64 {
    const BLOCKS: u64 = 64;
    let (scratch, source) = (Scratch::new(&format!("crowd-{readers}-{speed}")), Arc::new(Numbers::default()));
    let (sender, receiver) = mailbox(64);
    let cache = open(&scratch, &source, settings);
    cache.reads_ahead(sender);
    let objects: Vec<Object> =
        (0..readers).map(|n| Object { key: format!("wal/{n}").into(), bytes: BLOCKS * BLOCK as u64 }).collect();
    let (piece, mut at) = (BLOCK as u64 / 2, vec![0; readers as usize]);
    // The slower ones stop when the first has come to its end, and the last block is for looking things up.
    while at[0] + 2 * piece < objects[0].bytes {
        for (number, object) in objects.iter().enumerate() {
            for _ in 0..if number == 0 { speed } else { 1 } {
                assert_eq!(cache.read_at(object, &mut [0; 16], object.bytes - 32).unwrap(), 16);
                cache.read_at(object, &mut vec![0; piece as usize], at[number]).unwrap();
                at[number] += piece;
                while let Some(ahead) = receiver.try_recv() {
                    cache.prefetch(&ahead);
                }
            }
        }
    }
    let fetched: usize = source.asked().iter().map(|(_, len)| len).sum();
    fetched as f64 / at.iter().sum::<u64>() as f64
}

/// Each reader was given as much ahead as if it were alone, so what was read ahead for one pushed out what another was about to use,
/// and the same bytes came eight times.
#[test]
fn what_is_read_ahead_for_many_readers_stays_in_memory_until_it_is_used() {
    let settings = CacheSettings {
        free_bytes_min: u64::MAX / 2,
        memory_bytes_max: 16 * BLOCK,
        ahead_blocks_max: 8,
        ..settings(1 << 20)
    };
    let all: Vec<_> = (1..=16)
        .flat_map(|readers| [1, 2, 4].map(|speed| (readers, speed, fetched_per_byte(readers, speed, settings))))
        .collect();
    // The pieces of those who read slowly may go before they are read to their end.
    assert!(all.iter().all(|(_, speed, each)| *each < [1.1, 1.25, 1.5][*speed as usize / 2]), "{all:?}");
}

/// What is lent stays what it is when the memory of others is used again.
#[test]
fn what_is_in_memory_is_lent_and_stays_for_as_long_as_somebody_has_it() {
    let (scratch, source) = (Scratch::new("lent"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, CacheSettings { memory_bytes_max: 4 * BLOCK, ..settings(64) });
    let object = object(8 * BLOCK as u64 + 10);
    let mut lent = Vec::new();
    for block in 0..9 {
        let position = (block * BLOCK as u64 + 100).min(object.bytes - 1);
        let bytes = cache.lend(&object, position, 1).unwrap().expect("it has just come");
        assert_eq!(bytes.len() as u64, object.bytes.min((block + 1) * BLOCK as u64) - position);
        lent.push((position, bytes));
    }
    assert_eq!(source.asked().iter().map(|(_, len)| *len as u64).sum::<u64>(), object.bytes);
    for (position, bytes) in &lent {
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == byte_at(position + at as u64)));
    }
    // Not over a block's end or the object's, and not from the disk.
    let last = 8 * BLOCK as u64;
    for (position, least) in [(last - 3, 4), (last + 8, 3), (last + 10, 0), (u64::MAX, 1), (0, 1)] {
        assert!(cache.lend(&object, position, least).unwrap().is_none(), "{position} {least}");
    }
    assert!(cache.lend(&object, last - 3, 3).unwrap().is_some() && source.asked().is_empty());
    *source.failing.lock() = 1;
    cache.forget("wal/7");
    assert!(cache.lend(&object, 0, 1).is_err());
}

/// Many short objects, each in a buffer for a whole block, took much more memory than they may.
#[test]
fn short_blocks_count_with_the_memory_that_they_take() {
    let (scratch, source) = (Scratch::new("short"), Arc::new(Numbers::default()));
    let cache = open(
        &scratch,
        &source,
        CacheSettings { free_bytes_min: u64::MAX / 2, memory_bytes_max: 2 * BLOCK, ..settings(64) },
    );
    let objects: Vec<Object> = (0..3).map(|n| Object { key: format!("wal/{n}").into(), bytes: 100 }).collect();
    let read = |object| assert_eq!(cache.read_at(object, &mut [0; 10], 0).unwrap(), 10);
    objects.iter().for_each(read);
    source.asked();
    // The last two are in memory, the first has made room.
    objects[1..].iter().for_each(read);
    assert!(source.asked().is_empty());
    read(&objects[0]);
    assert_eq!(source.asked().len(), 1);
}

#[test]
fn a_start_empties_the_folder() {
    let (scratch, source) = (Scratch::new("start"), Arc::new(Numbers::default()));
    let cache = open(&scratch, &source, settings(8));
    cache.read_at(&object(BLOCK as u64), &mut [0; 8], 0).unwrap();
    assert_eq!(files(&scratch), 1);
    drop(cache);
    let cache = open(&scratch, &source, settings(8));
    assert_eq!((cache.bytes(), files(&scratch)), (0, 0));
}
