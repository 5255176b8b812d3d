//! rdkafka: produce with every compression, groups, transactions with offsets, topics and configs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use interop::{equal, failed, fresh, Outcome};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(30);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

fn main() {
    interop::main(&[
        ("round-trip", |address| Box::pin(async move { round_trip(&address).await })),
        ("compressions", |address| Box::pin(async move { compressions(&address).await })),
        ("group", |address| Box::pin(async move { group(&address).await })),
        ("offsets", |address| Box::pin(async move { offsets(&address).await })),
        ("transactions", |address| Box::pin(async move { transactions(&address).await })),
        ("admin", |address| Box::pin(async move { admin_calls(&address).await })),
    ])
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

fn admin(address: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    config(address).create().map_err(failed("an admin client"))
}

async fn new_topic(address: &str, stem: &str, partitions: i32) -> Result<String, String> {
    let topic = fresh(stem);
    let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    let made = admin(address)?.create_topics([&new], &AdminOptions::new()).await.map_err(failed("creating a topic"))?;
    made.into_iter().next().ok_or("no answer")?.map_err(|(_, code)| format!("creating a topic: {code}"))
}

/// Sends value i to partition i % partitions.
fn send(producer: &BaseProducer, topic: &str, partitions: i32, values: &[String]) -> Outcome {
    for (partition, value) in (0..partitions).cycle().zip(values) {
        let record = BaseRecord::<str, String>::to(topic).partition(partition).payload(value);
        producer.send(record).map_err(|(error, _)| format!("sending: {error}"))?;
    }
    producer.flush(WAIT).map_err(failed("flush"))
}

fn producer(address: &str, more: &[(&str, &str)]) -> Result<BaseProducer, String> {
    let mut config = config(address);
    config.set("enable.idempotence", "true").set("linger.ms", "5");
    for (key, value) in more {
        config.set(*key, *value);
    }
    config.create().map_err(failed("a producer"))
}

fn consumer(address: &str, group: &str, more: &[(&str, &str)]) -> Result<BaseConsumer, String> {
    let mut config = config(address);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config.set("check.crcs", "true").set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "300");
    for (key, value) in more {
        config.set(*key, *value);
    }
    config.create().map_err(failed("a consumer"))
}

/// Reads until there are `count` values, from the beginning of all partitions.
fn read(address: &str, topic: &str, partitions: i32, count: usize, isolation: &str) -> Result<Vec<String>, String> {
    let consumer = consumer(address, &fresh("reader"), &[("isolation.level", isolation)])?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed("assigning"))?;
    }
    consumer.assign(&list).map_err(failed("assigning"))?;
    let mut values = Vec::new();
    let until = Instant::now() + WAIT;
    while values.len() < count && Instant::now() < until {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let message = message.map_err(failed("reading"))?;
            values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
    }
    equal(values.len(), count, "records")?;
    Ok(values)
}

async fn round_trip(address: &str) -> Outcome {
    let topic = new_topic(address, "r-trip", 1).await?;
    let producer = producer(address, &[])?;
    let header = Header { key: "h", value: Some(&[0u8, 255][..]) };
    for i in 0..50 {
        let (key, value) = (format!("key-{i}"), format!("value-{i}"));
        let record = BaseRecord::to(&topic).key(&key).payload(&value).timestamp(1_700_000_000_000 + i);
        let record = record.headers(OwnedHeaders::new().insert(header));
        producer.send(record).map_err(|(error, _)| format!("sending: {error}"))?;
    }
    producer.flush(WAIT).map_err(failed("flush"))?;
    let consumer = consumer(address, &fresh("r-reader"), &[])?;
    consumer.subscribe(&[&topic]).map_err(failed("subscribing"))?;
    for i in 0..50i64 {
        let message = consumer.poll(WAIT).ok_or("nothing came")?.map_err(failed("reading"))?;
        equal(message.offset(), i, "offset")?;
        equal(message.key(), Some(format!("key-{i}").as_bytes()), "key")?;
        equal(message.payload(), Some(format!("value-{i}").as_bytes()), "value")?;
        equal(message.timestamp().to_millis(), Some(1_700_000_000_000 + i), "timestamp")?;
        let headers = message.headers().ok_or("no headers")?;
        equal(headers.get(0), header, "header")?;
    }
    Ok(())
}

