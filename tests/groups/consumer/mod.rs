//! Owns the clients of consumer groups (KIP-848): what they send, and what they make of the answers.

mod commits;
mod describe;
mod migration;
mod patterns;
mod protocol;
mod random;
mod restart;
mod statics;
mod topics;

use super::*;

const BEAT_MS: u64 = 5_000;

/// Partitions by topic name, in order.
pub type Parts = BTreeMap<String, Vec<i32>>;

/// A ConsumerGroupHeartbeat request.
#[derive(Clone, Debug)]
pub struct Beat {
    pub version: i16,
    pub group: String,
    pub member: String,
    pub epoch: i32,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub rebalance_ms: i32,
    pub topics: Option<Vec<String>>,
    pub pattern: Option<String>,
    pub assignor: Option<String>,
    pub owned: Option<Parts>,
}

impl Beat {
    /// Joins with a subscription.
    pub fn join(member: &str, topics: &[&str]) -> Beat {
        Beat {
            rebalance_ms: REBALANCE_MS,
            topics: Some(topics.iter().map(|t| t.to_string()).collect()),
            owned: Some(Parts::new()),
            ..Beat::stay(member, 0)
        }
    }

    /// Says nothing new.
    pub fn stay(member: &str, epoch: i32) -> Beat {
        Beat {
            version: 1,
            group: G.into(),
            member: member.into(),
            epoch,
            instance: None,
            rack: None,
            rebalance_ms: -1,
            topics: None,
            pattern: None,
            assignor: None,
            owned: None,
        }
    }

    pub fn owning(mut self, parts: &Parts) -> Beat {
        self.owned = Some(parts.clone());
        self
    }

    pub fn with_instance(mut self, instance: &str) -> Beat {
        self.instance = Some(instance.into());
        self
    }

    pub fn with_pattern(mut self, pattern: &str) -> Beat {
        (self.topics, self.pattern) = (None, Some(pattern.into()));
        self
    }

    pub fn with_assignor(mut self, assignor: &str) -> Beat {
        self.assignor = Some(assignor.into());
        self
    }
}

/// An answer to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Beaten {
    pub error: ErrorCode,
    pub message: Option<String>,
    pub member: Option<String>,
    pub epoch: i32,
    pub interval_ms: i32,
    pub assignment: Option<Parts>,
}

/// A described group: state, epochs, assignor.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub error: ErrorCode,
    pub state: String,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedMember {
    pub id: String,
    pub epoch: i32,
    pub assigned: Parts,
    pub target: Parts,
    pub kind: i8,
    pub pattern: String,
}

pub fn parts(of: &[(&str, &[i32])]) -> Parts {
    of.iter().map(|(topic, partitions)| (topic.to_string(), partitions.to_vec())).collect()
}

/// How many partitions there are.
pub fn count(parts: &Parts) -> usize {
    parts.values().map(|p| p.len()).sum()
}

/// Groups in which every change is assigned at once.
pub fn world() -> World {
    World::with(GroupSettings {
        group_initial_rebalance_delay_ms: 0,
        consumer_assignment_interval_ms: 0,
        ..Default::default()
    })
}

