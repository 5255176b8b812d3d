//! Owns uploads: a picture of the whole log into the store, sent as far as the store lacks it, and what goes again there.
//!
//! Each upload is a manifest as backups have it (docs/backup-format.md), of which the last two are kept; so the store alone gives
//! back the directory of a machine that is lost, and a segment that only the store has is always named by one of them.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use super::owner::Owner;
use crate::backup::{self, Failure, Guard, Kind, Known, Manifest, Origin, Sent, Watch};
use crate::broker::tiering::{StoredObject, UploadDone, UploadError};
use crate::limits;
use crate::metrics::Metrics;
use crate::store::{ETag, ObjectStore};
use crate::sys::disk::Disk;
use crate::wal::settings::Entropy;
use crate::wal::SegmentId;
use crate::wire::Uuid;

/// What is uploaded, and where to.
pub struct Subject {
    pub disk: Arc<dyn Disk>,
    /// The data directory, to keep others from copying it at the same time; `None` where nobody else can.
    pub root: Option<PathBuf>,
    pub directory_id: Uuid,
    pub store: Arc<dyn ObjectStore>,
    pub owner: Owner,
    /// Whoever else the store knew as the owner is not asked any more.
    pub take_over: bool,
    pub metrics: Arc<Metrics>,
    pub entropy: Entropy,
}

/// Does one upload at a time. Blocks on the disk and the store, so it belongs on a thread of its own.
pub struct Uploader {
    subject: Subject,
    /// The owner's object as it was claimed.
    claimed: Option<ETag>,
    /// What the last uploads made, the oldest first; empty when the store has to be asked.
    made: VecDeque<Manifest>,
    /// What the owner before left is of another history, and goes.
    alone: bool,
    /// Uploads until the store is asked again what it holds.
    trusted: u32,
    /// What was to be removed could not be.
    has_superfluous: bool,
    /// What uploads that failed have sent.
    sent: Sent,
}

/// Manifests that are kept.
const KEPT: usize = 2;

impl Uploader {
    pub fn new(subject: Subject) -> Uploader {
        Uploader {
            subject,
            claimed: None,
            made: VecDeque::new(),
            alone: false,
            trusted: 0,
            has_superfluous: false,
            sent: Sent::default(),
        }
    }

    /// Sends what the store lacks. `now_ms` is the wall clock. With `looks` the store is asked what it holds, which it also is after a
    /// start, after a failure, and now and then.
    pub fn upload(&mut self, now_ms: i64, looks: bool, watch: &dyn Watch) -> UploadDone {
        let has_looked = looks || self.trusted == 0 || self.made.is_empty();
        let result = self.run(now_ms, has_looked, watch);
        let metrics = &self.subject.metrics;
        let result = match result {
            Ok(stored) => {
                metrics.tier_uploads.inc();
                metrics.tier_last_upload_seconds.set(now_ms / 1000);
                Ok(stored)
            }
            Err(failure) => {
                let is_busy = failure.kind == Kind::Busy;
                if !is_busy {
                    // What an upload that failed has done is not known; the next one asks.
                    self.made.clear();
                    metrics.tier_upload_failures.inc();
                }
                let is_deposed = failure.kind == Kind::Deposed;
                if is_deposed {
                    self.claimed = None;
                    self.sent = Sent::default();
                }
                Err(UploadError { sentence: failure.sentence, is_deposed, is_busy })
            }
        };
        let free_bytes = self.subject.disk.free_bytes().ok();
        UploadDone { result, free_bytes, has_looked, has_superfluous: self.has_superfluous }
    }

    fn run(&mut self, now_ms: i64, asks: bool, watch: &dyn Watch) -> Result<Vec<(SegmentId, StoredObject)>, Failure> {
        let Subject { store, directory_id, disk, root, owner, take_over, metrics, entropy } = &mut self.subject;
        let directory = backup::directory_name(*directory_id);
        let known = self.claimed.take();
        let known = owner.claim(&**store, &directory, known, *take_over)?;
        self.claimed = Some(known.clone());
        self.alone |= std::mem::take(take_over);
        let origin = match root {
            Some(root) => Origin::of_server(Arc::clone(disk), root.clone())?,
            None => Origin::on(Arc::clone(disk), false),
        };
        let previous = self.made.back().filter(|_| !asks);
        // Whoever has taken over meanwhile must not find a later manifest than its own.
        let guard: Guard<'_> = &mut || owner.check(&**store, &directory, &known);
        let known = Known { previous, sent: &mut self.sent, guard };
        let created = backup::upload(&origin, &**store, now_ms, entropy, watch, known)?;
        drop(origin);
        for note in &created.notes {
            log::warn!("{note}");
        }
        metrics.tier_uploaded_bytes.add(created.sent_bytes);
        log::debug!("upload {}: {} objects sent", created.manifest.backup, created.sent_objects);
        let stored = created.manifest.segments().collect();
        self.made.push_back(created.manifest);
        // It may have taken long. Whoever has taken over meanwhile needs what this server would remove.
        if let Some(known) = &self.claimed {
            owner.check(&**store, &directory, known)?;
        }
        // What is superfluous does no harm: it goes with a later upload.
        match self.remove_old(&directory, asks) {
            Ok(is_done) => self.has_superfluous = !is_done,
            Err(failure) if failure.kind == Kind::Deposed => return Err(failure),
            Err(failure) => {
                log::warn!("what the store need not keep stays for now: {failure}");
                self.trusted = 0;
                // Something there that cannot be read will not be readable soon.
                self.has_superfluous = failure.kind == Kind::Store;
            }
        }
        Ok(stored)
    }

    /// Removes manifests beyond those that are kept, and what only they name; after a start, and now and then, whatever nobody
    /// names. False if that has to wait.
    fn remove_old(&mut self, directory: &str, asks: bool) -> Result<bool, Failure> {
        let Subject { store, owner, .. } = &mut self.subject;
        let store = &**store;
        if asks {
            self.made.drain(..self.made.len() - 1);
            let mut is_done = true;
            if let Some(made) = self.made.back() {
                let known = self.claimed.as_ref();
                let guard: Guard<'_> = &mut || known.map_or(Ok(()), |known| owner.check(store, directory, known));
                let (swept, last) = backup::keep_tier(store, directory, made, self.alone, guard)?;
                // What is put off comes with the next upload.
                is_done = !swept.is_put_off;
                self.trusted = if is_done { limits::UPLOADS_TRUSTED } else { 0 };
                // It goes as any other, and what only it names, when there are two later ones.
                last.into_iter().for_each(|last| self.made.push_front(last));
            }
            self.alone = false;
            return Ok(is_done);
        }
        self.trusted -= 1;
        while self.made.len() > KEPT {
            let Some(old) = self.made.pop_front() else { break };
            backup::remove_superseded(store, &old, &named(&self.made))?;
        }
        Ok(true)
    }
}

fn named(manifests: &VecDeque<Manifest>) -> BTreeSet<String> {
    manifests.iter().flat_map(|manifest| &manifest.objects).map(|object| object.key.clone()).collect()
}
