//! Owns the Kafka wire format: codec, messages, records.
pub mod batch;
mod batch_builder;
pub mod compress;
pub mod record;

/// A topic id or another 128-bit id, as Kafka shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);
