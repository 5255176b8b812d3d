//! Owns CreateTopics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::describe_configs::{Entry, Known};
use super::{check_replicas, error_of, message_of, repeated, Outcome, Refused};
use crate::broker::configs::{check_together, topic_table};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker};
use crate::limits;
use crate::wire::msg::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// Kafka's topic of its own metadata, which no client may create.
pub(super) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// A topic that was created, or would have been.
struct Created {
    id: Uuid,
    partitions: usize,
    configs: Vec<Arc<Entry>>,
}

/// A topic as it is to be.
struct Plan {
    partitions: usize,
    configs: BTreeMap<String, String>,
}

impl Broker {
    pub(in crate::broker) fn create_topics(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: CreateTopicsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let twice = repeated(request.topics.iter().map(|topic| topic.name));
        let mut answered: BTreeSet<&str> = BTreeSet::new();
        let mut names = Vec::new();
        let known = Known::default();
        let mut outcomes: Vec<Result<Created, Refused>> = Vec::new();
        let wanted = request.topics.iter().map(|topic| match topic.num_partitions {
            _ if !topic.assignments.is_empty() => topic.assignments.len(),
            -1 => usize::try_from(self.settings.config.num_partitions).unwrap_or(0),
            partitions => usize::try_from(partitions).unwrap_or(0),
        });
        let too_many = wanted.fold(0, usize::saturating_add) > limits::CREATED_PARTITIONS_MAX;
        for topic in request.topics.iter().filter(|topic| answered.insert(topic.name)) {
            let outcome = if too_many {
                let why = "Excessively large number of partitions per request.";
                Err(Refused::new(ErrorCode::POLICY_VIOLATION, why))
            } else if twice.contains(topic.name) {
                Err(Refused::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name."))
            } else {
                self.create_one(req, &known, topic, request.validate_only)
            };
            names.push(topic.name);
            outcomes.push(outcome);
        }
        self.count_outcomes(req.to, &outcomes);
        let results = names.iter().zip(&outcomes).map(|(name, outcome)| result(name, outcome));
        let response = CreateTopicsResponse { topics: results.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn create_one(
        &mut self,
        req: &Request<'_>,
        known: &Known,
        topic: &CreatableTopic<'_>,
        validate_only: bool,
    ) -> Result<Created, Refused> {
        let plan = self.plan_topic(topic)?;
        if !validate_only {
            self.check_space(req.now, 0)?;
        }
        let configs = if req.to.version >= 5 { self.topic_entries(known, &plan.configs) } else { Vec::new() };
        let partitions = plan.partitions;
        let id = if validate_only { Uuid::ZERO } else { self.create_planned(topic.name, plan) };
        Ok(Created { id, partitions, configs })
    }

    fn create_planned(&mut self, name: &str, plan: Plan) -> Uuid {
        self.create_topic(name, plan.partitions, plan.configs)
    }

    /// Everything that Kafka checks before it creates a topic, in its order.
    fn plan_topic(&self, topic: &CreatableTopic<'_>) -> Result<Plan, Refused> {
        self.check_new_name(topic.name)?;
        let configs = self.check_new_configs(topic)?;
        let partitions = match topic.assignments.is_empty() {
            true => self.check_counts(topic)?,
            false => self.check_assignments(topic)?,
        };
        self.check_partition_limit(partitions)?;
        Ok(Plan { partitions, configs })
    }

    fn check_new_name(&self, name: &str) -> Outcome {
        if name == CLUSTER_METADATA_TOPIC {
            let why = format!("Creation of internal topic {name} is prohibited.");
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, why));
        }
        if let Some(fault) = topics::name_fault(name) {
            return Err(Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("Topic name is invalid: {fault}")));
        }
        if self.topics.by_name(name).is_some() {
            return Err(Refused::new(ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists.")));
        }
        match self.topics.colliding(name) {
            None => Ok(()),
            Some(other) => Err(Refused::new(
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                format!("Topic '{name}' collides with existing topic: {other}"),
            )),
        }
    }

    fn check_new_configs(&self, topic: &CreatableTopic<'_>) -> Result<BTreeMap<String, String>, Refused> {
        let invalid = |why: String| Refused::new(ErrorCode::INVALID_CONFIG, why);
        let mut configs = BTreeMap::new();
        for config in &topic.configs {
            let name = config.name;
            let row = topic_table::find(name)
                .ok_or_else(|| invalid(format!("Unknown topic config name: {}", topic_table::shown(name))))?;
            let value =
                config.value.ok_or_else(|| invalid(format!("Null value not supported for topic configs: {name}")))?;
            let value = row.check(&self.settings.config, value).map_err(invalid)?;
            configs.insert(name.to_owned(), value);
        }
        check_together(&self.settings.config, &configs).map_err(invalid)?;
        Ok(configs)
    }

    /// The number of partitions of a topic whose replicas the broker places.
    fn check_counts(&self, topic: &CreatableTopic<'_>) -> Result<usize, Refused> {
        let refused = |error, why: String| Err(Refused::new(error, why));
        let factor = topic.replication_factor;
        if factor <= 0 && factor != -1 {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.".to_owned();
            return refused(ErrorCode::INVALID_REPLICATION_FACTOR, why);
        }
        let partitions = match topic.num_partitions {
            -1 => self.settings.config.num_partitions,
            partitions => partitions,
        };
        let Ok(partitions @ 1..) = usize::try_from(partitions) else {
            let why = "Number of partitions was set to an invalid non-positive value.".to_owned();
            return refused(ErrorCode::INVALID_PARTITIONS, why);
        };
        if factor > 1 {
            let why = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
                 reached because only 1 broker(s) are registered."
            );
            return refused(ErrorCode::INVALID_REPLICATION_FACTOR, why);
        }
        Ok(partitions)
    }

    /// The number of partitions of a topic whose replicas the client has placed.
    fn check_assignments(&self, topic: &CreatableTopic<'_>) -> Result<usize, Refused> {
        let counts =
            [("replication factor", i32::from(topic.replication_factor)), ("numPartitions", topic.num_partitions)];
        if let Some((what, _)) = counts.iter().find(|(_, count)| *count != -1) {
            let why = format!("A manual partition assignment was specified, but {what} was not set to -1.");
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, why));
        }
        let mut indexes = BTreeSet::new();
        for assignment in &topic.assignments {
            if !indexes.insert(assignment.partition_index) {
                return Err(Refused::new(
                    ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                    format!("Found multiple manual partition assignments for partition {}", assignment.partition_index),
                ));
            }
            check_replicas(&assignment.broker_ids, self.settings.config.node_id)?;
        }
        if !indexes.iter().copied().eq(0..topic.assignments.len() as i32) {
            return Err(Refused::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                "partitions should be a consecutive 0-based integer sequence",
            ));
        }
        Ok(topic.assignments.len())
    }

    /// Refuses partitions beyond what the broker holds in all.
    pub(super) fn check_partition_limit(&self, more: usize) -> Outcome {
        if self.topics.partition_count() + more <= limits::PARTITIONS_MAX {
            return Ok(());
        }
        let most = limits::PARTITIONS_MAX;
        Err(Refused::new(ErrorCode::POLICY_VIOLATION, format!("This broker holds at most {most} partitions.")))
    }
}

fn result<'a>(name: &'a str, outcome: &'a Result<Created, Refused>) -> CreatableTopicResult<'a> {
    let refused = CreatableTopicResult {
        name,
        error_code: error_of(outcome),
        error_message: message_of(outcome),
        configs: Some(Vec::new()),
        ..Default::default()
    };
    let Ok(created) = outcome else { return refused };
    let configs = created.configs.iter().map(|entry| CreatableTopicConfigs {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: false,
        config_source: entry.source,
        is_sensitive: false,
    });
    CreatableTopicResult {
        topic_id: created.id,
        num_partitions: created.partitions as i32,
        replication_factor: 1,
        configs: Some(configs.collect()),
        ..refused
    }
}
