//! Owns who may commit and fetch offsets of a consumer group (KIP-848, KIP-1251).

use super::ConsumerGroup;
use crate::wire::{ErrorCode, Uuid};

impl ConsumerGroup {
    /// Whether a commit is allowed. A member that does not know its newest epoch yet may commit for the partitions that it
    /// has had since the epoch it knows. `is_new_version`: the request is of a version that knows of epochs.
    pub fn check_commit(
        &self,
        member_id: &str,
        epoch: i32,
        is_new_version: bool,
        mut partitions: impl Iterator<Item = (Uuid, i32)>,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && self.is_empty() {
            // An administrator, or a consumer that assigns its partitions itself.
            return Ok(());
        }
        let member = self.member(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !member.is_classic() && !is_new_version {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let current = &member.current;
        let has_since = |(topic, partition)| current.assigned_in(topic, partition).is_some_and(|given| epoch >= given);
        if epoch == current.epoch || epoch < current.epoch && partitions.all(has_since) {
            return Ok(());
        }
        Err(stale(member.is_classic()))
    }

    /// Whether a fetch is allowed. Who says nothing of a member may always ask.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.member(id)).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if epoch == member.current.epoch {
            Ok(())
        } else {
            Err(stale(member.is_classic()))
        }
    }
}

fn stale(is_classic: bool) -> ErrorCode {
    if is_classic {
        ErrorCode::ILLEGAL_GENERATION
    } else {
        ErrorCode::STALE_MEMBER_EPOCH
    }
}
