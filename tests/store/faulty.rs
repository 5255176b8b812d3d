//! Owns a store in memory that fails as it is told to, the same way for the same seed, in simulated time.
//!
//! Without faults it keeps the contract. With them it errs before or after the effect, takes time, answers from the
//! past, is down, or holds objects that were changed or lost behind its users' backs.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;

use chronik::limits::STORE_LIST_PAGE;
use chronik::store::{
    check_key, check_prefix, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page, PutMode, Source, StoreError,
};

type Result<T> = std::result::Result<T, StoreError>;

/// How often what goes wrong, each in a thousand calls.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Fails and does nothing.
    pub before: u32,
    /// Does it and fails all the same.
    pub after: u32,
    /// A read breaks off in the middle, with an error.
    pub torn: u32,
    /// A look, read or listing shows the state before the last change of that object.
    pub stale: u32,
    /// Simulated milliseconds that a call takes, at least and at most.
    pub delay_ms: (u64, u64),
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Vec<u8>,
    info: ObjectInfo,
}

#[derive(Debug, Default)]
struct State {
    now: BTreeMap<String, Object>,
    /// What was there before the last change of a key; `None` for nothing.
    past: BTreeMap<String, Option<Object>>,
    faults: Faults,
    down: Option<Kind>,
    chance: u64,
    clock_ms: u64,
    changes: u64,
    calls: u64,
}

/// The store. Its own methods are for tests and never fail.
#[derive(Debug, Default)]
pub struct FaultyStore {
    state: Mutex<State>,
}

impl State {
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, in_a_thousand: u32) -> bool {
        // Asked for every possible fault, so that changing one rate doesn't move the others.
        self.random() % 1000 < u64::from(in_a_thousand)
    }

    /// Begins a call: time passes, and it may fail before it does anything.
    fn begin(&mut self) -> Result<()> {
        self.calls += 1;
        let (least, most) = self.faults.delay_ms;
        self.clock_ms += least + self.random() % (most.saturating_sub(least) + 1);
        if let Some(kind) = self.down.clone() {
            return Err(StoreError::new(kind, "The store is down."));
        }
        match self.happens(self.faults.before) {
            true => Err(self.fault()),
            false => Ok(()),
        }
    }

    /// Ends a call that has had its effect.
    fn end<T>(&mut self, done: T) -> Result<T> {
        match self.happens(self.faults.after) {
            true => Err(self.fault()),
            false => Ok(done),
        }
    }

    fn fault(&mut self) -> StoreError {
        let kinds = [Kind::Unavailable, Kind::Timeout, Kind::Throttled];
        let kind = kinds[(self.random() % 3) as usize].clone();
        StoreError::new(kind, "The store failed, as it was told to.")
    }

    fn seen(&mut self, key: &str) -> Option<Object> {
        match self.happens(self.faults.stale) {
            true => self.past.get(key).cloned().unwrap_or_else(|| self.now.get(key).cloned()),
            false => self.now.get(key).cloned(),
        }
    }

    fn change(&mut self, key: &str, bytes: Option<Vec<u8>>) -> ETag {
        self.changes += 1;
        let etag = ETag(format!("v{}", self.changes));
        let old = match bytes {
            None => self.now.remove(key),
            Some(bytes) => {
                let modified_ms = 1_700_000_000_000 + self.clock_ms as i64;
                let info = ObjectInfo { size: bytes.len() as u64, etag: etag.clone(), modified_ms };
                self.now.insert(key.to_owned(), Object { bytes, info })
            }
        };
        self.past.insert(key.to_owned(), old);
        etag
    }
}

fn not_found(key: &str) -> StoreError {
    StoreError::new(Kind::NotFound, format!("There is no object {key}."))
}

impl FaultyStore {
    /// A store without faults yet.
    pub fn new(seed: u64) -> FaultyStore {
        FaultyStore { state: Mutex::new(State { chance: seed, ..State::default() }) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// From now on this goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|state| state.faults = faults);
    }

    /// From now on every call fails so, or none any more.
    pub fn set_down(&self, kind: Option<Kind>) {
        self.with(|state| state.down = kind);
    }

    /// Simulated milliseconds that calls have taken.
    pub fn elapsed_ms(&self) -> u64 {
        self.with(|state| state.clock_ms)
    }

    /// Calls so far, the failed ones too.
    pub fn calls(&self) -> u64 {
        self.with(|state| state.calls)
    }

    /// Every object, as it really is.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.with(|state| state.now.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect())
    }

    /// Changes an object behind everybody's back: other bytes and another state.
    pub fn replace_behind(&self, key: &str, bytes: Vec<u8>) {
        self.with(|state| {
            state.change(key, Some(bytes));
        });
    }

    /// Changes a byte without changing the state, as a broken disk would. False if there is no such byte.
    pub fn rot(&self, key: &str, at: usize) -> bool {
        self.with(|state| {
            let byte = state.now.get_mut(key).and_then(|object| object.bytes.get_mut(at));
            byte.map(|byte| *byte ^= 0x40).is_some()
        })
    }

    /// Loses an object behind everybody's back.
    pub fn remove_behind(&self, key: &str) {
        self.with(|state| {
            state.change(key, None);
        });
    }
}

