//! Owns a small blocking Kafka client: connections, negotiated versions, and which broker to ask.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::failure::{Failure, ERROR, UNREACHABLE};
use super::output::safe;
use crate::limits;
use crate::wire::msg::{
    ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse,
};
use crate::wire::{self, frame, Api, ApiKey, ErrorCode, Message, Request};

/// What the tool calls itself to brokers.
const CLIENT_ID: &str = "chronik";

/// How long one of several addresses is tried before the next, so that a dead one does not take all the time.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// An answer, kept with its version.
#[derive(Debug)]
pub struct Reply {
    frame: Vec<u8>,
    body_at: usize,
    version: i16,
    from: String,
}

impl Reply {
    /// The message in it.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, Failure> {
        wire::decode(&self.frame[self.body_at..], self.version)
            .map_err(|error| Failure::error(format!("{} answered what is no {}: {error}.", self.from, M::API.name)))
    }
}

/// A connection to one broker.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    address: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
    deadline: Instant,
}

impl Conn {
    /// Connects and asks what the broker speaks. Everything on the connection ends at `deadline`.
    pub fn open(host: &str, port: u16, deadline: Instant) -> Result<Conn, Failure> {
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let address = safe(&shown);
        let unreachable = |why: String| Failure::new(UNREACHABLE, format!("Cannot reach {address}: {why}."));
        let addresses = (host, port).to_socket_addrs().map_err(|error| unreachable(error.to_string()))?;
        let mut why = "the name has no address".to_owned();
        let mut stream = None;
        for socket in addresses {
            match TcpStream::connect_timeout(&socket, remaining(deadline).min(CONNECT_TIME)) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => why = error.to_string(),
            }
        }
        let stream = stream.ok_or_else(|| unreachable(why))?;
        // Requests are small and waited for; without this some would wait for an acknowledgement as well.
        let _ = stream.set_nodelay(true);
        let mut conn = Conn { stream, address, versions: BTreeMap::new(), correlation_id: 0, deadline };
        conn.negotiate()?;
        Ok(conn)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// KIP-511: a broker that does not know the version answers in version 0, with the versions that it knows.
    fn negotiate(&mut self) -> Result<(), Failure> {
        for version in [3, 0] {
            let request = ApiVersionsRequest {
                client_software_name: CLIENT_ID,
                client_software_version: env!("CARGO_PKG_VERSION"),
                ..Default::default()
            };
            let mut reply = self.exchange(version, &request)?;
            let code = reply.frame.get(reply.body_at..reply.body_at + 2).map(|b| i16::from_be_bytes([b[0], b[1]]));
            if code == Some(ErrorCode::UNSUPPORTED_VERSION.0) {
                reply.version = 0;
                if version != 0 {
                    continue;
                }
            }
            let answer: ApiVersionsResponse<'_> = reply.decode()?;
            if answer.error_code.is_error() {
                return Err(Failure::broker(&self.address, answer.error_code, None));
            }
            let known = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
            self.versions = known.collect();
            return Ok(());
        }
        Err(Failure::error(format!("{} does not say what it speaks.", self.address)))
    }

    /// The newest version of an API that both sides know.
    pub fn version_of(&self, api: &Api) -> Option<i16> {
        let (min, max) = *self.versions.get(&api.key.0)?;
        let version = max.min(api.stable);
        (version >= min.max(api.min)).then_some(version)
    }

    /// Sends a request in the newest common version and waits for the answer.
    pub fn call<'q, Q: Request<'q>>(&mut self, request: &Q) -> Result<Reply, Failure> {
        let Some(version) = self.version_of(Q::API) else {
            return Err(Failure::error(format!("{} does not serve {}.", self.address, Q::API.name)));
        };
        self.exchange(version, request)
    }

    fn exchange<'q, Q: Request<'q>>(&mut self, version: i16, request: &Q) -> Result<Reply, Failure> {
        self.correlation_id += 1;
        let encoded = frame::request(version, self.correlation_id, Some(CLIENT_ID), request);
        let frame = self.send_and_receive(&encoded.bytes).map_err(|error| self.failed(Q::API, &error))?;
        let (correlation_id, body) = frame::parse_response(Q::API, version, &frame)
            .map_err(|error| Failure::error(format!("{} answered what is no Kafka: {error}.", self.address)))?;
        if correlation_id != self.correlation_id {
            return Err(Failure::error(format!("{} answered another request than was sent.", self.address)));
        }
        let body_at = frame.len() - body.len();
        Ok(Reply { frame, body_at, version, from: self.address.clone() })
    }

