//! Owns every bound of the program, in one place, asserted against each other at compile time.

/// Least memory limit, bytes.
pub const MEMORY_BYTES_MIN: usize = 512 << 20;

/// The part of the memory limit that requests, answers and the keys of a compaction get each, unless options say otherwise.
pub const MEMORY_PART: usize = 8;

/// What else the memory limit has to hold, in bytes: the program, buffers kept for use again, the log's groups and ring, tidying, one
/// decoded request with what it takes to answer it, and one answer beyond the bound on answers.
pub const MEMORY_FIXED_BYTES: usize = 256 << 20;

/// The same for object storage: what was read last, what came too late, and what is on its way up and down.
pub const MEMORY_STORE_BYTES: usize = 112 << 20;

const _: () = assert!(MEMORY_BYTES_MIN / MEMORY_PART * 4 + MEMORY_FIXED_BYTES <= MEMORY_BYTES_MIN);
const _: () = assert!(
    POOL_BYTES_MAX
        + RING_BYTES_MAX
        + GATHER_BYTES_MAX
        + TIDY_PASS_BYTES as usize
        + 4 * REQUEST_ARRAYS_BYTES_MAX
        + DESCRIBED_BYTES_MAX
        < MEMORY_FIXED_BYTES
);
const _: () = assert!(
    // Whoever fetches keeps the first block of a request and the one that comes; one is being written to the disk.
    TIER_MEMORY_BYTES
        + (TIER_BEHIND_MAX + 1 + 2 * (TIER_READERS + TIER_AHEAD_THREADS + 1)) * TIER_BLOCK_BYTES
        + LATE_READ_BYTES_MAX
        < MEMORY_STORE_BYTES
);

/// Requests of one connection that may wait for the disk at the same time.
pub const PIPELINE_REQUESTS_MAX: usize = 512;

/// Bytes of content at which a group of the log is closed and the next one begun. A single larger batch travels alone.
pub const GROUP_BYTES_MAX: usize = 2 << 20;

/// Bytes gathered for the log at which Produce requests are left waiting in their sockets.
pub const GATHER_BYTES_MAX: usize = 6 << 20;

/// Bytes of the log's last groups that stay in memory, from which the tail is served.
pub const RING_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(GATHER_BYTES_MAX >= 2 * GROUP_BYTES_MAX);

/// Length that segments of the log are preallocated with, unless an option says otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 128 << 20;

/// Smallest segment that the log works with, bytes.
pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;

/// Runs at which a segment is sealed even if it has room, so that the index of the unsealed one stays small in memory.
pub const SEGMENT_RUNS_MAX: usize = 65_536;

/// Length of the file that is given back when the disk is full, so that checkpoints and metadata files can still be written.
pub const BALLAST_BYTES: u64 = 4 << 20;

/// How far the log's space is written with zeros ahead of small groups, bytes; groups up to an eighth of it are small.
pub const ZERO_AHEAD_BYTES: u64 = 512 << 10;

/// Group buffers that are kept for use again, and their bytes in all.
pub const POOL_BUFFERS_MAX: usize = 16;
pub const POOL_BYTES_MAX: usize = 8 << 20;

/// Bytes of a segment that recovery reads at once.
pub const SCAN_BYTES: usize = 1 << 20;

/// Bytes of a group of a pack. A single larger batch is a group of its own.
pub const TIDY_GROUP_BYTES: usize = 1 << 20;

/// Bytes that tidying reads at once, and after which it looks at its pace.
pub const TIDY_PIECE_BYTES: usize = 1 << 20;

/// Runs with at most so many bytes between them are read together.
pub const TIDY_GAP_BYTES: u64 = 64 << 10;

/// Bytes of batches that tidying holds in memory to sort them by partition.
pub const TIDY_PASS_BYTES: u64 = 16 << 20;

/// Live bytes that one tidying rewrites, beyond its first segment.
pub const TIDY_JOB_BYTES: u64 = 256 << 20;

/// Segments that one tidying rewrites, and partitions in it.
pub const TIDY_SEGMENTS_MAX: usize = 64;
pub const TIDY_PARTS_MAX: usize = 50_000;

/// Segments of one size that tidying merges when there are so many of them.
pub const TIDY_MERGE_MIN: usize = 4;

/// Runs of a segment of the log that are shorter than this on average, in bytes, are worth sorting.
pub const TIDY_SHORT_RUN_BYTES: u64 = 16 << 10;

