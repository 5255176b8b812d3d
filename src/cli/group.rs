//! Owns `chronik group`: listing groups, and describing them with members, offsets and lag.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Cluster;
use super::failure::{together, Failure, NOT_FOUND};
use super::output::{safe, Out};
use super::parse::Args;
use super::topic::{complain, offsets, Offsets};
use super::value::{object, Value};
use super::Session;
use crate::wire::msg::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment, DescribeGroupsRequest,
    DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse, MetadataResponse, OffsetFetchRequest,
    OffsetFetchRequestGroup, OffsetFetchResponse,
};
use crate::wire::{ErrorCode, Reader, Uuid, Wire};

/// `chronik group list`.
pub fn list(session: &mut Session, _: &Args) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    cluster.metadata(Some(&[]))?;
    let (mut groups, mut codes) = (BTreeMap::new(), Vec::new());
    for node in cluster.node_ids() {
        let reply = cluster.node(node)?.call(&ListGroupsRequest::default())?;
        let answer: ListGroupsResponse<'_> = reply.decode()?;
        if answer.error_code.is_error() {
            codes.push(complain(&session.out, Failure::broker(&format!("Broker {node}"), answer.error_code, None)));
        }
        for group in &answer.groups {
            let facts = [group.group_type, group.group_state, group.protocol_type].map(str::to_owned);
            groups.insert(group.group_id.to_owned(), (node, facts));
        }
    }
    if session.out.is_json() {
        let listed = groups.iter().map(|(name, (node, [kind, state, protocol]))| {
            object([
                ("group", name.as_str().into()),
                ("type", kind.as_str().into()),
                ("state", state.as_str().into()),
                ("protocol", protocol.as_str().into()),
                ("coordinator", (*node).into()),
            ])
        });
        session.out.json(&Value::List(listed.collect()))?;
    } else if session.out.quiet {
        for name in groups.keys() {
            session.out.line(&safe(name))?;
        }
    } else {
        let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { safe(text) };
        let rows: Vec<Vec<String>> = groups
            .iter()
            .map(|(name, (node, [kind, state, _]))| vec![safe(name), shown(kind), shown(state), node.to_string()])
            .collect();
        session.out.table(&["GROUP", "TYPE", "STATE", "COORDINATOR"], &rows)?;
    }
    Ok(together(codes))
}

/// What a group is made of.
#[derive(Default)]
struct Described {
    name: String,
    kind: &'static str,
    state: String,
    assignor: String,
    members: Vec<Member>,
    /// Committed offsets by topic and partition.
    committed: BTreeMap<(String, i32), i64>,
}

struct Member {
    id: String,
    client: String,
    host: String,
    owns: BTreeSet<(String, i32)>,
}

/// `chronik group describe`.
pub fn describe(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    cluster.metadata(Some(&[]))?;
    let (mut described, mut codes) = (Vec::new(), Vec::new());
    for name in &args.free {
        match describe_one(&mut cluster, name) {
            Ok(group) => described.push(group),
            Err(failure) => codes.push(complain(&session.out, failure)),
        }
    }
    let ends = ends_of(&mut cluster, &described)?;
    if session.out.is_json() {
        session.out.json(&Value::List(described.iter().map(|group| group.json(&ends)).collect()))?;
        return Ok(together(codes));
    }
    for (at, group) in described.iter().enumerate() {
        if at > 0 {
            session.out.line("")?;
        }
        group.print(&mut session.out, &ends)?;
    }
    Ok(together(codes))
}

fn describe_one(cluster: &mut Cluster, name: &str) -> Result<Described, Failure> {
    let node = cluster.coordinator(name)?;
    let described = match describe_new(cluster, node, name)? {
        Some(described) => Some(described),
        None => describe_classic(cluster, node, name)?,
    };
    let mut described = described.unwrap_or_default();
    described.name = name.to_owned();
    described.committed = committed(cluster, node, name)?;
    if described.kind.is_empty() && described.committed.is_empty() {
        return Err(Failure::new(NOT_FOUND, format!("There is no group {}.", safe(name))));
    }
    Ok(described)
}

