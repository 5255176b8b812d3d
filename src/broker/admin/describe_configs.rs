//! Owns DescribeConfigs and ListConfigResources: what every configuration is, and where its value comes from.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{error_of, message_of, resource, Refused};
use crate::broker::configs::broker_table::{BrokerConfig, BROKER_CONFIGS};
use crate::broker::configs::client_metrics_table::{ClientMetricsConfig, CLIENT_METRICS_CONFIGS};
use crate::broker::configs::group_table::{self, GroupConfig};
use crate::broker::configs::topic_table::{TopicConfig, TOPIC_CONFIGS};
use crate::broker::configs::{broker_table, topic_table, Configs};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker};
use crate::config::Config;
use crate::limits;
use crate::wire::msg::{
    ConfigResource, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsSynonym, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::wire::{self, frame, DecodeError, ErrorCode, Writer};

/// Kafka's numbers for where a value comes from.
mod source {
    pub const TOPIC: i8 = 1;
    pub const DYNAMIC_BROKER: i8 = 2;
    pub const DYNAMIC_DEFAULT_BROKER: i8 = 3;
    pub const STATIC_BROKER: i8 = 4;
    pub const DEFAULT: i8 = 5;
    pub const LOGGER: i8 = 6;
    pub const CLIENT_METRICS: i8 = 7;
    pub const GROUP: i8 = 8;
}

/// A configuration with its value.
pub(super) struct Entry {
    pub name: &'static str,
    pub value: Option<String>,
    read_only: bool,
    type_id: i8,
    /// Where the value comes from.
    pub source: i8,
    documentation: &'static str,
    /// Everything that gives it a value, the one that counts first.
    synonyms: Vec<Synonym>,
}

struct Synonym {
    name: &'static str,
    value: String,
    source: i8,
}

impl Synonym {
    fn new(name: &'static str, value: impl Into<String>, source: i8) -> Synonym {
        Synonym { name, value: value.into(), source }
    }
}

/// What is the same for all resources of a kind that one request names, found out when the first is described: a request may name
/// thousands.
#[derive(Default)]
pub(super) struct Known {
    /// Of topics and groups that have no values of their own.
    topic: OnceCell<Vec<Arc<Entry>>>,
    group: OnceCell<Vec<Arc<Entry>>>,
    broker: OnceCell<Vec<Arc<Entry>>>,
    all_brokers: OnceCell<Vec<Arc<Entry>>>,
    /// Of topics, as it stands in the answer.
    topic_bytes: OnceCell<Vec<u8>>,
}

/// What is wanted of each configuration.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

impl Broker {
    pub(in crate::broker) fn describe_configs(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeConfigsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
        let most =
            limits::DESCRIBED_BYTES_LEAST + (self.topics.len() + self.groups.count()) * limits::DESCRIBED_BYTES_EACH;
        let most = most.min(limits::DESCRIBED_BYTES_MAX);
        let known = Known::default();
        // Each is written as soon as it is known: thousands would take several times the memory of the answer.
        let mut w = frame::begin::<DescribeConfigsResponse<'_>>(req.to.version, req.to.correlation_id);
        w.i32(DescribeConfigsResponse::default().throttle_time_ms);
        w.len(Some(request.resources.len()));
        for wanted in &request.resources {
            if w.position() <= most && self.write_plain_topic(&mut w, &known, wanted, detail) {
                continue;
            }
            let outcome = match w.position() > most {
                // Kafka has no error for this; none of its clients asks for so much at once.
                true => Err(ErrorCode::POLICY_VIOLATION.into()),
                false => self.describe_resource(&known, wanted),
            };
            write_result(&mut w, wanted, &outcome, detail);
            self.count_outcomes(req.to, &[outcome]);
        }
        end(&mut w);
        self.send_after(self.gather.meta_seq(), req.to, frame::finish(w), &[]);
        Ok(())
    }

    /// Writes the result of a topic that has no values of its own, if it is one of which all is wanted: a copy of what all such topics have.
    fn write_plain_topic(
        &self,
        w: &mut Writer,
        known: &Known,
        wanted: &DescribeConfigsResource<'_>,
        detail: Detail,
    ) -> bool {
        let wants_all = wanted.configuration_keys.as_ref().is_none_or(Vec::is_empty);
        let topic = self.topics.by_name(wanted.resource_name).filter(|topic| topic.configs.is_empty());
        if wanted.resource_type != resource::TOPIC || !wants_all || topic.is_none() {
            return false;
        }
        let bytes = known.topic_bytes.get_or_init(|| {
            let mut configs = Writer::new(w.version(), w.flexible());
            let entries = self.topic_entries(known, &BTreeMap::new());
            configs.array(Some(&entries.iter().map(|entry| told(entry, detail)).collect::<Vec<_>>()));
            configs.into_encoded().bytes
        });
        write_head(w, wanted, ErrorCode::NONE, None);
        w.raw(bytes);
        end(w);
        true
    }

    fn describe_resource(
        &self,
        known: &Known,
        wanted: &DescribeConfigsResource<'_>,
    ) -> Result<Vec<Arc<Entry>>, Refused> {
        let keys = wanted.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
        let asked_for = |name: &str| keys.is_none_or(|keys| keys.contains(&name));
        let pick = |entries: &[Arc<Entry>]| entries.iter().filter(|entry| asked_for(entry.name)).cloned().collect();
        let name = wanted.resource_name;
        match wanted.resource_type {
            resource::TOPIC => {
                if let Some(fault) = topics::name_fault(name) {
                    let why = format!("Topic name is invalid: {fault}");
                    return Err(Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, why));
                }
                let topic = self.topics.by_name(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                Ok(pick(&self.topic_entries(known, &topic.configs)))
            }
            resource::BROKER if name.is_empty() => Ok(pick(known.all_brokers.get_or_init(|| {
                BROKER_CONFIGS.iter().filter_map(|row| self.default_broker_entry(row)).map(Arc::new).collect()
            }))),
            resource::BROKER => {
                self.check_described_broker(name, " or empty string,")?;
                let all = || BROKER_CONFIGS.iter().map(|row| Arc::new(self.broker_entry(row))).collect();
                Ok(pick(known.broker.get_or_init(all)))
            }
            resource::BROKER_LOGGER if name.is_empty() => Err(invalid("Broker id must not be empty")),
            resource::BROKER_LOGGER => {
                self.check_described_broker(name, "")?;
                Ok(pick(&[Arc::new(self.logger_entry())]))
            }
            resource::CLIENT_METRICS if name.is_empty() => {
                Err(invalid("Client metrics subscription name must not be empty"))
            }
            resource::CLIENT_METRICS => {
                let own = self.resource_configs.of(resource::CLIENT_METRICS, name);
                let rows = CLIENT_METRICS_CONFIGS.iter().filter(|row| asked_for(row.name));
                Ok(rows.map(|row| Arc::new(client_metrics_entry(row, own))).collect())
            }
            resource::GROUP if name.is_empty() => Err(invalid("Group name must not be empty")),
            resource::GROUP => {
                let own = self.resource_configs.of(resource::GROUP, name);
                let none = Configs::default();
                let all = || group_table::rows().map(|row| Arc::new(self.group_entry(row, &none))).collect::<Vec<_>>();
                let entries = group_table::rows().zip(known.group.get_or_init(all)).map(|(row, entry)| {
                    if own.contains_key(row.name) {
                        Arc::new(self.group_entry(row, own))
                    } else {
                        Arc::clone(entry)
                    }
                });
                Ok(entries.filter(|entry| asked_for(entry.name)).collect())
            }
            kind => Err(invalid(format!("Unknown resource type {kind}"))),
        }
    }

    /// A broker that is described must be this one.
    fn check_described_broker(&self, name: &str, or: &str) -> Result<(), Refused> {
        let own = self.settings.config.node_id;
        match name.parse::<i32>() {
            Ok(id) if id == own => Ok(()),
            Ok(id) => Err(invalid(format!("Unexpected broker id, expected {own}{or} but received {id}"))),
            Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {}", topic_table::shown(name)))),
        }
    }

    /// All configurations of a topic that has these of its own.
    pub(super) fn topic_entries(&self, known: &Known, own: &BTreeMap<String, String>) -> Vec<Arc<Entry>> {
        let none = BTreeMap::new();
        let all = || TOPIC_CONFIGS.iter().map(|row| Arc::new(self.topic_entry(row, &none))).collect::<Vec<_>>();
        let mut entries = known.topic.get_or_init(all).clone();
        for entry in entries.iter_mut().filter(|entry| own.contains_key(entry.name)) {
            if let Some(row) = topic_table::find(entry.name) {
                *entry = Arc::new(self.topic_entry(row, own));
            }
        }
        entries
    }

    fn topic_entry(&self, row: &'static TopicConfig, own: &BTreeMap<String, String>) -> Entry {
        let own = own.get(row.name);
        let mut synonyms = Vec::new();
        if let Some(value) = own {
            synonyms.push(Synonym::new(row.name, value.as_str(), source::TOPIC));
        }
        if let Some(broker) = row.synonym().and_then(broker_table::find) {
            synonyms.extend(self.broker_synonyms(broker));
        }
        Entry {
            name: row.name,
            value: Some(own.cloned().unwrap_or_else(|| row.default(&self.settings.config))),
            read_only: false,
            type_id: row.kind.type_id(),
            source: synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source),
            documentation: row.documentation,
            synonyms,
        }
    }

    fn broker_entry(&self, row: &'static BrokerConfig) -> Entry {
        let synonyms = self.broker_synonyms(row);
        Entry {
            name: row.name,
            value: Some(row.value(&self.settings.config)).filter(|_| !(row.null_by_default && synonyms.is_empty())),
            read_only: !row.is_dynamic(),
            type_id: row.kind.type_id(),
            source: synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source),
            documentation: row.documentation(),
            synonyms,
        }
    }

    /// A group's configuration.
    fn group_entry(&self, row: &'static GroupConfig, own: &Configs) -> Entry {
        let own = own.get(row.name);
        let default = row.default(&self.settings.config);
        let mut synonyms = Vec::new();
        if let Some(value) = own {
            synonyms.push(Synonym::new(row.name, value.as_str(), source::GROUP));
        }
        match row.broker.and_then(broker_table::find) {
            Some(broker) => synonyms.extend(self.broker_synonyms(broker)),
            None => {
                synonyms.push(Synonym::new(row.broker.unwrap_or(row.name), default.as_str(), source::DEFAULT));
            }
        }
        Entry {
            name: row.name,
            value: Some(own.cloned().unwrap_or(default)),
            read_only: false,
            type_id: row.kind.type_id(),
            source: synonyms.first().map_or(source::DEFAULT, |synonym| synonym.source),
            documentation: row.documentation,
            synonyms,
        }
    }

    /// The one logger.
    fn logger_entry(&self) -> Entry {
        Entry {
            name: super::loggers::ROOT,
            value: Some(self.settings.config.log_level.as_str().to_owned()),
            read_only: false,
            // Kafka has neither a type nor a word for loggers.
            type_id: 0,
            source: source::LOGGER,
            documentation: "",
            synonyms: Vec::new(),
        }
    }

    /// A configuration as it was set for all brokers, if it was.
    fn default_broker_entry(&self, row: &'static BrokerConfig) -> Option<Entry> {
        let value = self.broker_configs.of("").get(row.name)?.clone();
        let source = source::DYNAMIC_DEFAULT_BROKER;
        let synonyms = vec![Synonym::new(row.name, value.as_str(), source)];
        Some(Entry { value: Some(value), source, synonyms, ..self.broker_entry(row) })
    }

    /// Where a broker configuration has values, the one that counts first. Those that say the same in another unit follow
    /// it, as in Kafka only where it has a value itself.
    fn broker_synonyms(&self, row: &'static BrokerConfig) -> Vec<Synonym> {
        let own = self.settings.config.node_id.to_string();
        let changed = |resource: &str, row: &BrokerConfig| self.broker_configs.of(resource).get(row.name).cloned();
        let value = |of: &BrokerConfig, source: i8| match source {
            source::DYNAMIC_BROKER => changed(&own, of),
            source::DYNAMIC_DEFAULT_BROKER => changed("", of),
            source::STATIC_BROKER => {
                // The others are this one in another unit: they were not set.
                let value = of.value(self.broker_configs.options());
                let set = of.always_set || value != of.value(&Config::default());
                Some(value).filter(|_| set && of.name == row.name)
            }
            _ if of.null_by_default => None,
            _ if of.always_set => Some("-1".to_owned()),
            _ => Some(of.value(&Config::default())),
        };
        let value = &value;
        let sources = [source::DYNAMIC_BROKER, source::DYNAMIC_DEFAULT_BROKER, source::STATIC_BROKER, source::DEFAULT];
        let all = sources.into_iter().flat_map(|source| {
            row.alternatives().filter_map(move |of| Some(Synonym { name: of.name, value: value(of, source)?, source }))
        });
        all.skip_while(|synonym| synonym.name != row.name).collect()
    }

    pub(in crate::broker) fn list_config_resources(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ListConfigResourcesRequest = wire::decode_request(req.body, req.to.version)?;
        let known =
            [resource::TOPIC, resource::BROKER, resource::BROKER_LOGGER, resource::CLIENT_METRICS, resource::GROUP];
        let unknown = request.resource_types.iter().any(|kind| !known.contains(kind));
        // Version 0 asks for client metrics only.
        let wanted = if req.to.version == 0 { &[resource::CLIENT_METRICS][..] } else { &request.resource_types };
        let asked_for = |kind| !unknown && (wanted.is_empty() || wanted.contains(&kind));
        let node_id = self.settings.config.node_id.to_string();
        let mut config_resources = Vec::new();
        let mut tell = |resource_type, names: &mut dyn Iterator<Item = &'_ str>| {
            if asked_for(resource_type) {
                config_resources.extend(names.map(|name| (name.to_owned(), resource_type)));
            }
        };
        for kind in [resource::GROUP, resource::CLIENT_METRICS] {
            tell(kind, &mut self.resource_configs.names(kind));
        }
        tell(resource::BROKER_LOGGER, &mut [&*node_id].into_iter());
        tell(resource::BROKER, &mut [&*node_id].into_iter());
        tell(resource::TOPIC, &mut self.topics.iter().map(|topic| &*topic.name));
        let told = config_resources.iter();
        let error_code = if unknown { ErrorCode::UNSUPPORTED_VERSION } else { ErrorCode::NONE };
        let response = ListConfigResourcesResponse {
            error_code,
            config_resources: told
                .map(|(resource_name, resource_type)| ConfigResource { resource_name, resource_type: *resource_type })
                .collect(),
            ..Default::default()
        };
        self.reply(req.to, &response);
        Ok(())
    }
}