/// Partitions that have less than this in a pack on average, in bytes, are worth merging with those of other packs.
pub const TIDY_SHORT_RANGE_BYTES: u64 = 1 << 20;

/// What a pack takes at most beside its batches: header, padding, index; and per partition in it.
pub const TIDY_PACK_OVERHEAD_BYTES: u64 = 256 << 10;
pub const TIDY_PART_OVERHEAD_BYTES: u64 = 320;

/// The same when an object is made smaller, where what is gained is worth a request and not a write to the disk: of a segment of the log,
/// which can be rewritten once only, what is usual; of a pack what it takes where blocks are largest, so that none is rewritten again and again.
pub const TIDY_OBJECT_OVERHEAD_BYTES: u64 = 32 << 10;
pub const TIDY_PACK_OBJECT_OVERHEAD_BYTES: u64 = 384 << 10;

/// How long making an object smaller may keep other tidying waiting before it is stopped, in µs.
pub const TIDY_OBJECT_PATIENCE_US: u64 = 5_000_000;

/// How long the unsealed segment may hold much that is deleted before it is sealed, in µs, and how much at least, in bytes.
pub const TIDY_SEAL_US: u64 = 10_000_000;
pub const TIDY_SEAL_BYTES: u64 = 1 << 20;

/// Bytes that a compaction takes in which reads from the object store, beyond the first segment of a partition; more when more
/// than that is compacted already.
pub const STORE_CLEAN_BYTES: u64 = 1 << 30;

/// How long such a compaction may keep other tidying waiting before it is stopped, in µs, and how often that is doubled at most.
pub const STORE_CLEAN_PATIENCE_US: u64 = 30_000_000;
pub const STORE_CLEAN_DOUBLINGS_MAX: u32 = 12;

/// What is to stay on this disk of a segment that could go otherwise is written anew for that, if it is at most one part in so
/// many of what lives in the segment.
pub const RELOCATE_PART: u64 = 4;

/// How long after a failed tidying the next is tried, in µs.
pub const TIDY_RETRY_US: u64 = 30_000_000;

/// How far checkpoints that are written only to give space back are apart, in µs.
pub const SPACE_CHECKPOINT_US: u64 = 5_000_000;

const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 16 * GROUP_BYTES_MAX as u64);

/// Index pages of a segment, and bytes of their directory, that are looked at; more can't be sound.
pub const SEGMENT_PAGES_MAX: u64 = 1 << 20;
pub const SEGMENT_DIRECTORY_BYTES_MAX: usize = 64 << 20;

/// Times that a copy of a data directory in use is begun anew because files went away meanwhile.
pub const FREEZE_ROUNDS_MAX: u32 = 16;

/// Groups that may wait for the wal thread.
pub const WAL_MAILBOX_GROUPS: usize = 4;

/// Look-ups that may wait for the readers.
pub const READ_MAILBOX_JOBS: usize = 65_536;

/// Segments that readers keep open, and bytes of their footers' directories that they keep in memory.
pub const READ_HANDLES_MAX: usize = 128;
pub const READ_INDEX_BYTES_MAX: usize = 8 << 20;

/// Bytes that a reader takes from a file at once.
pub const READ_PIECE_BYTES: usize = 256 << 10;

/// For how long batches that were checked are sent again without being read and checked once more, in µs; and how many stretches of
/// them are remembered per segment that is open, some 40 bytes each.
pub const READ_TRUSTED_US: u64 = 600_000_000;
pub const READ_TRUSTED_STRETCHES_MAX: usize = 1024;

/// Bytes behind what a look-up takes that the disk is told of, because a consumer asks for them next; and runs, together with those
/// that are taken, that it is told of at once.
pub const READ_AHEAD_BYTES: u64 = 1 << 20;
pub const READ_AHEAD_RUNS_MAX: usize = 64;

/// From batches of this length on, in bytes, a reader that only passes over them takes nothing but their headers from the file.
pub const READ_HOP_BYTES: u32 = 16 << 10;

/// Pieces of the log in one answer.
pub const READ_SPLICES_MAX: usize = 4096;

/// More pieces than this, shorter than this on average in bytes, are copied together instead of being sent one by one.
pub const GATHER_SPLICES_MIN: usize = 8;
pub const GATHER_SPLICE_BYTES: u64 = 8 << 10;

/// How long an upload of the log waits for tidying to come to rest, in µs.
pub const UPLOAD_PATIENCE_US: u64 = 30_000_000;

