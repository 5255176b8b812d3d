//! Owns what the cache knows of its blocks: which are on the disk, in memory, or on their way, and what goes first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::memory::MemoryBlock;
use super::slabs::Place;
use super::{CacheSettings, Counts, Object};

/// A block of an object, by its number.
pub type BlockId = (Arc<str>, u32);

/// Places that are remembered, of each kind.
const PLACES_MAX: usize = 1024;

/// Requests to the store for which the disk is not reckoned with when it did not take a block, and for which there is a crowd when a
/// reader had no share.
const REMEMBERED_REQUESTS: u64 = 32;

/// Requests of a reader during which those of others tell how many they are. A reader may be so many times as fast as the others.
const REQUESTS_SEEN: usize = 4;

/// The last request of somebody who may go on where it ended.
#[derive(Clone, Copy, Debug)]
struct Request {
    blocks: u32,
    /// It went on from an earlier one.
    goes_on: bool,
    /// When the ones before it were made, the oldest first; the first one of all if there were not so many.
    before: [u64; REQUESTS_SEEN],
}

/// A request to the store.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its own number.
    pub request: u64,
    /// The first block that it brings, and how many.
    pub number: u32,
    pub count: u32,
    /// It begins where an earlier one ended.
    pub goes_on: bool,
}

#[derive(Debug, Default)]
pub struct State {
    /// On the disk.
    blocks: HashMap<BlockId, Entry>,
    /// By when they were last used: what goes first.
    by_use: BTreeMap<u64, BlockId>,
    /// These are on their way, each by the request of this number.
    fetching: HashMap<BlockId, u64>,
    /// In memory, what was not used for longest first.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// Where a request ended, and what it brought: who goes on there is given more at once.
    ends: Places<Request>,
    /// What to read ahead when this block is first used.
    then: Places<u32>,
    /// A block on the disk had to make room for another, so the disk holds no more than it does.
    is_full: bool,
    /// The number of requests to the store from which on the disk counts again, after a block that it did not take.
    kept_from: u64,
    /// And up to which memory has no room but for what each reader is reading.
    crowded_to: u64,
    /// Bytes on the disk.
    bytes: u64,
    clock: u64,
    /// How often something was forgotten: what was on its way to the disk then is not kept.
    pub forgotten: u64,
    pub counts: Counts,
}

/// A block on the disk.
#[derive(Clone, Debug)]
pub struct Entry {
    place: Arc<Place>,
    len: usize,
    used: u64,
}

/// A block, wherever it is.
#[derive(Debug)]
pub enum Block {
    Disk(Entry),
    Memory(Arc<MemoryBlock>),
}

#[derive(Debug)]
struct Recent {
    id: BlockId,
    block: Arc<MemoryBlock>,
    /// A reader has come to its end, so it is likely not to be read again.
    is_read: bool,
}

impl Entry {
    pub fn new(place: Place, len: usize) -> Entry {
        Entry { place: Arc::new(place), len, used: 0 }
    }

    /// Where it is. Nobody writes there for as long as somebody has the entry.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Bytes of the object; zeros may follow them on the disk.
    pub fn bytes(&self) -> usize {
        self.len
    }
}

impl State {
    /// The block if it is there, and what to read ahead now.
    pub fn hit(&mut self, id: &BlockId) -> Option<(Block, Option<u32>)> {
        self.clock += 1;
        let clock = self.clock;
        let mut found = None;
        if let Some(entry) = self.blocks.get_mut(id) {
            self.by_use.remove(&entry.used);
            entry.used = clock;
            self.by_use.insert(clock, id.clone());
            found = Some(Block::Disk(entry.clone()));
        }
        if let Some(at) = self.recent.iter().position(|recent| recent.is(id)) {
            if let Some(recent) = self.recent.remove(at) {
                found = Some(Block::Memory(Arc::clone(&recent.block)));
                self.recent.push_back(Recent { is_read: false, ..recent });
            }
        }
        let found = found?;
        self.counts.hits += 1;
        Some((found, self.then.take(id)))
    }

    /// Whether a block is there, or on its way.
    pub fn expects(&self, id: &BlockId) -> bool {
        self.is_fetching(id) || self.has(id)
    }

    /// Whether somebody is bringing a block.
    pub fn is_fetching(&self, id: &BlockId) -> bool {
        self.fetching.contains_key(id)
    }

    /// Whether what a request brings is to be kept: not when the object was forgotten since it was made.
    pub fn is_wanted(&self, id: &BlockId, request: u64) -> bool {
        self.fetching.get(id) == Some(&request)
    }

