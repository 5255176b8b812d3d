//! Owns the requests that wait until a worker has looked a regular expression up.

use super::api::send;
use super::consumer::patterns::MatchDone;
use super::ctx::{Client, Ctx, Node};
use super::group::Name;
use super::{Groups, Handled};
use crate::broker::reply::ReplyTo;
use crate::broker::ConnId;
use crate::wire::msg::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::ErrorCode;

/// A request that is carried out again when a pattern is known.
#[derive(Debug)]
pub(super) struct Waiting {
    to: ReplyTo,
    /// Of whom it is.
    group: Name,
    member: Name,
    body: Vec<u8>,
    /// The patterns that were not known.
    unknown: Vec<Name>,
    client_id: String,
    client_host: String,
    node_id: i32,
    node_host: String,
    node_port: i32,
}

impl Waiting {
    pub fn new(
        ctx: &Ctx<'_>,
        to: ReplyTo,
        body: &[u8],
        request: &ConsumerGroupHeartbeatRequest<'_>,
        unknown: Vec<Name>,
    ) -> Waiting {
        Waiting {
            to,
            group: request.group_id.into(),
            member: request.member_id.into(),
            body: body.to_vec(),
            unknown,
            client_id: ctx.client.id.to_owned(),
            client_host: ctx.client.host.to_owned(),
            node_id: ctx.node.id,
            node_host: ctx.node.host.to_owned(),
            node_port: ctx.node.port,
        }
    }

    /// Bytes of memory that it takes, roughly.
    pub fn bytes(&self) -> usize {
        // The names stand in the body too.
        232 + 2 * self.body.len() + self.client_id.len() + self.client_host.len() + self.node_host.len()
    }

    /// Whether it is a sign of life of this member.
    pub fn is_of(&self, group: &str, member: &str) -> bool {
        *self.group == *group && *self.member == *member
    }

    /// The server stops.
    pub fn refuse(&self, ctx: &mut Ctx<'_>) {
        let error_code = ErrorCode::NOT_COORDINATOR;
        send(ctx.out, self.to, &ConsumerGroupHeartbeatResponse { error_code, ..Default::default() });
    }
}

impl Groups {
    /// A worker has looked a pattern up: whoever waited for it is served, and groups that use it look at their topics again.
    pub fn matched(&mut self, ctx: &mut Ctx<'_>, done: MatchDone) {
        let pattern = done.pattern.clone();
        if self.patterns.done(done) {
            for group in self.groups.values_mut().filter_map(|group| group.consumer.as_mut()) {
                if group.patterns().any(|used| *used == pattern) {
                    group.topics_seen = None;
                }
            }
        }
        let waited = |waiting: &Waiting| waiting.unknown.contains(&pattern);
        let keys: Vec<(ConnId, u64)> =
            self.waiting.iter().filter(|(_, waiting)| waited(waiting)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(waiting) = self.waiting.remove(&key) else { continue };
            let mut ctx = Ctx {
                now: ctx.now,
                client: Client { id: &waiting.client_id, host: &waiting.client_host },
                node: Node { id: waiting.node_id, host: &waiting.node_host, port: waiting.node_port },
                topics: ctx.topics,
                out: &mut *ctx.out,
            };
            let handled = self.handle(&mut ctx, waiting.to, waiting.body[..].into());
            // It was read once already.
            debug_assert!(matches!(handled, Handled::Answered | Handled::Parked));
        }
    }

    /// Topics have come, gone, or got more partitions: groups look when a member is next heard of.
    pub fn topics_changed(&mut self) {
        self.patterns.topics_changed();
    }
}
