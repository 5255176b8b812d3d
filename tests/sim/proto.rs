//! Owns the virtual clients' side of the wire: requests and responses by an implementation that is not ours.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use chronik::wire::Uuid;

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_string())
}

pub fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

/// Sets a field of the other implementation's id type, which we do not name.
pub fn foreign_id<T: std::str::FromStr>(id: Uuid) -> T {
    let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
    hex.parse().unwrap_or_else(|_| panic!("32 hex digits are an id"))
}

/// A request frame without its length prefix.
pub fn request_frame<R: Request>(correlation: i32, version: i16, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text("sim")));
    header.encode(&mut frame, R::header_version(version)).expect("a header that can be encoded");
    request.encode(&mut frame, version).unwrap_or_else(|e| panic!("api {} version {version}: {e}", R::KEY));
    frame.freeze()
}

/// The body of a whole response frame, length prefix included, of which every byte has to mean something.
pub fn response_body<R: Request>(frame: &Bytes, correlation: i32, version: i16) -> Result<R::Response, String> {
    let prefix = frame.get(..4).ok_or("a frame without a length")?;
    let len = u32::from_be_bytes(prefix.try_into().expect("four bytes")) as usize;
    if len != frame.len() - 4 {
        return Err(format!("a frame of {} bytes says {len}", frame.len() - 4));
    }
    let mut rest = frame.slice(4..);
    let header = ResponseHeader::decode(&mut rest, R::Response::header_version(version)).map_err(|e| e.to_string())?;
    if header.correlation_id != correlation {
        return Err(format!("answer {} where {correlation} is next: replies out of order", header.correlation_id));
    }
    let body = R::Response::decode(&mut rest, version).map_err(|e| format!("api {} v{version}: {e}", R::KEY))?;
    if !rest.is_empty() {
        return Err(format!("api {} v{version}: {} bytes too many", R::KEY, rest.len()));
    }
    Ok(body)
}

/// Calls `$then` with the type of the request for each API that the simulation uses.
macro_rules! answers {
    ($($name:ident => $request:ident, $response:ident;)*) => {
        /// A request that a virtual client made.
        #[derive(Clone, Debug)]
        pub enum Ask {
            $($name($request),)*
        }

        /// A decoded response.
        #[derive(Clone, Debug)]
        pub enum Answer {
            $($name($response),)*
        }

        impl Ask {
            pub fn api_key(&self) -> i16 {
                match self {
                    $(Ask::$name(_) => <$request as Request>::KEY,)*
                }
            }

            pub fn frame(&self, correlation: i32, version: i16) -> Bytes {
                match self {
                    $(Ask::$name(request) => request_frame(correlation, version, request),)*
                }
            }

            pub fn answer(&self, frame: &Bytes, correlation: i32, version: i16) -> Result<Answer, String> {
                match self {
                    $(Ask::$name(_) => response_body::<$request>(frame, correlation, version).map(Answer::$name),)*
                }
            }
        }
    };
}

answers! {
    Produce => ProduceRequest, ProduceResponse;
    Fetch => FetchRequest, FetchResponse;
    ListOffsets => ListOffsetsRequest, ListOffsetsResponse;
    Metadata => MetadataRequest, MetadataResponse;
    OffsetCommit => OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch => OffsetFetchRequest, OffsetFetchResponse;
    JoinGroup => JoinGroupRequest, JoinGroupResponse;
    SyncGroup => SyncGroupRequest, SyncGroupResponse;
    Heartbeat => HeartbeatRequest, HeartbeatResponse;
    LeaveGroup => LeaveGroupRequest, LeaveGroupResponse;
    ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe => ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    ShareGroupHeartbeat => ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse;
    ShareFetch => ShareFetchRequest, ShareFetchResponse;
    ShareAcknowledge => ShareAcknowledgeRequest, ShareAcknowledgeResponse;
    ReadShareGroupState => ReadShareGroupStateRequest, ReadShareGroupStateResponse;
    CreateTopics => CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics => DeleteTopicsRequest, DeleteTopicsResponse;
    CreatePartitions => CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteRecords => DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId => InitProducerIdRequest, InitProducerIdResponse;
    AddPartitionsToTxn => AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
    AddOffsetsToTxn => AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
    TxnOffsetCommit => TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    EndTxn => EndTxnRequest, EndTxnResponse;
    ApiVersions => ApiVersionsRequest, ApiVersionsResponse;
    IncrementalAlterConfigs => IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    DescribeConfigs => DescribeConfigsRequest, DescribeConfigsResponse;
}
