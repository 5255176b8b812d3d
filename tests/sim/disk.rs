//! Owns the simulated disk: one data directory with a medium, a cache and a seed that decides what a crash leaves.
//!
//! The disk outlives the process that uses it. `SimDisk::power_cut` draws what the medium holds after a crash of the
//! machine; `SimDisk::process_died` is kill -9, after which the cache is still there. Either makes every handle of the
//! dead process fail. A `Trouble` can be planned for the nth call of some kind, among them a crash in the middle of it.
//! `SimDisk::watch` keeps copies of the disk as it was in the middle of things, so that crashes can be tried out on them
//! while the run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use chronik::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use chronik::wal::frozen;

use super::image::{Image, Inode, TearRules, SECTOR_BYTES};
use super::rng::Rng;

/// Bits of a file that are not what they were.
pub struct Damage {
    pub path: String,
    file: File,
    position: u64,
    mask: u8,
}

impl Damage {
    /// They are again what they were, whatever has become of the file's name.
    pub fn mend(&self) {
        lock(&self.file).rot(self.position, self.mask);
    }
}

/// The kinds of calls that trouble can be planned for and that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Replace,
    Rename,
    Link,
    Remove,
    SyncDir,
}

/// Bytes of a disk with room for everything.
pub const CAPACITY_BYTES: u64 = 1 << 40;

/// The calls after which something may be durable that was not before: where a crash is interesting.
pub const CHANGES: &[Op] =
    &[Op::Create, Op::Write, Op::Sync, Op::Truncate, Op::Replace, Op::Rename, Op::Link, Op::Remove, Op::SyncDir];

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// EIO; the call may have had part of its effect.
    Error,
    /// ENOSPC; of a write a part may have been done.
    Full,
    /// The machine loses power in the middle of the call.
    Cut,
    /// The process dies in the middle of the call.
    Kill,
}

/// Which kinds of damage a crash may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Unsynced blocks may be missing.
    pub drop: bool,
    /// Unsynced blocks may be mixtures of old and new sectors.
    pub torn: bool,
    /// Unsynced blocks may hold sectors of noise.
    pub garbled: bool,
    /// Unsynced creations, renames and removals may be undone, each on its own.
    pub names: bool,
    /// An unsynced change of length may be undone.
    pub length: bool,
    /// New files' space holds what removed files left there.
    pub stale: bool,
}

impl Faults {
    pub const NONE: Faults =
        Faults { drop: false, torn: false, garbled: false, names: false, length: false, stale: false };
    pub const ALL: Faults = Faults { drop: true, torn: true, garbled: true, names: true, length: true, stale: true };

    pub fn drawn(rng: &mut Rng) -> Faults {
        let mut on = || rng.chance(70);
        Faults { drop: on(), torn: on(), garbled: on(), names: on(), length: on(), stale: on() }
    }
}

/// The simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
    /// The life of the process that this handle belongs to.
    life: u64,
}

type File = Arc<Mutex<Inode>>;

struct State {
    rng: Rng,
    faults: Faults,
    capacity_bytes: u64,
    life: u64,
    down: Option<Trouble>,
    names: BTreeMap<String, File>,
    names_durable: BTreeMap<String, File>,
    names_pending: Vec<NameChange>,
    dirs: BTreeSet<String>,
    /// What removed files left on the medium, newest last.
    graveyard: Vec<Image>,
    plans: Vec<Plan>,
    /// Calls that claim to have made something durable and have not.
    lies: Vec<Op>,
    counts: BTreeMap<Op, u64>,
    crashes: u64,
    watch: Option<Watch>,
    trace: Option<Vec<String>>,
}

/// At which calls copies of the disk are kept, and those that nobody has asked for yet.
struct Watch {
    rng: Rng,
    /// Of 100 calls that make something durable, and of 100 others that change the disk.
    sync_percent: u64,
    change_percent: u64,
    moments: Vec<Moment>,
}

/// The disk as it was just before a call.
pub struct Moment {
    /// Which call, for the report.
    pub call: String,
    /// For draws that have to do with this moment only.
    pub seed: u64,
    pub disk: SimDisk,
}

/// Copies that are kept at once; those of later calls are left out.
const MOMENTS_MAX: usize = 64;

/// The calls that make something durable.
const SYNCS: &[Op] = &[Op::Sync, Op::SyncDir, Op::Replace];

