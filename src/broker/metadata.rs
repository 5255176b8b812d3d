//! Owns Metadata: the one broker, its topics and partitions, and topics that come into being by being asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use super::configs::TopicSettings;
use super::dispatch::Request;
use super::topics::{self, Topic};
use super::{Broker, ConnId};
use crate::limits;
use crate::wire::msg::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// From this version on topics can be asked for by id.
const TOPIC_ID_VERSION: i16 = 12;

impl Broker {
    pub(super) fn metadata(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: MetadataRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let version = req.to.version;
        let named = match &request.topics {
            Some(topics) if version == 0 && topics.is_empty() => None,
            named => named.as_deref(),
        };
        let count = named.map_or(0, <[_]>::len);
        if count > limits::REQUEST_ITEMS_MAX {
            self.close(req.to.conn, format!("it asked for the metadata of {count} topics; there cannot be so many"));
            return Ok(());
        }
        if version < TOPIC_ID_VERSION && named.is_some_and(|named| named.iter().any(|topic| !is_named(topic))) {
            return self.refuse_metadata(req, named.unwrap_or(&[]));
        }
        let named = named.map(distinct);
        let named = named.as_deref();
        let create = request.allow_auto_topic_creation && self.settings.config.auto_create_topics_enable;
        if create {
            let partitions = self.topics.partition_count();
            for topic in named.unwrap_or(&[]) {
                if self.topics.partition_count() - partitions < limits::ASKED_FOR_PARTITIONS_MAX {
                    self.create_when_asked_for(topic);
                }
            }
        }
        let (host, port) = self.advertised(req.to.conn);
        let node_id = self.settings.config.node_id;
        let mut topics: Vec<MetadataResponseTopic<'_>> = match named {
            None => self.topics.iter().map(|topic| describe(topic, node_id)).collect(),
            Some(named) => named.iter().map(|topic| self.describe_named(version, topic)).collect(),
        };
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| topic.error_code.is_none()) {
                topic.topic_authorized_operations = TOPIC_OPERATIONS;
            }
        }
        let of_cluster = request.include_cluster_authorized_operations;
        let settings = self.settings.clone();
        let response = MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id, host: &host, port, rack: None }],
            cluster_id: Some(&settings.cluster_id),
            controller_id: node_id,
            topics,
            cluster_authorized_operations: if of_cluster { CLUSTER_OPERATIONS } else { i32::MIN },
            ..Default::default()
        };
        let encoded = wire::frame::response(version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    /// Before version 12 a request names its topics; its fields for ids are for later versions (KIP-516). Kafka refuses it as
    /// a whole.
    fn refuse_metadata(&mut self, req: &Request<'_>, topics: &[MetadataRequestTopic<'_>]) -> Result<(), DecodeError> {
        let topics = topics.iter().map(|topic| MetadataResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST,
            name: topic.name.or(Some("")),
            topic_id: topic.topic_id,
            ..Default::default()
        });
        let response = MetadataResponse { topics: topics.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    /// Host and port that a client should connect to: what is configured, otherwise where it has come to already.
    pub(super) fn advertised(&self, conn: ConnId) -> (String, i32) {
        let local = self.conns.info(conn).map(|info| info.local);
        let ip = local.map_or_else(String::new, |local| local.ip().to_canonical().to_string());
        let host = self.settings.advertised_host.clone().unwrap_or(ip);
        let port = self.settings.advertised_port.or(local.map(|local| local.port())).unwrap_or(0);
        (host, i32::from(port))
    }

    /// Creates a topic with the broker's defaults, if the name is allowed and there is none.
    fn create_when_asked_for(&mut self, topic: &MetadataRequestTopic<'_>) {
        let Some(name) = topic.name.filter(|name| topic.topic_id.is_zero() && topics::name_fault(name).is_none())
        else {
            return;
        };
        let partitions = usize::try_from(self.settings.config.num_partitions).unwrap_or(1);
        let room = self.topics.partition_count() + partitions <= limits::PARTITIONS_MAX;
        let free = self.topics.by_name(name).is_none() && self.topics.colliding(name).is_none();
        if free && room && self.has_space_for_metadata() {
            self.create_topic(name, partitions, BTreeMap::new());
        }
    }

    /// Whether the log's reserve has room for changes of metadata.
    pub(super) fn has_space_for_metadata(&self) -> bool {
        (self.unwritten_bytes() + limits::META_CHANGE_BYTES) as u64 <= self.space_bytes
    }

    /// Makes a topic; the caller has checked everything. Its id.
    pub(super) fn create_topic(&mut self, name: &str, partitions: usize, configs: BTreeMap<String, String>) -> Uuid {
        let id = self.rng.uuid();
        let settings = TopicSettings::resolve(&self.settings.config, &configs);
        self.append_meta(topics::topic_entry(id, name, partitions, &configs));
        self.topics.put(id, name, partitions, configs, settings);
        self.topics_have_changed();
        id
    }

    fn describe_named<'a>(&'a self, version: i16, wanted: &MetadataRequestTopic<'a>) -> MetadataResponseTopic<'a> {
        let node_id = self.settings.config.node_id;
        let by_id = version >= 10 && !wanted.topic_id.is_zero();
        let name = wanted.name.unwrap_or("");
        let topic = if by_id { self.topics.by_id(wanted.topic_id) } else { self.topics.by_name(name) };
        if let Some(topic) = topic {
            return describe(topic, node_id);
        }
        let error_code = if by_id {
            ErrorCode::UNKNOWN_TOPIC_ID
        } else if topics::name_fault(name).is_some() || self.topics.colliding(name).is_some() {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        } else {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        };
        MetadataResponseTopic {
            error_code,
            name: if by_id { None } else { wanted.name },
            topic_id: wanted.topic_id,
            ..Default::default()
        }
    }
}

/// Whether a topic is asked for by its name alone.
fn is_named(topic: &MetadataRequestTopic<'_>) -> bool {
    topic.name.is_some() && topic.topic_id.is_zero()
}

/// The topics that a request asks for, each once. If there are ids among them, the names do not count.
fn distinct<'a>(named: &[MetadataRequestTopic<'a>]) -> Vec<MetadataRequestTopic<'a>> {
    let by_id = named.iter().any(|topic| !topic.topic_id.is_zero());
    let mut seen = BTreeSet::new();
    let counts = |topic: &&MetadataRequestTopic<'a>| match by_id {
        true => !topic.topic_id.is_zero() && seen.insert((topic.topic_id, None)),
        false => seen.insert((Uuid::ZERO, topic.name)),
    };
    named.iter().filter(counts).cloned().collect()
}

fn describe(topic: &Topic, node_id: i32) -> MetadataResponseTopic<'_> {
    let partitions = topic.partitions.iter().map(|partition| MetadataResponsePartition {
        partition_index: partition.log.id.partition,
        leader_id: node_id,
        leader_epoch: partition.log.leader_epoch,
        replica_nodes: vec![node_id],
        isr_nodes: vec![node_id],
        ..Default::default()
    });
    MetadataResponseTopic {
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topics::is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
