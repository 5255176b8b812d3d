//! Owns what the reactor does when memory for requests, or for answers, is short: it reads no further, and in the end closes who
//! holds most of it and makes no progress.
//!
//! Requests are counted by the pool of their buffers. Answers count from when they are made until they have gone to the kernel;
//! record data that is sent from the log, or its ring, takes no memory of its own.

use super::waiting::Line;
use super::{Reactor, Why};
use crate::broker::{ConnId, Now};
use crate::limits;
use crate::net::buffers::READ_BYTES;
use crate::net::complaints::Kind;
use crate::net::connection::{Connection, Place};
use crate::net::core::Core;
use crate::wire::{ApiKey, RequestHeader};

/// How long, while memory is short, an incomplete request may go without a byte, and an answer may wait for its client.
const SHORTAGE_STALL_US: u64 = 2_000_000;

/// A request of at most so many bytes, of one of `SMALL`, has a small answer; so has each Produce, whose batches grow with every delay.
const SMALL_REQUEST_BYTES: usize = 64 << 10;

/// Less of a request than this in `SHORTAGE_STALL_US` is no progress.
const PROGRESS_BYTES: usize = 64 << 10;

/// More than clients send unless they are told to (`max.request.size` is 1 MiB): such requests leave memory to others.
const LARGE_REQUEST_BYTES: usize = 2 << 20;

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shortage {
    #[default]
    No,
    /// Half of it is taken. The other half is for what is small.
    Short,
    /// There is none.
    Full,
}

/// What clients do all the time, and whose answers are about as large as the requests. A Fetch that needs memory waits in the broker.
const SMALL: [ApiKey; 13] = [
    ApiKey::FETCH,
    ApiKey::OFFSET_COMMIT,
    ApiKey::FIND_COORDINATOR,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::API_VERSIONS,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::TXN_OFFSET_COMMIT,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
    ApiKey::SHARE_GROUP_HEARTBEAT,
];

/// Topics that a Metadata request may name for its answer to be a small one. It is the first thing that clients ask.
const FEW_TOPICS: i32 = 16;

/// First version of Metadata with compact arrays.
const COMPACT_METADATA_VERSION: i16 = 9;

/// Whether a request is one for the metadata of a few topics by name.
fn asks_for_few_topics(frame: &[u8]) -> bool {
    let Ok((header, body)) = RequestHeader::parse(frame) else { return false };
    let named = if header.version >= COMPACT_METADATA_VERSION {
        // One more than there are, in one byte if they are few.
        body.first().map_or(0, |count| i32::from(*count) - 1)
    } else {
        body.first_chunk().map_or(0, |count| i32::from_be_bytes(*count))
    };
    header.api.key == ApiKey::METADATA && (1..=FEW_TOPICS).contains(&named)
}

