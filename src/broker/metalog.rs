//! Owns ChronikMetaLog's tables: which kinds of metadata entries there are, and who owns each.
//!
//! All metadata is a fold of `wal::MetaEntry` values. A table's numbers are part of the disk format: never reuse one.

/// Topics: scope = topic id, key = empty; value = name, partitions, configs (broker/topics.rs).
pub const TOPIC: u8 = 1;
/// Log start offsets: scope = topic id, key = partition; value = offset (broker/topics.rs).
pub const LOG_START: u8 = 2;
/// Producer ids: scope and key empty; value = first id that is not handed out yet (broker/producers.rs).
pub const PRODUCER_IDS: u8 = 3;
/// Consumer groups: scope = group id, key = empty; value = generation, members, assignment (broker/groups).
pub const GROUP: u8 = 4;
/// Committed offsets: scope = group id, key = topic and partition; value = offset, leader epoch, metadata, time
/// (broker/groups).
pub const OFFSET: u8 = 5;
/// Dynamic broker settings: scope empty, key = setting; value = text (broker/configs.rs).
pub const BROKER_CONFIG: u8 = 6;
