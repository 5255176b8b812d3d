//! Owns transactions.

pub mod partition;
