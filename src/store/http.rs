//! Owns HTTP for the clouds: one request and its answer, with bounds on time and size, and what failures of the
//! network mean. Statuses are for the callers to judge.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{http, Agent, SendBody};

use super::source::SourceReader;
use super::text::from_http_date;
use super::{Kind, Source, StoreError, Tuning};
use crate::limits;

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    /// Nothing, not even a length: GET, HEAD, DELETE.
    None,
    /// These bytes, possibly none.
    Bytes(&'a [u8]),
    /// The bytes from the first place to the second of a source.
    Piece(&'a dyn Source, u64, u64),
    /// Such a piece with something before and behind it.
    Framed(&'a [u8], &'a dyn Source, &'a [u8]),
}

impl Body<'_> {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Piece(_, from, to) => to - from,
            Body::Framed(before, source, behind) => source.size() + (before.len() + behind.len()) as u64,
        }
    }
}

/// A request. The address is complete and percent-encoded.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Body<'a>,
    /// Bytes that the answer may have without being late.
    pub expected: u64,
}

impl<'a> Request<'a> {
    pub fn new(method: &'static str, url: String, body: Body<'a>) -> Request<'a> {
        Request { method, url, headers: Vec::new(), body, expected: 0 }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// An answer, whatever its status; its body is still to be read.
pub(super) struct Response {
    inner: http::Response<ureq::Body>,
    peer: Arc<str>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} of {})", self.status(), self.peer)
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    pub fn is_success(&self) -> bool {
        self.inner.status().is_success()
    }

    /// A header's value; empty if it isn't there or isn't text.
    pub fn header(&self, name: &str) -> &str {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// How long the peer wants to be left alone (RFC 9110, section 10.2.3), in a bound.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after");
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let now = from_http_date(self.header("date"))?;
                u64::try_from(from_http_date(text)? - now).ok()? / 1000
            }
        };
        Some(Duration::from_secs(seconds.min(limits::STORE_RETRY_AFTER_SECONDS_MAX)))
    }

    /// The body as text, of at most [`limits::STORE_ANSWER_BYTES_MAX`].
    pub fn text(self) -> Result<String, StoreError> {
        let peer = Arc::clone(&self.peer);
        let mut bytes = Vec::new();
        let max = limits::STORE_ANSWER_BYTES_MAX;
        match self.inner.into_body().into_reader().take(max + 1).read_to_end(&mut bytes) {
            Err(error) => Err(failure(&peer, ureq::Error::from(error))),
            Ok(count) if count as u64 > max => {
                Err(StoreError::new(Kind::Other, format!("{peer} answered with more than {max} bytes.")))
            }
            Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The body, to be read as it comes. A body that ends early is an error of the reader.
    pub fn into_reader(self) -> impl Read {
        self.inner.into_body().into_reader()
    }
}

/// A client of one peer, with its connections.
pub(super) struct Http {
    agent: Agent,
    tuning: Tuning,
    requests: AtomicU64,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({} requests)", self.requests.load(Ordering::Relaxed))
    }
}

