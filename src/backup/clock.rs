//! Owns the store's time: who may be slow, and whose word is stale, is judged by one clock for all.

use super::layout;
use crate::store::{ObjectStore, PutMode, StoreError};

/// The time by the store's clock, ms since 1970.
pub fn store_ms(store: &dyn ObjectStore, directory: &str) -> Result<i64, StoreError> {
    let key = layout::clock(directory);
    store.put(&key, b"written to learn the store's time\n", PutMode::Overwrite)?;
    Ok(store.head(&key)?.modified_ms)
}
