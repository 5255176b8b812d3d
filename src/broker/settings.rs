//! Owns what the broker is told once, at start, and its source of random ids.

use std::sync::Arc;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::wire::Uuid;

/// Facts that hold for the life of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    /// Kafka's cluster id, as DescribeCluster and Metadata tell it.
    pub cluster_id: String,
    /// Host told to clients, or `None` for the address that their connection arrived at.
    pub advertised_host: Option<String>,
    /// Port told to clients, or `None` for the one that their connection arrived at.
    pub advertised_port: Option<u16>,
    /// Seeds the ids that the broker makes up; random in the server, fixed in the simulation.
    pub seed: u64,
    /// Whether metadata lives in the log (and so in checkpoints) or in files of its own.
    pub metadata_in_log: bool,
    /// What the broker counts, for whoever scrapes.
    pub metrics: Arc<Metrics>,
}

/// Random ids that are the same in every run with the same seed (splitmix64). They need to be unique, not secret.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A version 4 UUID that is none of Kafka's reserved ones.
    pub fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }
}
