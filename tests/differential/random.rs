//! Owns random sequences: a grammar of requests over a small world, written as text that a sequence file could hold.

use std::collections::BTreeMap;

use super::codec::Described;
use super::script::Scripts;
use super::work::Job;
use crate::codec::random::Random;

/// How many requests a sequence makes of its world.
const STEPS: usize = 14;

/// The sequence of a seed.
pub fn job(seed: u64, apis: &BTreeMap<&'static str, Described>) -> Job {
    let text = World { random: Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7)) }.sequence(seed);
    of_text(seed, &text, apis)
}

fn of_text(seed: u64, text: &str, apis: &BTreeMap<&'static str, Described>) -> Job {
    let mut scripts = Scripts::default();
    scripts.read("random", text, apis).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    let sequence = scripts.sequences.remove(0);
    Job {
        title: sequence.title,
        place: format!("random:{seed:06}"),
        pinned: None,
        parameters: Vec::new(),
        alone: false,
        steps: sequence.steps,
        text: Some(text.to_string()),
        seed: Some(seed),
    }
}

/// The same sequence without what can be left out, so that `still_fails` goes on to say so. Lines go one by one, the last
/// ones first; the title and what follows from it stay as they are.
pub fn shrink(job: &Job, apis: &BTreeMap<&'static str, Described>, mut still_fails: impl FnMut(&Job) -> bool) -> Job {
    let (Some(seed), Some(text)) = (job.seed, &job.text) else { return job.clone() };
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let mut smallest = job.clone();
    for at in (1..lines.len()).rev() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        let candidate = of_text(seed, &(fewer.join("\n") + "\n"), apis);
        if still_fails(&candidate) {
            lines = fewer;
            smallest = candidate;
        }
    }
    smallest
}

/// Three topics, of which one is not there at first, three groups, two idempotent producers and a transactional one.
struct World {
    random: Random,
}

