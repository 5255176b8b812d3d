//! Owns the manifest: what a backup consists of, as text that ends with its own checksum (docs/backup-format.md).

use std::fmt::Write;

use super::{layout, Failure, Kind};
use crate::broker::tiering::StoredObject;
use crate::wal::marker::Marker;
use crate::wal::settings::MetadataStore;
use crate::wal::{segment, SegmentId};
use crate::wire::Uuid;

/// The format that is written; a higher one is refused.
const FORMAT: u32 = 1;

/// What an object is to the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The broker's state as of some group.
    Checkpoint,
    /// A segment that will never change, shared with other backups.
    Segment,
    /// A piece of the beginning of the segment that was being written, shared with other backups. They follow one another.
    Tail,
    /// A file of `--file-metadata`.
    Metadata,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Checkpoint => "checkpoint",
            Role::Segment => "segment",
            Role::Tail => "tail",
            Role::Metadata => "file",
        }
    }
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub role: Role,
    /// Which file of the data directory it is.
    pub path: String,
    /// Where in that file it begins: 0, but for the second piece of a tail and those after it.
    pub start: u64,
    pub bytes: u64,
    /// CRC-32C of all its bytes.
    pub crc: u32,
    /// Which use of the file, of a segment; 0 of what is none.
    pub incarnation: u64,
    /// Where it lies in the store.
    pub key: String,
}

/// A file of the data directory, with the objects that it consists of: one, or the pieces of a tail.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    pub objects: &'a [Object],
}

impl<'a> Whole<'a> {
    fn first(&self) -> &'a Object {
        &self.objects[0]
    }

    pub fn role(&self) -> Role {
        self.first().role
    }

    /// Its path in the data directory.
    pub fn path(&self) -> &'a str {
        &self.first().path
    }

    pub fn bytes(&self) -> u64 {
        self.objects.iter().fold(0, |sum, object| sum.saturating_add(object.bytes))
    }

    /// CRC-32C of all its bytes.
    pub fn crc(&self) -> u32 {
        let combine = |crc, object: &Object| crc32c::crc32c_combine(crc, object.crc, object.bytes as usize);
        self.objects[1..].iter().fold(self.first().crc, combine)
    }
}

/// What a backup holds of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTotal {
    pub name: String,
    pub id: Uuid,
    pub partitions: u32,
    /// Offsets between the partitions' starts and ends: records, and what transactions write beside them.
    pub offsets: u64,
    /// Bytes of its batches.
    pub bytes: u64,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name.
    pub backup: String,
    /// When its data directory was caught, ms since 1970 by the clock of the machine that did it.
    pub time_ms: i64,
    /// Version of the program that made it.
    pub version: String,
    /// What the data directory is.
    pub marker: Marker,
    /// The last group that it contains.
    pub last_group: u64,
    /// Bytes that were sent for it.
    pub new_bytes: u64,
    pub topics: Vec<TopicTotal>,
    pub objects: Vec<Object>,
}