fn read_all(source: &dyn Source) -> Result<Vec<u8>> {
    let mut bytes = vec![0; source.size() as usize];
    let mut at = 0;
    while at < bytes.len() {
        match source.read_at(at as u64, &mut bytes[at..]) {
            Ok(count) if count > 0 => at += count,
            Ok(_) => return Err(StoreError::new(Kind::Source, "The source is too short.")),
            Err(e) => return Err(StoreError::new(Kind::Source, format!("The source can't be read: {e}."))),
        }
    }
    Ok(bytes)
}

impl ObjectStore for FaultyStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        check_key(key)?;
        let bytes = read_all(source)?;
        self.with(|state| {
            state.begin()?;
            let held = state.now.get(key).map(|object| &object.info.etag);
            let fits = match mode {
                PutMode::Overwrite => true,
                PutMode::IfAbsent => held.is_none(),
                PutMode::IfMatch(etag) => held == Some(etag),
            };
            if !fits {
                return Err(StoreError::new(Kind::Exists, format!("The object {key} is in another state.")));
            }
            let etag = state.change(key, Some(bytes));
            state.end(etag)
        })
    }

    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo> {
        check_key(key)?;
        let (object, torn) = self.with(|state| {
            state.begin()?;
            let object = state.seen(key).ok_or_else(|| not_found(key))?;
            let torn = state.happens(state.faults.torn).then(|| state.random());
            state.end((object, torn))
        })?;
        let size = object.info.size;
        let is_outside = |r: &Range<u64>| r.start >= r.end.min(size);
        if range.as_ref().is_some_and(is_outside) {
            return Err(StoreError::new(Kind::OutOfRange, format!("The object {key} has {size} bytes.")));
        }
        let range = range.unwrap_or(0..size);
        let wanted = &object.bytes[range.start as usize..range.end.min(size) as usize];
        let count = torn.map_or(wanted.len(), |random| (random % (wanted.len() as u64 + 1)) as usize);
        sink.write_all(&wanted[..count])
            .map_err(|e| StoreError::new(Kind::Sink, format!("What was read can't be passed on: {e}.")))?;
        match torn {
            None => Ok(object.info),
            Some(_) => Err(StoreError::new(Kind::Unavailable, format!("The object {key} broke off."))),
        }
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        check_key(key)?;
        self.with(|state| {
            state.begin()?;
            let object = state.seen(key).ok_or_else(|| not_found(key))?;
            state.end(object.info)
        })
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        check_prefix(prefix)?;
        self.with(|state| {
            state.begin()?;
            let keys: Vec<String> = state.now.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
            let mut objects = Vec::new();
            let after = keys.into_iter().filter(|key| from.is_none_or(|from| key.as_str() > from));
            for key in after {
                if objects.len() > STORE_LIST_PAGE {
                    break;
                }
                // An object that was made only just now may not be shown yet.
                if let Some(object) = state.seen(&key) {
                    objects.push(Listed { key, info: object.info });
                }
            }
            let more = objects.len() > STORE_LIST_PAGE;
            objects.truncate(STORE_LIST_PAGE);
            let next = objects.last().filter(|_| more).map(|last: &Listed| last.key.clone());
            state.end(Page { objects, next })
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.with(|state| {
            state.begin()?;
            if state.now.contains_key(key) {
                state.change(key, None);
            }
            state.end(())
        })
    }

    fn describe(&self) -> String {
        "memory://".into()
    }
}

#[test]
fn without_faults_the_store_in_memory_keeps_the_contract() {
    super::contract::holds(&FaultyStore::new(1), 100_000, 1003);
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let run = |seed| {
        let store = FaultyStore::new(seed);
        store.set_faults(Faults { before: 200, after: 200, torn: 300, stale: 200, delay_ms: (1, 50) });
        let mut story = Vec::new();
        for i in 0..200u32 {
            let key = format!("k{}", i % 7);
            let mut sink = Vec::new();
            let put = store.put(&key, &i.to_be_bytes(), PutMode::Overwrite);
            let got = store.get(&key, None, &mut sink);
            story.push(format!("{put:?} {got:?} {sink:?} {:?}", store.list("", None)));
        }
        (story, store.elapsed_ms(), store.objects())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
    let (story, elapsed, _) = run(5);
    let share = |what: &str| story.iter().filter(|line| line.contains(what)).count();
    assert!(share("as it was told to") > 50 && share("broke off") > 10, "the faults do happen");
    assert!((600..30_000).contains(&elapsed), "{elapsed}");
}

#[test]
fn an_error_after_the_effect_leaves_the_effect() {
    let store = FaultyStore::new(3);
    store.set_faults(Faults { after: 1000, ..Faults::default() });
    assert!(store.put("a", b"x", PutMode::IfAbsent).unwrap_err().is_transient());
    assert_eq!(store.objects()["a"], b"x");
    store.set_faults(Faults { before: 1000, ..Faults::default() });
    assert!(store.delete("a").unwrap_err().is_transient());
    assert_eq!(store.objects().len(), 1);
    store.set_faults(Faults { stale: 1000, ..Faults::default() });
    assert_eq!(store.head("a").unwrap_err().kind, Kind::NotFound, "the past had no such object");
    store.set_faults(Faults::default());
    assert!(store.rot("a", 0) && !store.rot("a", 1));
    store.set_down(Some(Kind::Unavailable));
    assert_eq!(store.head("a").unwrap_err().kind, Kind::Unavailable);
    store.set_down(None);
    store.remove_behind("a");
    store.replace_behind("b", b"y".to_vec());
    assert_eq!(store.objects().into_iter().collect::<Vec<_>>(), [("b".to_owned(), b"y".to_vec())]);
    assert_eq!(store.calls(), 4);
}
