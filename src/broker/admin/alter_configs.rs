//! Owns AlterConfigs and IncrementalAlterConfigs: changing configurations of topics and of this broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{error_of, message_of, repeated, resource, Outcome, Refused};
use crate::broker::configs::value::elements;
use crate::broker::configs::{broker_table, check_together, topic_table, Configs, TopicSettings};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker, Now};
use crate::limits;
use crate::wire::msg::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// What is to happen with one key (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

pub(super) struct Alteration<'a> {
    pub name: &'a str,
    /// `None` is an operation that Kafka does not know.
    pub operation: Option<Operation>,
    pub value: Option<&'a str>,
}

impl Operation {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Set => "SET",
            Operation::Delete => "DELETE",
            Operation::Append => "APPEND",
            Operation::Subtract => "SUBTRACT",
        }
    }
}

/// What is to happen with one resource.
pub(super) struct Change<'a> {
    resource_type: i8,
    pub resource_name: &'a str,
    /// Forget what is not named.
    pub replace: bool,
    pub alterations: Vec<Alteration<'a>>,
}

impl Broker {
    pub(in crate::broker) fn alter_configs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AlterConfigsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let changes = request.resources.iter().map(|resource| Change {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            replace: true,
            alterations: resource.configs.iter().map(|c| set(c.name, c.value)).collect(),
        });
        let changes: Vec<Change<'_>> = changes.collect();
        let outcomes = self.alter_all(req, &changes, request.validate_only);
        let responses = changes.iter().zip(&outcomes).map(|(change, outcome)| answer(change, outcome)).collect();
        let response = AlterConfigsResponse { responses, ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    pub(in crate::broker) fn incremental_alter_configs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: IncrementalAlterConfigsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let changes = request.resources.iter().map(|resource| Change {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            replace: false,
            alterations: resource
                .configs
                .iter()
                .map(|c| Alteration { name: c.name, operation: operation(c.config_operation), value: c.value })
                .collect(),
        });
        let changes: Vec<Change<'_>> = changes.collect();
        let outcomes = self.alter_all(req, &changes, request.validate_only);
        let responses = changes.iter().zip(&outcomes).map(|(change, outcome)| answer(change, outcome)).collect();
        let response = IncrementalAlterConfigsResponse { responses, ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn alter_all(&mut self, req: &Request<'_>, changes: &[Change<'_>], validate_only: bool) -> Vec<Outcome> {
        let twice: BTreeSet<_> = repeated(changes.iter().map(|change| (change.resource_type, change.resource_name)));
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let outcome = if changes.len() > limits::REQUEST_ITEMS_MAX {
                Err(ErrorCode::POLICY_VIOLATION.into())
            } else if twice.contains(&(change.resource_type, change.resource_name)) {
                Err(invalid("Each resource must appear at most once."))
            } else {
                self.alter(req.now, change, validate_only)
            };
            outcomes.push(outcome);
        }
        self.count_outcomes(req.to, &outcomes);
        outcomes
    }

    fn alter(&mut self, now: Now, change: &Change<'_>, validate_only: bool) -> Outcome {
        if !repeated(change.alterations.iter().map(|alteration| alteration.name)).is_empty() {
            return Err(invalid("Error due to duplicate config keys"));
        }
        for alteration in &change.alterations {
            match alteration.operation {
                None => return Err(invalid(format!("Unknown operation for {}.", topic_table::shown(alteration.name)))),
                Some(Operation::Delete) => {}
                Some(_) if alteration.value.is_some() => {}
                Some(_) => {
                    return Err(invalid(format!(
                        "Null value not supported for : {}",
                        topic_table::shown(alteration.name)
                    )))
                }
            }
        }
        match change.resource_type {
            resource::TOPIC => self.alter_topic(now, change, validate_only),
            resource::BROKER => self.alter_broker(now, change, validate_only),
            resource::GROUP => self.alter_group(now, change, validate_only),
            resource::CLIENT_METRICS => self.alter_client_metrics(now, change, validate_only),
            // Kafka has only the incremental way for loggers.
            resource::BROKER_LOGGER if !change.replace => self.alter_loggers(change, validate_only),
            kind => Err(invalid(format!("Unknown resource type {kind}"))),
        }
    }

