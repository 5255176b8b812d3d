//! Owns the changing of the log level by IncrementalAlterConfigs. There is one logger, Kafka's `root`; as in Kafka, a change
//! lasts until the next start.

use log::LevelFilter;

use super::alter_configs::{invalid, not_a_node_id, Change, Operation};
use super::{Outcome, Refused};
use crate::broker::configs::topic_table::shown;
use crate::broker::{Broker, Effect};
use crate::wire::ErrorCode;

/// The name of the one logger.
pub(super) const ROOT: &str = "root";

impl Broker {
    pub(super) fn alter_loggers(&mut self, change: &Change<'_>, validate_only: bool) -> Outcome {
        let own = self.settings.config.node_id;
        match change.resource_name.parse::<i32>() {
            Ok(id) if id == own => {}
            Ok(id) => return Err(invalid(format!("Unexpected node id. Expected {own}, but received {id}"))),
            Err(_) => return Err(invalid(not_a_node_id(change.resource_name))),
        }
        let mut wanted = None;
        for alteration in &change.alterations {
            let name = alteration.name;
            let unknown = || Refused::new(ErrorCode::INVALID_CONFIG, format!("Logger {} does not exist!", shown(name)));
            match (alteration.operation, alteration.value.unwrap_or("")) {
                (Some(operation @ (Operation::Append | Operation::Subtract)), _) => {
                    let operation = operation.name();
                    return Err(invalid(format!(
                        "{operation} operation is not allowed for the BROKER_LOGGER resource"
                    )));
                }
                _ if name != ROOT => return Err(unknown()),
                (Some(Operation::Delete), _) => {
                    return Err(invalid("Removing the log level of the root logger is not allowed"));
                }
                (_, level) => wanted = Some(read_level(level)?),
            }
        }
        if let (Some(level), false) = (wanted, validate_only) {
            self.broker_configs.set_log_level(level);
            self.apply_broker_configs();
            self.effects.push_back(Effect::LogLevel(level));
        }
        Ok(())
    }
}

/// Kafka's levels. Nothing here is logged above ERROR, so FATAL comes to the same.
fn read_level(text: &str) -> Result<LevelFilter, Refused> {
    match text {
        "TRACE" => Ok(LevelFilter::Trace),
        "DEBUG" => Ok(LevelFilter::Debug),
        "INFO" => Ok(LevelFilter::Info),
        "WARN" => Ok(LevelFilter::Warn),
        "ERROR" | "FATAL" => Ok(LevelFilter::Error),
        _ => Err(Refused::new(
            ErrorCode::INVALID_CONFIG,
            format!(
                "Cannot set the log level of {ROOT} to {} as it is not a supported log level. Valid log levels are DEBUG, \
                 ERROR, FATAL, INFO, TRACE, WARN",
                shown(text)
            ),
        )),
    }
}
