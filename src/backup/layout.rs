//! Owns where in the store everything lies, and which names are believed.

use super::manifest::Object;
use crate::wire::Uuid;

/// Length of the hex digits that name a data directory.
const HEX_LEN: usize = 32;

/// The folder of one data directory's backups: its id in hex digits.
pub fn directory(id: Uuid) -> String {
    id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id in such a name.
pub fn directory_id(name: &str) -> Option<Uuid> {
    let is_hex = name.len() == HEX_LEN && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return None;
    }
    u128::from_str_radix(name, 16).ok().map(|id| Uuid(id.to_be_bytes()))
}

/// Where a directory's manifests lie.
pub fn manifests(directory: &str) -> String {
    format!("{directory}/manifests/")
}

/// A backup's manifest.
pub fn manifest(directory: &str, backup: &str) -> String {
    format!("{directory}/manifests/{backup}")
}

/// Where a directory's segments lie, for all of its backups.
pub fn segments(directory: &str) -> String {
    format!("{directory}/segments/")
}

/// A segment. Its length is part of the name because a directory that was restored has its last segment shorter than the
/// one that it came from; with the incarnation it stands for the content.
pub fn segment(directory: &str, path: &str, incarnation: u64, bytes: u64) -> String {
    format!("{directory}/segments/{path}-{incarnation:016x}-{bytes}")
}

/// A piece of a segment that is being written: what was written once at a place of an incarnation stays there.
pub fn piece(directory: &str, piece: &Object) -> String {
    let Object { path, incarnation, start, bytes, .. } = piece;
    format!("{directory}/segments/{path}-{incarnation:016x}-{start}_{bytes}")
}

/// Where what belongs to single backups lies.
pub fn own(directory: &str) -> String {
    format!("{directory}/backups/")
}

/// What belongs to one backup alone. `number` tells its objects apart.
pub fn own_object(directory: &str, backup: &str, number: usize) -> String {
    format!("{directory}/backups/{backup}/{number:06}")
}

/// Where those who make backups say so.
pub fn makers(directory: &str) -> String {
    format!("{directory}/making/")
}

/// One who makes a backup.
pub fn maker(directory: &str, backup: &str) -> String {
    format!("{directory}/making/{backup}")
}

/// Who takes away what no backup needs says so here.
pub fn sweeper(directory: &str) -> String {
    format!("{directory}/sweeping")
}

/// Says which server keeps its segments here. Where it stands nobody else removes anything.
pub fn owner(directory: &str) -> String {
    format!("{directory}/owner")
}

/// Written to learn the store's time.
pub fn clock(directory: &str) -> String {
    format!("{directory}/clock")
}

/// Whether this can be the name of a backup.
pub fn is_backup(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a path that a manifest names may be made in a data directory: a file in one of its folders.
pub fn is_path(path: &str) -> bool {
    let Some((dir, name)) = path.split_once('/') else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'%' | b'~');
    let is_folder = (1..=32).contains(&dir.len()) && dir.bytes().all(|b| b.is_ascii_lowercase());
    is_folder && (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories_are_read_back() {
        let id = Uuid([0xab; 16]);
        assert_eq!(directory_id(&directory(id)), Some(id));
        for other in ["", "ab", &"g".repeat(32), &"A".repeat(32), &format!("+{}", "1".repeat(31))] {
            assert_eq!(directory_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_manifest_can_only_name_files_in_a_folder_of_the_directory() {
        for good in ["wal/00000000000000000042.log", "metadata/003-or%20ders~12-0", "checkpoints/1.ckpt"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "wal", "wal/", "/etc", "wal/../x", "../x", "wal/a/b", "wal/.x", "wal/a b", "WAL/x", "wal/a\0"] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }
}
