//! Owns the measurement of the network path without broker and log: cutting frames, requests in, record data out.
//!
//! `cargo bench --bench net`. The figures are per second of processor time of the thread that does the work, so that
//! neighbours on the machine disturb them little.

#[path = "shell/mod.rs"]
mod shell;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik::broker::{Insert, Response};
use chronik::net::frames::{FrameReader, ReadDesk, Source};
use chronik::net::inbox::{Completion, Inbox};
use chronik::sys::disk::DiskFile;
use chronik::sys::socket;
use chronik::wal::{SegmentHandle, SegmentId, Splice};
use shell::{Answering, Shell};

/// How long each line measures.
const LINE_TIME: Duration = Duration::from_millis(1500);

/// Bytes of record data in one answer.
const ANSWER_BYTES: u32 = 1 << 20;

/// Answers with four bytes, or with record data when the request's first byte is not zero.
struct Echo {
    file: SegmentHandle,
    memory: Bytes,
}

impl Answering for Echo {
    fn answer(&mut self, frame: &Bytes) -> Response {
        let with_data = frame[0] != 0;
        let data_bytes = if with_data { ANSWER_BYTES } else { 0 };
        let mut head = (4 + data_bytes).to_be_bytes().to_vec();
        head.extend_from_slice(&frame[4..8]);
        let splice = Splice { handle: self.file.clone(), position: 0, len: ANSWER_BYTES };
        Response { head, inserts: if with_data { vec![(8, Insert::Log(splice))] } else { Vec::new() } }
    }

    fn in_memory(&self) -> Option<Bytes> {
        (!self.memory.is_empty()).then(|| self.memory.clone())
    }
}

#[derive(Debug)]
struct PlainFile(File);

impl DiskFile for PlainFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sendfile_fd(&self) -> Option<i32> {
        Some(self.0.as_raw_fd())
    }
}

/// Processor time of the calling thread in seconds; wall-clock time where the system does not tell.
fn thread_seconds(begun: Instant) -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanos.map_or(begun.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Runs a reactor; processor seconds are asked for with `reactor_seconds`.
fn start(in_memory: bool) -> (SocketAddr, Inbox<Shell<Echo>>) {
    let path = std::env::temp_dir().join(format!("chronik-bench-net-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    file.write_all(&vec![7; ANSWER_BYTES as usize]).expect("room for it");
    std::fs::remove_file(&path).expect("it was just made");
    let listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let memory = if in_memory { Bytes::from(vec![7; ANSWER_BYTES as usize]) } else { Bytes::new() };
        let file = SegmentHandle { segment: SegmentId::FIRST, file: Arc::new(PlainFile(file)) };
        shell::serve(listener, Echo { file, memory }, |inbox| sender.send(inbox).expect("somebody waits"));
    });
    (address, receiver.recv().expect("it starts"))
}

fn reactor_seconds(inbox: &Inbox<Shell<Echo>>, begun: Instant) -> f64 {
    let (sender, receiver) = mpsc::channel();
    inbox.push(Completion::Ask(Box::new(move |_| sender.send(thread_seconds(begun)).expect("somebody waits"))));
    receiver.recv().expect("the reactor runs")
}

/// A request frame of `bytes` bytes without its prefix.
fn request(bytes: usize, with_data: bool) -> Vec<u8> {
    let mut frame = (bytes as u32).to_be_bytes().to_vec();
    frame.resize(4 + bytes, 0);
    frame[4] = u8::from(with_data);
    frame
}

/// Gives out the same bytes for ever.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

impl Source for Endless {
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let count = bytes_max.min(self.bytes.len() - self.at).min(buf.capacity() - buf.len());
        buf.extend_from_slice(&self.bytes[self.at..self.at + count]);
        self.at = (self.at + count) % self.bytes.len();
        Ok(count)
    }
}

fn cut_frames(frame_bytes: usize) {
    let many = (1 << 20) / frame_bytes + 1;
    let mut source = Endless { bytes: request(frame_bytes, false).repeat(many), at: 0 };
    let mut desk = ReadDesk::new(100 << 20);
    let mut reader = FrameReader::default();
    let mut frames = VecDeque::new();
    let begun = Instant::now();
    let (from, mut bytes, mut count) = (thread_seconds(begun), 0, 0);
    while begun.elapsed() < LINE_TIME {
        for _ in 0..16 {
            reader.receive(&mut source, &mut desk, &mut frames).expect("frames without fault");
            count += frames.len();
            bytes += frames.drain(..).map(|frame| frame.len()).sum::<usize>();
        }
    }
    report("cutting frames (with the copy that recv makes)", frame_bytes, count, bytes, thread_seconds(begun) - from);
}

fn requests_in(frame_bytes: usize) {
    let (address, inbox) = start(true);
    let mut stream = TcpStream::connect(address).expect("the reactor listens");
    let burst = (256 << 10) / frame_bytes + 1;
    let block = request(frame_bytes, false).repeat(burst);
    let mut answers = vec![0; 8 * burst];
    let begun = Instant::now();
    let (from, mut count) = (reactor_seconds(&inbox, begun), 0);
    while begun.elapsed() < LINE_TIME {
        stream.write_all(&block).expect("it is taken");
        stream.read_exact(&mut answers).expect("it is answered");
        count += burst;
    }
    let spent = reactor_seconds(&inbox, begun) - from;
    report("requests in, over loopback", frame_bytes, count, count * frame_bytes, spent);
}

fn data_out(in_memory: bool) {
    let (address, inbox) = start(in_memory);
    let mut stream = TcpStream::connect(address).expect("the reactor listens");
    let block = request(64, true).repeat(4);
    let mut answer = vec![0; (8 + ANSWER_BYTES as usize) * 4];
    let begun = Instant::now();
    let (from, mut count) = (reactor_seconds(&inbox, begun), 0);
    while begun.elapsed() < LINE_TIME {
        stream.write_all(&block).expect("it is taken");
        stream.read_exact(&mut answer).expect("it is answered");
        count += 4;
    }
    let what = if in_memory { "record data out, from memory" } else { "record data out, by sendfile" };
    let spent = reactor_seconds(&inbox, begun) - from;
    report(what, ANSWER_BYTES as usize, count, count * ANSWER_BYTES as usize, spent);
}

fn report(what: &str, size: usize, count: usize, bytes: usize, seconds: f64) {
    let (per_second, gigabytes) = (count as f64 / seconds, bytes as f64 / 1e9 / seconds);
    println!("{what:<48} {size:>8} bytes {per_second:>12.0} frames/CPU s {gigabytes:>7.2} GB/CPU s");
}

fn main() {
    for frame_bytes in [100, 1 << 10, 16 << 10, 128 << 10, 1 << 20] {
        cut_frames(frame_bytes);
    }
    for frame_bytes in [100, 1 << 10, 16 << 10, 128 << 10, 1 << 20] {
        requests_in(frame_bytes);
    }
    data_out(true);
    data_out(false);
}
