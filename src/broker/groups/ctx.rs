//! Owns what the group coordinator is given with each event: the time, the client, the topics, and where answers go.

use std::sync::Arc;

use super::super::effect::Now;
use super::super::reply::ReplyTo;
use super::consumer::patterns::MatchJob;
use crate::wal::MetaEntry;
use crate::wire::Uuid;

/// Who sends the request.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The request header's client id; empty when it has none.
    pub id: &'a str,
    /// The client's address as DescribeGroups shows it; Kafka writes a slash in front.
    pub host: &'a str,
}

/// This broker, as the client of the connection is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub id: i32,
    pub host: &'a str,
    pub port: i32,
}

/// What the group coordinator has to know of topics.
pub trait TopicLookup {
    /// Number of partitions; `None` when there is no such topic.
    fn partitions(&self, name: &str) -> Option<i32>;
    fn name_of(&self, id: Uuid) -> Option<&str>;
    fn id_of(&self, name: &str) -> Option<Uuid>;
    /// Names of all topics, in order.
    fn names(&self) -> Vec<Arc<str>>;
}

/// Where the group coordinator's effects go.
///
/// A reply waits until all metadata given before it is durable; that is the receiver's duty.
pub trait Outbox {
    /// Answers a request: a whole response frame, length in front.
    fn reply(&mut self, to: ReplyTo, frame: Vec<u8>);
    /// Appends a change of metadata.
    fn meta(&mut self, entry: MetaEntry);
    /// Appends changes that are durable together, or not at all.
    fn metas(&mut self, entries: Vec<MetaEntry>) {
        entries.into_iter().for_each(|entry| self.meta(entry));
    }
    /// Has a worker look a regular expression up; answered by `Groups::matched`.
    fn match_topics(&mut self, job: MatchJob);
    /// A random id that was not given before.
    fn random_uuid(&mut self) -> Uuid;
}

/// What comes with each event.
pub struct Ctx<'a> {
    pub now: Now,
    pub client: Client<'a>,
    pub node: Node<'a>,
    pub topics: &'a dyn TopicLookup,
    pub out: &'a mut dyn Outbox,
}
