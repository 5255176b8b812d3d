//! Owns the APIs with which Kafka's brokers keep the state of share groups among themselves (KIP-932, "persister"): here
//! they read and write the state that the groups of this broker use.

use std::collections::BTreeMap;

use super::partition::SharePartition;
use super::persist;
use super::runs::{Name, RecordState};
use crate::broker::dispatch::Request;
use crate::broker::Broker;
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::*;
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// "No leader epoch" in a request.
const NO_EPOCH: i32 = -1;

/// Why a partition's state is not read or written.
type Refused = (ErrorCode, &'static str);

const UNKNOWN_PARTITION: Refused = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "There is no such partition.");
const NO_STATE: Refused = (ErrorCode::INVALID_REQUEST, "The group has no state for this partition.");
const FULL: Refused = (ErrorCode::COORDINATOR_NOT_AVAILABLE, "There is no room for the state.");

fn error<T>(result: &Result<T, Refused>) -> (ErrorCode, Option<&'static str>) {
    match result {
        Ok(_) => (ErrorCode::NONE, None),
        Err((error, why)) => (*error, Some(why)),
    }
}

/// Partitions of an answer, by topic.
type ByTopic<T> = BTreeMap<Uuid, Vec<T>>;

impl Broker {
    /// The state that a request for one partition is about.
    fn share_state(&self, group: &str, id: PartitionId, leader_epoch: i32) -> Result<&SharePartition, Refused> {
        let shared = self.share.groups.get(group).and_then(|group| group.partitions.get(&id)).ok_or(NO_STATE)?;
        let ours = self.topics.partition(id).map_or(0, |partition| partition.log.leader_epoch);
        if leader_epoch < ours && leader_epoch != NO_EPOCH {
            return Err((ErrorCode::FENCED_LEADER_EPOCH, ErrorCode::FENCED_LEADER_EPOCH.message()));
        }
        Ok(shared)
    }

    pub(super) fn initialize_share_group_state(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: InitializeShareGroupStateRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut results: ByTopic<InitializeShareGroupStatePartitionResult<'_>> = BTreeMap::new();
        let topics = if request.group_id.is_empty() { &[][..] } else { &request.topics };
        for topic in topics {
            for part in &topic.partitions {
                let id = PartitionId { topic: topic.topic_id, partition: part.partition };
                let done = self.initialize_share_state(req, request.group_id, id, part.state_epoch, part.start_offset);
                let (error_code, error_message) = error(&done);
                let result =
                    InitializeShareGroupStatePartitionResult { partition: id.partition, error_code, error_message };
                results.entry(id.topic).or_default().push(result);
            }
        }
        let results =
            results.into_iter().map(|(topic_id, partitions)| InitializeStateResult { topic_id, partitions }).collect();
        self.reply(req.to, &InitializeShareGroupStateResponse { results });
        Ok(())
    }