    /// Whether a block is on the disk.
    pub fn is_on_disk(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    /// Whether a block would have to be read from the disk.
    pub fn is_on_disk_only(&self, id: &BlockId) -> bool {
        self.is_on_disk(id) && !self.is_in_memory(id)
    }

    fn is_in_memory(&self, id: &BlockId) -> bool {
        self.recent.iter().any(|recent| recent.is(id))
    }

    fn has(&self, id: &BlockId) -> bool {
        self.is_on_disk(id) || self.is_in_memory(id)
    }

    /// What to fetch from `number` on: where that goes on from where an earlier request ended, it is more each time, up to the reader's
    /// share. The blocks are noted as being fetched.
    pub fn plan(&mut self, object: &Object, number: u32, settings: &CacheSettings) -> Plan {
        let blocks = object.bytes.div_ceil(settings.block_bytes as u64);
        let share = self.share(&object.key, number, settings);
        let before = self.before(&object.key, number, settings);
        if let Some((end, _)) = before {
            self.ends.take(&(object.key.clone(), end));
        }
        let wanted = match before {
            Some((end, request)) if end == number => request.blocks.saturating_mul(2).clamp(1, share.max(1)),
            _ => 1,
        };
        self.counts.misses += 1;
        self.counts.requests += 1;
        if share == 0 && before.is_some() {
            self.crowded_to = self.counts.requests + REMEMBERED_REQUESTS;
        }
        self.clock += 1;
        let request = self.counts.requests;
        let mut count = 0;
        while count < wanted && u64::from(number + count) < blocks {
            let id = (object.key.clone(), number + count);
            if self.expects(&id) {
                break;
            }
            self.fetching.insert(id, request);
            count += 1;
        }
        let count = count.max(1);
        if u64::from(number + count) < blocks {
            let mut made = before.map_or([self.clock; REQUESTS_SEEN], |(_, request)| request.before);
            made.rotate_left(1);
            made[REQUESTS_SEEN - 1] = self.clock;
            let made = Request { blocks: count, goes_on: before.is_some(), before: made };
            self.ends.put((object.key.clone(), number + count), made, self.clock);
        }
        Plan { request, number, count, goes_on: before.is_some() }
    }

    /// How many blocks a request may bring that goes on at `number`, so that what is read ahead for all who read on stays until it is
    /// used: for each of them what a request has brought, as much again that is read ahead of it, and a block that it looks things up
    /// in. Those are counted who have made requests since this reader has made its last few.
    pub fn share(&self, key: &Arc<str>, number: u32, settings: &CacheSettings) -> u32 {
        let Some(room) = self.room(settings) else { return settings.ahead_blocks_max };
        let own = self.before(key, number, settings);
        let since = own.map_or(self.clock, |(_, request)| request.before[0]);
        let own = own.map(|(end, _)| (key.clone(), end));
        let others = self.ends.put_after(since).filter(|(of, _)| own.as_ref() != Some(of));
        let (mut readers, mut single) = (1, 0);
        others.for_each(|(_, request)| if request.goes_on { readers += 1 } else { single += 1 });
        let each = room.saturating_sub(single) / readers;
        u32::try_from(each.saturating_sub(1) / 2).unwrap_or(u32::MAX).min(settings.ahead_blocks_max)
    }

    /// The request that one for `number` goes on from, and where that ended: there, or not far behind, when what it brought is gone
    /// before it was used.
    fn before(&self, key: &Arc<str>, number: u32, settings: &CacheSettings) -> Option<(u32, Request)> {
        let ends = number..=number.saturating_add(2 * settings.ahead_blocks_max);
        ends.into_iter().find_map(|end| self.ends.get(&(key.clone(), end)).map(|request| (end, request)))
    }

    /// Blocks for which there is room, in memory and on the disk; `None` as long as the disk has not had to make room. Half of what it
    /// holds was read already.
    fn room(&self, settings: &CacheSettings) -> Option<u64> {
        let disk = match self.counts.requests >= self.kept_from && settings.bytes_max >= settings.block_bytes as u64 {
            true if !self.is_full => return None,
            true => self.blocks.len() as u64 / 2,
            false => 0,
        };
        Some((settings.memory_bytes_max / settings.block_bytes) as u64 + disk)
    }

    /// A block that has come is not on the disk, because that has no room, fails, or does not keep up.
    pub fn not_kept(&mut self) {
        self.kept_from = self.counts.requests + REMEMBERED_REQUESTS;
    }

    /// Whether a few bytes of a block are to be fetched without the rest of it: a reader that looks something up would push out a block
    /// that another one is reading.
    pub fn passes_by(&self, id: &BlockId) -> bool {
        self.counts.requests < self.crowded_to && !self.expects(id)
    }

    /// So many bytes have come without a block, or none.
    pub fn passed_by(&mut self, bytes: Option<usize>) {
        self.counts.misses += 1;
        self.counts.requests += 1;
        self.counts.fetched_bytes += bytes.unwrap_or(0) as u64;
        self.counts.failures += u64::from(bytes.is_none());
    }

    /// A block is fetched though it is there.
    pub fn fetches_anyway(&mut self, id: BlockId) -> Plan {
        self.counts.misses += 1;
        self.counts.requests += 1;
        let (request, number) = (self.counts.requests, id.1);
        self.fetching.entry(id).or_insert(request);
        Plan { request, number, count: 1, goes_on: false }
    }

    /// Who first uses a block asks for `then`.
    pub fn goes_on(&mut self, id: BlockId, then: u32) {
        self.clock += 1;
        self.then.put(id, then, self.clock);
    }

    /// A block has come: nobody brings it any more, and it stays in memory in the place of others, if it is still wanted.
    pub fn arrived(&mut self, id: BlockId, request: u64, block: Arc<MemoryBlock>, bytes_max: usize) {
        self.counts.fetched_bytes += block.len() as u64;
        if !self.is_wanted(&id, request) {
            return;
        }
        self.fetching.remove(&id);
        self.recent_bytes += block.memory_bytes();
        self.recent.push_back(Recent { id, block, is_read: false });
        while self.recent_bytes > bytes_max {
            let at = self.recent.iter().position(|recent| recent.is_read).unwrap_or(0);
            let Some(gone) = self.recent.remove(at) else { break };
            self.recent_bytes -= gone.block.memory_bytes();
        }
    }

    /// Blocks do not come after all: those from `next` on.
    pub fn failed(&mut self, key: &Arc<str>, next: u32, plan: &Plan) {
        for number in next..plan.number + plan.count {
            let id = (key.clone(), number);
            if self.is_wanted(&id, plan.request) {
                self.fetching.remove(&id);
            }
        }
        self.counts.failures += 1;
    }

    /// A reader has come to a block's end.
    pub fn was_read(&mut self, id: &BlockId) {
        if let Some(recent) = self.recent.iter_mut().find(|recent| recent.is(id)) {
            recent.is_read = true;
        }
    }

    /// Nothing is in memory any more.
    pub fn rest(&mut self) {
        self.recent = VecDeque::new();
        self.recent_bytes = 0;
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A block is on the disk; gives what was there in its place.
    pub fn insert(&mut self, id: BlockId, mut entry: Entry) -> Option<Entry> {
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

    /// Forgets a block; gives its place.
    pub fn forget(&mut self, id: &BlockId) -> Option<Entry> {
        self.forgotten += 1;
        self.drop_recent(|of| of == id);
        self.take(id)
    }

    /// Forgets an object's blocks, those on their way too; gives the places of what is on the disk.
    pub fn forget_all(&mut self, key: &str) -> Vec<Entry> {
        self.forgotten += 1;
        let ids: Vec<BlockId> = self.blocks.keys().filter(|(of, _)| **of == *key).cloned().collect();
        self.drop_recent(|(of, _)| **of == *key);
        self.fetching.retain(|(of, _), _| **of != *key);
        self.ends.forget(key);
        self.then.forget(key);
        ids.iter().filter_map(|id| self.take(id)).collect()
    }

    fn drop_recent(&mut self, is_gone: impl Fn(&BlockId) -> bool) {
        self.recent.retain(|recent| !is_gone(&recent.id));
        self.recent_bytes = self.recent.iter().map(|recent| recent.block.memory_bytes()).sum();
    }

    /// Takes out what was not used for longest.
    pub fn take_oldest(&mut self) -> Option<Entry> {
        let (_, id) = self.by_use.pop_first()?;
        self.is_full = true;
        let entry = self.blocks.remove(&id)?;
        self.bytes -= entry.len as u64;
        Some(entry)
    }

    /// Takes out what is in a slab.
    pub fn forget_slab(&mut self, slab: u64) -> Vec<Entry> {
        let there = self.blocks.iter().filter(|(_, entry)| entry.place.slab() == slab);
        let ids: Vec<BlockId> = there.map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.take(id)).collect()
    }
}

impl Recent {
    fn is(&self, id: &BlockId) -> bool {
        self.id.1 == id.1 && self.id.0 == id.0
    }
}

/// What is known of places of objects, of which the oldest go first.
#[derive(Debug)]
struct Places<T> {
    by_id: HashMap<BlockId, (T, u64)>,
}

impl<T> Default for Places<T> {
    fn default() -> Places<T> {
        Places { by_id: HashMap::new() }
    }
}

impl<T: Copy> Places<T> {
    fn put(&mut self, id: BlockId, known: T, clock: u64) {
        if self.by_id.len() >= PLACES_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, (_, put))| *put).map(|(id, _)| id.clone());
            oldest.map(|id| self.by_id.remove(&id));
        }
        self.by_id.insert(id, (known, clock));
    }

    fn get(&self, id: &BlockId) -> Option<T> {
        self.by_id.get(id).map(|(known, _)| *known)
    }

    /// Those that were put later than that.
    fn put_after(&self, clock: u64) -> impl Iterator<Item = (&BlockId, T)> {
        self.by_id.iter().filter(move |(_, (_, put))| *put > clock).map(|(id, (known, _))| (id, *known))
    }

    fn take(&mut self, id: &BlockId) -> Option<T> {
        self.by_id.remove(id).map(|(known, _)| known)
    }

    fn forget(&mut self, key: &str) {
        self.by_id.retain(|(of, _), _| **of != *key);
    }
}
