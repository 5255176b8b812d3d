//! Owns the commands that change topics: create, delete, add-partitions, set, unset, trim.

use std::collections::BTreeMap;

use super::client::Cluster;
use super::failure::{broker_sentence, code_of, together, Failure, NOT_FOUND};
use super::output::safe;
use super::parse::{number, Args};
use super::topic::{complain, TOPIC_RESOURCE};
use super::value::{object, Value};
use super::Session;
use crate::options::quoted;
use crate::wire::msg::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
    IncrementalAlterConfigsAlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse, MetadataResponse,
};
use crate::wire::ErrorCode;

/// Operations of IncrementalAlterConfigs (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;

/// What became of one item.
struct Outcome {
    name: String,
    error: ErrorCode,
    message: Option<String>,
    /// Said to a person when it went well.
    done: String,
}

/// Prints outcomes and gives the exit code.
fn tell(session: &mut Session, outcomes: &[Outcome]) -> Result<u8, Failure> {
    if session.out.is_json() {
        let items = outcomes.iter().map(|outcome| {
            let failed = outcome.error.is_error();
            let sentence = failed.then(|| broker_sentence(outcome.error, outcome.message.as_deref()));
            object([
                ("name", outcome.name.as_str().into()),
                ("ok", (!failed).into()),
                ("error", failed.then(|| outcome.error.to_string()).into()),
                ("message", sentence.into()),
                ("dry_run", session.dry_run.into()),
            ])
        });
        session.out.json(&Value::List(items.collect()))?;
    }
    for outcome in outcomes {
        if outcome.error.is_error() {
            complain(&session.out, Failure::broker(&outcome.name, outcome.error, outcome.message.as_deref()));
        } else if !session.out.is_json() && !session.out.quiet {
            let would = if session.dry_run { " (dry run)" } else { "" };
            session.out.line(&format!("{}: {}{would}", safe(&outcome.name), outcome.done))?;
        }
    }
    Ok(together(outcomes.iter().filter(|outcome| outcome.error.is_error()).map(|outcome| code_of(outcome.error))))
}

/// Splits `KEY=VALUE`.
fn pair(text: &str) -> Result<(&str, &str), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Failure::usage(format!("{} is not valid; give KEY=VALUE.", quoted(text)))),
    }
}

/// `chronik topic create`.
pub fn create(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let partitions = args.number::<i32>("partitions", "a number")?.unwrap_or(-1);
    let replicas = args.number::<i16>("replicas", "a number")?.unwrap_or(-1);
    if (args.value("partitions").is_some() && partitions < 1) || (args.value("replicas").is_some() && replicas < 1) {
        return Err(Failure::usage("A topic has at least one partition and one replica."));
    }
    let given = args.values("config");
    let configs: Vec<(&str, &str)> = given.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
    let mut cluster = session.connect()?;
    let topics = args.free.iter().map(|name| CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: replicas,
        configs: configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect(),
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        timeout_ms: cluster.request_timeout_ms(),
        validate_only: session.dry_run,
    };
    let reply = cluster.any().call(&request)?;
    let answer: CreateTopicsResponse<'_> = reply.decode()?;
    let forgiving = args.flag("if-not-exists");
    let outcome = |topic: &crate::wire::msg::CreatableTopicResult<'_>| {
        let is_there = forgiving && topic.error_code == ErrorCode::TOPIC_ALREADY_EXISTS;
        let done = match (is_there, topic.num_partitions) {
            (true, _) => "is there already".to_owned(),
            (false, 1) => "created with 1 partition".to_owned(),
            (false, n @ 2..) => format!("created with {n} partitions"),
            _ => "created".to_owned(),
        };
        Outcome {
            name: topic.name.to_owned(),
            error: if is_there { ErrorCode::NONE } else { topic.error_code },
            message: topic.error_message.map(str::to_owned),
            done,
        }
    };
    let outcomes: Vec<Outcome> = answer.topics.iter().map(outcome).collect();
    tell(session, &outcomes)
}

/// `chronik topic delete`.
pub fn delete(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    session.confirm(&format!("Delete {} with all records?", args.free.join(", ")))?;
    let mut cluster = session.connect()?;
    let forgiving = args.flag("if-exists");
    let mut outcomes = match session.dry_run {
        true => would_delete(&mut cluster, &args.free)?,
        false => {
            let request = DeleteTopicsRequest {
                topics: args
                    .free
                    .iter()
                    .map(|name| DeleteTopicState { name: Some(name), ..Default::default() })
                    .collect(),
                topic_names: args.free.iter().map(String::as_str).collect(),
                timeout_ms: cluster.request_timeout_ms(),
            };
            let reply = cluster.any().call(&request)?;
            let answer: DeleteTopicsResponse<'_> = reply.decode()?;
            let outcome = |topic: &crate::wire::msg::DeletableTopicResult<'_>| Outcome {
                name: topic.name.unwrap_or("").to_owned(),
                error: topic.error_code,
                message: topic.error_message.map(str::to_owned),
                done: "deleted".to_owned(),
            };
            answer.responses.iter().map(outcome).collect()
        }
    };
    for outcome in &mut outcomes {
        if forgiving && outcome.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
            (outcome.error, outcome.done) = (ErrorCode::NONE, "is not there".to_owned());
        }
    }
    tell(session, &outcomes)
}

/// The protocol has no dry run of a deletion; whether the topics are there is what can be said.
fn would_delete(cluster: &mut Cluster, names: &[String]) -> Result<Vec<Outcome>, Failure> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let reply = cluster.metadata(Some(&names))?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let outcome = |topic: &crate::wire::msg::MetadataResponseTopic<'_>| Outcome {
        name: topic.name.unwrap_or("").to_owned(),
        error: topic.error_code,
        message: None,
        done: "would be deleted".to_owned(),
    };
    Ok(metadata.topics.iter().map(outcome).collect())
}

