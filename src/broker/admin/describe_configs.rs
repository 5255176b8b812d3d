//! Owns DescribeConfigs and ListConfigResources: what every configuration is, and where its value comes from.

use std::collections::BTreeMap;

use super::{error_of, message_of, resource, Refused};
use crate::broker::configs::broker_table::{BrokerConfig, Change, BROKER_CONFIGS};
use crate::broker::configs::topic_table::{TopicConfig, TOPIC_CONFIGS};
use crate::broker::configs::{broker_table, topic_table};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker};
use crate::config::Config;
use crate::limits;
use crate::wire::msg::{
    ConfigResource, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// Kafka's numbers for where a value comes from.
mod source {
    pub const TOPIC: i8 = 1;
    pub const DYNAMIC_BROKER: i8 = 2;
    pub const DYNAMIC_DEFAULT_BROKER: i8 = 3;
    pub const STATIC_BROKER: i8 = 4;
    pub const DEFAULT: i8 = 5;
}

/// A configuration with its value.
pub(super) struct Entry {
    pub name: &'static str,
    pub value: String,
    read_only: bool,
    type_id: i8,
    documentation: &'static str,
    /// Everything that gives it a value, the one that counts first.
    synonyms: Vec<Synonym>,
}

struct Synonym {
    name: &'static str,
    value: String,
    source: i8,
}

impl Entry {
    pub fn source(&self) -> i8 {
        self.synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source)
    }

    /// About how many bytes it takes in an answer.
    fn bytes(&self, synonyms: bool, documentation: bool) -> usize {
        let each = self.synonyms.iter().map(|synonym| synonym.name.len() + synonym.value.len() + 8);
        let documentation = if documentation { self.documentation.len() } else { 0 };
        let synonyms = if synonyms { each.sum() } else { 0 };
        self.name.len() + self.value.len() + synonyms + documentation + 16
    }
}

