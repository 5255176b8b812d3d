//! rdkafka (librdkafka below): topics and configurations, produce with every compression, consume, offsets, groups by both
//! protocols, transactions with offsets, fencing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use interop::{equal, failed, fresh, Outcome};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const WITHIN: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);

fn main() {
    interop::main(&[
        ("admin", |address| Box::pin(admin(address))),
        ("round-trip", |address| Box::pin(round_trip(address))),
        ("compressions", |address| Box::pin(compressions(address))),
        ("offsets", |address| Box::pin(offsets(address))),
        ("group-classic", |address| Box::pin(group(address, "classic"))),
        ("group-consumer", |address| Box::pin(group(address, "consumer"))),
        ("transactions", |address| Box::pin(transactions(address))),
        ("transactional-offsets", |address| Box::pin(transactional_offsets(address))),
        ("fencing", |address| Box::pin(fencing(address))),
    ])
}

fn config(address: &str, pairs: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    for (key, value) in pairs {
        config.set(*key, *value);
    }
    config
}

fn admin_client(address: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    config(address, &[]).create().map_err(failed("an admin client"))
}

/// Makes a topic and waits until its partitions are told.
async fn topic(address: &str, stem: &str, partitions: i32) -> Result<String, String> {
    let (name, client) = (fresh(stem), admin_client(address)?);
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let made = client.create_topics([&new], &AdminOptions::new()).await.map_err(failed("creating a topic"))?;
    made[0].clone().map_err(|(_, code)| format!("creating a topic: {code}"))?;
    until("the topic's partitions", || {
        let told = client.inner().fetch_metadata(Some(&name), WITHIN).map_err(failed("metadata"))?;
        Ok(told.topics().first().is_some_and(|t| t.partitions().len() == partitions as usize))
    })?;
    Ok(name)
}

/// Asks until the answer is yes.
fn until(what: &str, mut ask: impl FnMut() -> Result<bool, String>) -> Outcome {
    let begin = Instant::now();
    while !ask()? {
        if begin.elapsed() > WITHIN {
            return Err(format!("not within {WITHIN:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn producer(address: &str, pairs: &[(&str, &str)]) -> Result<FutureProducer, String> {
    config(address, pairs).create().map_err(failed("a producer"))
}

fn consumer(address: &str, pairs: &[(&str, &str)]) -> Result<BaseConsumer, String> {
    let mut config = config(
        address,
        &[("auto.offset.reset", "earliest"), ("enable.auto.commit", "false"), ("fetch.wait.max.ms", "100")],
    );
    config.set("group.id", fresh("group"));
    for (key, value) in pairs {
        config.set(*key, *value);
    }
    config.create().map_err(failed("a consumer"))
}

async fn fill(address: &str, topic: &str, partitions: i32, range: std::ops::Range<i32>) -> Outcome {
    let producer = producer(address, &[("enable.idempotence", "true")])?;
    let mut answers = Vec::new();
    for i in range {
        let (key, value) = (format!("k{i}"), format!("v{i:04}"));
        let record = FutureRecord::to(topic)
            .partition(i % partitions)
            .key(&key)
            .payload(&value)
            .timestamp(1_700_000_000_000 + i64::from(i) * 1000);
        answers.push(producer.send_result(record).map_err(|(error, _)| format!("sending: {error}"))?);
    }
    for answer in answers {
        answer.await.map_err(failed("an answer"))?.map_err(|(error, _)| format!("an answer: {error}"))?;
    }
    Ok(())
}

/// A record as the checks compare it: partition, offset, key, value, headers.
type Seen = (i32, i64, Option<String>, Option<String>, String);

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|b| String::from_utf8_lossy(b).into_owned())
}

fn seen(message: &impl Message) -> Seen {
    let headers = message
        .headers()
        .map_or(String::new(), |all| all.iter().map(|h| format!("{}={:?};", h.key, text(h.value))).collect());
    (message.partition(), message.offset(), text(message.key()), text(message.payload()), headers)
}

/// Reads `count` records of a topic as an isolation level shows them, and a moment longer for what is too many.
fn read(address: &str, topic: &str, partitions: i32, isolation: &str, count: usize) -> Result<Vec<Seen>, String> {
    let consumer = consumer(address, &[("isolation.level", isolation)])?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed("an assignment"))?;
    }
    consumer.assign(&list).map_err(failed("assigning"))?;
    let mut all = Vec::new();
    let mut quiet = 0;
    until(&format!("{count} records of {topic}"), || {
        match consumer.poll(TICK) {
            Some(message) => {
                all.push(seen(&message.map_err(failed("polling"))?));
                quiet = 0;
            }
            None => quiet += 1,
        }
        Ok(all.len() >= count && quiet >= 3)
    })?;
    all.sort();
    Ok(all)
}

