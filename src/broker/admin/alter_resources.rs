//! Owns the changing of configurations of groups and of client-metrics subscriptions.

use super::alter_configs::{invalid, not_a_list, Change, Operation};
use super::{resource, Outcome, Refused};
use crate::broker::configs::client_metrics_table::{self, Fault};
use crate::broker::configs::group_table::{self, GroupConfigs};
use crate::broker::configs::topic_table::shown;
use crate::broker::configs::Configs;
use crate::broker::share::settings::GroupSettings;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wire::ErrorCode;

impl Broker {
    /// A group's configurations: its own, or else the broker's defaults, inside the broker's bounds.
    pub fn group_configs(&self, group: &str) -> GroupConfigs {
        GroupConfigs::resolve(&self.settings.config, self.resource_configs.of(resource::GROUP, group))
    }

    pub(super) fn alter_group(&mut self, now: Now, change: &Change<'_>, validate_only: bool) -> Outcome {
        let name = change.resource_name;
        if name.is_empty() {
            return Err(invalid("Default group resources are not allowed."));
        }
        let refused = |why: String| Refused::new(ErrorCode::INVALID_CONFIG, why);
        let own = self.resource_configs.of(resource::GROUP, name);
        let configs = altered(own, change, |key, value| match group_table::find(key) {
            Some(row) => row.check(value).map_err(refused),
            None => Err(refused(format!("Unknown group config name: {}", shown(key)))),
        })?;
        for (key, value) in &configs {
            let row = group_table::find(key);
            row.map_or(Ok(()), |row| row.check_bounds(&self.settings.config, value)).map_err(refused)?;
        }
        if validate_only || configs == *own {
            return Ok(());
        }
        self.put_resource(now, resource::GROUP, name, configs)?;
        self.group_configs_changed(now, name);
        Ok(())
    }

    pub(super) fn alter_client_metrics(&mut self, now: Now, change: &Change<'_>, validate_only: bool) -> Outcome {
        let name = change.resource_name;
        if name.is_empty() {
            return Err(invalid("Subscription name can't be empty"));
        }
        let own = self.resource_configs.of(resource::CLIENT_METRICS, name);
        let configs = altered(own, change, |key, value| {
            let row = client_metrics_table::find(key)
                .ok_or_else(|| invalid(format!("Unknown client metrics configuration: {}", shown(key))))?;
            row.check(value).map_err(|fault| match fault {
                Fault::Config(why) => Refused::new(ErrorCode::INVALID_CONFIG, why),
                Fault::Request(why) => invalid(why),
            })
        })?;
        if validate_only || configs == *own {
            return Ok(());
        }
        self.put_resource(now, resource::CLIENT_METRICS, name, configs)
    }

    fn put_resource(&mut self, now: Now, kind: i8, name: &str, configs: Configs) -> Outcome {
        let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let new = self.resource_configs.of(kind, name).is_empty();
        let too_many = new && self.resource_configs.len() >= limits::CONFIG_RESOURCES_MAX;
        if too_many || bytes > limits::RESOURCE_CONFIGS_BYTES_MAX || name.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::POLICY_VIOLATION.into());
        }
        self.check_space(now, 0)?;
        let entry = self.resource_configs.put(kind, name, configs);
        self.append_meta(entry);
        Ok(())
    }

    /// Tells whoever keeps a group's configurations that they have changed.
    fn group_configs_changed(&mut self, _now: Now, group: &str) {
        self.override_group(group);
        let any = !self.resource_configs.of(resource::GROUP, group).is_empty();
        let settings = any.then(|| GroupSettings::of(&self.group_configs(group)));
        self.share.set_overrides(group, settings);
    }

    /// The same for every group, after recovery.
    pub(in crate::broker) fn group_configs_recovered(&mut self, now: Now) {
        let groups: Vec<String> = self.resource_configs.names(resource::GROUP).map(str::to_owned).collect();
        groups.iter().for_each(|group| self.group_configs_changed(now, group));
    }
}

/// A resource's configurations with a change; `check` checks one value and gives its one way of writing.
fn altered(
    own: &Configs,
    change: &Change<'_>,
    check: impl Fn(&str, &str) -> Result<String, Refused>,
) -> Result<Configs, Refused> {
    let mut configs = if change.replace { Configs::new() } else { own.clone() };
    for alteration in &change.alterations {
        let key = alteration.name;
        match alteration.operation {
            Some(operation @ (Operation::Append | Operation::Subtract)) => {
                return Err(Refused::new(ErrorCode::INVALID_CONFIG, not_a_list(operation, shown(key))));
            }
            Some(Operation::Delete) => {
                configs.remove(key);
            }
            _ => {
                let value = check(key, alteration.value.unwrap_or(""))?;
                configs.insert(key.to_owned(), value);
            }
        }
    }
    Ok(configs)
}