fn invalid(why: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::INVALID_REQUEST, why)
}

/// A configuration of a client-metrics subscription.
fn client_metrics_entry(row: &'static ClientMetricsConfig, own: &Configs) -> Entry {
    let own = own.get(row.name);
    let set = own.map(|value| Synonym::new(row.name, value.as_str(), source::CLIENT_METRICS));
    Entry {
        name: row.name,
        value: Some(own.map_or(row.default, String::as_str).to_owned()),
        read_only: false,
        type_id: row.kind.type_id(),
        source: set.as_ref().map_or(source::DEFAULT, |set| set.source),
        documentation: row.documentation,
        synonyms: set.into_iter().collect(),
    }
}

/// Writes a `DescribeConfigsResult`.
fn write_result(
    w: &mut Writer,
    wanted: &DescribeConfigsResource<'_>,
    outcome: &Result<Vec<Arc<Entry>>, Refused>,
    detail: Detail,
) {
    write_head(w, wanted, error_of(outcome), message_of(outcome));
    let configs: Vec<_> = outcome.iter().flatten().map(|entry| told(entry, detail)).collect();
    w.array(Some(&configs));
    end(w);
}

/// Writes its fields up to the configurations.
fn write_head(w: &mut Writer, wanted: &DescribeConfigsResource<'_>, error: ErrorCode, message: Option<&str>) {
    w.error_code(error);
    // Kafka says nothing here by an empty text.
    w.string(Some(message.unwrap_or("")));
    w.i8(wanted.resource_type);
    w.string(Some(wanted.resource_name));
}

/// Ends a struct without tagged fields.
fn end(w: &mut Writer) {
    if w.flexible() {
        w.uvarint(0);
    }
}

fn told(entry: &Entry, detail: Detail) -> DescribeConfigsResourceResult<'_> {
    let told = entry.synonyms.iter().filter(|_| detail.synonyms).map(|synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: Some(&synonym.value),
        source: synonym.source,
    });
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        is_default: entry.source == source::DEFAULT,
        config_source: entry.source,
        is_sensitive: false,
        synonyms: told.collect(),
        config_type: entry.type_id,
        documentation: detail.documentation.then_some(entry.documentation),
    }
}
