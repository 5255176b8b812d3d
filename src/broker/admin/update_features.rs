//! Owns UpdateFeatures: which changes of levels are allowed (KIP-584, KIP-778). As in Kafka, one that is not refuses all.

use super::{Outcome, Refused};
use crate::broker::configs::topic_table::shown;
use crate::broker::dispatch::Request;
use crate::broker::features::{self, METADATA_VERSION};
use crate::broker::Broker;
use crate::wire::msg::{FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse};
use crate::wire::{self, DecodeError, ErrorCode};

/// Which way a level may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

impl Broker {
    pub(in crate::broker) fn update_features(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: UpdateFeaturesRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let updates = &request.feature_updates;
        let mut outcome = updates.iter().try_for_each(|update| self.check_feature(req.to.version, update));
        if let Err(Refused { error: ErrorCode::INVALID_UPDATE_VERSION, message: Some(why) }) = &mut outcome {
            why.insert_str(0, "The update failed for all features since the following feature had an error: ");
        }
        let changed: Vec<(&str, i16)> = updates
            .iter()
            .map(|update| (update.feature, update.max_version_level))
            .filter(|(name, level)| self.feature_level(name) != *level)
            .collect();
        if outcome.is_ok() && !request.validate_only && !changed.is_empty() {
            outcome = self.check_space(req.now, 0);
            if outcome.is_ok() {
                for (name, level) in &changed {
                    ::log::info!("feature {name} is now at level {level}");
                }
                self.change_features(changed.into_iter());
            }
        }
        self.count_outcomes(req.to, std::slice::from_ref(&outcome));
        let results = updates.iter().filter(|_| outcome.is_ok()).map(|update| UpdatableFeatureResult {
            feature: update.feature,
            error_code: ErrorCode::NONE,
            // Kafka says so here, and nothing above.
            error_message: Some("NONE"),
        });
        let response = UpdateFeaturesResponse {
            error_code: super::error_of(&outcome),
            error_message: super::message_of(&outcome),
            results: results.collect(),
            ..Default::default()
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// Everything that Kafka checks of one change, in its order.
    fn check_feature(&self, version: i16, update: &FeatureUpdateKey<'_>) -> Outcome {
        let (name, level) = (update.feature, update.max_version_level);
        let refused = |why: String| Err(Refused::new(ErrorCode::INVALID_UPDATE_VERSION, why));
        let invalid =
            |why: String| refused(format!("Invalid update version {level} for feature {}. {why}", shown(name)));
        let Some(direction) = direction(version, update) else {
            return invalid("The controller does not support the given upgrade type.".to_owned());
        };
        if level < 0 {
            return invalid("A feature version cannot be less than 0.".to_owned());
        }
        let node_id = self.settings.config.node_id;
        let Some(feature) = features::supported().find(|feature| feature.name == name) else {
            return invalid(format!("Local controller {node_id} does not support this feature."));
        };
        if !(feature.min..=feature.max).contains(&level) {
            let (min, max) = (feature.min, feature.max);
            return invalid(format!("Local controller {node_id} only supports versions {min}-{max}"));
        }
        let present = self.feature_level(name);
        if level < present && direction == Direction::Upgrade {
            return invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
                 downgrade."
                    .to_owned(),
            );
        }
        if level > present && direction != Direction::Upgrade {
            return invalid("Can't downgrade to a newer version.".to_owned());
        }
        if level < present && name == METADATA_VERSION {
            let why = match direction {
                Direction::UnsafeDowngrade => "Unsafe metadata downgrade is not supported in this version.",
                _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
            };
            return refused(format!("Unsupported metadata.version downgrade from {present} to {level}. {why}"));
        }
        Ok(())
    }
}

/// Version 0 knows only whether a downgrade is allowed. `None` is a number that Kafka does not know.
fn direction(version: i16, update: &FeatureUpdateKey<'_>) -> Option<Direction> {
    match (version, update.allow_downgrade, update.upgrade_type) {
        (0, false, _) | (1.., _, 1) => Some(Direction::Upgrade),
        (0, true, _) | (1.., _, 2) => Some(Direction::SafeDowngrade),
        (1.., _, 3) => Some(Direction::UnsafeDowngrade),
        _ => None,
    }
}
