//! Owns the disk cache of objects: whole blocks in files of their own, fetched once however many ask, under a limit; what was fetched
//! last is in memory too.
//!
//! What is cached can be fetched again, so nothing here is ever synced, and a start empties the folder.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode};
use crate::sys::mailbox::Sender;

/// The cache's folder below the data directory.
pub const DIR: &str = "cache";

/// Where blocks come from. Called on the threads that read, several at a time.
pub trait Source: Send + Sync + Debug {
    /// Exactly `len` bytes of an object from position `from` on.
    ///
    /// # Errors
    /// Whatever keeps them from coming, within a bounded time; `NotFound` when the object is not there.
    fn fetch(&self, key: &str, from: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// An immutable object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub key: Arc<str>,
    /// Its length.
    pub bytes: u64,
}

/// How large the cache and its pieces are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The unit that is kept. A multiple of the disk's block.
    pub block_bytes: usize,
    /// All blocks together.
    pub bytes_max: u64,
    /// Blocks that one request to the store may bring when an object is read from front to back.
    pub ahead_blocks_max: u32,
    /// What must stay free on the filesystem; below it blocks are not kept there.
    pub free_bytes_min: u64,
    /// What was fetched last is in memory too, up to so much: a reader that goes on need not read it from the disk, and one whose
    /// blocks cannot be kept need not fetch them once for each of its pieces.
    pub memory_bytes_max: usize,
}

/// Blocks of objects on the local disk. Shared by all readers.
#[derive(Debug)]
pub struct BlockCache {
    disk: Arc<dyn Disk>,
    source: Arc<dyn Source>,
    settings: CacheSettings,
    state: Mutex<State>,
    arrived: Condvar,
    /// Who reads ahead: an object, and the first block.
    ahead: Mutex<Option<Sender<(Object, u32)>>>,
}

type BlockId = (Arc<str>, u32);

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<BlockId, Entry>,
    /// By when they were last used: what goes first.
    by_use: BTreeMap<u64, BlockId>,
    /// Somebody is bringing these.
    fetching: HashSet<BlockId>,
    /// What requests brought last, the oldest first.
    recent: VecDeque<Brought>,
    /// Where a request ended, how many blocks it brought, and when: who goes on there is given more at once.
    ends: HashMap<BlockId, (u32, u64)>,
    bytes: u64,
    clock: u64,
    next_file: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Entry {
    file: Arc<dyn DiskFile>,
    path: String,
    len: usize,
    used: u64,
    /// What to read ahead when this is first used.
    then: Option<u32>,
}

/// Blocks that one request brought, one after the other.
#[derive(Debug)]
struct Brought {
    key: Arc<str>,
    number: u32,
    count: u32,
    bytes: Bytes,
    /// What to read ahead when the first is used, if its file does not say so.
    then: Option<u32>,
}

impl Brought {
    fn has(&self, id: &BlockId) -> bool {
        *self.key == *id.0 && (self.number..self.number + self.count).contains(&id.1)
    }
}

/// What the cache has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks that were there.
    pub hits: u64,
    /// Blocks that had to be fetched.
    pub misses: u64,
    /// Requests to the store, and the bytes they brought.
    pub requests: u64,
    pub fetched_bytes: u64,
    /// Requests that failed.
    pub failures: u64,
}

/// A block, wherever it is.
enum Block {
    File(Arc<dyn DiskFile>, usize),
    Memory(Bytes),
}

/// Places at which requests ended that are remembered.
const ENDS_MAX: usize = 1024;

impl BlockCache {
    /// An empty cache in `DIR`; what an earlier life left there is removed.
    ///
    /// # Errors
    /// The folder cannot be made or emptied.
    pub fn open(disk: Arc<dyn Disk>, source: Arc<dyn Source>, settings: CacheSettings) -> io::Result<BlockCache> {
        disk.create_dir(DIR)?;
        BlockCache::clear(&*disk)?;
        let (state, arrived) = (Mutex::new(State::default()), Condvar::new());
        Ok(BlockCache { disk, source, settings, state, arrived, ahead: Mutex::new(None) })
    }

