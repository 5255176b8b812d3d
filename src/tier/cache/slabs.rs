//! Owns the files of the cache: slabs with places for many blocks each, whose space is taken at once.
//!
//! Making a file for each block took twice the processor's time that writing it took, and space that a file has is used again for
//! nothing. Who was given a place reads the block that was there then, or none: nobody writes to a place that somebody has, though
//! the slab may go. Files are open for one read or write only, because a large cache has more slabs than there are descriptors to
//! spare.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::memory::MemoryBlock;
use super::{CacheSettings, DIR};
use crate::sys::disk::{Disk, OpenMode};

/// The folder of the cache on its disk.
#[derive(Debug)]
pub struct Slabs {
    disk: Arc<dyn Disk>,
    settings: CacheSettings,
    held: Arc<Mutex<Held>>,
    /// Taken by who makes a slab, which takes longer than anybody should wait for `held`.
    growing: Mutex<()>,
}

/// What the disk holds.
#[derive(Debug, Default)]
struct Held {
    /// By their numbers, the oldest first.
    slabs: BTreeMap<u64, Slab>,
    /// Places without a block. Those of old slabs are used first, so that young ones become empty.
    free: BTreeSet<(u64, u32)>,
    /// Space of all slabs, and of files that could not be removed.
    bytes: u64,
    /// The number of the last slab that was made, or was to be.
    made: u64,
}

/// One file.
#[derive(Debug)]
struct Slab {
    bytes: u64,
    /// Places that somebody has.
    used: u32,
}

/// Room for a block, which nobody else writes to before this is dropped.
#[derive(Debug)]
pub struct Place {
    held: Arc<Mutex<Held>>,
    slab: u64,
    number: u32,
    /// Writing there has failed, and is not tried again.
    is_spoilt: bool,
}

/// Why a block was not read.
#[derive(Debug)]
pub enum Unread {
    /// It is not there, or no good.
    Lost(io::Error),
    /// Its file cannot be opened now, for want of descriptors perhaps, which says nothing about the block.
    NotNow,
}

impl Place {
    /// The number of its slab.
    pub fn slab(&self) -> u64 {
        self.slab
    }

    /// The first that is free.
    fn free(held: &Arc<Mutex<Held>>) -> Option<Place> {
        let mut all = held.lock();
        let (slab, number) = all.free.pop_first()?;
        all.slabs.get_mut(&slab)?.used += 1;
        Some(Place { held: Arc::clone(held), slab, number, is_spoilt: false })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        let Some(slab) = held.slabs.get_mut(&self.slab) else { return };
        slab.used -= 1;
        if !self.is_spoilt {
            held.free.insert((self.slab, self.number));
        }
    }
}

impl Slabs {
    /// None yet.
    pub fn new(disk: Arc<dyn Disk>, settings: CacheSettings) -> Slabs {
        Slabs { disk, settings, held: Arc::default(), growing: Mutex::default() }
    }

    /// A place that is free, in a new slab if no other has one and there is room.
    pub fn take(&self) -> Option<Place> {
        if let Some(place) = Place::free(&self.held) {
            return Some(place);
        }
        let _growing = self.growing.lock();
        // Who was here before has made one perhaps.
        Place::free(&self.held).or_else(|| self.grow().and_then(|()| Place::free(&self.held)))
    }

    /// Makes a slab, as large as the bounds allow. As much as a whole one is left free beyond what has to be, so that what was given
    /// back is not taken again at once.
    fn grow(&self) -> Option<()> {
        let block_bytes = self.settings.block_bytes as u64;
        let slab_bytes = self.settings.slab_bytes.max(block_bytes);
        let left = self.settings.bytes_max.saturating_sub(self.held.lock().bytes);
        if left < block_bytes {
            return None;
        }
        let stays = self.settings.free_bytes_min.saturating_add(slab_bytes);
        let spare = self.disk.free_bytes().ok()?.saturating_sub(stays);
        let places = u32::try_from(slab_bytes.min(left).min(spare) / block_bytes).ok()?;
        let bytes = u64::from(places) * block_bytes;
        if places == 0 {
            return None;
        }
        let number = {
            let mut held = self.held.lock();
            held.made += 1;
            held.made
        };
        if self.disk.create(&path(number), bytes).is_err() {
            let _ = self.disk.remove(&path(number));
            return None;
        }
        let mut held = self.held.lock();
        held.bytes += bytes;
        held.slabs.insert(number, Slab { bytes, used: 0 });
        held.free.extend((0..places).map(|place| (number, place)));
        Some(())
    }

    /// When less of the filesystem is free than is to stay free: removes the slab that holds least, and gives its number, for its
    /// blocks to be forgotten.
    pub fn give_back(&self) -> Option<u64> {
        if self.disk.free_bytes().map_or(true, |free| free >= self.settings.free_bytes_min) {
            return None;
        }
        let number = self.held.lock().slabs.iter().min_by_key(|(_, slab)| slab.used).map(|(number, _)| *number)?;
        self.remove(|_, of| of == number);
        Some(number)
    }

    /// Removes the slabs of which nothing is used.
    pub fn remove_idle(&self) {
        self.remove(|slab, _| slab.used == 0);
    }

