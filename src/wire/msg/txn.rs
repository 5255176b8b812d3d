//! Owns the messages of idempotent and transactional producers (KIP-98, KIP-890). Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Gives a producer its id and epoch; a transactional one fences its predecessor. Version 6 is not stable
    /// (KIP-939).
    request InitProducerIdRequest<'a> = INIT_PRODUCER_ID -> InitProducerIdResponse {
        transactional_id: Option<&'a str> [0..],
        transaction_timeout_ms: i32 [0..],
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
        enable2_pc: bool [6..],
        keep_prepared_txn: bool [6..],
    }

    /// The id and epoch.
    response InitProducerIdResponse = INIT_PRODUCER_ID {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        producer_id: i64 [0..] = -1,
        producer_epoch: i16 [0..],
        ongoing_txn_producer_id: i64 [6..] = -1,
        ongoing_txn_producer_epoch: i16 [6..] = -1,
    }
}

message! {
    /// Adds partitions to a transaction: one producer's up to version 3, brokers' in batches after it (KIP-890).
    request AddPartitionsToTxnRequest<'a> = ADD_PARTITIONS_TO_TXN -> AddPartitionsToTxnResponse<'a> {
        transactions: Vec<AddPartitionsToTxnTransaction<'a>> [4..],
        v3_and_below_transactional_id: &'a str [0..=3],
        v3_and_below_producer_id: i64 [0..=3],
        v3_and_below_producer_epoch: i16 [0..=3],
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic<'a>> [0..=3],
    }
    struct AddPartitionsToTxnTransaction<'a> {
        transactional_id: &'a str [0..],
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        verify_only: bool [0..],
        topics: Vec<AddPartitionsToTxnTopic<'a>> [0..],
    }
    struct AddPartitionsToTxnTopic<'a> { name: &'a str [0..], partitions: Vec<i32> [0..] }

    /// What became of it.
    response AddPartitionsToTxnResponse<'a> = ADD_PARTITIONS_TO_TXN {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [4..],
        results_by_transaction: Vec<AddPartitionsToTxnResult<'a>> [4..],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult<'a>> [0..=3],
    }
    struct AddPartitionsToTxnResult<'a> {
        transactional_id: &'a str [0..],
        topic_results: Vec<AddPartitionsToTxnTopicResult<'a>> [0..],
    }
    struct AddPartitionsToTxnTopicResult<'a> {
        name: &'a str [0..],
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> [0..],
    }
    struct AddPartitionsToTxnPartitionResult {
        partition_index: i32 [0..],
        partition_error_code: ErrorCode [0..],
    }
}

message! {
    /// Adds a group's offsets to a transaction.
    request AddOffsetsToTxnRequest<'a> = ADD_OFFSETS_TO_TXN -> AddOffsetsToTxnResponse {
        transactional_id: &'a str [0..],
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        group_id: &'a str [0..],
    }

    /// What became of it.
    response AddOffsetsToTxnResponse = ADD_OFFSETS_TO_TXN {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Commits or aborts a transaction.
    request EndTxnRequest<'a> = END_TXN -> EndTxnResponse {
        transactional_id: &'a str [0..],
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        committed: bool [0..],
    }

    /// What became of it, from version 5 on with the epoch to go on with (KIP-890).
    response EndTxnResponse = END_TXN {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        producer_id: i64 [5..] = -1,
        producer_epoch: i16 [5..] = -1,
    }
}