/// `chronik topic add-partitions`.
pub fn add_partitions(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let Some(count) = args.number::<i32>("to", "a number of partitions")? else {
        return Err(Failure::usage("Give the number of partitions that there are to be, with --to."));
    };
    let mut cluster = session.connect()?;
    let request = CreatePartitionsRequest {
        topics: args.free.iter().map(|name| CreatePartitionsTopic { name, count, assignments: None }).collect(),
        timeout_ms: cluster.request_timeout_ms(),
        validate_only: session.dry_run,
    };
    let reply = cluster.any().call(&request)?;
    let answer: CreatePartitionsResponse<'_> = reply.decode()?;
    let outcome = |topic: &crate::wire::msg::CreatePartitionsTopicResult<'_>| Outcome {
        name: topic.name.to_owned(),
        error: topic.error_code,
        message: topic.error_message.map(str::to_owned),
        done: format!("has {count} partitions"),
    };
    let outcomes: Vec<Outcome> = answer.results.iter().map(outcome).collect();
    tell(session, &outcomes)
}

/// `chronik topic set`.
pub fn set(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let changes = args.free[1..].iter().map(|text| pair(text).map(|(key, value)| (key, SET, Some(value))));
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    change(session, &args.free[0], changes)
}

/// `chronik topic unset`.
pub fn unset(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let changes = args.free[1..].iter().map(|key| (key.as_str(), DELETE, None)).collect();
    change(session, &args.free[0], changes)
}

fn change(session: &mut Session, topic: &str, changes: Vec<(&str, i8, Option<&str>)>) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    let configs = changes.iter().map(|(name, operation, value)| IncrementalAlterConfigsAlterableConfig {
        name,
        config_operation: *operation,
        value: *value,
    });
    let resource = IncrementalAlterConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: topic,
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: session.dry_run };
    let reply = cluster.any().call(&request)?;
    let answer: IncrementalAlterConfigsResponse<'_> = reply.decode()?;
    let shown: Vec<String> = changes
        .iter()
        .map(|(key, _, value)| value.map_or_else(|| format!("{key} unset"), |value| format!("{key}={value}")))
        .collect();
    let outcome = |resource: &crate::wire::msg::AlterConfigsResourceResponse<'_>| Outcome {
        name: resource.resource_name.to_owned(),
        error: resource.error_code,
        message: resource.error_message.map(str::to_owned),
        done: safe(&shown.join(", ")),
    };
    let outcomes: Vec<Outcome> = answer.responses.iter().map(outcome).collect();
    tell(session, &outcomes)
}

/// `chronik topic trim`.
pub fn trim(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let topic = args.free[0].as_str();
    let before = match args.value("before").as_deref() {
        None => return Err(Failure::usage("Give the first offset that stays, or end, with --before.")),
        Some("end") => -1,
        Some(text) => match number::<i64>("--before", text, "an offset or end")? {
            offset @ 0.. => offset,
            _ => return Err(Failure::usage("--before: an offset is not negative.")),
        },
    };
    let mut wanted = Vec::new();
    for text in args.values("partition") {
        wanted.push(number::<i32>("--partition", &text, "the number of a partition")?);
    }
    let shown = if before < 0 { "the end".to_owned() } else { format!("offset {before}") };
    session.confirm(&format!("Delete the records of {topic} before {shown}?"))?;
    let mut cluster = session.connect()?;
    let leaders = leaders_of(&mut cluster, topic, &wanted)?;
    let mut outcomes = Vec::new();
    for (leader, partitions) in leaders {
        let (done, error) = (format!("would be trimmed to {shown}"), ErrorCode::NONE);
        if session.dry_run {
            outcomes.extend(partitions.iter().map(|partition| {
                let name = format!("{topic}-{partition}");
                Outcome { name, error, message: None, done: done.clone() }
            }));
            continue;
        }
        let partition = |index: &i32| DeleteRecordsPartition { partition_index: *index, offset: before };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic { name: topic, partitions: partitions.iter().map(partition).collect() }],
            timeout_ms: cluster.request_timeout_ms(),
        };
        let reply = cluster.node(leader)?.call(&request)?;
        let answer: DeleteRecordsResponse<'_> = reply.decode()?;
        outcomes.extend(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| Outcome {
            name: format!("{topic}-{}", partition.partition_index),
            error: partition.error_code,
            message: None,
            done: format!("begins at offset {}", partition.low_watermark),
        }));
    }
    outcomes.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    tell(session, &outcomes)
}

/// The leaders of some partitions of a topic, or of all if none is named.
fn leaders_of(cluster: &mut Cluster, topic: &str, wanted: &[i32]) -> Result<BTreeMap<i32, Vec<i32>>, Failure> {
    let reply = cluster.metadata(Some(&[topic]))?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let what = || format!("Topic {topic}");
    let Some(found) = metadata.topics.first() else {
        return Err(Failure::broker(&what(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
    };
    if found.error_code.is_error() {
        return Err(Failure::broker(&what(), found.error_code, None));
    }
    if let Some(missing) = wanted.iter().find(|index| !found.partitions.iter().any(|p| p.partition_index == **index)) {
        return Err(Failure::new(NOT_FOUND, format!("{} has no partition {missing}.", what())));
    }
    let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in &found.partitions {
        if wanted.is_empty() || wanted.contains(&partition.partition_index) {
            leaders.entry(partition.leader_id).or_default().push(partition.partition_index);
        }
    }
    Ok(leaders)
}
