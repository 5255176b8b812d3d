//! Owns the one who watches a group of the consumer protocol: it asks how the group stands, and at the end of a run is not
//! content before the members have what they are to have.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, GroupId};

use super::super::model::NONE;
use super::super::proto::{text, Answer, Ask};
use super::group_member::matches;
use super::{Actor, Turn};

/// The watcher of one group.
#[derive(Debug)]
pub struct GroupWatch {
    group: String,
    asked: Option<i32>,
    closing: bool,
    content: bool,
    /// What it saw last.
    seen: String,
}

impl GroupWatch {
    pub fn new(group: String) -> GroupWatch {
        GroupWatch { group, asked: None, closing: false, content: false, seen: String::new() }
    }
}

/// What is wrong with a group that has come to rest.
fn flaw(turn: &Turn<'_>, told: &DescribedGroup) -> Option<String> {
    if *told.group_state != *"Stable" {
        return Some(format!("it is {}", told.group_state.as_str()));
    }
    let mut owned: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in told.members.iter().flat_map(|member| &member.assignment.topic_partitions) {
        owned.entry(topic.topic_name.to_string()).or_default().extend(&topic.partitions);
    }
    for (topic, partitions) in turn.topics(true) {
        let wanted = told.members.iter().any(|member| {
            member.subscribed_topic_names.iter().any(|name| ***name == *topic)
                || member.subscribed_topic_regex.as_ref().is_some_and(|pattern| matches(pattern, &topic))
        });
        let count = owned.get(&topic).map_or(0, |owned| owned.len() as i32);
        if wanted && count < partitions {
            return Some(format!("{topic} has {partitions} partitions, and {count} have an owner"));
        }
    }
    None
}

impl Actor for GroupWatch {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(50_000, 400_000);
        if turn.closing != self.closing {
            (self.closing, self.content) = (turn.closing, false);
        }
        if self.asked.is_some() || self.closing && self.content {
            return;
        }
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(&self.group))]);
        let version = turn.rng.range(0, 1) as i16;
        self.asked = Some(turn.send(version, Ask::ConsumerGroupDescribe(request)));
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        let Answer::ConsumerGroupDescribe(response) = answer else { return Ok(()) };
        let Some(told) = response.groups.first() else { return Err("no group was described".to_string()) };
        let gone = told.error_code != NONE || told.members.is_empty();
        let flaw = if gone { None } else { flaw(turn, told) };
        self.content = flaw.is_none();
        self.seen = flaw.unwrap_or_default();
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && (!self.closing || self.content)
    }
}
