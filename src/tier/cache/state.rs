//! Owns what the cache knows of its blocks: which are on the disk, in memory, or on their way, and what goes first.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::memory::MemoryBlock;
use super::slabs::Place;
use super::{CacheSettings, Counts, Object};

/// A block of an object, by its number.
pub type BlockId = (Arc<str>, u32);

/// Places that are remembered, of each kind.
const PLACES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct State {
    /// On the disk.
    blocks: HashMap<BlockId, Entry>,
    /// By when they were last used: what goes first.
    by_use: BTreeMap<u64, BlockId>,
    /// Somebody is bringing these.
    fetching: HashSet<BlockId>,
    /// In memory, the oldest first.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// Where a request ended, and how many blocks it brought: who goes on there is given more at once.
    ends: Places,
    /// What to read ahead when this block is first used.
    then: Places,
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
        if let Some(recent) = self.recent.iter().find(|recent| recent.is(id)) {
            found = Some(Block::Memory(Arc::clone(&recent.block)));
        }
        let found = found?;
        self.counts.hits += 1;
        Some((found, self.then.take(id)))
    }

    /// Whether a block is there, or on its way.
    pub fn expects(&self, id: &BlockId) -> bool {
        self.fetching.contains(id) || self.has(id)
    }

    /// Whether somebody is bringing a block.
    pub fn is_fetching(&self, id: &BlockId) -> bool {
        self.fetching.contains(id)
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

    /// How many blocks to fetch from `number` on, and whether that goes on from where an earlier request ended: then it is
    /// more each time. They are noted as being fetched.
    pub fn plan(&mut self, object: &Object, number: u32, settings: &CacheSettings) -> (u32, bool) {
        let blocks = object.bytes.div_ceil(settings.block_bytes as u64);
        let before = self.ends.take(&(object.key.clone(), number));
        let wanted = before.map_or(1, |count| count.saturating_mul(2)).clamp(1, settings.ahead_blocks_max.max(1));
        let mut count = 0;
        while count < wanted && u64::from(number + count) < blocks {
            let id = (object.key.clone(), number + count);
            if self.has(&id) || !self.fetching.insert(id) {
                break;
            }
            count += 1;
        }
        let count = count.max(1);
        self.counts.misses += 1;
        self.counts.requests += 1;
        self.clock += 1;
        self.ends.put((object.key.clone(), number + count), count, self.clock);
        (count, before.is_some())
    }

    /// A block is fetched though it is there.
    pub fn fetches_anyway(&mut self) {
        self.counts.misses += 1;
        self.counts.requests += 1;
    }

    /// Who first uses a block asks for `then`.
    pub fn goes_on(&mut self, id: BlockId, then: u32) {
        self.clock += 1;
        self.then.put(id, then, self.clock);
    }

    /// A block has come: nobody brings it any more, and it stays in memory in the place of others.
    pub fn arrived(&mut self, id: BlockId, block: Arc<MemoryBlock>, bytes_max: usize) {
        self.counts.fetched_bytes += block.len() as u64;
        self.fetching.remove(&id);
        self.recent_bytes += block.memory_bytes();
        self.recent.push_back(Recent { id, block, is_read: false });
        while self.recent_bytes > bytes_max {
            let at = self.recent.iter().position(|recent| recent.is_read).unwrap_or(0);
            let Some(gone) = self.recent.remove(at) else { break };
            self.recent_bytes -= gone.block.memory_bytes();
        }
    }

    /// Blocks do not come after all.
    pub fn failed(&mut self, key: &Arc<str>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.fetching.remove(&(key.clone(), number));
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

    /// Forgets an object's blocks; gives their places.
    pub fn forget_all(&mut self, key: &str) -> Vec<Entry> {
        self.forgotten += 1;
        let ids: Vec<BlockId> = self.blocks.keys().filter(|(of, _)| **of == *key).cloned().collect();
        self.drop_recent(|(of, _)| **of == *key);
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

/// Places of objects with a number each, of which the oldest go first.
#[derive(Debug, Default)]
struct Places {
    by_id: HashMap<BlockId, (u32, u64)>,
}

impl Places {
    fn put(&mut self, id: BlockId, number: u32, clock: u64) {
        if self.by_id.len() >= PLACES_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, (_, put))| *put).map(|(id, _)| id.clone());
            oldest.map(|id| self.by_id.remove(&id));
        }
        self.by_id.insert(id, (number, clock));
    }

    fn take(&mut self, id: &BlockId) -> Option<u32> {
        self.by_id.remove(id).map(|(number, _)| number)
    }

    fn forget(&mut self, key: &str) {
        self.by_id.retain(|(of, _), _| **of != *key);
    }
}