struct Plan {
    ops: Vec<Op>,
    /// Part of the path of the file; empty for any.
    path_part: String,
    left: u64,
    trouble: Trouble,
}

/// One creation, removal or rename: names with what they then stand for.
struct NameChange {
    sets: Vec<(String, Option<File>)>,
}

impl SimDisk {
    /// An empty disk of 1 TiB.
    pub fn new(seed: u64, faults: Faults) -> SimDisk {
        let state = State {
            rng: Rng::new(seed),
            faults,
            capacity_bytes: CAPACITY_BYTES,
            life: 0,
            down: None,
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            names_pending: Vec::new(),
            dirs: BTreeSet::from([String::new()]),
            graveyard: Vec::new(),
            plans: Vec::new(),
            lies: Vec::new(),
            counts: BTreeMap::new(),
            crashes: 0,
            watch: None,
            trace: None,
        };
        SimDisk { shared: Arc::new(Mutex::new(state)), life: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Plans `trouble` for the `nth` call (from 1) of any of `ops` on a path that contains `path_part`.
    pub fn plan(&self, ops: &[Op], path_part: &str, nth: u64, trouble: Trouble) {
        let plan = Plan { ops: ops.to_vec(), path_part: path_part.to_string(), left: nth, trouble };
        self.state().plans.push(plan);
    }

    /// From now on `op` (Sync, SyncDir or Replace) succeeds without making anything durable.
    pub fn lie(&self, op: Op) {
        self.state().lies.push(op);
    }

    /// From now on keeps a copy of the disk before so many of 100 calls that make something durable, and of 100 others
    /// that change something.
    pub fn watch(&self, seed: u64, sync_percent: u64, change_percent: u64) {
        self.state().watch = Some(Watch { rng: Rng::new(seed), sync_percent, change_percent, moments: Vec::new() });
    }

    /// The copies since the last time.
    pub fn take_moments(&self) -> Vec<Moment> {
        self.state().watch.as_mut().map(|watch| std::mem::take(&mut watch.moments)).unwrap_or_default()
    }

    /// Forgets what was planned and did not happen.
    pub fn forget_plans(&self) {
        self.state().plans.clear();
    }

    /// How many of `ops` were called in all.
    pub fn count(&self, ops: &[Op]) -> u64 {
        let state = self.state();
        ops.iter().map(|op| state.counts.get(op).copied().unwrap_or(0)).sum()
    }

    /// Changes the size of the filesystem; it may be less than what is in use.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Bytes that the files take.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Flips bits of one byte of a file on the medium.
    pub fn rot(&self, path: &str, position: u64, mask: u8) -> Result<()> {
        self.damage(path, position, mask).map(|_| ())
    }

    /// The same, and it can be taken back.
    pub fn damage(&self, path: &str, position: u64, mask: u8) -> Result<Damage> {
        let file = self.state().file(path)?;
        lock(&file).rot(position, mask);
        Ok(Damage { path: path.to_string(), file, position, mask })
    }

    /// The trouble that a plan brought down on the process, if it has: its owner has to drop everything of it and call
    /// `restart`.
    pub fn is_down(&self) -> Option<Trouble> {
        self.state().down
    }

    /// The machine crashes now; see `restart`.
    pub fn power_cut(&self) -> SimDisk {
        self.state().down = Some(Trouble::Cut);
        self.restart()
    }

    /// The process is killed now; see `restart`.
    pub fn process_died(&self) -> SimDisk {
        self.state().down = Some(Trouble::Kill);
        self.restart()
    }

    /// The disk as the next process finds it: after a planned crash, or after the process ended by itself, as it was.
    pub fn restart(&self) -> SimDisk {
        let mut state = self.state();
        state.life += 1;
        if state.down.take() == Some(Trouble::Cut) {
            state.crash();
        }
        state.note(|| "-- restart".to_string());
        SimDisk { shared: self.shared.clone(), life: state.life }
    }

    /// Another disk with the same on it, without plans and with chances of its own.
    pub fn copied(&self, seed: u64) -> SimDisk {
        let state = self.state();
        SimDisk { shared: Arc::new(Mutex::new(state.copied(seed))), life: state.life }
    }

    /// How often the power was cut.
    pub fn crashes(&self) -> u64 {
        self.state().crashes
    }

    /// Begins to record the calls, for `take_trace`.
    pub fn start_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The calls since the last time.
    pub fn take_trace(&self) -> Vec<String> {
        self.state().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Paths of the files that are whole and are not written to any more: checkpoints, packs, and sealed segments. Second names that
    /// a copy gave them do not count: whoever meets damage there says the first one, and the last segment may have one too.
    pub fn settled(&self) -> Vec<String> {
        let mut paths = self.paths();
        paths.retain(|path| !path.starts_with(&format!("{}/", frozen::DIR)));
        let segments: Vec<&String> = paths.iter().filter(|path| path.ends_with(".log")).collect();
        let sealed = segments.len().saturating_sub(2);
        let others = paths.iter().filter(|path| path.ends_with(".ckpt") || path.ends_with(".seg"));
        segments[..sealed].iter().copied().chain(others).cloned().collect()
    }

    /// Paths of all files as the process sees them.
    pub fn paths(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Whole contents as the process sees them.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let file = self.state().file(path).ok()?;
        let bytes = file.lock().expect("no panic while locked").cached().bytes();
        Some(bytes)
    }

    fn enter(&self, op: Op, path: &str) -> Result<(MutexGuard<'_, State>, Option<Trouble>)> {
        let mut state = self.state();
        if state.life != self.life || state.down.is_some() {
            return Err(Error::other("the process that held this handle is dead"));
        }
        *state.counts.entry(op).or_default() += 1;
        state.keep_moment(op, path);
        let trouble = state.draw_trouble(op, path);
        state.note(|| format!("{op:?} {path} {}", trouble.map(|t| format!("{t:?}")).unwrap_or_default()));
        if let Some(Trouble::Cut | Trouble::Kill) = trouble {
            state.down = trouble;
        }
        if trouble == Some(Trouble::Full) && op != Op::Write {
            return Err(full());
        }
        Ok((state, trouble))
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk(life {})", self.life)
    }
}

impl State {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn keep_moment(&mut self, op: Op, path: &str) {
        let Some(watch) = self.watch.as_mut().filter(|_| CHANGES.contains(&op)) else { return };
        let percent = if SYNCS.contains(&op) { watch.sync_percent } else { watch.change_percent };
        if watch.moments.len() >= MOMENTS_MAX || !watch.rng.chance(percent) {
            return;
        }
        let seed = watch.rng.next_u64();
        let disk = SimDisk { shared: Arc::new(Mutex::new(self.copied(seed))), life: self.life };
        if let Some(watch) = &mut self.watch {
            watch.moments.push(Moment { call: format!("{op:?} {path}"), seed, disk });
        }
    }

    /// The same disk without plans and with chances of its own.
    fn copied(&self, seed: u64) -> State {
        let mut copies: BTreeMap<*const Mutex<Inode>, File> = BTreeMap::new();
        let mut copy = |file: &File| {
            let copied = copies.entry(Arc::as_ptr(file));
            copied.or_insert_with(|| Arc::new(Mutex::new(lock(file).clone()))).clone()
        };
        let names = self.names.iter().map(|(path, file)| (path.clone(), copy(file))).collect();
        let names_durable = self.names_durable.iter().map(|(path, file)| (path.clone(), copy(file))).collect();
        let names_pending = self.names_pending.iter().map(|change| NameChange {
            sets: change.sets.iter().map(|(path, file)| (path.clone(), file.as_ref().map(&mut copy))).collect(),
        });
        State {
            rng: Rng::new(seed),
            faults: self.faults,
            capacity_bytes: CAPACITY_BYTES,
            life: self.life,
            down: None,
            names,
            names_durable,
            names_pending: names_pending.collect(),
            dirs: self.dirs.clone(),
            graveyard: self.graveyard.clone(),
            plans: Vec::new(),
            lies: self.lies.clone(),
            counts: BTreeMap::new(),
            crashes: 0,
            watch: None,
            trace: self.trace.as_ref().map(|_| Vec::new()),
        }
    }

    fn draw_trouble(&mut self, op: Op, path: &str) -> Option<Trouble> {
        let mut due = None;
        for plan in &mut self.plans {
            if plan.left > 0 && plan.ops.contains(&op) && path.contains(&plan.path_part) {
                plan.left -= 1;
                if plan.left == 0 && due.is_none() {
                    due = Some(plan.trouble);
                }
            }
        }
        due
    }

    fn file(&self, path: &str) -> Result<File> {
        self.names.get(path).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{path}: no such file")))
    }

    fn used_bytes(&self) -> u64 {
        // A file of several names takes its space once.
        let mut files: Vec<&File> = self.names.values().collect();
        files.sort_unstable_by_key(|file| Arc::as_ptr(file));
        files.dedup_by_key(|file| Arc::as_ptr(file));
        files.iter().map(|file| lock(file).len().next_multiple_of(BLOCK_BYTES as u64)).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    fn need_dir(&self, path: &str) -> Result<()> {
        if self.dirs.contains(parent(path)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("{path}: no such folder")))
    }

    fn change_names(&mut self, sets: Vec<(String, Option<File>)>) {
        for (path, file) in &sets {
            let old = match file {
                Some(file) => self.names.insert(path.clone(), file.clone()),
                None => self.names.remove(path),
            };
            // What a removed or replaced file held lies about until somebody is given the space.
            if let Some(old) = old.filter(|old| !sets.iter().any(|(_, to)| is_same(to.as_ref(), old))) {
                self.bury(lock(&old).medium().clone());
            }
        }
        self.names_pending.push(NameChange { sets });
    }

    fn bury(&mut self, image: Image) {
        if self.graveyard.len() == 4 {
            self.graveyard.remove(0);
        }
        self.graveyard.push(image);
    }

    /// Makes a folder's changes durable, and those on which they stand.
    fn sync_names(&mut self, dir: &str) {
        let mut paths = BTreeSet::new();
        let mut durable = vec![false; self.names_pending.len()];
        for (at, change) in self.names_pending.iter().enumerate().rev() {
            if change.sets.iter().any(|(path, _)| parent(path) == dir || paths.contains(path)) {
                durable[at] = true;
                paths.extend(change.sets.iter().map(|(path, _)| path.clone()));
            }
        }
        let mut durable = durable.into_iter();
        for change in std::mem::take(&mut self.names_pending) {
            if durable.next() == Some(true) {
                apply(&mut self.names_durable, change);
            } else {
                self.names_pending.push(change);
            }
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let faults = self.faults;
        let as_journal = self.rng.chance(50);
        let mut keep_percent = *self.rng.pick(&[0, 50, 50, 100]).unwrap_or(&50);
        for change in std::mem::take(&mut self.names_pending) {
            if !faults.names || self.rng.chance(keep_percent) {
                apply(&mut self.names_durable, change);
            } else if as_journal {
                keep_percent = 0;
            }
        }
        let keep_percent = *self.rng.pick(&[0, 20, 50, 80, 100]).unwrap_or(&50);
        let rules = TearRules {
            drop: faults.drop,
            torn: faults.torn,
            garbled: faults.garbled,
            length: faults.length,
            keep_percent,
        };
        for (path, file) in std::mem::take(&mut self.names) {
            if !is_same(self.names_durable.get(&path), &file) {
                self.bury(lock(&file).device().clone());
            }
        }
        for file in self.names_durable.values() {
            lock(file).crash(&mut self.rng, rules);
        }
        self.names = self.names_durable.clone();
    }

    /// What lies in the space that a new file is given.
    fn space(&mut self, bytes: u64) -> Image {
        let mut space = Image::zeros(bytes);
        if self.faults.stale && self.rng.chance(60) {
            let shift = if self.rng.chance(70) { 0 } else { self.rng.below(8) };
            if let Some(dead) = self.rng.pick(&self.graveyard) {
                space.fill_stale(dead, shift);
            }
        }
        space
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str, bytes: u64) -> Result<Arc<dyn DiskFile>> {
        check_path(path);
        let (mut state, trouble) = self.enter(Op::Create, path)?;
        state.need_dir(path)?;
        if state.names.contains_key(path) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{path}: exists")));
        }
        if bytes > state.free_bytes() {
            return Err(full());
        }
        if trouble.is_some() && state.rng.chance(50) {
            return Err(failed(Op::Create, path));
        }
        let space = state.space(bytes);
        let file: File = Arc::new(Mutex::new(Inode::reserved(space)));
        state.change_names(vec![(path.to_string(), Some(file.clone()))]);
        if trouble.is_some() {
            return Err(failed(Op::Create, path));
        }
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_string(), file, mode: OpenMode::Direct }))
    }

    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn DiskFile>> {
        check_path(path);
        let (state, trouble) = self.enter(Op::Open, path)?;
        if trouble.is_some() {
            return Err(failed(Op::Open, path));
        }
        let file = state.file(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_string(), file, mode }))
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>> {
        check_path(path);
        let (state, trouble) = self.enter(Op::Read, path)?;
        if trouble.is_some() {
            return Err(failed(Op::Read, path));
        }
        let file = state.file(path)?;
        let inode = lock(&file);
        if inode.len() > bytes_max as u64 {
            return Err(Error::new(ErrorKind::InvalidData, format!("{path}: longer than {bytes_max} bytes")));
        }
        Ok(inode.cached().bytes())
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path);
        let (mut state, trouble) = self.enter(Op::Replace, path)?;
        state.need_dir(path)?;
        if bytes.len() as u64 > state.free_bytes() {
            return Err(full());
        }
        let image = Image::of_bytes(bytes);
        // Where trouble strikes: before anything, after writing, after the fsync, after the rename, after all.
        let step = if trouble.is_some() { state.rng.below(5) } else { 5 };
        let lies = state.lies.contains(&Op::Replace);
        let inode = if step > 1 && !lies { Inode::durable(image) } else { Inode::unsynced(image) };
        let file: File = Arc::new(Mutex::new(inode));
        let temporary = format!("{path}.tmp");
        if step >= 1 {
            state.change_names(vec![(temporary.clone(), Some(file.clone()))]);
        }
        if step >= 3 {
            state.change_names(vec![(temporary, None), (path.to_string(), Some(file))]);
        }
        if step >= 4 && !lies {
            state.sync_names(parent(path));
        }
        if trouble.is_some() {
            return Err(failed(Op::Replace, path));
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        check_path(from);
        check_path(to);
        let (mut state, trouble) = self.enter(Op::Rename, from)?;
        state.need_dir(to)?;
        let file = state.file(from)?;
        if trouble.is_none() || state.rng.chance(50) {
            state.change_names(vec![(from.to_string(), None), (to.to_string(), Some(file))]);
        }
        trouble.map_or(Ok(()), |_| Err(failed(Op::Rename, from)))
    }

    fn link(&self, from: &str, to: &str) -> Result<()> {
        check_path(from);
        check_path(to);
        let (mut state, trouble) = self.enter(Op::Link, from)?;
        state.need_dir(to)?;
        let file = state.file(from)?;
        if state.names.contains_key(to) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{to}: exists")));
        }
        if trouble.is_none() || state.rng.chance(50) {
            state.change_names(vec![(to.to_string(), Some(file))]);
        }
        trouble.map_or(Ok(()), |_| Err(failed(Op::Link, from)))
    }

    fn remove(&self, path: &str) -> Result<()> {
        check_path(path);
        let (mut state, trouble) = self.enter(Op::Remove, path)?;
        state.file(path)?;
        if trouble.is_none() || state.rng.chance(50) {
            state.change_names(vec![(path.to_string(), None)]);
        }
        trouble.map_or(Ok(()), |_| Err(failed(Op::Remove, path)))
    }

    fn list(&self, dir: &str) -> Result<Vec<(String, u64)>> {
        let (state, _) = self.enter(Op::Open, dir)?;
        let dir = folder(dir);
        if !state.dirs.contains(dir) {
            return Err(Error::new(ErrorKind::NotFound, format!("{dir}: no such folder")));
        }
        let here = state.names.iter().filter(|(path, _)| parent(path) == dir);
        Ok(here.map(|(path, file)| (name(path).to_string(), lock(file).len())).collect())
    }

    fn create_dir(&self, dir: &str) -> Result<()> {
        check_path(dir);
        let (mut state, trouble) = self.enter(Op::SyncDir, dir)?;
        if trouble.is_some() {
            return Err(failed(Op::SyncDir, dir));
        }
        let mut dir = folder(dir);
        while !dir.is_empty() {
            state.dirs.insert(dir.to_string());
            dir = parent(dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> Result<()> {
        let (mut state, trouble) = self.enter(Op::SyncDir, dir)?;
        if !state.dirs.contains(folder(dir)) {
            return Err(Error::new(ErrorKind::NotFound, format!("{dir}: no such folder")));
        }
        if (trouble.is_none() || state.rng.chance(50)) && !state.lies.contains(&Op::SyncDir) {
            state.sync_names(folder(dir));
        }
        trouble.map_or(Ok(()), |_| Err(failed(Op::SyncDir, dir)))
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(self.state().free_bytes())
    }
}

/// An open file of the simulated disk.
struct SimFile {
    disk: SimDisk,
    path: String,
    file: File,
    mode: OpenMode,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({}, {:?})", self.path, self.mode)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        assert_ne!(self.mode, OpenMode::Cached, "{}: written through a handle for reading", self.path);
        assert_eq!(position % BLOCK_BYTES as u64, 0, "{}: position of a write is not aligned", self.path);
        assert_eq!(bytes.len() % BLOCK_BYTES, 0, "{}: length of a write is not aligned", self.path);
        assert_eq!(bytes.as_ptr() as usize % BLOCK_BYTES, 0, "{}: buffer of a write is not aligned", self.path);
        let (mut state, trouble) = self.disk.enter(Op::Write, &self.path)?;
        let grows = (position + bytes.len() as u64).saturating_sub(lock(&self.file).len());
        if grows > state.free_bytes() {
            return Err(full());
        }
        let mut inode = lock(&self.file);
        if trouble.is_none() {
            inode.write(bytes, position);
            return Ok(());
        }
        if trouble == Some(Trouble::Full) || state.rng.chance(50) {
            let sectors = state.rng.index(bytes.len() / SECTOR_BYTES);
            inode.write_short(&bytes[..sectors * SECTOR_BYTES], position);
            return Err(if trouble == Some(Trouble::Full) { full() } else { failed(Op::Write, &self.path) });
        }
        for (n, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if state.rng.chance(50) {
                inode.write(block, position + (n * BLOCK_BYTES) as u64);
            }
        }
        Err(failed(Op::Write, &self.path))
    }

    fn sync_data(&self) -> Result<()> {
        let (mut state, trouble) = self.disk.enter(Op::Sync, &self.path)?;
        let mut inode = lock(&self.file);
        match trouble {
            None if state.lies.contains(&Op::Sync) => return Ok(()),
            None => {
                inode.sync();
                return Ok(());
            }
            Some(Trouble::Error) => inode.fail_sync(&mut state.rng),
            // The cut may come after the device has done all of it, and before the caller is told.
            Some(_) if state.rng.chance(50) => inode.sync(),
            Some(_) => {}
        }
        Err(failed(Op::Sync, &self.path))
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        let (_state, trouble) = self.disk.enter(Op::Read, &self.path)?;
        if trouble.is_some() {
            return Err(failed(Op::Read, &self.path));
        }
        let inode = lock(&self.file);
        Ok(match self.mode {
            OpenMode::Cached | OpenMode::Over => inode.cached().read(buf, position),
            OpenMode::Direct => inode.device().read(buf, position),
        })
    }

    fn len(&self) -> Result<u64> {
        Ok(lock(&self.file).len())
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        assert_eq!(self.mode, OpenMode::Direct, "{}: cut through a handle for reading", self.path);
        let (mut state, trouble) = self.disk.enter(Op::Truncate, &self.path)?;
        if trouble.is_none() || state.rng.chance(50) {
            lock(&self.file).truncate(bytes);
        }
        trouble.map_or(Ok(()), |_| Err(failed(Op::Truncate, &self.path)))
    }
}

fn apply(names: &mut BTreeMap<String, File>, change: NameChange) {
    for (path, file) in change.sets {
        match file {
            Some(file) => names.insert(path, file),
            None => names.remove(&path),
        };
    }
}

fn is_same(a: Option<&File>, b: &File) -> bool {
    a.is_some_and(|a| Arc::ptr_eq(a, b))
}

fn lock(file: &File) -> MutexGuard<'_, Inode> {
    file.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn full() -> Error {
    Error::new(ErrorKind::StorageFull, "simulated: no space left on device")
}

fn failed(op: Op, path: &str) -> Error {
    Error::other(format!("simulated: {op:?} of {path} failed"))
}

fn folder(dir: &str) -> &str {
    if dir == "." {
        ""
    } else {
        dir.trim_end_matches('/')
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn check_path(path: &str) {
    let whole = !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | ".."));
    assert!(whole, "{path:?} is not a path within the data directory");
}
