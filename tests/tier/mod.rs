//! Owns the tests of tiered storage: what is read from the object store, cached, uploaded, evicted and restored.

mod cache;
mod owner;
mod tiers;
