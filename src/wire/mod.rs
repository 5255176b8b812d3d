//! Owns the Kafka wire format: codec, messages, records.

/// A topic id or another 128-bit id, as Kafka shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);
