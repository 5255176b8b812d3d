//! Owns the administrative APIs: topics, partitions, configurations, and what tools ask about the cluster.
//!
//! All of them look at appended state and answer through `Broker::reply`, which waits until all metadata appended so far
//! is durable. One request may name many things: each is carried out or refused by itself, as in Kafka, and answered in
//! the order of the request.

mod alter_configs;
mod alter_resources;
mod cluster;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_configs;
mod describe_topics;
mod log_dirs;
mod loggers;
mod quorum;
mod replicas;
mod security;
mod telemetry;
mod update_features;
mod user_scram;

use std::collections::BTreeSet;

use super::reply::ReplyTo;
use super::{Broker, Now};
use crate::limits;
use crate::wire::ErrorCode;

/// Kafka's numbers for kinds of resources.
pub(super) mod resource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;
}

/// What an administrator may do with a topic: everything, as there are no ACLs. One bit per operation (KIP-430).
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What an administrator may do with the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Why something was not done: Kafka's error, and a sentence for the person behind the client.
#[derive(Debug)]
struct Refused {
    error: ErrorCode,
    message: Option<String>,
}

impl Refused {
    fn new(error: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { error, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Refused {
        Refused { error, message: None }
    }
}

/// Kafka's sentences for what is not there.
const NO_SUCH_PARTITION: &str = "This server does not host this topic-partition.";
const NO_SUCH_TOPIC_ID: &str = "This server does not host this topic ID.";

/// What became of one thing that a request named.
type Outcome = Result<(), Refused>;

fn error_of<T>(outcome: &Result<T, Refused>) -> ErrorCode {
    outcome.as_ref().map_or_else(|refused| refused.error, |_| ErrorCode::NONE)
}

fn message_of<T>(outcome: &Result<T, Refused>) -> Option<&str> {
    outcome.as_ref().err().and_then(|refused| refused.message.as_deref())
}

impl Broker {
    /// Refuses a change that the log has no room for.
    fn check_space(&mut self, now: Now, bytes: usize) -> Outcome {
        let needed = self.unwritten_bytes() + limits::META_CHANGE_BYTES + bytes;
        if needed as u64 <= self.space_bytes {
            return Ok(());
        }
        self.met_full_disk(now);
        Err(Refused::new(ErrorCode::KAFKA_STORAGE_ERROR, "The disk is full."))
    }

    fn count_outcomes<T>(&self, to: ReplyTo, outcomes: &[Result<T, Refused>]) {
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            self.settings.metrics.request_error(to.key, refused.error.0);
        }
    }
}

/// The items that are there more than once.
fn repeated<T: Ord + Copy>(items: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(*item)).collect()
}

/// Checks an assignment of replicas that a client made by hand: on one node it can only name that node.
fn check_replicas(brokers: &[i32], node_id: i32) -> Outcome {
    let refused = |why: String| Err(Refused::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, why));
    match brokers {
        [] => refused("The manual partition assignment includes an empty replica list.".to_owned()),
        [broker] if *broker == node_id => Ok(()),
        brokers => match brokers.iter().find(|broker| **broker != node_id) {
            Some(broker) => refused(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            )),
            None => refused(format!("The manual partition assignment includes the broker {node_id} more than once.")),
        },
    }
}
