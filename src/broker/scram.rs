//! Owns SCRAM credentials (RFC 5802, KIP-554): deriving the keys that are kept from what a client sends, keeping them in
//! the log, and never showing them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

use super::metalog;
use crate::wal::MetaEntry;
use crate::wire::macros::message;

/// A SCRAM mechanism, in the order of Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    Sha256,
    Sha512,
}

impl Mechanism {
    /// The mechanism of Kafka's number. `None` is a number that Kafka does not know.
    pub fn of(number: i8) -> Option<Mechanism> {
        match number {
            1 => Some(Mechanism::Sha256),
            2 => Some(Mechanism::Sha512),
            _ => None,
        }
    }

    /// Kafka's number.
    pub fn number(self) -> i8 {
        match self {
            Mechanism::Sha256 => 1,
            Mechanism::Sha512 => 2,
        }
    }
}

message! {
    /// Key of `metalog::SCRAM`.
    struct ScramKey {
        mechanism: i8 [0..],
    }
    /// Value of `metalog::SCRAM`.
    struct ScramValue<'a> {
        iterations: i32 [0..],
        salt: &'a [u8] [0..],
        stored_key: &'a [u8] [0..],
        server_key: &'a [u8] [0..],
    }
}

/// What the server knows of a user's password for one mechanism. It cannot be turned back into the password, but whoever has
/// it can try passwords, and pretend to be the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub iterations: i32,
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Credential {
    /// Shows what anyone may see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credential {
    /// Derives the keys from the salted password, which the client has made (RFC 5802, section 3).
    pub fn derive(mechanism: Mechanism, iterations: i32, salt: &[u8], salted_password: &[u8]) -> Credential {
        let (stored_key, server_key) = match mechanism {
            Mechanism::Sha256 => {
                let key = |label: &[u8]| mac(Hmac::<Sha256>::new_from_slice(salted_password), label);
                (Sha256::digest(key(b"Client Key")).to_vec(), key(b"Server Key"))
            }
            Mechanism::Sha512 => {
                let key = |label: &[u8]| mac(Hmac::<Sha512>::new_from_slice(salted_password), label);
                (Sha512::digest(key(b"Client Key")).to_vec(), key(b"Server Key"))
            }
        };
        Credential { iterations, salt: salt.to_vec(), stored_key, server_key }
    }
}

fn mac<M: Mac, E: fmt::Debug>(mac: Result<M, E>, label: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length.
    let mut mac = mac.expect("a key of any length is taken");
    mac.update(label);
    mac.finalize().into_bytes().to_vec()
}

/// The credentials of all users.
#[derive(Debug, Default)]
pub struct Scram {
    users: BTreeMap<String, BTreeMap<Mechanism, Credential>>,
}

impl Scram {
    /// A user's credential for one mechanism.
    pub fn get(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.users.get(user)?.get(&mechanism)
    }

    /// A user's credentials, in the order of mechanisms. `None` is an unknown user.
    pub fn user(&self, user: &str) -> Option<&BTreeMap<Mechanism, Credential>> {
        self.users.get(user)
    }

    /// All users that have credentials, in the order of names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// How many users have credentials.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Sets or forgets a credential; the entry that says so.
    pub fn put(&mut self, user: &str, mechanism: Mechanism, credential: Option<Credential>) -> MetaEntry {
        let entry = entry(user, mechanism, credential.as_ref());
        match credential {
            Some(credential) => {
                self.users.entry(user.to_owned()).or_default().insert(mechanism, credential);
            }
            None => {
                let left = self.users.get_mut(user).map(|credentials| {
                    credentials.remove(&mechanism);
                    credentials.len()
                });
                if left == Some(0) {
                    self.users.remove(user);
                }
            }
        }
        entry
    }

    /// Reads an entry back.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let user = std::str::from_utf8(&entry.scope).map_err(|_| "a user's name is not UTF-8".to_owned())?;
        let key: ScramKey = metalog::decode(0, &entry.key)?;
        let mechanism = Mechanism::of(key.mechanism)
            .ok_or_else(|| format!("SCRAM mechanism {} is unknown to this program", key.mechanism))?;
        let value = entry.value.as_ref().map(|value| metalog::decode::<ScramValue<'_>>(0, value)).transpose()?;
        let credential = value.map(|value| Credential {
            iterations: value.iterations,
            salt: value.salt.to_vec(),
            stored_key: value.stored_key.to_vec(),
            server_key: value.server_key.to_vec(),
        });
        self.put(user, mechanism, credential);
        Ok(())
    }

    /// All that live, for a snapshot.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> + '_ {
        self.users.iter().flat_map(|(user, credentials)| {
            credentials.iter().map(move |(mechanism, credential)| entry(user, *mechanism, Some(credential)))
        })
    }
}

fn entry(user: &str, mechanism: Mechanism, credential: Option<&Credential>) -> MetaEntry {
    let value = |credential: &Credential| {
        metalog::encode(
            0,
            &ScramValue {
                iterations: credential.iterations,
                salt: &credential.salt,
                stored_key: &credential.stored_key,
                server_key: &credential.server_key,
            },
        )
    };
    MetaEntry {
        table: metalog::SCRAM,
        scope: Bytes::copy_from_slice(user.as_bytes()),
        key: metalog::encode(0, &ScramKey { mechanism: mechanism.number() }),
        value: credential.map(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 7677, section 3: user `user`, password `pencil`, 4096 iterations. The keys were computed with another program.
    #[test]
    fn keys_are_those_of_the_rfcs_example() {
        let salted = bytes("c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d");
        let credential = Credential::derive(Mechanism::Sha256, 4096, b"salt", &salted);
        assert_eq!(hex(&credential.stored_key), STORED_256);
        assert_eq!(hex(&credential.server_key), SERVER_256);
        let credential = Credential::derive(Mechanism::Sha512, 4096, b"salt", &salted);
        assert_eq!((credential.stored_key.len(), credential.server_key.len()), (64, 64));
        assert_eq!(hex(&credential.stored_key), STORED_512);
    }

    const STORED_256: &str = "586e5df283e6dceb5c3e791d8b8528ec191e664045ce971792e2e6b5bb13e2a6";
    const SERVER_256: &str = "c1f3cbc1c13a9d35a14c0990eed97629ea225863e566a4314ab99f3f00e5d9d5";
    const STORED_512: &str = "65cc4eacc595a618209ea69ef61c58263ba42efd2d22ff955f50aecc8abc20c2\
                              00867a2b1d8efe2bf0c7dbcaabab5757d40e8474b33f753e556121743ceed4ea";

    #[test]
    fn credentials_survive_as_entries_and_are_not_shown() {
        let mut scram = Scram::default();
        let one = Credential::derive(Mechanism::Sha256, 4096, b"salt", b"password");
        let entries = [
            scram.put("a", Mechanism::Sha256, Some(one.clone())),
            scram.put("a", Mechanism::Sha512, Some(one.clone())),
            scram.put("b", Mechanism::Sha256, Some(one.clone())),
            scram.put("b", Mechanism::Sha256, None),
        ];
        let mut restored = Scram::default();
        entries.iter().for_each(|entry| restored.apply(entry).unwrap());
        for scram in [&scram, &restored] {
            assert_eq!(scram.get("a", Mechanism::Sha256), Some(&one));
            assert_eq!((scram.users().collect::<Vec<_>>(), scram.entries().count()), (vec!["a"], 2));
        }
        assert_eq!(format!("{one:?}"), "Credential { iterations: 4096, .. }");
    }
}
