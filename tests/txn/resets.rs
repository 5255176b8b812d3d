//! Owns the test that breaks a connection at every byte: of what is sent, and of what is answered. The client connects again and sends
//! what it had no answer to, and in the end everything is there once.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use chronik::broker::ConnId;
use chronik::net::frames::{FrameReader, ReadDesk, Source};
use chronik::wire::{decode, frame, Api, Message, Request};

use super::*;
use crate::harness::Answer;

/// What the client asks, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Sequence, value, and the offset that it gets.
    Produce(i32, &'static str, i64),
    /// The same in the transaction.
    InTxn(i32, &'static str, i64),
    Fetch,
    Commit(i64),
    AddPartition,
    AddGroup,
    TxnCommit(i64),
    End,
}

/// What is asked, and which requests are on their way together: a client pipelines batches, and waits for everything else.
fn history(protocol: Protocol) -> (Vec<Step>, Vec<Range<usize>>) {
    let begin = [Step::Produce(0, "a", 0), Step::Produce(1, "b", 1), Step::Fetch, Step::Commit(2)];
    let end = [Step::TxnCommit(3), Step::End, Step::Produce(2, "e", 5)];
    let batches = [Step::InTxn(0, "c", 2), Step::InTxn(1, "d", 3)];
    let steps = match protocol.adds_by_itself() {
        true => [&begin[..], &batches, &end].concat(),
        false => [&begin[..], &[Step::AddPartition], &batches, &[Step::AddGroup], &end].concat(),
    };
    let mut together: Vec<Range<usize>> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let follows = |before: &Step| std::mem::discriminant(before) == std::mem::discriminant(step);
        match together.last_mut() {
            Some(last) if follows(&steps[last.start]) => last.end = at + 1,
            _ => together.push(at..at + 1),
        }
    }
    (steps, together)
}

/// Where a connection breaks.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// So many bytes have arrived at the server; what they asked for may be durable, or not yet. No answer has arrived.
    Sent { bytes: usize, durable: bool },
    /// The client has read so many bytes.
    Read { bytes: usize },
}

/// Bytes that have arrived in a socket.
struct Arrived<'a>(&'a [u8]);

impl Source for Arrived<'_> {
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let count = self.0.len().min(bytes_max).min(buf.capacity() - buf.len());
        buf.extend_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// A client, and the server's end of its connection.
struct Client {
    h: Harness,
    protocol: Protocol,
    steps: Vec<Step>,
    /// Producer id and epoch outside of transactions, and of the transactional id `x`.
    plain: (i64, i16),
    txn: Producer,
    conn: ConnId,
    reader: FrameReader,
    desk: ReadDesk,
    /// Steps that were answered.
    answered: Vec<bool>,
}

