//! Owns share sessions: which partitions a member fetches from, and that its requests come one after the other (KIP-932).

use std::collections::{BTreeMap, BTreeSet};

use super::runs::Name;
use crate::broker::ConnId;
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::ErrorCode;

/// The epoch that opens a session.
pub(super) const OPEN: i32 = 0;
/// The epoch that closes it.
pub(super) const CLOSE: i32 = -1;

/// Bytes that a session's partition takes in memory, roughly.
const PARTITION_BYTES: usize = 32;

/// Group and member.
pub(super) type SessionKey = (Name, Name);

#[derive(Debug)]
struct Session {
    /// The connection of the last request. The session ends with it.
    conn: ConnId,
    /// What the next request has to say.
    epoch: i32,
    partitions: BTreeSet<PartitionId>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionKey, Session>,
    by_conn: BTreeMap<ConnId, BTreeSet<SessionKey>>,
    partitions: usize,
}

impl Sessions {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn bytes(&self) -> usize {
        self.sessions.len() * 256 + self.partitions * PARTITION_BYTES
    }

    /// Opens a session in place of one that the member may have. What it has acquired stays acquired.
    ///
    /// # Errors
    /// SHARE_SESSION_LIMIT_REACHED.
    pub fn open(
        &mut self,
        key: SessionKey,
        conn: ConnId,
        partitions: BTreeSet<PartitionId>,
        sessions_max: usize,
    ) -> Result<(), ErrorCode> {
        self.remove(&key);
        let full = self.partitions + partitions.len() > limits::SHARE_SESSION_PARTITIONS_MAX;
        if self.sessions.len() >= sessions_max || full {
            return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        }
        self.partitions += partitions.len();
        self.by_conn.entry(conn).or_default().insert(key.clone());
        self.sessions.insert(key, Session { conn, epoch: OPEN + 1, partitions });
        Ok(())
    }

    /// Whether there is such a session.
    ///
    /// # Errors
    /// SHARE_SESSION_NOT_FOUND.
    pub fn find(&self, key: &SessionKey) -> Result<(), ErrorCode> {
        self.sessions.get(key).map(|_| ()).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)
    }

    /// A session's next request.
    ///
    /// # Errors
    /// SHARE_SESSION_NOT_FOUND or INVALID_SHARE_SESSION_EPOCH.
    pub fn next(&mut self, key: &SessionKey, conn: ConnId, epoch: i32) -> Result<(), ErrorCode> {
        let session = self.sessions.get_mut(key).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
        }
        session.epoch = if epoch == i32::MAX { OPEN + 1 } else { epoch + 1 };
        let before = std::mem::replace(&mut session.conn, conn);
        if before != conn {
            self.forget_conn(before, key);
            self.by_conn.entry(conn).or_default().insert(key.clone());
        }
        Ok(())
    }

    /// Adds partitions and takes others out.
    ///
    /// # Errors
    /// SHARE_SESSION_LIMIT_REACHED when all sessions together would have too many; nothing was added then.
    pub fn update(
        &mut self,
        key: &SessionKey,
        add: impl Iterator<Item = PartitionId> + Clone,
        forget: impl Iterator<Item = PartitionId>,
    ) -> Result<(), ErrorCode> {
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let before = session.partitions.len();
        let new: BTreeSet<PartitionId> = add.filter(|id| !session.partitions.contains(id)).collect();
        if self.partitions + new.len() > limits::SHARE_SESSION_PARTITIONS_MAX {
            return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        }
        session.partitions.extend(new);
        for id in forget {
            session.partitions.remove(&id);
        }
        self.partitions = self.partitions + session.partitions.len() - before;
        Ok(())
    }

    /// The session's partitions, beginning with another one at each request, so that none is last for ever.
    pub fn rotated(&self, key: &SessionKey, epoch: i32) -> Vec<PartitionId> {
        let Some(session) = self.sessions.get(key) else { return Vec::new() };
        let mut partitions: Vec<PartitionId> = session.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let first = epoch.unsigned_abs() as usize % partitions.len();
            partitions.rotate_left(first);
        }
        partitions
    }

    /// Ends a session; its partitions.
    pub fn remove(&mut self, key: &SessionKey) -> Option<BTreeSet<PartitionId>> {
        let session = self.sessions.remove(key)?;
        self.partitions -= session.partitions.len();
        self.forget_conn(session.conn, key);
        Some(session.partitions)
    }

    /// The sessions that end with a connection.
    pub fn of_conn(&self, conn: ConnId) -> Vec<SessionKey> {
        self.by_conn.get(&conn).into_iter().flatten().cloned().collect()
    }

    fn forget_conn(&mut self, conn: ConnId, key: &SessionKey) {
        if let Some(keys) = self.by_conn.get_mut(&conn) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_conn.remove(&conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_follows_its_member_to_another_connection() {
        let key: SessionKey = ("g".into(), "m".into());
        let id = |partition| PartitionId { topic: crate::wire::Uuid([1; 16]), partition };
        let mut sessions = Sessions::default();
        assert_eq!(sessions.next(&key, ConnId(1), 1), Err(ErrorCode::SHARE_SESSION_NOT_FOUND));
        sessions.open(key.clone(), ConnId(1), [id(0), id(1)].into(), 1).unwrap();
        assert_eq!(sessions.next(&key, ConnId(1), 2), Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH));
        assert_eq!(sessions.next(&key, ConnId(2), 1), Ok(()));
        assert!(sessions.of_conn(ConnId(1)).is_empty());
        assert_eq!(sessions.of_conn(ConnId(2)), std::slice::from_ref(&key));
        let other = ("g".into(), "n".into());
        assert_eq!(sessions.open(other, ConnId(3), BTreeSet::new(), 1), Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED));
        sessions.update(&key, [id(2)].into_iter(), [id(0)].into_iter()).unwrap();
        assert_eq!(sessions.rotated(&key, 3), [id(2), id(1)]);
        assert_eq!(sessions.remove(&key), Some([id(1), id(2)].into()));
        assert_eq!((sessions.len(), sessions.partitions), (0, 0));
    }

    #[test]
    fn partitions_of_all_share_sessions_are_bounded_and_make_room() {
        let most = limits::SHARE_SESSION_PARTITIONS_MAX as i32;
        let ids = |numbers: std::ops::Range<i32>| {
            numbers.map(|partition| PartitionId { topic: crate::wire::Uuid([1; 16]), partition })
        };
        let key = |member: &str| -> SessionKey { ("g".into(), member.into()) };
        let mut sessions = Sessions::default();
        sessions.open(key("a"), ConnId(1), ids(0..most - 10).collect(), 9).unwrap();
        let refused = Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        assert_eq!(sessions.open(key("b"), ConnId(1), ids(0..11).collect(), 9), refused);
        assert_eq!(sessions.open(key("b"), ConnId(1), ids(0..9).collect(), 9), Ok(()));
        assert_eq!(sessions.update(&key("b"), ids(0..11), ids(0..0)), refused);
        assert_eq!(sessions.rotated(&key("b"), 0).len(), 9, "nothing was added");
        assert_eq!(sessions.update(&key("b"), ids(0..10), ids(0..0)), Ok(()));
        // What is named again takes no room, and what is gone gives it back.
        assert_eq!(sessions.update(&key("a"), ids(0..10), ids(0..5)), Ok(()));
        assert_eq!(sessions.update(&key("b"), ids(0..15), ids(0..0)), Ok(()));
        assert_eq!(sessions.update(&key("b"), ids(15..16), ids(0..0)), refused);
        sessions.remove(&key("a"));
        assert_eq!(sessions.partitions, 15);
    }
}
