//! Owns cutting a connection's byte stream into request frames without ever trusting a claimed length with memory.
//!
//! One call reads once from the socket. Most requests are small and arrive whole: they are received into one buffer that
//! all connections share and copied out into exactly the room they need, so that an idle connection owns no buffer. What
//! is received in bulk keeps its buffer, and the frames are slices of it. A frame larger than a plain read is received to
//! exactly its end, into a buffer that grows with what has really arrived.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{Buffer, Pool, READ_BYTES};
use crate::limits;
use crate::sys::socket;
use crate::wire::ApiKey;

/// Complete frames of one read that are no longer than this together are copied, so that they do not pin 64 KiB.
const COPY_BYTES_MAX: usize = 16 << 10;

/// An incomplete frame of at most this many bytes is carried over into the next read by copying.
const CARRY_BYTES_MAX: usize = 2 << 10;

/// The least room an incomplete frame of known length gets.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// Most room that a connection gets for a frame of which nothing has arrived, however large its frames usually are.
const FRESH_BYTES_MAX: usize = 4 << 20;

/// Most bytes of one call to the socket.
const ONE_READ_BYTES_MAX: usize = 256 << 10;

/// Bytes of the first look at a request while memory is short, which is enough to know how large it is. What has arrived of it
/// stays, so it is little.
const LOOK_BYTES: usize = 512;

/// API key, version and correlation id: no request is shorter.
const FRAME_BYTES_MIN: usize = 8;

/// Bytes of the length before each frame.
const PREFIX_BYTES: usize = 4;

/// Where bytes come from; `TcpStream` in the server.
pub trait Source {
    /// Appends at most `bytes_max` bytes inside the buffer's capacity. 0 is the end of the stream.
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize>;
}

impl Source for &TcpStream {
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        socket::recv_into_spare(self, buf, bytes_max)
    }
}

/// What the readers of all connections share.
#[derive(Debug)]
pub struct ReadDesk {
    pub pool: Arc<Pool>,
    /// Largest frame in bytes, without its prefix (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Memory for requests is short: no more is read than the beginning of a request, or the rest of one that is known.
    pub is_short: bool,
    scratch: Option<Buffer>,
}

impl ReadDesk {
    /// A desk over an empty pool.
    pub fn new(frame_bytes_max: usize) -> ReadDesk {
        ReadDesk { pool: Pool::new(), frame_bytes_max, is_short: false, scratch: None }
    }

    fn scratch(&mut self) -> Buffer {
        self.scratch.take().unwrap_or_else(|| self.pool.take(READ_BYTES))
    }

    fn put_back(&mut self, mut buffer: Buffer) {
        if self.scratch.is_none() && buffer.capacity() == READ_BYTES {
            buffer.vec().clear();
            self.scratch = Some(buffer);
        }
    }
}

/// Why a byte stream cannot be a Kafka client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The stream begins as TLS does.
    Tls,
    /// The stream begins as an HTTP request does.
    Http,
    /// The length before a frame is negative.
    Negative(i32),
    /// The frame is too short to hold a request's header.
    Short(i32),
    /// The frame is longer than allowed; both in bytes.
    Long { claimed: i32, allowed: usize },
    /// The same of a request that brings no records.
    LongPlain { api_key: i16, claimed: usize },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Tls => f.write_str("it speaks TLS, and this port is plain text"),
            Fault::Http => f.write_str("it sent an HTTP request to the Kafka port"),
            Fault::Negative(len) => write!(f, "it claims a frame of {len} bytes, which is no Kafka request"),
            Fault::Short(len) => write!(f, "it sent a frame of {len} bytes, too short for a Kafka request"),
            Fault::Long { claimed, allowed } => {
                write!(f, "it claims a frame of {claimed} bytes; socket.request.max.bytes is {allowed}")
            }
            Fault::LongPlain { api_key, claimed } => {
                let allowed = limits::REQUEST_PLAIN_BYTES_MAX;
                write!(
                    f,
                    "it claims a request of API {api_key} of {claimed} bytes; without records {allowed} are the most"
                )
            }
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes. `full` when the read got all it had asked for, so that more may be waiting.
    Bytes { count: usize, full: bool },
    /// The socket has nothing at the moment.
    Nothing,
    /// The client has closed its side.
    End,
}