impl Client {
    fn new(protocol: Protocol, steps: &[Step]) -> Client {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 1);
        let answer = h.call(4, &InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() });
        let plain: InitProducerIdResponse = answer.decode();
        let txn = Producer::init(&mut h, "x", protocol);
        let conn = h.connect();
        Client {
            h,
            protocol,
            steps: steps.to_vec(),
            plain: (plain.producer_id, plain.producer_epoch),
            txn,
            conn,
            reader: FrameReader::default(),
            desk: ReadDesk::new(1 << 20),
            answered: vec![false; steps.len()],
        }
    }

    /// A step's request: API, version and bytes. Its number is the correlation id.
    fn request(&self, at: usize) -> (&'static Api, i16, Vec<u8>) {
        fn made<'a, M: Request<'a>>(version: i16, at: usize, message: &M) -> (&'static Api, i16, Vec<u8>) {
            (M::API, version, frame::request(version, at as i32, Some("c"), message).bytes)
        }
        let protocol = self.protocol;
        match self.steps[at] {
            Step::Produce(sequence, value, _) => {
                let batch = batch(Some((self.plain.0, self.plain.1, sequence)), false, &[value]);
                made(protocol.produce, at, &produce_request(None, &batch))
            }
            Step::InTxn(sequence, value, _) => {
                let batch = batch(Some((self.txn.id, self.txn.epoch, sequence)), true, &[value]);
                made(protocol.produce, at, &produce_request(Some("x"), &batch))
            }
            Step::Fetch => made(11, at, &fetch_request("t", 0, 0, 1)),
            Step::Commit(committed_offset) => {
                let partitions = vec![OffsetCommitRequestPartition { committed_offset, ..Default::default() }];
                let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
                let generation_id_or_member_epoch = -1;
                let request =
                    OffsetCommitRequest { group_id: "g", generation_id_or_member_epoch, topics, ..Default::default() };
                made(8, at, &request)
            }
            Step::AddPartition => {
                let request = AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: "x",
                    v3_and_below_producer_id: self.txn.id,
                    v3_and_below_producer_epoch: self.txn.epoch,
                    v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t", partitions: vec![0] }],
                    ..Default::default()
                };
                made(protocol.add_partitions, at, &request)
            }
            Step::AddGroup => {
                let (producer_id, producer_epoch) = (self.txn.id, self.txn.epoch);
                let request =
                    AddOffsetsToTxnRequest { transactional_id: "x", producer_id, producer_epoch, group_id: "h" };
                made(protocol.add_offsets, at, &request)
            }
            Step::TxnCommit(offset) => {
                made(protocol.offset_commit, at, &txn_commit_request(&self.txn, "h", "t", 0, offset))
            }
            Step::End => made(protocol.end, at, &end_request(&self.txn, true)),
        }
    }

    /// The bytes of these requests, with the answers that they will get.
    fn stream(&mut self, steps: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for at in steps {
            let (api, version, request) = self.request(*at);
            self.h.expect(self.conn, *at as i32, api, version);
            bytes.extend(request);
        }
        bytes
    }

    /// Bytes arrive at the server, which carries out what is complete.
    fn arrive(&mut self, bytes: &[u8]) {
        let (mut arrived, mut frames) = (Arrived(bytes), VecDeque::new());
        while !arrived.0.is_empty() {
            self.reader.receive(&mut arrived, &mut self.desk, &mut frames).expect("a good client's bytes");
        }
        for frame in frames {
            while !self.h.broker.ready_for(self.conn, i16::from_be_bytes([frame[0], frame[1]])) {
                self.h.settle();
            }
            self.h.send_frame(self.conn, frame);
        }
    }

    /// The bytes of what the server has answered.
    fn answers(&mut self) -> Vec<u8> {
        let answers = self.h.take_answers();
        let frame = |answer: &Answer| {
            let (api, version, _) = self.request(answer.correlation_id as usize);
            let tags = vec![0; usize::from(api.response_header(version) >= 1)];
            let whole = [&answer.correlation_id.to_be_bytes()[..], &tags, &answer.body].concat();
            [&(whole.len() as u32).to_be_bytes()[..], &whole].concat()
        };
        answers.iter().flat_map(frame).collect()
    }

    /// The client reads bytes, and looks at the answers that are whole.
    fn read(&mut self, mut bytes: &[u8]) {
        while bytes.len() >= 4 {
            let len = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            let Some(whole) = bytes.get(4..4 + len) else { return };
            let at = i32::from_be_bytes(whole[..4].try_into().unwrap()) as usize;
            let (api, version, _) = self.request(at);
            let (_, body) = frame::parse_response(api, version, whole).unwrap();
            self.check(at, version, body);
            assert!(!std::mem::replace(&mut self.answered[at], true), "{at} is answered twice");
            bytes = &bytes[4 + len..];
        }
    }

    /// Whether it is the first time or not, the answer is the same.
    fn check(&self, at: usize, version: i16, body: &[u8]) {
        fn told<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> M {
            decode(body, version).unwrap()
        }
        let error = match self.steps[at] {
            Step::Produce(_, _, offset) | Step::InTxn(_, _, offset) => {
                let told: ProduceResponse<'_> = told(body, version);
                let told = &told.responses[0].partition_responses[0];
                assert_eq!(told.base_offset, offset, "{:?}", told.error_code);
                told.error_code
            }
            Step::Fetch => {
                let (fetched, bytes) = read_response(&told(body, version));
                assert_eq!(fetched.committed(&bytes), ["a", "b"]);
                ErrorCode::NONE
            }
            Step::Commit(_) => told::<OffsetCommitResponse<'_>>(body, version).topics[0].partitions[0].error_code,
            Step::AddPartition => {
                let told: AddPartitionsToTxnResponse<'_> = told(body, version);
                told.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            }
            Step::AddGroup => told::<AddOffsetsToTxnResponse>(body, version).error_code,
            Step::TxnCommit(_) => told::<TxnOffsetCommitResponse<'_>>(body, version).topics[0].partitions[0].error_code,
            Step::End => {
                let told: EndTxnResponse = told(body, version);
                let epoch = if version >= 5 { self.txn.epoch + 1 } else { -1 };
                assert_eq!(told.producer_epoch, epoch);
                told.error_code
            }
        };
        assert_eq!(error, ErrorCode::NONE);
    }

    /// Sends what has no answer yet of these steps, and reads all answers.
    fn go(&mut self, steps: Range<usize>) {
        let left: Vec<usize> = steps.clone().filter(|at| !self.answered[*at]).collect();
        let stream = self.stream(&left);
        self.arrive(&stream);
        self.h.settle();
        let answers = self.answers();
        self.read(&answers);
        assert!(self.answered[steps].iter().all(|answered| *answered), "{:?}", self.h.closed);
    }

    /// Sends what has no answer yet of these steps on a connection that breaks, and connects again.
    fn go_until(&mut self, steps: Range<usize>, cut: Cut) {
        let left: Vec<usize> = steps.clone().filter(|at| !self.answered[*at]).collect();
        let stream = self.stream(&left);
        let groups = self.h.log.groups.len();
        match cut {
            Cut::Sent { bytes, durable } => {
                self.arrive(&stream[..bytes]);
                if durable {
                    self.h.settle();
                }
                if bytes < self.request(steps.start).2.len() {
                    assert_eq!(self.h.log.groups.len(), groups, "a part of a request was taken for one");
                }
            }
            Cut::Read { bytes } => {
                self.arrive(&stream);
                self.h.settle();
                let answers = self.answers();
                self.read(&answers[..bytes]);
            }
        }
        self.h.broker.disconnected(self.h.now, self.conn);
        self.h.take_answers();
        self.conn = self.h.connect();
        self.reader = FrameReader::default();
    }

    /// Everything is there, once, and stays so.
    fn check_all(&mut self) {
        for restarts in [true, false] {
            let h = &mut self.h;
            assert_eq!(committed(h, "t", 0), ["a", "b", "c", "d", "e"]);
            assert_eq!(ends(h, "t", 0), (6, 6));
            assert_eq!(markers(h, "t", 0), [(4, true)]);
            assert_eq!(committed_offset(h, "g", "t", 0, true), (ErrorCode::NONE, 2));
            assert_eq!(committed_offset(h, "h", "t", 0, true), (ErrorCode::NONE, 3));
            assert!(h.closed.is_empty(), "{:?}", h.closed);
            if restarts {
                h.restart();
            }
        }
    }
}