fn values(records: &[Seen]) -> Vec<String> {
    records.iter().filter_map(|r| r.3.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

async fn admin(address: String) -> Outcome {
    let (name, client, options) = (topic(&address, "admin", 2).await?, admin_client(&address)?, AdminOptions::new());
    let again = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let made = client.create_topics([&again], &options).await.map_err(failed("creating a topic"))?;
    equal(
        made[0].clone().map_err(|(_, code)| code.to_string()).is_err_and(|e| e.contains("TopicAlreadyExists")),
        true,
        "whether a topic cannot be made twice",
    )?;
    let grown =
        client.create_partitions([&NewPartitions::new(&name, 5)], &options).await.map_err(failed("more partitions"))?;
    equal(grown[0].is_ok(), true, "whether the topic grows")?;
    until("five partitions", || {
        let told = client.inner().fetch_metadata(Some(&name), WITHIN).map_err(failed("metadata"))?;
        Ok(told.topics()[0].partitions().len() == 5)
    })?;
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("retention.ms", "3600000");
    let altered = client.alter_configs([&alter], &options).await.map_err(failed("altering"))?;
    equal(altered[0].is_ok(), true, "whether the configuration is altered")?;
    let mut value = None;
    for _ in 0..100 {
        let told = client
            .describe_configs([&ResourceSpecifier::Topic(&name)], &options)
            .await
            .map_err(failed("describing"))?;
        let config = told.into_iter().next().ok_or("no answer")?.map_err(failed("describing"))?;
        value = config.get("retention.ms").and_then(|entry| entry.value.clone());
        if value.as_deref() == Some("3600000") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    equal(value, Some("3600000".to_owned()), "retention.ms")?;
    let deleted = client.delete_topics(&[&name], &options).await.map_err(failed("deleting"))?;
    equal(deleted[0].is_ok(), true, "whether the topic is deleted")?;
    until("the topic is gone", || {
        let told = client.inner().fetch_metadata(None, WITHIN).map_err(failed("metadata"))?;
        Ok(told.topics().iter().all(|t| t.name() != name))
    })
}

async fn round_trip(address: String) -> Outcome {
    let name = topic(&address, "trip", 3).await?;
    let producer = producer(&address, &[("acks", "all"), ("linger.ms", "5")])?;
    let mut expected = Vec::new();
    for i in 0..60 {
        let key = (i % 3 > 0).then(|| format!("key-{i}"));
        let value = (i != 7).then(|| format!("value-{i} ").repeat(i as usize % 40 + 1));
        let headers =
            OwnedHeaders::new()
                .insert(Header { key: "h", value: Some(&format!("{i}")) })
                .insert(Header::<&str> { key: "null", value: None });
        let mut record = FutureRecord::<String, String>::to(&name).partition(i % 3).headers(headers);
        record.key = key.as_ref();
        record.payload = value.as_ref();
        let at = producer.send(record, WITHIN).await.map_err(|(error, _)| format!("sending: {error}"))?;
        equal((at.partition, at.offset), (i % 3, i64::from(i / 3)), "where the record is")?;
        expected.push((i % 3, i64::from(i / 3), key, value, format!("h={:?};null=None;", Some(format!("{i}")))));
    }
    expected.sort();
    equal(read(&address, &name, 3, "read_uncommitted", 60)?, expected, "records")
}

async fn compressions(address: String) -> Outcome {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let name = topic(&address, codec, 1).await?;
        let producer = producer(&address, &[("compression.type", codec), ("linger.ms", "20")])?;
        let sent: Vec<String> = (0..500).map(|i| format!("value {i:04} of {codec} {}", "z".repeat(i % 50))).collect();
        let mut answers = Vec::new();
        for value in &sent {
            let record = FutureRecord::<String, String>::to(&name).payload(value);
            answers.push(producer.send_result(record).map_err(|(error, _)| error.to_string())?);
        }
        for answer in answers {
            answer.await.map_err(failed("an answer"))?.map_err(|(error, _)| error.to_string())?;
        }
        let read = read(&address, &name, 1, "read_uncommitted", 500)?;
        equal(read.into_iter().filter_map(|r| r.3).collect::<Vec<_>>(), sent, codec)?;
    }
    Ok(())
}

async fn offsets(address: String) -> Outcome {
    let name = topic(&address, "offsets", 2).await?;
    fill(&address, &name, 2, 0..40).await?;
    let consumer = consumer(&address, &[])?;
    equal(consumer.fetch_watermarks(&name, 0, WITHIN).map_err(failed("watermarks"))?, (0, 20), "watermarks")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&name, 0, Offset::Offset(1_700_000_000_000 + 9_500)).map_err(failed("a list"))?;
    list.add_partition_offset(&name, 1, Offset::Offset(1_800_000_000_000)).map_err(failed("a list"))?;
    let found = consumer.offsets_for_times(list, WITHIN).map_err(failed("offsets by time"))?;
    let told: Vec<_> = found.elements().iter().map(|e| (e.partition(), e.offset())).collect();
    equal(told, vec![(0, Offset::Offset(5)), (1, Offset::End)], "offsets by time")?;
    let mut commits = TopicPartitionList::new();
    commits.add_partition_offset(&name, 1, Offset::Offset(7)).map_err(failed("a list"))?;
    consumer.commit(&commits, CommitMode::Sync).map_err(failed("committing"))?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&name, 1);
    let back = consumer.committed_offsets(asked, WITHIN).map_err(failed("committed offsets"))?;
    equal(back.elements()[0].offset(), Offset::Offset(7), "the committed offset")
}

