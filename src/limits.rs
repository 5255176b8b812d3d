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

/// Consumer groups that may exist. Beyond it, whoever would begin one more is answered COORDINATOR_NOT_AVAILABLE.
pub const CONSUMER_GROUPS_MAX: usize = 100_000;

/// Members of one group, and as many ids handed out and not used yet; GROUP_MAX_SIZE_REACHED beyond it.
pub const CONSUMER_GROUP_MEMBERS_MAX: usize = 10_000;

/// Bytes of one group's members, their metadata and assignments: what one entry of the log has to hold.
pub const CONSUMER_GROUP_BYTES_MAX: usize = 2 << 20;

/// Bytes of memory for all groups and committed offsets; COORDINATOR_NOT_AVAILABLE for what would be new beyond it.
pub const CONSUMER_GROUPS_BYTES_MAX: usize = 256 << 20;

/// Bytes of a group's name; INVALID_GROUP_ID beyond it.
pub const CONSUMER_GROUP_ID_BYTES_MAX: usize = 4096;

/// Bytes kept of each name that a member's client chose.
pub const CONSUMER_GROUP_CLIENT_BYTES_MAX: usize = 1024;

const _: () = assert!(CONSUMER_GROUP_BYTES_MAX <= GROUP_BYTES_MAX);
