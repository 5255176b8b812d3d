//! Owns `chronik topic list` and `describe`, and finding partitions' offsets.

use std::collections::BTreeMap;

use super::client::Cluster;
use super::failure::{together, Failure, OK};
use super::output::{safe, Out};
use super::parse::Args;
use super::value::{object, Value};
use super::Session;
use crate::wire::msg::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribeConfigsResult,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, MetadataResponse,
    MetadataResponseTopic,
};
use crate::wire::ErrorCode;

/// The kind of resource that topics are in requests about configurations.
pub const TOPIC_RESOURCE: i8 = 2;

/// ListOffsets' timestamp for the first offset and for the one behind the last.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

/// Where the value of a configuration comes from when nobody has set it for the topic (DescribeConfigs).
const SOURCE_TOPIC: i8 = 1;

/// `chronik topic list`.
pub fn list(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    let reply = cluster.metadata(None)?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let internal = args.flag("internal");
    let mut topics: Vec<_> = metadata.topics.iter().filter(|topic| internal || !topic.is_internal).collect();
    topics.sort_by_key(|topic| topic.name);
    if session.out.is_json() {
        session.out.json(&Value::List(topics.iter().map(|topic| listed(topic)).collect()))?;
        return Ok(OK);
    }
    if session.out.quiet {
        for topic in topics {
            session.out.line(&safe(topic.name.unwrap_or("")))?;
        }
        return Ok(OK);
    }
    let row = |topic: &&MetadataResponseTopic<'_>| {
        let name = safe(topic.name.unwrap_or(""));
        vec![name, topic.partitions.len().to_string(), replicas(topic).to_string()]
    };
    let rows: Vec<Vec<String>> = topics.iter().map(row).collect();
    session.out.table(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?;
    Ok(OK)
}

fn replicas(topic: &MetadataResponseTopic<'_>) -> usize {
    topic.partitions.iter().map(|partition| partition.replica_nodes.len()).max().unwrap_or(0)
}

fn listed(topic: &MetadataResponseTopic<'_>) -> Value {
    object([
        ("name", topic.name.map(str::to_owned).into()),
        ("id", shown_id(topic).into()),
        ("partitions", topic.partitions.len().into()),
        ("replicas", replicas(topic).into()),
        ("internal", topic.is_internal.into()),
    ])
}

fn shown_id(topic: &MetadataResponseTopic<'_>) -> Option<String> {
    (!topic.topic_id.is_zero()).then(|| topic.topic_id.to_string())
}

/// What a partition's leader says about its offsets: the first, and the one behind the last.
pub type Offsets = BTreeMap<(String, i32), Result<(i64, i64), ErrorCode>>;

/// The offsets of every partition of some topics, each asked of its leader.
pub fn offsets(cluster: &mut Cluster, topics: &[&MetadataResponseTopic<'_>]) -> Result<Offsets, Failure> {
    let mut by_leader: BTreeMap<i32, Vec<(&str, Vec<i32>)>> = BTreeMap::new();
    let mut found = Offsets::new();
    for topic in topics {
        let name = topic.name.unwrap_or("");
        for partition in &topic.partitions {
            if partition.leader_id < 0 {
                found.insert((name.to_owned(), partition.partition_index), Err(ErrorCode::LEADER_NOT_AVAILABLE));
                continue;
            }
            let asked = by_leader.entry(partition.leader_id).or_default();
            match asked.last_mut() {
                Some((last, partitions)) if *last == name => partitions.push(partition.partition_index),
                _ => asked.push((name, vec![partition.partition_index])),
            }
        }
    }
    for (leader, asked) in by_leader {
        let starts = list_offsets(cluster, leader, &asked, EARLIEST)?;
        let ends = list_offsets(cluster, leader, &asked, LATEST)?;
        for (key, start) in starts {
            let end = ends.get(&key).copied().unwrap_or(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            let both = start.and_then(|start| Ok((start, end?)));
            found.insert(key, both);
        }
    }
    Ok(found)
}

/// An offset of each partition of a topic, or why there is none.
type Listed = BTreeMap<(String, i32), Result<i64, ErrorCode>>;

/// One offset of some partitions of one leader.
fn list_offsets(
    cluster: &mut Cluster,
    leader: i32,
    asked: &[(&str, Vec<i32>)],
    timestamp: i64,
) -> Result<Listed, Failure> {
    let timeout_ms = cluster.request_timeout_ms();
    let topics = asked.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|index| ListOffsetsPartition {
            partition_index: *index,
            timestamp,
            ..Default::default()
        });
        ListOffsetsTopic { name, partitions: partitions.collect() }
    });
    let request = ListOffsetsRequest { replica_id: -1, topics: topics.collect(), timeout_ms, ..Default::default() };
    let reply = cluster.node(leader)?.call(&request)?;
    let answer: ListOffsetsResponse<'_> = reply.decode()?;
    let mut found = BTreeMap::new();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            // Version 0 gives a list, of which one element was asked for.
            let offset = partition.old_style_offsets.first().copied().unwrap_or(partition.offset);
            let result = if partition.error_code.is_none() { Ok(offset) } else { Err(partition.error_code) };
            found.insert((topic.name.to_owned(), partition.partition_index), result);
        }
    }
    Ok(found)
}