impl World {
    pub fn send_beat(&mut self, beat: &Beat) -> Ticket {
        self.label_topics();
        let ids = |label: &String| self.labels.get(label).copied().unwrap_or(Uuid([99; 16]));
        let owned = beat.owned.as_ref().map(|owned| {
            let one = |(topic, partitions): (&String, &Vec<i32>)| ConsumerGroupHeartbeatTopicPartitions {
                topic_id: ids(topic),
                partitions: partitions.clone(),
            };
            owned.iter().map(one).collect()
        });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &beat.group,
            member_id: &beat.member,
            member_epoch: beat.epoch,
            instance_id: beat.instance.as_deref(),
            rack_id: beat.rack.as_deref(),
            rebalance_timeout_ms: beat.rebalance_ms,
            subscribed_topic_names: beat.topics.as_ref().map(|topics| topics.iter().map(String::as_str).collect()),
            subscribed_topic_regex: beat.pattern.as_deref(),
            server_assignor: beat.assignor.as_deref(),
            topic_partitions: owned,
        };
        let body = encode(&request, beat.version).bytes;
        self.send_bytes(68, beat.version, &body)
    }

    pub fn beaten(&mut self, ticket: Ticket) -> Beaten {
        let names = self.label_topics();
        self.answer(ticket, move |body, version| {
            let r: ConsumerGroupHeartbeatResponse<'_> = decode(body, version).unwrap();
            let assignment = r.assignment.map(|a| {
                let one =
                    |t: &ConsumerGroupHeartbeatTopicPartitions| (names[&t.topic_id].clone(), t.partitions.clone());
                a.topic_partitions.iter().map(one).collect()
            });
            Beaten {
                error: r.error_code,
                message: r.error_message.map(String::from),
                member: r.member_id.map(String::from),
                epoch: r.member_epoch,
                interval_ms: r.heartbeat_interval_ms,
                assignment,
            }
        })
    }

    /// What the tests call each topic, by id.
    fn label_topics(&mut self) -> BTreeMap<Uuid, String> {
        for (name, (id, _)) in &self.topics.0 {
            if !self.labels.values().any(|known| known == id) {
                let again = self.labels.contains_key(name);
                let label = if again { format!("{name}@{}", id.0[0]) } else { name.clone() };
                self.labels.insert(label, *id);
            }
        }
        self.labels.iter().map(|(label, id)| (*id, label.clone())).collect()
    }

    /// Sends a heartbeat and, if it waits for a worker, lets the worker work.
    pub fn beat(&mut self, beat: &Beat) -> Beaten {
        let ticket = self.send_beat(beat);
        self.work();
        self.beaten(ticket)
    }

    /// The worker does what it was given.
    pub fn work(&mut self) {
        for job in std::mem::take(&mut self.given.jobs) {
            let done = chronik::broker::groups::match_topics(&job);
            self.with_ctx(|groups, ctx| groups.matched(ctx, done));
        }
    }

    pub fn stay(&mut self, member: &str, epoch: i32) -> Beaten {
        self.beat(&Beat::stay(member, epoch))
    }

    /// The member joins and must be taken; its epoch and what it was given.
    pub fn joined_consumer(&mut self, member: &str, topics: &[&str]) -> (i32, Parts) {
        let beaten = self.beat(&Beat::join(member, topics));
        assert_eq!((beaten.error, beaten.message), (ErrorCode::NONE, None));
        (beaten.epoch, beaten.assignment.unwrap())
    }

    pub fn leave_consumer(&mut self, member: &str) {
        let beaten = self.stay(member, -1);
        assert_eq!((beaten.error, beaten.epoch), (ErrorCode::NONE, -1));
    }

    pub fn describe_consumer(&mut self, group: &str) -> Described {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group], ..Default::default() };
        let names = self.label_topics();
        self.ask(1, &request, move |body, version| {
            let r: ConsumerGroupDescribeResponse<'_> = decode(body, version).unwrap();
            let parts = |a: &ConsumerGroupDescribeAssignment<'_>| {
                a.topic_partitions.iter().map(|t| (names[&t.topic_id].clone(), t.partitions.clone())).collect()
            };
            let group = &r.groups[0];
            let member = |m: &ConsumerGroupDescribeMember<'_>| DescribedMember {
                id: m.member_id.into(),
                epoch: m.member_epoch,
                assigned: parts(&m.assignment),
                target: parts(&m.target_assignment),
                kind: m.member_type,
                pattern: m.subscribed_topic_regex.unwrap_or("(null)").into(),
            };
            Described {
                error: group.error_code,
                state: group.group_state.into(),
                epoch: group.group_epoch,
                assignment_epoch: group.assignment_epoch,
                assignor: group.assignor_name.into(),
                members: group.members.iter().map(member).collect(),
            }
        })
    }

    /// Sets a topic's number of partitions, as an administrator does; none deletes it.
    pub fn change_topic(&mut self, name: &str, id: u8, partitions: Option<i32>) {
        self.label_topics();
        match partitions {
            Some(n) => self.topics.0.insert(name.into(), (Uuid([id; 16]), n)),
            None => self.topics.0.remove(name),
        };
        self.groups.topics_changed();
    }

    /// Two members that share a topic of eight partitions, each with its four.
    pub fn pair(&mut self) -> [Parts; 2] {
        let (_, all) = self.joined_consumer("a", &["t"]);
        assert_eq!(count(&all), 8);
        let (epoch, none) = self.joined_consumer("b", &["t"]);
        assert_eq!((epoch, count(&none)), (3, 0), "what it is to have is not free yet");
        let told = self.stay("a", 2);
        let kept = told.assignment.unwrap();
        assert_eq!((told.epoch, count(&kept)), (2, 4), "it is to give half of it up, and stays in its epoch");
        let done = self.beat(&Beat::stay("a", 2).owning(&kept));
        assert_eq!((done.epoch, done.assignment), (3, None));
        let given = self.stay("b", 3).assignment.unwrap();
        assert_eq!(count(&given), 4);
        [kept, given]
    }
}