/// From an upload to the next one that only takes what was deleted from the store, in µs.
pub const UPLOAD_REMOVALS_US: u64 = 60_000_000;

/// How often in a row that is tried when it fails, each time after twice as long: for some two hours.
pub const UPLOAD_REMOVAL_TRIES: u32 = 6;

/// How long before a local copy goes the store may have been asked at the earliest whether it holds the segment, in µs.
pub const EVICT_LOOK_US: u64 = 600_000_000;

/// From an upload that failed, or a compaction that could not read the store, to the next one, in µs, doubled each time up to the
/// second.
pub const UPLOAD_RETRY_US: u64 = 5_000_000;
pub const UPLOAD_RETRY_MAX_US: u64 = 300_000_000;

/// Segments sent by uploads that failed, which are remembered so that they need not be read again, some 150 bytes each.
pub const UPLOAD_SENT_MAX: usize = 65_536;

/// The unit in which segments are read from the object store and kept in the disk cache, in bytes, and how many of them one
/// request brings at most. A block is a huge page, of which the kernel pins one for a write and not hundreds of small ones.
pub const TIER_BLOCK_BYTES: usize = 2 << 20;
pub const TIER_AHEAD_BLOCKS_MAX: u32 = 8;

/// While memory has room for what each reader is reading and no more, so small a part of a block is fetched without the rest of it: the
/// page of an index, and not a piece of records ([`READ_PIECE_BYTES`]).
pub const TIER_PASS_BY_PART: usize = 32;

const _: () = assert!(TIER_BLOCK_BYTES / TIER_PASS_BY_PART < READ_PIECE_BYTES);

/// Space that the disk cache takes from the disk at once, in bytes: 32 blocks in one file. Making files of 8 MiB is half as dear again
/// as making these, and none of 512 MiB is cheaper.
pub const TIER_SLAB_BYTES: u64 = 64 << 20;

/// Bytes of memory for what the store has sent last, and how long they are kept after the last of it, in seconds.
pub const TIER_MEMORY_BYTES: usize = 32 << 20;
pub const TIER_MEMORY_KEPT_SECONDS: u64 = 60;

/// Blocks that wait to be written to the disk cache; what comes while so many wait is not kept there.
pub const TIER_BEHIND_MAX: usize = 8;

/// Threads that read what only the store has: each waits for it. One that looks at a block, or brings one, keeps its memory meanwhile.
pub const TIER_READERS: usize = 4;

/// Requests to the store for what is likely to be read next that are under way at the same time, and those that wait.
pub const TIER_AHEAD_THREADS: usize = 2;
pub const TIER_AHEAD_MAX: usize = 16;

const _: () = assert!(TIER_SLAB_BYTES % TIER_BLOCK_BYTES as u64 == 0);
const _: () = assert!(TIER_BLOCK_BYTES * TIER_AHEAD_BLOCKS_MAX as usize * 2 <= TIER_MEMORY_BYTES);

/// Bytes of the filesystem that the disk cache leaves free.
pub const TIER_CACHE_FREE_BYTES: u64 = 256 << 20;

/// How long one read from the object store may take, with all tries, in ms.
pub const REMOTE_READ_MS_MAX: u64 = 20_000;

/// Uploads of the log after which the store is asked again what it holds.
pub const UPLOADS_TRUSTED: u32 = 64;

/// How long a fetch waits at least for what only the object store has, before it is answered without that, in µs.
pub const REMOTE_FETCH_WAIT_US: u64 = 500_000;

/// Bytes of what readers have brought too late for the fetch that asked, of all partitions together, though one result is kept
/// whatever its size; and how long it is kept for the next fetch, in µs.
pub const LATE_READ_BYTES_MAX: usize = 32 << 20;
pub const LATE_READ_KEPT_US: u64 = 60_000_000;

/// How often it is said that the object store cannot be read, in µs.
pub const AWAY_SAID_US: u64 = 60_000_000;

/// Bytes that one look-up takes of a segment that is not on this disk; they are held in memory until they are sent.
pub const READ_ELSEWHERE_BYTES: u32 = 4 << 20;

const _: () = assert!(READ_ELSEWHERE_BYTES as usize <= LATE_READ_BYTES_MAX);

/// Runs that are read to find a partition's largest timestamp. One is enough unless headers claim what their records do not hold.
pub const MAX_TIMESTAMP_RUNS: usize = 64;

