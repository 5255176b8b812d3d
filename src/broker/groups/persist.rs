//! Owns how groups and offsets stand in the log: the bytes of `metalog::GROUP` and `metalog::OFFSET` entries.
//!
//! Numbers are big-endian. A *text* is a 4-byte length and as many bytes of UTF-8, an *optional text* has length -1 for
//! none, *bytes* are like a text without being UTF-8. Each value begins with its version, 1.
//!
//! - GROUP, scope group id, no key: version (1 byte), generation (4), wall clock in ms of the change (8), protocol type,
//!   protocol, leader (optional texts), number of members (4), and for each: member id (text), instance id (optional
//!   text), client id, client host (texts), session timeout, rebalance timeout (4 each, ms), number of protocols (4), for
//!   each name (text) and metadata (bytes), and then the assignment (bytes). A group with members is stable, one without
//!   is empty.
//! - OFFSET, scope group id, key partition (4) and the topic's name: version (1), offset (8), leader epoch (4), commit
//!   time (8), expiry time or -1 (8), metadata (text).

use bytes::Bytes;

use super::group::{Group, GroupState, Member, Name, Protocol};
use super::offsets::Offset;
use crate::broker::metalog;
use crate::wal::MetaEntry;

const VERSION: u8 = 1;

/// The entry for a group as it is now.
pub(super) fn group_entry(group: &Group) -> MetaEntry {
    let mut out = Vec::with_capacity(256 + group.members_bytes());
    out.push(VERSION);
    out.extend_from_slice(&group.generation.to_be_bytes());
    out.extend_from_slice(&group.state_ms.to_be_bytes());
    put_optional(&mut out, group.protocol_type.as_deref());
    put_optional(&mut out, group.protocol_name.as_deref());
    put_optional(&mut out, group.leader.as_deref());
    out.extend_from_slice(&(group.members.len() as u32).to_be_bytes());
    for member in group.members.values() {
        put_bytes(&mut out, member.id.as_bytes());
        put_optional(&mut out, member.instance.as_deref());
        put_bytes(&mut out, member.client_id.as_bytes());
        put_bytes(&mut out, member.client_host.as_bytes());
        out.extend_from_slice(&member.session_timeout_ms.to_be_bytes());
        out.extend_from_slice(&member.rebalance_timeout_ms.to_be_bytes());
        out.extend_from_slice(&(member.protocols.len() as u32).to_be_bytes());
        for protocol in &member.protocols {
            put_bytes(&mut out, protocol.name.as_bytes());
            put_bytes(&mut out, &protocol.metadata);
        }
        put_bytes(&mut out, &member.assignment);
    }
    group_value_entry(&group.id, Some(out.into()))
}

/// The entry that gives a group's value, or removes it.
pub(super) fn group_value_entry(group: &str, value: Option<Bytes>) -> MetaEntry {
    MetaEntry { table: metalog::GROUP, scope: copy(group), key: Bytes::new(), value }
}

/// Fills a group from its value. Its offsets stay; its timers are not set.
pub(super) fn read_group(group: &mut Group, value: &Bytes) -> Result<(), String> {
    let mut r = Fields { rest: value, at: 0 };
    r.version()?;
    let mut read = Group::new(group.id.clone());
    read.generation = r.i32()?;
    read.state_ms = r.i64()?;
    read.protocol_type = r.optional()?;
    read.protocol_name = r.optional()?;
    let leader = r.optional()?;
    for _ in 0..r.count()? {
        let member = r.member()?;
        if read.members.contains_key(&member.id) {
            return Err(format!("member {:?} is there twice", member.id));
        }
        read.add(member);
    }
    r.finish()?;
    read.leader = leader;
    read.state = if read.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
    read.subscribed = read.subscriptions();
    read.persisted = Some(value.clone());
    read.offsets = std::mem::take(&mut group.offsets);
    read.consumer = group.consumer.take();
    read.pending_txn = std::mem::take(&mut group.pending_txn);
    read.counted_bytes = group.counted_bytes;
    *group = read;
    Ok(())
}

