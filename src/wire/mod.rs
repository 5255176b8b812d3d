//! Owns the Kafka wire format: codec, messages, records.
pub mod batch;
mod batch_builder;
pub mod compress;
mod convert;
pub mod legacy;
pub mod record;
mod validate;