/// What happens when answers in memory take as much as they may.
impl<C: Core + 'static> Reactor<C> {
    /// Bytes of memory of all answers that have not gone to the kernel.
    fn answer_bytes(&self) -> usize {
        self.table.unsent_bytes() + self.core.kept_answer_bytes()
    }

    /// How short memory for answers is.
    pub(super) fn shortage_of_answers(&self) -> Shortage {
        // One large answer that has just fitted must not keep back small ones.
        let most = self.limits.response_bytes_max + limits::DESCRIBED_BYTES_MAX;
        match self.answer_bytes() {
            bytes if bytes >= most => Shortage::Full,
            bytes if bytes >= self.limits.response_bytes_max / 2 => Shortage::Short,
            _ => Shortage::No,
        }
    }

    /// Whether there is no memory for the answer to the connection's next request: while it is short, none for what may be large,
    /// and none for who has not read what it was told before.
    pub(super) fn answer_must_wait(&mut self, id: ConnId, api_key: i16) -> bool {
        let shortage = self.shortage_of_answers();
        if shortage == Shortage::No || self.with(id, |conn| conn.unheard) == Some(true) {
            return false;
        }
        let is_small = |conn: &mut Connection| {
            let has_small_answer = match ApiKey(api_key) {
                ApiKey::PRODUCE => true,
                ApiKey::METADATA => conn.peek_frame().is_some_and(|frame| asks_for_few_topics(frame)),
                key => conn.next_frame_bytes() <= SMALL_REQUEST_BYTES && SMALL.contains(&key),
            };
            has_small_answer && !conn.has_outgoing()
        };
        shortage == Shortage::Full || self.with(id, is_small) == Some(false)
    }

    /// At the end of a turn: tells the broker and the metrics what is taken, and lets requests go on that had to wait.
    pub(super) fn look_at_memory(&mut self, now: Now) {
        let (requests, answers) = (self.desk.pool.out_bytes(), self.answer_bytes());
        self.metrics.request_memory_bytes.set(requests as i64);
        self.metrics.response_memory_bytes.set(answers as i64);
        self.core.unsent(now, self.table.unsent_bytes());
        self.carry_out(now);
        match (self.shortage_of_answers(), self.answers_check_us) {
            (Shortage::No, _) => self.answers_check_us = None,
            (_, None) => self.answers_check_us = Some(now.mono_us + SHORTAGE_STALL_US),
            _ => {}
        }
        self.ask_about_memory();
        if self.burst.is_over(now.mono_us, requests + answers) {
            (self.outlets.trim)();
        }
        if requests < std::mem::replace(&mut self.requests_seen, requests) {
            self.feed_starved(now);
        }
    }

    /// Closes connections that do not read, those first that hold most, until memory for answers is no longer short.
    pub(super) fn relieve_answers(&mut self, now: Now) {
        let before_us = now.mono_us.saturating_sub(SHORTAGE_STALL_US);
        let slow = self.table.iter().filter(|conn| conn.has_outgoing() && conn.unsent_since_us <= before_us);
        let mut slow: Vec<(usize, ConnId)> = slow.map(|conn| (conn.unsent_bytes(), conn.id)).collect();
        slow.sort_unstable();
        while self.shortage_of_answers() != Shortage::No {
            let Some((_, id)) = slow.pop() else { break };
            let text = "memory for answers is short (--memory-limit) and it is slow to read its own";
            self.close(now, id, Why::said(Kind::Slow, text));
        }
        self.answers_check_us = Some(now.mono_us + SHORTAGE_STALL_US);
    }
}

/// Sizes of requests that wait for memory in lines of their own: small ones, middling ones, large ones. So many eighths of the memory
/// for requests they may take; what is left is for the smaller ones, so that halves of large requests don't keep back those who want
/// little.
const EIGHTHS: [usize; 3] = [8, 7, 6];

/// The lines of small and of large ones.
const SMALL_ONES: usize = 0;
const LARGE: usize = EIGHTHS.len() - 1;

/// The line for an incomplete request that will have so many bytes, as far as is known.
fn size_class(claimed: usize) -> usize {
    match claimed {
        _ if claimed <= SMALL_REQUEST_BYTES => SMALL_ONES,
        _ if claimed <= LARGE_REQUEST_BYTES => 1,
        _ => LARGE,
    }
}

/// Connections that wait until request frames in memory become fewer.
#[derive(Debug, Default)]
pub(super) struct Starved {
    lines: [Line; EIGHTHS.len()],
    /// How often somebody came to wait.
    count: u64,
    /// Who may read on until its request is complete, whether there is memory for it or not, so that requests that are all incomplete
    /// cannot block each other.
    on_top: Option<ConnId>,
}

impl Starved {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(Line::is_empty)
    }

    /// Who has waited longest.
    fn first(&self) -> Option<ConnId> {
        self.lines.iter().filter_map(Line::first).min().map(|(_, id)| id)
    }

    fn push(&mut self, line: usize, id: ConnId) -> Place {
        self.count += 1;
        self.lines[line].push(self.count, id);
        Place { line, number: self.count }
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.lines[place.line].remove(place.number);
    }

    /// The same place among all, in the line of another size.
    fn moved(&mut self, place: Place, line: usize, id: ConnId) -> Place {
        self.remove(place);
        self.lines[line].push(place.number, id);
        Place { line, ..place }
    }
}

