//! Owns fetch sessions (KIP-227): what the broker remembers of a client's fetches, so that the client need not say it again
//! with each, and which sessions make room for others.
//!
//! A session knows which of its partitions have news: those whose answer may have changed since the client was told.
//! Only these are looked at when the client fetches, so that idle partitions cost nothing. Whoever changes a partition
//! says so to the sessions that watch it (`Partition::sessions`).
//!
//! Sessions live in memory only and belong to nobody: as in Kafka, who knows the number may use it, from any connection,
//! and a connection that ends takes no session with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{TopicKey, Want};
use crate::broker::topics::StableMap;
use crate::limits;
use crate::wal::PartitionId;

/// The epoch of a request that begins a session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants no session.
pub const FINAL_EPOCH: i32 = -1;
/// No session.
pub const NO_SESSION: i32 = 0;

/// A session that was not used for this long makes room for any other; one that is older may make room for a larger one
/// (Kafka's `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS: u64 = 120_000;

/// Names a partition within its session, for as long as it is there.
pub type Slot = u32;

/// What a client was told of a partition last; -1 is nothing, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
}

impl Told {
    pub const NOTHING: Told = Told { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 };
}

/// What an answer would say of a partition.
#[derive(Clone, Copy, Debug)]
pub struct News {
    pub told: Told,
    pub has_records: bool,
    /// An error, or that the client's log went another way: told every time.
    pub is_alarm: bool,
    /// Nothing will change until somebody changes the partition.
    pub is_idle: bool,
}

/// One partition of a session.
#[derive(Debug)]
pub struct SessionPart {
    pub topic: TopicKey,
    pub partition: i32,
    pub want: Want,
    /// The topic's name when it was last found.
    pub name: Option<Arc<str>>,
    /// The partition whose changes the session is told of.
    pub watching: Option<PartitionId>,
    told: Told,
    /// Its place in the order in which partitions are served.
    place: u64,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub id: i32,
    /// The epoch that the next request must have.
    pub epoch: i32,
    /// Whether a follower made it.
    privileged: bool,
    /// Whether topics are named by id (Fetch 13 and newer) or by name.
    pub by_id: bool,
    created_ms: u64,
    used_ms: u64,
    /// Its number of partitions when it was last used.
    counted: usize,
    slots: Vec<Option<SessionPart>>,
    free: Vec<Slot>,
    by_key: BTreeMap<(TopicKey, i32), Slot>,
    next_place: u64,
    /// Partitions with news, in the order in which they are served.
    ready: BTreeMap<u64, Slot>,
    /// Who asked last: an answer for another reader may be another one.
    pub reader: Reader,
    /// The fetch that is under way for it.
    pub fetch: Option<u64>,
}

/// What the answer to a request depends on besides its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    pub read_committed: bool,
    pub is_follower: bool,
}

