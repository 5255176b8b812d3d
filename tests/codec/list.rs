//! Owns the list of all messages that the codec describes, for every table that is made of them.

/// Calls a macro with each request, its response, and the oracles that know them, the newest first.
macro_rules! every_message {
    ($callback:ident) => {
        $callback! {
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
    };
}

pub(crate) use every_message;