async fn compressions(address: &str) -> Outcome {
    for codec in CODECS {
        let topic = new_topic(address, "r-codec", 1).await?;
        let values: Vec<String> = (0..1000).map(|i| format!("{i} ").repeat(i % 40 + 1)).collect();
        send(&producer(address, &[("compression.type", codec)])?, &topic, 1, &values)?;
        equal(read(address, &topic, 1, 1000, "read_committed")?, values, codec)?;
    }
    Ok(())
}

/// Polls members in turn until `done`, noting what they got and committing it.
fn drive(
    members: &[&BaseConsumer],
    got: &mut BTreeMap<(i32, i64), String>,
    what: &str,
    done: impl Fn(&BTreeMap<(i32, i64), String>) -> bool,
) -> Outcome {
    let until = Instant::now() + 2 * WAIT;
    while !done(got) {
        if Instant::now() > until {
            return Err(format!("not in time: {what}, with {} records", got.len()));
        }
        for member in members {
            if let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                got.insert((message.partition(), message.offset()), value);
                // While the group moves a commit may be refused; the record comes again.
                let _ = member.commit_message(&message, CommitMode::Sync);
            }
        }
    }
    Ok(())
}

async fn group(address: &str) -> Outcome {
    let topic = new_topic(address, "r-group-topic", 4).await?;
    let (group, producer) = (fresh("r-group"), producer(address, &[])?);
    let values: Vec<String> = (0..300).map(|i| format!("g{i:06}")).collect();
    let mut got = BTreeMap::new();
    let join = || -> Result<BaseConsumer, String> {
        let member = consumer(address, &group, &[("partition.assignment.strategy", "cooperative-sticky")])?;
        member.subscribe(&[&topic]).map_err(failed("subscribing"))?;
        Ok(member)
    };
    let share = |member: &BaseConsumer| member.assignment().map_or(0, |list| list.count());
    send(&producer, &topic, 4, &values[..100])?;
    let first = join()?;
    drive(&[&first], &mut got, "the first member has all", |got| share(&first) == 4 && got.len() >= 100)?;
    let second = join()?;
    drive(&[&first, &second], &mut got, "both have two", |_| share(&first) == 2 && share(&second) == 2)?;
    send(&producer, &topic, 4, &values[100..200])?;
    drive(&[&first, &second], &mut got, "both read on", |got| got.len() >= 200)?;
    drop(first);
    drive(&[&second], &mut got, "the second has all", |_| share(&second) == 4)?;
    send(&producer, &topic, 4, &values[200..])?;
    drive(&[&second], &mut got, "the second reads on", |got| got.len() >= 300)?;
    let mut seen: Vec<String> = got.into_values().collect();
    seen.sort();
    equal(seen, values, "what the group has handled")
}

async fn offsets(address: &str) -> Outcome {
    let topic = new_topic(address, "r-offsets", 1).await?;
    let producer = producer(address, &[])?;
    for i in 0..10 {
        let record = BaseRecord::<str, str>::to(&topic).payload("x").timestamp(1_700_000_000_000 + 1000 * i);
        producer.send(record).map_err(|(error, _)| format!("sending: {error}"))?;
    }
    producer.flush(WAIT).map_err(failed("flush"))?;
    let consumer = consumer(address, &fresh("r-offsets"), &[])?;
    equal(consumer.fetch_watermarks(&topic, 0, WAIT).map_err(failed("watermarks"))?, (0, 10), "watermarks")?;
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(&topic, 0, Offset::Offset(1_700_000_004_500)).map_err(failed("a list"))?;
    let found = consumer.offsets_for_times(times, WAIT).map_err(failed("offsets for times"))?;
    equal(found.find_partition(&topic, 0).map(|p| p.offset()), Some(Offset::Offset(5)), "offset at a time")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(7)).map_err(failed("a list"))?;
    consumer.commit(&list, CommitMode::Sync).map_err(failed("committing"))?;
    let told = consumer.committed_offsets(list, WAIT).map_err(failed("committed offsets"))?;
    equal(told.find_partition(&topic, 0).map(|p| p.offset()), Some(Offset::Offset(7)), "committed offset")
}