/// `chronik topic describe`.
pub fn describe(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    let names: Vec<&str> = args.free.iter().map(String::as_str).collect();
    let reply = cluster.metadata(Some(&names))?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let (mut there, mut codes) = (Vec::new(), Vec::new());
    for topic in &metadata.topics {
        match topic.error_code.is_none() {
            true => there.push(topic),
            false => {
                let what = format!("Topic {}", topic.name.unwrap_or(""));
                codes.push(complain(&session.out, Failure::broker(&what, topic.error_code, None)));
            }
        }
    }
    let offsets = offsets(&mut cluster, &there)?;
    let configs_reply = match there.is_empty() {
        true => None,
        false => Some(cluster.any().call(&configs_request(&there))?),
    };
    let configs = configs_reply.as_ref().map(|reply| reply.decode::<DescribeConfigsResponse<'_>>()).transpose()?;
    let all = args.flag("all-configs");
    let described = |topic: &MetadataResponseTopic<'_>| Described {
        name: topic.name.unwrap_or("").to_owned(),
        settings: configs.as_ref().map_or(Vec::new(), |configs| settings_of(configs, topic, all)),
    };
    if session.out.is_json() {
        let topics = there.iter().map(|topic| described(topic).json(topic, &offsets));
        session.out.json(&Value::List(topics.collect()))?;
        return Ok(together(codes));
    }
    for (at, topic) in there.iter().enumerate() {
        if at > 0 {
            session.out.line("")?;
        }
        described(topic).print(&mut session.out, topic, &offsets)?;
    }
    Ok(together(codes))
}

/// Says what failed for one of several items; its exit code.
pub fn complain(out: &Out, failure: Failure) -> u8 {
    match failure {
        Failure::Said { code, sentence } => {
            out.complain(&sentence);
            code
        }
        Failure::ReaderGone => OK,
    }
}

fn configs_request<'a>(topics: &[&MetadataResponseTopic<'a>]) -> DescribeConfigsRequest<'a> {
    let resource = |topic: &&MetadataResponseTopic<'a>| DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: topic.name.unwrap_or(""),
        configuration_keys: None,
    };
    DescribeConfigsRequest { resources: topics.iter().map(resource).collect(), ..Default::default() }
}

/// A setting with its value, and whether it is the topic's own.
type Setting = (String, Option<String>, bool);

fn settings_of(configs: &DescribeConfigsResponse<'_>, topic: &MetadataResponseTopic<'_>, all: bool) -> Vec<Setting> {
    let is_ours = |result: &&DescribeConfigsResult<'_>| Some(result.resource_name) == topic.name;
    let Some(result) = configs.results.iter().find(is_ours) else { return Vec::new() };
    let settings = result.configs.iter().map(|config| {
        // Version 0 only says whether it is the default.
        let own = config.config_source == SOURCE_TOPIC || (config.config_source < 0 && !config.is_default);
        (config.name.to_owned(), config.value.map(str::to_owned), own)
    });
    settings.filter(|(_, _, own)| all || *own).collect()
}

struct Described {
    name: String,
    settings: Vec<Setting>,
}

impl Described {
    fn json(&self, topic: &MetadataResponseTopic<'_>, offsets: &Offsets) -> Value {
        let partitions = topic.partitions.iter().map(|partition| {
            let found = offsets.get(&(self.name.clone(), partition.partition_index)).copied();
            let (start, end) = match found {
                Some(Ok((start, end))) => (Some(start), Some(end)),
                _ => (None, None),
            };
            object([
                ("partition", partition.partition_index.into()),
                ("leader", partition.leader_id.into()),
                ("leader_epoch", partition.leader_epoch.into()),
                ("replicas", partition.replica_nodes.clone().into()),
                ("in_sync", partition.isr_nodes.clone().into()),
                ("start_offset", start.into()),
                ("end_offset", end.into()),
            ])
        });
        let setting = |(name, value, own): &Setting| {
            object([("name", name.as_str().into()), ("value", value.clone().into()), ("own", (*own).into())])
        };
        object([
            ("name", self.name.as_str().into()),
            ("id", shown_id(topic).into()),
            ("internal", topic.is_internal.into()),
            ("partitions", Value::List(partitions.collect())),
            ("configs", Value::List(self.settings.iter().map(setting).collect())),
        ])
    }

    fn print(&self, out: &mut Out, topic: &MetadataResponseTopic<'_>, offsets: &Offsets) -> Result<(), Failure> {
        out.heading(&safe(&self.name))?;
        out.line(&format!("id          {}", shown_id(topic).unwrap_or_else(|| "-".to_owned())))?;
        out.line(&format!("partitions  {}", topic.partitions.len()))?;
        out.line(&format!("replicas    {}", replicas(topic)))?;
        for (name, value, own) in &self.settings {
            let default = if *own { "" } else { " (default)" };
            out.line(&format!("config      {}={}{default}", safe(name), safe(value.as_deref().unwrap_or(""))))?;
        }
        let list = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let mut rows: Vec<(i32, Vec<String>)> = Vec::new();
        for partition in &topic.partitions {
            let found = offsets.get(&(self.name.clone(), partition.partition_index)).copied();
            let [start, end, records] = match found {
                Some(Ok((start, end))) => [start.to_string(), end.to_string(), (end - start).to_string()],
                Some(Err(error)) => [error.to_string(), "-".into(), "-".into()],
                None => ["-".into(), "-".into(), "-".into()],
            };
            let (index, leader) = (partition.partition_index, partition.leader_id);
            let (all, in_sync) = (list(&partition.replica_nodes), list(&partition.isr_nodes));
            let epoch = partition.leader_epoch.to_string();
            rows.push((index, vec![index.to_string(), leader.to_string(), epoch, all, in_sync, start, end, records]));
        }
        rows.sort();
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
        out.table(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN-SYNC", "START", "END", "OFFSETS"], &rows)
    }
}