/// Two members share, one leaves: all is read, and what was committed does not come again.
async fn group(address: String, protocol: &str) -> Outcome {
    let (name, group) = (topic(&address, "group", 4).await?, fresh("group"));
    fill(&address, &name, 4, 0..100).await?;
    let open = || -> Result<BaseConsumer, String> {
        let mut pairs = vec![
            ("group.id", group.as_str()),
            ("group.protocol", protocol),
            ("topic.metadata.refresh.interval.ms", "1000"),
        ];
        if protocol == "classic" {
            pairs.extend([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")]);
        }
        let member = consumer(&address, &pairs)?;
        member.subscribe(&[&name]).map_err(failed("subscribing"))?;
        Ok(member)
    };
    let mut handled = BTreeMap::new();
    let mut poll = |member: &BaseConsumer| -> Outcome {
        if let Some(message) = member.poll(Duration::from_millis(20)) {
            let message = message.map_err(failed("polling"))?;
            if member.commit_message(&message, CommitMode::Sync).is_ok() {
                *handled.entry((message.partition(), message.offset())).or_insert(0) += 1;
            }
        }
        Ok(())
    };
    let share = |member: &BaseConsumer| member.assignment().map(|a| a.count()).map_err(failed("the assignment"));
    let (one, two) = (open()?, open()?);
    let mut turns = 0;
    until("two members share four partitions", || {
        poll(&one)?;
        poll(&two)?;
        turns += 1;
        Ok(share(&one)? == 2 && share(&two)? == 2)
    })?;
    fill(&address, &name, 4, 100..200).await?;
    for _ in 0..30 {
        poll(&one)?;
        poll(&two)?;
    }
    one.unsubscribe();
    drop(one);
    until("the other has all four", || {
        poll(&two)?;
        Ok(share(&two)? == 4)
    })?;
    let consumed = consumer(&address, &[("group.id", group.as_str())])?;
    until("all 200 are committed", || {
        poll(&two)?;
        let mut asked = TopicPartitionList::new();
        (0..4).for_each(|p| drop(asked.add_partition(&name, p)));
        let told = consumed.committed_offsets(asked, WITHIN).map_err(failed("committed offsets"))?;
        Ok(told.elements().iter().map(|e| e.offset().to_raw().unwrap_or(0).max(0)).sum::<i64>() == 200)
    })?;
    let twice: Vec<_> = handled.iter().filter(|(_, count)| **count > 1).collect();
    equal(twice, vec![], "records that were committed and came again")?;
    equal(handled.len(), 200, "records that were handled")
}

fn transactional(address: &str, id: &str) -> Result<BaseProducer, String> {
    let producer: BaseProducer =
        config(address, &[("transactional.id", id), ("transaction.timeout.ms", "30000"), ("log_level", "2")])
            .create()
            .map_err(failed("a producer"))?;
    producer.init_transactions(WITHIN).map_err(failed("init_transactions"))?;
    Ok(producer)
}

fn put(producer: &BaseProducer, topic: &str, value: &str) -> Outcome {
    producer.send(BaseRecord::<(), str>::to(topic).payload(value)).map_err(|(error, _)| format!("sending: {error}"))?;
    producer.flush(WITHIN).map_err(failed("flush"))
}

async fn transactions(address: String) -> Outcome {
    let name = topic(&address, "txn", 1).await?;
    let producer = transactional(&address, &fresh("txn"))?;
    for i in 0..6 {
        producer.begin_transaction().map_err(failed("beginning"))?;
        for k in 0..10 {
            put(&producer, &name, &format!("{}-{i}-{k}", if i % 2 == 0 { "kept" } else { "aborted" }))?;
        }
        let end = if i % 2 == 0 { producer.commit_transaction(WITHIN) } else { producer.abort_transaction(WITHIN) };
        end.map_err(failed("ending"))?;
    }
    let kept = values(&read(&address, &name, 1, "read_committed", 30)?);
    equal((kept.len(), kept.iter().all(|v| v.starts_with("kept"))), (30, true), "committed records")?;
    equal(read(&address, &name, 1, "read_uncommitted", 60)?.len(), 60, "all records")
}

/// Offsets that are sent to a transaction count when it is committed, and not when it is aborted.
async fn transactional_offsets(address: String) -> Outcome {
    let (from, to, group) = (topic(&address, "from", 1).await?, topic(&address, "to", 1).await?, fresh("copiers"));
    fill(&address, &from, 1, 0..20).await?;
    let consumer = consumer(&address, &[("group.id", group.as_str())])?;
    consumer.subscribe(&[&from]).map_err(failed("subscribing"))?;
    let producer = transactional(&address, &fresh("copier"))?;
    let mut turn = 0;
    let mut batch = Vec::new();
    let mut committed = 0;
    until("twenty records are copied", || {
        if let Some(message) = consumer.poll(TICK) {
            let message = message.map_err(failed("polling"))?;
            batch.push((message.offset(), text(message.payload()).unwrap_or_default()));
        }
        if batch.len() < 5 {
            return Ok(committed == 20);
        }
        producer.begin_transaction().map_err(failed("beginning"))?;
        for (_, value) in &batch {
            put(&producer, &to, &format!("copy of {value}"))?;
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&from, 0, Offset::Offset(batch[4].0 + 1)).map_err(failed("a list"))?;
        let metadata = consumer.group_metadata().ok_or("no group metadata")?;
        producer.send_offsets_to_transaction(&offsets, &metadata, WITHIN).map_err(failed("offsets"))?;
        turn += 1;
        if turn == 2 {
            producer.abort_transaction(WITHIN).map_err(failed("aborting"))?;
            consumer.seek(&from, 0, Offset::Offset(batch[0].0), WITHIN).map_err(failed("seeking"))?;
        } else {
            producer.commit_transaction(WITHIN).map_err(failed("committing"))?;
            committed += batch.len();
        }
        batch.clear();
        Ok(committed == 20)
    })?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&from, 0);
    let told = consumer.committed_offsets(asked, WITHIN).map_err(failed("committed offsets"))?;
    equal(told.elements()[0].offset(), Offset::Offset(20), "the group's offset")?;
    equal(values(&read(&address, &to, 1, "read_committed", 20)?).len(), 20, "distinct copies")?;
    equal(read(&address, &to, 1, "read_committed", 20)?.len(), 20, "copies")
}

async fn fencing(address: String) -> Outcome {
    let (name, id) = (topic(&address, "fence", 1).await?, fresh("fence"));
    let first = transactional(&address, &id)?;
    first.begin_transaction().map_err(failed("beginning"))?;
    put(&first, &name, "of the first")?;
    let second = transactional(&address, &id)?;
    second.begin_transaction().map_err(failed("beginning"))?;
    put(&second, &name, "of the second")?;
    let refused = first.commit_transaction(WITHIN);
    equal(
        matches!(&refused, Err(KafkaError::Transaction(error)) if error.is_fatal()),
        true,
        &format!("whether the first is fenced for good ({refused:?})"),
    )?;
    second.commit_transaction(WITHIN).map_err(failed("committing"))?;
    equal(
        values(&read(&address, &name, 1, "read_committed", 1)?),
        vec!["of the second".to_owned()],
        "committed records",
    )
}