impl Session {
    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn part(&self, slot: Slot) -> Option<&SessionPart> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn part_mut(&mut self, slot: Slot) -> Option<&mut SessionPart> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Partitions with news, in order.
    pub fn ready(&self) -> impl Iterator<Item = Slot> + '_ {
        self.ready.values().copied()
    }

    /// Adds a partition at the end, or changes what is wanted of it. Its news is looked for either way.
    pub fn set(&mut self, topic: TopicKey, partition: i32, want: Want) {
        let key = (topic, partition);
        if let Some(slot) = self.by_key.get(&key).copied() {
            if let Some(part) = self.part_mut(slot) {
                part.want = want;
            }
            return self.mark_ready(slot);
        }
        let place = self.take_place();
        let topic = key.0.clone();
        let told = Told::NOTHING;
        let part = SessionPart { topic, partition, want, name: None, watching: None, told, place };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as Slot
            }
        };
        self.slots[slot as usize] = Some(part);
        self.by_key.insert(key, slot);
        self.ready.insert(place, slot);
    }

    /// Adds a partition of which the client has been told this.
    pub fn begin_with(&mut self, topic: TopicKey, partition: i32, want: Want, name: Option<Arc<str>>, told: Told) {
        self.set(topic.clone(), partition, want);
        if let Some(part) = self.by_key.get(&(topic, partition)).copied().and_then(|slot| self.part_mut(slot)) {
            part.name = name;
            part.told = told;
        }
    }

    /// Takes a partition out, if it is there.
    pub fn forget(&mut self, topic: TopicKey, partition: i32) -> Option<SessionPart> {
        let slot = self.by_key.remove(&(topic, partition))?;
        let part = self.slots.get_mut(slot as usize)?.take()?;
        self.ready.remove(&part.place);
        self.free.push(slot);
        Some(part)
    }

    /// A partition may have news.
    pub fn mark_ready(&mut self, slot: Slot) {
        if let Some(place) = self.part(slot).map(|part| part.place) {
            self.ready.insert(place, slot);
        }
    }

    /// All partitions may have news.
    pub fn mark_all_ready(&mut self) {
        let places = self.slots.iter().zip(0..).filter_map(|(part, slot)| Some((part.as_ref()?.place, slot)));
        self.ready = places.collect();
    }

    /// A partition has none, until `mark_ready`.
    fn rest(&mut self, slot: Slot) {
        if let Some(place) = self.part(slot).map(|part| part.place) {
            self.ready.remove(&place);
        }
    }

    /// Whether the client has to be told.
    pub fn is_news(&self, slot: Slot, news: &News) -> bool {
        let is_new = |part: &SessionPart| part.told != news.told;
        news.has_records || news.is_alarm || self.part(slot).is_some_and(is_new)
    }

    /// The client is not told now; a partition where there is nothing to tell is left alone from here on.
    pub fn not_told(&mut self, slot: Slot, news: &News) {
        if news.is_idle && !self.is_news(slot, news) {
            self.rest(slot);
        }
    }

    /// The client is told now. A partition that gave records goes to the end, so that none is kept from its turn.
    pub fn told(&mut self, slot: Slot, news: &News) {
        if news.is_idle {
            self.rest(slot);
        }
        let place = news.has_records.then(|| self.take_place());
        let Some(part) = self.part_mut(slot) else { return };
        part.told = news.told;
        if let Some(place) = place {
            let before = std::mem::replace(&mut part.place, place);
            self.ready.remove(&before);
            self.ready.insert(place, slot);
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// All partitions, when the session ends.
    pub fn into_parts(self) -> impl Iterator<Item = SessionPart> {
        self.slots.into_iter().flatten()
    }

    fn rank(&self) -> Rank {
        Rank { privileged: self.privileged, partitions: self.counted, id: self.id }
    }
}

/// The epoch after `epoch`.
pub fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

/// Which sessions are worth more: followers' before consumers', then those with more partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    privileged: bool,
    partitions: usize,
    id: i32,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: StableMap<i32, Session>,
    by_use: BTreeSet<(u64, i32)>,
    /// Those that a follower's session may take the place of: consumers', and followers' of some age.
    for_followers: BTreeSet<Rank>,
    /// Those that any session may take the place of: of some age.
    for_all: BTreeSet<Rank>,
    /// Partitions of all sessions, as of their last use.
    partitions: usize,
}

