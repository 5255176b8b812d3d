//! Owns DeleteTopics.

use std::collections::BTreeSet;

use super::{error_of, message_of, repeated, Refused, NO_SUCH_PARTITION, NO_SUCH_TOPIC_ID};
use crate::broker::dispatch::Request;
use crate::broker::{topics, Broker, Now};
use crate::limits;
use crate::wire::msg::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

impl Broker {
    pub(in crate::broker) fn delete_topics(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteTopicsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let by_name =
            request.topic_names.iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
        let wanted: Vec<DeleteTopicState<'_>> = request.topics.iter().cloned().chain(by_name).collect();
        let names = repeated(wanted.iter().filter_map(|topic| topic.name));
        let ids = repeated(wanted.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero()));
        let given: BTreeSet<Uuid> = wanted.iter().map(|topic| topic.topic_id).collect();
        let found = wanted.iter().filter_map(|topic| self.topics.id_of(topic.name?));
        // Topics that are given by their names and their ids are answered under the names, and stay.
        let by_both: BTreeSet<Uuid> = found.filter(|id| given.contains(id)).collect();
        let mut answered = BTreeSet::new();
        let mut named: Vec<(Option<String>, Uuid)> = Vec::new();
        let mut outcomes = Vec::new();
        let mut deleted = BTreeSet::new();
        for topic in &wanted {
            let twice = topic.name.is_some_and(|name| names.contains(name)) || ids.contains(&topic.topic_id);
            let again = twice && !answered.insert((topic.name, topic.topic_id));
            if again || (topic.name.is_none() && by_both.contains(&topic.topic_id)) {
                continue;
            }
            let found = self.find_deletable(req.to.version, wanted.len(), topic, twice);
            let found = match found {
                Ok(id) if by_both.contains(&id) => {
                    let why = "The provided topic name maps to an ID that was already supplied.";
                    Err(Refused::new(ErrorCode::INVALID_REQUEST, why))
                }
                found => found,
            };
            let given_twice = topic.name.and_then(|name| self.topics.id_of(name)).filter(|id| by_both.contains(id));
            named.push(match &found {
                Ok(id) => (self.topics.by_id(*id).map(|topic| topic.name.to_string()), *id),
                Err(_) => (topic.name.map(str::to_owned), given_twice.unwrap_or(topic.topic_id)),
            });
            outcomes.push(found.and_then(|id| self.delete_checked(req.now, id, &mut deleted)));
        }
        self.topics_were_deleted(req.now, &deleted);
        self.count_outcomes(req.to, &outcomes);
        let responses = named.iter().zip(&outcomes).map(|((name, topic_id), outcome)| DeletableTopicResult {
            name: name.as_deref(),
            topic_id: *topic_id,
            error_code: error_of(outcome),
            error_message: message_of(outcome),
        });
        let response = DeleteTopicsResponse { responses: responses.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    /// The topic that is meant, if it is there and may be deleted.
    fn find_deletable(
        &self,
        version: i16,
        count: usize,
        wanted: &DeleteTopicState<'_>,
        twice: bool,
    ) -> Result<Uuid, Refused> {
        let invalid = |why: &str| Err(Refused::new(ErrorCode::INVALID_REQUEST, why));
        if !self.settings.config.delete_topic_enable {
            // Kafka's error for this came with version 3.
            let error = if version < 3 { ErrorCode::INVALID_REQUEST } else { ErrorCode::TOPIC_DELETION_DISABLED };
            return Err(Refused::new(error, "Topic deletion is disabled."));
        }
        if count > limits::REQUEST_ITEMS_MAX {
            return Err(ErrorCode::POLICY_VIOLATION.into());
        }
        match (wanted.name, wanted.topic_id.is_zero()) {
            (None, true) => invalid("Neither topic name nor id were specified."),
            (Some(_), false) => invalid("You may not specify both topic name and topic id."),
            (Some(_), true) if twice => invalid("Duplicate topic name."),
            (None, false) if twice => invalid("Duplicate topic id."),
            (Some(name), true) => {
                let unknown = || Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, NO_SUCH_PARTITION);
                self.topics.id_of(name).ok_or_else(unknown)
            }
            (None, false) => {
                let topic = self.topics.by_id(wanted.topic_id);
                topic.map(|topic| topic.id).ok_or_else(|| Refused::new(ErrorCode::UNKNOWN_TOPIC_ID, NO_SUCH_TOPIC_ID))
            }
        }
    }

    /// Deletes a topic if there is room for that, and adds its name to those of which groups have to forget the offsets.
    fn delete_checked(&mut self, now: Now, id: Uuid, deleted: &mut BTreeSet<String>) -> Result<(), Refused> {
        // Each moved log start is an entry of its own to take back.
        let moved = self
            .topics
            .by_id(id)
            .map_or(0, |topic| topic.partitions.iter().filter(|partition| partition.log.start_offset > 0).count());
        self.check_space(now, moved * 128)?;
        deleted.extend(self.delete_topic(now, id));
        Ok(())
    }

    /// Deletes a topic: nobody finds it any more, and its data goes once that is durable. Its name.
    fn delete_topic(&mut self, now: Now, id: Uuid) -> Option<String> {
        let topic = self.topics.remove(id)?;
        let mut seq = self.append_meta(topics::removed_topic_entry(id));
        for partition in topic.partitions.iter().filter(|partition| partition.log.start_offset > 0) {
            seq = self.append_meta(topics::log_start_entry(partition.log.id, None));
        }
        for partition in &topic.partitions {
            for range in partition.log.ranges() {
                self.segments.remove_live(range, seq);
            }
        }
        ::log::info!("topic {} ({}) is deleted", topic.name, topic.id);
        self.topic_gone(now, &topic.partitions);
        self.share_topic_deleted(now, topic.id);
        self.topics_have_changed();
        self.give_space_back(now);
        self.look_at_eviction(now);
        Some(topic.name.to_string())
    }
}
