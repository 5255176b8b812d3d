//! Owns which keys objects may have, so that every store can hold them and none is left.

use super::{Kind, StoreError};
use crate::limits::{STORE_KEY_BYTES_MAX, STORE_KEY_PART_BYTES_MAX};

/// Checks a key: parts of 1 to 200 bytes between slashes, none of them `.` or `..`, of visible ASCII characters but the
/// backslash, 600 bytes in all.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let part_fits =
        |part: &str| !part.is_empty() && part.len() <= STORE_KEY_PART_BYTES_MAX && part != "." && part != "..";
    if key.len() <= STORE_KEY_BYTES_MAX && key.split('/').all(part_fits) && is_plain(key) {
        return Ok(());
    }
    Err(not_a_key("key", key))
}

/// Checks the beginning of keys: empty, or what a key can begin with.
pub fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let whole = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
    let fits =
        prefix.len() <= STORE_KEY_BYTES_MAX && is_plain(prefix) && (whole.is_empty() || check_key(whole).is_ok());
    match fits && !prefix.starts_with('/') {
        true => Ok(()),
        false => Err(not_a_key("prefix", prefix)),
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

fn not_a_key(what: &str, text: &str) -> StoreError {
    let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
    StoreError::new(Kind::Other, format!("'{shown}' can't be the {what} of an object."))
}

/// A key below the folder that a store was told to stay in; an empty folder is none.
pub fn joined(folder: &str, key: &str) -> String {
    match folder {
        "" => key.to_owned(),
        folder => format!("{folder}/{key}"),
    }
}

/// The key of an object that a store lists under `name`, if it is one of ours below `folder`. What can't be a key isn't: a
/// marker that some console left for a folder.
pub fn key_within<'a>(folder: &str, name: &'a str) -> Option<&'a str> {
    let key = match folder {
        "" => Some(name),
        folder => name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
    };
    key.filter(|key| check_key(key).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_their_folder() {
        for good in ["a", "a/b", "log/0001.seg", "a..b", ".hidden", "a=1/b+c@d~e%20f?g#h", "...", "a/.b"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a b", "a\\b", "a\nb", "é", &long]
        {
            assert_eq!(check_key(bad).unwrap_err().kind, Kind::Other, "{bad:?}");
        }
        assert!(check_key(&vec!["y".repeat(199); 3].join("/")).is_ok());
        assert!(check_key(&vec!["y".repeat(200); 3].join("/")).is_err());
    }

    #[test]
    fn prefixes_are_beginnings_of_keys() {
        for good in ["", "a", "a/", "a/b", "a/b/", "."] {
            assert!(check_prefix(good).is_ok(), "{good:?}");
        }
        for bad in ["/", "/a", "a//", "../", "a/../b", "a b"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
