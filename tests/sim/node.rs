//! Owns one life of the server: the broker with its log, its readers and its housekeeper, without their threads.

use std::sync::Arc;

use bytes::Bytes;
use chronik::broker::settings::Settings;
use chronik::broker::{Broker, CheckpointDone, CheckpointJob, Now, Response};
use chronik::sys::disk::Disk;
use chronik::wal::{Group, GroupSeq, ReadDone, ReadJob, SegmentId, Written};

use super::disk::SimDisk;

/// A server that is up.
pub struct Node {
    pub broker: Broker,
    pub in_flight: bool,
    /// For which of the broker's timers a wake-up is scheduled.
    pub deadline_us: Option<u64>,
    /// The last group that recovery found.
    pub recovered: GroupSeq,
}
