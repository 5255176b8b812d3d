//! Owns an HTTP server in this process that answers as a test says, and notes what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// Path and query, encoded as they came.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after this much of the body.
    breaks_off: Option<usize>,
    /// Nothing is answered, and the connection stays.
    silent: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn breaks_off(mut self, after: usize) -> Reply {
        self.breaks_off = Some(after);
        self
    }

    pub fn silent() -> Reply {
        Reply { silent: true, ..Reply::default() }
    }
}

type Answer = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

struct Inner {
    answer: Box<Answer>,
    /// No body is read, though it was asked for.
    is_hasty: bool,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<TcpStream>>,
    ending: AtomicBool,
}

/// The server; it ends when this is dropped.
pub struct Server {
    inner: Arc<Inner>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` is told the number of the request, from 0 on, and the request.
    pub fn start(answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(false, Box::new(answer))
    }

    /// Answers by the heads of requests, without their bodies, and ends each connection then, whatever else comes on it.
    pub fn hasty(answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(true, Box::new(answer))
    }

    fn start_with(is_hasty: bool, answer: Box<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            answer,
            is_hasty,
            seen: Mutex::default(),
            open: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        let accepting = std::thread::spawn(move || {
            let mut serving = Vec::new();
            for stream in listener.incoming().flatten() {
                if shared.ending.load(Ordering::SeqCst) {
                    break;
                }
                shared.open.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no fault of the server.
                serving.push(std::thread::spawn(move || drop(serve(&shared, stream))));
            }
            serving.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Server { inner, port, accepting: Some(accepting) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// Method and target of each request.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.ending.store(true, Ordering::SeqCst);
        for stream in self.inner.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.accepting.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the scripted server panicked");
        }
    }
}

fn serve(inner: &Inner, stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(mut seen) = read_head(&mut reader)? {
        if seen.header("expect") == "100-continue" {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = seen.header("content-length").parse().unwrap_or(0);
        seen.body.resize(if inner.is_hasty { 0 } else { length }, 0);
        reader.read_exact(&mut seen.body)?;
        let number = {
            let mut all = inner.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let reply = (inner.answer)(number, &seen);
        if reply.silent {
            continue;
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        if !reply.headers.iter().any(|(name, _)| name == "content-length") {
            head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        let body = &reply.body[..reply.breaks_off.unwrap_or(reply.body.len())];
        if seen.method != "HEAD" {
            writer.write_all(body)?;
        }
        if reply.breaks_off.is_some() || inner.is_hasty {
            writer.shutdown(Shutdown::Both)?;
            return Ok(());
        }
    }
    Ok(())
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen =
        Seen { method: words.next().unwrap_or_default(), target: words.next().unwrap_or_default(), ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            None => return Ok(Some(seen)),
            Some((name, value)) => seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
        }
    }
}