impl Broker {
    pub(in crate::broker) fn describe_configs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeConfigsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
        let mut bytes = 0;
        let mut outcomes = Vec::with_capacity(request.resources.len());
        for wanted in &request.resources {
            if bytes > limits::DESCRIBED_BYTES_MAX {
                // Kafka has no error for this; none of its clients asks for so much at once.
                outcomes.push(Err(ErrorCode::POLICY_VIOLATION.into()));
                continue;
            }
            let outcome = self.describe_resource(wanted);
            bytes += message_of(&outcome).map_or(0, str::len);
            bytes += outcome.iter().flatten().map(|entry| entry.bytes(synonyms, documentation)).sum::<usize>();
            outcomes.push(outcome);
        }
        self.count_outcomes(req.to, &outcomes);
        let results = request.resources.iter().zip(&outcomes).map(|(wanted, outcome)| DescribeConfigsResult {
            error_code: error_of(outcome),
            error_message: message_of(outcome),
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
            configs: outcome.iter().flatten().map(|entry| told(entry, synonyms, documentation)).collect(),
        });
        let response = DescribeConfigsResponse { results: results.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn describe_resource(&self, wanted: &DescribeConfigsResource<'_>) -> Result<Vec<Entry>, Refused> {
        let keys = wanted.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
        let asked_for = |name: &str| keys.is_none_or(|keys| keys.contains(&name));
        let name = wanted.resource_name;
        match wanted.resource_type {
            resource::TOPIC => {
                if let Some(fault) = topics::name_fault(name) {
                    let why = format!("Topic name is invalid: {fault}");
                    return Err(Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, why));
                }
                let topic = self.topics.by_name(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                let rows = TOPIC_CONFIGS.iter().filter(|row| asked_for(row.name));
                Ok(rows.map(|row| self.topic_entry(row, &topic.configs)).collect())
            }
            resource::BROKER if name.is_empty() => {
                let rows = BROKER_CONFIGS.iter().filter(|row| asked_for(row.name));
                Ok(rows.filter_map(|row| self.default_broker_entry(row)).collect())
            }
            resource::BROKER => {
                self.check_broker_id(name)?;
                let rows = BROKER_CONFIGS.iter().filter(|row| asked_for(row.name));
                Ok(rows.map(|row| self.broker_entry(row)).collect())
            }
            kind => Err(no_such_resource(kind)),
        }
    }

    /// A broker resource must name this broker.
    pub(super) fn check_broker_id(&self, name: &str) -> Result<(), Refused> {
        let own = self.settings.config.node_id;
        let invalid = |why: String| Err(Refused::new(ErrorCode::INVALID_REQUEST, why));
        match name.parse::<i32>() {
            Ok(id) if id == own => Ok(()),
            Ok(id) => invalid(format!("Unexpected broker id, expected {own}, but received {id}.")),
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {}", topic_table::shown(name))),
        }
    }

    /// All configurations of a topic that has these of its own.
    pub(super) fn topic_entries(&self, own: &BTreeMap<String, String>) -> Vec<Entry> {
        TOPIC_CONFIGS.iter().map(|row| self.topic_entry(row, own)).collect()
    }

    fn topic_entry(&self, row: &'static TopicConfig, own: &BTreeMap<String, String>) -> Entry {
        let own = own.get(row.name);
        let mut synonyms = Vec::new();
        if let Some(value) = own {
            synonyms.push(Synonym { name: row.name, value: value.clone(), source: source::TOPIC });
        }
        if let Some(broker) = row.synonym().and_then(broker_table::find) {
            synonyms.extend(self.broker_synonyms(broker));
        }
        Entry {
            name: row.name,
            value: own.cloned().unwrap_or_else(|| row.default(&self.settings.config)),
            read_only: false,
            type_id: row.kind.type_id(),
            documentation: row.documentation,
            synonyms,
        }
    }

    fn broker_entry(&self, row: &'static BrokerConfig) -> Entry {
        Entry {
            name: row.name,
            value: (row.value)(&self.settings.config),
            read_only: !matches!(row.change, Change::Live(_)),
            type_id: row.kind.type_id(),
            documentation: row.documentation(),
            synonyms: self.broker_synonyms(row),
        }
    }

    /// A configuration as it was set for all brokers, if it was.
    fn default_broker_entry(&self, row: &'static BrokerConfig) -> Option<Entry> {
        let value = self.broker_configs.of("").get(row.name)?.clone();
        let synonyms = vec![Synonym { name: row.name, value: value.clone(), source: source::DYNAMIC_DEFAULT_BROKER }];
        Some(Entry { value, synonyms, ..self.broker_entry(row) })
    }

    /// Where a broker configuration has values, the one that counts first.
    fn broker_synonyms(&self, row: &'static BrokerConfig) -> Vec<Synonym> {
        let own = self.settings.config.node_id.to_string();
        let (static_value, default) = ((row.value)(self.broker_configs.options()), (row.value)(&Config::default()));
        let values = [
            (self.broker_configs.of(&own).get(row.name).cloned(), source::DYNAMIC_BROKER),
            (self.broker_configs.of("").get(row.name).cloned(), source::DYNAMIC_DEFAULT_BROKER),
            ((static_value != default).then_some(static_value), source::STATIC_BROKER),
            (Some(default), source::DEFAULT),
        ];
        let known = values.into_iter().filter_map(|(value, source)| Some((value?, source)));
        known.map(|(value, source)| Synonym { name: row.name, value, source }).collect()
    }

    pub(in crate::broker) fn list_config_resources(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ListConfigResourcesRequest = wire::decode_request(req.body, req.to.version)?;
        let known =
            [resource::TOPIC, resource::BROKER, resource::BROKER_LOGGER, resource::CLIENT_METRICS, resource::GROUP];
        let unknown = request.resource_types.iter().any(|kind| !known.contains(kind));
        // Version 0 asks for client metrics only, of which there are none.
        let all = req.to.version >= 1 && request.resource_types.is_empty();
        let asked_for = |kind| all || request.resource_types.contains(&kind);
        let node_id = self.settings.config.node_id.to_string();
        let mut config_resources = Vec::new();
        if asked_for(resource::TOPIC) && !unknown {
            let topics = self.topics.iter();
            config_resources.extend(
                topics.map(|topic| ConfigResource { resource_name: &topic.name, resource_type: resource::TOPIC }),
            );
        }
        if asked_for(resource::BROKER) && !unknown {
            config_resources.push(ConfigResource { resource_name: &node_id, resource_type: resource::BROKER });
        }
        let error_code = if unknown { ErrorCode::UNSUPPORTED_VERSION } else { ErrorCode::NONE };
        let response = ListConfigResourcesResponse { error_code, config_resources, ..Default::default() };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }
}

/// The refusal of a kind of resource that has no configurations here.
pub(super) fn no_such_resource(kind: i8) -> Refused {
    let why = match kind {
        resource::BROKER_LOGGER => "Loggers are not available in this version.".to_owned(),
        resource::CLIENT_METRICS => "Client metrics are not available in this version.".to_owned(),
        resource::GROUP => "Configurations of groups are not available in this version.".to_owned(),
        kind => format!("Unexpected resource type {kind}."),
    };
    Refused::new(ErrorCode::INVALID_REQUEST, why)
}

fn told(entry: &Entry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult<'_> {
    let told = entry.synonyms.iter().filter(|_| synonyms).map(|synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: Some(&synonym.value),
        source: synonym.source,
    });
    DescribeConfigsResourceResult {
        name: entry.name,
        value: Some(&entry.value),
        read_only: entry.read_only,
        is_default: entry.source() == source::DEFAULT,
        config_source: entry.source(),
        is_sensitive: false,
        synonyms: told.collect(),
        config_type: entry.type_id,
        documentation: documentation.then_some(entry.documentation),
    }
}
