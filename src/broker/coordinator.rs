//! Owns the joint between the broker and its group coordinator: what a group request is given, and where answers go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::dispatch::Request;
use super::gather::Gather;
use super::groups::{
    Assignor, Client, Ctx, GroupSettings, Handled, MatchDone, MatchJob, MigrationPolicy, Node, Outbox, Overrides,
    TopicLookup,
};
use super::reply::{Conns, ReplyTo};
use super::settings::Rng;
use super::topics::Topics;
use super::work::WorkJob;
use super::{Broker, Effect, Now, Response};
use crate::config::Config;
use crate::limits;
use crate::wal::{GroupSeq, MetaEntry};
use crate::wire::{ApiKey, DecodeError, Uuid};

/// What the group coordinator does to the rest of the broker.
struct Out<'a> {
    gather: &'a mut Gather,
    conns: &'a mut Conns,
    effects: &'a mut VecDeque<Effect>,
    durable: GroupSeq,
    rng: &'a mut Rng,
}

impl Outbox for Out<'_> {
    fn reply(&mut self, to: ReplyTo, frame: Vec<u8>) {
        let response = Response { head: frame, inserts: Vec::new() };
        let wait = self.gather.meta_seq();
        self.conns.fill(to.conn, to.slot, wait, Some(response), self.durable, self.effects);
    }

    fn meta(&mut self, entry: MetaEntry) {
        self.gather.meta(entry);
    }

    fn metas(&mut self, entries: Vec<MetaEntry>) {
        self.gather.metas(entries);
    }

    fn match_topics(&mut self, job: MatchJob) {
        self.effects.push_back(Effect::Work(WorkJob::Match(job)));
    }

    fn random_uuid(&mut self) -> Uuid {
        self.rng.uuid()
    }
}

impl TopicLookup for Topics {
    fn partitions(&self, name: &str) -> Option<i32> {
        self.by_name(name).map(|topic| topic.partitions.len() as i32)
    }

    fn name_of(&self, id: Uuid) -> Option<&str> {
        self.by_id(id).map(|topic| &*topic.name)
    }

    fn id_of(&self, name: &str) -> Option<Uuid> {
        Topics::id_of(self, name)
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.iter().map(|topic| topic.name.clone()).collect()
    }
}

/// The coordinator's part of the settings.
pub fn group_settings(config: &Config) -> GroupSettings {
    GroupSettings {
        group_min_session_timeout_ms: config.group_min_session_timeout_ms,
        group_max_session_timeout_ms: config.group_max_session_timeout_ms,
        group_initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        group_max_size: config.group_max_size,
        consumer_session_timeout_ms: config.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        consumer_assignment_interval_ms: config.group_consumer_assignment_interval_ms,
        consumer_max_size: config.group_consumer_max_size,
        consumer_assignors: config.group_consumer_assignors.split(',').filter_map(Assignor::parse).collect(),
        consumer_migration_policy: MigrationPolicy::parse(config.group_consumer_migration_policy).unwrap_or_default(),
        offsets_retention_ms: config.offsets_retention_ms,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        ..GroupSettings::default()
    }
}

impl Broker {
    /// Hands a request to the group coordinator.
    pub(super) fn group_request(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        // Commits and generations are appended; on a full disk they have a reserve, and after that nothing is promised.
        if !self.has_space_for_groups() && APPENDING.contains(&ApiKey(req.to.key)) {
            self.met_full_disk(req.now);
            self.close(req.to.conn, "the disk is full, so the group coordinator can promise nothing");
            return Ok(());
        }
        if req.to.key == ApiKey::DELETE_GROUPS.0 {
            self.end_share_groups_of(req)?;
        }
        let (host, port) = self.advertised(req.to.conn);
        let peer = self.conns.info(req.to.conn).map(|info| info.peer.ip().to_canonical().to_string());
        let peer = format!("/{}", peer.unwrap_or_default());
        let client = Client { id: req.client_id, host: &peer };
        let node = Node { id: self.settings.config.node_id, host: &host, port };
        let handled = self.with_groups(req.now, client, node, |groups, ctx| groups.handle(ctx, req.to, req.body));
        match handled {
            Handled::Malformed(error) => return Err(error),
            Handled::NotOurs => self.close(req.to.conn, "it asked the group coordinator for something else"),
            Handled::Answered | Handled::Parked => {}
        }
        Ok(())
    }

