//! Owns the tests of the wire codec: against Kafka's schemas, against an independent implementation, against bad input,
//! and against what is known to have gone wrong elsewhere.

pub mod json;
mod known_failures;
pub mod list;
mod oracle;
pub mod random;
mod robust;
mod schema;

use chronik::wire::msg::*;
use chronik::wire::schema::{Struct, Type};
use chronik::wire::{decode, encode, Api, DecodeError, Message, Wire};

/// One message, with functions on its bytes in a given version.
pub struct Entry {
    pub name: &'static str,
    pub api: &'static Api,
    pub body: &'static Struct,
    /// Decodes with our codec and encodes again.
    pub recode: fn(&[u8], i16) -> Result<Vec<u8>, DecodeError>,
    /// Our encoding of the message's defaults.
    pub default: fn(i16) -> Vec<u8>,
    /// The independent implementations that have the message, the newest first.
    pub oracles: Vec<oracle::Oracle>,
}

fn recode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<Vec<u8>, DecodeError> {
    Ok(encode(&decode::<M>(bytes, version)?, version).bytes)
}

fn default<'a, M: Message<'a>>(version: i16) -> Vec<u8> {
    encode(&M::default(), version).bytes
}

fn body(kind: Type) -> &'static Struct {
    match kind {
        Type::Struct(body) => body,
        other => panic!("{other:?} is not a message"),
    }
}

/// Every message that the codec describes: request, response, and the oracles that know them.
pub fn every_message() -> Vec<Entry> {
    let mut entries = Vec::new();
    macro_rules! list {
        ($( $request:ident $response:ident [$($oracle:ident)*]; )*) => { $(
            list!(@entry $request [$($oracle)*]);
            list!(@entry $response [$($oracle)*]);
        )* };
        (@entry $message:ident [$($oracle:ident)*]) => {
            entries.push(Entry {
                name: stringify!($message),
                api: <$message as Message>::API,
                body: body(<$message as Wire>::TYPE),
                recode: |bytes, version| recode::<$message>(bytes, version),
                default: |version| default::<$message>(version),
                oracles: vec![$( oracle::$oracle::of::<oracle::$oracle::messages::$message>() ),*],
            });
        };
    }
    list::every_message!(list);
    entries
}

/// The messages with each version that is described.
pub fn every_version() -> impl Iterator<Item = (Entry, i16)> {
    every_message().into_iter().flat_map(|entry| {
        let (recode, default, name, api, body) = (entry.recode, entry.default, entry.name, entry.api, entry.body);
        api.versions()
            .map(move |version| (Entry { name, api, body, recode, default, oracles: entry.oracles.clone() }, version))
    })
}

#[test]
fn the_list_of_messages_is_complete() {
    let keys: Vec<i16> = every_message().iter().step_by(2).map(|entry| entry.api.key.0).collect();
    let table: Vec<i16> = chronik::wire::api::TABLE.iter().map(|api| api.key.0).collect();
    assert_eq!(keys, table);
}
