//! Owns the disk cache of objects: whole blocks in places of large files, fetched once however many ask, under a limit; what was
//! fetched last is in memory too.
//!
//! A block can be read as soon as it has come, while the rest of its request is on its way. Two kinds of threads work for the readers
//! if there are any: those that read ahead, and one that writes what has come to the disk, so that nobody who waits for the store
//! waits for the disk too. What is cached can be fetched again, so nothing here is ever synced, what is not written in time is left
//! out, and a start empties the folder.

mod memory;
mod slabs;
mod state;

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::memory::{Exactly, Lent, Memory, MemoryBlock};
use self::slabs::{Place, Slabs, Unread};
use self::state::{Block, BlockId, Entry, Plan, State};
use crate::limits;
use crate::store::Room;
use crate::sys::allocator;
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Received, Receiver, Sender, Worker};

/// The cache's folder below the data directory.
pub const DIR: &str = "cache";

/// Where blocks come from. Called on the threads that read, several at a time.
pub trait Source: Send + Sync + Debug {
    /// Brings exactly `len` bytes of an object from position `from` on, each once and in order: written, or put into the room that
    /// there is for them.
    ///
    /// # Errors
    /// Whatever keeps them from coming, within a bounded time; `NotFound` when the object is not there.
    fn fetch(&self, key: &str, from: u64, len: usize, room: &mut dyn Room) -> io::Result<()>;
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
    /// Space that is taken from the disk at once, for many blocks.
    pub slab_bytes: u64,
    /// All files together.
    pub bytes_max: u64,
    /// Blocks that one request to the store may bring when an object is read from front to back.
    pub ahead_blocks_max: u32,
    /// What must stay free on the filesystem: below it space is given back, and up to a slab above it none is taken.
    pub free_bytes_min: u64,
    /// What was fetched last is in memory too, up to so much: a reader that goes on need not read it from the disk, and one whose
    /// blocks cannot be kept need not fetch them once for each of its pieces.
    pub memory_bytes_max: usize,
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

/// An object, and the block from which on it is likely to be read next.
#[derive(Debug)]
pub struct Ahead(Object, u32);

impl Ahead {
    /// The block's number.
    pub fn block(&self) -> u32 {
        self.1
    }
}

/// A block that is to be written to the disk.
#[derive(Debug)]
pub struct Behind {
    id: BlockId,
    block: Arc<MemoryBlock>,
    /// How often something had been forgotten when it came.
    forgotten: u64,
}

/// Who works for the readers.
#[derive(Debug, Default)]
struct Helpers {
    ahead: Option<Sender<Ahead>>,
    behind: Option<Sender<Behind>>,
}

/// Blocks of objects on the local disk. Shared by all readers.
#[derive(Debug)]
pub struct BlockCache {
    slabs: Slabs,
    source: Arc<dyn Source>,
    settings: CacheSettings,
    memory: Arc<Memory>,
    state: Mutex<State>,
    arrived: Condvar,
    helpers: Mutex<Helpers>,
}

impl BlockCache {
    /// An empty cache in `DIR`; what an earlier life left there is removed.
    ///
    /// # Errors
    /// The folder cannot be made or emptied.
    pub fn open(disk: Arc<dyn Disk>, source: Arc<dyn Source>, settings: CacheSettings) -> io::Result<BlockCache> {
        disk.create_dir(DIR)?;
        BlockCache::clear(&*disk)?;
        let memory = Memory::new(settings.block_bytes);
        let (state, arrived, helpers) = (Mutex::default(), Condvar::new(), Mutex::default());
        Ok(BlockCache { slabs: Slabs::new(disk, settings), source, settings, memory, state, arrived, helpers })
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

    /// From now on what is likely to be read next is put into this mailbox, for threads that call `prefetch`.
    pub fn reads_ahead(&self, ahead: Sender<Ahead>) {
        self.helpers.lock().ahead = Some(ahead);
    }

    /// From now on what has come is put into this mailbox, for a thread that calls `write_behind`.
    pub fn writes_behind(&self, behind: Sender<Behind>) {
        self.helpers.lock().behind = Some(behind);
    }

    /// Nothing more is read ahead or written, so the threads that do it can end.
    pub fn stop_helpers(&self) {
        *self.helpers.lock() = Helpers::default();
    }

    /// Bytes of all blocks that are kept on the disk.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes()
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Gives memory back that nobody has needed of late.
    pub fn rest(&self) {
        self.state.lock().rest();
        self.memory.release();
        allocator::give_back_what_is_kept();
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

    /// What there is in memory of an object from `position` on, up to the end of a block, fetched if it is nowhere: at least `least`
    /// bytes and at least one. `None` where that lies on the disk, or in more than one block. It keeps the memory of the block.
    ///
    /// # Errors
    /// Those of the source.
    pub fn lend(&self, object: &Object, position: u64, least: usize) -> io::Result<Option<Bytes>> {
        let block_bytes = self.settings.block_bytes as u64;
        let within = (position % block_bytes) as usize;
        let begin = position - within as u64;
        let end = object.bytes.min(begin.saturating_add(block_bytes));
        let Ok(number) = u32::try_from(position / block_bytes) else { return Ok(None) };
        if end.saturating_sub(position) < (least as u64).max(1) {
            return Ok(None);
        }
        let id = (object.key.clone(), number);
        if self.state.lock().is_on_disk_only(&id) {
            return Ok(None);
        }
        let Block::Memory(block) = self.block(object, number)? else { return Ok(None) };
        let is_whole = block.len() as u64 == end - begin;
        // Whoever has come so far has most likely done with the block before.
        if let Some(before) = number.checked_sub(1) {
            self.state.lock().was_read(&(object.key.clone(), before));
        }
        Ok(is_whole.then(|| Bytes::from_owner(Lent(block)).slice(within..)))
    }

    /// Forgets an object's blocks, because it is gone or what came of it was damaged. What is on its way goes to who has asked for it
    /// and is not kept; who waits for it asks anew.
    pub fn forget(&self, key: &str) {
        let gone = self.state.lock().forget_all(key);
        self.arrived.notify_all();
        drop(gone);
        self.slabs.remove_idle();
    }

    fn copy(&self, object: &Object, number: u32, within: usize, out: &mut [u8]) -> io::Result<()> {
        let id = (object.key.clone(), number);
        if out.len() <= self.settings.block_bytes / limits::TIER_PASS_BY_PART && self.state.lock().passes_by(&id) {
            return self.pass_by(object, u64::from(number) * self.settings.block_bytes as u64 + within as u64, out);
        }
        for last in [false, true] {
            let block = match self.block(object, number)? {
                Block::Memory(block) => block,
                Block::Disk(entry) => match self.read(&entry, within, out) {
                    Ok(()) => return Ok(()),
                    Err(Unread::NotNow) => self.fetch_anyway(object, number)?,
                    Err(Unread::Lost(error)) => {
                        // It is fetched again, once.
                        let gone = self.state.lock().forget(&id);
                        drop((entry, gone));
                        self.slabs.remove_idle();
                        if last {
                            return Err(error);
                        }
                        continue;
                    }
                },
            };
            let part = block.get(within..within + out.len());
            out.copy_from_slice(part.ok_or_else(|| io::Error::other("the store sent less than it has"))?);
            if within + out.len() == block.len() {
                self.state.lock().was_read(&id);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Fetches some bytes for one reader alone, and keeps nothing of them.
    fn pass_by(&self, object: &Object, position: u64, out: &mut [u8]) -> io::Result<()> {
        let len = out.len();
        let mut room = Exactly(out);
        let fetched = self.source.fetch(&object.key, position, len, &mut room);
        let fetched = fetched.and_then(|()| match room.0.len() {
            0 => Ok(()),
            missing => Err(sent_less(object, len - missing, len)),
        });
        self.state.lock().passed_by(fetched.is_ok().then_some(len));
        fetched
    }

    fn read(&self, entry: &Entry, within: usize, out: &mut [u8]) -> Result<(), Unread> {
        match within + out.len() <= entry.bytes() {
            true => self.slabs.read(entry.place(), within, out),
            false => Err(Unread::Lost(io::Error::other("a block of the cache is shorter than the object has it"))),
        }
    }

    /// The block, fetched if need be. Who comes while somebody fetches it waits for that.
    fn block(&self, object: &Object, number: u32) -> io::Result<Block> {
        let id = (object.key.clone(), number);
        let mut state = self.state.lock();
        loop {
            if let Some((block, then)) = state.hit(&id) {
                drop(state);
                self.read_ahead(object, then);
                return Ok(block);
            }
            if !state.is_fetching(&id) {
                break;
            }
            self.arrived.wait(&mut state);
        }
        let plan = state.plan(object, number, &self.settings);
        drop(state);
        self.read_ahead(object, plan.goes_on.then_some(number + plan.count));
        self.fetch(object, &plan).map(Block::Memory)
    }

    /// Fetches a block that is on the disk, and stays there.
    fn fetch_anyway(&self, object: &Object, number: u32) -> io::Result<Arc<MemoryBlock>> {
        let plan = self.state.lock().fetches_anyway((object.key.clone(), number));
        self.fetch(object, &plan)
    }

    /// Asks for what is likely to be read next, if somebody does that here.
    fn read_ahead(&self, object: &Object, next: Option<u32>) {
        if let (Some(next), Some(ahead)) = (next, &self.helpers.lock().ahead) {
            // With too much to do already, whoever reads fetches for himself.
            let _ = ahead.try_send(Ahead(object.clone(), next));
        }
    }

    /// Fetches blocks that somebody will soon read; for the threads that read ahead. What fails is told to who reads it.
    pub fn prefetch(&self, Ahead(object, number): &Ahead) {
        let number = *number;
        let id = (object.key.clone(), number);
        let mut state = self.state.lock();
        if u64::from(number) * self.settings.block_bytes as u64 >= object.bytes || state.expects(&id) {
            return;
        }
        if state.share(&object.key, number, &self.settings) == 0 {
            // It would go again before it is used, or push out what others are about to use.
            return;
        }
        let plan = state.plan(object, number, &self.settings);
        state.goes_on(id, number + plan.count);
        drop(state);
        let _ = self.fetch(object, &plan);
    }

    /// Fetches blocks with one request; gives the first.
    fn fetch(&self, object: &Object, plan: &Plan) -> io::Result<Arc<MemoryBlock>> {
        let block_bytes = self.settings.block_bytes as u64;
        let from = u64::from(plan.number) * block_bytes;
        let left = (u64::from(plan.count) * block_bytes).min(object.bytes - from) as usize;
        let (request, next) = (plan.request, plan.number);
        let mut arriving = Arriving { cache: self, object, request, next, left, block: None, first: None };
        let result = self.source.fetch(&object.key, from, left, &mut arriving);
        let Arriving { next, left: missing, first, .. } = arriving;
        if result.is_ok() && missing == 0 {
            return first.ok_or_else(|| io::Error::other("an object without bytes was asked for some"));
        }
        self.state.lock().failed(&object.key, next, plan);
        self.arrived.notify_all();
        result?;
        Err(sent_less(object, left - missing, left))
    }

    /// A whole block is there: whoever waits for it can read it, and it is kept on the disk, by this thread if nobody else does it.
    fn has_come(&self, id: BlockId, request: u64, block: &Arc<MemoryBlock>) {
        let behind = self.helpers.lock().behind.clone();
        let (forgotten, goes_to_disk) = {
            let state = self.state.lock();
            (state.forgotten, state.is_wanted(&id, request) && !state.is_on_disk(&id))
        };
        if goes_to_disk {
            let order = Behind { id: id.clone(), block: Arc::clone(block), forgotten };
            match behind {
                Some(behind) => {
                    if behind.try_send(order).is_err() {
                        // When the disk does not keep up, the cache does without it.
                        self.state.lock().not_kept();
                    }
                }
                None => self.write_behind(&order),
            }
        }
        self.state.lock().arrived(id, request, Arc::clone(block), self.settings.memory_bytes_max);
        self.arrived.notify_all();
    }

    /// Puts a block on the disk, if there is a place for it; for the thread that writes behind.
    pub fn write_behind(&self, order: &Behind) {
        let Some(place) = self.place().and_then(|place| self.slabs.write(place, &order.block)) else {
            self.state.lock().not_kept();
            return;
        };
        let entry = Entry::new(place, order.block.len());
        let mut state = self.state.lock();
        let old = match state.forgotten == order.forgotten {
            true => state.insert(order.id.clone(), entry),
            false => Some(entry),
        };
        drop(state);
        if old.is_some() {
            drop(old);
            self.slabs.remove_idle();
        }
    }

    /// Where the next block goes: to a place that is free, or in that of what was not used for longest.
    fn place(&self) -> Option<Place> {
        if let Some(slab) = self.slabs.give_back() {
            let gone = self.state.lock().forget_slab(slab);
            drop(gone);
        }
        loop {
            if let Some(place) = self.slabs.take() {
                return Some(place);
            }
            // If somebody is reading it, its place is not free yet, and the next one goes too.
            let gone = self.state.lock().take_oldest()?;
            drop(gone);
        }
    }
}

fn sent_less(object: &Object, sent: usize, wanted: usize) -> io::Error {
    let what = format!("the store sent {sent} bytes of {} for {wanted}", object.key);
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// What a request brings, cut into blocks.
struct Arriving<'a> {
    cache: &'a BlockCache,
    object: &'a Object,
    request: u64,
    /// The number of the block that comes.
    next: u32,
    /// Bytes that are still to come.
    left: usize,
    block: Option<MemoryBlock>,
    first: Option<Arc<MemoryBlock>>,
}

impl Arriving<'_> {
    /// The block that comes, with room for a byte at least.
    fn block(&mut self) -> &mut MemoryBlock {
        self.block.get_or_insert_with(|| self.cache.memory.take())
    }
}

impl Room for Arriving<'_> {
    fn room(&mut self) -> &mut [u8] {
        let left = self.left;
        let room = self.block().room();
        let len = room.len().min(left);
        &mut room[..len]
    }

    fn filled(&mut self, count: usize) -> io::Result<()> {
        self.block().filled(count);
        self.left -= count;
        if self.left > 0 && !self.block().room().is_empty() {
            return Ok(());
        }
        let Some(mut block) = self.block.take() else { return Ok(()) };
        block.complete();
        let block = Arc::new(block);
        self.cache.has_come((self.object.key.clone(), self.next), self.request, &block);
        self.next += 1;
        self.first.get_or_insert(block);
        Ok(())
    }
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let room = self.room();
        let count = bytes.len().min(room.len());
        if count > 0 {
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled(count)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the threads that work for who reads through a cache. They end after `stop_helpers`.
///
/// # Errors
/// The system has no more threads.
pub fn start_helpers(cache: &Arc<BlockCache>) -> io::Result<Vec<Worker>> {
    let (ahead, asked) = mailbox(limits::TIER_AHEAD_MAX);
    let (behind, come) = mailbox(limits::TIER_BEHIND_MAX);
    cache.reads_ahead(ahead);
    cache.writes_behind(behind);
    let theirs = Arc::clone(cache);
    let mut workers = vec![Worker::spawn("chronik-behind", move || write_behind(&theirs, &come))?];
    for number in 0..limits::TIER_AHEAD_THREADS {
        let (theirs, asked) = (Arc::clone(cache), asked.clone());
        workers.push(Worker::spawn(&format!("chronik-ahead-{number}"), move || read_ahead(&theirs, &asked))?);
    }
    Ok(workers)
}

/// A thread's work: reads ahead until nobody asks for that any more.
fn read_ahead(cache: &BlockCache, asked: &Receiver<Ahead>) {
    while let Some(ahead) = asked.recv() {
        if cache.helpers.lock().ahead.is_none() {
            // The server stops, and nobody will read it.
            return;
        }
        cache.prefetch(&ahead);
    }
}

/// A thread's work: writes what has come until nothing comes any more, and gives memory back when nothing has come for a while.
fn write_behind(cache: &BlockCache, come: &Receiver<Behind>) {
    let mut rests_at = None;
    loop {
        match come.recv_until(rests_at) {
            Received::Message(behind) => {
                cache.write_behind(&behind);
                drop(behind);
                rests_at = Some(Instant::now() + Duration::from_secs(limits::TIER_MEMORY_KEPT_SECONDS));
            }
            Received::TimedOut => {
                cache.rest();
                rests_at = None;
            }
            Received::Closed => return,
        }
    }
}