/// Why reading stops for good.
#[derive(Debug)]
pub enum ReadError {
    Fault(Fault),
    Socket(io::Error),
}

/// The reading half of a connection.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a frame whose end has not arrived.
    partial: Option<Buffer>,
    /// The room that a frame of this connection was last seen to need, in bytes; halved by each smaller one.
    usual_bytes: usize,
    /// Whether a length prefix was accepted already, so that it is too late to be HTTP or TLS.
    begun: bool,
}

impl FrameReader {
    /// Bytes of an incomplete frame that wait in memory.
    pub fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, Buffer::capacity)
    }

    /// Bytes of the incomplete frame that have arrived.
    pub fn arrived_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.len())
    }

    /// Bytes of the incomplete frame when it will be complete, as far as it says so.
    pub fn claimed_bytes(&self) -> usize {
        self.partial.as_ref().and_then(|partial| total_bytes(partial)).unwrap_or(0)
    }

    /// The API key of the incomplete frame, as far as it is known.
    pub fn partial_api_key(&self) -> Option<i16> {
        self.partial.as_ref().and_then(|partial| api_key(partial.get(PREFIX_BYTES..)?))
    }

    /// Reads once and appends the frames that are complete, without their prefixes, to `frames`. Frames before a fault
    /// are still delivered.
    pub fn receive(
        &mut self,
        source: &mut impl Source,
        desk: &mut ReadDesk,
        frames: &mut VecDeque<Bytes>,
    ) -> Result<Received, ReadError> {
        let mut buffer = self.buffer_to_fill(desk);
        let asked = bytes_to_ask(&buffer, desk.is_short);
        debug_assert!(asked > 0, "a read of nothing would look like the end of the stream");
        match source.receive(buffer.vec(), asked) {
            Ok(0) => {
                self.set_aside(buffer, desk);
                Ok(Received::End)
            }
            Ok(count) => {
                self.cut(buffer, desk, frames).map_err(ReadError::Fault)?;
                Ok(Received::Bytes { count, full: count == asked })
            }
            Err(error) => {
                self.set_aside(buffer, desk);
                match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(Received::Nothing),
                    _ => Err(ReadError::Socket(error)),
                }
            }
        }
    }

    /// A buffer that begins with what there is of the next frame and has room for more.
    fn buffer_to_fill(&mut self, desk: &mut ReadDesk) -> Buffer {
        let partial = match self.partial.take() {
            Some(mut partial) if partial.len() > CARRY_BYTES_MAX => {
                if partial.len() == partial.capacity() {
                    partial.grow(self.room(&partial));
                }
                return partial;
            }
            other => other,
        };
        let usual = self.usual_bytes.min(FRESH_BYTES_MAX);
        let mut buffer = if usual > READ_BYTES { desk.pool.take(usual) } else { desk.scratch() };
        if let Some(partial) = partial {
            buffer.vec().extend_from_slice(&partial);
        }
        buffer
    }

    /// How much room an incomplete frame deserves: never more than it claims, and never more than twice what has arrived
    /// or what this connection's frames have recently needed, which counts up to `FRESH_BYTES_MAX`. Whoever looks after the memory
    /// reckons with that (`net::reactor::shortage`).
    fn room(&self, partial: &[u8]) -> usize {
        let Some(total) = total_bytes(partial).filter(|_| partial.len() > CARRY_BYTES_MAX) else {
            return partial.len();
        };
        let usual = self.usual_bytes.min(FRESH_BYTES_MAX);
        let trusted = if partial.len() > COPY_BYTES_MAX { usual } else { 0 };
        total.min((2 * partial.len()).max(trusted).max(ROOM_BYTES_MIN)).max(partial.len())
    }

    /// Takes complete frames off the front of the buffer and keeps the rest.
    fn cut(&mut self, mut buffer: Buffer, desk: &mut ReadDesk, frames: &mut VecDeque<Bytes>) -> Result<(), Fault> {
        let (complete, fault) = self.complete_bytes(&buffer, desk.frame_bytes_max);
        if complete == 0 {
            self.set_aside(buffer, desk);
            return fault.map_or(Ok(()), Err);
        }
        if complete < buffer.len() && fault.is_none() {
            let rest = &buffer[complete..];
            let mut partial = desk.pool.take(self.room(rest));
            partial.vec().extend_from_slice(rest);
            self.partial = Some(partial);
        }
        let shared = if complete <= COPY_BYTES_MAX && complete < buffer.capacity() / 2 {
            let copy = desk.pool.copy(&buffer[..complete]);
            desk.put_back(buffer);
            copy
        } else {
            buffer.vec().truncate(complete);
            buffer.freeze()
        };
        slice_frames(&shared, frames);
        fault.map_or(Ok(()), Err)
    }

    /// How many bytes at the front are complete frames, and what is wrong with the frame behind them.
    fn complete_bytes(&mut self, bytes: &[u8], frame_bytes_max: usize) -> (usize, Option<Fault>) {
        let mut at = 0;
        while let Some(prefix) = bytes[at..].first_chunk::<PREFIX_BYTES>() {
            let len = match check_prefix(*prefix, self.begun, frame_bytes_max) {
                Ok(len) => len,
                Err(fault) => return (at, Some(fault)),
            };
            self.begun = true;
            let total = PREFIX_BYTES + len;
            if let Some(api_key) = api_key(&bytes[at + PREFIX_BYTES..]) {
                if len > limits::REQUEST_PLAIN_BYTES_MAX && api_key != ApiKey::PRODUCE.0 {
                    return (at, Some(Fault::LongPlain { api_key, claimed: len }));
                }
            }
            if bytes.len() - at < total {
                break;
            }
            self.usual_bytes = if total > READ_BYTES { total.max(self.usual_bytes / 2) } else { self.usual_bytes / 2 };
            at += total;
        }
        (at, None)
    }

    /// Keeps the beginning of a frame until more arrives, in a buffer of its own size when it is small.
    fn set_aside(&mut self, buffer: Buffer, desk: &mut ReadDesk) {
        if buffer.len() > COPY_BYTES_MAX {
            self.partial = Some(buffer);
            return;
        }
        if !buffer.is_empty() {
            let room = self.room(&buffer);
            if buffer.capacity() <= 2 * room {
                self.partial = Some(buffer);
                return;
            }
            let mut partial = desk.pool.take(room);
            partial.vec().extend_from_slice(&buffer);
            self.partial = Some(partial);
        }
        desk.put_back(buffer);
    }
}

