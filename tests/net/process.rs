//! Owns the tests of the server's process: what it prints, what it answers, how it stops, what it costs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use chronik::options::exit;

/// A folder that goes when the test ends.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("chronik-net-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lines of standard error, and whether it has ended.
type Said = (Mutex<(Vec<String>, bool)>, Condvar);

/// A running server and what it has said so far.
pub struct Server {
    pub child: Child,
    said: Arc<Said>,
}

impl Server {
    /// Starts a server on free ports of the loopback address and does not wait.
    pub fn spawn(dir: &Path, args: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chronik-server"))
            .args(["-b", "127.0.0.1", "-p", "0", "-a", "0", "--metrics-port", "0", "--log-segment-bytes", "16777216"])
            .arg("-d")
            .arg(dir)
            .args(args)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Arc<Said> = Arc::default();
        let (stderr, theirs) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                theirs.0.lock().unwrap().0.push(line);
                theirs.1.notify_all();
            }
            theirs.0.lock().unwrap().1 = true;
            theirs.1.notify_all();
        });
        Server { child, said }
    }

    /// Starts a server and waits until it serves.
    pub fn start(dir: &Path, args: &[&str]) -> Server {
        let server = Server::spawn(dir, args);
        server.line("ready after");
        server
    }

    /// The first line with this text, waiting for it; panics when the server ends without it.
    pub fn line(&self, text: &str) -> String {
        let mut said = self.said.0.lock().unwrap();
        loop {
            if let Some(line) = said.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!said.1, "the server ended without saying '{text}': {:#?}", said.0);
            said = self.said.1.wait(said).unwrap();
        }
    }

    /// Everything said so far, for whom the server has disappointed.
    pub fn witness(&self) -> impl Fn() -> Vec<String> {
        let said = Arc::clone(&self.said);
        move || said.0.lock().unwrap().0.clone()
    }

    /// Everything said, after the end.
    pub fn lines_to_the_end(&self) -> Vec<String> {
        let mut said = self.said.0.lock().unwrap();
        while !said.1 {
            said = self.said.1.wait(said).unwrap();
        }
        said.0.clone()
    }

    /// The address behind `Kafka protocol on`, `admin on` or `metrics on`.
    pub fn address(&self, what: &str) -> SocketAddr {
        self.line(what).rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address("Kafka protocol on")).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops with SIGTERM and gives the exit status and all lines.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        (status, self.lines_to_the_end())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An ApiVersions request of version 0.
fn api_versions(correlation_id: i32) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 10, 0, 18, 0, 0];
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0xff, 0xff]);
    frame
}

/// Asks for the versions and checks that the answer is one.
fn is_served(stream: &mut TcpStream) -> bool {
    stream.write_all(&api_versions(77)).unwrap();
    let mut prefix = [0; 8];
    if stream.read_exact(&mut prefix).is_err() {
        return false;
    }
    let len = u32::from_be_bytes(prefix[..4].try_into().unwrap()) as usize;
    stream.read_exact(&mut vec![0; len - 4]).unwrap();
    prefix[4..] == 77i32.to_be_bytes()
}

#[test]
fn a_server_says_where_it_is_serves_and_stops_in_order() {
    let dir = TempDir::new("serve");
    for start in ["first", "second"] {
        let server = Server::start(&dir.0, &[]);
        server.line(&format!("INFO  chronik-server {}", env!("CARGO_PKG_VERSION")));
        server.line("INFO  data directory /");
        assert!(is_served(&mut server.connect()), "{start}");
        let admin = server.address("admin on");
        assert!(http(admin, "GET /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
        assert!(http(admin, "GET /ready HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        let text = http(server.address("metrics on"), "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(text.contains("\nchronik_requests_total{api=\"ApiVersions\"} 1\n"), "{text}");
        assert!(text.contains("\nchronik_connections_accepted_total 1\n"), "{text}");
        let idle = server.connect();
        let (status, lines) = server.stop();
        assert_eq!(status.code(), Some(0), "{lines:#?}");
        assert!(lines.last().unwrap().contains("stopped; everything acknowledged is on the disk"), "{lines:#?}");
        drop(idle);
    }
}

#[test]
fn sighup_says_what_it_does_and_harms_nothing() {
    let dir = TempDir::new("hup");
    let server = Server::start(&dir.0, &[]);
    let mut client = server.connect();
    server.signal("-HUP");
    server.line("SIGHUP");
    assert!(is_served(&mut client));
    assert_eq!(server.stop().0.code(), Some(0));
}

#[test]
fn a_taken_port_and_a_taken_directory_are_one_clear_sentence_each() {
    let dir = TempDir::new("taken");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut refused = Command::new(env!("CARGO_BIN_EXE_chronik-server"));
    refused.args(["-b", "127.0.0.1", "-p", &port, "-a", "off", "--metrics-port", "off", "-d"]).arg(&dir.0);
    let output = refused.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::UNAVAILABLE)), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.len() == 1 && errors[0].contains("the port is taken"), "{said}");

    let file = dir.0.join("file");
    std::fs::write(&file, "").unwrap();
    for (path, why) in [(file.clone(), "it is a file"), (file.join("data"), "is a file, so nothing can be made in it")]
    {
        let mut server = Server::spawn(&path, &[]);
        assert_eq!(server.child.wait().unwrap().code(), Some(i32::from(exit::IO)));
        let lines = server.lines_to_the_end();
        assert!(lines.last().unwrap().contains(why), "{lines:#?}");
    }

    let first = Server::start(&dir.0, &[]);
    let mut second = Server::spawn(&dir.0, &[]);
    assert_eq!(second.child.wait().unwrap().code(), Some(i32::from(exit::IN_USE)));
    let lines = second.lines_to_the_end();
    let pid = first.child.id().to_string();
    assert!(lines.last().unwrap().contains("in use") && lines.last().unwrap().contains(&pid), "{lines:#?}");
}

#[test]
fn weak_fsync_is_warned_about_once_and_stops_in_order_too() {
    for mode in ["never", "interval=50"] {
        let dir = TempDir::new("weak");
        let server = Server::start(&dir.0, &["--fsync", mode]);
        let (status, lines) = server.stop();
        let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("WARN")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("fsync"), "{lines:#?}");
        assert!(status.success() && lines.last().unwrap().contains("everything acknowledged"), "{lines:#?}");
    }
}

