//! Owns random schedules: consumers that come, fall silent, leave and change their minds, topics that change, a broker that
//! restarts, from a seed. At no moment two of them own a partition; left in peace they own all there is.

use super::*;

const CLIENTS: usize = 6;

/// A small generator; the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A consumer, as it sees itself.
#[derive(Debug)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    owned: Parts,
    /// What it was told to own, if it has not got there yet.
    told: Option<Parts>,
    says: Says,
    /// A client that has stopped: until when, and whether it knows it.
    away_until_us: Option<u64>,
    next_us: u64,
    lives: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Says {
    Topics(Vec<&'static str>),
    Pattern(&'static str),
}

struct Schedule {
    w: World,
    random: Random,
    clients: Vec<Client>,
    restarts: bool,
    group_epoch: i32,
}

impl Schedule {
    fn new(seed: u64, restarts: bool) -> Schedule {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let consumer_assignment_interval_ms = [0, 1000][random.below(2) as usize];
        let mut w = World::with(GroupSettings { consumer_assignment_interval_ms, ..Default::default() });
        // With an offset the group never ends, so that its epochs can be compared.
        assert_eq!(w.commit("", -1, "v", 0, 1), ErrorCode::NONE);
        let client = |i: usize| Client {
            id: format!("m{i}-0"),
            instance: (i % 3 == 0).then(|| format!("i{i}")),
            epoch: 0,
            owned: Parts::new(),
            told: None,
            says: Says::Topics(vec!["t"]),
            away_until_us: None,
            next_us: 0,
            lives: 0,
        };
        Schedule { w, random, clients: (0..CLIENTS).map(client).collect(), restarts, group_epoch: 0 }
    }

    /// The heartbeat that a real client would send now.
    fn heartbeat(&mut self, i: usize) -> Beat {
        let client = &mut self.clients[i];
        let mut beat = match (&client.says, client.epoch) {
            (Says::Topics(topics), 0) => Beat { pattern: Some("".into()), ..Beat::join(&client.id, topics) },
            (Says::Pattern(pattern), 0) => {
                Beat { topics: Some(Vec::new()), pattern: Some(pattern.to_string()), ..Beat::join(&client.id, &[]) }
            }
            (_, epoch) => Beat::stay(&client.id, epoch),
        };
        beat.instance = client.instance.clone();
        if let Some(told) = client.told.take() {
            // What it loses it gives up now, and says so; what it wins it has from now on.
            client.owned = told;
            if client.epoch > 0 {
                beat = beat.owning(&client.owned);
            }
        }
        beat
    }

    fn beat(&mut self, i: usize) {
        let beat = self.heartbeat(i);
        let beaten = self.w.beat(&beat);
        if self.random.below(20) == 0 {
            // The answer is lost. The client says everything again, as it does after a timeout.
            self.clients[i].next_us = self.w.mono_us;
            return self.say_all(i);
        }
        self.hear(i, beaten);
    }

    fn say_all(&mut self, i: usize) {
        let client = &self.clients[i];
        if client.epoch <= 0 {
            return;
        }
        let (topics, pattern) = match &client.says {
            Says::Topics(topics) => (topics.iter().map(|t| t.to_string()).collect(), String::new()),
            Says::Pattern(pattern) => (Vec::new(), pattern.to_string()),
        };
        let beat = Beat {
            rebalance_ms: REBALANCE_MS,
            topics: Some(topics),
            pattern: Some(pattern),
            instance: client.instance.clone(),
            ..Beat::stay(&client.id, client.epoch).owning(&client.owned)
        };
        let beaten = self.w.beat(&beat);
        self.hear(i, beaten);
    }

    fn hear(&mut self, i: usize, beaten: Beaten) {
        let now_us = self.w.mono_us;
        let client = &mut self.clients[i];
        client.next_us = now_us + BEAT_MS * 1000;
        match beaten.error {
            ErrorCode::NONE => {
                if client.epoch > 0 {
                    assert!(beaten.epoch >= client.epoch, "a member's epoch went back");
                }
                client.epoch = beaten.epoch;
                if let Some(told) = beaten.assignment {
                    // It stops working on what it loses at once; what it wins is its own from now on.
                    client.owned = told.clone();
                    client.told = Some(told);
                    client.next_us = now_us;
                }
                self.nobody_shares(i);
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => self.begin_anew(i),
            ErrorCode::UNRELEASED_INSTANCE_ID => client.next_us = now_us + BEAT_MS * 1000,
            ErrorCode::FENCED_INSTANCE_ID => self.begin_anew(i),
            other => panic!("{other:?} {:?}", beaten.message),
        }
    }

    fn begin_anew(&mut self, i: usize) {
        let client = &mut self.clients[i];
        (client.epoch, client.owned, client.told) = (0, Parts::new(), None);
        client.next_us = self.w.mono_us;
    }

    /// No partition is owned by two clients that the broker counts as members.
    fn nobody_shares(&mut self, i: usize) {
        let members: Vec<String> = self.w.describe_consumer(G).members.into_iter().map(|m| m.id).collect();
        let mine = &self.clients[i];
        for other in self.clients.iter().filter(|other| other.id != mine.id && members.contains(&other.id)) {
            for (topic, partitions) in &other.owned {
                let shared = mine.owned.get(topic).is_some_and(|p| p.iter().any(|p| partitions.contains(p)));
                assert!(!shared, "{} and {} share partitions of {topic}", mine.id, other.id);
            }
        }
    }

    /// The client's process ends. A new one has another id; a static one its instance.
    fn replace(&mut self, i: usize, away_ms: u64) {
        let until_us = self.w.mono_us + away_ms * 1000;
        let client = &mut self.clients[i];
        client.lives += 1;
        client.id = format!("m{i}-{}", client.lives);
        client.away_until_us = Some(until_us);
        (client.epoch, client.owned, client.told) = (0, Parts::new(), None);
    }

    fn disturb(&mut self) {
        let i = self.random.below(CLIENTS as u64) as usize;
        let away_ms = self.random.below(60_000);
        let (id, instance, epoch) = {
            let c = &self.clients[i];
            (c.id.clone(), c.instance.clone(), c.epoch)
        };
        match self.random.below(40) {
            0 | 1 => self.replace(i, away_ms),
            2 | 3 if epoch > 0 => {
                let for_good = instance.is_none() || self.random.below(3) == 0;
                let beat = Beat { instance, ..Beat::stay(&id, if for_good { -1 } else { -2 }) };
                let left = self.w.beat(&beat);
                assert!(matches!(
                    left.error,
                    ErrorCode::NONE | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID
                ));
                self.replace(i, away_ms);
            }
            4 => {
                let all = [
                    Says::Topics(vec!["t"]),
                    Says::Topics(vec!["t", "u"]),
                    Says::Topics(vec!["u", "w"]),
                    Says::Pattern("t|w"),
                    Says::Pattern(".*"),
                ];
                self.clients[i].says = all[self.random.below(5) as usize].clone();
                self.say_all(i);
            }
            5 => {
                let n = self.w.topics.0.get("t").map_or(1, |(_, n)| *n);
                self.w.change_topic("t", 1, Some((n + 1).min(20)));
            }
            6 => {
                let there = self.w.topics.0.contains_key("w");
                let id = 10 + self.random.below(200) as u8;
                self.w.change_topic("w", id, (!there).then_some(5));
            }
            // A client that stops in its tracks: it goes on owning, as far as it knows.
            7 => self.clients[i].next_us = self.w.mono_us + away_ms * 1000,
            8 if self.restarts => self.w.restart(),
            _ => {}
        }
    }

    fn step(&mut self, disturbed: bool) {
        if disturbed {
            self.disturb();
        }
        for i in 0..CLIENTS {
            let now_us = self.w.mono_us;
            let client = &mut self.clients[i];
            if client.away_until_us.is_some_and(|until| until > now_us) {
                continue;
            }
            client.away_until_us = None;
            if client.next_us <= now_us {
                self.beat(i);
            }
        }
        let ms = self.random.below(1500);
        self.w.pass_ms(ms);
        let described = self.w.describe_consumer(G);
        if described.error == ErrorCode::NONE {
            assert!(described.epoch >= self.group_epoch, "the group's epoch went back");
            self.group_epoch = described.epoch;
            self.check_described(&described);
        }
        assert!(self.w.groups.timers() <= 2 * described.members.len() + 1);
    }

    /// What the broker says of itself: no partition has two owners, no two targets have one.
    fn check_described(&self, described: &Described) {
        for which in [|m: &DescribedMember| m.assigned.clone(), |m: &DescribedMember| m.target.clone()] {
            let mut seen = std::collections::BTreeSet::new();
            for member in &described.members {
                assert!(member.epoch <= described.epoch);
                for (topic, partitions) in which(member) {
                    assert!(partitions.iter().all(|p| seen.insert((topic.clone(), *p))), "{topic} is owned twice");
                }
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..200 {
            self.step(true);
        }
        for client in &mut self.clients {
            client.away_until_us = None;
        }
        for _ in 0..200 {
            self.step(false);
        }
        self.all_is_owned();
        self.all_end();
    }

    /// Left in peace, the group is stable, and everything that is subscribed to has an owner who knows it.
    fn all_is_owned(&mut self) {
        let described = self.w.describe_consumer(G);
        assert_eq!((described.state.as_str(), described.members.len()), ("Stable", CLIENTS), "{described:#?}");
        let mut owned: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for client in &self.clients {
            let member = described.members.iter().find(|m| m.id == client.id).unwrap();
            assert_eq!((&member.assigned, &member.target), (&client.owned, &client.owned));
            for (topic, partitions) in &client.owned {
                owned.entry(topic.clone()).or_default().extend(partitions);
            }
        }
        let wanted = |topic: &str| {
            self.clients.iter().any(|client| match &client.says {
                Says::Topics(topics) => topics.contains(&topic),
                Says::Pattern("t|w") => topic == "t" || topic == "w",
                Says::Pattern(_) => true,
            })
        };
        for (topic, (id, n)) in &self.w.topics.0 {
            let label = self.w.labels.iter().find(|(_, known)| *known == id).map_or(topic, |(label, _)| label);
            let mut have = owned.remove(label).unwrap_or_default();
            have.sort_unstable();
            let all: Vec<i32> = if wanted(topic) { (0..*n).collect() } else { Vec::new() };
            assert_eq!(have, all, "{topic}");
        }
        assert!(owned.is_empty(), "{owned:?}");
    }

    /// All are gone: in the end so is the group, with every timer and byte of it.
    fn all_end(&mut self) {
        self.w.pass_ms(60_000);
        assert_eq!(self.w.describe_consumer(G).state, "Empty");
        assert_eq!((self.w.groups.timers(), self.w.groups.parked()), (1, 0), "only the offsets' expiry is timed");
        self.w.pass_ms(8 * 24 * 3_600_000);
        assert_eq!((self.w.groups.timers(), self.w.groups.bytes()), (0, 0));
        self.w.restart();
        assert_eq!((self.w.groups.timers(), self.w.groups.bytes()), (0, 0));
    }
}

#[test]
fn random_schedules_keep_the_promises() {
    for seed in 0..20 {
        println!("seed {seed}");
        Schedule::new(seed, false).run();
    }
}

#[test]
fn random_schedules_with_restarts_keep_the_promises() {
    for seed in 1000..1020 {
        println!("seed {seed}");
        Schedule::new(seed, true).run();
    }
}