/// How much to ask of the socket: to the end of a large frame, otherwise whatever fits into a plain read; less while memory is short.
fn bytes_to_ask(buffer: &Buffer, is_short: bool) -> usize {
    let spare = buffer.capacity() - buffer.len();
    let wanted = match total_bytes(buffer) {
        None if is_short => LOOK_BYTES.saturating_sub(buffer.len()),
        Some(total) if total > READ_BYTES || is_short => total.saturating_sub(buffer.len()),
        _ => READ_BYTES.saturating_sub(buffer.len()),
    };
    wanted.min(spare).min(ONE_READ_BYTES_MAX)
}

/// The API key of a frame without its prefix.
pub fn api_key(frame: &[u8]) -> Option<i16> {
    frame.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes))
}

/// The correlation id of a request frame without its prefix.
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.get(4..8)?.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
}

/// The length of the frame that begins here, prefix included, when that much is known. The prefix was checked before.
fn total_bytes(bytes: &[u8]) -> Option<usize> {
    let len = i32::from_be_bytes(*bytes.first_chunk::<PREFIX_BYTES>()?);
    Some(PREFIX_BYTES + usize::try_from(len).ok()?)
}

fn check_prefix(prefix: [u8; PREFIX_BYTES], begun: bool, frame_bytes_max: usize) -> Result<usize, Fault> {
    if !begun {
        match &prefix {
            [0x16, 0x03, ..] => return Err(Fault::Tls),
            b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"DELE" | b"PATC" | b"CONN" => return Err(Fault::Http),
            _ => {}
        }
    }
    let claimed = i32::from_be_bytes(prefix);
    let Ok(len) = usize::try_from(claimed) else { return Err(Fault::Negative(claimed)) };
    if len < FRAME_BYTES_MIN {
        Err(Fault::Short(claimed))
    } else if len > frame_bytes_max {
        Err(Fault::Long { claimed, allowed: frame_bytes_max })
    } else {
        Ok(len)
    }
}

