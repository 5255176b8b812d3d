//! Owns reading segments that are not on this disk any more: ranged reads of objects through a bounded disk cache.

pub mod cache;
pub mod owner;
mod remote;
pub mod upload;

pub use cache::{BlockCache, CacheSettings, Object, Source};
pub use remote::{Remote, StoreSource};
