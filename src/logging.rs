//! Owns the log that people read: levels, format, and the bounded queue between the reactor and stderr.
//!
//! A line is formatted by the thread that logs it (by `simplelog`, in memory) and handed to a queue;
//! one thread writes the queue to stderr. The queue is bounded in lines and bytes and drops what
//! does not fit, so a terminal or a pipe that nobody reads blocks nobody; the lines lost are counted,
//! and said in the log as soon as it moves again. With nothing to write the thread sleeps for good.
//!
//! One record is one line: control characters, which clients may put into names and ids, are
//! escaped, and a line ends after [`LINE_BYTES_MAX`].

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::hash::Hash;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};
use simplelog::{Config, ConfigBuilder, WriteLogger};
use time::macros::format_description;

/// Longest message of one record, in bytes; what follows is cut off and counted.
pub const LINE_BYTES_MAX: usize = 4096;
/// Most lines that wait to be written.
const QUEUED_LINES_MAX: usize = 8192;
/// Most bytes that wait to be written.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// How long a panic waits for its message to be written, in milliseconds.
const PANIC_FLUSH_MS: u64 = 1000;

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Sends the `log` macros to stderr from now on, and the message of a panic too. Under systemd,
/// where stderr is the journal, lines carry a priority and no time.
///
/// # Errors
/// If the thread cannot be started, stderr is closed, or a logger is already set.
pub fn init(level: LevelFilter) -> io::Result<()> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let style = match stderr.metadata() {
        Ok(meta) if is_journal(&journal, meta.dev(), meta.ino()) => Style::Journal,
        _ => Style::Plain,
    };
    let queue = start_writer(stderr)?;
    let logger = QueueLogger::new(style, queue.clone());
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    log::set_max_level(level);
    // Only the first call comes this far, so the cell is empty.
    let _ = QUEUE.set(queue);
    log_panics();
    Ok(())
}

/// Waits until everything logged so far is written, or for `bound`. Call it before leaving.
pub fn flush(bound: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(bound);
    }
}

/// Lines that were dropped since the start because stderr took none.
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.state.lock().dropped)
}

/// Makes a panic one line of the log. The line is written before the process goes down, unless
/// stderr is stuck.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| info.payload().downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map_or(String::from("an unknown place"), |l| l.to_string());
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log::error!("internal error in thread {name} at {place}: {message}");
        flush(Duration::from_millis(PANIC_FLUSH_MS));
    }));
}

/// True if stderr, given by its device and inode, is the stream that systemd named in `JOURNAL_STREAM`.
fn is_journal(journal_stream: &str, device: u64, inode: u64) -> bool {
    match journal_stream.split_once(':') {
        Some((d, i)) => d.parse() == Ok(device) && i.parse() == Ok(inode),
        None => false,
    }
}

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `2026-11-23T14:03:11.123Z INFO  message`
    Plain,
    /// `<6>message`: the journal keeps the time and reads the priority.
    Journal,
}

impl Style {
    fn simplelog_config(self) -> Config {
        let mut builder = ConfigBuilder::new();
        builder
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            // simplelog puts the level in brackets; it is part of the message here.
            .set_max_level(LevelFilter::Off)
            .set_time_format_custom(format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
            ))
            .set_time_level(match self {
                Style::Plain => LevelFilter::Error,
                Style::Journal => LevelFilter::Off,
            });
        builder.build()
    }
}

/// The numbers of syslog(3) that systemd's journal understands.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Formats records and hands them to the queue.
struct QueueLogger {
    style: Style,
    inner: Box<WriteLogger<LineSink>>,
    queue: Arc<Queue>,
}

impl QueueLogger {
    fn new(style: Style, queue: Arc<Queue>) -> QueueLogger {
        let sink = LineSink { line: Vec::new(), queue: queue.clone() };
        QueueLogger { style, inner: WriteLogger::new(LevelFilter::Trace, style.simplelog_config(), sink), queue }
    }
}

