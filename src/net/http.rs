//! Owns the small HTTP listeners for people, probes and scrapers: `/health` and `/ready`, and `/metrics`.
//!
//! They are far from the hot path, so they are plain blocking threads: one waits in accept, and each request gets a short
//! thread of its own, a few at a time and each within a time limit. HTTP/1.1 as in RFC 9112, one request per connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Requests that are answered at the same time by one listener; further ones are told to come back.
const REQUESTS_MAX: usize = 8;

/// Longest request line and headers together, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// How long a request may take to arrive, and an answer to be taken.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long the client may take to close after its answer.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// How long accepting rests after a failure such as too many open files.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// Stack of a thread that answers one request.
const STACK_BYTES: usize = 256 << 10;

/// What a path answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    /// A line of plain text.
    pub fn text(status: u16, line: &str) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: format!("{line}\n") }
    }
}

/// Answers a GET of a path (without its query); `None` is 404.
pub type Routes = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Starts a thread called `name` that answers on the listener as long as the process lives.
pub fn serve(name: &'static str, listener: TcpListener, routes: Routes) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || accept(name, &listener, &routes))?;
    Ok(())
}

fn accept(name: &'static str, listener: &TcpListener, routes: &Routes) {
    let active = Arc::new(AtomicUsize::new(0));
    let mut said = false;
    loop {
        match listener.accept() {
            Ok((stream, _)) => start_answer(name, stream, routes, &active),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    log::warn!("the {name} port cannot accept connections for now: {error}");
                }
                thread::sleep(ACCEPT_REST);
            }
        }
    }
}

/// Counts a request while it lives.
struct Active(Arc<AtomicUsize>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start_answer(name: &'static str, stream: TcpStream, routes: &Routes, active: &Arc<AtomicUsize>) {
    let before = active.fetch_add(1, Ordering::Relaxed);
    let active = Active(Arc::clone(active));
    if before >= REQUESTS_MAX {
        // A fresh socket takes these few bytes at once or not at all, so this does not block.
        let _ = stream.set_nonblocking(true);
        let _ = (&stream).write_all(&encode(&Answer::text(503, "too many requests at once"), false));
        return;
    }
    let routes = Arc::clone(routes);
    let spawned = thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || {
        let _active = active;
        // Whatever goes wrong with the client's connection is the client's affair.
        let _ = answer(&stream, &routes);
    });
    if let Err(error) = spawned {
        log::warn!("cannot answer a request on the {name} port: {error}");
    }
}

/// Reads one request and answers it.
fn answer(stream: &TcpStream, routes: &Routes) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_TIME;
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let (answer, with_body) = match read_head(stream, deadline)? {
        Some(head) => respond(&head, routes),
        None => (Answer::text(431, "the request is too long"), true),
    };
    let mut stream = stream;
    stream.write_all(&encode(&answer, with_body))?;
    // Closing with unread bytes would reset the connection and could destroy the answer on its way.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER_TIME))?;
    let mut rest = [0; 4096];
    let end = Instant::now() + LINGER_TIME;
    while Instant::now() < end && stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// The request up to the empty line; `None` when that is too long.
fn read_head(mut stream: &TcpStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let searched = head.len().saturating_sub(3);
        head.extend_from_slice(&chunk[..count]);
        if head[searched..].windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(Some(head));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
    }
}

/// The answer, and whether its body is sent (not for HEAD).
fn respond(head: &[u8], routes: &Routes) -> (Answer, bool) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Some((method, path)) = parse_request_line(line) else {
        return (Answer::text(400, "this is not an HTTP request"), true);
    };
    let known = routes(path);
    match (method, known) {
        (_, None) => (Answer::text(404, "there is nothing here"), method != "HEAD"),
        ("GET", Some(answer)) => (answer, true),
        ("HEAD", Some(answer)) => (answer, false),
        (_, Some(_)) => (Answer::text(405, "only GET and HEAD are answered here"), true),
    }
}

/// Method and path of `GET /path?query HTTP/1.1`.
fn parse_request_line(line: &[u8]) -> Option<(&str, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return None;
    }
    Some((method, target.split('?').next()?))
}

fn encode(answer: &Answer, with_body: bool) -> Vec<u8> {
    let allow = if answer.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: \
         close\r\n\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    )
    .into_bytes();
    if with_body {
        bytes.extend_from_slice(answer.body.as_bytes());
    }
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn start() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve("http-test", listener, Arc::new(|path| (path == "/health").then(|| Answer::text(200, "ok")))).unwrap();
        address
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn known_paths_are_answered_and_others_say_so() {
        let address = start();
        let answer = ask(address, b"GET /health?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let answer = ask(address, b"HEAD /health HTTP/1.0\r\n\r\n");
        assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        for (request, status) in [
            (&b"GET /nothing HTTP/1.1\r\n\r\n"[..], "404 Not Found"),
            (b"POST /health HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", "405 Method Not Allowed\r\n"),
            (b"GET health HTTP/1.1\r\n\r\n", "400 Bad Request"),
            (b"\x16\x03\x01\r\n\r\n", "400 Bad Request"),
        ] {
            let answer = ask(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    #[test]
    fn an_endless_header_is_cut_short() {
        let request = [b"GET /health HTTP/1.1\r\n".to_vec(), vec![b'a'; HEAD_BYTES_MAX + 1024]].concat();
        assert!(ask(start(), &request).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn silent_clients_keep_nobody_else_waiting_and_are_bounded() {
        let address = start();
        let silent: Vec<TcpStream> = (0..REQUESTS_MAX - 1).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(ask(address, b"GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        // So many that the last is one too many even if the first have been given up meanwhile.
        let more: Vec<TcpStream> = (0..=REQUESTS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut answer = String::new();
        (&more[REQUESTS_MAX]).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        drop(silent);
    }
}
