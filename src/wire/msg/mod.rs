//! Owns the descriptions of the messages, a file for each family. No logic is here; `wire/mod.rs` has the rules for names.

mod cluster;
mod data;

pub use cluster::*;
pub use data::*;
