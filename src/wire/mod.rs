//! Owns the Kafka wire format: codec, messages, records.
