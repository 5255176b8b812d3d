//! Owns DescribeLogDirs and AlterReplicaLogDirs: how much each partition holds. There is one directory, and the broker does not look at it: sizes
//! are what the log is known to hold, and the size of the volume is told as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::broker::dispatch::Request;
use crate::broker::topics::{Partition, Topic};
use crate::broker::Broker;
use crate::wal::PartitionId;
use crate::wire::msg::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::wire::{self, frame, DecodeError, ErrorCode};

impl Broker {
    pub(in crate::broker) fn describe_log_dirs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeLogDirsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let topics = match &request.topics {
            None => self.topics.iter().map(|topic| sizes(topic, topic.partitions.iter())).collect(),
            Some(wanted) => {
                // What is named twice is told once, and what is not there is left out, as in Kafka.
                let mut named: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
                for wanted in wanted {
                    named.entry(wanted.topic).or_default().extend(&wanted.partitions);
                }
                let found = named.iter().filter_map(|(name, indexes)| Some((self.topics.by_name(name)?, indexes)));
                let told = found.map(|(topic, indexes)| {
                    let indexes = indexes.iter().filter_map(|index| usize::try_from(*index).ok());
                    sizes(topic, indexes.filter_map(|index| topic.partitions.get(index)))
                });
                told.filter(|topic| !topic.partitions.is_empty()).collect()
            }
        };
        let log_dir = self.settings.config.data_dir.to_string_lossy();
        let result = DescribeLogDirsResult { log_dir: &log_dir, topics, ..Default::default() };
        let response = DescribeLogDirsResponse { results: vec![result], ..Default::default() };
        let encoded = frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    /// A replica can be moved to the directory where it is, and there is no other.
    pub(in crate::broker) fn alter_replica_log_dirs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AlterReplicaLogDirsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // As in Kafka, each partition is answered once: for the last directory that it is named with.
        let mut named: BTreeMap<&str, BTreeMap<i32, &str>> = BTreeMap::new();
        for dir in &request.dirs {
            for topic in &dir.topics {
                let partitions = topic.partitions.iter().map(|partition| (*partition, dir.path));
                named.entry(topic.name).or_default().extend(partitions);
            }
        }
        let own = self.settings.config.data_dir.clone();
        let mut results = Vec::with_capacity(named.len());
        for (topic_name, partitions) in named {
            let id = self.topics.id_of(topic_name);
            let partitions = partitions.into_iter().map(|(partition_index, path)| {
                let id = id.map(|topic| PartitionId { topic, partition: partition_index });
                let error_code = if Path::new(path) != own {
                    ErrorCode::LOG_DIR_NOT_FOUND
                } else if id.is_some_and(|id| self.topics.partition(id).is_some()) {
                    ErrorCode::NONE
                } else {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                };
                AlterReplicaLogDirPartitionResult { partition_index, error_code }
            });
            results.push(AlterReplicaLogDirTopicResult { topic_name, partitions: partitions.collect() });
        }
        for error in results.iter().flat_map(|topic| &topic.partitions).filter(|p| p.error_code.is_error()) {
            self.settings.metrics.request_error(req.to.key, error.error_code.0);
        }
        self.reply(req.to, &AlterReplicaLogDirsResponse { results, ..Default::default() });
        Ok(())
    }
}

fn sizes<'a>(topic: &'a Topic, partitions: impl Iterator<Item = &'a Partition>) -> DescribeLogDirsTopic<'a> {
    let partitions = partitions.map(|partition| DescribeLogDirsPartition {
        partition_index: partition.log.id.partition,
        partition_size: i64::try_from(partition.log.bytes()).unwrap_or(i64::MAX),
        offset_lag: 0,
        is_future_key: false,
    });
    DescribeLogDirsTopic { name: &topic.name, partitions: partitions.collect() }
}
