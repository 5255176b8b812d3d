//! Owns a client of many connections that each have one small request under way, to measure what a request costs a server.
//!
//!     cargo bench --bench requests -- --brokers HOST:PORT [--api produce|fetch|list-offsets] [--connections N] [--topics N]
//!         [--partitions N] [--prefix NAME] [--size BYTES] [--seconds S] [--warmup S] [--rate REQUESTS_PER_SECOND] [--pid PID]
//!
//! Topics are made when they are missing. A request names one partition, and all partitions take turns; `produce` sends one record,
//! acks=all, `fetch` asks for one that is there. Without a rate each connection sends its next request when the last one is answered;
//! with one, request k is due at k / rate on connection k mod N, and its latency counts from then. Prints one JSON object, with the
//! processor time that the process PID took from the end of the warm-up to the end.
//! `scripts/measure` uses it.

#[path = "shared/mod.rs"]
mod shared;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use chronik::cli::client::Conn;
use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{self, frame, ErrorCode, Message, RecordSet, Request};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use shared::{cpu_seconds, Options};

/// Versions that today's Kafka and this server both speak, and that name topics by name.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
/// Topics in one CreateTopics request.
const TOPICS_PER_REQUEST: usize = 50;
const CLIENT: &str = "requests";

fn topic_name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:05}")
}

fn ask<'q, Q: Request<'q>>(conn: &mut Conn, request: &Q) -> chronik::cli::client::Reply {
    conn.call(request).unwrap_or_else(|failure| panic!("{}: {failure:?}", Q::API.name))
}

/// Makes the topics that are missing and waits until all of their partitions have a leader.
fn make_topics(brokers: SocketAddr, prefix: &str, topics: usize, partitions: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut conn = Conn::open(&brokers.ip().to_string(), brokers.port(), deadline).expect("a server to talk to");
    let names: Vec<String> = (0..topics).map(|number| topic_name(prefix, number)).collect();
    for some in names.chunks(TOPICS_PER_REQUEST) {
        let topics = some.iter().map(|name| CreatableTopic {
            name,
            num_partitions: partitions as i32,
            replication_factor: 1,
            ..Default::default()
        });
        let request = CreateTopicsRequest { topics: topics.collect(), timeout_ms: 60_000, ..Default::default() };
        let reply = ask(&mut conn, &request);
        let answer: CreateTopicsResponse<'_> = reply.decode().expect("an answer");
        for topic in answer.topics {
            let known = [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&topic.error_code);
            assert!(known, "{}: {:?} {:?}", topic.name, topic.error_code, topic.error_message);
        }
        let asked = some.iter().map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() });
        let request = MetadataRequest { topics: Some(asked.collect()), ..Default::default() };
        while !are_led(&mut conn, &request, partitions) {
            assert!(Instant::now() < deadline, "the partitions have no leader");
        }
    }
}

fn are_led(conn: &mut Conn, request: &MetadataRequest<'_>, partitions: usize) -> bool {
    let reply = ask(conn, request);
    let answer: MetadataResponse<'_> = reply.decode().expect("an answer");
    answer.topics.iter().all(|topic| {
        topic.partitions.len() == partitions
            && topic.partitions.iter().all(|partition| !partition.error_code.is_error())
    })
}

/// What is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Api {
    Produce,
    Fetch,
    ListOffsets,
}

impl Api {
    fn named(name: &str) -> Api {
        match name {
            "produce" => Api::Produce,
            "fetch" => Api::Fetch,
            "list-offsets" => Api::ListOffsets,
            _ => panic!("--api is produce, fetch or list-offsets"),
        }
    }