impl World {
    fn sequence(&mut self, seed: u64) -> String {
        let mut lines = vec![format!("== random {seed}"), "topic(@t, 2)".into(), "topic(@u, 1)".into()];
        for producer in ["p", "q"] {
            let at = format!("{producer} = producer_id");
            lines.push(format!("InitProducerId {{ transactional_id: null }} -> {at}"));
        }
        for _ in 0..STEPS {
            let line = match self.random.below(12) {
                0..=2 => self.produce(),
                3 | 4 => self.fetch(),
                5 => self.list_offsets(),
                6 => self.commit(),
                7 => self.committed(),
                8 => self.member(),
                9 => self.topics(),
                10 => self.configs(),
                _ => self.about(),
            };
            lines.push(line);
        }
        lines.join("\n") + "\n"
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.below(of.len())]
    }

    fn topic(&mut self) -> &'static str {
        self.one(&["@t", "@t", "@t", "@u", "@v"])
    }

    fn partition(&mut self) -> &'static str {
        self.one(&["0", "0", "0", "1", "1", "2", "-1"])
    }

    fn group(&mut self) -> &'static str {
        self.one(&["@g", "@g", "@h", "@i"])
    }

    /// A version from the newest one down, or none for the newest.
    fn version(&mut self, newest: usize, oldest: usize) -> String {
        match self.random.below(3) {
            0 => String::new(),
            _ => format!("/{}", oldest + self.random.below(newest - oldest + 1)),
        }
    }

    fn records(&mut self) -> String {
        let values =
            self.one(&["[\"a\"]", "[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]", "[{ k: \"k\", v: \"v\" }]", "[null]"]);
        let codec = self.one(&["gzip", "snappy", "lz4", "zstd"]);
        match self.random.below(8) {
            0..=2 => format!("batch({values})"),
            3 => format!("batch({values}, {{ codec: \"{codec}\" }})"),
            _ => {
                let producer = self.one(&["$p", "$q"]);
                let epoch = self.one(&["0", "0", "0", "0", "1"]);
                let seq = self.random.below(5);
                format!("batch({values}, {{ pid: {producer}, epoch: {epoch}, seq: {seq} }})")
            }
        }
    }

    /// To a topic's newest id if it has one; version 12 is the newest that names topics.
    fn produce(&mut self) -> String {
        let version = 3 + self.random.below(10);
        let acks = self.one(&["-1", "-1", "1"]);
        let (topic, partition, records) = (self.topic(), self.partition(), self.records());
        format!(
            "Produce/{version} {{ acks: {acks}, timeout_ms: 5000, topic_data: [{{ name: {topic}, partition_data: \
             [{{ index: {partition}, records: {records} }}] }}] }} ~ duplicate-time"
        )
    }

    fn fetch(&mut self) -> String {
        let version = 4 + self.random.below(9);
        let (topic, partition) = (self.topic(), self.partition());
        let offset = self.one(&["0", "0", "1", "2", "3", "5", "-1"]);
        let bytes = self.one(&["1000000", "1000000", "100", "1"]);
        let level = self.random.below(2);
        format!(
            "Fetch/{version} {{ max_wait_ms: 0, min_bytes: 0, max_bytes: {bytes}, isolation_level: {level}, session_epoch: \
             -1, topics: [{{ topic: {topic}, partitions: [{{ partition: {partition}, fetch_offset: {offset}, \
             partition_max_bytes: {bytes} }}] }}] }}"
        )
    }

    fn list_offsets(&mut self) -> String {
        let version = self.version(11, 1);
        let (topic, partition) = (self.topic(), self.partition());
        let at = self.one(&["-1", "-2", "-4", "0", "$now", "$now + 1"]);
        let level = self.random.below(2);
        format!(
            "ListOffsets{version} {{ replica_id: -1, isolation_level: {level}, topics: [{{ name: {topic}, partitions: \
             [{{ partition_index: {partition}, timestamp: {at} }}] }}] }}"
        )
    }

    fn commit(&mut self) -> String {
        let version = 2 + self.random.below(8);
        let (group, topic, partition) = (self.group(), self.topic(), self.partition());
        let offset = self.random.below(9);
        let generation = self.one(&["-1", "-1", "-1", "0", "1"]);
        format!(
            "OffsetCommit/{version} {{ group_id: {group}, generation_id_or_member_epoch: {generation}, topics: [{{ name: \
             {topic}, partitions: [{{ partition_index: {partition}, committed_offset: {offset} }}] }}] }}"
        )
    }

    fn committed(&mut self) -> String {
        let version = 1 + self.random.below(9);
        let (group, topic) = (self.group(), self.topic());
        let wanted = match (version > 1, self.random.below(2)) {
            (true, 0) => "null".to_string(),
            _ => format!("[{{ name: {topic}, partition_indexes: [0, 1] }}]"),
        };
        format!(
            "OffsetFetch/{version} {{ group_id: {group}, topics: {wanted}, groups: [{{ group_id: {group}, topics: {wanted} \
             }}] }}"
        )
    }

    fn member(&mut self) -> String {
        let group = self.group();
        match self.random.below(6) {
            0 => format!("stable({group})"),
            1 => format!("join-first({group})"),
            2 => format!("let m = \"nobody\" let gen = 1 Heartbeat {{ group_id: {group}, generation_id: $gen, member_id: $m }}"),
            3 => format!("LeaveGroup/3 {{ group_id: {group}, members: [{{ member_id: \"nobody\" }}] }}"),
            4 => format!("DeleteGroups {{ groups_names: [{group}] }}"),
            _ => format!("OffsetDelete {{ group_id: {group}, topics: [{{ name: @t, partitions: [{{ partition_index: 0 }}] }}] }}"),
        }
    }

    fn topics(&mut self) -> String {
        let topic = self.topic();
        match self.random.below(5) {
            0 | 1 => format!("topic(@v, {})", 1 + self.random.below(3)),
            2 => "DeleteTopics/5 { topic_names: [@u], timeout_ms: 5000 }\nuntil topics[0].error_code = 3 Metadata { topics: \
                 [{ name: @u }], allow_auto_topic_creation: false }"
                .to_owned(),
            3 => {
                let offset = self.one(&["0", "1", "2", "-1", "9"]);
                format!(
                    "DeleteRecords {{ topics: [{{ name: {topic}, partitions: [{{ partition_index: 0, offset: {offset} }}] \
                     }}], timeout_ms: 5000 }}"
                )
            }
            _ => {
                let count = 1 + self.random.below(4);
                format!(
                    "CreatePartitions {{ topics: [{{ name: {topic}, count: {count}, assignments: null }}], timeout_ms: 5000, \
                     validate_only: true }}"
                )
            }
        }
    }

    fn configs(&mut self) -> String {
        let topic = self.topic();
        let key =
            self.one(&["retention.ms", "cleanup.policy", "max.message.bytes", "message.timestamp.type", "no.such"]);
        let value = self.one(&["\"1000000\"", "\"delete\"", "\"CreateTime\"", "\"x\"", "null"]);
        match self.random.below(3) {
            0 => format!(
                "DescribeConfigs {{ resources: [{{ resource_type: 2, resource_name: {topic}, configuration_keys: [\"{key}\"] \
                 }}] }}"
            ),
            _ => {
                let op = self.random.below(2);
                format!(
                    "IncrementalAlterConfigs {{ resources: [{{ resource_type: 2, resource_name: {topic}, configs: [{{ name: \
                     \"{key}\", config_operation: {op}, value: {value} }}] }}] }}"
                )
            }
        }
    }

    fn about(&mut self) -> String {
        let (topic, group) = (self.topic(), self.group());
        let version = self.version(13, 4);
        match self.random.below(5) {
            0 => format!("Metadata{version} {{ topics: [{{ name: {topic} }}], allow_auto_topic_creation: false }}"),
            1 => format!("DescribeGroups {{ groups: [{group}] }}"),
            2 => "mine ListGroups {}".to_string(),
            3 => format!("DescribeProducers {{ topics: [{{ name: {topic}, partition_indexes: [0] }}] }}"),
            _ => format!("OffsetForLeaderEpoch {{ replica_id: -1, topics: [{{ topic: {topic}, partitions: [{{ partition: 0, leader_epoch: 0 }}] }}] }}"),
        }
    }
}
