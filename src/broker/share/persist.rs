//! Owns how share groups stand in the log: the bytes of `metalog::SHARE_GROUP` and `metalog::SHARE_STATE` entries.
//!
//! - SHARE_GROUP, scope group id, empty key: the group's epoch and the topics for which it has a state. Key a byte 1 and a
//!   member's id: that member. Assignments are not kept: they follow from the subscriptions.
//! - SHARE_STATE, scope group id, key topic id (16 bytes) and partition (4): where the group starts, and the states of the
//!   records from there on, as (number of records, state and deliveries) pairs of unsigned LEB128 numbers; the second is
//!   the number of deliveries times four plus the state (0 available, 1 acknowledged, 2 archived).

use bytes::{BufMut, Bytes, BytesMut};

use super::group::{Member, ShareGroup};
use super::partition::SharePartition;
use super::runs::RecordState;
use crate::broker::metalog;
use crate::limits;
use crate::wal::{MetaEntry, PartitionId};
use crate::wire::macros::message;
use crate::wire::Uuid;

/// What stands before a member's id in its key.
const MEMBER: u8 = 1;

message! {
    /// Value of a group.
    struct GroupValue {
        epoch: i32 [0..],
        topics: Vec<GroupTopic> [0..],
    }
    struct GroupTopic {
        topic: Uuid [0..],
        partitions: i32 [0..],
    }
    /// Value of a member.
    struct MemberValue<'a> {
        rack: Option<&'a str> [0..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        topics: Vec<&'a str> [0..],
        epoch: i32 [0..],
        previous_epoch: i32 [0..],
    }
    /// Value of a share partition.
    struct StateValue<'a> {
        state_epoch: i32 [0..],
        start_offset: i64 [0..],
        told: bool [0..],
        records: &'a [u8] [0..],
    }
}

fn entry(table: u8, group: &str, key: Bytes, value: Option<Bytes>) -> MetaEntry {
    MetaEntry { table, scope: Bytes::copy_from_slice(group.as_bytes()), key, value }
}

/// The entry for a group as it is now, without its members and partitions.
pub(super) fn group_entry(group: &ShareGroup) -> MetaEntry {
    let topics = group.topics.iter().map(|(topic, partitions)| GroupTopic { topic: *topic, partitions: *partitions });
    let value = metalog::encode(0, &GroupValue { epoch: group.epoch, topics: topics.collect() });
    entry(metalog::SHARE_GROUP, &group.id, Bytes::new(), Some(value))
}

/// The entry that removes a group.
pub(super) fn removed_group_entry(group: &str) -> MetaEntry {
    entry(metalog::SHARE_GROUP, group, Bytes::new(), None)
}

/// The entry for a member, or for its removal.
pub(super) fn member_entry(group: &str, id: &str, member: Option<&Member>) -> MetaEntry {
    let mut key = BytesMut::with_capacity(1 + id.len());
    key.put_u8(MEMBER);
    key.extend_from_slice(id.as_bytes());
    let value = member.map(|member| {
        let value = MemberValue {
            rack: member.rack.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            topics: member.topics.iter().map(|topic| &**topic).collect(),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
        };
        metalog::encode(0, &value)
    });
    entry(metalog::SHARE_GROUP, group, key.freeze(), value)
}

/// The entry for a share partition, or for its removal.
pub(super) fn state_entry(group: &str, id: PartitionId, partition: Option<&SharePartition>) -> MetaEntry {
    let mut key = BytesMut::with_capacity(20);
    key.extend_from_slice(&id.topic.0);
    key.put_i32(id.partition);
    let value = partition.map(|partition| {
        let records = encode_records(partition);
        let value = StateValue {
            state_epoch: partition.state_epoch,
            start_offset: partition.start(),
            told: partition.told,
            records: &records,
        };
        metalog::encode(0, &value)
    });
    entry(metalog::SHARE_STATE, group, key.freeze(), value)
}

/// An entry, read back.
#[derive(Debug)]
pub(super) enum ShareChange {
    Group { epoch: i32, topics: Vec<(Uuid, i32)> },
    RemoveGroup,
    Member(Box<Member>),
    RemoveMember(String),
    State(PartitionId, Box<SharePartition>),
    RemoveState(PartitionId),
}

/// Reads an entry of one of this file's tables.
///
/// # Errors
/// What this version can't read.
pub(super) fn read(entry: &MetaEntry) -> Result<ShareChange, String> {
    if entry.table == metalog::SHARE_STATE {
        return read_state(entry);
    }
    if entry.key.is_empty() {
        let Some(value) = &entry.value else { return Ok(ShareChange::RemoveGroup) };
        let value: GroupValue = metalog::decode(0, value)?;
        let topics = value.topics.iter().map(|topic| (topic.topic, topic.partitions)).collect();
        return Ok(ShareChange::Group { epoch: value.epoch, topics });
    }
    let id = match entry.key[..] {
        [MEMBER, ref id @ ..] => std::str::from_utf8(id).map_err(|_| "a member's id is not UTF-8".to_owned())?,
        _ => return Err("a key is of an unknown kind".to_owned()),
    };
    let Some(value) = &entry.value else { return Ok(ShareChange::RemoveMember(id.to_owned())) };
    let value: MemberValue<'_> = metalog::decode(0, value)?;
    let member = Member {
        rack: value.rack.map(Into::into),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        topics: value.topics.iter().map(|topic| (*topic).into()).collect(),
        epoch: value.epoch,
        previous_epoch: value.previous_epoch,
        ..Member::new(id.into())
    };
    Ok(ShareChange::Member(Box::new(member)))
}

