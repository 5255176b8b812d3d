//! Owns what ties fetches to sessions: beginning and ending them, what a request changes in one, which of its partitions
//! are looked at, and what of an answer the client has not heard yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answer::news_is_idle;
use super::request::{self, Wanted};
use super::session::{next_epoch, News, Session, SessionPart, FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION};
use super::{At, Fetch, Found, Part, Source, TopicKey};
use crate::broker::dispatch::Request;
use crate::broker::topics::Partition;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::FetchRequest;
use crate::wire::ErrorCode;

/// What an answer is made of.
pub(super) struct Settled {
    pub session_id: i32,
    pub error_code: ErrorCode,
    /// The partitions that are told, by their places in the fetch, in the order in which they are told.
    pub told: Vec<usize>,
}

impl Broker {
    /// Finds where a request's partitions come from, and those that it names itself.
    pub(super) fn open_fetch(
        &mut self,
        req: &Request<'_>,
        request: &FetchRequest<'_>,
    ) -> Result<(Source, Vec<Part>), ErrorCode> {
        let wanted = self.wanted(request, req.to.version);
        let source = match request.session_epoch {
            INITIAL_EPOCH | FINAL_EPOCH => {
                // A request that is whole ends the session that it names, whatever it wants next.
                self.close_session(req.now, request.session_id);
                let is_follower = request::reader(request, req.to.version).is_follower;
                let wants_none = request.session_epoch == FINAL_EPOCH || request::has_impossible_names(request);
                if wants_none {
                    Source::Request
                } else {
                    Source::NewSession(is_follower)
                }
            }
            _ => self.continue_session(req, request, &wanted)?,
        };
        let parts = match source {
            Source::Session { .. } => Vec::new(),
            Source::Request | Source::NewSession(_) => wanted.into_iter().map(|wanted| self.part(wanted)).collect(),
        };
        Ok((source, parts))
    }

    fn part(&self, (topic, partition, want): Wanted) -> Part {
        let (at, _) = self.find(&topic, partition, None);
        Part { topic, partition, want, at, slot: None, read: None }
    }

