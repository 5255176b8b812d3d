//! Owns the fuzzing of the codec: every request and response in every version, and what consumers tell each other.
//!
//! The first two bytes choose message and version.

use chronik::wire::msg::*;
use chronik::wire::schema::{Struct, Type};
use chronik::wire::{decode, encode, Api, Message, Reader, Wire, Writer};

use crate::codec::list::every_message;
use crate::codec::random::{Maker, Random};

/// A message and what is done to its bytes in one version: whether they are a message, after all checks.
pub struct Kind {
    pub api: &'static Api,
    pub is_request: bool,
    body: &'static Struct,
    check: fn(&[u8], i16) -> bool,
}

fn body(kind: Type) -> &'static Struct {
    match kind {
        Type::Struct(body) => body,
        other => panic!("{other:?} is no message"),
    }
}

/// The bytes that a message is encoded to again; `None` when they are no message.
fn again<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Option<Vec<u8>> {
    Some(encode(&decode::<M>(bytes, version).ok()?, version).bytes)
}

macro_rules! kinds {
    ($( $request:ident $response:ident [$($oracle:ident)*]; )*) => {
        vec![$( kinds!(@one $request true), kinds!(@one $response false) ),*]
    };
    (@one $message:ident $is_request:literal) => {
        Kind {
            api: <$message as Message>::API,
            is_request: $is_request,
            body: body(<$message as Wire>::TYPE),
            check: |bytes, version| {
                let Some(once) = again::<$message>(bytes, version) else { return false };
                let twice = again::<$message>(&once, version).expect("what was encoded is decoded");
                assert!(once == twice, "{} v{version} changes", stringify!($message));
                true
            },
        }
    };
}

impl Kind {
    /// What it looks like.
    pub fn body(&self) -> &'static Struct {
        self.body
    }
}

/// Every message.
pub fn every_kind() -> Vec<Kind> {
    every_message!(kinds)
}

/// Whether these are the bytes of a message; checks that encoding gives back what was decoded.
pub fn is_message(api: &Api, is_request: bool, version: i16, bytes: &[u8]) -> bool {
    let kind = every_kind().into_iter().find(|kind| kind.api.key == api.key && kind.is_request == is_request);
    (kind.expect("the list is complete").check)(bytes, version)
}

pub fn run(input: &[u8]) {
    let [which, version, bytes @ ..] = input else { return };
    let kinds = every_kind();
    match kinds.get(usize::from(*which)) {
        Some(kind) => {
            let count = kind.api.max - kind.api.min + 1;
            (kind.check)(bytes, kind.api.min + i16::from(*version) % count);
        }
        None => among_consumers(bytes, i16::from(*version) % 4),
    }
}

/// What a consumer says when it joins, and what the leader gives it.
fn among_consumers(bytes: &[u8], version: i16) {
    if let Some(once) = written::<ConsumerProtocolSubscription<'_>>(bytes, version) {
        assert_eq!(written::<ConsumerProtocolSubscription<'_>>(&once, version).as_ref(), Some(&once));
    }
    if let Some(once) = written::<ConsumerProtocolAssignment<'_>>(bytes, version) {
        assert_eq!(written::<ConsumerProtocolAssignment<'_>>(&once, version).as_ref(), Some(&once));
    }
}

fn written<'a, T: Wire<'a>>(bytes: &'a [u8], version: i16) -> Option<Vec<u8>> {
    let value = T::read(&mut Reader::new(bytes, version, false)).ok()?;
    let mut writer = Writer::new(version, false);
    value.write(&mut writer);
    Some(writer.into_encoded().bytes)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (which, kind) in every_kind().iter().enumerate() {
        for version in kind.api.min..=kind.api.max {
            let (flexible, unknown_tags) = (kind.api.is_flexible(version), seeds.len() % 3 == 0);
            let random = &mut Random(seeds.len() as u64);
            let bytes = Maker { random, version, flexible, unknown_tags }.message(kind.body);
            seeds.push([&[which as u8, (version - kind.api.min) as u8][..], &bytes].concat());
        }
    }
    for version in 0..4 {
        let mut writer = Writer::new(version, false);
        let owned = vec![TopicPartition { topic: "t", partitions: vec![0, 2] }];
        ConsumerProtocolSubscription { topics: vec!["t", "u"], owned_partitions: owned, ..Default::default() }
            .write(&mut writer);
        seeds.push([&[0xff, version as u8][..], &writer.into_encoded().bytes].concat());
    }
    seeds
}