/// Length of one file of the file metadata store.
pub const META_FILE_BYTES_MAX: usize = 256 << 20;

/// Scopes whose shortened file names may be the same.
pub const META_FILE_TWINS_MAX: u32 = 16;

/// Length of a checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

/// Bytes of reserved log space that Produce leaves for metadata: DeleteTopics, offset commits, retention, checkpoints.
pub const META_RESERVE_BYTES: usize = 4 << 20;

/// How long a full disk is left alone before the log is asked again, in µs.
pub const SPACE_PROBE_US: u64 = 1_000_000;

/// How long after a failed checkpoint the next is tried, in µs.
pub const CHECKPOINT_RETRY_US: u64 = 10_000_000;

/// Longest name of a topic, in bytes (Kafka's).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Producers that are remembered per partition; the eighth that was silent for longest makes room.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 65_536;

/// Producers that all partitions remember together, some 200 bytes each; the partitions with most of them make room. Those whose
/// transactions are open stay, and count among [`TRANSACTIONAL_IDS_BYTES_MAX`].
pub const PRODUCERS_MAX: usize = 250_000;

// Each partition may remember one.
const _: () = assert!(PRODUCERS_MAX / 8 * 7 > PARTITIONS_MAX);

/// Bytes of memory of one producer in one partition, roughly: with its last five batches.
pub const PRODUCER_BYTES: usize = 200;

/// Partitions of all topics together.
pub const PARTITIONS_MAX: usize = 200_000;

/// Partitions of one fetch that are read from disk at the same time; the others when these have come.
pub const FETCH_READS_MAX: usize = 64;

/// Partitions that all fetch sessions together remember, some 300 bytes each. A session that would go beyond it is not granted.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 500_000;

/// Partitions that all fetches together which wait for something remember, some 120 bytes each. Beyond it those that name most are
/// answered before their time; one that names few may wait in any case.
pub const FETCH_WAITING_PARTITIONS_MAX: usize = 500_000;

/// Runs that are handed to a reader for one look-up.
pub const READ_RUNS_MAX: usize = 1024;

/// Segments in which one look-up by timestamp searches.
pub const READ_PLACES_MAX: usize = 100_000;

/// Upper bound of what one change of metadata and its group cost in the log; less space than this refuses the change.
pub const META_CHANGE_BYTES: usize = 64 << 10;

/// Consumer groups that may exist. Beyond it, whoever would begin one more is answered COORDINATOR_NOT_AVAILABLE.
pub const CONSUMER_GROUPS_MAX: usize = 100_000;

/// Members of one group, and as many ids handed out and not used yet; GROUP_MAX_SIZE_REACHED beyond it.
pub const CONSUMER_GROUP_MEMBERS_MAX: usize = 10_000;

/// Bytes of one group's members, their metadata and assignments: what one entry of the log has to hold (Kafka's bound
/// is the largest record, 1 MiB).
pub const CONSUMER_GROUP_BYTES_MAX: usize = 1 << 20;

/// Bytes of memory for all groups and committed offsets; COORDINATOR_NOT_AVAILABLE for what would be new beyond it, and for
/// assignments beyond twice of it.
pub const CONSUMER_GROUPS_BYTES_MAX: usize = 256 << 20;

/// Bytes of a group's name; INVALID_GROUP_ID beyond it.
pub const CONSUMER_GROUP_ID_BYTES_MAX: usize = 4096;

/// Bytes kept of each name that a member's client chose.
pub const CONSUMER_GROUP_CLIENT_BYTES_MAX: usize = 1024;

const _: () = assert!(CONSUMER_GROUP_BYTES_MAX <= GROUP_BYTES_MAX);

/// Bytes of memory of one group whose assignment the broker makes; GROUP_MAX_SIZE_REACHED for members beyond it.
pub const CONSUMER_GROUP_MEMORY_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(CONSUMER_GROUP_MEMORY_BYTES_MAX < CONSUMER_GROUPS_BYTES_MAX);

/// Bytes of a regular expression with which a member subscribes; INVALID_REGULAR_EXPRESSION beyond it.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Bytes of the program that a regular expression becomes, and how deep its groups may be nested.
pub const PATTERN_PROGRAM_BYTES_MAX: usize = 1 << 20;
pub const PATTERN_NESTING_MAX: u32 = 100;