    fn initialize_share_state(
        &mut self,
        req: &Request<'_>,
        group: &str,
        id: PartitionId,
        state_epoch: i32,
        start_offset: i64,
    ) -> Result<(), Refused> {
        self.topics.partition(id).ok_or(UNKNOWN_PARTITION)?;
        let known = self.share.groups.get(group);
        if known.and_then(|group| group.partitions.get(&id)).is_some_and(|known| known.state_epoch > state_epoch) {
            return Err((ErrorCode::FENCED_STATE_EPOCH, ErrorCode::FENCED_STATE_EPOCH.message()));
        }
        if !self.has_space_for_groups() || group.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
            return Err(FULL);
        }
        let name = match known {
            Some(known) => known.id.clone(),
            None if self.groups.kind_of(group).is_some() => {
                return Err((ErrorCode::GROUP_ID_NOT_FOUND, "The group is of another kind."));
            }
            None => self.begin_share_group(group).ok_or(FULL)?,
        };
        self.note_share_topic(&name, id.topic);
        if start_offset < 0 {
            // Where the group starts is found with its first fetch.
            if self.share.remove_partition(&name, id) {
                self.append_meta(persist::state_entry(&name, id, None));
            }
        } else {
            self.set_share_start(req.now, &name, id, start_offset, Some(state_epoch));
        }
        Ok(())
    }

    /// A group has to do with a topic.
    fn note_share_topic(&mut self, name: &Name, topic: Uuid) {
        let count = self.topics.by_id(topic).map_or(0, |topic| topic.partitions.len() as i32);
        let Some(group) = self.share.groups.get_mut(name) else { return };
        if group.topics.insert(topic, count) != Some(count) {
            let entry = persist::group_entry(group);
            self.append_meta(entry);
            self.share.settle(name);
        }
    }

    pub(super) fn read_share_group_state(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ReadShareGroupStateRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let topics = if request.group_id.is_empty() { &[][..] } else { &request.topics };
        let results = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|part| {
                let id = PartitionId { topic: topic.topic_id, partition: part.partition };
                let found = self.share_state(request.group_id, id, part.leader_epoch);
                let (error_code, error_message) = error(&found);
                let batches = found.into_iter().flat_map(SharePartition::lasting).map(told);
                ReadShareGroupStatePartitionResult {
                    partition: part.partition,
                    error_code,
                    error_message,
                    state_epoch: found.map_or(0, |found| found.state_epoch),
                    start_offset: found.map_or(0, SharePartition::start),
                    state_batches: batches.collect(),
                }
            });
            ReadStateResult { topic_id: topic.topic_id, partitions: partitions.collect() }
        });
        let results = results.collect();
        self.reply(req.to, &ReadShareGroupStateResponse { results });
        Ok(())
    }

    pub(super) fn read_share_group_state_summary(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ReadShareGroupStateSummaryRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let topics = if request.group_id.is_empty() { &[][..] } else { &request.topics };
        let results = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|part| {
                let id = PartitionId { topic: topic.topic_id, partition: part.partition };
                self.share_summary(request.group_id, id, part.leader_epoch)
            });
            ReadStateSummaryResult { topic_id: topic.topic_id, partitions: partitions.collect() }
        });
        let results = results.collect();
        self.reply(req.to, &ReadShareGroupStateSummaryResponse { results });
        Ok(())
    }

    fn share_summary<'a>(
        &self,
        group: &str,
        id: PartitionId,
        leader_epoch: i32,
    ) -> ReadShareGroupStateSummaryPartitionResult<'a> {
        let mut result = ReadShareGroupStateSummaryPartitionResult { partition: id.partition, ..Default::default() };
        let found = match self.topics.partition(id) {
            None => Err(UNKNOWN_PARTITION),
            Some(_) => self.share_state(group, id, leader_epoch),
        };
        match found {
            // A state that is not there is told as one without a start.
            Err(NO_STATE) => result.start_offset = -1,
            Err((error_code, why)) => (result.error_code, result.error_message) = (error_code, Some(why)),
            Ok(found) => {
                result.state_epoch = found.state_epoch;
                result.leader_epoch = self.topics.partition(id).map_or(0, |partition| partition.log.leader_epoch);
                result.start_offset = found.start();
                result.delivery_complete_count = i32::try_from(found.complete()).unwrap_or(i32::MAX);
            }
        }
        result
    }

    pub(super) fn write_share_group_state(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: WriteShareGroupStateRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut results: ByTopic<WriteShareGroupStatePartitionResult<'_>> = BTreeMap::new();
        let topics = if request.group_id.is_empty() { &[][..] } else { &request.topics };
        for topic in topics {
            for part in &topic.partitions {
                let id = PartitionId { topic: topic.topic_id, partition: part.partition };
                let (error_code, error_message) = error(&self.write_share_state(req, request.group_id, id, part));
                let result = WriteShareGroupStatePartitionResult { partition: id.partition, error_code, error_message };
                results.entry(id.topic).or_default().push(result);
            }
        }
        let results =
            results.into_iter().map(|(topic_id, partitions)| WriteStateResult { topic_id, partitions }).collect();
        self.reply(req.to, &WriteShareGroupStateResponse { results });
        Ok(())
    }

    fn write_share_state(
        &mut self,
        req: &Request<'_>,
        group: &str,
        id: PartitionId,
        part: &WriteShareGroupStatePartitionData,
    ) -> Result<(), Refused> {
        let known = self.share_state(group, id, part.leader_epoch)?;
        if known.state_epoch > part.state_epoch {
            return Err((ErrorCode::FENCED_STATE_EPOCH, ErrorCode::FENCED_STATE_EPOCH.message()));
        }
        if !self.has_space_for_groups() {
            return Err(FULL);
        }
        let start = if part.start_offset < 0 { known.start() } else { part.start_offset };
        let states = merged(start, known, &part.state_batches)?;
        let Some(name) = self.share.groups.get(group).map(|group| group.id.clone()) else { return Err(NO_STATE) };
        self.share.remove_partition(&name, id);
        let partition = SharePartition::restored(start, part.state_epoch, true, &states);
        let (bytes, entry) = (partition.bytes(), persist::state_entry(&name, id, Some(&partition)));
        if let Some(group) = self.share.groups.get_mut(&name) {
            group.partitions.insert(id, partition);
        }
        self.share.grown(&name, 0, bytes);
        self.append_meta(entry);
        self.wake_share_fetches(req.now, id, Some(&name));
        Ok(())
    }

    pub(super) fn delete_share_group_state(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteShareGroupStateRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut results: ByTopic<DeleteShareGroupStatePartitionResult<'_>> = BTreeMap::new();
        let topics = if request.group_id.is_empty() { &[][..] } else { &request.topics };
        for topic in topics {
            for part in &topic.partitions {
                let id = PartitionId { topic: topic.topic_id, partition: part.partition };
                let (error_code, error_message) = error(&self.delete_share_state(request.group_id, id));
                let result =
                    DeleteShareGroupStatePartitionResult { partition: id.partition, error_code, error_message };
                results.entry(id.topic).or_default().push(result);
            }
        }
        let results =
            results.into_iter().map(|(topic_id, partitions)| DeleteStateResult { topic_id, partitions }).collect();
        self.reply(req.to, &DeleteShareGroupStateResponse { results });
        Ok(())
    }

    fn delete_share_state(&mut self, group: &str, id: PartitionId) -> Result<(), Refused> {
        self.topics.partition(id).ok_or(UNKNOWN_PARTITION)?;
        if !self.has_space_for_groups() {
            return Err(FULL);
        }
        if self.share.remove_partition(group, id) {
            self.append_meta(persist::state_entry(group, id, None));
        }
        Ok(())
    }
}

