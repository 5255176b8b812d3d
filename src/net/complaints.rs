//! Owns what the log says about misbehaving clients: one line each, and never more than a person can read.

use std::net::IpAddr;
use std::net::SocketAddr;

/// Lines of one kind per `WINDOW_US`; more are only counted.
const LINES_PER_WINDOW: u32 = 5;

/// Length of a window in µs.
const WINDOW_US: u64 = 10_000_000;

/// What a line is about. Each kind has its own allowance, so that noise of one kind does not hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

const KINDS: usize = 5;

/// Writes rate-limited lines about connections.
#[derive(Debug, Default)]
pub struct Complaints {
    windows: [Window; KINDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begun_us: u64,
    lines: u32,
    unsaid: u64,
}

impl Complaints {
    /// Says that the connection from `peer` was closed (or not taken), and why; or counts it.
    pub fn closed(&mut self, now_us: u64, kind: Kind, peer: SocketAddr, why: &str) {
        match self.allow(now_us, kind) {
            Some(0) => log::warn!("closed the connection from {}: {why}", shown(peer)),
            Some(unsaid) => {
                log::warn!("closed the connection from {}: {why} (and {unsaid} more for such reasons)", shown(peer));
            }
            None => {}
        }
    }

    /// Whether a line may be written now; if so, how many were swallowed since the last.
    fn allow(&mut self, now_us: u64, kind: Kind) -> Option<u64> {
        let window = &mut self.windows[kind as usize];
        if window.lines > 0 && now_us.saturating_sub(window.begun_us) >= WINDOW_US {
            window.lines = 0;
        }
        if window.lines == 0 {
            window.begun_us = now_us;
        }
        if window.lines >= LINES_PER_WINDOW {
            window.unsaid += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.unsaid))
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
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let mut complaints = Complaints::default();
        let said: Vec<Option<u64>> = (0..1000).map(|i| complaints.allow(i, Kind::Garbage)).collect();
        assert_eq!(said.iter().flatten().count(), LINES_PER_WINDOW as usize);
        assert_eq!(complaints.allow(5, Kind::Slow), Some(0), "other kinds are heard");
        assert_eq!(complaints.allow(WINDOW_US, Kind::Garbage), Some(1000 - u64::from(LINES_PER_WINDOW)));
        assert_eq!(complaints.allow(WINDOW_US + 1, Kind::Garbage), Some(0));
    }

    #[test]
    fn mapped_addresses_are_shown_plainly() {
        assert_eq!(shown("[::ffff:10.0.0.1]:9".parse().unwrap()).to_string(), "10.0.0.1:9");
        assert_eq!(shown("[::1]:9".parse().unwrap()).to_string(), "[::1]:9");
    }
}
