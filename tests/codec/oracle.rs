//! Owns the comparison with an independent implementation, the crate `kafka-protocol`: its newest release, and the last
//! one that has the versions which Kafka 4.0 dropped.

use super::every_message;
use super::random::{Maker, Random};

/// One release of the other implementation, for one message.
#[derive(Clone)]
pub struct Oracle {
    pub versions: std::ops::RangeInclusive<i16>,
    /// Decodes and encodes again; what is left over is an error.
    pub recode: fn(&[u8], i16) -> Result<Vec<u8>, String>,
    /// Encodes the message's defaults.
    pub default: fn(i16) -> Result<Vec<u8>, String>,
}

/// Makes a release's module; two releases have the same interface, but their traits are different ones.
macro_rules! release {
    ($module:ident, $package:ident) => {
        pub mod $module {
            use super::Oracle;
            use bytes::{Bytes, BytesMut};
            pub use $package::messages;
            use $package::protocol::{Decodable, Encodable, Message};

            pub fn of<M: Message + Decodable + Encodable + Default>() -> Oracle {
                Oracle {
                    versions: M::VERSIONS.min..=M::VERSIONS.max,
                    recode: |bytes, version| {
                        let mut rest = Bytes::copy_from_slice(bytes);
                        let message = M::decode(&mut rest, version).map_err(|e| e.to_string())?;
                        if !rest.is_empty() {
                            return Err(format!("{} bytes left over", rest.len()));
                        }
                        encode(&message, version)
                    },
                    default: |version| encode(&M::default(), version),
                }
            }

            fn encode<M: Encodable>(message: &M, version: i16) -> Result<Vec<u8>, String> {
                let mut out = BytesMut::new();
                message.encode(&mut out, version).map_err(|e| e.to_string())?;
                Ok(out.to_vec())
            }
        }
    };
}

release!(new, kafka_protocol);
release!(old, kafka_protocol_3);

/// How many made-up values each message and version is tried with.
const VALUES: u64 = 12;

#[test]
fn an_independent_implementation_reads_and_writes_the_same_bytes() {
    let mut uncovered = Vec::new();
    let mut covered = 0;
    let mut wrong = Vec::new();
    for entry in every_message() {
        for version in entry.api.versions() {
            let oracles: Vec<_> = entry.oracles.iter().filter(|oracle| oracle.versions.contains(&version)).collect();
            if oracles.is_empty() {
                uncovered.push(format!("{} v{version}", entry.name));
                continue;
            }
            covered += 1;
            let flexible = entry.api.is_flexible(version);
            for oracle in oracles {
                let mut compare = |what: &str, bytes: &[u8]| {
                    let ours = (entry.recode)(bytes, version).map_err(|e| e.to_string());
                    let theirs = (oracle.recode)(bytes, version);
                    if ours.as_deref() != Ok(bytes) || theirs.as_deref() != Ok(bytes) {
                        wrong.push(format!(
                            "{} v{version} {what}\n  bytes  {bytes:02x?}\n  ours   {ours:02x?}\n  theirs {theirs:02x?}",
                            entry.name
                        ));
                    }
                };
                compare("our defaults", &(entry.default)(version));
                if let Ok(bytes) = (oracle.default)(version) {
                    compare("their defaults", &bytes);
                }
                for seed in 0..VALUES {
                    let random = &mut Random(seed << 32 | version as u64);
                    let mut maker = Maker { random, version, flexible, unknown_tags: false };
                    compare(&format!("value {seed}"), &maker.message(entry.body));
                }
            }
        }
    }
    println!("{covered} messages and versions compared; only the schema test covers {}:", uncovered.len());
    println!("{}", uncovered.join(", "));
    assert!(wrong.is_empty(), "{} differences, the first:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    assert!(covered > 500, "only {covered} compared");
}