impl Sessions {
    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Partitions that all sessions keep.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    pub fn get(&self, id: i32) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: i32) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    /// Whether a session of so many partitions fits, once `evict` has taken out what it finds.
    pub fn has_room(&self, slots_max: usize, partitions: usize) -> bool {
        self.by_id.len() < slots_max && self.partitions + partitions <= limits::FETCH_SESSION_PARTITIONS_MAX
    }

    /// The session that makes room for one of this kind: the one that was unused for longest if that is long enough,
    /// otherwise the least one, if it is worth no more than the new one.
    pub fn evictable(&self, now_ms: u64, privileged: bool, partitions: usize) -> Option<i32> {
        let (used_ms, oldest) = *self.by_use.first()?;
        if now_ms.saturating_sub(used_ms) > EVICTION_MS {
            return Some(oldest);
        }
        let candidates = if privileged { &self.for_followers } else { &self.for_all };
        let least = candidates.first()?;
        (Rank { privileged, partitions, id: 0 } >= *least).then_some(least.id)
    }

    /// Begins a session without partitions. The caller has made room and adds them, and calls `touch`.
    pub fn create(&mut self, now_ms: u64, random: u64, privileged: bool, by_id: bool) -> &mut Session {
        let mut id = (random >> 33) as i32;
        while id == NO_SESSION || self.by_id.contains_key(&id) {
            id = id.wrapping_add(1) & i32::MAX;
        }
        let session = Session {
            id,
            epoch: next_epoch(INITIAL_EPOCH),
            privileged,
            by_id,
            created_ms: now_ms,
            used_ms: now_ms,
            counted: 0,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            next_place: 0,
            ready: BTreeMap::new(),
            reader: Reader::default(),
            fetch: None,
        };
        self.by_id.entry(id).or_insert(session)
    }

    /// A session is used: it is counted as it is now, and its age decides who may take its place.
    pub fn touch(&mut self, now_ms: u64, id: i32) {
        self.uncount(id);
        let Some(session) = self.by_id.get_mut(&id) else { return };
        session.used_ms = now_ms;
        session.counted = session.by_key.len();
        self.partitions += session.counted;
        self.by_use.insert((now_ms, id));
        let is_aged = now_ms.saturating_sub(session.created_ms) > EVICTION_MS;
        if !session.privileged || is_aged {
            self.for_followers.insert(session.rank());
        }
        if is_aged {
            self.for_all.insert(session.rank());
        }
    }

    /// Ends a session.
    pub fn remove(&mut self, id: i32) -> Option<Session> {
        self.uncount(id);
        self.by_id.remove(&id)
    }

    fn uncount(&mut self, id: i32) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        self.by_use.remove(&(session.used_ms, id));
        self.for_followers.remove(&session.rank());
        self.for_all.remove(&session.rank());
        self.partitions -= std::mem::take(&mut session.counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    const OFTEN: u64 = EVICTION_MS + 1;

    fn want() -> Want {
        Want { offset: 0, bytes_max: 1, leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn topic() -> TopicKey {
        TopicKey::Id(Uuid([1; 16]))
    }

    fn add(sessions: &mut Sessions, now_ms: u64, privileged: bool, partitions: i32) -> i32 {
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(sessions.len() as u64 + now_ms + 1);
        let session = sessions.create(now_ms, random, privileged, true);
        let id = session.id;
        (0..partitions).for_each(|partition| session.set(topic(), partition, want()));
        sessions.touch(now_ms, id);
        id
    }

    fn news(told: i64, has_records: bool, is_idle: bool) -> News {
        let told = Told { high_watermark: told, last_stable_offset: told, log_start_offset: 0 };
        News { told, has_records, is_alarm: false, is_idle }
    }

    #[test]
    fn a_young_session_in_use_is_evicted_by_nobody_but_a_follower() {
        let mut sessions = Sessions::default();
        let young = add(&mut sessions, 0, false, 5);
        assert_eq!(sessions.evictable(10, false, 1000), None);
        assert_eq!(sessions.evictable(10, true, 1), Some(young));
        let follower = add(&mut sessions, 10, true, 5);
        sessions.remove(young);
        assert_eq!(sessions.evictable(20, true, 1000), None);
        sessions.touch(10 + OFTEN, follower);
        assert_eq!(sessions.evictable(10 + OFTEN, true, 1000), Some(follower));
        assert_eq!(sessions.evictable(10 + OFTEN, true, 4), None);
        assert_eq!(sessions.evictable(10 + OFTEN, false, 1000), None);
    }

    #[test]
    fn an_aged_session_makes_room_for_one_that_is_as_large_and_the_least_goes_first() {
        let mut sessions = Sessions::default();
        let large = add(&mut sessions, 0, false, 9);
        let small = add(&mut sessions, 1, false, 3);
        sessions.touch(OFTEN, large);
        sessions.touch(1 + OFTEN, small);
        assert_eq!(sessions.evictable(2 + OFTEN, false, 2), None);
        assert_eq!(sessions.evictable(2 + OFTEN, false, 4), Some(small));
        sessions.remove(small);
        assert_eq!(sessions.evictable(2 + OFTEN, false, 4), None);
        assert_eq!(sessions.evictable(2 + OFTEN, false, 10), Some(large));
        assert_eq!(sessions.partitions(), 9);
    }

    #[test]
    fn the_session_that_was_unused_for_longest_makes_room_for_any_other() {
        let mut sessions = Sessions::default();
        let a = add(&mut sessions, 0, true, 100);
        let b = add(&mut sessions, 1, false, 1);
        assert_eq!(sessions.evictable(EVICTION_MS, false, 1), None);
        assert_eq!(sessions.evictable(OFTEN, false, 1), Some(a));
        sessions.touch(OFTEN, a);
        assert_eq!(sessions.evictable(2 + OFTEN, false, 1), Some(b));
    }

    #[test]
    fn room_is_counted_in_sessions_and_in_partitions() {
        let mut sessions = Sessions::default();
        add(&mut sessions, 0, false, 10);
        assert!(sessions.has_room(2, limits::FETCH_SESSION_PARTITIONS_MAX - 10));
        assert!(!sessions.has_room(2, limits::FETCH_SESSION_PARTITIONS_MAX - 9));
        assert!(!sessions.has_room(1, 1));
        assert!(!sessions.has_room(0, 1));
    }

    #[test]
    fn partitions_with_records_go_to_the_end_and_idle_ones_rest() {
        let mut sessions = Sessions::default();
        let id = add(&mut sessions, 0, false, 3);
        let session = sessions.get_mut(id).unwrap();
        assert_eq!(session.ready().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(session.is_news(0, &news(0, false, true)));
        session.told(0, &news(7, true, false));
        session.told(1, &news(0, false, true));
        assert_eq!(session.ready().collect::<Vec<_>>(), [2, 0]);
        assert!(!session.is_news(1, &news(0, false, true)));
        assert!(session.is_news(1, &news(1, false, false)));
        session.mark_ready(1);
        assert_eq!(session.ready().collect::<Vec<_>>(), [1, 2, 0]);
        session.not_told(1, &news(0, false, true));
        session.not_told(2, &news(0, false, true));
        assert_eq!(session.ready().collect::<Vec<_>>(), [2, 0]);
        session.mark_all_ready();
        assert_eq!(session.ready().collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn a_forgotten_partition_is_gone_and_its_place_is_used_again() {
        let mut sessions = Sessions::default();
        let id = add(&mut sessions, 0, false, 2);
        let session = sessions.get_mut(id).unwrap();
        assert_eq!(session.forget(topic(), 0).unwrap().partition, 0);
        assert!(session.forget(topic(), 0).is_none());
        session.set(topic(), 5, want());
        assert_eq!(session.len(), 2);
        assert_eq!(session.ready().filter_map(|slot| Some(session.part(slot)?.partition)).collect::<Vec<_>>(), [1, 5]);
        session.set(topic(), 1, Want { offset: 9, ..want() });
        assert_eq!(session.part(1).unwrap().want.offset, 9);
    }

    #[test]
    fn epochs_go_round_without_the_special_ones() {
        assert_eq!([next_epoch(0), next_epoch(5), next_epoch(i32::MAX), next_epoch(-1)], [1, 6, 1, -1]);
    }
}
