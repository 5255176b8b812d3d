//! Owns the contents of one simulated file: what lies on the medium, what waits to get there, and what readers see.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use chronik::sys::disk::BLOCK_BYTES;

use super::rng::Rng;

/// The unit that a device writes whole; a crash may leave any mixture of old and new ones within a block.
pub const SECTOR_BYTES: usize = 512;

type Block = [u8; BLOCK_BYTES];

/// A sparse file: blocks that are not there read as zeros. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub len: u64,
    blocks: Arc<BTreeMap<u64, Arc<Block>>>,
}

/// The block of zeros that all files share.
fn zero_block() -> Arc<Block> {
    static ZEROS: OnceLock<Arc<Block>> = OnceLock::new();
    ZEROS.get_or_init(|| Arc::new([0; BLOCK_BYTES])).clone()
}

/// A block of these bytes, which are at most as many.
fn block_of(bytes: &[u8]) -> Arc<Block> {
    let zeros = zero_block();
    if zeros[..bytes.len()] == *bytes {
        return zeros;
    }
    let mut block = [0; BLOCK_BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    Arc::new(block)
}

impl Image {
    pub fn zeros(len: u64) -> Image {
        Image { len, blocks: Arc::default() }
    }

    pub fn block(&self, index: u64) -> Arc<Block> {
        self.blocks.get(&index).cloned().unwrap_or_else(zero_block)
    }

    pub fn put(&mut self, index: u64, block: Arc<Block>) {
        Arc::make_mut(&mut self.blocks).insert(index, block);
    }

    pub fn set_len(&mut self, len: u64) {
        let end = len.div_ceil(BLOCK_BYTES as u64);
        if self.blocks.last_key_value().is_some_and(|(index, _)| *index >= end) {
            Arc::make_mut(&mut self.blocks).split_off(&end);
        }
        let tail = (len % BLOCK_BYTES as u64) as usize;
        if len < self.len && tail > 0 {
            if let Some(block) = Arc::make_mut(&mut self.blocks).get_mut(&(len / BLOCK_BYTES as u64)) {
                Arc::make_mut(block)[tail..].fill(0);
            }
        }
        self.len = len;
    }

    /// Fills `buf` as far as the file reaches; the number of bytes.
    pub fn read(&self, buf: &mut [u8], position: u64) -> usize {
        let end = self.len.min(position.saturating_add(buf.len() as u64));
        let total = end.saturating_sub(position) as usize;
        let mut done = 0;
        while done < total {
            let at = position + done as u64;
            let within = (at % BLOCK_BYTES as u64) as usize;
            let n = (BLOCK_BYTES - within).min(total - done);
            match self.blocks.get(&(at / BLOCK_BYTES as u64)) {
                Some(block) => buf[done..done + n].copy_from_slice(&block[within..within + n]),
                None => buf[done..done + n].fill(0),
            }
            done += n;
        }
        total
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut all = vec![0; self.len as usize];
        self.read(&mut all, 0);
        all
    }

    /// A whole file of any length.
    pub fn of_bytes(bytes: &[u8]) -> Image {
        let blocks = bytes.chunks(BLOCK_BYTES).enumerate().map(|(index, chunk)| (index as u64, block_of(chunk)));
        Image { len: bytes.len() as u64, blocks: Arc::new(blocks.collect()) }
    }

    /// Lays `other`'s blocks, moved by `shift` blocks, into this file's range, as space of a removed file would.
    pub fn fill_stale(&mut self, other: &Image, shift: u64) {
        let end = self.len / BLOCK_BYTES as u64;
        let blocks = Arc::make_mut(&mut self.blocks);
        for (index, block) in other.blocks.iter().filter(|(index, _)| **index + shift < end) {
            blocks.insert(index + shift, block.clone());
        }
    }

    fn flip(&mut self, position: u64, mask: u8) {
        let index = position / BLOCK_BYTES as u64;
        let mut block = self.block(index);
        Arc::make_mut(&mut block)[(position % BLOCK_BYTES as u64) as usize] ^= mask;
        self.put(index, block);
    }
}

/// What has not been made durable yet, oldest first.
#[derive(Clone, Debug)]
enum Change {
    Block(u64, Arc<Block>),
    Len(u64),
}

/// What may befall unsynced data in a crash.
#[derive(Clone, Copy, Debug)]
pub struct TearRules {
    pub drop: bool,
    pub torn: bool,
    pub garbled: bool,
    pub length: bool,
    /// Of 100 blocks, how many arrive whole.
    pub keep_percent: u64,
}

/// One file, whatever its name.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// What survives anything but bit rot.
    medium: Image,
    /// What reads past the cache show: the medium and what the device still holds.
    device: Image,
    /// What reads through the cache show: every write, even one that a failed sync lost.
    cached: Image,
    pending: Vec<Change>,
}