async fn transactions(address: &str) -> Outcome {
    let (topic, source) = (new_topic(address, "r-txn", 2).await?, new_topic(address, "r-source", 1).await?);
    send(&producer(address, &[])?, &source, 1, &["1".into(), "2".into(), "3".into()])?;
    let reader = consumer(address, &fresh("r-txn-group"), &[])?;
    reader.subscribe(&[&source]).map_err(failed("subscribing"))?;
    for _ in 0..3 {
        reader.poll(WAIT).ok_or("nothing came")?.map_err(failed("reading"))?;
    }
    let producer = producer(address, &[("transactional.id", &fresh("r-txn-id"))])?;
    producer.init_transactions(WAIT).map_err(failed("init_transactions"))?;
    for (commit, offset, values) in [(true, 2, ["a1", "a2"]), (false, 99, ["b1", "b2"]), (true, 3, ["c1", "c2"])] {
        producer.begin_transaction().map_err(failed("beginning"))?;
        send(&producer, &topic, 2, &values.map(String::from))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source, 0, Offset::Offset(offset)).map_err(failed("a list"))?;
        let metadata = reader.group_metadata().ok_or("no group metadata")?;
        producer.send_offsets_to_transaction(&list, &metadata, WAIT).map_err(failed("sending offsets"))?;
        if commit {
            producer.commit_transaction(WAIT).map_err(failed("committing"))?;
        } else {
            producer.abort_transaction(WAIT).map_err(failed("aborting"))?;
        }
    }
    let mut seen = read(address, &topic, 2, 4, "read_committed")?;
    seen.sort();
    equal(seen, ["a1", "a2", "c1", "c2"].map(String::from).to_vec(), "read committed")?;
    equal(read(address, &topic, 2, 6, "read_uncommitted")?.len(), 6, "records, uncommitted ones too")?;
    let mut list = TopicPartitionList::new();
    list.add_partition(&source, 0);
    let told = reader.committed_offsets(list, WAIT).map_err(failed("committed offsets"))?;
    equal(told.find_partition(&source, 0).map(|p| p.offset()), Some(Offset::Offset(3)), "the transactions' offset")
}

async fn admin_calls(address: &str) -> Outcome {
    let (admin, options) = (admin(address)?, AdminOptions::new());
    let topic = new_topic(address, "r-admin", 1).await?;
    let more =
        admin.create_partitions([&NewPartitions::new(&topic, 3)], &options).await.map_err(failed("partitions"))?;
    equal(more.iter().all(Result::is_ok), true, "whether there are more partitions")?;
    let resource = ResourceSpecifier::Topic(&topic);
    let alter = AlterConfig::new(resource).set("retention.ms", "12345");
    let altered = admin.alter_configs([&alter], &options).await.map_err(failed("altering configs"))?;
    equal(altered.iter().all(Result::is_ok), true, "whether the config is altered")?;
    let value = || async {
        let told = admin.describe_configs([&resource], &options).await.map_err(failed("describing configs"))?;
        let told = told.into_iter().next().ok_or("no answer")?.map_err(failed("describing configs"))?;
        Ok::<_, String>(told.get("retention.ms").and_then(|entry| entry.value.clone()))
    };
    let until = Instant::now() + WAIT;
    while value().await?.as_deref() != Some("12345") {
        if Instant::now() > until {
            return Err("the altered config is not told".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = admin.delete_topics(&[&topic], &options).await.map_err(failed("deleting"))?;
    equal(gone.iter().all(Result::is_ok), true, "whether the topic is deleted")
}