    /// Removes what a cache has left in a data directory that has none any more.
    ///
    /// # Errors
    /// Something there cannot be removed.
    pub fn clear(disk: &dyn Disk) -> io::Result<()> {
        let files = match disk.list(DIR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        files.iter().try_for_each(|(name, _)| disk.remove(&format!("{DIR}/{name}")))
    }

    /// From now on what is likely to be read next is put into this mailbox, for a thread that calls `prefetch`.
    pub fn reads_ahead(self, ahead: Sender<(Object, u32)>) -> BlockCache {
        BlockCache { ahead: Mutex::new(Some(ahead)), ..self }
    }

    /// Nothing more is read ahead, so the thread that does it can end.
    pub fn stop_reading_ahead(&self) {
        *self.ahead.lock() = None;
    }

    /// Bytes of all blocks that are kept.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Reads until `buf` is full or the object ends; the number of bytes read.
    ///
    /// # Errors
    /// Those of the source. A local disk that fails or is full costs the block's place in the cache only.
    pub fn read_at(&self, object: &Object, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let block_bytes = self.settings.block_bytes as u64;
        let end = object.bytes.min(position.saturating_add(buf.len() as u64));
        let mut at = position;
        while at < end {
            let number = u32::try_from(at / block_bytes).map_err(|_| io::Error::other("the object is too long"))?;
            let within = (at % block_bytes) as usize;
            let wanted = (end - at).min(block_bytes - within as u64) as usize;
            let from = (at - position) as usize;
            self.copy(object, number, within, &mut buf[from..from + wanted])?;
            at += wanted as u64;
        }
        Ok(at.saturating_sub(position) as usize)
    }

    /// Forgets an object's blocks, because it is gone or what came of it was damaged.
    pub fn forget(&self, key: &str) {
        let mut state = self.state.lock();
        let ids: Vec<BlockId> = state.blocks.keys().filter(|(of, _)| **of == *key).cloned().collect();
        let gone: Vec<Entry> = ids.iter().filter_map(|id| state.take(id)).collect();
        state.ends.retain(|(of, _), _| **of != *key);
        state.recent.retain(|brought| *brought.key != *key);
        drop(state);
        self.discard(gone);
    }

    fn copy(&self, object: &Object, number: u32, within: usize, out: &mut [u8]) -> io::Result<()> {
        for last in [false, true] {
            match self.block(object, number)? {
                Block::Memory(bytes) => {
                    let part = bytes.get(within..within + out.len());
                    out.copy_from_slice(part.ok_or_else(|| io::Error::other("the store sent less than it has"))?);
                    return Ok(());
                }
                Block::File(file, len) => {
                    let read = file.read_at(out, within as u64);
                    if read.as_ref().is_ok_and(|read| *read == out.len()) && within + out.len() <= len {
                        return Ok(());
                    }
                    // The local copy is no good: it is fetched again, once.
                    self.forget_block(object, number);
                    if last {
                        return Err(read
                            .err()
                            .unwrap_or_else(|| io::Error::other("a block of the cache is cut short")));
                    }
                }
            }
        }
        Ok(())
    }

    fn forget_block(&self, object: &Object, number: u32) {
        let id = (object.key.clone(), number);
        let mut state = self.state.lock();
        state.recent.retain(|brought| !brought.has(&id));
        let gone = state.take(&id);
        drop(state);
        self.discard(gone.into_iter().collect());
    }

    /// The block, fetched if need be. Who comes while somebody fetches it waits for that.
    fn block(&self, object: &Object, number: u32) -> io::Result<Block> {
        let id = (object.key.clone(), number);
        let mut state = self.state.lock();
        loop {
            if let Some((block, then)) = state.hit(&id, self.settings.block_bytes) {
                drop(state);
                self.read_ahead(object, then);
                return Ok(block);
            }
            if !state.fetching.contains(&id) {
                break;
            }
            self.arrived.wait(&mut state);
        }
        let (count, goes_on) = state.plan(object, number, &self.settings);
        drop(state);
        let then = goes_on.then_some(number + count);
        let block = self.bring(object, number, count, None)?;
        self.read_ahead(object, then);
        Ok(block)
    }

    /// Asks for what is likely to be read next, if somebody does that here.
    fn read_ahead(&self, object: &Object, next: Option<u32>) {
        if let (Some(next), Some(ahead)) = (next, &*self.ahead.lock()) {
            // With too much to do already, whoever reads fetches for himself.
            let _ = ahead.try_send((object.clone(), next));
        }
    }

    /// Fetches blocks that somebody will soon read; for the thread that reads ahead. What fails is told to who reads it.
    pub fn prefetch(&self, object: &Object, number: u32) {
        let state = self.state.lock();
        let id = (object.key.clone(), number);
        let is_past = u64::from(number) * self.settings.block_bytes as u64 >= object.bytes;
        if is_past || state.has(&id) || state.fetching.contains(&id) {
            return;
        }
        let mut state = state;
        let (count, _) = state.plan(object, number, &self.settings);
        drop(state);
        let _ = self.bring(object, number, count, Some(number + count));
    }

    /// Fetches `count` blocks with one request and keeps them; gives the first. Whoever first uses that asks for `then`.
    fn bring(&self, object: &Object, number: u32, count: u32, then: Option<u32>) -> io::Result<Block> {
        let result = self.fetch(object, number, count, then);
        let mut state = self.state.lock();
        for block in number..number + count {
            state.fetching.remove(&(object.key.clone(), block));
        }
        match &result {
            Ok(_) => state.reached(&object.key, number + count, count),
            Err(_) => state.counts.failures += 1,
        }
        drop(state);
        self.arrived.notify_all();
        result
    }

    fn fetch(&self, object: &Object, number: u32, count: u32, then: Option<u32>) -> io::Result<Block> {
        let block_bytes = self.settings.block_bytes as u64;
        let from = u64::from(number) * block_bytes;
        let len = (u64::from(count) * block_bytes).min(object.bytes - from) as usize;
        let bytes = self.source.fetch(&object.key, from, len)?;
        if bytes.len() != len {
            let what = format!("the store sent {} bytes of {} for {len}", bytes.len(), object.key);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.state.lock().counts.fetched_bytes += len as u64;
        let bytes = Bytes::from(bytes);
        // The first is used at once, so it is put in last: it must not be what makes room for the others.
        for (at, start) in (0..len).step_by(block_bytes as usize).enumerate().skip(1) {
            let part = bytes.slice(start..len.min(start + block_bytes as usize));
            self.keep((object.key.clone(), number + at as u32), &part, None);
        }
        let first = bytes.slice(..len.min(block_bytes as usize));
        let is_kept = self.keep((object.key.clone(), number), &first, then);
        let then = then.filter(|_| !is_kept);
        let brought = Brought { key: object.key.clone(), number, count, bytes, then };
        self.state.lock().remember(brought, self.settings.memory_bytes_max);
        Ok(Block::Memory(first))
    }

    /// Puts a block into a file, if there is room on the disk.
    fn keep(&self, id: BlockId, bytes: &Bytes, then: Option<u32>) -> bool {
        let len = bytes.len() as u64;
        let is_roomy = self.disk.free_bytes().is_ok_and(|free| free >= self.settings.free_bytes_min + len);
        if len > self.settings.bytes_max || !is_roomy {
            return false;
        }
        let gone = self.state.lock().make_room(self.settings.bytes_max - len);
        self.discard(gone);
        let path = {
            let mut state = self.state.lock();
            state.next_file += 1;
            format!("{DIR}/{:016x}.blk", state.next_file)
        };
        let file = match write(&*self.disk, &path, bytes) {
            Ok(file) => file,
            Err(_) => {
                let _ = self.disk.remove(&path);
                return false;
            }
        };
        let old = self.state.lock().insert(id, Entry { file, path, len: bytes.len(), used: 0, then });
        self.discard(old.into_iter().collect());
        true
    }

    fn discard(&self, gone: Vec<Entry>) {
        for entry in gone {
            // What cannot be removed now goes with the next start.
            let _ = self.disk.remove(&entry.path);
        }
    }
}

fn write(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let mut buf = AlignedBuf::with_capacity(bytes.len());
    buf.extend_from_slice(bytes);
    buf.pad_to_block();
    disk.create(path, buf.len() as u64)?.write_at(&buf, 0)?;
    disk.open(path, OpenMode::Cached)
}

impl State {
    /// The block if it is there, and what to read ahead now.
    fn hit(&mut self, id: &BlockId, block_bytes: usize) -> Option<(Block, Option<u32>)> {
        self.clock += 1;
        let clock = self.clock;
        let (mut found, mut then) = (None, None);
        if let Some(entry) = self.blocks.get_mut(id) {
            self.by_use.remove(&entry.used);
            entry.used = clock;
            self.by_use.insert(clock, id.clone());
            (found, then) = (Some(Block::File(entry.file.clone(), entry.len)), entry.then.take());
        }
        if let Some(brought) = self.recent.iter_mut().find(|brought| brought.has(id)) {
            let from = (id.1 - brought.number) as usize * block_bytes;
            let to = brought.bytes.len().min(from + block_bytes);
            found = Some(Block::Memory(brought.bytes.slice(from..to)));
            then = then.or_else(|| brought.then.take());
        }
        let found = found?;
        self.counts.hits += 1;
        Some((found, then))
    }

    /// Whether a block is there.
    fn has(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id) || self.recent.iter().any(|brought| brought.has(id))
    }

    /// Keeps what was brought in memory, in the place of what was brought first.
    fn remember(&mut self, brought: Brought, bytes_max: usize) {
        self.recent.push_back(brought);
        let mut bytes: usize = self.recent.iter().map(|brought| brought.bytes.len()).sum();
        while bytes > bytes_max {
            let Some(oldest) = self.recent.pop_front() else { break };
            bytes -= oldest.bytes.len();
        }
    }

    /// How many blocks to fetch from `number` on, and whether that goes on from where an earlier request ended: then it is
    /// more each time. They are noted as being fetched.
    fn plan(&mut self, object: &Object, number: u32, settings: &CacheSettings) -> (u32, bool) {
        let blocks = object.bytes.div_ceil(settings.block_bytes as u64);
        let before = self.ends.remove(&(object.key.clone(), number)).map(|(count, _)| count);
        let wanted = before.map_or(1, |count| count.saturating_mul(2)).clamp(1, settings.ahead_blocks_max.max(1));
        let mut count = 0;
        while count < wanted && u64::from(number + count) < blocks {
            let id = (object.key.clone(), number + count);
            if self.has(&id) || !self.fetching.insert(id) {
                break;
            }
            count += 1;
        }
        self.counts.misses += 1;
        self.counts.requests += 1;
        (count.max(1), before.is_some())
    }

    /// Notes that a request for `count` blocks ended before this block.
    fn reached(&mut self, key: &Arc<str>, block: u32, count: u32) {
        self.clock += 1;
        if self.ends.len() >= ENDS_MAX {
            let oldest = self.ends.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            oldest.map(|id| self.ends.remove(&id));
        }
        self.ends.insert((key.clone(), block), (count, self.clock));
    }

    fn insert(&mut self, id: BlockId, mut entry: Entry) -> Option<Entry> {
        self.clock += 1;
        entry.used = self.clock;
        let old = self.take(&id);
        self.bytes += entry.len as u64;
        self.by_use.insert(entry.used, id.clone());
        self.blocks.insert(id, entry);
        old
    }

    fn take(&mut self, id: &BlockId) -> Option<Entry> {
        let entry = self.blocks.remove(id)?;
        self.by_use.remove(&entry.used);
        self.bytes -= entry.len as u64;
        Some(entry)
    }

    /// Takes out what was not used for longest until no more than `bytes_max` are kept.
    fn make_room(&mut self, bytes_max: u64) -> Vec<Entry> {
        let mut gone = Vec::new();
        while self.bytes > bytes_max {
            let Some((_, id)) = self.by_use.pop_first() else { break };
            if let Some(entry) = self.blocks.remove(&id) {
                self.bytes -= entry.len as u64;
                gone.push(entry);
            }
        }
        gone
    }
}