impl Inode {
    /// A new file whose length and space are asked for but not durable; `space` is what lies there.
    pub fn reserved(space: Image) -> Inode {
        let mut medium = space.clone();
        medium.len = 0;
        let pending = vec![Change::Len(space.len)];
        Inode { medium, device: space.clone(), cached: space, pending }
    }

    /// A new file that is durable as it stands.
    pub fn durable(image: Image) -> Inode {
        Inode { medium: image.clone(), device: image.clone(), cached: image, pending: Vec::new() }
    }

    /// A new file with contents that nobody synced.
    pub fn unsynced(image: Image) -> Inode {
        let mut pending = vec![Change::Len(image.len)];
        pending.extend(image.blocks.iter().map(|(index, block)| Change::Block(*index, block.clone())));
        Inode { medium: Image::default(), device: image.clone(), cached: image, pending }
    }

    pub fn cached(&self) -> &Image {
        &self.cached
    }

    pub fn device(&self) -> &Image {
        &self.device
    }

    pub fn medium(&self) -> &Image {
        &self.medium
    }

    pub fn len(&self) -> u64 {
        self.cached.len
    }

    /// Whole blocks at a block's position.
    pub fn write(&mut self, bytes: &[u8], position: u64) {
        for (n, chunk) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let index = position / BLOCK_BYTES as u64 + n as u64;
            let block = block_of(chunk);
            self.device.put(index, block.clone());
            self.cached.put(index, block.clone());
            self.pending.push(Change::Block(index, block));
        }
        let end = position + bytes.len() as u64;
        if end > self.cached.len {
            self.device.len = end;
            self.cached.len = end;
            self.pending.push(Change::Len(end));
        }
    }

    /// Whole sectors from a block's position on, of which the last block may be cut short.
    pub fn write_short(&mut self, bytes: &[u8], position: u64) {
        let whole = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
        self.write(&bytes[..whole], position);
        let rest = &bytes[whole..];
        if !rest.is_empty() {
            let at = position + whole as u64;
            let mut block = self.cached.block(at / BLOCK_BYTES as u64).to_vec();
            block[..rest.len()].copy_from_slice(rest);
            self.write(&block, at);
        }
    }

    pub fn truncate(&mut self, len: u64) {
        self.device.set_len(len);
        self.cached.set_len(len);
        self.pending.push(Change::Len(len));
    }

    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Block(index, block) => self.medium.put(index, block),
                Change::Len(len) => self.medium.set_len(len),
            }
        }
    }

    /// fsync failed: some blocks arrived, the others never will, and only the cache still shows them.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        let keep_percent = *rng.pick(&[0, 50, 95]).unwrap_or(&0);
        let rules = TearRules { drop: true, torn: false, garbled: false, length: false, keep_percent };
        self.settle(rng, rules);
        self.device = self.medium.clone();
    }

    /// The power goes: what was unsynced arrives, or not, in pieces; the cache is gone.
    pub fn crash(&mut self, rng: &mut Rng, rules: TearRules) {
        self.settle(rng, rules);
        self.device = self.medium.clone();
        self.cached = self.medium.clone();
    }

    /// Bit rot: on the medium and, as the page was never read, in what readers see.
    pub fn rot(&mut self, position: u64, mask: u8) {
        for image in [&mut self.medium, &mut self.device, &mut self.cached] {
            image.flip(position, mask);
        }
    }

    fn settle(&mut self, rng: &mut Rng, rules: TearRules) {
        let mut lengths = vec![self.medium.len];
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Block(index, block) => {
                    let fate = tear(rng, rules, &self.medium.block(index), &block);
                    self.medium.put(index, fate);
                }
                Change::Len(len) => lengths.push(len),
            }
        }
        let last = lengths.len() - 1;
        let chosen = if rules.length { rng.index(lengths.len()) } else { last };
        let mut len = lengths[chosen];
        if rules.length && chosen > 0 && len > lengths[chosen - 1] && rng.one_in(4) {
            // A file that grew may have grown only part of the way.
            len = rng.range(lengths[chosen - 1], len) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        }
        self.medium.set_len(len);
    }
}

fn tear(rng: &mut Rng, rules: TearRules, old: &Arc<Block>, new: &Arc<Block>) -> Arc<Block> {
    if rng.chance(rules.keep_percent) {
        return new.clone();
    }
    let fates: Vec<u8> = [(0, rules.drop), (1, rules.torn), (2, rules.garbled)]
        .into_iter()
        .filter_map(|(fate, on)| on.then_some(fate))
        .collect();
    let mut block = new.clone();
    match rng.pick(&fates) {
        None => {}
        Some(0) => return old.clone(),
        Some(1) => {
            let sectors = Arc::make_mut(&mut block).chunks_mut(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES));
            for (sector, was) in sectors {
                if rng.chance(50) {
                    sector.copy_from_slice(was);
                }
            }
        }
        Some(_) => {
            for sector in Arc::make_mut(&mut block).chunks_mut(SECTOR_BYTES) {
                if rng.chance(50) {
                    rng.fill(sector);
                }
            }
        }
    }
    block
}