/// Regular expressions that are known at a time, and bytes of the lists of topics that they stand for;
/// COORDINATOR_NOT_AVAILABLE beyond it.
pub const PATTERNS_MAX: usize = 10_000;
pub const PATTERNS_BYTES_MAX: usize = 64 << 20;

/// Bytes of the heartbeats that wait until a worker has looked up their regular expressions; COORDINATOR_NOT_AVAILABLE beyond it.
pub const PATTERN_WAITING_BYTES_MAX: usize = 16 << 20;

/// Names and values of one topic's own configurations together, in bytes.
pub const TOPIC_CONFIGS_BYTES_MAX: usize = 32 << 10;

const _: () = assert!(TOPIC_CONFIGS_BYTES_MAX + TOPIC_NAME_BYTES_MAX + 16_384 <= META_CHANGE_BYTES);

/// Bytes of memory of the arrays that one request becomes when it is decoded; a connection that sends more is closed. All partitions,
/// each of a topic of its own, fit into it.
pub const REQUEST_ARRAYS_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(PARTITIONS_MAX * 160 <= REQUEST_ARRAYS_BYTES_MAX);

/// The same on a server on which there is nothing, where a request can soundly name little, and in requests that make something;
/// and what each partition adds. Groups, offsets, transactional ids and users add the memory that they take.
pub const REQUEST_ARRAYS_BYTES_LEAST: usize = 640 << 10;
pub const REQUEST_ARRAYS_BYTES_NEW: usize = 2 << 20;
pub const REQUEST_ARRAYS_BYTES_EACH: usize = 320;

/// Bytes of a request that brings no records. Who names all partitions in one needs some tens of bytes for each.
pub const REQUEST_PLAIN_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(PARTITIONS_MAX * 64 <= REQUEST_PLAIN_BYTES_MAX);
// As many topics as one request may create can be named.
const _: () = assert!(CREATED_PARTITIONS_MAX * REQUEST_ELEMENT_BYTES_MIN < REQUEST_ARRAYS_BYTES_LEAST);

/// Bytes that each thing in such an array counts for at least: what is small takes time nevertheless, and others wait meanwhile.
pub const REQUEST_ELEMENT_BYTES_MIN: usize = 64;

/// Things that one administrative request may name, and topics in a Metadata request; one that names more is refused as a whole.
pub const REQUEST_ITEMS_MAX: usize = PARTITIONS_MAX;

/// Bytes of configurations that one answer tells; what goes beyond is refused. Little can be soundly asked for where there is little:
/// so many on a server without topics, and so many more for each of them, and for each group.
pub const DESCRIBED_BYTES_MAX: usize = 64 << 20;
pub const DESCRIBED_BYTES_LEAST: usize = 128 << 10;
pub const DESCRIBED_BYTES_EACH: usize = 16 << 10;

/// Partitions in one page of DescribeTopicPartitions (Kafka's `max.request.partition.size.limit`).
pub const DESCRIBED_PARTITIONS_MAX: usize = 2000;

/// Share groups that may exist; COORDINATOR_NOT_AVAILABLE for one more.
pub const SHARE_GROUPS_MAX: usize = 10_000;

/// Bytes of memory for all share groups, their share partitions and sessions; COORDINATOR_NOT_AVAILABLE for who would join
/// beyond it.
pub const SHARE_BYTES_MAX: usize = 128 << 20;

/// Bytes of a share group member's id (Kafka's); INVALID_REQUEST beyond it.
pub const SHARE_MEMBER_ID_BYTES_MAX: usize = 36;

/// Bytes of the topics that a member of a share group names; INVALID_REQUEST beyond it.
pub const SHARE_MEMBER_BYTES_MAX: usize = 256 << 10;

/// Partitions of all share sessions together; SHARE_SESSION_LIMIT_REACHED beyond it.
pub const SHARE_SESSION_PARTITIONS_MAX: usize = 1_000_000;

/// Records that are acquired from a partition at once, also when a single batch has more.
pub const SHARE_ACQUIRE_RECORDS_MAX: i64 = 65_536;

/// Locks that `group.share.partition.max.record.locks` may allow (Kafka's bound).
pub const SHARE_PARTITION_LOCKS_MAX: i64 = 10_000;

/// Runs of records with different states in one share partition. Of what a client writes, each record that is not done with counts
/// as one, because it may become one; INVALID_REQUEST beyond it.
pub const SHARE_PARTITION_RUNS_MAX: usize = 131_072;

