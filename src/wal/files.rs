//! Owns the `--file-metadata` store: the live entries of each (table, scope) in a file of their own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use byteorder::{BigEndian, ByteOrder};
use bytes::Bytes;

use super::{ballast, MetaEntry, RecoverError, DECIDING_TABLE};
use crate::limits;
use crate::sys::disk::Disk;

/// The folder of the files.
pub const DIR: &str = "metadata";
const MAGIC: &[u8; 8] = b"CHRONMET";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;
const NAME_BYTES_MAX: usize = 200;
const NAME_BYTES_KEPT: usize = 150;

/// Writes entries to their files.
#[derive(Debug)]
pub struct MetaFiles {
    disk: Arc<dyn Disk>,
}

/// The live entries of one table and scope.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    table: u8,
    scope: Bytes,
    entries: BTreeMap<Bytes, Bytes>,
}

impl MetaFiles {
    /// Opens the store, making its folder.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<MetaFiles> {
        disk.create_dir(DIR)?;
        Ok(MetaFiles { disk })
    }

    /// Writes the values that a group sets, before the group itself. Of several changes of a key the last one counts.
    pub fn set(&mut self, entries: &[MetaEntry]) -> io::Result<()> {
        self.change(entries, true)
    }

    /// Carries out the removals of a group, after the group itself.
    pub fn remove(&mut self, entries: &[MetaEntry]) -> io::Result<()> {
        self.change(entries, false)
    }

    fn change(&mut self, entries: &[MetaEntry], sets: bool) -> io::Result<()> {
        for ((table, scope), keys) in by_file(entries) {
            let wanted: Vec<_> = keys.into_iter().filter(|(_, value)| value.is_some() == sets).collect();
            if wanted.is_empty() {
                continue;
            }
            let (path, old) = self.find(table, &scope)?;
            let mut content = old.unwrap_or_else(|| Content { table, scope, entries: BTreeMap::new() });
            let before = content.entries.clone();
            for (key, value) in wanted {
                match value {
                    Some(value) => content.entries.insert(key, value),
                    None => content.entries.remove(&key),
                };
            }
            if content.entries != before {
                self.store(&path, &content)?;
            }
        }
        Ok(())
    }

    fn store(&self, path: &str, content: &Content) -> io::Result<()> {
        if content.entries.is_empty() {
            self.disk.remove(path)?;
            return self.disk.sync_dir(DIR);
        }
        let bytes = encode(content)?;
        ballast::spend(&*self.disk, || self.disk.replace(path, &bytes))
    }

    /// The file of a table and scope, with what it holds if it exists.
    fn find(&self, table: u8, scope: &Bytes) -> io::Result<(String, Option<Content>)> {
        let mut free = None;
        // Only shortened names can be shared; a free one among them says nothing about those behind it.
        let candidates = if is_shortened(scope) { limits::META_FILE_TWINS_MAX } else { 1 };
        for number in 0..candidates {
            let path = format!("{DIR}/{}", file_name(table, scope, number));
            let bytes = match self.disk.read(&path, limits::META_FILE_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    free.get_or_insert(path);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let content = parse(&bytes)
                .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {}", what.text())))?;
            if content.table == table && content.scope == *scope {
                return Ok((path, Some(content)));
            }
        }
        match free {
            Some(path) => Ok((path, None)),
            None => Err(io::Error::other("too many metadata files share a name")),
        }
    }
}

type Keys = BTreeMap<Bytes, Option<Bytes>>;

/// The entries by their files, the deciding table first: what recovery carries out by it may still be missing then.
fn by_file(entries: &[MetaEntry]) -> Vec<((u8, Bytes), Keys)> {
    let mut files: BTreeMap<(u8, Bytes), Keys> = BTreeMap::new();
    for entry in entries {
        let keys = files.entry((entry.table, entry.scope.clone())).or_default();
        keys.insert(entry.key.clone(), entry.value.clone());
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by_key(|((table, _), _)| *table != DECIDING_TABLE);
    files
}

/// Hands over every entry of the store, file by file. An absent folder is an empty store.
pub fn load(disk: &dyn Disk, take: &mut dyn FnMut(MetaEntry)) -> Result<(), RecoverError> {
    let files = match disk.list(DIR) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RecoverError::Io { what: "listing metadata files".to_string(), error }),
    };
    for (name, _) in files {
        if !name.ends_with(".tmp") {
            load_file(disk, &name, take)?;
        }
    }
    Ok(())
}

/// Hands over every entry of one file of the store.
pub fn load_file(disk: &dyn Disk, name: &str, take: &mut dyn FnMut(MetaEntry)) -> Result<(), RecoverError> {
    let path = format!("{DIR}/{name}");
    let bytes = disk.read(&path, limits::META_FILE_BYTES_MAX).map_err(RecoverError::io("reading a metadata file"))?;
    let content = match parse(&bytes) {
        Ok(content) => content,
        Err(Unreadable::Newer(version)) => return Err(RecoverError::Newer { file: path, version, supported: VERSION }),
        Err(Unreadable::Damaged(what)) => return Err(RecoverError::lost(path, 0, what)),
    };
    let Content { table, scope, entries } = content;
    for (key, value) in entries {
        take(MetaEntry { table, scope: scope.clone(), key, value: Some(value) });
    }
    Ok(())
}

/// Removes every file of the store.
pub fn clear(disk: &dyn Disk) -> io::Result<()> {
    let files = match disk.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for (name, _) in files {
        disk.remove(&format!("{DIR}/{name}"))?;
    }
    disk.sync_dir(DIR)
}