/// The entry for a committed offset, or for its removal.
pub(super) fn offset_entry(group: &str, topic: &str, partition: i32, offset: Option<&Offset>) -> MetaEntry {
    let mut key = Vec::with_capacity(4 + topic.len());
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(topic.as_bytes());
    let value = offset.map(|o| {
        let mut out = Vec::with_capacity(33 + o.metadata.len());
        out.push(VERSION);
        out.extend_from_slice(&o.offset.to_be_bytes());
        out.extend_from_slice(&o.leader_epoch.to_be_bytes());
        out.extend_from_slice(&o.commit_ms.to_be_bytes());
        out.extend_from_slice(&o.expire_ms.to_be_bytes());
        put_bytes(&mut out, o.metadata.as_bytes());
        Bytes::from(out)
    });
    MetaEntry { table: metalog::OFFSET, scope: copy(group), key: key.into(), value }
}

/// A committed offset's entry for the same topic under another name, which `renamed` gives; `None` for every other entry,
/// and for topics that get no name.
pub(in crate::broker) fn offset_of<'a>(
    entry: &MetaEntry,
    renamed: impl FnOnce(&str) -> Option<&'a str>,
) -> Option<MetaEntry> {
    if entry.table != metalog::OFFSET {
        return None;
    }
    let (topic, partition) = read_offset_key(&entry.key).ok()?;
    let mut key = partition.to_be_bytes().to_vec();
    key.extend_from_slice(renamed(topic)?.as_bytes());
    Some(MetaEntry { key: key.into(), ..entry.clone() })
}

/// Topic and partition of an offset's key.
pub(super) fn read_offset_key(key: &Bytes) -> Result<(&str, i32), String> {
    let mut r = Fields { rest: key, at: 0 };
    let partition = r.i32()?;
    let topic = std::str::from_utf8(r.rest).map_err(|_| "the topic is not UTF-8".to_string())?;
    Ok((topic, partition))
}

pub(super) fn read_offset(value: &Bytes) -> Result<Offset, String> {
    let mut r = Fields { rest: value, at: 0 };
    r.version()?;
    let (offset, leader_epoch, commit_ms, expire_ms) = (r.i64()?, r.i32()?, r.i64()?, r.i64()?);
    let metadata = r.text()?.into();
    r.finish()?;
    Ok(Offset { offset, leader_epoch, metadata, commit_ms, expire_ms })
}

fn copy(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_bytes(out, text.as_bytes()),
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
}

/// Reads an entry's fields. Entries come from a log whose checksums held, yet nothing here trusts a length.
struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        if len > self.rest.len() {
            return Err(format!("{len} bytes are missing at byte {}", self.at));
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn i32(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_be_bytes)
    }

    fn version(&mut self) -> Result<(), String> {
        match self.array::<1>()? {
            [VERSION] => Ok(()),
            [other] => Err(format!("version {other} is not one that this server knows; a newer one wrote it")),
        }
    }

    fn count(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.count()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| format!("the text at byte {at} is not UTF-8"))
    }

    fn optional(&mut self) -> Result<Option<Name>, String> {
        if self.rest.starts_with(&[0xff; 4]) {
            self.take(4)?;
            return Ok(None);
        }
        self.text().map(|text| Some(text.into()))
    }

    fn member(&mut self) -> Result<Member, String> {
        let mut member = Member {
            id: self.text()?.into(),
            instance: self.optional()?,
            client_id: self.text()?.into(),
            client_host: self.text()?.into(),
            session_timeout_ms: self.i32()?,
            rebalance_timeout_ms: self.i32()?,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            is_new: false,
            join: None,
            sync: None,
            session_us: None,
        };
        for _ in 0..self.count()? {
            let (name, metadata) = (self.text()?.into(), Bytes::copy_from_slice(self.bytes()?));
            member.protocols.push(Protocol { name, metadata });
        }
        member.assignment = Bytes::copy_from_slice(self.bytes()?);
        Ok(member)
    }

    fn finish(&self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes are left over at byte {}", self.at)),
        }
    }
}