/// Records between the start and the end of a share partition whose state a client writes; INVALID_REQUEST beyond it.
pub const SHARE_STATE_RECORDS_MAX: i64 = 1 << 32;

/// Batches that one look into the log finds for a ShareFetch.
pub const SHARE_FETCH_BATCHES_MAX: usize = 4096;

const _: () = assert!((SHARE_ACQUIRE_RECORDS_MAX + SHARE_PARTITION_LOCKS_MAX) as usize <= SHARE_PARTITION_RUNS_MAX);
// A run takes at most eleven bytes in the log: a length of up to 2^49 in seven, deliveries and state in three.
const _: () = assert!(SHARE_PARTITION_RUNS_MAX * 11 <= GROUP_CHANGE_BYTES);

/// Upper bound of what one request to the group coordinator appends: a group with all its members and some offsets.
pub const GROUP_CHANGE_BYTES: usize = 3 << 20;

const _: () = assert!(META_CHANGE_BYTES < GROUP_CHANGE_BYTES && GROUP_CHANGE_BYTES < META_RESERVE_BYTES);
const _: () = assert!(CONSUMER_GROUP_BYTES_MAX < GROUP_CHANGE_BYTES);

/// Partitions of one transaction; POLICY_VIOLATION beyond it.
pub const TXN_PARTITIONS_MAX: usize = 10_000;

/// Upper bound of what the end of one transaction takes of a group of the log: its state, its markers, its offsets. It
/// comes out of the reserve, so that transactions end on a full disk too.
pub const TXN_END_BYTES_MAX: usize = 3 << 20;

const _: () = assert!(TXN_PARTITIONS_MAX * 280 < TXN_END_BYTES_MAX && TXN_END_BYTES_MAX < META_RESERVE_BYTES);

/// Aborted transactions that one partition remembers; beyond it none can begin there (POLICY_VIOLATION) until retention
/// has made room.
pub const ABORTED_TXNS_PER_PARTITION_MAX: usize = 500_000;

/// Transactional ids that may exist, and their bytes of memory; COORDINATOR_NOT_AVAILABLE for a new one beyond it.
pub const TRANSACTIONAL_IDS_MAX: usize = 100_000;
pub const TRANSACTIONAL_IDS_BYTES_MAX: usize = 128 << 20;

/// Transactions that are aborted, and ids that are forgotten, in one turn; the others come with the next.
pub const TRANSACTIONAL_IDS_PER_TURN_MAX: usize = 100;

/// Logical segments of all partitions together, and the least and the most that one partition may have; beyond its share of
/// the whole a partition's older ones are joined in pairs, so that retention looks at them more coarsely.
pub const LOGICAL_SEGMENTS_MAX: usize = 1 << 20;
pub const LOGICAL_SEGMENTS_PER_PARTITION_MIN: usize = 32;
pub const LOGICAL_SEGMENTS_PER_PARTITION_MAX: usize = 4096;

/// Groups and client-metrics subscriptions that may have configurations; POLICY_VIOLATION beyond it.
pub const CONFIG_RESOURCES_MAX: usize = 10_000;

/// Names and values of the configurations of one group or client-metrics subscription together, in bytes.
pub const RESOURCE_CONFIGS_BYTES_MAX: usize = 16 << 10;

const _: () = assert!(RESOURCE_CONFIGS_BYTES_MAX + CONSUMER_GROUP_ID_BYTES_MAX + 16_384 <= META_CHANGE_BYTES);

/// Users that may have SCRAM credentials, and bytes of a user's name and of a salt; UNACCEPTABLE_CREDENTIAL beyond it.
pub const SCRAM_USERS_MAX: usize = 100_000;
pub const SCRAM_BYTES_MAX: usize = 4096;

/// Partitions of all topics that one CreateTopics request may make (Kafka's); POLICY_VIOLATION beyond it.
pub const CREATED_PARTITIONS_MAX: usize = 10_000;

/// Partitions that one Metadata request may bring into being, and one topic more; the client asks again for the others. It takes some ms,
/// in which everybody else waits.
pub const ASKED_FOR_PARTITIONS_MAX: usize = 500;

/// Bytes of a backup's object that are fetched, read or written at once.
pub const BACKUP_PIECE_BYTES: usize = 4 << 20;

/// Bytes of a backup's manifest: some hundred thousand segments and topics.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 << 20;

/// Damages that one verification tells of; it goes on counting beyond.
pub const BACKUP_FAULTS_MAX: usize = 1000;