fn read_state(entry: &MetaEntry) -> Result<ShareChange, String> {
    let Some((topic, partition)) = entry.key.split_first_chunk::<16>() else {
        return Err("a key is too short".to_owned());
    };
    let partition = <[u8; 4]>::try_from(partition).map_err(|_| "a key has a wrong length".to_owned())?;
    let id = PartitionId { topic: Uuid(*topic), partition: i32::from_be_bytes(partition) };
    let Some(value) = &entry.value else { return Ok(ShareChange::RemoveState(id)) };
    let value: StateValue<'_> = metalog::decode(0, value)?;
    let states = decode_records(value.start_offset, value.records)?;
    let partition = SharePartition::restored(value.start_offset, value.state_epoch, value.told, &states);
    Ok(ShareChange::State(id, Box::new(partition)))
}

fn encode_records(partition: &SharePartition) -> Vec<u8> {
    let mut out = Vec::new();
    // Neighbours that are alike when they are found again are told together.
    let mut open: Option<(i64, RecordState, i16)> = None;
    for (first, last, state, count) in partition.lasting() {
        let len = last - first + 1;
        match &mut open {
            Some((open_len, open_state, open_count)) if (*open_state, *open_count) == (state, count) => {
                *open_len += len
            }
            _ => {
                put_records(&mut out, open);
                open = Some((len, state, count));
            }
        }
    }
    // What is available and was never released before is where reading goes on.
    if !matches!(open, Some((_, RecordState::Available, 0))) {
        put_records(&mut out, open);
    }
    out
}

fn put_records(out: &mut Vec<u8>, records: Option<(i64, RecordState, i16)>) {
    let Some((len, state, count)) = records else { return };
    let state = match state {
        RecordState::Available | RecordState::Acquired => 0,
        RecordState::Acknowledged => 1,
        RecordState::Archived => 2,
    };
    put_number(out, len.unsigned_abs());
    put_number(out, u64::from(count.max(0).unsigned_abs()) * 4 + state);
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads what `encode_records` wrote. Nothing here trusts a length.
fn decode_records(start: i64, mut bytes: &[u8]) -> Result<Vec<(i64, RecordState, i16)>, String> {
    let mut states = Vec::new();
    let mut end = start;
    while !bytes.is_empty() {
        let len = take_number(&mut bytes)?;
        let what = take_number(&mut bytes)?;
        let state = match what % 4 {
            0 => RecordState::Available,
            1 => RecordState::Acknowledged,
            2 => RecordState::Archived,
            _ => return Err("a record's state is unknown".to_owned()),
        };
        let len = i64::try_from(len).ok().filter(|len| *len > 0).ok_or("a number of records is impossible")?;
        end = end.checked_add(len).ok_or("offsets are too large")?;
        let count = i16::try_from(what / 4).map_err(|_| "a number of deliveries is too large".to_owned())?;
        if states.len() >= limits::SHARE_PARTITION_RUNS_MAX {
            return Err("there are too many states".to_owned());
        }
        states.push((len, state, count));
    }
    Ok(states)
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { return Err("a number is cut off".to_owned()) };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_back_as_written() {
        let states =
            [(3, RecordState::Available, 2), (2, RecordState::Acknowledged, 1), (200, RecordState::Archived, 5)];
        let partition = SharePartition::restored(1000, 4, true, &states);
        let id = PartitionId { topic: Uuid([5; 16]), partition: 7 };
        let entry = state_entry("g", id, Some(&partition));
        let ShareChange::State(read_id, read) = read(&entry).unwrap() else { panic!("another kind") };
        assert_eq!(read_id, id);
        assert_eq!((read.start(), read.end(), read.state_epoch, read.told), (1000, 1205, 4, true));
        assert!(read.lasting().eq(partition.lasting()));
        assert!(matches!(super::read(&state_entry("g", id, None)).unwrap(), ShareChange::RemoveState(_)));
    }

    #[test]
    fn broken_states_are_errors() {
        for bad in [
            &[1][..],
            &[0x80],
            &[0, 0],
            &[1, 3],
            &[0xff; 20],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0],
        ] {
            assert!(decode_records(i64::MAX - 5, bad).is_err(), "{bad:?}");
        }
        assert!(decode_records(0, &[1, 0, 2, 5]).is_ok());
    }

    #[test]
    fn groups_and_members_are_read_back_as_written() {
        let mut group = ShareGroup::new("g".into());
        group.epoch = 9;
        group.topics.insert(Uuid([1; 16]), 3);
        let ShareChange::Group { epoch, topics } = read(&group_entry(&group)).unwrap() else { panic!("another kind") };
        assert_eq!((epoch, topics), (9, vec![(Uuid([1; 16]), 3)]));
        let mut member = Member::new("m".into());
        member.epoch = 4;
        member.topics.insert("t".into());
        let ShareChange::Member(read_member) = read(&member_entry("g", "m", Some(&member))).unwrap() else {
            panic!("another kind")
        };
        assert_eq!((&*read_member.id, read_member.epoch, &read_member.topics), ("m", 4, &member.topics));
        assert!(matches!(read(&member_entry("g", "m", None)).unwrap(), ShareChange::RemoveMember(id) if id == "m"));
        assert!(matches!(read(&removed_group_entry("g")).unwrap(), ShareChange::RemoveGroup));
    }
}
