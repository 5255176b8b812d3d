//! Owns what can go wrong with a backup, with one sentence for the person who runs it.

use std::fmt;

use crate::store::{self, StoreError};
use crate::wal::frozen::FreezeError;
use crate::wal::RecoverError;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for isn't done, and nothing was changed.
    Refused,
    /// There is no such backup.
    NotFound,
    /// Something else is going on in the same place; later it may work.
    Busy,
    /// What is stored isn't what it should be.
    Damaged,
    /// The store can't be reached or doesn't allow it.
    Store,
    /// The data directory or the target can't be read or written.
    Disk,
    /// The folder in the store belongs to another server.
    Deposed,
    /// It was stopped.
    Stopped,
}

/// Why a backup, or what is done with one, came to no good end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    /// Without a full stop, to stand behind a colon.
    pub sentence: String,
}

impl Failure {
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Failure {
        Failure { kind, sentence: sentence.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let kind = match error.kind {
            store::Kind::Corrupt => Kind::Damaged,
            store::Kind::Source | store::Kind::Sink => Kind::Disk,
            store::Kind::Stopped => Kind::Stopped,
            _ => Kind::Store,
        };
        Failure::new(kind, error.sentence.trim_end_matches('.'))
    }
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Failure {
        let kind = match error {
            RecoverError::Io { .. } => Kind::Disk,
            RecoverError::HalfRestored | RecoverError::OtherStore(_) => Kind::Refused,
            _ => Kind::Damaged,
        };
        Failure::new(kind, error.to_string().trim_end_matches('.'))
    }
}

impl From<FreezeError> for Failure {
    fn from(error: FreezeError) -> Failure {
        match error {
            FreezeError::Refused(what) => Failure::new(Kind::Refused, what),
            FreezeError::Unsound(error) => error.into(),
        }
    }
}
