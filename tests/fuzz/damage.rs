//! Owns damage to the files of a data directory: a row of changes read from bytes, and checksums made right again, so that what
//! lies behind them is reached too.

use std::collections::BTreeMap;

/// What happens to one file. Positions count from its beginning and are taken modulo its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Bits of one byte turn over.
    Flip { position: u64, mask: u8 },
    /// Other bytes stand there.
    Overwrite { position: u64, bytes: Vec<u8> },
    /// A page of the medium is zeros.
    ZeroPage { page: u64 },
    /// Whole sectors hold noise, which the number makes.
    Noise { sector: u64, count: u64, seed: u64 },
    /// A page holds what belongs elsewhere in the file, as after a write that went astray.
    StrayPage { from: u64, to: u64 },
    /// The file ends there.
    Cut { position: u64 },
    /// The file is not there.
    Gone,
}

/// A change and the file that it happens to.
pub type Change = (String, Harm);

pub const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// Changes in one row.
const CHANGES_MAX: usize = 6;

/// Takes bytes off the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = self.0.get(..3)?;
        self.0 = &self.0[3..];
        Some(u64::from(bytes[0]) << 16 | u64::from(bytes[1]) << 8 | u64::from(bytes[2]))
    }
}

/// Reads a row of changes. `files` are those that may be hurt, in order; the first byte of a change chooses one of them.
pub fn read(input: &[u8], files: &[&String]) -> Vec<Change> {
    let mut bytes = Bytes(input);
    let mut changes = Vec::new();
    while let (Some(change), true) = (next(&mut bytes, files), changes.len() < CHANGES_MAX) {
        changes.push(change);
    }
    changes
}

fn next(bytes: &mut Bytes<'_>, files: &[&String]) -> Option<Change> {
    let file = files.get(usize::from(bytes.byte()?) % files.len().max(1))?;
    let kind = bytes.byte()?;
    let at = bytes.number()?;
    let harm = match kind % 16 {
        0..=4 => Harm::Flip { position: at, mask: bytes.byte()?.max(1) },
        5..=7 => {
            let len = usize::from(bytes.byte()?).min(bytes.0.len());
            let (taken, rest) = bytes.0.split_at(len);
            let harm = Harm::Overwrite { position: at, bytes: taken.to_vec() };
            bytes.0 = rest;
            harm
        }
        8 | 9 => Harm::ZeroPage { page: at },
        10 | 11 => Harm::Noise { sector: at, count: u64::from(bytes.byte()?) % 24 + 1, seed: at },
        12 => Harm::StrayPage { from: bytes.number()?, to: at },
        13 | 14 => Harm::Cut { position: at },
        _ => Harm::Gone,
    };
    Some(((*file).clone(), harm))
}

/// Does the changes. Files that are not there, or empty, stay as they are.
pub fn apply(files: &mut BTreeMap<String, Vec<u8>>, changes: &[Change]) {
    for (path, harm) in changes {
        if *harm == Harm::Gone {
            files.remove(path);
        } else if let Some(bytes) = files.get_mut(path).filter(|bytes| !bytes.is_empty()) {
            hurt(bytes, harm);
        }
    }
}

fn hurt(bytes: &mut Vec<u8>, harm: &Harm) {
    let len = bytes.len();
    let within = |position: u64| position as usize % len;
    let page = |number: u64| number as usize % len.div_ceil(PAGE) * PAGE;
    match harm {
        Harm::Flip { position, mask } => bytes[within(*position)] ^= mask,
        Harm::Overwrite { position, bytes: new } => {
            let from = within(*position);
            let count = new.len().min(len - from);
            bytes[from..from + count].copy_from_slice(&new[..count]);
        }
        Harm::ZeroPage { page: number } => bytes[page(*number)..len.min(page(*number) + PAGE)].fill(0),
        Harm::Noise { sector, count, seed } => {
            let from = *sector as usize % len.div_ceil(SECTOR) * SECTOR;
            let end = len.min(from + *count as usize * SECTOR);
            crate::sim::rng::Rng::new(*seed).fill(&mut bytes[from..end]);
        }
        Harm::StrayPage { from, to } => {
            let (from, to) = (page(*from), page(*to));
            let count = PAGE.min(len - from).min(len - to);
            bytes.copy_within(from..from + count, to);
        }
        Harm::Cut { position } => bytes.truncate(within(*position)),
        Harm::Gone => {}
    }
}

