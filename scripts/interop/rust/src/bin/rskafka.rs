//! rskafka: topics, produce with every compression, fetch, offsets, deleted records. It has no groups and no transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use futures::{future::join_all, StreamExt};
use interop::{equal, failed, fresh, Outcome};
use rskafka::client::consumer::{StartOffset, StreamConsumerBuilder};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::producer::aggregator::RecordAggregator;
use rskafka::client::producer::BatchProducerBuilder;
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::time::timeout;

fn main() {
    interop::main(&[
        ("topics", |address| Box::pin(topics(address))),
        ("round-trip", |address| Box::pin(round_trip(address))),
        ("compressions", |address| Box::pin(compressions(address))),
        ("batches", |address| Box::pin(batches(address))),
        ("offsets", |address| Box::pin(offsets(address))),
    ])
}

async fn client(address: String) -> Result<Client, String> {
    ClientBuilder::new(vec![address]).client_id("interop").build().await.map_err(failed("a client"))
}

async fn partition(client: &Client, stem: &str) -> Result<PartitionClient, String> {
    let topic = fresh(stem);
    let controller = client.controller_client().map_err(failed("the controller"))?;
    controller.create_topic(&topic, 1, 1, 10_000).await.map_err(failed("creating a topic"))?;
    client.partition_client(topic, 0, UnknownTopicHandling::Retry).await.map_err(failed("a partition"))
}

fn record(i: usize, at: DateTime<Utc>) -> Record {
    Record {
        key: (i % 3 > 0).then(|| format!("key-{i}").into_bytes()),
        value: (i != 7).then(|| format!("value-{i} ").repeat(i % 40 + 1).into_bytes()),
        headers: BTreeMap::from([("h".to_owned(), vec![0, 255]), ("empty".to_owned(), Vec::new())]),
        timestamp: at,
    }
}

/// Reads records from `offset` to the end.
async fn read(partition: &PartitionClient, mut offset: i64) -> Result<Vec<(i64, Record)>, String> {
    let mut records = Vec::new();
    loop {
        let (found, end) = partition.fetch_records(offset, 1..1_000_000, 500).await.map_err(failed("fetching"))?;
        records.extend(found.into_iter().map(|r| (r.offset, r.record)));
        offset = records.last().map_or(offset, |(last, _)| last + 1);
        if offset >= end {
            return Ok(records);
        }
    }
}

async fn topics(address: String) -> Outcome {
    let client = client(address).await?;
    let controller = client.controller_client().map_err(failed("the controller"))?;
    let topic = fresh("topics");
    controller.create_topic(&topic, 3, 1, 10_000).await.map_err(failed("creating a topic"))?;
    let again = controller.create_topic(&topic, 3, 1, 10_000).await.map_err(|error| error.to_string());
    equal(again.is_err_and(|why| why.contains("TopicAlreadyExists")), true, "whether a topic cannot be made twice")?;
    let three = controller.create_topic(fresh("three"), 1, 3, 10_000).await.map_err(|error| error.to_string());
    equal(
        three.is_err_and(|why| why.contains("InvalidReplicationFactor")),
        true,
        "whether three replicas are refused",
    )?;
    let mut partitions = 0;
    for _ in 0..200 {
        let listed = client.list_topics().await.map_err(failed("listing topics"))?;
        partitions = listed.iter().find(|t| t.name == topic).map_or(0, |t| t.partitions.len());
        if partitions > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    equal(partitions, 3, "partitions of the topic")?;
    controller.delete_topic(&topic, 10_000).await.map_err(failed("deleting a topic"))
}

async fn round_trip(address: String) -> Outcome {
    let partition = partition(&client(address).await?, "trip").await?;
    let base = Utc.timestamp_millis_opt(Utc::now().timestamp_millis()).unwrap();
    let sent: Vec<Record> = (0..50).map(|i| record(i, base + TimeDelta::milliseconds(i as i64))).collect();
    let offsets = partition.produce(sent.clone(), Compression::NoCompression).await.map_err(failed("producing"))?;
    equal(offsets, (0..50).collect(), "acknowledged offsets")?;
    let expected: Vec<(i64, Record)> = (0..).zip(sent).collect();
    equal(read(&partition, 0).await?, expected, "records")
}

async fn compressions(address: String) -> Outcome {
    let client = client(address).await?;
    let codecs =
        [Compression::NoCompression, Compression::Gzip, Compression::Lz4, Compression::Snappy, Compression::Zstd];
    for codec in codecs {
        let partition = partition(&client, "codec").await?;
        let base = Utc.timestamp_millis_opt(1_700_000_000_000).unwrap();
        let sent: Vec<Record> = (0..1000).map(|i| record(i, base)).collect();
        partition.produce(sent.clone(), codec).await.map_err(failed("producing"))?;
        let expected: Vec<(i64, Record)> = (0..).zip(sent).collect();
        equal(read(&partition, 0).await?, expected, &format!("records with {codec:?}"))?;
    }
    Ok(())
}

async fn batches(address: String) -> Outcome {
    let client = client(address).await?;
    let partition = Arc::new(partition(&client, "batches").await?);
    let producer = BatchProducerBuilder::new(Arc::clone(&partition))
        .with_linger(Duration::from_millis(5))
        .with_compression(Compression::Zstd)
        .build(RecordAggregator::new(16_384));
    let now = Utc::now();
    let sends = (0..200).map(|i| producer.produce(record(i, now)));
    let mut offsets = Vec::new();
    for sent in join_all(sends).await {
        offsets.push(sent.map_err(failed("producing"))?);
    }
    offsets.sort_unstable();
    equal(offsets, (0..200).collect(), "acknowledged offsets")?;
    let mut stream =
        StreamConsumerBuilder::new(Arc::clone(&partition), StartOffset::Earliest).with_max_wait_ms(200).build();
    for expected in 0..200 {
        let (found, _) = timeout(Duration::from_secs(20), stream.next())
            .await
            .map_err(failed("streaming"))?
            .ok_or("the stream ended")?
            .map_err(failed("streaming"))?;
        equal(found.offset, expected, "offset")?;
    }
    Ok(())
}

async fn offsets(address: String) -> Outcome {
    let partition = partition(&client(address).await?, "offsets").await?;
    let base = Utc.timestamp_millis_opt(Utc::now().timestamp_millis() - 100_000).unwrap();
    for i in 0..10 {
        let one = vec![record(i, base + TimeDelta::seconds(i as i64))];
        partition.produce(one, Compression::NoCompression).await.map_err(failed("producing"))?;
    }
    let at = |at| partition.get_offset(at);
    equal(at(OffsetAt::Earliest).await.map_err(failed("earliest"))?, 0, "earliest")?;
    equal(at(OffsetAt::Latest).await.map_err(failed("latest"))?, 10, "latest")?;
    let time = OffsetAt::Timestamp(base + TimeDelta::milliseconds(4500));
    equal(at(time).await.map_err(failed("a time"))?, 5, "first record after a time")?;
    partition.delete_records(4, 10_000).await.map_err(failed("deleting records"))?;
    equal(at(OffsetAt::Earliest).await.map_err(failed("earliest"))?, 4, "earliest after deleting up to 4")?;
    let gone = partition.fetch_records(1, 1..1_000_000, 500).await.map_err(|error| error.to_string());
    equal(gone.is_err_and(|why| why.contains("OffsetOutOfRange")), true, "whether a deleted offset is out of range")?;
    let beyond = partition.fetch_records(99, 1..1_000_000, 500).await.map_err(|error| error.to_string());
    equal(beyond.is_err_and(|why| why.contains("OffsetOutOfRange")), true, "whether an offset beyond the end is")
}
