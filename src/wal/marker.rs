//! Owns `chronik.dir`, the text file that says what a data directory is.

use std::fmt::Write;
use std::io;

use super::settings::{Entropy, MetadataStore};
use super::{GroupSeq, RecoverError};
use crate::sys::disk::Disk;
use crate::wire::Uuid;

/// Name of the marker.
pub const PATH: &str = "chronik.dir";
/// Stands in a directory while a backup is being restored into it: what is there is not whole yet.
pub const RESTORING: &str = "chronik.restoring";
const FORMAT: u16 = 1;
/// Longest marker, bytes.
pub(super) const BYTES_MAX: usize = 64 << 10;

/// What a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Random; stands in every segment.
    pub directory: Uuid,
    /// Kafka's cluster id.
    pub cluster: String,
    pub metadata: MetadataStore,
    /// With metadata in the log: a replay must start from a checkpoint of at least this group.
    pub metadata_since: GroupSeq,
}

impl Marker {
    /// A new directory's marker with random ids.
    pub fn generate(metadata: MetadataStore, entropy: &mut Entropy) -> io::Result<Marker> {
        let directory = Uuid(entropy.next_id()?);
        let cluster = base64url(&entropy.next_id()?);
        Ok(Marker { directory, cluster, metadata, metadata_since: 0 })
    }

    /// Reads the marker; `None` when there is none.
    pub fn load(disk: &dyn Disk) -> Result<Option<Marker>, RecoverError> {
        let bytes = match disk.read(PATH, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RecoverError::Io { what: "reading the marker".to_string(), error }),
        };
        let text = String::from_utf8_lossy(&bytes);
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::trim);
        let damaged = |what: &str| RecoverError::lost(PATH, 0, what);
        let version: u16 =
            value("format").and_then(|v| v.parse().ok()).ok_or_else(|| damaged("it does not state its format"))?;
        if version > FORMAT {
            return Err(RecoverError::Newer { file: PATH.to_string(), version, supported: FORMAT });
        }
        let directory =
            value("directory").and_then(parse_hex).ok_or_else(|| damaged("no directory id of 32 hex digits"))?;
        let cluster = value("cluster").filter(|v| !v.is_empty()).ok_or_else(|| damaged("no cluster id"))?.to_string();
        let metadata = match value("metadata") {
            Some("log") => MetadataStore::Log,
            Some("file") => MetadataStore::Files,
            _ => return Err(damaged("metadata is neither 'log' nor 'file'")),
        };
        let metadata_since = match value("metadata-since") {
            None => 0,
            Some(since) => since.parse().map_err(|_| damaged("metadata-since is no number"))?,
        };
        Ok(Some(Marker { directory: Uuid(directory), cluster, metadata, metadata_since }))
    }

    /// Writes the marker atomically and durably.
    pub fn store(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.replace(PATH, self.text().as_bytes())
    }

    /// What stands in the file.
    pub fn text(&self) -> String {
        let mut text = format!("format {FORMAT}\ndirectory ");
        for byte in self.directory.0 {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        let metadata = match self.metadata {
            MetadataStore::Log => "log",
            MetadataStore::Files => "file",
        };
        let since = self.metadata_since;
        write!(text, "\ncluster {}\nmetadata {metadata}\nmetadata-since {since}\n", self.cluster)
            .expect("writing to a string cannot fail");
        text
    }

    /// Refuses the other store, saying what converts.
    pub fn check_store(&self, asked: MetadataStore) -> Result<(), RecoverError> {
        let how = match (self.metadata, asked) {
            (MetadataStore::Log, MetadataStore::Files) => {
                "keeps its metadata in the log, and --file-metadata was given. Start without --file-metadata, or convert \
                 it once with --file-metadata --convert-metadata"
            }
            (MetadataStore::Files, MetadataStore::Log) => {
                "keeps its metadata in files. Start with --file-metadata, or convert it once with --convert-metadata"
            }
            _ => return Ok(()),
        };
        Err(RecoverError::OtherStore(format!("this data directory {how}")))
    }
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| (d as char).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(id)
}

/// Base64 with the URL alphabet and without padding (RFC 4648, section 5), as Kafka shows ids.
fn base64url(id: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(22);
    for chunk in id.chunks(3) {
        let mut bits = 0u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for digit in 0..=chunk.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63] as char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_as_kafka_does() {
        assert_eq!(base64url(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64url(&[0xff; 16]), "_____________________w");
        assert_eq!(base64url(b"chronik-streams!").len(), 22);
    }

    #[test]
    fn hex_is_read_strictly() {
        assert_eq!(parse_hex("000102030405060708090a0b0c0d0e0f").unwrap()[15], 15);
        assert!(parse_hex("0001").is_none());
        assert!(parse_hex("+00102030405060708090a0b0c0d0e0f").is_none());
    }
}
