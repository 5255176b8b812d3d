//! Owns every bound of the program, in one place, asserted against each other at compile time.

/// Requests of one connection that may wait for the disk at the same time.
pub const PIPELINE_REQUESTS_MAX: usize = 512;

/// Bytes of content at which a group of the log is closed and the next one begun. A single larger batch travels alone.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Bytes gathered for the log at which Produce requests are left waiting in their sockets.
pub const GATHER_BYTES_MAX: usize = 16 << 20;

/// Bytes of the log's last groups that stay in memory, from which the tail is served.
pub const RING_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(GATHER_BYTES_MAX >= 2 * GROUP_BYTES_MAX);

/// Bytes of reserved log space that Produce leaves for metadata: DeleteTopics, offset commits, retention, checkpoints.
pub const META_RESERVE_BYTES: usize = 1 << 20;

/// How long a full disk is left alone before the log is asked again, in µs.
pub const SPACE_PROBE_US: u64 = 1_000_000;

/// How long after a failed checkpoint the next is tried, in µs.
pub const CHECKPOINT_RETRY_US: u64 = 10_000_000;

/// Longest name of a topic, in bytes (Kafka's).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Producers that are remembered per partition; the one that was silent for longest makes room.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 65_536;

/// Partitions of all topics together.
pub const PARTITIONS_MAX: usize = 200_000;

/// Partitions of one fetch that are read from disk at the same time; the others come with the next one.
pub const FETCH_READS_MAX: usize = 64;

/// Runs that are handed to a reader for one look-up.
pub const READ_RUNS_MAX: usize = 1024;

/// Segments in which one look-up by timestamp searches.
pub const READ_PLACES_MAX: usize = 100_000;

/// Upper bound of what one change of metadata and its group cost in the log; less space than this refuses the change.
pub const META_CHANGE_BYTES: usize = 64 << 10;