/// A group of the protocol of KIP-848; `None` when it is none, or the broker knows no such.
fn describe_new(cluster: &mut Cluster, node: i32, name: &str) -> Result<Option<Described>, Failure> {
    let conn = cluster.node(node)?;
    if conn.version_of(<ConsumerGroupDescribeRequest<'_> as crate::wire::Message<'_>>::API).is_none() {
        return Ok(None);
    }
    let reply = conn.call(&ConsumerGroupDescribeRequest { group_ids: vec![name], ..Default::default() })?;
    let answer: ConsumerGroupDescribeResponse<'_> = reply.decode()?;
    let Some(group) = answer.groups.first() else { return Ok(None) };
    if group.error_code == ErrorCode::GROUP_ID_NOT_FOUND {
        return Ok(None);
    }
    if group.error_code.is_error() {
        return Err(Failure::broker(&format!("Group {}", safe(name)), group.error_code, group.error_message));
    }
    let member = |member: &crate::wire::msg::ConsumerGroupDescribeMember<'_>| Member {
        id: member.member_id.to_owned(),
        client: member.client_id.to_owned(),
        host: member.client_host.to_owned(),
        owns: (member.assignment.topic_partitions.iter())
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_name.to_owned(), *partition)))
            .collect(),
    };
    Ok(Some(Described {
        kind: "consumer",
        state: group.group_state.to_owned(),
        assignor: group.assignor_name.to_owned(),
        members: group.members.iter().map(member).collect(),
        ..Default::default()
    }))
}

/// A classic group; `None` when there is none of the name.
fn describe_classic(cluster: &mut Cluster, node: i32, name: &str) -> Result<Option<Described>, Failure> {
    let reply = cluster.node(node)?.call(&DescribeGroupsRequest { groups: vec![name], ..Default::default() })?;
    let answer: DescribeGroupsResponse<'_> = reply.decode()?;
    let Some(group) = answer.groups.first() else { return Ok(None) };
    // Before version 6 a group that is not there is called dead.
    if group.error_code == ErrorCode::GROUP_ID_NOT_FOUND || (group.error_code.is_none() && group.group_state == "Dead")
    {
        return Ok(None);
    }
    if group.error_code.is_error() {
        return Err(Failure::broker(&format!("Group {}", safe(name)), group.error_code, group.error_message));
    }
    let member = |member: &crate::wire::msg::DescribedGroupMember<'_>| Member {
        id: member.member_id.to_owned(),
        client: member.client_id.to_owned(),
        host: member.client_host.to_owned(),
        owns: owned(group.protocol_type, member.member_assignment),
    };
    Ok(Some(Described {
        kind: "classic",
        state: group.group_state.to_owned(),
        assignor: group.protocol_data.to_owned(),
        members: group.members.iter().map(member).collect(),
        ..Default::default()
    }))
}

/// What a classic member owns, if its assignment is a consumer's and can be read.
fn owned(protocol_type: &str, assignment: &[u8]) -> BTreeSet<(String, i32)> {
    let (true, [high, low, rest @ ..]) = (protocol_type == "consumer", assignment) else { return BTreeSet::new() };
    let mut reader = Reader::new(rest, i16::from_be_bytes([*high, *low]), false);
    let Ok(read) = ConsumerProtocolAssignment::read(&mut reader) else { return BTreeSet::new() };
    let partitions = read.assigned_partitions.iter();
    partitions.flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.to_owned(), *p))).collect()
}

fn committed(cluster: &mut Cluster, node: i32, name: &str) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let request = OffsetFetchRequest {
        group_id: name,
        topics: None,
        groups: vec![OffsetFetchRequestGroup { group_id: name, ..Default::default() }],
        ..Default::default()
    };
    let conn = cluster.node(node)?;
    let has_ids = conn.version_of(<OffsetFetchRequest<'_> as crate::wire::Message<'_>>::API) >= Some(10);
    let reply = conn.call(&request)?;
    let answer: OffsetFetchResponse<'_> = reply.decode()?;
    let error = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
    if error.is_error() && error != ErrorCode::GROUP_ID_NOT_FOUND {
        return Err(Failure::broker(&format!("Group {}", safe(name)), error, None));
    }
    let mut found = BTreeMap::new();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            found.insert((topic.name.to_owned(), partition.partition_index), partition.committed_offset);
        }
    }
    let names = if has_ids { names_by_id(cluster)? } else { BTreeMap::new() };
    for topic in answer.groups.iter().flat_map(|group| &group.topics) {
        let known = names.get(&topic.topic_id).cloned();
        let name = if has_ids { known.unwrap_or_else(|| topic.topic_id.to_string()) } else { topic.name.to_owned() };
        for partition in &topic.partitions {
            found.insert((name.clone(), partition.partition_index), partition.committed_offset);
        }
    }
    found.retain(|_, offset| *offset >= 0);
    Ok(found)
}

