//! Owns ChronikMetaLog's tables: which kinds of metadata entries there are, and who owns each.
//!
//! All metadata is a fold of `wal::MetaEntry` values. A table's numbers are part of the disk format: never reuse one.

/// Topics: scope = topic id, key = empty; value = name, partitions, configs (broker/topics.rs).
pub const TOPIC: u8 = 1;
/// Log start offsets: scope = topic id, key = partition; value = offset (broker/topics.rs).
pub const LOG_START: u8 = 2;
/// Producer ids: scope and key empty; value = first id that is not handed out yet (broker/txn/init.rs).
pub const PRODUCER_IDS: u8 = 3;
/// Consumer groups: scope = group id, key = empty; value = generation, members, assignment (broker/groups).
pub const GROUP: u8 = 4;
/// Committed offsets: scope = group id, key = topic and partition; value = offset, leader epoch, metadata, time
/// (broker/groups).
pub const OFFSET: u8 = 5;
/// Broker configurations that were changed live: scope = broker id as text, or empty for the default of all brokers; key =
/// configuration; value = text (broker/configs/dynamic.rs).
pub const BROKER_CONFIG: u8 = 6;
/// Whether acknowledgements wait for fsync: scope and key empty; value = one byte, 1 when they do not
/// (broker/recovery.rs). An unclean stop then raises leader epochs.
pub const LOSSY: u8 = 7;
/// Share groups: scope = group id, key = empty for the group, else a member; value = epochs and subscriptions
/// (broker/share/persist.rs).
pub const SHARE_GROUP: u8 = 11;
/// Share partitions: scope = group id, key = topic id and partition; value = start and the states of records
/// (broker/share/persist.rs).
pub const SHARE_STATE: u8 = 12;
/// Transactional ids: scope = the id, key empty; value = producer, epoch, state, what is part of the transaction
/// (broker/txn/persist.rs).
pub const TXN: u8 = crate::wal::DECIDING_TABLE;
/// Offsets that wait for the end of a transaction: scope = group id, key = producer id, partition and topic; value = order
/// and offset (broker/groups/txn_offsets.rs).
pub const TXN_OFFSET: u8 = 9;
/// SCRAM credentials: scope = user, key = mechanism; value = iterations, salt and derived keys (broker/scram.rs).
pub const SCRAM: u8 = 13;
/// Configurations of groups and client metrics: scope = kind and name, key = empty; value = all that were set
/// (broker/configs/resource_configs.rs).
pub const RESOURCE_CONFIG: u8 = 14;
/// Finalized feature levels: scope = feature, key = empty; value = level and the epoch of its change (broker/features.rs).
pub const FEATURE: u8 = 15;
/// Consumer groups (KIP-848): scope = group id; key = a letter for what it is, and a member id; value = epochs, what members
/// say, what they are to own and what they own (broker/groups/consumer/persist.rs).
pub const CONSUMER_GROUP: u8 = 10;
/// Packs that took the place of other segments: scope empty, key = number of the pack; value = version (broker/tidying.rs).
pub const PACK: u8 = crate::wal::PACK_TABLE;
/// Segments that are in the object store: scope empty, key = number of the segment; value = incarnation, length, checksum
/// (broker/tiering.rs).
pub const OBJECT: u8 = 17;

use bytes::Bytes;

use crate::wal::MetaEntry;
use crate::wire::{Reader, Wire, Writer};

/// Encodes a key or value: its layout's version in two bytes, then its fields in the wire's flexible encoding.
pub fn encode<'a, T: Wire<'a>>(version: i16, value: &T) -> Bytes {
    let mut writer = Writer::new(version, true);
    writer.i16(version);
    value.write(&mut writer);
    writer.into_encoded().bytes.into()
}

/// Decodes what `encode` made with a version up to `newest`. The error says what is wrong.
pub fn decode<'a, T: Wire<'a>>(newest: i16, bytes: &'a [u8]) -> Result<T, String> {
    let version = match bytes {
        [high, low, ..] => i16::from_be_bytes([*high, *low]),
        _ => return Err("an entry is shorter than its version".to_owned()),
    };
    if !(0..=newest).contains(&version) {
        return Err(format!("an entry has version {version}, newer than this program's {newest}"));
    }
    let mut reader = Reader::new(&bytes[2..], version, true);
    let value = T::read(&mut reader).map_err(|error| error.to_string())?;
    reader.finish().map_err(|error| error.to_string())?;
    Ok(value)
}

/// The entry that says whether acknowledgements may come before their fsync.
pub fn lossy_entry(lossy: bool) -> MetaEntry {
    let value = Bytes::copy_from_slice(&[u8::from(lossy)]);
    MetaEntry { table: LOSSY, scope: Bytes::new(), key: Bytes::new(), value: Some(value) }
}