/// How long, in ms, the word of one who makes a backup or sweeps counts after it was last renewed, and how often it is
/// renewed. Who could not renew it for half that time gives up.
pub const BACKUP_LEASE_MS: i64 = 60 * 60 * 1000;
pub const BACKUP_RENEWAL_MS: u64 = 5 * 60 * 1000;

const _: () = assert!(4 * BACKUP_RENEWAL_MS as i64 <= BACKUP_LEASE_MS && BACKUP_PIECE_BYTES >= SCAN_BYTES);

/// How long the server waits after a backup that failed, in ms; doubled each time, up to the interval.
pub const BACKUP_RETRY_MS: i64 = 60_000;

/// The same after one that somebody else was in the way of, as an upload is; in ms.
pub const BACKUP_BUSY_MS: i64 = 5_000;
/// Bytes of an object's key, and of each part of it between slashes. A store's own prefix comes on top; S3 allows 1024.
pub const STORE_KEY_BYTES_MAX: usize = 600;
pub const STORE_KEY_PART_BYTES_MAX: usize = 200;

/// Bytes of the folder in a bucket under which all objects lie.
pub const STORE_PREFIX_BYTES_MAX: usize = 400;

const _: () = assert!(STORE_KEY_BYTES_MAX + 1 + STORE_PREFIX_BYTES_MAX <= 1024);

/// Objects in one page of a listing.
pub const STORE_LIST_PAGE: usize = 1000;

/// Bytes that are read or written at once between a store and a file.
pub const STORE_COPY_BYTES: usize = 128 << 10;

/// A folder as a store is written in steps of this size, each of them forced to the disk. In one step, all of an object would be
/// waited for by whoever forces something else to the same disk meanwhile, such as the log.
pub const STORE_LOCAL_SYNC_BYTES: usize = 1 << 20;

/// Bytes of what is uploaded that are read at once: to make its checksums, and to send it.
pub const STORE_READ_BYTES: usize = 1 << 20;
pub const STORE_SEND_BYTES: usize = 512 << 10;

/// Tries of one request to a store, and seconds after the first in which another may begin.
pub const STORE_TRIES_MAX: u32 = 8;
pub const STORE_TRIES_SECONDS_MAX: u64 = 120;

/// How long a server that is stopped waits for stores that are asked something, in ms.
pub const STORE_STOP_MS_MAX: u64 = 10_000;

/// Seconds that a store may ask to be left alone; more is taken for this.
pub const STORE_RETRY_AFTER_SECONDS_MAX: u64 = 60;

/// Largest object that is uploaded in one request: a whole segment of the log of the usual size, with its index.
pub const STORE_SINGLE_PUT_BYTES_MAX: u64 = 160 << 20;

/// Size of the parts in which larger objects are uploaded, and how many there may be: S3 allows 10,000. Parts get larger
/// for objects that would have more.
pub const STORE_PART_BYTES: u64 = 64 << 20;
pub const STORE_PARTS_MAX: u64 = 10_000;

const _: () = assert!(SEGMENT_BYTES_DEFAULT < STORE_SINGLE_PUT_BYTES_MAX);
// At most 40 requests per GiB, begin and end of a multipart upload counted.
const _: () = assert!((1 << 30) / STORE_PART_BYTES + 2 <= 40);

/// Largest answer of a store that is held in memory: a page of a listing, an error, a file of certificates.
pub const STORE_ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Bytes from which on a store is asked whether it would take them before they are sent.
pub const STORE_ASK_FIRST_BYTES: u64 = 1 << 20;

/// Bytes of an answer for which more time is given at most.
pub const STORE_EXPECTED_BYTES_MAX: u64 = 1 << 40;

/// The slowest transfer that isn't given up, in bytes a second over the whole request.
pub const STORE_BYTES_PER_SECOND_MIN: u64 = 128 << 10;

/// Connections to a store that are kept for later, and for how many seconds.
pub const STORE_IDLE_CONNECTIONS: usize = 8;
pub const STORE_IDLE_CONNECTION_SECONDS: u64 = 4;

/// Bytes after which a download that breaks off counts its tries anew.
pub const STORE_PROGRESS_BYTES: u64 = 1 << 20;

/// Bytes of one answer that the command-line tool takes from a broker.
pub const TOOL_RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Bytes of metadata entries that the repair of a data directory writes as one group.
pub const REPAIR_GROUP_BYTES_MAX: usize = 1 << 20;
