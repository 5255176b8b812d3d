//! Owns the descriptions of the messages, a file for each family. No logic is here; `wire/mod.rs` has the rules for names.

mod acls;
mod cluster;
mod configs;
mod data;
mod groups;
mod offsets;
mod quorum;
mod quotas;
mod replicas;
mod sasl;
mod share;
mod share_state;
mod streams;
mod telemetry;
mod tokens;
mod topics;
mod txn;

pub use acls::*;
pub use cluster::*;
pub use configs::*;
pub use data::*;
pub use groups::*;
pub use offsets::*;
pub use quorum::*;
pub use quotas::*;
pub use replicas::*;
pub use sasl::*;
pub use share::*;
pub use share_state::*;
pub use streams::*;
pub use telemetry::*;
pub use tokens::*;
pub use topics::*;
pub use txn::*;
