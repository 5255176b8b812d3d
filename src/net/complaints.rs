//! Owns what the log says about misbehaving clients: one line each, and never more than a person can read.

use std::net::{IpAddr, SocketAddr};

use crate::logging::RateLimited;

/// Lines of one kind per `WINDOW_MS`; more are only counted.
const LINES_PER_WINDOW: u32 = 5;

/// Length of a window in ms.
const WINDOW_MS: i64 = 10_000;

/// What a line is about. Each kind has its own allowance, so that noise of one kind does not hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes that are not Kafka's protocol.
    Garbage,
    /// A limit on connections was met.
    Limit,
    /// A client sends or reads too slowly.
    Slow,
    /// The broker asked to close the connection.
    Broker,
    /// A file or socket failed in a way that is not the client's doing.
    Failure,
}

/// How many kinds there are.
const KINDS: usize = 5;

/// Writes rate-limited lines about connections.
#[derive(Debug)]
pub struct Complaints {
    limits: RateLimited<Kind>,
}

impl Default for Complaints {
    fn default() -> Complaints {
        Complaints { limits: RateLimited::new(LINES_PER_WINDOW, WINDOW_MS, KINDS) }
    }
}

impl Complaints {
    /// Says that the connection from `peer` was closed (or not taken), and why; or counts it.
    pub fn closed(&mut self, now_ms: u64, kind: Kind, peer: SocketAddr, why: &str) {
        match self.limits.allow(&kind, i64::try_from(now_ms).unwrap_or(i64::MAX)) {
            Some(0) => log::warn!("closed the connection from {}: {why}", shown(peer)),
            Some(unsaid) => {
                log::warn!("closed the connection from {}: {why} (and {unsaid} more for such reasons)", shown(peer));
            }
            None => {}
        }
    }
}

/// An address as people know it: an IPv4 client of an IPv6 socket is shown as IPv4.
pub fn shown(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(plain_ip(peer.ip()), peer.port())
}

/// The IPv4 address inside an IPv4-mapped one, so that one client counts as one.
pub fn plain_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_shown_plainly() {
        assert_eq!(shown("[::ffff:10.0.0.1]:9".parse().unwrap()).to_string(), "10.0.0.1:9");
        assert_eq!(shown("[::1]:9".parse().unwrap()).to_string(), "[::1]:9");
    }
}
