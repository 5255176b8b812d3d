//! Owns the Kafka wire format: codec, messages, records.
//!
//! Every message is described once, in `msg/`, by the `message!` macro: one description serves decoding and encoding in
//! every version. Version and flexibility live in [`Reader`] and [`Writer`]; strings, bytes and record data are borrowed
//! from the frame.
//!
//! Names are those of Kafka's schemas, in Rust's manner: `ProduceRequest`, `topic_data`. A struct within a message keeps
//! Kafka's name if one content only bears it (identical structs of several messages are one Rust type). If Kafka gives one
//! name to several contents, each has its API's name in front: `FetchPartitionData`, `ShareFetchPartitionData`; an overlap
//! is written once (`ShareFetch` + `FetchTopic` = `ShareFetchTopic`), and where request and response of one API differ, the
//! response's struct says so (`AlterClientQuotasResponseEntryData`).
//!
//! - A field that a version lacks has its default after decoding and is left out when encoding, whatever it holds.
//! - Defaults are those of the schemas, except that a nullable field without a default there is `None`, not empty.
//! - A null that a version doesn't allow is an error in decoding, except that a null array is read as an empty one; in
//!   encoding the empty value is written instead.
//! - Tagged fields that hold their default are not written; unknown ones are skipped.
//! - Bytes left over after a message are an error, except after a request, where Kafka ignores them.

pub mod api;
pub mod batch;
mod batch_builder;
pub mod compress;
pub mod control;
mod convert;
mod error_code;
pub mod frame;
pub mod legacy;
pub(crate) mod macros;
pub mod msg;
mod primitives;
mod reader;
pub mod record;
mod rewrite;
pub mod schema;
mod uuid;
mod validate;
mod writer;

use std::ops::RangeInclusive;

use crate::limits;

pub use api::{Api, ApiKey};
pub use error_code::ErrorCode;
pub use frame::{HeaderError, RequestHeader};
pub use primitives::{Nullable, RecordSet, Wire};
pub use reader::{DecodeError, Reader, MAX_STRING};
pub use uuid::Uuid;
pub use writer::{Encoded, External, Writer};

/// The body of a request or response.
pub trait Message<'a>: Wire<'a> + Default {
    /// The API's row of the table.
    const API: &'static Api;
    /// The API's key.
    const KEY: ApiKey = Self::API.key;
    /// The versions described.
    const VERSIONS: RangeInclusive<i16> = Self::API.versions();
}

/// The body of a request.
pub trait Request<'a>: Message<'a> {
    /// What answers it.
    type Response<'r>: Response<'r>;
}

/// The body of a response.
pub trait Response<'a>: Message<'a> {}

/// Decodes the body of a message. A version that isn't described is an error, as are bytes left over.
pub fn decode<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> Result<M, DecodeError> {
    let (message, r) = decode_front(body, version, usize::MAX)?;
    r.finish()?;
    Ok(message)
}

/// The body of a client's request.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub bytes: &'a [u8],
    /// Bytes of memory that the arrays in it may take when it is decoded.
    pub room: usize,
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Body<'a> {
        Body { bytes, room: limits::REQUEST_ARRAYS_BYTES_MAX }
    }
}

/// Decodes the body of a client's request. Bytes left over are ignored, as Kafka does and as clients need: librdkafka
/// 2.16 asks for the metadata of all topics with three bytes too many. What a request may name is bounded.
pub fn decode_request<'a, M: Request<'a>>(body: impl Into<Body<'a>>, version: i16) -> Result<M, DecodeError> {
    let Body { bytes, room } = body.into();
    decode_front(bytes, version, room).map(|(message, _)| message)
}

fn decode_front<'a, M: Message<'a>>(body: &'a [u8], version: i16, room: usize) -> Result<(M, Reader<'a>), DecodeError> {
    let mut r = Reader::new(body, version, M::API.is_flexible(version)).within(room);
    if !M::API.describes(version) {
        return Err(r.error("a version that is not described"));
    }
    let message = M::read(&mut r)?;
    Ok((message, r))
}

/// Encodes the body of a message. The version must be one that is described; in another one the result has no meaning.
pub fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Encoded {
    let mut w = Writer::new(version, M::API.is_flexible(version));
    message.write(&mut w);
    w.into_encoded()
}

/// Reads a nullable field; a null that the version doesn't allow is left to the type.
fn read_where_nullable<'a, T: Nullable<'a>>(r: &mut Reader<'a>, nullable: bool) -> Result<Option<T>, DecodeError> {
    match T::read_nullable(r)? {
        None if !nullable => T::read_forbidden_null(r).map(Some),
        value => Ok(value),
    }
}