/// What happens when requests in memory take as much as they may.
impl<C: Core + 'static> Reactor<C> {
    /// Bytes that requests of a size may take in all.
    fn request_bytes_max(&self, class: usize) -> usize {
        self.limits.request_bytes_max / 8 * EIGHTHS[class]
    }

    /// Whether there are so many bytes for a request of a size. The one on top does not count. Small ones do not wait for it when it is
    /// complete either: there is the room of one of the largest size for it.
    fn has_memory(&mut self, class: usize, wanted: usize) -> bool {
        let bytes_max = self.request_bytes_max(class);
        match class {
            SMALL_ONES => self.desk.pool.out_bytes().saturating_add(wanted) < bytes_max + self.limits.frame_bytes_max,
            _ => self.bytes_beside(self.starved.on_top).saturating_add(wanted) < bytes_max,
        }
    }

    /// Bytes of all requests but the incomplete one of this connection.
    fn bytes_beside(&mut self, id: Option<ConnId>) -> usize {
        let own = id.and_then(|id| self.table.get(id)).map_or(0, |conn| conn.incomplete_bytes().0);
        self.desk.pool.out_bytes().saturating_sub(own)
    }

    /// Whether the connection is the one whose request comes on top of all others. The first of those that wait becomes it when there is
    /// none, but not where that left nothing to small ones: while the one before is complete and somebody works on it, or its memory
    /// is given back.
    fn is_on_top(&mut self, id: ConnId) -> bool {
        if self.starved.on_top.is_none() && self.starved.first() == Some(id) {
            let claimed = self.with(id, |conn| conn.incomplete_bytes().1).unwrap_or(0);
            let most = self.limits.request_bytes_max + self.limits.frame_bytes_max;
            let left_to_small_ones = self.limits.request_bytes_max / 16;
            if self.bytes_beside(Some(id)).saturating_add(claimed) <= most - left_to_small_ones {
                self.starved.on_top = Some(id);
            }
        }
        self.starved.on_top == Some(id)
    }

    /// Whether the connection's request, which is complete or gone, was one for which others wait.
    pub(super) fn is_waited_for(&mut self, id: ConnId) -> bool {
        let on_top = self.starved.on_top.take_if(|on_top| *on_top == id).is_some();
        on_top || self.with(id, |conn| conn.starved_at.is_some()) == Some(true)
    }

    /// Bytes that the rest of the connection's next request may take at once, and the line in which it waits for them. The buffer of
    /// a large one may be about to double.
    fn memory_wanted(&mut self, id: ConnId) -> (usize, usize) {
        let (taken, claimed) = self.with(id, |conn| conn.incomplete_bytes()).unwrap_or_default();
        match size_class(claimed) {
            SMALL_ONES => (0, SMALL_ONES),
            class => (taken.min(claimed.saturating_sub(taken)), class),
        }
    }

    /// Whether the connection has to wait for memory before it reads on. While memory is short, the first look at a request is a short
    /// one, after which it is known how large it is.
    pub(super) fn must_starve(&mut self, now: Now, id: ConnId) -> bool {
        let (wanted, class) = self.memory_wanted(id);
        self.desk.is_short = self.bytes_beside(self.starved.on_top) >= self.request_bytes_max(LARGE);
        if self.starved.on_top == Some(id) {
            return false;
        }
        // What is left of a closed stream is little, and then its memory is free again.
        if self.has_memory(class, wanted) || self.with(id, |conn| conn.read_closed) == Some(true) {
            return false;
        }
        if self.starved.is_empty() {
            self.shortage_check_us = Some(now.mono_us + SHORTAGE_STALL_US);
        }
        match self.with(id, |conn| conn.starved_at).flatten() {
            Some(place) if place.line == class => {}
            Some(place) => self.stand_by_size(id, place, class),
            None => {
                let place = self.starved.push(class, id);
                self.with(id, |conn| conn.starved_at = Some(place));
            }
        }
        !self.is_on_top(id)
    }

    /// Lets those go on who can: in each line as many as there is memory for, and one on top.
    pub(super) fn feed_starved(&mut self, now: Now) {
        if self.starved.is_empty() {
            return;
        }
        let mut given = 0;
        for line in 0..EIGHTHS.len() {
            while let Some((number, id)) = self.starved.lines[line].first() {
                let (wanted, class) = self.memory_wanted(id);
                if class != line {
                    // It is known by now how large its request is, and in this line it would keep back smaller ones.
                    self.stand_by_size(id, Place { line, number }, class);
                    continue;
                }
                if !self.has_memory(class, wanted + given) {
                    break;
                }
                given += wanted.max(READ_BYTES);
                self.fed(now, id);
            }
        }
        if self.starved.is_empty() {
            self.shortage_check_us = None;
        }
        let first = self.starved.first().filter(|id| self.is_on_top(*id));
        if let Some(first) = first.filter(|id| self.with(*id, |conn| conn.readable) == Some(true)) {
            self.queue_read(first);
        }
    }

    fn stand_by_size(&mut self, id: ConnId, place: Place, class: usize) {
        let moved = self.starved.moved(place, class, id);
        match self.table.get(id) {
            Some(conn) => conn.starved_at = Some(moved),
            None => self.starved.remove(moved),
        }
    }

    /// The connection need not wait any longer; what was late until now was not its own doing.
    fn fed(&mut self, now: Now, id: ConnId) {
        if let Some(conn) = self.table.get(id) {
            conn.partial_since_us = now.mono_us;
            if let Some(place) = conn.starved_at.take() {
                self.starved.remove(place);
            }
        }
        self.queue_read_later(id);
    }

    pub(super) fn leave_starved(&mut self, now: Now, id: ConnId) {
        self.fed(now, id);
        if self.starved.is_empty() {
            self.shortage_check_us = None;
        }
        self.feed_starved(now);
    }

    /// Closes connections whose incomplete requests take memory and make no progress; then the one on top, if it hardly makes any,
    /// and those that are slow although they are read, largest first. If there is none, the one that has held
    /// complete requests for longest.
    pub(super) fn relieve_shortage(&mut self, now: Now) {
        self.shortage_check_us = None;
        let before_us = now.mono_us.saturating_sub(SHORTAGE_STALL_US);
        let silent = |conn: &&Connection| conn.holds_memory() && conn.received_us <= before_us;
        let partial = |conn: &&Connection| conn.incomplete_bytes().0 > 0 && !conn.holds_frames();
        let stuck = self.table.iter().filter(silent).filter(partial).filter(|conn| !conn.readable);
        let mut victims: Vec<ConnId> = stuck.map(|conn| conn.id).collect();
        let slow = self
            .table
            .iter()
            .filter(partial)
            .filter(|conn| conn.starved_at.is_none() && conn.partial_since_us <= before_us);
        let mut slow: Vec<(usize, ConnId)> = slow.map(|conn| (conn.incomplete_bytes().0, conn.id)).collect();
        slow.sort_unstable();
        victims.extend(self.first_that_hardly_goes_on());
        if victims.is_empty() && slow.is_empty() {
            let oldest = self.table.iter().filter(silent).filter(|conn| conn.holds_frames());
            victims.extend(oldest.min_by_key(|conn| conn.received_us).map(|conn| conn.id));
        }
        for id in victims {
            self.close_for_memory(now, id);
        }
        while self.desk.pool.out_bytes() >= self.request_bytes_max(LARGE) {
            let Some((_, id)) = slow.pop() else { break };
            self.close_for_memory(now, id);
        }
        self.feed_starved(now);
        if !self.starved.is_empty() {
            self.shortage_check_us = Some(now.mono_us + SHORTAGE_STALL_US);
        }
    }

    /// Who is on top, or comes next, if it was that at the last look too and little of its request has arrived since.
    fn first_that_hardly_goes_on(&mut self) -> Option<ConnId> {
        let first = self.starved.on_top.or(self.starved.first())?;
        let arrived = self.with(first, |conn| conn.arrived_bytes())?;
        let before = self.first_starved.replace((first, arrived));
        before.filter(|(id, bytes)| *id == first && arrived < bytes + PROGRESS_BYTES).map(|(id, _)| id)
    }

    fn close_for_memory(&mut self, now: Now, id: ConnId) {
        let text = "memory for requests is short (queued.max.request.bytes) and its request makes no progress";
        self.close(now, id, Why::said(Kind::Slow, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;
    use crate::wire::msg::{MetadataRequest, MetadataRequestTopic};

    #[test]
    fn requests_for_few_topics_are_told_from_those_for_all() {
        let named = |count: usize| {
            let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
            MetadataRequest { topics: Some(vec![topic; count]), ..Default::default() }
        };
        for version in 0..=13 {
            let asks = |request: &MetadataRequest<'_>| {
                asks_for_few_topics(&frame::request(version, 1, Some("client"), request).bytes[4..])
            };
            assert!(asks(&named(1)) && asks(&named(16)), "version {version}");
            assert!(!asks(&named(0)) && !asks(&named(17)) && !asks(&named(1000)), "version {version}");
            if version > 0 {
                assert!(!asks(&MetadataRequest { topics: None, ..Default::default() }), "version {version}");
            }
        }
    }

    #[test]
    fn who_turns_out_to_be_large_keeps_back_no_small_ones_and_stays_the_first_of_all() {
        let mut starved = Starved::default();
        let (large, small) = (ConnId(1), ConnId(2));
        let place = starved.push(0, large);
        starved.push(0, small);
        let place = starved.moved(place, LARGE, large);
        assert_eq!(starved.lines[0].first().map(|(_, id)| id), Some(small));
        assert_eq!(starved.first(), Some(large));
        starved.remove(place);
        assert_eq!(starved.first(), Some(small));
    }
}
