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

/// Length that segments of the log are preallocated with, unless an option says otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 128 << 20;

/// Smallest segment that the log works with, bytes.
pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;

/// Runs at which a segment is sealed even if it has room, so that the index of the unsealed one stays small in memory.
pub const SEGMENT_RUNS_MAX: usize = 65_536;

/// Part of the log's reserved space that only metadata may use: a produce is taken only while
/// `space_bytes` minus what is under way, minus this, covers its cost; metadata needs only its own cost covered.
pub const META_RESERVE_BYTES: u64 = 512 << 10;

/// Length of the file that is given back when the disk is full, so that checkpoints and metadata files can still be written.
pub const BALLAST_BYTES: u64 = 4 << 20;

/// Group buffers that are kept for use again, and their bytes in all.
pub const POOL_BUFFERS_MAX: usize = 16;
pub const POOL_BYTES_MAX: usize = 16 << 20;

/// Bytes of a segment that recovery reads at once.
pub const SCAN_BYTES: usize = 1 << 20;

const _: () = assert!(META_RESERVE_BYTES < SEGMENT_BYTES_MIN);
const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 16 * GROUP_BYTES_MAX as u64);

/// Length of one file of the file metadata store.
pub const META_FILE_BYTES_MAX: usize = 256 << 20;

/// Scopes whose shortened file names may be the same.
pub const META_FILE_TWINS_MAX: u32 = 16;

/// Length of a checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 30;