impl Manifest {
    /// Bytes of all objects, those that are shared with other backups included; the largest number for nonsense.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().fold(0, |sum, object| sum.saturating_add(object.bytes))
    }

    /// The files that it holds.
    pub fn files(&self) -> impl Iterator<Item = Whole<'_>> {
        self.objects.chunk_by(|a, b| a.role == Role::Tail && b.role == Role::Tail).map(|objects| Whole { objects })
    }

    /// The whole segments that it names.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentId, StoredObject)> + '_ {
        let segments = self.objects.iter().filter(|object| object.role == Role::Segment);
        segments.filter_map(|object| {
            let id = segment::id_of_path(&object.path)?;
            Some((id, StoredObject { incarnation: object.incarnation, bytes: object.bytes, crc: object.crc }))
        })
    }

    /// The name of its data directory's folder in the store.
    pub fn directory(&self) -> String {
        layout::directory(self.marker.directory)
    }

    /// The text.
    pub fn encode(&self) -> String {
        let marker = &self.marker;
        let metadata = match marker.metadata {
            MetadataStore::Log => "log",
            MetadataStore::Files => "file",
        };
        let mut text = format!("chronik-backup {FORMAT}\nbackup {}\ntime-ms {}\n", self.backup, self.time_ms);
        let mut line = |args: std::fmt::Arguments<'_>| {
            // Writing to a string can't fail.
            let _ = text.write_fmt(args);
            text.push('\n');
        };
        line(format_args!("version {}", self.version));
        line(format_args!("directory {}", self.directory()));
        line(format_args!("cluster {}", marker.cluster));
        line(format_args!("metadata {metadata}"));
        line(format_args!("metadata-since {}", marker.metadata_since));
        line(format_args!("last-group {}", self.last_group));
        line(format_args!("new-bytes {}", self.new_bytes));
        for t in &self.topics {
            let id = layout::directory(t.id);
            line(format_args!("topic {id} {} {} {} {}", t.partitions, t.offsets, t.bytes, t.name));
        }
        for (number, o) in self.objects.iter().enumerate() {
            debug_assert_eq!(o.key, self.key(number, o), "an object lies where its manifest can't say");
            let role = o.role.name();
            line(format_args!("{role} {} {:08x} {:016x} {}", o.bytes, o.crc, o.incarnation, o.path));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "end {crc:08x}");
        text
    }

    /// Where the object of this number lies: follows from what it is.
    fn key(&self, number: usize, object: &Object) -> String {
        key(&self.directory(), &self.backup, number, object)
    }

    /// Reads a manifest that lies in the folder of `directory` under the name `backup`.
    ///
    /// # Errors
    /// Says what is wrong. A sound manifest under another name, or in another folder, is wrong too.
    pub fn parse(bytes: &[u8], directory: &str, backup: &str) -> Result<Manifest, Failure> {
        let wrong = |what: &str| Failure::new(Kind::Damaged, format!("the manifest of backup {backup} {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("is no text"))?;
        // What it begins with is looked at first, because a newer format may end otherwise.
        let format = text.lines().next().and_then(|line| line.strip_prefix("chronik-backup ")?.parse::<u32>().ok());
        match format {
            None => return Err(wrong("does not begin with 'chronik-backup' and its format")),
            Some(FORMAT) => {}
            Some(newer) => {
                let what = format!("has format {newer}, and this program knows format {FORMAT}");
                return Err(Failure::new(Kind::Refused, format!("the manifest of backup {backup} {what}")));
            }
        }
        let sound = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).and_then(|(_, last)| {
            let body = &text[..text.len() - last.len() - 1];
            let crc = u32::from_str_radix(last.strip_prefix("end ")?, 16).ok()?;
            (crc == crc32c::crc32c(body.as_bytes())).then_some(body)
        });
        let body = sound.ok_or_else(|| wrong("has a wrong checksum, or is cut short"))?;
        let manifest = parse_body(body).ok_or_else(|| wrong("has a line that this program does not understand"))?;
        if manifest.backup != backup || manifest.directory() != directory {
            return Err(wrong("is that of another backup"));
        }
        Ok(manifest)
    }
}

fn key(folder: &str, backup: &str, number: usize, object: &Object) -> String {
    match object.role {
        Role::Segment => layout::segment(folder, &object.path, object.incarnation, object.bytes),
        Role::Tail => layout::piece(folder, object),
        _ => layout::own_object(folder, backup, number),
    }
}

fn parse_body(body: &str) -> Option<Manifest> {
    let mut lines = body.lines().skip(1);
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let backup = value("backup").filter(|name| layout::is_backup(name))?;
    let time_ms = value("time-ms")?.parse().ok()?;
    let version = value("version")?;
    let directory = layout::directory_id(&value("directory")?)?;
    let cluster = value("cluster").filter(|cluster| !cluster.is_empty())?;
    let metadata = match value("metadata")?.as_str() {
        "log" => MetadataStore::Log,
        "file" => MetadataStore::Files,
        _ => return None,
    };
    let metadata_since = value("metadata-since")?.parse().ok()?;
    let last_group = value("last-group")?.parse().ok()?;
    let new_bytes = value("new-bytes")?.parse().ok()?;
    let marker = Marker { directory, cluster, metadata, metadata_since };
    let (mut topics, mut objects) = (Vec::new(), Vec::new());
    let folder = layout::directory(directory);
    for line in lines {
        let (kind, rest) = line.split_once(' ')?;
        if kind == "topic" {
            topics.push(parse_topic(rest)?);
            continue;
        }
        let mut object = parse_object(kind, rest)?;
        object.start = start_after(objects.last(), &object)?;
        object.key = key(&folder, &backup, objects.len(), &object);
        objects.push(object);
    }
    Some(Manifest { backup, time_ms, version, marker, last_group, new_bytes, topics, objects })
}

fn parse_topic(text: &str) -> Option<TopicTotal> {
    let mut parts = text.splitn(5, ' ');
    Some(TopicTotal {
        id: layout::directory_id(parts.next()?)?,
        partitions: parts.next()?.parse().ok()?,
        offsets: parts.next()?.parse().ok()?,
        bytes: parts.next()?.parse().ok()?,
        name: parts.next().filter(|name| !name.is_empty())?.to_owned(),
    })
}

/// Where an object begins in its file, after the one that stands before it; `None` if a tail is of several files.
fn start_after(before: Option<&Object>, object: &Object) -> Option<u64> {
    match before.filter(|before| before.role == Role::Tail && object.role == Role::Tail) {
        Some(before) if before.path == object.path && before.incarnation == object.incarnation => {
            before.start.checked_add(before.bytes)
        }
        Some(_) => None,
        None => Some(0),
    }
}

