//! Owns a client that reads a topic and looks at the headers of batches only, to measure how fast a server sends what is in memory.
//!
//!     cargo bench --bench hot -- --brokers HOST:PORT --topic NAME [--partitions N] [--connections N] [--seconds S] [--warmup S]
//!         [--pid PID]
//!
//! Each connection reads partitions of its own from their first offset to their end, again and again, one request under way: so what
//! is measured is the server, the kernel and one copy out of it, and no decoding of records. That offsets follow upon each other is
//! checked. Prints one JSON object, with the processor time of the process PID and of this one, from the end of the warm-up on.
//! `scripts/measure` uses it.

#[path = "shared/mod.rs"]
mod shared;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use byteorder::{BigEndian, ByteOrder};
use chronik::wire::frame;
use chronik::wire::msg::{FetchPartition, FetchRequest, FetchTopic};

use shared::{cpu_seconds, Options};

/// Its answers have no varints, so that records lie at a known place; today's Kafka still speaks it.
const FETCH_VERSION: i16 = 4;
/// What consumers ask for of a partition, and in all, if they are told to read fast.
const PARTITION_BYTES_MAX: i32 = 8 << 20;
/// Small enough to stay in the processor's cache.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a batch up to its last offset delta.
const BATCH_HEAD_BYTES: usize = 27;
/// Bytes of the batch's length field and what stands before it.
const BATCH_LENGTH_END: usize = 12;
const CLIENT: &str = "hot";

/// Follows the batches of an answer, of which pieces arrive.
struct Batches {
    next_offset: i64,
    head: Vec<u8>,
    /// Bytes of the batch that are still to come behind its head.
    skip: usize,
}

impl Batches {
    fn look_at(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let skipped = self.skip.min(piece.len());
            self.skip -= skipped;
            piece = &piece[skipped..];
            let taken = piece.len().min(BATCH_HEAD_BYTES - self.head.len());
            self.head.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if self.head.len() == BATCH_HEAD_BYTES {
                let (base, last_delta) = (BigEndian::read_i64(&self.head), BigEndian::read_i32(&self.head[23..]));
                // The first one may begin before what was asked for.
                assert!(base <= self.next_offset, "offsets {} to {base} are missing", self.next_offset);
                self.next_offset = base + i64::from(last_delta) + 1;
                let rest = BATCH_LENGTH_END + BigEndian::read_u32(&self.head[8..]) as usize;
                self.skip = rest - BATCH_HEAD_BYTES;
                self.head.clear();
            }
        }
    }
}

/// One connection.
struct Reader<'a> {
    stream: TcpStream,
    topic: &'a str,
    piece: Vec<u8>,
}

impl Reader<'_> {
    /// Reads what comes of a partition from an offset on: its bytes, and the next offset. No bytes when that is its end.
    fn fetch(&mut self, partition: i32, offset: i64) -> (usize, i64) {
        let of_partition = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..Default::default()
        };
        let of_topic = FetchTopic { topic: self.topic, partitions: vec![of_partition], ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: PARTITION_BYTES_MAX,
            topics: vec![of_topic],
            ..Default::default()
        };
        let sent = frame::request(FETCH_VERSION, 7, Some(CLIENT), &request);
        self.stream.write_all(&sent.bytes).expect("a server that reads");

        // Length, correlation id, throttle time, topics; name; partitions, and of the one: index, error, two offsets; its aborted
        // transactions, of which there are none; bytes of records.
        let before = 16 + 2 + self.topic.len() + 4;
        let mut head = vec![0; before + 26 + 4];
        self.stream.read_exact(&mut head).expect("an answer");
        let of_partition = &head[before..];
        let error = BigEndian::read_i16(&of_partition[4..]);
        assert!(error == 0, "partition {partition}, offset {offset}: error {error}");
        assert!(BigEndian::read_i32(&of_partition[22..]) <= 0, "a topic without transactions, please");
        let bytes = BigEndian::read_i32(&of_partition[26..]).max(0) as usize;
        let mut batches = Batches { next_offset: offset, head: Vec::with_capacity(BATCH_HEAD_BYTES), skip: 0 };
        let mut left = bytes;
        while left > 0 {
            let wanted = left.min(self.piece.len());
            let count = self.stream.read(&mut self.piece[..wanted]).expect("the rest of an answer");
            assert!(count > 0, "the server closed the connection");
            batches.look_at(&self.piece[..count]);
            left -= count;
        }
        (bytes, batches.next_offset)
    }

    /// Reads its partitions in turn until it is told to end.
    fn run(&mut self, partitions: &[i32], read: &AtomicU64, ends: &AtomicBool) {
        let mut offsets = vec![0; partitions.len()];
        for at in (0..partitions.len()).cycle() {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let (bytes, next_offset) = self.fetch(partitions[at], offsets[at]);
            assert!(bytes > 0 || offsets[at] > 0, "partition {} is empty", partitions[at]);
            offsets[at] = if bytes == 0 { 0 } else { next_offset };
            read.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

fn main() {
    let options = Options::of_this_program();
    let (Some(brokers), Some(topic)) = (options.text("brokers"), options.text("topic")) else {
        println!("hot: --brokers HOST:PORT and --topic NAME say what is read; scripts/measure starts a server");
        return;
    };
    let brokers: SocketAddr = brokers.parse().expect("--brokers takes an address and a port");
    let partitions = options.number("partitions", 6.0) as i32;
    let connections = (options.number("connections", 2.0) as i32).clamp(1, partitions);
    let (read, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let (warmup, seconds) = (options.number("warmup", 1.0), options.number("seconds", 5.0));
    let pid = options.text("pid").unwrap_or("none");
    std::thread::scope(|scope| {
        for number in 0..connections {
            let own: Vec<i32> = (number..partitions).step_by(connections as usize).collect();
            let stream = TcpStream::connect(brokers).expect("a connection");
            stream.set_nodelay(true).expect("an option of every TCP socket");
            let mut reader = Reader { stream, topic, piece: vec![0; PIECE_BYTES] };
            let (read, ends) = (&read, &ends);
            scope.spawn(move || reader.run(&own, read, ends));
        }
        std::thread::sleep(Duration::from_secs_f64(warmup));
        let begun = (read.load(Ordering::Relaxed), cpu_seconds(pid), cpu_seconds("self"), std::time::Instant::now());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let bytes = read.load(Ordering::Relaxed) - begun.0;
        let (server, client) = (cpu_seconds(pid) - begun.1, cpu_seconds("self") - begun.2);
        let (elapsed, gb) = (begun.3.elapsed().as_secs_f64(), bytes as f64 / 1e9);
        ends.store(true, Ordering::Relaxed);
        println!(
            "{{\"bytes\": {bytes}, \"mb_per_s\": {:.0}, \"server_cpu_s\": {server:.2}, \"server_s_per_gb\": {:.3}, \
             \"client_s_per_gb\": {:.3}}}",
            gb * 1000.0 / elapsed,
            server / gb,
            client / gb
        );
    });
}
