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