/// Makes the checksums of a file of the log right for what stands there.
pub fn reseal(path: &str, bytes: &mut [u8]) {
    match path.split('/').next() {
        Some("wal" | "packs") => segment(bytes),
        Some("checkpoints") => checkpoint(bytes),
        _ => {}
    }
}

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn checkpoint(bytes: &mut [u8]) {
    const HEAD: usize = 72;
    if bytes.len() < HEAD {
        return;
    }
    let len = (bytes.len() - HEAD) as u64;
    bytes[56..64].copy_from_slice(&len.to_be_bytes());
    put(bytes, 64, crc32c::crc32c(&bytes[HEAD..]));
    put(bytes, 68, crc32c::crc32c(&bytes[..68]));
}

/// Header, every group that begins on a page, index pages, trailer (docs/log-format.md).
fn segment(bytes: &mut [u8]) {
    if bytes.len() < PAGE {
        return;
    }
    put(bytes, 60, crc32c::crc32c(&bytes[..60]));
    let identity = bytes[16..48].to_vec();
    let seed = crc32c::crc32c(&identity);
    let mut at = PAGE;
    while at + PAGE <= bytes.len() {
        if bytes[at..].starts_with(b"CHRONGRP") {
            group(&mut bytes[at..], &identity, seed);
        }
        at += PAGE;
    }
    footer(bytes, &identity, seed);
}

fn group(bytes: &mut [u8], identity: &[u8], seed: u32) {
    const HEAD: usize = 96;
    const RUN: usize = 64;
    bytes[8..40].copy_from_slice(identity);
    let count = number(&bytes[68..]);
    let (mut at, mut digest) = (HEAD, 0);
    for _ in 0..count {
        let Some(len) = bytes.get(at..at + RUN).map(number) else { break };
        let Some(content) = bytes.get(at + RUN..).and_then(|rest| rest.get(..len)) else { break };
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &bytes[at + 8..at + RUN]), content);
        put(bytes, at + 4, crc);
        digest = crc32c::crc32c_append(digest, &bytes[at + 4..at + 8]);
        at += RUN + len;
    }
    put(bytes, 72, digest);
    put(bytes, 92, crc32c::crc32c_append(seed, &bytes[..92]));
}

fn footer(bytes: &mut [u8], identity: &[u8], seed: u32) {
    const TRAILER: usize = 128;
    let at = bytes.len() - TRAILER;
    if !bytes[at..].starts_with(b"CHRONEND") {
        return;
    }
    bytes[at + 8..at + 40].copy_from_slice(identity);
    let begin = u64::from_be_bytes(bytes[at + 40..at + 48].try_into().unwrap()) as usize;
    let pages = number(&bytes[at + 68..]);
    let directory = begin.saturating_add(pages.saturating_mul(PAGE));
    if directory.saturating_add(pages.saturating_mul(36)) <= at {
        for page in bytes[begin..directory].chunks_mut(PAGE) {
            let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &page[..4]), &page[8..]);
            put(page, 4, crc);
        }
        let crc = crc32c::crc32c_append(seed, &bytes[directory..directory + pages * 36]);
        put(bytes, at + 88, crc);
    }
    put(bytes, at + 124, crc32c::crc32c_append(seed, &bytes[at..at + 124]));
}

#[test]
fn checksums_that_are_made_right_are_what_they_were_in_sound_files() {
    for (path, bytes) in &super::image::image().files {
        let mut again = bytes.clone();
        reseal(path, &mut again);
        assert!(again == *bytes, "{path}");
    }
}

#[test]
fn every_harm_changes_a_file() {
    let path = super::image::image().files.keys().find(|path| path.ends_with(".log")).unwrap().clone();
    let sound = super::image::image().files[&path].clone();
    let harms = [
        Harm::Flip { position: 5000, mask: 1 },
        Harm::Overwrite { position: 6000, bytes: b"other bytes".to_vec() },
        Harm::ZeroPage { page: 2 },
        Harm::Noise { sector: 9, count: 3, seed: 1 },
        Harm::StrayPage { from: 1, to: 3 },
        Harm::Cut { position: 9000 },
        Harm::Gone,
    ];
    for harm in harms {
        let mut files = BTreeMap::from([(path.clone(), sound.clone())]);
        apply(&mut files, &[(path.clone(), harm.clone())]);
        assert_ne!(files.get(&path), Some(&sound), "{harm:?}");
    }
    assert_eq!(
        read(&[0, 15, 0, 0, 0, 0, 13, 0, 16, 0], &[&path]),
        [(path.clone(), Harm::Gone), (path, Harm::Cut { position: 4096 })]
    );
}