/// `number` tells scopes apart whose shortened names are the same.
fn file_name(table: u8, scope: &[u8], number: u32) -> String {
    let mut name = format!("{table:03}-{}", escaped(scope));
    if is_shortened(scope) {
        name.truncate(NAME_BYTES_KEPT);
        write!(name, "~{:08x}-{number}", crc32c::crc32c(scope)).expect("writing to a string cannot fail");
    } else if name.ends_with(".tmp") {
        // A name that ends like a temporary file would be passed over.
        name.truncate(name.len() - 1);
        name.push_str("%70");
    }
    name
}

fn is_shortened(scope: &[u8]) -> bool {
    escaped(scope).len() > NAME_BYTES_MAX
}

/// As much of a scope's safe spelling as can matter.
fn escaped(scope: &[u8]) -> String {
    let mut name = String::new();
    for byte in scope {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(*byte as char),
            // Capitals too, as some filesystems take them for the same letters.
            _ => write!(name, "%{byte:02x}").expect("writing to a string cannot fail"),
        }
        if name.len() > NAME_BYTES_MAX {
            break;
        }
    }
    name
}

fn encode(content: &Content) -> io::Result<Vec<u8>> {
    let mut out = vec![0; HEADER_BYTES];
    out[..8].copy_from_slice(MAGIC);
    BigEndian::write_u16(&mut out[8..10], VERSION);
    out[16] = content.table;
    BigEndian::write_u32(&mut out[20..24], content.scope.len() as u32);
    BigEndian::write_u32(&mut out[24..28], content.entries.len() as u32);
    out.extend_from_slice(&content.scope);
    for (key, value) in &content.entries {
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    if out.len() > limits::META_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("a metadata file of {} bytes is too long", out.len())));
    }
    let crc = crc32c::crc32c(&out[16..]);
    BigEndian::write_u32(&mut out[12..16], crc);
    Ok(out)
}

enum Unreadable {
    Damaged(&'static str),
    Newer(u16),
}

impl Unreadable {
    fn text(&self) -> String {
        match self {
            Unreadable::Damaged(what) => what.to_string(),
            Unreadable::Newer(version) => format!("it has format {version}"),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Content, Unreadable> {
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(Unreadable::Damaged("it is no metadata file"));
    }
    let version = BigEndian::read_u16(&bytes[8..10]);
    if version > VERSION {
        return Err(Unreadable::Newer(version));
    }
    if BigEndian::read_u32(&bytes[12..16]) != crc32c::crc32c(&bytes[16..]) {
        return Err(Unreadable::Damaged("its CRC is wrong"));
    }
    let mut rest = &bytes[HEADER_BYTES..];
    let mut take = |len: usize| -> Result<Bytes, Unreadable> {
        let (part, after) = rest.split_at_checked(len).ok_or(Unreadable::Damaged("an entry is cut short"))?;
        rest = after;
        Ok(Bytes::copy_from_slice(part))
    };
    let scope = take(BigEndian::read_u32(&bytes[20..24]) as usize)?;
    let mut entries = BTreeMap::new();
    for _ in 0..BigEndian::read_u32(&bytes[24..28]) {
        let lengths = take(8)?;
        let key = take(BigEndian::read_u32(&lengths[..4]) as usize)?;
        let value = take(BigEndian::read_u32(&lengths[4..]) as usize)?;
        entries.insert(key, value);
    }
    Ok(Content { table: bytes[16], scope, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_on_any_filesystem_and_tell_scopes_apart() {
        assert_eq!(file_name(3, b"orders-1.x", 0), "003-orders-1.x");
        assert_eq!(file_name(3, b"Or/d", 0), "003-%4fr%2fd");
        assert_eq!(file_name(3, b"", 0), "003-");
        assert_eq!(file_name(3, b"a.tmp", 0), "003-a.tm%70");
        let long = vec![b'x'; 30_000];
        assert!(file_name(3, &long, 0).len() < 200);
        assert_ne!(file_name(3, &long, 0), file_name(3, &long, 1));
        assert_ne!(file_name(3, &long, 0), file_name(3, &long[1..], 0));
    }

    #[test]
    fn files_of_the_deciding_table_are_written_before_the_others() {
        let entry = |table: u8, scope: &'static str| MetaEntry {
            table,
            scope: Bytes::from_static(scope.as_bytes()),
            key: Bytes::new(),
            value: Some(Bytes::new()),
        };
        let entries = [entry(5, "b"), entry(DECIDING_TABLE, "z"), entry(1, "c"), entry(DECIDING_TABLE, "a")];
        let order: Vec<(u8, Bytes)> = by_file(&entries).into_iter().map(|(file, _)| file).collect();
        let named: Vec<(u8, &[u8])> = order.iter().map(|(table, scope)| (*table, &scope[..])).collect();
        assert_eq!(named, [(DECIDING_TABLE, &b"a"[..]), (DECIDING_TABLE, b"z"), (1, b"c"), (5, b"b")]);
    }

    #[test]
    fn content_comes_back_and_damage_never_panics() {
        let entries = BTreeMap::from([(Bytes::from_static(b"k"), Bytes::from_static(b"v"))]);
        let content = Content { table: 9, scope: Bytes::from_static(b"s"), entries };
        let mut bytes = encode(&content).unwrap();
        assert!(parse(&bytes).is_ok_and(|back| back == content));
        for at in 0..bytes.len() {
            assert!(parse(&bytes[..at]).is_err());
            bytes[at] ^= 0x40;
            let _ = parse(&bytes);
            bytes[at] ^= 0x40;
        }
    }
}
