//! Owns DescribeLogDirs: how much each partition holds. There is one directory, and the broker does not look at it: sizes
//! are what the log is known to hold, and the size of the volume is told as unknown.

use std::collections::BTreeSet;

use crate::broker::dispatch::Request;
use crate::broker::topics::{Partition, Topic};
use crate::broker::Broker;
use crate::wire::msg::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::wire::{self, frame, DecodeError};

impl Broker {
    pub(in crate::broker) fn describe_log_dirs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeLogDirsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let topics = match &request.topics {
            None => self.topics.iter().map(|topic| sizes(topic, topic.partitions.iter())).collect(),
            Some(wanted) => {
                // What is named twice is told once; what is not there is left out, as in Kafka.
                let mut told = BTreeSet::new();
                let found = wanted.iter().filter_map(|wanted| Some((wanted, self.topics.by_name(wanted.topic)?)));
                let mut topics = Vec::new();
                for (wanted, topic) in found {
                    let indexes = wanted.partitions.iter().filter_map(|index| usize::try_from(*index).ok());
                    let partitions = indexes.filter_map(|index| topic.partitions.get(index));
                    let new = partitions.filter(|p| told.insert((topic.id, p.log.id.partition)));
                    let new: Vec<&Partition> = new.collect();
                    if !new.is_empty() {
                        topics.push(sizes(topic, new.into_iter()));
                    }
                }
                topics
            }
        };
        let log_dir = self.settings.config.data_dir.to_string_lossy();
        let result = DescribeLogDirsResult { log_dir: &log_dir, topics, ..Default::default() };
        let response = DescribeLogDirsResponse { results: vec![result], ..Default::default() };
        let encoded = frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
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
