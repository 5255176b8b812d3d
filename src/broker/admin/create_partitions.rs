//! Owns CreatePartitions.

use std::collections::BTreeSet;

use super::{check_replicas, error_of, message_of, repeated, Outcome, Refused};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker};
use crate::limits;
use crate::wire::msg::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::wire::{self, DecodeError, ErrorCode};

impl Broker {
    pub(in crate::broker) fn create_partitions(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: CreatePartitionsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let twice = repeated(request.topics.iter().map(|topic| topic.name));
        let mut answered: BTreeSet<&str> = BTreeSet::new();
        let mut names = Vec::new();
        let mut outcomes = Vec::new();
        for topic in request.topics.iter().filter(|topic| answered.insert(topic.name)) {
            let outcome = if request.topics.len() > limits::REQUEST_ITEMS_MAX {
                Err(ErrorCode::POLICY_VIOLATION.into())
            } else if twice.contains(topic.name) {
                Err(Refused::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name."))
            } else {
                self.add_partitions(req, topic, request.validate_only)
            };
            names.push(topic.name);
            outcomes.push(outcome);
        }
        self.count_outcomes(req.to, &outcomes);
        let results = names.iter().zip(&outcomes).map(|(name, outcome)| CreatePartitionsTopicResult {
            name,
            error_code: error_of(outcome),
            error_message: message_of(outcome),
        });
        let response = CreatePartitionsResponse { results: results.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn add_partitions(
        &mut self,
        req: &Request<'_>,
        wanted: &CreatePartitionsTopic<'_>,
        validate_only: bool,
    ) -> Outcome {
        let name = wanted.name;
        let topic = self.topics.by_name(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let (id, present) = (topic.id, topic.partitions.len());
        let invalid = |why: String| Err(Refused::new(ErrorCode::INVALID_PARTITIONS, why));
        let count = usize::try_from(wanted.count).unwrap_or(0);
        if count == present {
            return invalid(format!("Topic already has {present} partition(s)."));
        }
        if count < present {
            return invalid(format!(
                "The topic {name} currently has {present} partition(s); {} would not be an increase.",
                wanted.count
            ));
        }
        if count > limits::PARTITIONS_MAX {
            let most = limits::PARTITIONS_MAX;
            return invalid(format!("{count} partitions are more than this broker takes, which is {most}."));
        }
        let added = count - present;
        if let Some(assignments) = &wanted.assignments {
            if assignments.len() != added {
                return Err(Refused::new(
                    ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                    format!(
                        "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                        assignments.len()
                    ),
                ));
            }
            for assignment in assignments {
                check_replicas(&assignment.broker_ids, self.settings.config.node_id)?;
            }
        }
        self.check_partition_limit(added)?;
        if validate_only {
            return Ok(());
        }
        self.check_space(req.now, 0)?;
        let Some(topic) = self.topics.by_id(id) else { return Ok(()) };
        let (configs, settings) = (topic.configs.clone(), topic.settings.clone());
        self.append_meta(topics::topic_entry(id, name, count, &configs));
        self.topics.put(id, name, count, configs, settings);
        self.topics_have_changed();
        Ok(())
    }
}