    /// The request about one partition.
    fn frame(self, topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
        match self {
            Api::Produce => {
                let of_partition = PartitionProduceData { index: partition, records: RecordSet::Bytes(batch) };
                let of_topic =
                    TopicProduceData { name: topic, partition_data: vec![of_partition], ..Default::default() };
                let request =
                    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![of_topic], ..Default::default() };
                flat(PRODUCE_VERSION, &request)
            }
            Api::Fetch => {
                let of_partition =
                    FetchPartition { partition, fetch_offset: 0, partition_max_bytes: 1, ..Default::default() };
                let of_topic = FetchTopic { topic, partitions: vec![of_partition], ..Default::default() };
                let request =
                    FetchRequest { max_wait_ms: 0, min_bytes: 1, topics: vec![of_topic], ..Default::default() };
                flat(FETCH_VERSION, &request)
            }
            Api::ListOffsets => {
                let of_partition =
                    ListOffsetsPartition { partition_index: partition, timestamp: -1, ..Default::default() };
                let of_topic = ListOffsetsTopic { name: topic, partitions: vec![of_partition] };
                let request = ListOffsetsRequest { replica_id: -1, topics: vec![of_topic], ..Default::default() };
                flat(LIST_OFFSETS_VERSION, &request)
            }
        }
    }

    /// Whether the answer is the one that was wanted; `frame` begins behind its length.
    fn accepts(self, frame: &[u8]) -> bool {
        match self {
            Api::Produce => {
                let answer: ProduceResponse<'_> = body(frame, PRODUCE_VERSION);
                answer.responses.iter().flat_map(|t| &t.partition_responses).all(|p| !p.error_code.is_error())
            }
            Api::Fetch => {
                let answer: FetchResponse<'_> = body(frame, FETCH_VERSION);
                let mut all = answer.responses.iter().flat_map(|t| &t.partitions);
                all.all(|p| !p.error_code.is_error() && p.records != RecordSet::Bytes(&[]))
            }
            Api::ListOffsets => {
                let answer: ListOffsetsResponse<'_> = body(frame, LIST_OFFSETS_VERSION);
                answer.topics.iter().flat_map(|t| &t.partitions).all(|p| !p.error_code.is_error())
            }
        }
    }
}

fn flat<'a, M: Request<'a>>(version: i16, message: &M) -> Vec<u8> {
    frame::request(version, 7, Some(CLIENT), message).bytes
}

fn body<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> M {
    let (_, body) = frame::parse_response(M::API, version, frame).expect("a header");
    wire::decode(body, version).expect("an answer")
}

/// One connection; a request is under way from `sent` on.
struct Line {
    stream: TcpStream,
    due: VecDeque<Instant>,
    since: Option<Instant>,
    /// Which of its partitions is next, in steps of the number of connections.
    turn: usize,
    /// What the socket has not taken yet of the request, by frame and place.
    rest: Option<(usize, usize)>,
    received: Vec<u8>,
}

struct Load {
    api: Api,
    poll: Poll,
    lines: Vec<Line>,
    frames: Vec<Vec<u8>>,
    micros: Vec<u32>,
    failed: usize,
}

