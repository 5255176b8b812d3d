//! Owns the log's errors: what ends the server and what keeps it from starting.

use std::fmt;
use std::io;

use super::{GroupSeq, LogPosition};

/// The log cannot go on: nothing more may be acknowledged, and the process must end. Never retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// A sentence that says what failed, with the file.
    pub message: String,
}

impl Fatal {
    pub(super) fn new(message: impl Into<String>) -> Fatal {
        Fatal { message: message.into() }
    }

    /// A failed call on storage.
    pub(super) fn io(what: &str, error: &io::Error) -> Fatal {
        Fatal::new(format!("{what} failed: {error}"))
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}

/// Why a data directory cannot be opened.
#[derive(Debug)]
pub enum RecoverError {
    /// Something that had been durable is damaged or missing.
    Corrupt {
        /// Path below the data directory.
        file: String,
        position: u64,
        /// What was expected and what was found.
        what: String,
        /// What a person can do.
        remedy: String,
    },
    /// Written by a newer program.
    Newer { file: String, version: u16, supported: u16 },
    /// Metadata lives in the other store.
    OtherStore(String),
    /// The broker did not understand its own checkpoint.
    Checkpoint { file: String, what: String },
    /// The broker could not take what stands there.
    Replay { file: String, position: u64, what: String },
    /// A backup was being restored into the directory.
    HalfRestored,
    /// Storage failed.
    Io { what: String, error: io::Error },
}

impl RecoverError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> RecoverError {
        let what = what.into();
        move |error| RecoverError::Io { what, error }
    }

    /// Damage that only a copy can mend.
    pub(super) fn lost(file: impl Into<String>, position: u64, what: impl Into<String>) -> RecoverError {
        let remedy = "Restore the data directory from a copy.".to_string();
        RecoverError::Corrupt { file: file.into(), position, what: what.into(), remedy }
    }

    /// Damage in the log's groups, from which one can also go on without what follows.
    pub(super) fn in_log(at: LogPosition, what: impl Into<String>) -> RecoverError {
        let file = super::segment::path(at.segment);
        let remedy = format!(
            "Copy the data directory first. Then restore it from a backup, or give up everything from there on: run \
             'truncate -s {} {file}' in the data directory and remove the segments with higher numbers.",
            at.position
        );
        RecoverError::Corrupt { file, position: at.position, what: what.into(), remedy }
    }

    pub(super) fn gap(at: LogPosition, last: GroupSeq, found: GroupSeq) -> RecoverError {
        RecoverError::in_log(at, format!("group {found} follows group {last}: groups between them are missing"))
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Corrupt { file, position, what, remedy } => {
                write!(f, "{file} is damaged at position {position}: {what}. {remedy}")
            }
            RecoverError::Newer { file, version, supported } => write!(
                f,
                "{file} has format {version}, and this program knows formats up to {supported}: it was written by a newer \
                 version, which has to be installed to open it"
            ),
            RecoverError::Replay { file, position, what } => {
                write!(f, "the group at position {position} of {file} cannot be used: {what}")
            }
            RecoverError::OtherStore(what) => f.write_str(what),
            RecoverError::HalfRestored => f.write_str(
                "a restore into it was interrupted. Run the same 'chronik backup restore' again, which goes on where it \
                 ended, or remove the folder",
            ),
            RecoverError::Checkpoint { file, what } => write!(f, "{file} cannot be used: {what}"),
            RecoverError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for RecoverError {}
