//! Owns the virtual clients: small state machines that speak Kafka and remember what they are owed.

mod admin;
mod checker;
mod compactor;
mod consumer;
mod group_member;
mod group_watch;
mod keyed;
mod member;
mod offsets;
mod producer;
mod share_member;
mod share_watch;
mod stray;
mod txn_producer;
mod txn_reader;

use chronik::broker::Now;

use super::batch;
use super::model::Model;
use super::proto::{Answer, Ask};
use super::rng::Rng;

pub use admin::Admin;
pub use checker::Checker;
pub use compactor::Compactor;
pub use consumer::Consumer;
pub use group_member::{GroupMember, Manners};
pub use group_watch::GroupWatch;
pub use member::Member;
pub use offsets::Offsets;
pub use producer::Producer;
pub use share_member::ShareMember;
pub use share_watch::ShareWatch;
pub use stray::{Stray, NOWHERE};
pub use txn_producer::TxnProducer;
pub use txn_reader::TxnReader;

/// What the names of compacted topics begin with.
pub const COMPACTED: &str = "compact";

/// What a client can do when it is its turn.
pub struct Turn<'a> {
    pub rng: &'a mut Rng,
    pub now: Now,
    pub model: &'a mut Model,
    pub ids: &'a mut Ids,
    /// Requests to send, in order.
    pub out: Vec<(i32, i16, Ask)>,
    /// When it wants its next turn, if not now already asked for.
    pub again_us: Option<u64>,
    /// Nothing new is to be begun: the run is coming to its end.
    pub closing: bool,
    /// Producers may compress.
    pub codecs: bool,
}

/// Numbers that are never given twice in a run.
#[derive(Debug, Default)]
pub struct Ids {
    correlation: i32,
    tag: u64,
    commit: u64,
}

impl Ids {
    pub fn tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    pub fn commit(&mut self) -> u64 {
        self.commit += 1;
        self.commit
    }
}

impl Turn<'_> {
    /// Sends a request; its correlation id.
    pub fn send(&mut self, version: i16, ask: Ask) -> i32 {
        self.ids.correlation += 1;
        self.out.push((self.ids.correlation, version, ask));
        self.ids.correlation
    }

    pub fn again(&mut self, low_us: u64, high_us: u64) {
        let at = self.rng.range(low_us, high_us);
        self.again_us = Some(self.again_us.map_or(at, |before| before.min(at)));
    }

    /// A batch as a client would send it: some compress, in runs in which that is done.
    pub fn packed(&mut self, batch: bytes::Bytes) -> bytes::Bytes {
        if !self.codecs || self.rng.chance(40) {
            return batch;
        }
        batch::compressed(&batch, *self.rng.pick(&batch::CODECS).unwrap_or(&1))
    }

    /// The least version of Fetch that brings whatever is there: zstd came with version 10.
    pub fn fetch_version_min(&self) -> u64 {
        if self.codecs {
            10
        } else {
            4
        }
    }

    /// Names of topics that clients may use now, with their numbers of partitions; without those that are compacted.
    pub fn topics(&self, steady_only: bool) -> Vec<(String, i32)> {
        self.topics_that(|name, steady| !name.starts_with(COMPACTED) && (steady || !steady_only))
    }

    /// Those that are compacted and there to stay.
    pub fn compacted(&self) -> Vec<(String, i32)> {
        self.topics_that(|name, steady| name.starts_with(COMPACTED) && steady)
    }

    /// All of them, for who only reads.
    pub fn readable(&self, steady_only: bool) -> Vec<(String, i32)> {
        self.topics_that(|_, steady| steady || !steady_only)
    }

    fn topics_that(&self, may: impl Fn(&str, bool) -> bool) -> Vec<(String, i32)> {
        let known = self.model.topics.iter().filter(|(name, topic)| topic.may_exist && may(name, topic.steady));
        known.map(|(name, topic)| (name.clone(), topic.partitions_min)).collect()
    }
}

/// A virtual client with one connection.
pub trait Actor: std::fmt::Debug {
    /// Its time has come, or it has just lost its connection and waited a little.
    fn act(&mut self, turn: &mut Turn<'_>);
    /// An answer arrived.
    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String>;
    /// The connection is gone; whatever was not answered never will be.
    fn disconnected(&mut self);
    /// The server is up (again).
    fn start(&mut self) {}
    /// Nothing is owed to it.
    fn is_idle(&self) -> bool;
}
