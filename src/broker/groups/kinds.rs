//! Owns the one namespace of group ids: of which kind a group is, and groups that other rooms keep.

use super::ctx::Ctx;
use super::group::GroupState;
use super::{persist, Groups};

/// What a group is. An id belongs to one kind at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// Members assign their partitions themselves (JoinGroup), or there are offsets only.
    Classic,
    /// The broker assigns partitions to members (KIP-848).
    Consumer,
    /// Members share partitions (KIP-932). Another room keeps these groups; here is only noted that the id is taken.
    Share,
}

impl GroupKind {
    /// Kafka's name for it, as ListGroups tells it.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
            GroupKind::Share => "share",
        }
    }
}

impl Groups {
    /// Of which kind the group is; `None` when the id is free. A group that has only offsets is classic.
    pub fn kind_of(&self, id: &str) -> Option<GroupKind> {
        let other = self.claimed.get(id).copied();
        other.or_else(|| self.groups.get(id).map(|group| group.kind()))
    }

    /// Takes an id for a group that another room keeps, when that room begins the group and for each group that it
    /// finds at recovery. A classic group that is empty makes way, and its offsets stay, as in Kafka.
    ///
    /// # Errors
    /// The kind of the group that has the id and keeps it.
    pub fn claim(&mut self, ctx: &mut Ctx<'_>, id: &str, kind: GroupKind) -> Result<(), GroupKind> {
        match self.kind_of(id) {
            Some(other) if other == kind => return Ok(()),
            Some(GroupKind::Classic) if self.groups.get(id).is_some_and(|g| g.state == GroupState::Empty) => {
                self.act(ctx.now, ctx.out, id, |group, env| {
                    group.cancel_all(env);
                    if group.persisted.is_some() {
                        env.out.meta(persist::group_value_entry(&group.id, None));
                    }
                    group.reset();
                    group.arm_offsets(env);
                });
            }
            Some(other) => return Err(other),
            None => {}
        }
        self.claim_recovered(id, kind);
        Ok(())
    }

    /// The same while the log is replayed, when nothing is appended and every id belongs to one group.
    pub fn claim_recovered(&mut self, id: &str, kind: GroupKind) {
        self.claimed.insert(id.into(), kind);
    }

    /// Gives an id back that was claimed: the other room's group has ended.
    pub fn release(&mut self, id: &str) {
        self.claimed.remove(id);
        self.claimed_states.remove(id);
    }

    /// In which of Kafka's states a claimed group is; one that is `Dead` has ended and may be given back.
    pub fn note_state(&mut self, id: &str, state: &'static str) {
        self.claimed_states.insert(id.into(), state);
    }

    /// Groups that other rooms keep: id, kind and state.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, GroupKind, &'static str)> {
        let state = |id| self.claimed_states.get(id).copied().unwrap_or("Empty");
        self.claimed.iter().map(move |(id, kind)| (&**id, *kind, state(id)))
    }
}