    fn failed(&self, api: &Api, error: &io::Error) -> Failure {
        let address = &self.address;
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::new(UNREACHABLE, format!("{address} did not answer {} in time.", api.name))
            }
            io::ErrorKind::InvalidData => Failure::new(ERROR, format!("{address} is no Kafka broker: {error}.")),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if api.key == ApiKey::API_VERSIONS => {
                let sentence =
                    format!("{address} closed the connection at the first request; it may want TLS, or be no broker.");
                Failure::new(UNREACHABLE, sentence)
            }
            _ => Failure::new(UNREACHABLE, format!("The connection to {address} failed: {error}.")),
        }
    }

    fn send_and_receive(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.set_write_timeout(Some(remaining(self.deadline)))?;
        self.stream.write_all(bytes)?;
        let mut length = [0; 4];
        self.read(&mut length)?;
        let length = match usize::try_from(i32::from_be_bytes(length)) {
            Ok(length) if length <= limits::TOOL_RESPONSE_BYTES_MAX => length,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has an impossible length")),
        };
        // Memory follows what has arrived, not what was announced.
        let mut frame = Vec::new();
        while frame.len() < length {
            let from = frame.len();
            frame.resize((from + limits::READ_PIECE_BYTES).min(length), 0);
            self.read(&mut frame[from..])?;
        }
        Ok(frame)
    }

    fn read(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            self.stream.set_read_timeout(Some(remaining(self.deadline)))?;
            match self.stream.read(buf) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed")),
                Ok(read) => buf = &mut buf[read..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Time until the deadline; never zero, which sockets take for "for ever".
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// A cluster as its brokers describe it, with the connections that were needed so far.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Conn,
    nodes: BTreeMap<i32, Conn>,
    /// Where each broker says that it is reached.
    places: BTreeMap<i32, (String, u16)>,
    deadline: Instant,
}

impl Cluster {
    /// Connects to the first of some brokers that answers, with a sentence about each that did not.
    pub fn connect(brokers: &str, deadline: Instant) -> Result<(Cluster, Vec<String>), Failure> {
        let mut passed_over = Vec::new();
        let mut last = None;
        for broker in brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()) {
            let (host, port) = split_address(broker)?;
            match Conn::open(&host, port, deadline) {
                Ok(bootstrap) => {
                    let (nodes, places) = Default::default();
                    return Ok((Cluster { bootstrap, nodes, places, deadline }, passed_over));
                }
                Err(Failure::Said { sentence, code }) => {
                    passed_over.push(sentence.clone());
                    last = Some(Failure::Said { sentence, code });
                }
                Err(other) => return Err(other),
            }
        }
        match (last, passed_over.len()) {
            (Some(failure), 1) => Err(failure),
            (Some(_), _) => Err(Failure::new(UNREACHABLE, passed_over.join(" "))),
            (None, _) => Err(Failure::usage("--brokers names no broker; give HOST:PORT.")),
        }
    }

    /// The broker that was reached first.
    pub fn address(&self) -> &str {
        self.bootstrap.address()
    }

    /// Milliseconds that a broker may take for a request, so that its own answer comes before the end of all patience.
    pub fn request_timeout_ms(&self) -> i32 {
        let ms = remaining(self.deadline).as_millis() * 9 / 10;
        i32::try_from(ms).unwrap_or(i32::MAX).max(1)
    }

    /// Asks any broker.
    pub fn any(&mut self) -> &mut Conn {
        &mut self.bootstrap
    }

    /// The brokers and some topics, or all with `None`. Remembers where the brokers are.
    pub fn metadata(&mut self, topics: Option<&[&str]>) -> Result<Reply, Failure> {
        let named = topics.map(|names| {
            let named =
                names.iter().map(|name| wire::msg::MetadataRequestTopic { name: Some(name), ..Default::default() });
            named.collect()
        });
        let request = MetadataRequest { topics: named, allow_auto_topic_creation: false, ..Default::default() };
        let reply = self.bootstrap.call(&request)?;
        let answer: MetadataResponse<'_> = reply.decode()?;
        for broker in &answer.brokers {
            let port = u16::try_from(broker.port).unwrap_or(0);
            self.places.insert(broker.node_id, (broker.host.to_owned(), port));
        }
        Ok(reply)
    }

    /// A connection to one broker, made when it is first needed. `metadata` was asked before.
    pub fn node(&mut self, id: i32) -> Result<&mut Conn, Failure> {
        let deadline = self.deadline;
        match self.nodes.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let Some((host, port)) = self.places.get(&id) else {
                    return Err(Failure::new(UNREACHABLE, format!("Broker {id} is not there.")));
                };
                Ok(entry.insert(Conn::open(host, *port, deadline)?))
            }
        }
    }

    /// The ids of the brokers.
    pub fn node_ids(&self) -> Vec<i32> {
        self.places.keys().copied().collect()
    }

    /// The broker that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<i32, Failure> {
        loop {
            let request = FindCoordinatorRequest { key: group, coordinator_keys: vec![group], ..Default::default() };
            let reply = self.bootstrap.call(&request)?;
            let answer: FindCoordinatorResponse<'_> = reply.decode()?;
            let found = match answer.coordinators.first() {
                Some(one) => (one.error_code, one.error_message, one.node_id, one.host, one.port),
                None => (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port),
            };
            let (error, message, node, host, port) = found;
            if error.is_none() {
                self.places.insert(node, (host.to_owned(), u16::try_from(port).unwrap_or(0)));
                return Ok(node);
            }
            // A cluster that keeps its first offset just now makes a topic for it, which takes a moment.
            let is_passing =
                matches!(error, ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
            if !is_passing || Instant::now() >= self.deadline {
                return Err(Failure::broker(&format!("Group {}", safe(group)), error, message));
            }
            std::thread::sleep(remaining(self.deadline).min(Duration::from_millis(100)));
        }
    }
}

/// `HOST:PORT`, `HOST`, `[ADDRESS]:PORT`; the port is Kafka's 9092 when there is none.
fn split_address(text: &str) -> Result<(String, u16), Failure> {
    let wrong = || {
        let shown = crate::options::quoted(text);
        Failure::usage(format!("--brokers: {shown} is not valid; give HOST:PORT."))
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("9092")).ok_or_else(wrong)?)
        }
        None if text.matches(':').count() > 1 => (text, "9092"),
        None => text.split_once(':').unwrap_or((text, "9092")),
    };
    match (host.is_empty(), port.parse()) {
        (false, Ok(port)) if port > 0 => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        let split = |text: &str| split_address(text).ok();
        assert_eq!(split("h:1"), Some(("h".into(), 1)));
        assert_eq!(split("h"), Some(("h".into(), 9092)));
        assert_eq!(split("[::1]:5"), Some(("::1".into(), 5)));
        assert_eq!(split("::1"), Some(("::1".into(), 9092)));
        for wrong in ["h:", "h:x", ":1", "h:0", "h:99999", "[::1", "[::1]x"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
