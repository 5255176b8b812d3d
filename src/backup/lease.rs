//! Owns who may do what at the same time in one directory's folder of a store.
//!
//! Many may make backups. One may sweep: take away what no manifest names. Who makes a backup relies on segments that are
//! there already and that perhaps no manifest names yet, so nobody may sweep meanwhile. Each first says what it does, with
//! an object, and then looks whether the other kind has said so; as stores show at once what was put, at least one of two
//! sees the other. The maker then gives up, the sweeper goes away. The word of one who died counts until it is stale by
//! the store's clock.

use std::time::{Duration, Instant};

use super::{clock, layout, Failure, Kind};
use crate::limits;
use crate::store::{self, for_each, ObjectStore, PutMode, StoreError};

/// The word of somebody who is at work. It is taken back when this goes.
#[derive(Debug)]
pub struct Lease<'a> {
    store: &'a dyn ObjectStore,
    key: String,
    renewed: Instant,
}

const WORD: &[u8] = b"at work\n";

impl<'a> Lease<'a> {
    /// Says that a backup is being made. [`Kind::Busy`] while somebody sweeps.
    pub fn to_make(store: &'a dyn ObjectStore, directory: &str, backup: &str) -> Result<Lease<'a>, Failure> {
        let key = layout::maker(directory, backup);
        store.put(&key, &WORD, PutMode::IfAbsent)?;
        let lease = Lease { store, key, renewed: Instant::now() };
        let sweeper = match store.head(&layout::sweeper(directory)) {
            Ok(info) => info,
            Err(error) if error.kind == store::Kind::NotFound => return Ok(lease),
            Err(error) => return Err(error.into()),
        };
        if is_stale(sweeper.modified_ms, store.head(&lease.key)?.modified_ms) {
            return Ok(lease);
        }
        let what = "segments that no backup needs are being removed from the store just now; try again in some minutes";
        Err(Failure::new(Kind::Busy, what))
    }

    /// Says that somebody sweeps; `None` while a backup is being made, or somebody else sweeps.
    pub fn to_sweep(store: &'a dyn ObjectStore, directory: &str) -> Result<Option<Lease<'a>>, Failure> {
        let now_ms = clock::store_ms(store, directory)?;
        let key = layout::sweeper(directory);
        if !take_over(store, &key, now_ms)? {
            return Ok(None);
        }
        let lease = Lease { store, key, renewed: Instant::now() };
        let mut makers = Vec::new();
        for_each(store, &layout::makers(directory), |listed| {
            makers.push(listed);
            Ok(())
        })?;
        for maker in makers {
            if !is_stale(maker.info.modified_ms, now_ms) {
                return Ok(None);
            }
            store.delete(&maker.key)?;
        }
        Ok(Some(lease))
    }

    /// Renews the word if it is time.
    ///
    /// # Errors
    /// It could not be renewed for so long that others may soon take it for stale.
    pub fn renew(&mut self) -> Result<(), Failure> {
        let age = self.renewed.elapsed();
        if age < Duration::from_millis(limits::BACKUP_RENEWAL_MS) {
            return Ok(());
        }
        match self.store.put(&self.key, &WORD, PutMode::Overwrite) {
            Ok(_) => self.renewed = Instant::now(),
            Err(error) if age > Duration::from_millis(limits::BACKUP_LEASE_MS as u64 / 2) => return Err(error.into()),
            Err(error) => log::debug!("{} was not renewed: {error}", self.key),
        }
        Ok(())
    }

    /// Whether the word surely still counts.
    pub fn check(&self) -> Result<(), Failure> {
        if self.renewed.elapsed() <= Duration::from_millis(limits::BACKUP_LEASE_MS as u64 / 2) {
            return Ok(());
        }
        let what =
            "it took too long since this backup could last say that it is being made; others may have removed what \
                    it needs";
        Err(Failure::new(Kind::Store, what))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.delete(&self.key) {
            log::debug!("{} stays until it is stale: {error}", self.key);
        }
    }
}

fn is_stale(modified_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(modified_ms) > limits::BACKUP_LEASE_MS
}

/// Puts the sweeper's word where there is none, or a stale one. Of several who try at once one succeeds.
fn take_over(store: &dyn ObjectStore, key: &str, now_ms: i64) -> Result<bool, StoreError> {
    match store.put(key, &WORD, PutMode::IfAbsent) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind == store::Kind::Exists => {}
        Err(error) => return Err(error),
    }
    let there = match store.head(key) {
        Ok(info) => info,
        Err(error) if error.kind == store::Kind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !is_stale(there.modified_ms, now_ms) {
        return Ok(false);
    }
    match store.put(key, &WORD, PutMode::IfMatch(&there.etag)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == store::Kind::Exists => Ok(false),
        Err(error) => Err(error),
    }
}