    fn alter_topic(&mut self, now: Now, change: &Change<'_>, validate_only: bool) -> Outcome {
        let name = change.resource_name;
        if name.is_empty() {
            return Err(invalid("Default topic resources are not allowed."));
        }
        if let Some(fault) = topics::name_fault(name) {
            return Err(Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("Topic name is invalid: {fault}")));
        }
        // As in Kafka, what is wrong with a value is told before the topic is missed.
        let topic = self.topics.by_name(name);
        let configs = self.altered(topic.map(|topic| &topic.configs), change)?;
        let topic = topic.ok_or_else(|| {
            Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."))
        })?;
        check_together(&self.settings.config, &configs).map_err(|why| Refused::new(ErrorCode::INVALID_CONFIG, why))?;
        if validate_only || configs == topic.configs {
            return Ok(());
        }
        let (id, partitions) = (topic.id, topic.partitions.len());
        self.check_space(now, 0)?;
        self.append_meta(topics::topic_entry(id, name, partitions, &configs));
        self.put_configs(id, configs);
        self.schedule_retention(now);
        self.evict(now);
        self.schedule_cleaning(now);
        Ok(())
    }

    /// A topic's own configurations, if there is such a topic, with a change.
    fn altered(&self, own: Option<&Configs>, change: &Change<'_>) -> Result<Configs, Refused> {
        let mut configs = own.filter(|_| !change.replace).cloned().unwrap_or_default();
        for alteration in &change.alterations {
            let name = alteration.name;
            let operation = alteration.operation.unwrap_or(Operation::Set);
            let Some(row) = topic_table::find(name) else {
                // What was never there is easily forgotten.
                if operation == Operation::Delete {
                    configs.remove(name);
                    continue;
                }
                let why = format!("Unknown topic config name: {}", topic_table::shown(name));
                return Err(Refused::new(ErrorCode::INVALID_CONFIG, why));
            };
            if operation == Operation::Delete {
                configs.remove(name);
                continue;
            }
            let given = alteration.value.unwrap_or("");
            let value = match operation {
                Operation::Append | Operation::Subtract if !row.kind.is_list() => {
                    let why = not_a_list(operation, name);
                    return Err(Refused::new(ErrorCode::INVALID_CONFIG, why));
                }
                Operation::Append | Operation::Subtract => {
                    let present = configs.get(name).cloned().unwrap_or_else(|| row.default(&self.settings.config));
                    combine(&present, operation, given)
                }
                _ => given.to_owned(),
            };
            let value = row.check(&self.settings.config, &value);
            let value = value.map_err(|why| Refused::new(ErrorCode::INVALID_CONFIG, why))?;
            configs.insert(name.to_owned(), value);
        }
        Ok(configs)
    }

    /// Gives a topic other configurations, without telling the log.
    fn put_configs(&mut self, id: Uuid, configs: BTreeMap<String, String>) {
        if let Some(topic) = self.topics.by_id_mut(id) {
            topic.settings = TopicSettings::resolve(&self.settings.config, &configs);
            topic.configs = configs;
        }
    }

    fn alter_broker(&mut self, now: Now, change: &Change<'_>, validate_only: bool) -> Outcome {
        let resource = change.resource_name;
        if !resource.is_empty() {
            let own = self.settings.config.node_id;
            match resource.parse::<i32>() {
                Ok(id) if id == own => {}
                Ok(id) => return Err(invalid(format!("Unexpected broker id, expected {own}, but received {id}"))),
                Err(_) => return Err(invalid(not_a_node_id(resource))),
            }
        }
        let mut wanted: BTreeMap<&str, Option<String>> = BTreeMap::new();
        if change.replace {
            wanted.extend(
                self.broker_configs.of(resource).keys().filter_map(|name| Some((broker_table::find(name)?.name, None))),
            );
        }
        for alteration in &change.alterations {
            let name = alteration.name;
            let Some(row) = broker_table::find(name) else {
                // Tools take away what they may have set, such as the rates of a reassignment, without looking.
                if matches!(alteration.operation, Some(Operation::Delete)) {
                    continue;
                }
                return Err(invalid(format!("Unknown broker config name: {}", topic_table::shown(name))));
            };
            let value = match (alteration.operation, alteration.value) {
                (Some(Operation::Set), Some(value)) => {
                    Some(row.check(self.broker_configs.options(), value).map_err(invalid)?)
                }
                (Some(operation @ (Operation::Append | Operation::Subtract)), Some(given)) if row.kind.is_list() => {
                    let present = self.broker_configs.of(resource).get(row.name).cloned();
                    let present = present.unwrap_or_else(|| row.value(&self.settings.config));
                    let value = combine(&present, operation, given);
                    Some(row.check(self.broker_configs.options(), &value).map_err(invalid)?)
                }
                (Some(operation @ (Operation::Append | Operation::Subtract)), _) => {
                    let operation = operation.name().to_ascii_lowercase();
                    let why = format!("Config value {operation} is not allowed for config key: {name}");
                    return Err(Refused::new(ErrorCode::INVALID_CONFIG, why));
                }
                _ => None,
            };
            wanted.insert(row.name, value);
        }
        wanted.retain(|name, value| self.broker_configs.of(resource).get(*name) != value.as_ref());
        if validate_only || wanted.is_empty() {
            return Ok(());
        }
        self.check_space(now, 0)?;
        for (name, value) in wanted {
            let entry = self.broker_configs.change(resource, name, value.as_deref());
            self.append_meta(entry);
        }
        self.apply_broker_configs();
        self.schedule_retention(now);
        self.evict(now);
        self.schedule_cleaning(now);
        Ok(())
    }

    /// Makes changed broker configurations count: for the broker itself and for every topic that has no value of its own.
    pub(in crate::broker) fn apply_broker_configs(&mut self) {
        let config = self.broker_configs.effective();
        if config == self.settings.config {
            return;
        }
        Arc::make_mut(&mut self.settings).config = config;
        let ids: Vec<Uuid> = self.topics.iter().map(|topic| topic.id).collect();
        for id in ids {
            if let Some(topic) = self.topics.by_id_mut(id) {
                topic.settings = TopicSettings::resolve(&self.settings.config, &topic.configs);
            }
        }
    }
}