fn names_by_id(cluster: &mut Cluster) -> Result<BTreeMap<Uuid, String>, Failure> {
    let reply = cluster.metadata(None)?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    Ok(metadata.topics.iter().filter_map(|topic| Some((topic.topic_id, topic.name?.to_owned()))).collect())
}

/// The ends of all partitions that the groups are about.
fn ends_of(cluster: &mut Cluster, groups: &[Described]) -> Result<Offsets, Failure> {
    let owned = groups.iter().flat_map(|group| &group.members).flat_map(|member| &member.owns);
    let named = groups.iter().flat_map(|group| group.committed.keys()).chain(owned);
    let names: BTreeSet<&str> = named.map(|(topic, _)| topic.as_str()).collect();
    if names.is_empty() {
        return Ok(Offsets::new());
    }
    let names: Vec<&str> = names.into_iter().collect();
    let reply = cluster.metadata(Some(&names))?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let there: Vec<_> = metadata.topics.iter().filter(|topic| topic.error_code.is_none()).collect();
    offsets(cluster, &there)
}

impl Described {
    /// Partitions with their committed offset, end, lag and owner.
    fn rows(&self, ends: &Offsets) -> Vec<Row<'_>> {
        let mut partitions: BTreeMap<&(String, i32), Option<&Member>> =
            self.committed.keys().map(|partition| (partition, None)).collect();
        for member in &self.members {
            partitions.extend(member.owns.iter().map(|partition| (partition, Some(member))));
        }
        let row = |(partition, owner): (&'_ (String, i32), Option<&'_ Member>)| {
            let end = ends.get(partition).and_then(|found| found.ok()).map(|(_, end)| end);
            let committed = self.committed.get(partition).copied();
            let lag = end.zip(committed).map(|(end, committed)| (end - committed).max(0));
            (committed, end, lag, owner.map(|member| (member.id.clone(), member.client.clone())))
        };
        partitions.into_iter().map(|(partition, owner)| (partition, row((partition, owner)))).collect()
    }

    fn json(&self, ends: &Offsets) -> Value {
        let rows = self.rows(ends);
        let lag: i64 = rows.iter().filter_map(|(_, (_, _, lag, _))| *lag).sum();
        let partitions = rows.iter().map(|((topic, partition), (committed, end, lag, owner))| {
            object([
                ("topic", topic.as_str().into()),
                ("partition", (*partition).into()),
                ("committed", (*committed).into()),
                ("end", (*end).into()),
                ("lag", (*lag).into()),
                ("member", owner.as_ref().map(|(id, _)| id.clone()).into()),
            ])
        });
        let members = self.members.iter().map(|member| {
            object([
                ("id", member.id.as_str().into()),
                ("client", member.client.as_str().into()),
                ("host", member.host.as_str().into()),
                ("partitions", member.owns.len().into()),
            ])
        });
        object([
            ("group", self.name.as_str().into()),
            ("type", self.kind.into()),
            ("state", self.state.as_str().into()),
            ("assignor", self.assignor.as_str().into()),
            ("lag", lag.into()),
            ("members", Value::List(members.collect())),
            ("partitions", Value::List(partitions.collect())),
        ])
    }

    fn print(&self, out: &mut Out, ends: &Offsets) -> Result<(), Failure> {
        let rows = self.rows(ends);
        let lag: i64 = rows.iter().filter_map(|(_, (_, _, lag, _))| *lag).sum();
        out.heading(&safe(&self.name))?;
        let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { safe(text) };
        out.line(&format!("type      {}", shown(self.kind)))?;
        out.line(&format!("state     {}", shown(&self.state)))?;
        out.line(&format!("assignor  {}", shown(&self.assignor)))?;
        out.line(&format!("members   {}", self.members.len()))?;
        out.line(&format!("lag       {lag}"))?;
        let number = |value: &Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let cells = |((topic, partition), (committed, end, lag, owner)): &Row<'_>| {
            let owner = owner.as_ref().map_or_else(|| "-".to_owned(), |(id, _)| safe(id));
            vec![safe(topic), partition.to_string(), number(committed), number(end), number(lag), owner]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        out.table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], &rows)
    }
}

type Row<'a> = (&'a (String, i32), (Option<i64>, Option<i64>, Option<i64>, Option<(String, String)>));
