//! Owns the tests of the wire codec: against Kafka's schemas, against an independent implementation, against bad input,
//! and against what is known to have gone wrong elsewhere.

pub mod json;
mod known_failures;
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
    list! {
        ProduceRequest ProduceResponse [new old];
        FetchRequest FetchResponse [new old];
        ListOffsetsRequest ListOffsetsResponse [new old];
        MetadataRequest MetadataResponse [new old];
        OffsetCommitRequest OffsetCommitResponse [new old];
        OffsetFetchRequest OffsetFetchResponse [new old];
        FindCoordinatorRequest FindCoordinatorResponse [new old];
        JoinGroupRequest JoinGroupResponse [new old];
        HeartbeatRequest HeartbeatResponse [new old];
        LeaveGroupRequest LeaveGroupResponse [new old];
        SyncGroupRequest SyncGroupResponse [new old];
        DescribeGroupsRequest DescribeGroupsResponse [new old];
        ListGroupsRequest ListGroupsResponse [new old];
        SaslHandshakeRequest SaslHandshakeResponse [new old];
        ApiVersionsRequest ApiVersionsResponse [new old];
        CreateTopicsRequest CreateTopicsResponse [new old];
        DeleteTopicsRequest DeleteTopicsResponse [new old];
        DeleteRecordsRequest DeleteRecordsResponse [new old];
        InitProducerIdRequest InitProducerIdResponse [new old];
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse [new old];
        AddPartitionsToTxnRequest AddPartitionsToTxnResponse [new old];
        AddOffsetsToTxnRequest AddOffsetsToTxnResponse [new old];
        EndTxnRequest EndTxnResponse [new old];
        WriteTxnMarkersRequest WriteTxnMarkersResponse [new old];
        TxnOffsetCommitRequest TxnOffsetCommitResponse [new old];
        DescribeAclsRequest DescribeAclsResponse [new old];
        CreateAclsRequest CreateAclsResponse [new old];
        DeleteAclsRequest DeleteAclsResponse [new old];
        DescribeConfigsRequest DescribeConfigsResponse [new old];
        AlterConfigsRequest AlterConfigsResponse [new old];
        AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse [new old];
        DescribeLogDirsRequest DescribeLogDirsResponse [new old];
        SaslAuthenticateRequest SaslAuthenticateResponse [new old];
        CreatePartitionsRequest CreatePartitionsResponse [new old];
        CreateDelegationTokenRequest CreateDelegationTokenResponse [new old];
        RenewDelegationTokenRequest RenewDelegationTokenResponse [new old];
        ExpireDelegationTokenRequest ExpireDelegationTokenResponse [new old];
        DescribeDelegationTokenRequest DescribeDelegationTokenResponse [new old];
        DeleteGroupsRequest DeleteGroupsResponse [new old];
        ElectLeadersRequest ElectLeadersResponse [new old];
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse [new old];
        AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse [new old];
        ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse [new old];
        OffsetDeleteRequest OffsetDeleteResponse [new old];
        DescribeClientQuotasRequest DescribeClientQuotasResponse [new old];
        AlterClientQuotasRequest AlterClientQuotasResponse [new old];
        DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse [new old];
        AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse [new old];
        DescribeQuorumRequest DescribeQuorumResponse [new old];
        UpdateFeaturesRequest UpdateFeaturesResponse [new old];
        DescribeClusterRequest DescribeClusterResponse [new old];
        DescribeProducersRequest DescribeProducersResponse [new old];
        UnregisterBrokerRequest UnregisterBrokerResponse [new old];
        DescribeTransactionsRequest DescribeTransactionsResponse [new old];
        ListTransactionsRequest ListTransactionsResponse [new old];
        ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse [new old];
        ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse [new old];
        GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse [new old];
        PushTelemetryRequest PushTelemetryResponse [new old];
        ListConfigResourcesRequest ListConfigResourcesResponse [new];
        DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse [new old];
        ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse [new];
        ShareGroupDescribeRequest ShareGroupDescribeResponse [new];
        ShareFetchRequest ShareFetchResponse [new];
        ShareAcknowledgeRequest ShareAcknowledgeResponse [new];
        AddRaftVoterRequest AddRaftVoterResponse [new old];
        RemoveRaftVoterRequest RemoveRaftVoterResponse [new old];
        InitializeShareGroupStateRequest InitializeShareGroupStateResponse [new];
        ReadShareGroupStateRequest ReadShareGroupStateResponse [new];
        WriteShareGroupStateRequest WriteShareGroupStateResponse [new];
        DeleteShareGroupStateRequest DeleteShareGroupStateResponse [new];
        ReadShareGroupStateSummaryRequest ReadShareGroupStateSummaryResponse [new];
        StreamsGroupHeartbeatRequest StreamsGroupHeartbeatResponse [];
        StreamsGroupDescribeRequest StreamsGroupDescribeResponse [];
        DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse [new];
        AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse [new];
        DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse [new];
        StreamsGroupTopologyDescriptionUpdateRequest StreamsGroupTopologyDescriptionUpdateResponse [];
        UnregisterControllerRequest UnregisterControllerResponse [];
    }
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