pub(super) fn invalid(why: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::INVALID_REQUEST, why)
}

/// The sentence for a single element that is to be added to what is no list, or taken from it.
pub(super) fn not_a_list(operation: Operation, name: &str) -> String {
    format!("Can't {} to key {name} because its type is not LIST.", operation.name())
}

/// The sentence for a broker's name that is no number.
pub(super) fn not_a_node_id(name: &str) -> String {
    format!("Node id must be an integer, but it is: {}", topic_table::shown(name))
}

fn set<'a>(name: &'a str, value: Option<&'a str>) -> Alteration<'a> {
    Alteration { name, operation: Some(Operation::Set), value }
}

fn operation(number: i8) -> Option<Operation> {
    match number {
        0 => Some(Operation::Set),
        1 => Some(Operation::Delete),
        2 => Some(Operation::Append),
        3 => Some(Operation::Subtract),
        _ => None,
    }
}

/// A list with elements added or taken away.
fn combine(present: &str, operation: Operation, given: &str) -> String {
    let mut parts: Vec<&str> = elements(present).collect();
    // As in Kafka an empty element is kept, for the list's check to refuse.
    for part in given.split(',').map(str::trim) {
        match operation {
            Operation::Subtract => parts.retain(|other| *other != part),
            _ if parts.contains(&part) => {}
            _ => parts.push(part),
        }
    }
    parts.join(",")
}

fn answer<'a>(change: &Change<'a>, outcome: &'a Outcome) -> AlterConfigsResourceResponse<'a> {
    AlterConfigsResourceResponse {
        error_code: error_of(outcome),
        error_message: message_of(outcome),
        resource_type: change.resource_type,
        resource_name: change.resource_name,
    }
}
