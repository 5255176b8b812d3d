//! Owns what can go wrong with a store, each with one sentence for the person who runs it.

use std::fmt;
use std::time::Duration;

/// What went wrong, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no object of that key.
    NotFound,
    /// The condition of a put doesn't hold: the object is there already, or isn't in the expected state.
    Exists,
    /// The range that was asked for has no byte of the object.
    OutOfRange,
    /// The credentials are missing, wrong or expired, or they don't allow it.
    Denied,
    /// There is no such bucket, container or folder.
    NoBucket,
    /// The bucket is in another region: this one, if the store said so.
    WrongRegion(Option<String>),
    /// This machine's clock and the store's are too far apart for signatures.
    ClockSkew,
    /// The store asked to be left alone for a while.
    Throttled,
    /// The store can't be reached, or says that it is at fault.
    Unavailable,
    /// The store didn't answer in time.
    Timeout,
    /// What came isn't what was stored: a checksum or a length is wrong, or the object changed while it was read.
    Corrupt,
    /// What was to be uploaded couldn't be read.
    Source,
    /// What was downloaded couldn't be written where it should go.
    Sink,
    /// The program is being stopped.
    Stopped,
    /// Anything else, such as a request that the store doesn't understand.
    Other,
}

/// Why a store didn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// For programs.
    pub kind: Kind,
    /// For people: one sentence that says what, where and, where it is known, what to do. Never a secret.
    pub sentence: String,
    /// How long the store asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// An error with its sentence.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> StoreError {
        StoreError { kind, sentence: sentence.into(), retry_after: None }
    }

    /// Whether the same request may well succeed later, with nothing changed on this side.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Unavailable | Kind::Timeout)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for StoreError {}