    /// Of slabs that go nothing is used again. A file that cannot be removed now goes with the next start, and counts until then.
    fn remove(&self, goes: impl Fn(&Slab, u64) -> bool) {
        let mut gone = Vec::new();
        {
            let mut held = self.held.lock();
            held.slabs.retain(|number, slab| {
                let stays = !goes(slab, *number);
                if !stays {
                    gone.push((*number, slab.bytes));
                }
                stays
            });
            held.free.retain(|(slab, _)| gone.iter().all(|(number, _)| number != slab));
        }
        for (number, bytes) in gone {
            match self.disk.remove(&path(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => self.held.lock().bytes -= bytes,
            }
        }
    }

    /// Writes a block to its place. Where that fails nothing is written again, because it might fail for each block that comes.
    pub fn write(&self, mut place: Place, block: &MemoryBlock) -> Option<Place> {
        let written = match self.disk.open(&path(place.slab), OpenMode::Over) {
            Ok(file) => file.write_at(block.padded(), self.position(&place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody else has removed the file.
                self.remove(|_, number| number == place.slab);
                return None;
            }
            Err(_) => return None,
        };
        if written.is_ok() {
            return Some(place);
        }
        place.is_spoilt = true;
        drop(place);
        self.remove_idle();
        None
    }

    /// Fills `out` with what is in a place from `within` on.
    pub fn read(&self, place: &Place, within: usize, out: &mut [u8]) -> Result<(), Unread> {
        let file = match self.disk.open(&path(place.slab), OpenMode::Cached) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Lost(error)),
            Err(_) => return Err(Unread::NotNow),
        };
        let read = file.read_at(out, self.position(place) + within as u64).map_err(Unread::Lost)?;
        match read == out.len() {
            true => Ok(()),
            false => Err(Unread::Lost(io::Error::other("a block of the cache is cut short"))),
        }
    }

    fn position(&self, place: &Place) -> u64 {
        u64::from(place.number) * self.settings.block_bytes as u64
    }
}

fn path(slab: u64) -> String {
    format!("{DIR}/{slab:016x}.slab")
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::sys::disk::BLOCK_BYTES;
    use crate::sys::real_disk::{RealDisk, Writing};

    const LEN: usize = 2 * BLOCK_BYTES;

    fn block(byte: u8, len: usize) -> MemoryBlock {
        let mut block = Memory::new(LEN).take();
        block.room()[..len].fill(byte);
        block.filled(len);
        block.complete();
        block
    }

    /// Slabs of two blocks, for three in all.
    fn slabs(name: &str, writing: Writing) -> (std::path::PathBuf, Arc<dyn Disk>, Slabs) {
        let root = std::env::temp_dir().join(format!("chronik-{name}-{}-{writing:?}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&root, writing).unwrap());
        disk.create_dir(DIR).unwrap();
        let settings = CacheSettings {
            block_bytes: LEN,
            slab_bytes: 2 * LEN as u64,
            bytes_max: 4 * LEN as u64 - 1,
            ahead_blocks_max: 1,
            free_bytes_min: 0,
            memory_bytes_max: 0,
        };
        (root, Arc::clone(&disk), Slabs::new(disk, settings))
    }

    fn byte_of(slabs: &Slabs, place: &Place) -> Result<u8, Unread> {
        let mut byte = [0];
        slabs.read(place, LEN - 6, &mut byte).map(|()| byte[0])
    }

    /// The real trouble would be a reader that is given another block's bytes.
    #[test]
    fn a_place_is_used_again_when_nobody_has_it_any_more_and_not_before() {
        for writing in [Writing::Auto, Writing::Buffered] {
            let (root, disk, slabs) = slabs("places", writing);
            let write = |byte, len| slabs.write(slabs.take().unwrap(), &block(byte, len)).unwrap();
            let mut places = vec![write(1, LEN), write(2, LEN), write(3, LEN)];
            assert!(slabs.take().is_none());
            let sizes: Vec<u64> = disk.list(DIR).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(sizes, [2 * LEN as u64, LEN as u64]);
            let reading = places.remove(1);
            drop(places.remove(0));
            places.push(write(4, LEN - 5));
            assert!(slabs.take().is_none());
            let bytes = [&places[0], &reading, &places[1]].map(|place| byte_of(&slabs, place).unwrap());
            assert_eq!(bytes, [3, 2, 4]);
            slabs.remove_idle();
            assert_eq!(disk.list(DIR).unwrap().len(), 2);
            drop(places);
            slabs.remove_idle();
            assert_eq!((byte_of(&slabs, &reading).unwrap(), disk.list(DIR).unwrap().len()), (2, 1));
            drop(reading);
            slabs.remove_idle();
            assert!(disk.list(DIR).unwrap().is_empty());
            std::fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn a_slab_that_is_gone_has_no_places_and_no_bytes() {
        let (root, disk, mut slabs) = slabs("gone", Writing::Auto);
        let write = |slabs: &Slabs, byte| slabs.write(slabs.take().unwrap(), &block(byte, LEN)).unwrap();
        let places = [write(&slabs, 1), write(&slabs, 2), write(&slabs, 3)];
        slabs.settings.free_bytes_min = u64::MAX;
        // The one with one block is the cheapest.
        assert_eq!(slabs.give_back(), Some(2));
        assert!(matches!(byte_of(&slabs, &places[2]), Err(Unread::Lost(_))));
        assert!(byte_of(&slabs, &places[1]).is_ok() && slabs.take().is_none());
        slabs.settings.free_bytes_min = 0;
        assert_eq!(slabs.give_back(), None);
        let again = write(&slabs, 4);
        assert_eq!((again.slab(), byte_of(&slabs, &again).unwrap()), (3, 4));
        // Nobody may, but somebody removes a file.
        disk.remove(&path(3)).unwrap();
        drop(again);
        assert!(slabs.write(slabs.take().unwrap(), &block(5, LEN)).is_none());
        assert_eq!(byte_of(&slabs, &write(&slabs, 6)).unwrap(), 6);
        drop(places);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