    /// Whether the log has room for what one group request can append at most.
    pub(super) fn has_space_for_groups(&self) -> bool {
        let change = limits::GROUP_CHANGE_BYTES.min(self.settings.config.log_segment_bytes as usize / 8);
        (self.unwritten_bytes() + change) as u64 <= self.space_bytes
    }

    /// A group's configurations have changed, or were found in the log.
    pub(super) fn override_group(&mut self, group: &str) {
        let configs = self.group_configs(group);
        let overrides = Overrides {
            session_timeout_ms: Some(configs.consumer_session_timeout_ms.into()),
            heartbeat_interval_ms: Some(configs.consumer_heartbeat_interval_ms.into()),
            assignment_interval_ms: Some(configs.consumer_assignment_interval_ms.into()),
        };
        self.groups.set_overrides(group, overrides);
    }

    /// Carries out the coordinator's timers that are due.
    pub(super) fn expire_groups(&mut self, now: Now) {
        if self.groups.deadline_us().is_some_and(|at| at <= now.mono_us) {
            self.with_groups(now, NOBODY, NOWHERE, |groups, ctx| groups.expire(ctx));
        }
    }

    /// Offsets committed for topics end with them.
    pub(super) fn topics_were_deleted(&mut self, now: Now, names: &BTreeSet<String>) {
        self.with_groups(now, NOBODY, NOWHERE, |groups, ctx| groups.topics_deleted(ctx, names));
    }

    /// Topics were created or deleted, or have more partitions: groups that subscribe to them have to know.
    pub(super) fn topics_have_changed(&mut self) {
        self.groups.topics_changed();
    }

    /// A worker has looked up which topics a regular expression stands for.
    pub(super) fn group_topics_matched(&mut self, now: Now, done: MatchDone) {
        self.with_groups(now, NOBODY, NOWHERE, |groups, ctx| groups.matched(ctx, done));
    }

    /// Answers everyone who waits in a group: the server stops.
    pub(super) fn stop_groups(&mut self, now: Now) {
        self.with_groups(now, NOBODY, NOWHERE, |groups, ctx| groups.stop(ctx));
    }

    /// How far each group is behind, for the metrics: group, topic, partition, records.
    pub fn consumer_group_lag(&self) -> impl Iterator<Item = (String, String, i32, i64)> + '_ {
        self.groups.lag().filter_map(|committed| {
            let topic = self.topics.by_name(committed.topic)?;
            let partition = topic.partitions.get(usize::try_from(committed.partition).ok()?)?;
            let lag = (partition.log.high_watermark - committed.offset).max(0);
            Some((committed.group.to_owned(), committed.topic.to_owned(), committed.partition, lag))
        })
    }

    fn with_groups<R>(
        &mut self,
        now: Now,
        client: Client<'_>,
        node: Node<'_>,
        act: impl FnOnce(&mut super::groups::Groups, &mut Ctx<'_>) -> R,
    ) -> R {
        let mut out = Out {
            gather: &mut self.gather,
            conns: &mut self.conns,
            effects: &mut self.effects,
            durable: self.durable,
            rng: &mut self.rng,
        };
        let mut ctx = Ctx { now, client, node, topics: &self.topics, out: &mut out };
        act(&mut self.groups, &mut ctx)
    }
}

/// Requests that may append to the log.
const APPENDING: [ApiKey; 7] = [
    ApiKey::JOIN_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::LEAVE_GROUP,
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_DELETE,
    ApiKey::DELETE_GROUPS,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
];

/// For events that no client caused.
const NOBODY: Client<'static> = Client { id: "", host: "" };
const NOWHERE: Node<'static> = Node { id: -1, host: "", port: 0 };