impl Log for QueueLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut text = OneLine::default();
        // OneLine takes everything; an error could only come from a value's own Display, and the
        // part written before it is still worth reading.
        let _ = text.write_fmt(*record.args());
        let text = text.finish();
        let level = record.level();
        match self.style {
            Style::Plain => self.pass_on(level, format_args!("{level:<5} {text}")),
            Style::Journal => self.pass_on(level, format_args!("<{}>{text}", priority(level))),
        }
    }

    fn flush(&self) {
        self.queue.flush(Duration::from_millis(PANIC_FLUSH_MS));
    }
}

impl QueueLogger {
    fn pass_on(&self, level: Level, args: fmt::Arguments<'_>) {
        self.inner.log(&Record::builder().level(level).args(args).build());
    }
}

/// Collects a message, bounded and without control characters.
#[derive(Default)]
struct OneLine {
    text: String,
    cut_bytes: usize,
}

impl OneLine {
    fn finish(mut self) -> String {
        if self.cut_bytes > 0 {
            let _ = write!(self.text, " ... ({} more bytes)", self.cut_bytes);
        }
        self.text
    }
}

impl fmt::Write for OneLine {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            if self.cut_bytes > 0 || self.text.len() + c.len_utf8() > LINE_BYTES_MAX {
                self.cut_bytes += c.len_utf8();
            } else if c.is_control() {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        Ok(())
    }
}

/// Takes the pieces that simplelog writes, and gives whole lines to the queue. Nothing here
/// blocks: simplelog holds a lock meanwhile.
struct LineSink {
    line: Vec<u8>,
    queue: Arc<Queue>,
}

impl Write for LineSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.queue.offer(std::mem::take(&mut self.line));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to the writer.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    /// Told when there is something to write.
    filled: Condvar,
    /// Told when everything is written.
    drained: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines handed in that are neither written nor dropped yet, those being written included.
    pending: usize,
    dropped: u64,
    dropped_told: u64,
}