fn slice_frames(shared: &Bytes, frames: &mut VecDeque<Bytes>) {
    let mut at = 0;
    while let Some(total) = total_bytes(&shared[at..]) {
        frames.push_back(shared.slice(at + PREFIX_BYTES..at + total));
        at += total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its chunks one per call (or in parts, when less is asked), then blocks.
    struct Script(VecDeque<Vec<u8>>);

    impl Source for Script {
        fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
            let Some(chunk) = self.0.front_mut() else { return Err(io::ErrorKind::WouldBlock.into()) };
            let count = chunk.len().min(bytes_max).min(buf.capacity() - buf.len());
            buf.extend(chunk.drain(..count));
            if chunk.is_empty() {
                self.0.pop_front();
            }
            Ok(count)
        }
    }

    fn frame(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = (len as u32).to_be_bytes().to_vec();
        bytes.extend((0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)));
        bytes
    }

    /// Feeds the chunks to a new reader; the frames and how much capacity was out at most.
    fn feed(chunks: Vec<Vec<u8>>) -> (Vec<Bytes>, usize) {
        let mut desk = ReadDesk::new(64 << 20);
        let mut reader = FrameReader::default();
        let mut frames = VecDeque::new();
        let mut script = Script(chunks.into());
        let mut out_max = 0;
        while reader.receive(&mut script, &mut desk, &mut frames).unwrap() != Received::Nothing {
            out_max = out_max.max(desk.pool.out_bytes());
        }
        (frames.into(), out_max)
    }

    #[test]
    fn frames_split_at_each_byte_come_out_whole() {
        let frames = [frame(8, 1), frame(300, 2), frame(11, 3)];
        let stream = frames.concat();
        for cut in 0..=stream.len() {
            let chunks = [&stream[..cut], &stream[cut..]].into_iter().filter(|c| !c.is_empty()).map(<[u8]>::to_vec);
            let (got, _) = feed(chunks.collect());
            assert_eq!(got.len(), 3, "cut at {cut}");
            assert!(got.iter().zip(&frames).all(|(got, sent)| got[..] == sent[4..]), "cut at {cut}");
        }
        let (got, _) = feed(stream.iter().map(|byte| vec![*byte]).collect());
        assert!(got.len() == 3 && got.iter().zip(&frames).all(|(got, sent)| got[..] == sent[4..]));
    }

    #[test]
    fn large_and_small_frames_in_chunks_of_any_size_come_out_whole() {
        let lens = [70_000, 9, 65_532, 65_533, 1_000_000, 3_000, 200_000, 16_000, 3_000_000];
        let frames: Vec<Vec<u8>> = lens.iter().enumerate().map(|(seed, len)| frame(*len, seed as u8)).collect();
        let stream = frames.concat();
        for size in [1_447, 2_048, 16_384, 65_536, 1_000_003, stream.len()] {
            let (got, _) = feed(stream.chunks(size).map(<[u8]>::to_vec).collect());
            assert_eq!(got.len(), frames.len(), "chunks of {size}");
            assert!(got.iter().zip(&frames).all(|(got, sent)| got[..] == sent[4..]), "chunks of {size}");
        }
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_the_bytes_arrive() {
        let mut claim = (60_000_000u32).to_be_bytes().to_vec();
        claim.extend([0; 20]);
        let (got, out_max) = feed(vec![claim]);
        assert!(got.is_empty());
        assert!(out_max <= READ_BYTES + ROOM_BYTES_MIN, "{out_max} bytes for 24 received");
        let mut half = (60_000_000u32).to_be_bytes().to_vec();
        half.extend(vec![0; 1 << 20]);
        let (_, out_max) = feed(half.chunks(16 << 10).map(<[u8]>::to_vec).collect());
        assert!(out_max <= (4 << 20) + READ_BYTES, "{out_max} bytes for 1 MiB received");
    }

    #[test]
    fn an_idle_connection_owns_no_buffer_and_small_frames_pin_only_themselves() {
        let mut desk = ReadDesk::new(1 << 20);
        let mut frames = VecDeque::new();
        let mut readers: Vec<FrameReader> = Vec::new();
        for _ in 0..100 {
            let mut reader = FrameReader::default();
            reader.receive(&mut Script(vec![frame(100, 0)].into()), &mut desk, &mut frames).unwrap();
            reader.receive(&mut Script(VecDeque::new()), &mut desk, &mut frames).unwrap();
            readers.push(reader);
        }
        assert!(readers.iter().all(|reader| reader.partial_bytes() == 0));
        assert_eq!(frames.len(), 100);
        assert!(desk.pool.out_bytes() < READ_BYTES + 100 * 200, "{}", desk.pool.out_bytes());
    }

    #[test]
    fn faults_are_named_and_earlier_frames_are_still_delivered() {
        let cases: [(&[u8], Fault); 6] = [
            (&[0x16, 0x03, 0x01, 0x02, 0], Fault::Tls),
            (b"GET / HTTP/1.1\r\n", Fault::Http),
            (&[0xff; 12], Fault::Negative(-1)),
            (&[0; 12], Fault::Short(0)),
            (&[0, 0, 0, 7, 1], Fault::Short(7)),
            (&[0x7f, 0xff, 0xff, 0xff], Fault::Long { claimed: i32::MAX, allowed: 1000 }),
        ];
        for (bytes, expected) in cases {
            let mut desk = ReadDesk::new(1000);
            let mut frames = VecDeque::new();
            let mut reader = FrameReader::default();
            let result = reader.receive(&mut Script(vec![bytes.to_vec()].into()), &mut desk, &mut frames);
            assert!(matches!(result, Err(ReadError::Fault(fault)) if fault == expected), "{expected:?}: {result:?}");
        }
        let mut desk = ReadDesk::new(1000);
        let mut frames = VecDeque::new();
        let stream = [frame(20, 5), b"GET ".to_vec()].concat();
        let result = FrameReader::default().receive(&mut Script(vec![stream].into()), &mut desk, &mut frames);
        assert!(matches!(result, Err(ReadError::Fault(Fault::Long { .. }))), "too late for HTTP");
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn keys_are_known_as_soon_as_they_have_arrived() {
        let mut desk = ReadDesk::new(1 << 20);
        let mut frames = VecDeque::new();
        let mut reader = FrameReader::default();
        let mut script = Script(vec![vec![0, 1, 0, 0, 0], vec![1, 0, 11, 0, 0, 0, 9]].into());
        reader.receive(&mut script, &mut desk, &mut frames).unwrap();
        assert_eq!(reader.partial_api_key(), None);
        reader.receive(&mut script, &mut desk, &mut frames).unwrap();
        assert_eq!(reader.partial_api_key(), Some(1));
        assert_eq!((api_key(&[0, 18]), correlation_id(&[0, 18, 0, 3, 0, 0, 1, 0])), (Some(18), Some(256)));
    }

    #[test]
    fn while_memory_is_short_the_first_look_at_a_request_takes_little() {
        let mut desk = ReadDesk { is_short: true, ..ReadDesk::new(1 << 20) };
        let (mut reader, mut frames) = (FrameReader::default(), VecDeque::new());
        let mut script = Script(vec![[frame(100, 0), frame(300_000, 1)].concat()].into());
        reader.receive(&mut script, &mut desk, &mut frames).unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!(reader.claimed_bytes(), 300_004);
        assert!(reader.partial_bytes() <= 512, "{} bytes are kept", reader.partial_bytes());
        desk.is_short = false;
        while frames.len() < 2 {
            reader.receive(&mut script, &mut desk, &mut frames).unwrap();
        }
        assert_eq!(frames[1], frame(300_000, 1)[4..]);
    }

    #[test]
    fn a_request_without_records_that_no_client_can_mean_is_refused_by_its_first_bytes() {
        let begin = |key: i16| {
            let claimed = limits::REQUEST_PLAIN_BYTES_MAX as i32 + 1;
            let bytes = [&claimed.to_be_bytes()[..], &key.to_be_bytes(), &[0; 100]].concat();
            let (mut desk, mut frames) = (ReadDesk::new(64 << 20), VecDeque::new());
            FrameReader::default().receive(&mut Script(vec![bytes].into()), &mut desk, &mut frames)
        };
        assert!(begin(ApiKey::PRODUCE.0).is_ok());
        let refused = begin(ApiKey::METADATA.0);
        assert!(matches!(refused, Err(ReadError::Fault(Fault::LongPlain { api_key: 3, .. }))), "{refused:?}");
    }
}
