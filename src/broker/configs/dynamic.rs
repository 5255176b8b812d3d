//! Owns broker configurations that were changed while the broker ran, for all brokers or for this one.

use std::collections::BTreeMap;

use bytes::Bytes;
use log::LevelFilter;

use super::broker_table;
use crate::broker::metalog;
use crate::config::Config;
use crate::wal::MetaEntry;
use crate::wire::macros::message;

message! {
    /// Key of `metalog::BROKER_CONFIG`.
    struct BrokerConfigKey<'a> {
        name: &'a str [0..],
    }
    /// Value of `metalog::BROKER_CONFIG`.
    struct BrokerConfigValue<'a> {
        value: &'a str [0..],
    }
}

/// What options gave, and what was changed since.
#[derive(Debug)]
pub struct BrokerConfigs {
    options: Config,
    /// By resource (empty for the default of all brokers, otherwise a broker's id) and configuration.
    changed: BTreeMap<String, BTreeMap<String, String>>,
}

impl BrokerConfigs {
    pub fn new(options: Config) -> BrokerConfigs {
        BrokerConfigs { options, changed: BTreeMap::new() }
    }

    /// The settings that options gave.
    pub fn options(&self) -> &Config {
        &self.options
    }

    /// Sets the level of the log that people read, until the next start.
    pub fn set_log_level(&mut self, level: LevelFilter) {
        self.options.log_level = level;
    }

    /// What was set for a resource: empty for the default of all brokers, otherwise a broker's id.
    pub fn of(&self, resource: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.changed.get(resource).unwrap_or(&NONE)
    }

    /// Sets or forgets one; the entry that says so.
    pub fn change(&mut self, resource: &str, name: &str, value: Option<&str>) -> MetaEntry {
        let configs = self.changed.entry(resource.to_owned()).or_default();
        match value {
            Some(value) => configs.insert(name.to_owned(), value.to_owned()),
            None => configs.remove(name),
        };
        entry(resource, name, value)
    }

    /// Reads an entry back.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let resource = std::str::from_utf8(&entry.scope).map_err(|_| "a broker's name is not UTF-8".to_owned())?;
        let key: BrokerConfigKey<'_> = metalog::decode(0, &entry.key)?;
        let value = entry.value.as_ref().map(|value| metalog::decode::<BrokerConfigValue<'_>>(0, value)).transpose()?;
        self.change(resource, key.name, value.as_ref().map(|value| value.value));
        Ok(())
    }

    /// All that live, for a snapshot.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> + '_ {
        self.changed
            .iter()
            .flat_map(|(resource, configs)| configs.iter().map(move |(name, value)| entry(resource, name, Some(value))))
    }

    /// What options and changes come to: this broker's changes win over those for all brokers, and these over options.
    pub fn effective(&self) -> Config {
        let mut config = self.options.clone();
        let own = self.options.node_id.to_string();
        for (name, value) in self.of("").iter().chain(self.of(&own)) {
            // A value that a newer or older program would allow and this one does not is passed over.
            if let Some(row) = broker_table::find(name).filter(|row| row.check(&config, value).is_ok()) {
                row.set(&mut config, value);
            }
        }
        config
    }
}

fn entry(resource: &str, name: &str, value: Option<&str>) -> MetaEntry {
    MetaEntry {
        table: metalog::BROKER_CONFIG,
        scope: Bytes::copy_from_slice(resource.as_bytes()),
        key: metalog::encode(0, &BrokerConfigKey { name }),
        value: value.map(|value| metalog::encode(0, &BrokerConfigValue { value })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_for_this_broker_win_and_survive_as_entries() {
        let mut configs = BrokerConfigs::new(Config::default());
        let entries = [
            configs.change("", "log.retention.ms", Some("1000")),
            configs.change("1", "log.retention.ms", Some("2000")),
            configs.change("2", "log.retention.ms", Some("3000")),
            configs.change("", "log.retention.bytes", Some("77")),
        ];
        let mut restored = BrokerConfigs::new(Config::default());
        for entry in &entries {
            restored.apply(entry).unwrap();
        }
        for configs in [&configs, &restored] {
            let config = configs.effective();
            assert_eq!((config.log_retention_ms, config.log_retention_bytes), (2000, 77));
            assert_eq!(configs.entries().count(), 4);
        }
        let gone = configs.change("1", "log.retention.ms", None);
        restored.apply(&gone).unwrap();
        assert_eq!(restored.effective().log_retention_ms, 1000);
    }
}
