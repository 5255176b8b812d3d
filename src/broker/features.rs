//! Owns the cluster's features (KIP-584): which there are, which of their levels this program knows, and the levels that
//! are in force, which are kept in the log.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{apis, metalog, Broker};
use crate::wal::{GroupSeq, MetaEntry};
use crate::wire::macros::message;
use crate::wire::msg::{FinalizedFeatureKey, SupportedFeatureKey};
use crate::wire::ApiKey;

/// The second generation of the transaction protocol is in force at 2 (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// Groups of the consumer protocol exist at 1 (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// Share groups exist at 1 (KIP-932).
pub const SHARE_VERSION: &str = "share.version";
/// The level of the metadata, which tools show as a release of Kafka; 30 is 4.3-IV0.
pub const METADATA_VERSION: &str = "metadata.version";

/// A feature that this program knows.
#[derive(Debug)]
pub struct Feature {
    pub name: &'static str,
    /// The levels that are known.
    pub min: i16,
    pub max: i16,
    /// The level of a new data directory.
    initial: i16,
    /// The feature is there only if this API is served.
    needs: Option<ApiKey>,
}

const fn feature(name: &'static str, max: i16, initial: i16, needs: Option<ApiKey>) -> Feature {
    Feature { name, min: 0, max, initial, needs }
}

/// Every feature, in the order of names. Levels and initial levels are those of Kafka 4.3.
static FEATURES: &[Feature] = &[
    // Kafka's level 1 hands out replicas that may lead next (KIP-966); with one replica there are never any.
    feature("eligible.leader.replicas.version", 1, 1, None),
    feature(GROUP_VERSION, 1, 1, Some(ApiKey::CONSUMER_GROUP_HEARTBEAT)),
    // Level 1 is a quorum whose voters can change (KIP-853), which one node is not.
    feature("kraft.version", 0, 0, None),
    Feature { min: 7, ..feature(METADATA_VERSION, 30, 30, None) },
    feature(SHARE_VERSION, 1, 1, Some(ApiKey::SHARE_GROUP_HEARTBEAT)),
    feature("streams.version", 1, 1, Some(ApiKey::STREAMS_GROUP_HEARTBEAT)),
    feature(TRANSACTION_VERSION, 2, 2, Some(ApiKey::END_TXN)),
];

/// The features that this program serves, in the order of names.
pub fn supported() -> impl Iterator<Item = &'static Feature> {
    FEATURES.iter().filter(|feature| feature.needs.is_none_or(|key| apis::served().any(|served| served.key == key)))
}

message! {
    /// Value of `metalog::FEATURE`.
    struct FeatureLevel {
        level: i16 [0..],
        /// The epoch of the change that set it.
        epoch: i64 [0..],
    }
}

/// The levels that were changed since the data directory was made.
#[derive(Debug, Default)]
pub struct Features {
    /// By name; also of features that this program does not know, so that a newer one finds them again.
    changed: BTreeMap<String, FeatureLevel>,
    /// The group that holds the last change: whoever is told of levels waits for it.
    seq: GroupSeq,
}

impl Features {
    /// The level in force; 0 is a feature that is switched off or unknown.
    pub fn level(&self, name: &str) -> i16 {
        let Some(feature) = supported().find(|feature| feature.name == name) else { return 0 };
        // An older program may find a level that it does not know.
        self.changed.get(name).map_or(feature.initial, |changed| changed.level.clamp(feature.min, feature.max))
    }

    /// Rises with every change.
    pub fn epoch(&self) -> i64 {
        self.changed.values().map(|changed| changed.epoch).max().unwrap_or(0)
    }

    /// Sets levels at the next epoch; the entries that say so.
    pub fn change<'a>(&mut self, levels: impl Iterator<Item = (&'a str, i16)>) -> Vec<MetaEntry> {
        let epoch = self.epoch() + 1;
        let mut entries = Vec::new();
        for (name, level) in levels {
            let value = FeatureLevel { level, epoch };
            entries.push(entry(name, &value));
            self.changed.insert(name.to_owned(), value);
        }
        entries
    }

    /// Reads an entry back.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let name = std::str::from_utf8(&entry.scope).map_err(|_| "a feature's name is not UTF-8".to_owned())?;
        match &entry.value {
            Some(value) => self.changed.insert(name.to_owned(), metalog::decode(0, value)?),
            None => self.changed.remove(name),
        };
        Ok(())
    }

    /// All that live, for a snapshot.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> + '_ {
        self.changed.iter().map(|(name, value)| entry(name, value))
    }
}

fn entry(name: &str, value: &FeatureLevel) -> MetaEntry {
    MetaEntry {
        table: metalog::FEATURE,
        scope: Bytes::copy_from_slice(name.as_bytes()),
        key: Bytes::new(),
        value: Some(metalog::encode(0, value)),
    }
}

impl Broker {
    /// The level of a feature that is in force: 0 is switched off. As ApiVersions tells it.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.level(name)
    }

    /// Puts changed levels in force.
    pub(super) fn change_features<'a>(&mut self, levels: impl Iterator<Item = (&'a str, i16)>) {
        for entry in self.features.change(levels) {
            self.features.seq = self.append_meta(entry);
        }
    }

    /// The group that must be durable before levels are told.
    pub(super) fn features_seq(&self) -> GroupSeq {
        self.features.seq
    }

    /// What is supported, as ApiVersions tells it. Clients before version 4 cannot read a level of 0 (KIP-1022).
    pub(super) fn supported_features(version: i16) -> Vec<SupportedFeatureKey<'static>> {
        let told = supported().filter(|feature| version >= 4 || feature.min > 0);
        told.map(|f| SupportedFeatureKey { name: f.name, min_version: f.min, max_version: f.max }).collect()
    }

    /// What is in force, as ApiVersions tells it.
    pub(super) fn finalized_features(&self) -> Vec<FinalizedFeatureKey<'static>> {
        let levels = supported().map(|feature| (feature.name, self.features.level(feature.name)));
        let told = levels.filter(|(_, level)| *level > 0);
        told.map(|(name, level)| FinalizedFeatureKey { name, max_version_level: level, min_version_level: level })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_sorted_and_their_initial_levels_are_known() {
        assert!(FEATURES.windows(2).all(|pair| pair[0].name < pair[1].name));
        for feature in FEATURES {
            assert!((feature.min..=feature.max).contains(&feature.initial), "{}", feature.name);
        }
    }

    #[test]
    fn levels_and_the_epoch_survive_as_entries() {
        let mut features = Features::default();
        assert_eq!((features.level(METADATA_VERSION), features.epoch()), (30, 0));
        let name = "eligible.leader.replicas.version";
        let mut entries = features.change([(name, 0)].into_iter());
        entries.extend(features.change([("feature.of.tomorrow", 3)].into_iter()));
        let mut restored = Features::default();
        for entry in features.entries() {
            restored.apply(&entry).unwrap();
        }
        assert_eq!((restored.level(name), restored.epoch(), restored.entries().count()), (0, 2, 2));
        assert_eq!(restored.level("feature.of.tomorrow"), 0);
        let mut replayed = Features::default();
        entries.iter().for_each(|entry| replayed.apply(entry).unwrap());
        assert_eq!((replayed.level(name), replayed.epoch()), (0, 2));
    }
}
