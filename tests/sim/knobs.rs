//! Owns what of a scenario can be set by name: so a seed that was made smaller has one command that replays it.

use chronik::config::Fsync;

use super::scenario::Scenario;

/// One knob: its name, what it is, how it is set, and what makes a run simplest.
pub struct Knob {
    pub name: &'static str,
    pub get: fn(&Scenario) -> u64,
    pub set: fn(&mut Scenario, u64),
    pub simplest: u64,
}

/// A knob for each field that is named: `true` and `false` are 1 and 0.
macro_rules! knobs {
    ($($name:literal: $($field:ident).+ as $kind:ident, $simplest:literal;)*) => {
        [$(Knob {
            name: $name,
            get: |scenario| knobs!(@get $kind, scenario.$($field).+),
            set: |scenario, value| scenario.$($field).+ = knobs!(@set $kind, value),
            simplest: $simplest,
        }),*]
    };
    (@get flag, $value:expr) => { u64::from($value) };
    (@get u64, $value:expr) => { $value };
    (@get $kind:ident, $value:expr) => { $value as u64 };
    (@set flag, $value:expr) => { $value != 0 };
    (@set u64, $value:expr) => { $value };
    (@set $kind:ident, $value:expr) => { $value as $kind };
}

/// All knobs that are a field; who takes part comes first, because that makes a run smaller than anything else.
pub const KNOBS: [Knob; 45] = knobs! {
    "strays": strays as u64, 0;
    "sharers": sharers as u64, 0;
    "group_members": group_members as u64, 0;
    "members": members as u64, 0;
    "txn_producers": txn_producers as u64, 0;
    "keyed": keyed as u64, 0;
    "producers": producers as u64, 0;
    "consumers": consumers as u64, 0;
    "tiered": tiered as flag, 0;
    "store_fails": store_fails as flag, 0;
    "compacts_late": compacts_late as flag, 0;
    "has_room": has_room as flag, 0;
    "file_metadata": file_metadata as flag, 0;
    "disk_errors": disk_errors as flag, 0;
    "full_disk": full_disk as flag, 0;
    "clock_jumps": clock_jumps as flag, 0;
    "rots": rots as flag, 0;
    "codecs": codecs as flag, 0;
    "splits": splits as flag, 0;
    "delete_records": delete_records as flag, 0;
    "drop": faults.drop as flag, 0;
    "torn": faults.torn as flag, 0;
    "garbled": faults.garbled as flag, 0;
    "names": faults.names as flag, 0;
    "length": faults.length as flag, 0;
    "stale": faults.stale as flag, 0;
    "migrate": manners.migrate as flag, 0;
    "patterns": manners.patterns as flag, 0;
    "vanish": manners.vanish as flag, 0;
    "reset_percent": reset_percent as u64, 0;
    "slow_us": slow_us as u64, 100;
    "net_us": net_us as u64, 50;
    "value_bytes_max": value_bytes_max as u64, 100;
    "map_bytes": map_bytes as usize, 65536;
    "roll_ms": roll_ms as i64, 1_000_000;
    "assignment_interval_ms": assignment_interval_ms as i64, 0;
    "group_session_ms": group_session_ms as i64, 8000;
    "lock_ms": lock_ms as i64, 5000;
    "deliveries_max": deliveries_max as i64, 10;
    "segment_bytes": segment_bytes as u64, 12_582_912;
    "events": events as u64, 1;
    "misfortune_events": misfortune_events as u64, 400;
    "misfortunes": misfortunes as u64, 0;
    "salt": salt as u64, 0;
    "only_try": only_try as u64, 0;
};

const FSYNC: &str = "fsync";

impl Scenario {
    /// Sets what a list like `events=300,torn=0` says.
    pub fn set(&mut self, list: &str) -> Result<(), String> {
        for item in list.split(',').filter(|item| !item.is_empty()) {
            let (name, value) =
                item.split_once('=').ok_or_else(|| format!("{item}: a name, = and a number are wanted"))?;
            let value: u64 = value.parse().map_err(|_| format!("{item}: no number"))?;
            if name == FSYNC {
                self.fsync = if value == 0 { Fsync::Always } else { self.fsync };
                continue;
            }
            let knob = KNOBS.iter().find(|knob| knob.name == name).ok_or_else(|| format!("{name}: no such knob"))?;
            (knob.set)(self, value);
        }
        Ok(())
    }

    /// The list that makes this scenario of the other one.
    pub fn difference(&self, from: &Scenario) -> String {
        let differs = KNOBS.iter().filter(|knob| (knob.get)(self) != (knob.get)(from));
        let mut items: Vec<String> = differs.map(|knob| format!("{}={}", knob.name, (knob.get)(self))).collect();
        if self.fsync != from.fsync {
            items.push(format!("{FSYNC}=0"));
        }
        items.join(",")
    }
}

#[test]
fn what_differs_between_two_scenarios_makes_the_one_of_the_other() {
    let from = Scenario::drawn(7);
    let mut to = from.clone();
    for (n, knob) in KNOBS.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        (knob.set)(&mut to, (n as u64 + 1) % 3);
    }
    let mut made = from.clone();
    made.set(&to.difference(&from)).expect("known names");
    assert_eq!(format!("{made:?}"), format!("{to:?}"));
    assert!(made.set("no-such-knob=1").is_err() && made.set("events").is_err() && made.set("events=x").is_err());
}
