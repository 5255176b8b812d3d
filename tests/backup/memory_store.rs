//! Owns a store in memory: strongly consistent like the clouds', with a clock of its own, failing and interrupting as told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use chronik::store::{
    check_key, check_prefix, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page, PutMode, Source, StoreError,
};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Nothing is done.
    Before,
    /// It is done, and the caller is told that it was not.
    After,
}

/// Something that is done before a call.
pub type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, u64, i64)>,
    puts: u64,
    calls: u64,
    now_ms: i64,
    /// From this call on, so many calls fail.
    failing: Option<(u64, u64, Failing)>,
    hook: Option<(u64, Hook)>,
    put_hook: Option<(String, Hook)>,
    /// A put of a key with this in it fails, once.
    failing_put: Option<String>,
    /// No segment can be deleted.
    refuses_deletes: bool,
    /// Bytes of objects that were read.
    sent_bytes: u64,
}

/// A bucket.
#[derive(Default)]
pub struct MemStore {
    state: Mutex<State>,
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemStore")
    }
}

/// Keys listed at once: few, so that there are always several pages.
const PAGE: usize = 3;

impl MemStore {
    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }

    /// Of the calls from now on, the `nth` (from 1) and `count - 1` behind it fail.
    pub fn fail(&self, nth: u64, count: u64, how: Failing) {
        let mut state = self.state.lock().unwrap();
        state.failing = Some((state.calls + nth, count, how));
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().failing = None;
    }

    /// Does something before the `nth` call from now on.
    pub fn before_call(&self, nth: u64, hook: Hook) {
        let mut state = self.state.lock().unwrap();
        state.hook = Some((state.calls + nth, hook));
    }

    /// Does something before the first put of a key with this in it.
    pub fn before_put(&self, part: &str, hook: Hook) {
        self.state.lock().unwrap().put_hook = Some((part.to_owned(), hook));
    }

    /// The first put of a key with this in it fails; nothing is done.
    pub fn fail_put(&self, part: &str) {
        self.state.lock().unwrap().failing_put = Some(part.to_owned());
    }

    /// Nobody may delete a segment from now on.
    pub fn refuse_deletes(&self) {
        self.state.lock().unwrap().refuses_deletes = true;
    }

    /// Bytes of objects that were read so far.
    pub fn sent_bytes(&self) -> u64 {
        self.state.lock().unwrap().sent_bytes
    }

    /// Lets the store's clock go on.
    pub fn pass_ms(&self, ms: i64) {
        self.state.lock().unwrap().now_ms += ms;
    }

    /// A store with the same objects, which does not fail.
    pub fn copied(&self) -> MemStore {
        let state = self.state.lock().unwrap();
        let (objects, puts, now_ms) = (state.objects.clone(), state.puts, state.now_ms);
        MemStore { state: Mutex::new(State { objects, puts, now_ms, ..State::default() }) }
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn bytes(&self, key: &str) -> Vec<u8> {
        self.state.lock().unwrap().objects[key].0.to_vec()
    }

    /// Puts something in behind everybody's back; `None` takes it away.
    pub fn tamper(&self, key: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        match bytes {
            Some(bytes) => state.objects.get_mut(key).expect("an object").0 = bytes.into(),
            None => drop(state.objects.remove(key).expect("an object")),
        }
    }

    fn enter(&self) -> Result<Option<Failing>, StoreError> {
        let hook = {
            let mut state = self.state.lock().unwrap();
            state.calls += 1;
            let calls = state.calls;
            state.hook.take_if(|(at, _)| *at == calls).map(|(_, hook)| hook)
        };
        if let Some(hook) = hook {
            hook();
        }
        let state = self.state.lock().unwrap();
        let calls = state.calls;
        let due = state.failing.filter(|(first, count, _)| (*first..first + count).contains(&calls));
        match due.map(|(_, _, how)| how) {
            Some(Failing::Before) => Err(broken()),
            other => Ok(other),
        }
    }
}

