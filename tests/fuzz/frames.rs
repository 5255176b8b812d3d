//! Owns the fuzzing of what stands before a request: frames cut out of a stream, and their headers.
//!
//! The first byte says in which pieces the rest arrives.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use chronik::net::frames::{api_key, FrameReader, ReadDesk, ReadError, Received, Source};
use chronik::wire::msg::{ApiVersionsRequest, MetadataRequest, ProduceRequest};
use chronik::wire::{frame, RequestHeader};

/// Largest frame that is taken.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// A stream that arrives in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    piece_bytes: usize,
}

impl Source for Pieces<'_> {
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let room = buf.capacity() - buf.len();
        assert!(bytes_max <= room, "{bytes_max} bytes are asked for where there is room for {room}");
        let (taken, rest) = self.rest.split_at(self.piece_bytes.min(bytes_max).min(self.rest.len()));
        buf.extend_from_slice(taken);
        self.rest = rest;
        Ok(taken.len())
    }
}

/// What a stream comes to: its frames, and the fault that ends it.
fn read(stream: &[u8], piece_bytes: usize) -> (Vec<Bytes>, Option<String>) {
    let mut source = Pieces { rest: stream, piece_bytes };
    let (mut reader, mut desk) = (FrameReader::default(), ReadDesk::new(FRAME_BYTES_MAX));
    let mut frames = VecDeque::new();
    let mut received = 0;
    loop {
        match reader.receive(&mut source, &mut desk, &mut frames) {
            Ok(Received::Bytes { count, .. }) => received += count,
            Ok(Received::Nothing) => {}
            Ok(Received::End) => return (frames.into(), None),
            Err(ReadError::Fault(fault)) => return (frames.into(), Some(fault.to_string())),
            Err(ReadError::Socket(error)) => panic!("the socket has no errors: {error}"),
        }
        let held = reader.partial_bytes();
        assert!(held <= 2 * received + (16 << 10), "{held} bytes are held for {received} that arrived");
    }
}

pub fn run(input: &[u8]) {
    let Some((&pieces, stream)) = input.split_first() else { return };
    let piece_bytes = [1, 3, 7, 64, 1000, 5000, 40_000, usize::MAX][usize::from(pieces % 8)];
    let (frames, fault) = read(stream, piece_bytes);
    let (all, same_fault) = read(stream, usize::MAX);
    assert_eq!((&frames, &fault), (&all, &same_fault), "it matters in which pieces a stream arrives");
    let mut at = 0;
    for frame in &frames {
        assert_eq!(stream[at..at + 4], (frame.len() as u32).to_be_bytes());
        assert_eq!(stream[at + 4..at + 4 + frame.len()], **frame);
        at += 4 + frame.len();
        header(frame);
    }
    header(stream);
}

fn header(frame: &[u8]) {
    if let Ok((header, body)) = RequestHeader::parse(frame) {
        assert!(frame.ends_with(body) && frame.len() - body.len() >= 10);
        assert_eq!(api_key(frame), Some(header.api.key.0));
        assert!(header.client_id.is_none_or(|id| id.len() <= frame.len()));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let one = frame::request(9, 1, Some("client"), &ProduceRequest::default()).bytes;
    let two = frame::request(3, 2, None, &ApiVersionsRequest::default()).bytes;
    let three = frame::request(12, 3, Some("a longer name of a client"), &MetadataRequest::default()).bytes;
    let large = [&9000u32.to_be_bytes()[..], &one[4..], &vec![0; 9000 - (one.len() - 4)]].concat();
    let streams = [
        [&one[..], &two, &three].concat(),
        two.clone(),
        [&large[..], &one].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    let with = |(n, stream): (usize, &Vec<u8>)| {
        (0..2).map(|k| [&[(n * 2 + k) as u8][..], stream].concat()).collect::<Vec<_>>()
    };
    streams.iter().enumerate().flat_map(with).collect()
}
