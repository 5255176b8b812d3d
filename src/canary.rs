//! Owns the canaries: faults that the server commits on purpose, so that the tests can show that they would notice.
//!
//! They exist only in builds with the feature `canary`, and of those only the one that `CHRONIK_CANARY` names is at work.
//! In every other build [`has`] is `false` when the program is compiled, and nothing of them is left.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers leave before the write is durable.
    EarlyAck,
    /// A group of the log is written and not synced.
    UnsyncedGroup,
    /// A new segment's name is not made durable.
    UnsyncedName,
    /// A checkpoint is renamed into its place before its bytes are durable.
    UnsyncedCheckpoint,
    /// A batch that an idempotent producer repeats is appended again.
    Duplicate,
    /// Readers of committed records are not told of aborted transactions.
    AbortedShown,
    /// A committed offset is answered and not written to the log.
    OffsetForgotten,
    /// A member is given a partition that another one still has.
    DoubleAssignment,
    /// A share group hands out a record that somebody has.
    AcquiredTwice,
    /// A share group gives up a record whose lock ended.
    ShareRecordLost,
    /// Compaction takes out the last value of a key.
    LastValueDropped,
    /// Compaction takes out tombstones at once.
    TombstoneDropped,
    /// A sealed segment's records are served without a look at their checksums.
    RotServed,
    /// Recovery takes a group that was torn for whole.
    TornTail,
    /// An fsync that failed is tried again, and the second one is believed.
    SyncErrorIgnored,
    /// A write that failed half-way counts as done.
    WriteErrorIgnored,
    /// A read that failed is answered as if there were nothing to read.
    ReadErrorHidden,
    /// Recovery reads what the cache shows, not what the medium holds.
    CacheTrusted,
    /// What a removed segment left in the space of a new one is taken for the new one's.
    StaleAccepted,
    /// Records are acknowledged for which there is no room.
    FullAcknowledged,
    /// After a start a committed offset is the one that the checkpoint knows.
    OffsetBack,
    /// A transaction ends in one of its partitions only.
    TxnTorn,
    /// After a start nobody knows which batches idempotent producers have sent.
    SequenceForgotten,
    /// A request is begun while the one before it on its connection is with a worker.
    Overtaken,
    /// The replies of a connection leave as they are ready.
    RepliesShuffled,
    /// Records are visible before they are durable.
    VisibleEarly,
    /// Time-outs are measured by the wall clock, which somebody may set.
    WallClock,
}

/// Every fault with the name by which `CHRONIK_CANARY` chooses it.
pub const FAULTS: [(&str, Fault); 27] = [
    ("early-ack", Fault::EarlyAck),
    ("unsynced-group", Fault::UnsyncedGroup),
    ("unsynced-name", Fault::UnsyncedName),
    ("unsynced-checkpoint", Fault::UnsyncedCheckpoint),
    ("duplicate", Fault::Duplicate),
    ("aborted-shown", Fault::AbortedShown),
    ("offset-forgotten", Fault::OffsetForgotten),
    ("double-assignment", Fault::DoubleAssignment),
    ("acquired-twice", Fault::AcquiredTwice),
    ("share-record-lost", Fault::ShareRecordLost),
    ("last-value-dropped", Fault::LastValueDropped),
    ("tombstone-dropped", Fault::TombstoneDropped),
    ("rot-served", Fault::RotServed),
    ("torn-tail", Fault::TornTail),
    ("sync-error-ignored", Fault::SyncErrorIgnored),
    ("write-error-ignored", Fault::WriteErrorIgnored),
    ("read-error-hidden", Fault::ReadErrorHidden),
    ("cache-trusted", Fault::CacheTrusted),
    ("stale-accepted", Fault::StaleAccepted),
    ("full-acknowledged", Fault::FullAcknowledged),
    ("offset-back", Fault::OffsetBack),
    ("txn-torn", Fault::TxnTorn),
    ("sequence-forgotten", Fault::SequenceForgotten),
    ("overtaken", Fault::Overtaken),
    ("replies-shuffled", Fault::RepliesShuffled),
    ("visible-early", Fault::VisibleEarly),
    ("wall-clock", Fault::WallClock),
];

/// Whether the server is to do this wrong.
#[cfg(not(feature = "canary"))]
#[inline(always)]
pub const fn has(_: Fault) -> bool {
    false
}

/// Whether the server is to do this wrong: what `CHRONIK_CANARY` names, which is looked up once.
#[cfg(feature = "canary")]
pub fn has(fault: Fault) -> bool {
    chosen() == Some(fault)
}

/// The fault that `CHRONIK_CANARY` names. A name that is none chooses nothing, which the canary's test refuses.
#[cfg(feature = "canary")]
pub fn chosen() -> Option<Fault> {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("CHRONIK_CANARY").ok()?;
        FAULTS.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    })
}