fn broken() -> StoreError {
    StoreError::new(Kind::Unavailable, "The store answers 503.")
}

fn info((bytes, etag, modified_ms): &(Bytes, u64, i64)) -> ObjectInfo {
    ObjectInfo { size: bytes.len() as u64, etag: ETag(etag.to_string()), modified_ms: *modified_ms }
}

fn absent(key: &str) -> StoreError {
    StoreError::new(Kind::NotFound, format!("There is no object {key}."))
}

impl ObjectStore for MemStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag, StoreError> {
        check_key(key)?;
        let hook = self.state.lock().unwrap().put_hook.take_if(|(part, _)| key.contains(part.as_str()));
        if let Some((_, hook)) = hook {
            hook();
        }
        let failing = self.enter()?;
        if self.state.lock().unwrap().failing_put.take_if(|part| key.contains(part.as_str())).is_some() {
            return Err(broken());
        }
        let mut bytes = vec![0; source.size() as usize];
        let mut at = 0;
        while at < bytes.len() {
            let read = source.read_at(at as u64, &mut bytes[at..]);
            at += read.map_err(|error| StoreError::new(Kind::Source, format!("It can't be read: {error}.")))?;
        }
        let mut state = self.state.lock().unwrap();
        let there = state.objects.get(key).map(|object| ETag(object.1.to_string()));
        let holds = match (mode, &there) {
            (PutMode::Overwrite, _) | (PutMode::IfAbsent, None) => true,
            (PutMode::IfMatch(etag), Some(there)) => etag == there,
            _ => false,
        };
        if !holds {
            return Err(StoreError::new(Kind::Exists, format!("{key} is there already.")));
        }
        state.puts += 1;
        let (etag, now_ms) = (state.puts, state.now_ms);
        state.objects.insert(key.to_owned(), (bytes.into(), etag, now_ms));
        failing.map_or(Ok(ETag(etag.to_string())), |_| Err(broken()))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo, StoreError> {
        let failing = self.enter()?;
        let object = self.state.lock().unwrap().objects.get(key).cloned().ok_or_else(|| absent(key))?;
        let len = object.0.len() as u64;
        let range = range.unwrap_or(0..len);
        if range.start >= len && len > 0 {
            return Err(StoreError::new(Kind::OutOfRange, format!("{key} has no such bytes.")));
        }
        let bytes = &object.0[range.start as usize..range.end.min(len) as usize];
        // What breaks off has sent a part.
        let sent = if failing.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        self.state.lock().unwrap().sent_bytes += sent.len() as u64;
        sink.write_all(sent).map_err(|error| StoreError::new(Kind::Sink, error.to_string()))?;
        failing.map_or(Ok(info(&object)), |_| Err(broken()))
    }

    fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let failing = self.enter()?;
        let found = self.state.lock().unwrap().objects.get(key).map(info).ok_or_else(|| absent(key))?;
        failing.map_or(Ok(found), |_| Err(broken()))
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        check_prefix(prefix)?;
        let failing = self.enter()?;
        let state = self.state.lock().unwrap();
        let after = from.unwrap_or("");
        let all = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let mut objects: Vec<Listed> =
            all.take(PAGE + 1).map(|(key, object)| Listed { key: key.clone(), info: info(object) }).collect();
        let more = objects.len() > PAGE;
        objects.truncate(PAGE);
        let next = objects.last().filter(|_| more).map(|last| last.key.clone());
        failing.map_or(Ok(Page { objects, next }), |_| Err(broken()))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let failing = self.enter()?;
        if self.state.lock().unwrap().refuses_deletes && key.contains("/segments/") {
            return Err(StoreError::new(Kind::Denied, format!("The key may not delete {key}.")));
        }
        self.state.lock().unwrap().objects.remove(key);
        failing.map_or(Ok(()), |_| Err(broken()))
    }

    fn describe(&self) -> String {
        "memory:".to_owned()
    }
}