#[test]
fn metadata_moves_between_its_stores_only_when_asked() {
    let dir = TempDir::new("convert");
    assert!(Server::start(&dir.0, &[]).stop().0.success());
    let mut refused = Server::spawn(&dir.0, &["--file-metadata"]);
    assert_eq!(refused.child.wait().unwrap().code(), Some(i32::from(exit::DATA)));
    assert!(refused.lines_to_the_end().last().unwrap().contains("--convert-metadata"));
    for args in [&["--file-metadata"][..], &[]] {
        let mut convert = Server::spawn(&dir.0, &[args, &["--convert-metadata"]].concat());
        assert!(convert.child.wait().unwrap().success(), "{:#?}", convert.lines_to_the_end());
        let server = Server::start(&dir.0, args);
        assert!(is_served(&mut server.connect()));
        assert!(server.stop().0.success());
    }
}

#[test]
fn bad_input_is_one_line_with_who_and_why_and_never_a_flood() {
    let dir = TempDir::new("garbage");
    let server = Server::start(&dir.0, &[]);
    let cases: [(&[u8], &str); 4] = [
        (&[0x16, 0x03, 0x01, 0x02], "it speaks TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP request to the Kafka port"),
        (&[0xff; 4], "frame of -1 bytes"),
        (&[0x7f, 0, 0, 0], "socket.request.max.bytes"),
    ];
    for (bytes, why) in cases {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let who = stream.local_addr().unwrap().to_string();
        let line = server.line(&who);
        assert!(line.contains(why) && line.contains("WARN"), "{line}");
    }
    for _ in 0..200 {
        let mut stream = server.connect();
        stream.write_all(&[0xff; 64]).unwrap();
        let _ = stream.read(&mut [0]);
    }
    assert!(is_served(&mut server.connect()));
    let (_, lines) = server.stop();
    let complaints = lines.iter().filter(|line| line.contains("closed the connection")).count();
    // Each ten seconds allow five of a kind; the test may be slow, but not that slow.
    assert!(complaints < 100, "{complaints} lines for 204 connections");
}

/// Voluntary context switches of every thread of the process.
#[cfg(target_os = "linux")]
fn switches(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        let count = line.split_whitespace().last().unwrap().parse().unwrap();
        (fs::read_to_string(path.join("comm")).unwrap().trim().to_string(), count)
    };
    tasks.map(|task| read(task.unwrap().path())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_server_makes_no_wake_ups_in_any_thread() {
    let dir = TempDir::new("idle");
    let server = Server::start(&dir.0, &[]);
    let mut client = server.connect();
    assert!(is_served(&mut client));
    // It has settled when two looks in a row agree; then a longer look must agree too.
    let pid = server.child.id();
    let mut before = switches(pid);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let after = switches(pid);
        if after == before {
            break;
        }
        before = after;
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(pid), before);
}

#[cfg(target_os = "linux")]
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn thousands_of_idle_connections_cost_little_memory() {
    let dir = TempDir::new("many");
    let count = (chronik::sys::socket::raise_open_files_limit().unwrap() / 4).min(3000) as usize;
    let server = Server::start(&dir.0, &[]);
    assert!(is_served(&mut server.connect()));
    let before = resident_bytes(server.child.id());
    let idle: Vec<TcpStream> = (0..count)
        .map(|i| {
            let mut stream = server.connect();
            if i % 2 == 0 {
                assert!(is_served(&mut stream));
            } else {
                stream.write_all(&api_versions(1)[..i % 13]).unwrap();
            }
            stream
        })
        .collect();
    assert!(is_served(&mut server.connect()));
    let each = resident_bytes(server.child.id()).saturating_sub(before) / count as u64;
    assert!(each < 4096, "{each} bytes of memory per idle connection");
    drop(idle);
}