fn parse_object(kind: &str, text: &str) -> Option<Object> {
    let role = [Role::Checkpoint, Role::Segment, Role::Tail, Role::Metadata].into_iter().find(|r| r.name() == kind)?;
    let mut parts = text.splitn(4, ' ');
    Some(Object {
        role,
        start: 0,
        bytes: parts.next()?.parse().ok()?,
        crc: u32::from_str_radix(parts.next()?, 16).ok()?,
        incarnation: u64::from_str_radix(parts.next()?, 16).ok()?,
        path: parts.next().filter(|path| layout::is_path(path))?.to_owned(),
        key: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let marker = Marker {
            directory: Uuid([7; 16]),
            cluster: "some-cluster".into(),
            metadata: MetadataStore::Log,
            metadata_since: 3,
        };
        let object = |role, path: &str, incarnation| Object {
            role,
            path: path.into(),
            start: 0,
            bytes: 4096,
            crc: 0xdead_beef,
            incarnation,
            key: String::new(),
        };
        let mut manifest = Manifest {
            backup: "20261128T161244Z-01ab23".into(),
            time_ms: 1_796_000_000_000,
            version: "0.1.0".into(),
            marker,
            last_group: 99,
            new_bytes: 12,
            topics: vec![TopicTotal { name: "orders".into(), id: Uuid([9; 16]), partitions: 3, offsets: 4, bytes: 5 }],
            objects: vec![
                object(Role::Checkpoint, "checkpoints/00000000000000000099.ckpt", 0),
                object(Role::Segment, "wal/00000000000000000001.log", 5),
                object(Role::Tail, "wal/00000000000000000002.log", u64::MAX),
                Object { start: 4096, ..object(Role::Tail, "wal/00000000000000000002.log", u64::MAX) },
                object(Role::Metadata, "metadata/003-orders", 0),
            ],
        };
        for number in 0..manifest.objects.len() {
            manifest.objects[number].key = manifest.key(number, &manifest.objects[number]);
        }
        manifest
    }

    #[test]
    fn a_manifest_is_read_back_as_written() {
        let manifest = manifest();
        let text = manifest.encode();
        assert_eq!(Manifest::parse(text.as_bytes(), &manifest.directory(), &manifest.backup).unwrap(), manifest);
        let error = Manifest::parse(text.as_bytes(), &manifest.directory(), "another").unwrap_err();
        assert!(error.sentence.contains("another backup"), "{error}");
    }

    #[test]
    fn no_changed_byte_and_no_cut_goes_unnoticed() {
        let manifest = manifest();
        let text = manifest.encode();
        for at in 0..text.len() {
            for changed in [text.as_bytes()[at] ^ 1, b'\n', b'0'] {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] == changed {
                    continue;
                }
                bytes[at] = changed;
                assert!(Manifest::parse(&bytes, &manifest.directory(), &manifest.backup).is_err(), "byte {at}");
            }
            assert!(Manifest::parse(&text.as_bytes()[..at], &manifest.directory(), &manifest.backup).is_err());
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_added_up_without_harm() {
        let mut manifest = manifest();
        manifest.objects.iter_mut().for_each(|object| object.bytes = u64::MAX - 1);
        assert_eq!(manifest.bytes(), u64::MAX);
    }

    #[test]
    fn the_pieces_of_a_tail_are_one_file_and_of_one_file() {
        let manifest = manifest();
        let files: Vec<_> = manifest.files().map(|file| (file.path(), file.bytes(), file.objects.len())).collect();
        let tail = ("wal/00000000000000000002.log", 8192, 2);
        assert_eq!((files.len(), files[2]), (4, tail));
        let both = [vec![7; 4096], vec![8; 4096]];
        let mut pieces = manifest.objects[2..4].to_vec();
        pieces.iter_mut().zip(&both).for_each(|(piece, bytes)| piece.crc = crc32c::crc32c(bytes));
        assert_eq!(Whole { objects: &pieces }.crc(), crc32c::crc32c(&both.concat()));
        let mut other = manifest.clone();
        other.objects[3].path = "wal/00000000000000000003.log".into();
        other.objects[3].key = other.key(3, &other.objects[3]);
        let text = other.encode();
        let error = Manifest::parse(text.as_bytes(), &other.directory(), &other.backup).unwrap_err();
        assert!(error.sentence.contains("does not understand"), "{error}");
    }

    #[test]
    fn a_path_that_leaves_the_directory_is_not_believed() {
        let mut manifest = manifest();
        manifest.objects.truncate(1);
        let text = manifest.encode().replace("checkpoints/00000000000000000099.ckpt", "../../etc/passwd");
        let body = text.rsplit_once("end ").unwrap().0.to_owned();
        let text = format!("{body}end {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let error = Manifest::parse(text.as_bytes(), &manifest.directory(), &manifest.backup).unwrap_err();
        assert!(error.sentence.contains("does not understand"), "{error}");
    }

    #[test]
    fn a_newer_format_is_refused_and_not_called_damaged() {
        let text = "chronik-backup 2\nsomething else\n";
        let error = Manifest::parse(text.as_bytes(), "", "b").unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
    }
}