message! {
    /// Commits a group's offsets as part of a transaction.
    request TxnOffsetCommitRequest<'a> = TXN_OFFSET_COMMIT -> TxnOffsetCommitResponse<'a> {
        transactional_id: &'a str [0..],
        group_id: &'a str [0..],
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        generation_id_or_member_epoch: i32 [3..] = -1,
        member_id: &'a str [3..],
        group_instance_id: Option<&'a str> [3..],
        topics: Vec<TxnOffsetCommitRequestTopic<'a>> [0..],
    }
    struct TxnOffsetCommitRequestTopic<'a> {
        name: &'a str [0..=5],
        topic_id: Uuid [6..],
        partitions: Vec<TxnOffsetCommitRequestPartition<'a>> [0..],
    }
    struct TxnOffsetCommitRequestPartition<'a> {
        partition_index: i32 [0..],
        committed_offset: i64 [0..],
        committed_leader_epoch: i32 [2..] = -1,
        committed_metadata: Option<&'a str> [0..],
    }

    /// What became of it.
    response TxnOffsetCommitResponse<'a> = TXN_OFFSET_COMMIT {
        throttle_time_ms: i32 [0..],
        topics: Vec<TxnOffsetCommitResponseTopic<'a>> [0..],
    }
    struct TxnOffsetCommitResponseTopic<'a> {
        name: &'a str [0..=5],
        topic_id: Uuid [6..],
        partitions: Vec<TxnOffsetCommitResponsePartition> [0..],
    }
    struct TxnOffsetCommitResponsePartition {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Ends transactions in partitions; brokers send it to each other.
    request WriteTxnMarkersRequest<'a> = WRITE_TXN_MARKERS -> WriteTxnMarkersResponse<'a> {
        markers: Vec<WritableTxnMarker<'a>> [0..],
    }
    struct WritableTxnMarker<'a> {
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        transaction_result: bool [0..],
        topics: Vec<WritableTxnMarkerTopic<'a>> [0..],
        coordinator_epoch: i32 [0..],
        transaction_version: i8 [2..],
    }
    struct WritableTxnMarkerTopic<'a> { name: &'a str [0..], partition_indexes: Vec<i32> [0..] }

    /// What became of it.
    response WriteTxnMarkersResponse<'a> = WRITE_TXN_MARKERS {
        markers: Vec<WritableTxnMarkerResult<'a>> [0..],
    }
    struct WritableTxnMarkerResult<'a> {
        producer_id: i64 [0..],
        topics: Vec<WritableTxnMarkerTopicResult<'a>> [0..],
    }
    struct WritableTxnMarkerTopicResult<'a> {
        name: &'a str [0..],
        partitions: Vec<WritableTxnMarkerPartitionResult> [0..],
    }
    struct WritableTxnMarkerPartitionResult {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Asks which producers are active in partitions (KIP-664).
    request DescribeProducersRequest<'a> = DESCRIBE_PRODUCERS -> DescribeProducersResponse<'a> {
        topics: Vec<DescribeProducersTopicRequest<'a>> [0..],
    }
    struct DescribeProducersTopicRequest<'a> {
        name: &'a str [0..],
        partition_indexes: Vec<i32> [0..],
    }

    /// The producers.
    response DescribeProducersResponse<'a> = DESCRIBE_PRODUCERS {
        throttle_time_ms: i32 [0..],
        topics: Vec<TopicResponse<'a>> [0..],
    }
    struct TopicResponse<'a> { name: &'a str [0..], partitions: Vec<PartitionResponse<'a>> [0..] }
    struct PartitionResponse<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        active_producers: Vec<ProducerState> [0..],
    }
    struct ProducerState {
        producer_id: i64 [0..],
        producer_epoch: i32 [0..],
        last_sequence: i32 [0..] = -1,
        last_timestamp: i64 [0..] = -1,
        coordinator_epoch: i32 [0..],
        current_txn_start_offset: i64 [0..] = -1,
    }
}

message! {
    /// Asks about transactions by their transactional ids (KIP-664).
    request DescribeTransactionsRequest<'a> = DESCRIBE_TRANSACTIONS -> DescribeTransactionsResponse<'a> {
        transactional_ids: Vec<&'a str> [0..],
    }

    /// The transactions.
    response DescribeTransactionsResponse<'a> = DESCRIBE_TRANSACTIONS {
        throttle_time_ms: i32 [0..],
        transaction_states: Vec<DescribeTransactionsTransactionState<'a>> [0..],
    }
    struct DescribeTransactionsTransactionState<'a> {
        error_code: ErrorCode [0..],
        transactional_id: &'a str [0..],
        transaction_state: &'a str [0..],
        transaction_timeout_ms: i32 [0..],
        transaction_start_time_ms: i64 [0..],
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        topics: Vec<DescribeTransactionsTopicData<'a>> [0..],
    }
    struct DescribeTransactionsTopicData<'a> { topic: &'a str [0..], partitions: Vec<i32> [0..] }
}

message! {
    /// Lists transactions, by state, producer, age or pattern (KIP-664, KIP-994, KIP-1152).
    request ListTransactionsRequest<'a> = LIST_TRANSACTIONS -> ListTransactionsResponse<'a> {
        state_filters: Vec<&'a str> [0..],
        producer_id_filters: Vec<i64> [0..],
        duration_filter: i64 [1..] = -1,
        transactional_id_pattern: Option<&'a str> [2..],
    }

    /// The transactions.
    response ListTransactionsResponse<'a> = LIST_TRANSACTIONS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        unknown_state_filters: Vec<&'a str> [0..],
        transaction_states: Vec<ListTransactionsTransactionState<'a>> [0..],
    }
    struct ListTransactionsTransactionState<'a> {
        transactional_id: &'a str [0..],
        producer_id: i64 [0..],
        transaction_state: &'a str [0..],
    }
}

message! {
    /// The value of a control record that ends a transaction, after a 2-byte version; never flexible.
    struct EndTxnMarker { coordinator_epoch: i32 [0..] }
}
