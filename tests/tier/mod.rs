//! Owns the tests of tiered storage: what is read from the object store, cached, uploaded, evicted and restored.

mod bucket;
mod cache;
mod outages;
mod owner;
mod requests;
mod shrinking;
mod tiers;
