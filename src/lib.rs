//! Chronik Stream: a Kafka-compatible broker in one small Unix daemon.
//!
//! This file only names the rooms of the house. A room uses rooms on its own tier or below;
//! `tests/tidy.rs` holds that. docs/ARCHITECTURE.md is the map.

// Tier 0: the machine, and facts that everybody shares.
pub mod canary;
pub mod config;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod options;
pub mod sys;
// Tier 1: bytes on the wire.
pub mod wire;
// Tier 2: the log on disk.
pub mod wal;
// Tier 2 too: objects in a folder or in a cloud.
pub mod store;
// Tier 3: the state machine.
pub mod broker;
// Tier 4: copies; segments in object storage; sockets and threads; the command-line tool.
pub mod backup;
pub mod cli;
pub mod net;
pub mod tier;