fn told((first_offset, last_offset, state, delivery_count): (i64, i64, RecordState, i16)) -> StateBatch {
    StateBatch { first_offset, last_offset, delivery_state: state.id(), delivery_count }
}

/// The states from `start` on: what was written over what was known.
fn merged(start: i64, known: &SharePartition, written: &[StateBatch]) -> Result<Vec<(i64, RecordState, i16)>, Refused> {
    const INVALID: Refused = (ErrorCode::INVALID_REQUEST, "The states are in no order or of no kind that there is.");
    let mut fates: BTreeMap<i64, (i64, RecordState, i16)> = BTreeMap::new();
    for (first, last, state, count) in known.lasting().filter(|(_, last, ..)| *last >= start) {
        fates.insert(first.max(start), (last, state, count));
    }
    for batch in written {
        let state = RecordState::of_id(batch.delivery_state).filter(|state| *state != RecordState::Acquired);
        let (Some(state), true) = (state, batch.first_offset <= batch.last_offset) else { return Err(INVALID) };
        let (first, last) = (batch.first_offset.max(start), batch.last_offset);
        if last < start {
            continue;
        }
        cut_out(&mut fates, first, last);
        fates.insert(first, (last, state, batch.delivery_count.max(0)));
    }
    let mut states = Vec::new();
    let mut next = start;
    for (first, (last, state, count)) in fates {
        if first > next {
            states.push((first - next, RecordState::Available, 0));
        }
        let len = last.checked_sub(first).and_then(|len| len.checked_add(1)).ok_or(INVALID)?;
        states.push((len, state, count));
        next = last.checked_add(1).ok_or(INVALID)?;
    }
    // A record that is not done with may become a run of its own.
    let runs = states.iter().map(|(len, state, _)| if state.is_final() { 1 } else { *len });
    let runs = runs.fold(0, i64::saturating_add);
    if runs > limits::SHARE_PARTITION_RUNS_MAX as i64 || next - start > limits::SHARE_STATE_RECORDS_MAX {
        return Err(INVALID);
    }
    Ok(states)
}

/// Forgets what is known of these offsets.
fn cut_out(fates: &mut BTreeMap<i64, (i64, RecordState, i16)>, first: i64, last: i64) {
    let before = fates.range(..first).next_back().map(|(at, fate)| (*at, *fate));
    if let Some((at, (before_last, state, count))) = before.filter(|(_, fate)| fate.0 >= first) {
        fates.insert(at, (first - 1, state, count));
        if before_last > last {
            fates.insert(last + 1, (before_last, state, count));
        }
    }
    while let Some((at, (run_last, state, count))) = fates.range(first..=last).next().map(|(at, fate)| (*at, *fate)) {
        fates.remove(&at);
        if run_last > last {
            fates.insert(last + 1, (run_last, state, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_covers_what_was_known() {
        let known = SharePartition::restored(10, 0, true, &[(10, RecordState::Available, 1)]);
        let batch = |first_offset, last_offset, delivery_state| StateBatch {
            first_offset,
            last_offset,
            delivery_state,
            delivery_count: 2,
        };
        let states = merged(10, &known, &[batch(12, 13, 2), batch(25, 25, 0)]).unwrap();
        let wanted = [
            (2, RecordState::Available, 1),
            (2, RecordState::Acknowledged, 2),
            (6, RecordState::Available, 1),
            (5, RecordState::Available, 0),
            (1, RecordState::Available, 2),
        ];
        assert_eq!(states, wanted);
        assert!(merged(10, &known, &[batch(13, 12, 2)]).is_err());
        assert!(merged(10, &known, &[batch(12, 12, 1)]).is_err());
        assert!(merged(10, &known, &[batch(12, i64::MAX, 2)]).is_err());
        assert_eq!(merged(30, &known, &[batch(1, 2, 2)]).unwrap(), []);
    }
}