impl Queue {
    /// Never blocks for longer than another thread needs for a push.
    fn offer(&self, line: Vec<u8>) {
        let mut state = self.state.lock();
        if state.lines.len() >= QUEUED_LINES_MAX || state.bytes + line.len() > QUEUED_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.pending += 1;
        state.lines.push_back(line);
        if state.lines.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Waits for lines and takes them all, with the number of lines dropped since last time.
    fn take(&self, batch: &mut VecDeque<Vec<u8>>) -> u64 {
        let mut state = self.state.lock();
        while state.lines.is_empty() {
            self.filled.wait(&mut state);
        }
        std::mem::swap(batch, &mut state.lines);
        state.bytes = 0;
        let newly = state.dropped - state.dropped_told;
        state.dropped_told = state.dropped;
        newly
    }

    fn written(&self, lines: usize, failed: usize) {
        let mut state = self.state.lock();
        state.pending -= lines;
        state.dropped += failed as u64;
        if state.pending == 0 {
            self.drained.notify_all();
        }
    }

    fn flush(&self, bound: Duration) {
        let deadline = Instant::now() + bound;
        let mut state = self.state.lock();
        while state.pending > 0 {
            if self.drained.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

fn start_writer(out: impl Write + Send + 'static) -> io::Result<Arc<Queue>> {
    let queue = Arc::new(Queue::default());
    let theirs = queue.clone();
    std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&theirs, out))?;
    Ok(queue)
}

/// The writer's loop. It lives as long as the process.
fn write_lines(queue: &Queue, mut out: impl Write) {
    let mut batch = VecDeque::new();
    loop {
        let dropped = queue.take(&mut batch);
        let lines = batch.len();
        let mut failed = 0;
        for line in batch.drain(..) {
            failed += usize::from(write_line(&mut out, &line).is_err());
        }
        // The lines before the gap are out, so this stands where the others would have been.
        if dropped > 0 {
            let note = format!("{dropped} log lines were dropped because nobody read them in time\n");
            let _ = write_line(&mut out, note.as_bytes());
        }
        queue.written(lines, failed);
    }
}

/// Writes one line whole, also where stderr was left in non-blocking mode by a program that shares it.
fn write_line(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => line = &line[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Lets through a few lines per key and interval, and counts the others. It has no clock: the caller
/// says what time it is. Memory is bounded: keys beyond the limit share one allowance.
#[derive(Clone, Debug)]
pub struct RateLimited<K> {
    lines_max: u32,
    interval_ms: i64,
    keys_max: usize,
    keys: HashMap<K, Allowance>,
    others: Allowance,
    swept_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    since_ms: i64,
    lines: u32,
    suppressed: u64,
}

impl Allowance {
    fn take(&mut self, lines_max: u32, interval_ms: i64, now_ms: i64) -> Option<u64> {
        if self.lines == 0 || now_ms.saturating_sub(self.since_ms) >= interval_ms {
            (self.since_ms, self.lines) = (now_ms, 0);
        }
        if self.lines >= lines_max {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl<K: Hash + Eq + Clone> RateLimited<K> {
    /// At most `lines_max` (at least 1) lines per key in `interval_ms` milliseconds; at most
    /// `keys_max` keys are told apart at a time.
    pub fn new(lines_max: u32, interval_ms: i64, keys_max: usize) -> RateLimited<K> {
        RateLimited {
            lines_max: lines_max.max(1),
            interval_ms,
            keys_max,
            keys: HashMap::new(),
            others: Allowance::default(),
            swept_ms: i64::MIN,
        }
    }

    /// `Some(n)`: log the line, and say that `n` like it were left out since the last one, if `n`
    /// is not 0. `None`: leave it out. `now_ms` is any clock that goes forward, in milliseconds.
    pub fn allow(&mut self, key: &K, now_ms: i64) -> Option<u64> {
        let (lines_max, interval_ms) = (self.lines_max, self.interval_ms);
        if let Some(known) = self.keys.get_mut(key) {
            return known.take(lines_max, interval_ms, now_ms);
        }
        if self.keys.len() >= self.keys_max {
            self.sweep(now_ms);
        }
        if self.keys.len() >= self.keys_max {
            return self.others.take(lines_max, interval_ms, now_ms);
        }
        let mut fresh = Allowance::default();
        let answer = fresh.take(lines_max, interval_ms, now_ms);
        self.keys.insert(key.clone(), fresh);
        answer
    }

    /// Forgets keys whose interval is over, at most once per interval so that a flood of keys stays
    /// cheap. What was left out under a forgotten key is told with the shared allowance.
    fn sweep(&mut self, now_ms: i64) {
        if now_ms.saturating_sub(self.swept_ms) < self.interval_ms {
            return;
        }
        self.swept_ms = now_ms;
        let (interval_ms, others) = (self.interval_ms, &mut self.others);
        self.keys.retain(|_, allowance| {
            let keep = now_ms.saturating_sub(allowance.since_ms) < interval_ms;
            if !keep {
                others.suppressed += allowance.suppressed;
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Says that a write has begun, waits to be let on, and gives the test what was written.
    struct Gate {
        begun: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        out: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.go.recv();
            let _ = self.out.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gated {
        queue: Arc<Queue>,
        begun: mpsc::Receiver<()>,
        go: mpsc::Sender<()>,
        lines: mpsc::Receiver<Vec<u8>>,
    }

    fn gated() -> Gated {
        let (begin, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let (out, lines) = mpsc::channel();
        let queue = start_writer(Gate { begun: begin, go: gate, out });
        Gated { queue: queue.unwrap(), begun, go, lines }
    }

    /// A writer that nothing holds up.
    fn open() -> (Arc<Queue>, mpsc::Receiver<Vec<u8>>) {
        let gated = gated();
        (gated.queue, gated.lines)
    }

    fn log_to(queue: &Arc<Queue>, style: Style, level: Level, text: &str) {
        let logger = QueueLogger::new(style, queue.clone());
        log::set_max_level(LevelFilter::Info);
        logger.log(&Record::builder().level(level).args(format_args!("{text}")).build());
    }

    #[test]
    fn a_line_carries_time_and_level_for_people() {
        let (queue, lines) = open();
        log_to(&queue, Style::Plain, Level::Info, "ready");
        let line = String::from_utf8(lines.recv().unwrap()).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "INFO  ready\n");
        assert_eq!(time.len(), "2026-11-23T14:03:11.123Z".len(), "{time}");
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }

    #[test]
    fn a_line_carries_a_priority_for_the_journal() {
        let (queue, lines) = open();
        log_to(&queue, Style::Journal, Level::Warn, "watch out");
        assert_eq!(lines.recv().unwrap(), b"<4>watch out\n");
    }

    #[test]
    fn a_clients_bytes_cannot_forge_a_line_nor_flood_the_log() {
        let (queue, lines) = open();
        log_to(&queue, Style::Journal, Level::Info, "a\nb\u{1b}[31m");
        assert_eq!(lines.recv().unwrap(), b"<6>a\\nb\\u{1b}[31m\n");
        log_to(&queue, Style::Journal, Level::Info, &"x".repeat(1 << 20));
        let line = lines.recv().unwrap();
        assert!(line.len() < LINE_BYTES_MAX + 100, "{}", line.len());
        assert!(line.ends_with(b" more bytes)\n"));
    }

    #[test]
    fn a_stuck_stderr_blocks_nobody_and_what_was_lost_is_counted() {
        let Gated { queue, begun, go, lines } = gated();
        queue.offer(b"first\n".to_vec());
        begun.recv().unwrap();
        for i in 0..QUEUED_LINES_MAX + 1000 {
            queue.offer(format!("{i}\n").into_bytes());
        }
        assert_eq!(queue.state.lock().dropped, 1000);
        queue.flush(Duration::from_millis(1));
        assert!(queue.state.lock().pending > 0, "the bound of flush holds");
        drop(go);
        for _ in 0..1 + QUEUED_LINES_MAX {
            lines.recv().unwrap();
        }
        queue.offer(b"after\n".to_vec());
        queue.flush(Duration::from_secs(60));
        let rest: Vec<Vec<u8>> = lines.try_iter().collect();
        let note = "1000 log lines were dropped because nobody read them in time\n";
        assert!(rest.contains(&note.as_bytes().to_vec()));
        assert!(rest.contains(&b"after\n".to_vec()));
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_too() {
        let queue = Queue::default();
        for _ in 0..400 {
            queue.offer(vec![b'x'; LINE_BYTES_MAX]);
        }
        let state = queue.state.lock();
        assert_eq!(state.lines.len(), QUEUED_BYTES_MAX / LINE_BYTES_MAX);
        assert_eq!(state.dropped, 400 - state.lines.len() as u64);
    }

    /// The logger is the process's, so this one runs in a process of its own.
    #[test]
    fn a_real_stderr_gets_every_line_and_the_panic_too() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::tests::log_and_panic", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let said: Vec<&str> = text.lines().filter_map(|l| l.split_once("Z ")).map(|(_, rest)| rest).collect();
        assert_eq!(said.len(), 1001, "{text}");
        assert_eq!(said[999], "INFO  line 999");
        assert!(said[1000].starts_with("ERROR internal error in thread "), "{text}");
        assert!(said[1000].ends_with(": boom 7"), "{text}");
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn log_and_panic() {
        init(LevelFilter::Info).unwrap();
        for i in 0..1000 {
            log::info!("line {i}");
        }
        log::debug!("not for this level");
        assert_eq!(dropped_lines(), 0);
        panic!("boom {}", 7);
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        assert!(is_journal("8:1234", 8, 1234));
        for other in ["", "8", "8:", "8:1235", "9:1234", "a:b"] {
            assert!(!is_journal(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn repeated_lines_are_left_out_and_counted() {
        let mut limit = RateLimited::new(2, 1000, 8);
        assert_eq!(limit.allow(&"a", 0), Some(0));
        assert_eq!(limit.allow(&"a", 1), Some(0));
        assert_eq!(limit.allow(&"a", 2), None);
        assert_eq!(limit.allow(&"a", 999), None);
        assert_eq!(limit.allow(&"b", 999), Some(0), "keys do not share");
        assert_eq!(limit.allow(&"a", 1000), Some(2));
        assert_eq!(limit.allow(&"a", 1001), Some(0));
        assert_eq!(limit.allow(&"a", 1002), None);
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_quiet() {
        let mut limit = RateLimited::new(1, 1000, 4);
        let allowed = (0..100_000).filter(|i| limit.allow(i, 5).is_some());
        assert_eq!(allowed.count(), 5, "four keys and the shared allowance");
        assert_eq!(limit.keys.len(), 4);
        assert_eq!(limit.allow(&7, 1005), Some(0), "old keys make room");
        assert_eq!(limit.keys.len(), 1);
    }
}
