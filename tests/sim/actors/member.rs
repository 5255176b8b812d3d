//! Owns members of consumer groups: they join, are given an assignment, beat, commit, and join again when told to.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use super::super::model::NONE;
use super::super::proto::{text, Answer, Ask};
use super::offsets::commit;
use super::{Actor, Turn};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    group: String,
    id: String,
    generation: i32,
    /// Members to give assignments to, if it leads.
    followers: Vec<String>,
    state: State,
    asked: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Joined,
    Stable,
}

impl Member {
    pub fn new(group: String) -> Member {
        let (id, followers) = (String::new(), Vec::new());
        Member { group, id, generation: -1, followers, state: State::Outside, asked: None }
    }

    fn join(&mut self, turn: &mut Turn<'_>) {
        let version = turn.rng.range(1, 9) as i16;
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(vec![1, 2, 3].into());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(text(&self.id))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        self.asked = Some(turn.send(version, Ask::JoinGroup(request)));
    }

    fn sync(&mut self, turn: &mut Turn<'_>) {
        let version = turn.rng.range(0, 5) as i16;
        let given = self.followers.iter().map(|member| {
            let assignment = format!("{} in {}", member, self.generation).into_bytes();
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment.into())
        });
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_assignments(given.collect());
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        self.asked = Some(turn.send(version, Ask::SyncGroup(request)));
    }

    fn beat(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.topics(true);
        if turn.rng.chance(40) {
            if let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() {
                let mut request = commit(turn, &self.group, &topic, partitions);
                request.generation_id_or_member_epoch = self.generation;
                request.member_id = text(&self.id);
                let version = turn.rng.range(2, 9) as i16;
                self.asked = Some(turn.send(version, Ask::OffsetCommit(request)));
                return;
            }
        }
        let version = turn.rng.range(0, 4) as i16;
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        self.asked = Some(turn.send(version, Ask::Heartbeat(request)));
    }

    /// Any error sends it back to joining; some cost it its name.
    fn failed(&mut self, code: i16) {
        self.state = State::Outside;
        if code == UNKNOWN_MEMBER_ID {
            self.id.clear();
        }
        if code == ILLEGAL_GENERATION {
            self.generation = -1;
        }
    }
}

impl Actor for Member {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(20_000, 200_000);
        if self.asked.is_some() || turn.closing {
            return;
        }
        match self.state {
            State::Outside => self.join(turn),
            State::Joined => self.sync(turn),
            State::Stable if turn.rng.one_in(60) => self.join(turn),
            State::Stable => self.beat(turn),
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        match answer {
            Answer::JoinGroup(response) if response.error_code == NONE => {
                (self.id, self.generation) = (response.member_id.to_string(), response.generation_id);
                self.followers = response.members.iter().map(|member| member.member_id.to_string()).collect();
                self.state = State::Joined;
            }
            Answer::JoinGroup(response) => {
                self.failed(response.error_code);
                if !response.member_id.is_empty() && response.error_code != UNKNOWN_MEMBER_ID {
                    self.id = response.member_id.to_string();
                }
            }
            Answer::SyncGroup(response) if response.error_code == NONE => self.state = State::Stable,
            Answer::SyncGroup(response) => self.failed(response.error_code),
            Answer::Heartbeat(response) if response.error_code != NONE => self.failed(response.error_code),
            Answer::OffsetCommit(response) => {
                let codes = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
                if let Some(code) = codes.filter(|code| *code != NONE).last() {
                    self.failed(code);
                }
            }
            _ => {}
        }
        if self.state != State::Stable {
            turn.again(0, 5000);
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        if self.asked.take().is_some() && self.state == State::Joined {
            self.state = State::Outside;
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