impl Http {
    /// A client that trusts the certificates in `ca_file`, or the usual ones. `by_proxy`: HTTPS_PROXY and the like count.
    pub fn new(tuning: &Tuning, ca_file: Option<&Path>, by_proxy: bool) -> Result<Http, StoreError> {
        let roots = match ca_file {
            None => RootCerts::WebPki,
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("chronik/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(tuning.connect))
            .timeout_connect(Some(tuning.connect))
            .timeout_per_read(Some(tuning.idle))
            .timeout_per_write(Some(tuning.idle))
            .output_buffer_size(limits::STORE_SEND_BYTES)
            .max_idle_age(Duration::from_secs(limits::STORE_IDLE_CONNECTION_SECONDS))
            .max_idle_connections_per_host(limits::STORE_IDLE_CONNECTIONS);
        if !by_proxy {
            config = config.proxy(None);
        }
        Ok(Http { agent: Agent::new_with_config(config.build()), tuning: tuning.clone(), requests: AtomicU64::new(0) })
    }

    /// Requests that were made so far, the failed ones too.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Makes a request, once, and reads the answer's head.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let peer: Arc<str> = origin(&request.url).into();
        match &request.body {
            Body::None => self.run(request, &peer, SendBody::none()),
            Body::Bytes(bytes) => self.run_reader(request, &peer, &mut io::Cursor::new(bytes)),
            Body::Piece(source, from, to) => {
                let mut reader = SourceReader::new(*source, *from, *to);
                let sent = self.run_reader(request, &peer, &mut reader);
                source_or(reader, sent)
            }
            Body::Framed(before, source, behind) => {
                let mut reader = SourceReader::new(*source, 0, source.size());
                let sent = self.run_reader(request, &peer, &mut before.chain(&mut reader).chain(*behind));
                source_or(reader, sent)
            }
        }
    }

    fn run_reader(
        &self,
        request: &Request<'_>,
        peer: &Arc<str>,
        reader: &mut dyn Read,
    ) -> Result<Response, StoreError> {
        self.run(request, peer, SendBody::from_reader(reader))
    }

    fn run(&self, request: &Request<'_>, peer: &Arc<str>, body: SendBody<'_>) -> Result<Response, StoreError> {
        let mut builder = http::Request::builder().method(request.method).uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let size = request.body.size();
        if !matches!(request.body, Body::None) {
            builder = builder.header("content-length", size);
        }
        if size > limits::STORE_ASK_FIRST_BYTES {
            // Who refuses says so before the bytes are sent.
            builder = builder.header("expect", "100-continue");
        }
        let slowest =
            (size + request.expected.min(limits::STORE_EXPECTED_BYTES_MAX)) / limits::STORE_BYTES_PER_SECOND_MIN;
        let longest = self.tuning.connect + 2 * self.tuning.idle + Duration::from_secs(slowest);
        let request = builder.body(body).map_err(|e| failure(peer, ureq::Error::from(e)))?;
        let request = self.agent.configure_request(request).timeout_global(Some(longest)).build();
        match self.agent.run(request) {
            Ok(inner) => Ok(Response { inner, peer: Arc::clone(peer) }),
            Err(error) => Err(failure(peer, error)),
        }
    }
}

/// What reading the source failed with, if it did; the connection's failure is a consequence.
fn source_or(reader: SourceReader<'_>, sent: Result<Response, StoreError>) -> Result<Response, StoreError> {
    match reader.failed {
        None => sent,
        Some(error) => Err(StoreError::new(Kind::Source, format!("What should be uploaded can't be read: {error}."))),
    }
}

/// Scheme, host and port of an address, for people: nothing behind them, which may be a secret.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// An error of a connection, as one of a store.
pub(super) fn failure(peer: &str, error: ureq::Error) -> StoreError {
    let said = |kind, text: String| StoreError::new(kind, format!("{peer} {text}."));
    match error {
        ureq::Error::Timeout(_) => said(Kind::Timeout, "did not answer in time".into()),
        ureq::Error::HostNotFound => nameless(peer),
        // The standard library has no kind of its own for a name that isn't resolved.
        ureq::Error::Io(error) if error.to_string().starts_with("failed to lookup address") => nameless(peer),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => said(Kind::Timeout, "did not answer in time".into()),
            io::ErrorKind::ConnectionRefused => said(Kind::Unavailable, "refuses connections".into()),
            // This is how failures of TLS come: a certificate is not trusted, or the peer speaks something else.
            io::ErrorKind::InvalidData => said(Kind::Other, format!("can't be spoken to safely: {error}")),
            _ => said(Kind::Unavailable, format!("broke the connection: {error}")),
        },
        error @ (ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired) => {
            said(Kind::Other, format!("can't be spoken to safely: {error}"))
        }
        error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl) => {
            said(Kind::Other, format!("can't be asked: {error}"))
        }
        error => said(Kind::Unavailable, format!("can't be understood: {error}")),
    }
}

fn nameless(peer: &str) -> StoreError {
    StoreError::new(Kind::Unavailable, format!("{peer} has no address that the name service knows."))
}

/// Certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, StoreError> {
    let wrong = |what: &str| StoreError::new(Kind::Other, format!("The certificates in {} {what}.", path.display()));
    let file = std::fs::File::open(path).map_err(|e| wrong(&format!("can't be read: {e}")))?;
    let mut pem = Vec::new();
    let read = file.take(limits::STORE_ANSWER_BYTES_MAX).read_to_end(&mut pem);
    read.map_err(|e| wrong(&format!("can't be read: {e}")))?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| wrong("are no valid PEM"))? {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(wrong("are none: there is no CERTIFICATE in the file")),
        false => Ok(found),
    }
}