fn produce_request<'a>(transactional_id: Option<&'a str>, batch: &'a [u8]) -> ProduceRequest<'a> {
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(batch) };
    let topic_data = vec![TopicProduceData { name: "t", partition_data: vec![data], ..Default::default() }];
    ProduceRequest { transactional_id, acks: -1, timeout_ms: 1000, topic_data }
}

/// One history in which the connection breaks, again and again, among the requests that are on their way together as the `nth`.
fn run(protocol: Protocol, nth: usize, cuts: &[Cut]) {
    let (steps, together) = history(protocol);
    let mut client = Client::new(protocol, &steps);
    for (at, steps) in together.into_iter().enumerate() {
        for cut in cuts.iter().filter(|_| at == nth) {
            let _saying = Saying(protocol, nth, *cut);
            client.go_until(steps.clone(), *cut);
        }
        client.go(steps);
    }
    client.check_all();
}

/// How many bytes each request of each part of the history has, and its answer.
fn lengths(protocol: Protocol) -> Vec<Vec<(usize, usize)>> {
    let (steps, together) = history(protocol);
    let mut client = Client::new(protocol, &steps);
    let mut lengths = Vec::new();
    for steps in together {
        let mut of_part = Vec::new();
        for at in steps {
            let stream = client.stream(&[at]);
            client.arrive(&stream);
            client.h.settle();
            let answers = client.answers();
            client.read(&answers);
            of_part.push((stream.len(), answers.len()));
        }
        lengths.push(of_part);
    }
    client.check_all();
    lengths
}

/// Says where it was when something is wrong.
struct Saying(Protocol, usize, Cut);

impl Drop for Saying {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}: the connection broke in part {}, {:?}", self.0, self.1, self.2);
        }
    }
}

/// Each place once. While no further request is complete there is nothing new at the server, so that these places share a history; it
/// begins anew where one is, with what was asked durable and not.
fn all_cuts(protocol: Protocol) -> usize {
    let mut places = 0;
    let mut try_all = |nth: usize, cuts: Vec<Cut>| {
        places += cuts.len();
        run(protocol, nth, &cuts);
    };
    for (nth, part) in lengths(protocol).into_iter().enumerate() {
        let (mut sent, mut read) = (0, 0);
        for (request, answer) in &part {
            for durable in [true, false] {
                try_all(nth, (sent..sent + request).map(|bytes| Cut::Sent { bytes, durable }).collect());
            }
            // What was answered already is not asked again, and so not answered before the rest.
            let first = Cut::Read { bytes: read };
            try_all(nth, [first].into_iter().chain((1..*answer).map(|bytes| Cut::Read { bytes })).collect());
            (sent, read) = (sent + request, read + answer);
        }
        for durable in [true, false] {
            try_all(nth, vec![Cut::Sent { bytes: sent, durable }]);
        }
        try_all(nth, vec![Cut::Read { bytes: read }]);
    }
    places
}

#[test]
fn a_connection_that_breaks_at_any_byte_costs_and_doubles_nothing() {
    for protocol in [NEW, CLASSIC] {
        let places = all_cuts(protocol);
        assert!(places > 2000, "only {places} places");
    }
}