/// Writes a nullable field; where the version allows no null, the empty value stands for it.
fn write_where_nullable<'a, T: Nullable<'a>>(value: &Option<T>, nullable: bool, w: &mut Writer) {
    if value.is_none() && !nullable {
        T::write_empty(w);
    } else {
        value.write(w);
    }
}

#[cfg(test)]
mod tests {
    use super::msg::*;
    use super::*;

    #[test]
    fn a_request_with_bytes_left_over_is_taken_as_kafka_takes_it() {
        // Metadata v13 as librdkafka 2.16 sends it for all topics; the length of the null array takes four bytes in it.
        let body = [0, 0, 0, 0, 1, 0, 0];
        assert!(decode::<MetadataRequest>(&body, 13).is_err());
        let request: MetadataRequest = decode_request(&body[..], 13).unwrap();
        assert_eq!(request.topics, None);
    }

    #[test]
    fn a_fetch_response_leaves_room_for_record_data_that_is_spliced_in() {
        let partition = |index, len| FetchPartitionData {
            partition_index: index,
            high_watermark: 9,
            records: RecordSet::External { tag: index as u32 + 70, len },
            ..Default::default()
        };
        for version in FetchResponse::VERSIONS {
            let response = FetchResponse {
                responses: vec![FetchableTopicResponse {
                    topic: "t",
                    partitions: vec![partition(0, 3), partition(1, 300)],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let encoded = frame::response(version, 77, &response);
            assert_eq!(encoded.externals.iter().map(|e| e.tag).collect::<Vec<_>>(), [70, 71]);

            let mut whole = Vec::new();
            let mut from = 0;
            for external in &encoded.externals {
                whole.extend_from_slice(&encoded.bytes[from..external.position]);
                whole.resize(whole.len() + external.len as usize, external.tag as u8);
                from = external.position;
            }
            whole.extend_from_slice(&encoded.bytes[from..]);
            assert_eq!(whole.len(), encoded.total_len());
            assert_eq!(whole[..4], (whole.len() as u32 - 4).to_be_bytes());

            let (correlation_id, body) = frame::parse_response(FetchResponse::API, version, &whole[4..]).unwrap();
            assert_eq!(correlation_id, 77);
            let decoded: FetchResponse = decode(body, version).unwrap();
            let partitions = &decoded.responses[0].partitions;
            assert_eq!(partitions[0].records, RecordSet::Bytes(&[70; 3]));
            assert_eq!(partitions[1].records, RecordSet::Bytes(&[71; 300]));
        }
    }

    #[test]
    fn a_request_that_names_more_than_any_may_is_refused_before_memory_is_taken() {
        let named = |count: usize| {
            let body = [&(count as i32).to_be_bytes()[..], &vec![0; 2 * count]].concat();
            decode_request::<MetadataRequest>(&body[..], 1)
                .map(|request| request.topics.map_or(0, |topics| topics.len()))
        };
        let most = limits::REQUEST_ARRAYS_BYTES_MAX / limits::REQUEST_ELEMENT_BYTES_MIN;
        assert!(size_of::<MetadataRequestTopic>() <= limits::REQUEST_ELEMENT_BYTES_MIN);
        assert_eq!(named(most), Ok(most));
        assert_eq!(named(most + 1).unwrap_err().what, "it names more than any request may");
        // What is nested counts together.
        let topic = [&[0, 1, b't'][..], &(most as i32 / 8).to_be_bytes(), &vec![0; most / 8 * 12]].concat();
        let body = |topics: usize| [&[0xff; 4][..], &(topics as i32).to_be_bytes(), &topic.repeat(topics)].concat();
        assert!(decode_request::<ListOffsetsRequest>(&body(1)[..], 1).is_ok());
        assert!(decode_request::<ListOffsetsRequest>(&body(16)[..], 1).is_err());
    }

    #[test]
    fn a_version_that_is_not_described_is_an_error() {
        assert!(decode::<MetadataRequest>(&[], 14).is_err());
        assert!(decode::<MetadataRequest>(&[], -1).is_err());
    }

    #[test]
    fn text_over_the_protocols_limit_is_cut_at_a_character() {
        let long = "é".repeat(20_000);
        for flexible in [false, true] {
            let mut w = Writer::new(0, flexible);
            w.string(Some(&long));
            let bytes = w.into_encoded().bytes;
            let mut r = Reader::new(&bytes, 0, flexible);
            assert_eq!(r.string().unwrap(), Some("é".repeat(16_383).as_str()));
            r.finish().unwrap();
        }
    }
}
