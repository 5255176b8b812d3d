//! Owns random schedules: members that fetch, answer, fall silent, lose their connections and come again, and a broker that
//! restarts, from a seed. Held against what each member was told.

use super::*;

const MEMBERS: usize = 4;
const DELIVERIES_MAX: i16 = 5;

/// A small generator; the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What is known of a record by what members were told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    /// Who has it, and until when (monotonic µs).
    owner: Option<(usize, u64)>,
    /// The deliveries that the last one was told.
    count: i16,
    /// Accepted, rejected or said not to be there: never to be seen again.
    done: bool,
}

struct Schedule {
    w: World,
    random: Random,
    members: Vec<Member>,
    records: Vec<Known>,
    deleted: i64,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut w = World::new();
        w.topic("t", 1);
        w.begin_at_the_start(G);
        let members = (0..MEMBERS).map(|n| w.join(&format!("m{n}"), &["t"])).collect();
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Schedule { w, random, members, records: Vec::new(), deleted: 0 }
    }

    fn step(&mut self) {
        let member = self.random.below(MEMBERS as u64) as usize;
        match self.random.below(40) {
            0..=4 => self.produce(),
            5..=17 => self.fetch(member),
            18..=31 => self.acknowledge(member),
            32 => self.close(member),
            33 => self.reconnect(member),
            34 => self.restart(),
            35 => self.delete_records(),
            _ => {
                let ms = [1, 500, 5000, LOCK_MS - 1, LOCK_MS][self.random.below(5) as usize];
                self.w.h.pass_ms(ms);
                self.w.h.settle();
            }
        }
    }

    fn produce(&mut self) {
        let records = 1 + self.random.below(8) as usize;
        assert_eq!(self.w.produce("t", records), self.records.len() as i64);
        self.records.resize(self.records.len() + records, Known::default());
    }

    fn fetch(&mut self, member: usize) {
        let records = 1 + self.random.below(20) as i32;
        let mode = self.random.below(2) as i8;
        let want = Want { wait_ms: 0, records, batch_size: 1 + self.random.below(5) as i32, mode, ..WANT };
        let mut client = self.members[member].clone();
        let got = self.w.fetch(&mut client, want);
        self.members[member] = client;
        if got.error == ErrorCode::SHARE_SESSION_NOT_FOUND {
            self.members[member].epoch = 0;
            return;
        }
        let ranges = got.acquired();
        let taken: i64 = ranges.iter().map(|(first, last, _)| last - first + 1).sum();
        assert!(mode == 0 || taken <= i64::from(records), "more than wanted: {ranges:?}");
        for (first, last, count) in ranges {
            for offset in first..=last {
                self.delivered(member, offset, count);
            }
        }
    }

    fn delivered(&mut self, member: usize, offset: i64, count: i16) {
        let now_us = self.w.h.now.mono_us;
        let known = &mut self.records[offset as usize];
        assert!(!known.done, "{offset} was done with and comes again");
        assert!(offset >= self.deleted, "{offset} was deleted");
        assert!(count <= DELIVERIES_MAX, "{offset} is delivered for the {count}th time");
        if let Some((owner, until_us)) = known.owner {
            assert!(until_us <= now_us, "{offset} is {owner}'s and goes to {member}");
        }
        *known = Known { owner: Some((member, now_us + LOCK_MS * 1000)), count, done: false };
    }

    /// Answers for a stretch of what the member has, or thinks that it has.
    fn acknowledge(&mut self, member: usize) {
        let now_us = self.w.h.now.mono_us;
        let mine = |known: &Known| known.owner.is_some_and(|(owner, until_us)| owner == member && until_us > now_us);
        let held: Vec<i64> = (0..self.records.len() as i64).filter(|n| mine(&self.records[*n as usize])).collect();
        if held.is_empty() {
            return;
        }
        let first = held[self.random.below(held.len() as u64) as usize];
        let longest = held.iter().skip_while(|n| **n < first).zip(first..).take_while(|(a, b)| *a == b).count() as u64;
        let len = 1 + self.random.below(longest);
        let last = first + len as i64 - 1;
        let kinds: Vec<i8> =
            (0..len).map(|_| [ACCEPT, ACCEPT, RELEASE, REJECT, GAP, RENEW][self.random.below(6) as usize]).collect();
        let kinds = if self.random.one_in(3) { vec![kinds[0]] } else { kinds };
        let mut client = self.members[member].clone();
        let (error, parts) = self.w.ack_of(&mut client, &[(self.w.id("t"), 0, &[(first, last, &kinds)])]);
        self.members[member] = client;
        if error == ErrorCode::SHARE_SESSION_NOT_FOUND {
            self.members[member].epoch = 0;
            return;
        }
        assert_eq!((error, &parts[..]), (ErrorCode::NONE, &[ErrorCode::NONE][..]), "{first} to {last} by {member}");
        for offset in first..=last {
            let kind = if kinds.len() == 1 { kinds[0] } else { kinds[(offset - first) as usize] };
            let known = &mut self.records[offset as usize];
            match kind {
                RENEW => known.owner = Some((member, now_us + LOCK_MS * 1000)),
                RELEASE => known.owner = None,
                _ => *known = Known { owner: None, done: true, ..*known },
            }
        }
    }

    /// The member has nothing any more.
    fn forget(&mut self, member: usize) {
        for known in self.records.iter_mut().filter(|known| known.owner.is_some_and(|(owner, _)| owner == member)) {
            known.owner = None;
        }
    }

    fn close(&mut self, member: usize) {
        let mut client = self.members[member].clone();
        if client.epoch > 0 {
            self.w.close_session(&mut client);
            self.members[member] = client;
            self.forget(member);
        }
    }

    fn reconnect(&mut self, member: usize) {
        let (now, conn) = (self.w.h.now, self.members[member].conn);
        self.w.h.broker.disconnected(now, conn);
        self.w.h.settle();
        self.members[member].conn = self.w.h.connect();
        self.forget(member);
    }

    fn restart(&mut self) {
        if self.random.one_in(3) {
            self.w.h.checkpoint();
        }
        self.w.restart();
        for member in 0..MEMBERS {
            self.members[member].conn = self.w.h.connect();
            self.forget(member);
        }
    }

    fn delete_records(&mut self) {
        if !self.random.one_in(4) || self.records.is_empty() {
            return;
        }
        let offset = self.random.below(self.records.len() as u64) as i64;
        if offset <= self.deleted {
            return;
        }
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
        let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
        self.w.h.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
        self.deleted = offset;
        self.records[..offset as usize].fill(Known { done: true, ..Known::default() });
    }

    /// One member takes and accepts all that is left: nothing may be missing.
    fn drain(&mut self) {
        for member in 0..MEMBERS {
            self.close(member);
        }
        self.w.h.pass_ms(LOCK_MS);
        self.w.h.settle();
        self.w.beat(G, "last", 0, Some(&["t"]));
        for _ in 0..10_000 {
            self.members[0].epoch = self.members[0].epoch.max(0);
            let before = self.members[0].epoch;
            let mut client = self.members[0].clone();
            let got = self.w.fetch(&mut client, Want { wait_ms: 0, ..WANT });
            self.members[0] = client;
            if got.error != ErrorCode::NONE {
                assert!(before > 0);
                self.members[0].epoch = 0;
                continue;
            }
            let ranges = got.acquired();
            if ranges.is_empty() {
                break;
            }
            for (first, last, count) in ranges {
                (first..=last).for_each(|offset| self.delivered(0, offset, count));
                let mut client = self.members[0].clone();
                assert_eq!(self.w.ack(&mut client, &[(first, last, &[ACCEPT])]), ErrorCode::NONE);
                self.members[0] = client;
                for offset in first..=last {
                    self.records[offset as usize] = Known { owner: None, count, done: true };
                }
            }
        }
        for (offset, known) in self.records.iter().enumerate() {
            assert!(known.done || known.count == DELIVERIES_MAX, "{offset} is lost: {known:?}");
        }
        let (start, lag) = self.w.start_and_lag("t", 0);
        let end = self.records.len() as i64;
        assert!(start == -1 && end == 0 || (start, lag) == (end, 0), "starts at {start} of {end}, lag {lag}");
    }
}

#[test]
fn no_schedule_loses_or_repeats_a_record() {
    for seed in 1..=40 {
        let mut schedule = Schedule::new(seed);
        for _ in 0..250 {
            schedule.step();
        }
        schedule.drain();
    }
}