impl Load {
    fn connect(brokers: SocketAddr, api: Api, connections: usize, frames: Vec<Vec<u8>>) -> Load {
        let poll = Poll::new().expect("an event queue");
        let mut lines = Vec::with_capacity(connections);
        for number in 0..connections {
            // Blocking, so that no more of them wait to be accepted than the server has room for.
            let stream = TcpStream::connect(brokers).expect("a connection");
            stream.set_nodelay(true).expect("an option of every TCP socket");
            stream.set_nonblocking(true).expect("an option of every socket");
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(number), interest);
            registered.expect("room in the event queue");
            lines.push(Line { stream, due: VecDeque::new(), since: None, turn: 0, rest: None, received: Vec::new() });
        }
        Load { api, poll, lines, frames, micros: Vec::new(), failed: 0 }
    }

    /// Gives a connection a request to send, which counts from `from`.
    fn send(&mut self, number: usize, from: Instant) {
        let (connections, frames) = (self.lines.len(), self.frames.len());
        let line = &mut self.lines[number];
        if line.since.is_some() {
            line.due.push_back(from);
            return;
        }
        line.since = Some(from);
        line.rest = Some(((number + line.turn * connections) % frames, 0));
        line.turn += 1;
        self.flush(number);
    }

    fn flush(&mut self, number: usize) {
        let line = &mut self.lines[number];
        let Some((which, at)) = line.rest else { return };
        let frame = &self.frames[which];
        match line.stream.write(&frame[at..]) {
            Ok(count) if at + count == frame.len() => line.rest = None,
            Ok(count) => line.rest = Some((which, at + count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("connection {number}: {error}"),
        }
    }

    /// Reads what has come; true when the request is answered.
    fn receive(&mut self, number: usize) -> bool {
        let line = &mut self.lines[number];
        let mut piece = [0; 4096];
        loop {
            match line.stream.read(&mut piece) {
                Ok(0) => panic!("connection {number} was closed"),
                Ok(count) => line.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("connection {number}: {error}"),
            }
        }
        let Some(length) = line.received.first_chunk::<4>() else { return false };
        let length = u32::from_be_bytes(*length) as usize;
        if line.received.len() < 4 + length {
            return false;
        }
        self.failed += usize::from(!self.api.accepts(&line.received[4..]));
        line.received.clear();
        let from = line.since.take().expect("a request is under way");
        self.micros.push(from.elapsed().as_micros() as u32);
        true
    }

    /// Sends requests until the end, then waits for what is under way.
    fn run(&mut self, seconds: Duration, rate: f64) {
        let begun = Instant::now();
        let end = begun + seconds;
        let mut events = Events::with_capacity(1024);
        let mut given: u64 = 0;
        if rate == 0.0 {
            (0..self.lines.len()).for_each(|number| self.send(number, Instant::now()));
        }
        loop {
            let now = Instant::now();
            if now >= end && self.lines.iter().all(|line| line.since.is_none()) {
                return;
            }
            assert!(now < end + Duration::from_secs(30), "requests are not answered");
            let wait = if rate > 0.0 && now < end { self.give(begun, end, rate, &mut given) } else { None };
            match self.poll.poll(&mut events, wait.or(Some(Duration::from_secs(1)))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("{error}"),
                _ => {}
            }
            for event in &events {
                let number = event.token().0;
                self.flush(number);
                while event.is_readable() && self.lines[number].since.is_some() && self.receive(number) {
                    let next = self.lines[number].due.pop_front();
                    let now = Instant::now();
                    let next = next.or((rate == 0.0 && now < end).then_some(now));
                    next.into_iter().for_each(|from| self.send(number, from));
                }
            }
        }
    }

    /// Gives out the requests that are due; how long until the next one is.
    fn give(&mut self, begun: Instant, end: Instant, rate: f64, given: &mut u64) -> Option<Duration> {
        loop {
            let due = begun + Duration::from_secs_f64(*given as f64 / rate);
            if due >= end {
                return Some(end.saturating_duration_since(Instant::now()));
            }
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Some(wait);
            }
            self.send((*given % self.lines.len() as u64) as usize, due);
            *given += 1;
        }
    }
}

fn main() {
    let options = Options::of_this_program();
    let Some(brokers) = options.text("brokers") else {
        println!("requests: --brokers HOST:PORT names no server; scripts/measure starts one");
        return;
    };
    let brokers: SocketAddr = brokers.parse().expect("--brokers takes an address and a port");
    let api = Api::named(options.text("api").unwrap_or("produce"));
    let count = |name, default| options.number(name, default) as usize;
    let (connections, topics, partitions) =
        (count("connections", 64.0), count("topics", 1.0), count("partitions", 64.0));
    let prefix = options.text("prefix").unwrap_or(CLIENT);
    make_topics(brokers, prefix, topics, partitions);

    let mut batch = BatchBuilder::new();
    batch.push(1_790_000_000_000, None, Some(&vec![b'r'; count("size", 100.0)]), &[]);
    let batch = batch.build().expect("a batch");
    let of_topic = |topic: usize| (0..partitions).map(move |partition| (topic_name(prefix, topic), partition as i32));
    let frames = (0..topics).flat_map(of_topic).map(|(topic, partition)| api.frame(&topic, partition, &batch));
    let mut load = Load::connect(brokers, api, connections, frames.collect());
    let (warmup, seconds) = (options.number("warmup", 0.0), options.number("seconds", 10.0));
    let (rate, pid) = (options.number("rate", 0.0), options.text("pid").unwrap_or("none"));
    load.run(Duration::from_secs_f64(warmup), rate);
    // A server may still be making the partitions then.
    load.micros.clear();
    load.failed = 0;
    let cpu = cpu_seconds(pid);
    load.run(Duration::from_secs_f64(seconds), rate);
    let cpu = cpu_seconds(pid) - cpu;
    assert!(load.failed == 0, "{} requests failed", load.failed);

    load.micros.sort_unstable();
    let at = |share: f64| load.micros[((load.micros.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!(
        "{{\"requests\": {}, \"server_cpu_s\": {cpu:.2}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"p999_ms\": {:.3}}}",
        load.micros.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
}
