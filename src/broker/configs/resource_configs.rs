//! Owns the configurations of groups and of client-metrics subscriptions, which exist by being configured.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::metalog;
use crate::wal::MetaEntry;
use crate::wire::macros::message;

message! {
    /// Scope of `metalog::RESOURCE_CONFIG`.
    struct ResourceScope<'a> {
        /// Kafka's number of the kind.
        kind: i8 [0..],
        name: &'a str [0..],
    }
    /// Value of `metalog::RESOURCE_CONFIG`: all that the resource has, so that a change is made whole or not at all.
    struct ResourceValue<'a> {
        configs: Vec<ConfigValue<'a>> [0..],
    }
    struct ConfigValue<'a> {
        name: &'a str [0..],
        value: &'a str [0..],
    }
}

/// The configurations of one resource, by name.
pub type Configs = BTreeMap<String, String>;

/// Configurations by Kafka's number of the kind of resource, and its name.
#[derive(Debug, Default)]
pub struct ResourceConfigs {
    by_kind: BTreeMap<i8, BTreeMap<String, Configs>>,
}

impl ResourceConfigs {
    /// What was set for a resource.
    pub fn of(&self, kind: i8, name: &str) -> &Configs {
        static NONE: Configs = Configs::new();
        self.by_kind.get(&kind).and_then(|names| names.get(name)).unwrap_or(&NONE)
    }

    /// The resources of a kind that have configurations, in the order of names.
    pub fn names(&self, kind: i8) -> impl Iterator<Item = &str> {
        self.by_kind.get(&kind).into_iter().flat_map(|names| names.keys().map(String::as_str))
    }

    /// How many resources have configurations.
    pub fn len(&self) -> usize {
        self.by_kind.values().map(BTreeMap::len).sum()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces what a resource has; the entry that says so.
    pub fn put(&mut self, kind: i8, name: &str, configs: Configs) -> MetaEntry {
        let entry = entry(kind, name, &configs);
        let names = self.by_kind.entry(kind).or_default();
        match configs.is_empty() {
            true => names.remove(name),
            false => names.insert(name.to_owned(), configs),
        };
        entry
    }

    /// Reads an entry back.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let scope: ResourceScope<'_> = metalog::decode(0, &entry.scope)?;
        let value = entry.value.as_ref().map(|value| metalog::decode::<ResourceValue<'_>>(0, value)).transpose()?;
        let configs = value.iter().flat_map(|value| &value.configs);
        let configs = configs.map(|config| (config.name.to_owned(), config.value.to_owned())).collect();
        self.put(scope.kind, scope.name, configs);
        Ok(())
    }

    /// All that live, for a snapshot.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> + '_ {
        self.by_kind
            .iter()
            .flat_map(|(kind, names)| names.iter().map(move |(name, configs)| entry(*kind, name, configs)))
    }
}

fn entry(kind: i8, name: &str, configs: &Configs) -> MetaEntry {
    let configs: Vec<_> = configs.iter().map(|(name, value)| ConfigValue { name, value }).collect();
    MetaEntry {
        table: metalog::RESOURCE_CONFIG,
        scope: metalog::encode(0, &ResourceScope { kind, name }),
        key: Bytes::new(),
        value: (!configs.is_empty()).then(|| metalog::encode(0, &ResourceValue { configs })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_survive_as_entries_and_empty_ones_are_gone() {
        let one = |name: &str, value: &str| Configs::from([(name.to_owned(), value.to_owned())]);
        let mut configs = ResourceConfigs::default();
        let mut entries = vec![configs.put(32, "g", one("a", "1")), configs.put(16, "m", one("b", "2"))];
        entries.push(configs.put(32, "g", one("a", "3")));
        entries.push(configs.put(16, "m", Configs::new()));
        assert!(entries[3].value.is_none() && configs.entries().count() == 1);
        let mut restored = ResourceConfigs::default();
        entries.iter().for_each(|entry| restored.apply(entry).unwrap());
        for configs in [&configs, &restored] {
            assert_eq!(configs.of(32, "g"), &one("a", "3"));
            assert_eq!((configs.names(16).count(), configs.len()), (0, 1));
        }
    }
}