    /// Where a partition is now, and its topic's name. `known` is the name that the id had when it was found last.
    fn find(&self, key: &TopicKey, partition: i32, known: Option<&Arc<str>>) -> (At, Option<Arc<str>>) {
        let topic = match key {
            TopicKey::Name(name) => self.topics.by_name(name),
            TopicKey::Id(id) => self.topics.by_id(*id),
        };
        let has = |id| self.topics.partition(PartitionId { topic: id, partition }).is_some();
        match (topic, key, known) {
            (Some(topic), ..) if has(topic.id) => {
                (At::Here(PartitionId { topic: topic.id, partition }), Some(topic.name.clone()))
            }
            (Some(topic), ..) => (At::Absent(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Some(topic.name.clone())),
            (None, TopicKey::Id(_), None) => (At::Absent(ErrorCode::UNKNOWN_TOPIC_ID), None),
            // A session that knew the topic: as in Kafka it now looks for the name, which may be another topic's.
            (None, TopicKey::Id(_), Some(name)) if self.topics.id_of(name).is_some_and(has) => {
                (At::Wrong(ErrorCode::INCONSISTENT_TOPIC_ID), None)
            }
            (None, ..) => (At::Absent(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), None),
        }
    }

    /// Takes a request into the session that it names.
    fn continue_session(
        &mut self,
        req: &Request<'_>,
        request: &FetchRequest<'_>,
        wanted: &[Wanted],
    ) -> Result<Source, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let session = self.fetches.sessions.get_mut(id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != request::is_by_id(req.to.version) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        for (topic, partition, want) in wanted {
            session.set(topic.clone(), *partition, *want);
        }
        let reader = request::reader(request, req.to.version);
        if std::mem::replace(&mut session.reader, reader) != reader {
            session.mark_all_ready();
        }
        self.forget(id, request, req.to.version);
        let sessions = &mut self.fetches.sessions;
        let Some(session) = sessions.get_mut(id) else { return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) };
        if session.is_empty() {
            self.close_session(req.now, id);
            return Ok(Source::Request);
        }
        session.epoch = next_epoch(epoch);
        let overtaken = session.fetch.take();
        sessions.touch(req.now.mono_ms(), id);
        if sessions.partitions() > limits::FETCH_SESSION_PARTITIONS_MAX || request::has_impossible_names(request) {
            // The client goes on without one.
            self.close_session(req.now, id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        self.count_sessions();
        // Somebody else uses the session at the same time; only one of the two can go on.
        if let Some(overtaken) = overtaken.filter(|fetch| self.is_parked(*fetch)) {
            self.answer_now(req.now, overtaken);
        }
        Ok(Source::Session { id, epoch })
    }

    fn forget(&mut self, id: i32, request: &FetchRequest<'_>, version: i16) {
        for topic in &request.forgotten_topics_data {
            let key = self.topic_key(version, topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                let Some(session) = self.fetches.sessions.get_mut(id) else { return };
                if let Some(part) = session.forget(key.clone(), *partition) {
                    self.unwatch(id, &part);
                }
            }
        }
    }

    fn unwatch(&mut self, id: i32, part: &SessionPart) {
        if let Some(partition) = part.watching.and_then(|id| self.topics.partition_mut(id)) {
            partition.sessions.retain(|(session, _)| *session != id);
        }
    }

    /// Ends a session, if it is there. A fetch that waits for it is answered.
    fn close_session(&mut self, now: Now, id: i32) {
        let Some(session) = self.fetches.sessions.remove(id) else { return };
        let waiting = session.fetch;
        for part in session.into_parts() {
            self.unwatch(id, &part);
        }
        if let Some(waiting) = waiting.filter(|fetch| self.is_parked(*fetch)) {
            self.answer_now(now, waiting);
        }
        self.count_sessions();
    }

    fn is_parked(&self, fetch: u64) -> bool {
        self.fetches.by_id.get(&fetch).is_some_and(|fetch| fetch.reading == 0 && !fetch.in_line)
    }

    fn count_sessions(&self) {
        let (metrics, sessions) = (&self.settings.metrics, &self.fetches.sessions);
        metrics.fetch_sessions.set(i64::try_from(sessions.len()).unwrap_or(i64::MAX));
        metrics.fetch_session_partitions.set(i64::try_from(sessions.partitions()).unwrap_or(i64::MAX));
    }

    /// Gives a fetch the partitions of its session that may have news, and has the session watch those that it has found.
    pub(super) fn refresh(&mut self, fetch: &mut Fetch) {
        let Source::Session { id, epoch } = fetch.source else { return };
        fetch.parts.clear();
        let Some(session) = own(self.fetches.sessions.get(id), epoch) else { return };
        let ready: Vec<_> = session.ready().collect();
        fetch.parts.reserve(ready.len());
        for slot in ready {
            let Some(known) = self.fetches.sessions.get(id).and_then(|session| session.part(slot)) else { continue };
            let (topic, partition, want) = (known.topic.clone(), known.partition, known.want);
            let at = match known.watching {
                Some(id) => At::Here(id),
                None => {
                    let (at, name) = self.find(&topic, partition, known.name.as_ref());
                    if let At::Here(at) = at {
                        if let Some(partition) = self.topics.partition_mut(at) {
                            partition.sessions.push((id, slot));
                        }
                    }
                    let part = self.fetches.sessions.get_mut(id).and_then(|session| session.part_mut(slot));
                    if let Some(part) = part {
                        part.name = name.or(part.name.take());
                        part.watching = if let At::Here(at) = at { Some(at) } else { None };
                    }
                    at
                }
            };
            fetch.parts.push(Part { topic, partition, want, at, slot: Some(slot), read: None });
        }
    }

    /// Whether no partition of a fetch is there, so that nothing will ever come.
    pub(super) fn waits_for_nothing(&self, fetch: &Fetch) -> bool {
        let all = match fetch.source {
            Source::Request | Source::NewSession(_) => fetch.parts.len(),
            Source::Session { id, epoch } => own(self.fetches.sessions.get(id), epoch).map_or(0, Session::len),
        };
        fetch.parts.len() >= all && fetch.parts.iter().all(Part::is_absent)
    }

    /// A fetch waits: its session leaves alone what has nothing to tell.
    pub(super) fn let_rest(&mut self, fetch: &Fetch, found: &[Found]) {
        let Source::Session { id, .. } = fetch.source else { return };
        for (part, found) in fetch.parts.iter().zip(found).filter(|(_, found)| news_is_idle(found)) {
            let news = self.news(part, found);
            if let (Some(session), Some(slot)) = (self.fetches.sessions.get_mut(id), part.slot) {
                session.not_told(slot, &news);
            }
        }
    }

    /// A partition has changed: the sessions that watch it learn of it. Their fetches that are parked.
    pub(super) fn notice(&mut self, id: PartitionId) -> Vec<u64> {
        let watchers = self.topics.partition(id).map_or(&[][..], |partition| &partition.sessions);
        let mut parked = Vec::new();
        for (id, slot) in watchers {
            let Some(session) = self.fetches.sessions.get_mut(*id) else { continue };
            session.mark_ready(*slot);
            parked.extend(session.fetch);
        }
        parked.retain(|fetch| self.is_parked(*fetch));
        parked
    }

    /// Partitions have been taken out: the sessions that watch them look for them anew. Their fetches that are parked.
    pub(super) fn notice_gone(&mut self, partitions: &[Partition]) -> BTreeSet<u64> {
        let mut parked = BTreeSet::new();
        for (id, slot) in partitions.iter().flat_map(|partition| &partition.sessions) {
            let Some(session) = self.fetches.sessions.get_mut(*id) else { continue };
            if let Some(part) = session.part_mut(*slot) {
                part.watching = None;
            }
            session.mark_ready(*slot);
            parked.extend(session.fetch);
        }
        parked.retain(|fetch| self.is_parked(*fetch));
        parked
    }

    /// Decides what of an answer is told, and has the session remember it. `order` are the places of the fetch's
    /// partitions, in the order in which they would be told.
    pub(super) fn settle(&mut self, now: Now, fetch: &Fetch, order: Vec<usize>, news: &[News]) -> Settled {
        let all = |session_id, told| Settled { session_id, error_code: ErrorCode::NONE, told };
        let (id, epoch) = match fetch.source {
            Source::Request => return all(NO_SESSION, order),
            Source::NewSession(privileged) => {
                return all(self.begin_session(now, fetch, privileged, &order, news), order);
            }
            Source::Session { id, epoch } => (id, epoch),
        };
        let Some(session) = self.fetches.sessions.get_mut(id) else {
            // It was ended while its fetch was under way. What was found is told; the next fetch learns the rest.
            let found = |place: &usize| news[*place].has_records || news[*place].is_alarm;
            return all(id, order.into_iter().filter(found).collect());
        };
        if session.epoch != next_epoch(epoch) {
            let error_code = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
            return Settled { session_id: id, error_code, told: Vec::new() };
        }
        let mut told = Vec::new();
        for place in order {
            let (Some(slot), news) = (fetch.parts[place].slot, &news[place]) else { continue };
            if session.is_news(slot, news) {
                session.told(slot, news);
                told.push(place);
            } else {
                session.not_told(slot, news);
            }
        }
        all(id, told)
    }

    /// Begins a session with what is told now, if there is room for one or another makes room. Its id, or `NO_SESSION`.
    fn begin_session(&mut self, now: Now, fetch: &Fetch, privileged: bool, order: &[usize], news: &[News]) -> i32 {
        let slots_max = self.settings.config.max_incremental_fetch_session_cache_slots;
        let (now_ms, size) = (now.mono_ms(), fetch.parts.len());
        if !self.fetches.sessions.has_room(slots_max, size) {
            let Some(other) = self.fetches.sessions.evictable(now_ms, privileged, size) else { return NO_SESSION };
            self.close_session(now, other);
            self.settings.metrics.fetch_sessions_evicted.inc();
            if !self.fetches.sessions.has_room(slots_max, size) {
                return NO_SESSION;
            }
        }
        let by_id = request::is_by_id(fetch.to.version);
        let random = self.rng.next_u64();
        let session = self.fetches.sessions.create(now_ms, random, privileged, by_id);
        session.reader = fetch.reader;
        for place in order {
            let part = &fetch.parts[*place];
            let name = match &part.topic {
                TopicKey::Id(id) => self.topics.by_id(*id).map(|topic| topic.name.clone()),
                TopicKey::Name(name) => Some(name.clone()),
            };
            session.begin_with(part.topic.clone(), part.partition, part.want, name, news[*place].told);
        }
        let id = session.id;
        self.fetches.sessions.touch(now_ms, id);
        self.count_sessions();
        id
    }
}

/// The session, if it is still as the request with this epoch left it.
fn own(session: Option<&Session>, epoch: i32) -> Option<&Session> {
    session.filter(|session| session.epoch == next_epoch(epoch))
}
