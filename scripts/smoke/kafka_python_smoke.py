"""kafka-python against a server: produce, consume, headers, timestamps, compressions, groups, admin.

With --api-version 0.10.0 (or 0.8.2, 0.9, 0.11 ...) it behaves as a client of those days, and checks only what its
days had: no headers before 0.11, no timestamps before 0.10, no groups before 0.9.
"""

import time

import kafka
from common import COMPRESSIONS, check, check_group, equal, eventually, fresh, main
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CommitFailedError, KafkaError
from kafka.structs import OffsetAndMetadata

NEWEST = (99,)


def version(options):
    """The version the client was told to speak, or NEWEST when it asks the server."""
    return tuple(int(n) for n in options.api_version.split(".")) if options.api_version else NEWEST


def client(options, **more):
    config = {"bootstrap_servers": options.bootstrap, **more}
    if options.api_version:
        config["api_version"] = version(options)
    return config


def producer(options, **more):
    return KafkaProducer(**client(options, acks="all", retries=5, **more))


def send_all(sender, topic, records):
    """Sends (partition, key, value, headers, timestamp) records; their acknowledged metadata, in order."""
    futures = [
        sender.send(topic, partition=partition, key=key, value=value, headers=headers, timestamp_ms=stamp)
        if headers is not None else
        sender.send(topic, partition=partition, key=key, value=value, timestamp_ms=stamp)
        for partition, key, value, headers, stamp in records
    ]
    sender.flush(timeout=30)
    return [future.get(timeout=30) for future in futures]


def make_topic(options, topic, partitions):
    """Creates a topic; clients from before the admin calls let the server create it."""
    if version(options) >= (0, 10, 1):
        from kafka.admin import KafkaAdminClient, NewTopic
        admin = KafkaAdminClient(**client(options))
        admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])
        admin.close()
    consumer = KafkaConsumer(**client(options))
    eventually(30, f"topic {topic} has a leader", lambda: topic in consumer.topics())
    eventually(30, f"topic {topic} has partitions", lambda: consumer.partitions_for_topic(topic))
    found = len(consumer.partitions_for_topic(topic))
    consumer.close()
    return found


def read_all(options, topic, partition, count):
    """Every record of one partition, from the beginning, `count` of them."""
    consumer = KafkaConsumer(**client(options, auto_offset_reset="earliest", enable_auto_commit=False))
    consumer.assign([TopicPartition(topic, partition)])
    consumer.seek_to_beginning()
    records = []

    def read():
        for batch in consumer.poll(timeout_ms=500).values():
            records.extend(batch)
        return len(records) >= count

    eventually(30, f"{count} records of {topic}-{partition}", read)
    equal(len(records), count, f"records in {topic}-{partition}")
    consumer.close()
    return records


def check_round_trip(options):
    topic = fresh("kp-trip")
    now = int(time.time() * 1000)
    with_headers, with_stamps = version(options) >= (0, 11), version(options) >= (0, 10)
    headers = [("h", b"\x00\xff"), ("h", b"again"), ("empty", b"")] if with_headers else None
    sent = [
        (0, b"key-%d" % i if i % 3 else None, b"value-%d" % i if i != 7 else b"", headers,
         now + i if with_stamps else None)
        for i in range(50)
    ]
    sender = producer(options, linger_ms=5)
    eventually(30, f"{topic} was made by asking for it", lambda: sender.partitions_for(topic))
    acks = send_all(sender, topic, sent)
    sender.close()
    equal([ack.offset for ack in acks], list(range(50)), "acknowledged offsets")
    for i, (record, (_, key, value, _, stamp)) in enumerate(zip(read_all(options, topic, 0, 50), sent)):
        equal(record.offset, i, "offset")
        equal(record.key, key, f"key of record {i}")
        equal(record.value, value, f"value of record {i}")
        if with_headers:
            equal(record.headers, headers, f"headers of record {i}")
        if with_stamps:
            equal(record.timestamp, stamp, f"timestamp of record {i}")


def check_compressions(options):
    for compression in COMPRESSIONS:
        if compression == "zstd" and version(options) < (2, 1, 0):
            continue
        topic = fresh(f"kp-{compression}")
        sender = producer(options, linger_ms=20, batch_size=1 << 16,
                          compression_type=None if compression == "none" else compression)
        eventually(30, f"{topic} exists", lambda: sender.partitions_for(topic))
        sent = [(0, None, (b"%06d " % i) * (i % 40 + 1), None, None) for i in range(1000)]
        acks = send_all(sender, topic, sent)
        sender.close()
        equal([ack.offset for ack in acks], list(range(1000)), f"{compression}: acknowledged offsets")
        read = [(r.offset, r.value) for r in read_all(options, topic, 0, 1000)]
        equal(read, [(i, s[2]) for i, s in enumerate(sent)], f"{compression}: records")


def check_acks(options):
    topic = fresh("kp-acks")
    # kafka-python 2.0 leaves an acks=0 request in its own buffer until the next one.
    wanted = ("all", 1) if kafka.__version__.startswith("2.0.") else ("all", 1, 0)
    for acks in wanted:
        sender = KafkaProducer(**client(options, acks=acks, retries=5))
        eventually(30, f"{topic} exists", lambda: sender.partitions_for(topic))
        send_all(sender, topic, [(0, None, b"%r" % acks, None, None)])
        sender.close()
    read = read_all(options, topic, 0, len(wanted))
    equal([r.value for r in read], [b"%r" % acks for acks in wanted], "values sent with each acks")


class Member:
    """A kafka-python consumer as check_group wants it."""

    def __init__(self, options, topic, group, **more):
        self.consumer = KafkaConsumer(
            topic, **client(options, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                            session_timeout_ms=10000, heartbeat_interval_ms=300, metadata_max_age_ms=2000, **more))

    def poll(self):
        batches = self.consumer.poll(timeout_ms=200)
        return [(tp.partition, r.offset, r.value) for tp, records in batches.items() for r in records]

    def commit(self):
        try:
            self.consumer.commit()
            return True
        except CommitFailedError:
            return False
        except KafkaError as error:
            # While the group moves a commit may be refused; anything else is a fault.
            if type(error).__name__ in ("RebalanceInProgressError", "IllegalGenerationError", "UnknownMemberIdError"):
                return False
            raise

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


def check_groups(options):
    if version(options) < (0, 9):
        return
    topic, group = fresh("kp-group-topic"), fresh("kp-group")
    if version(options) >= (0, 10, 1):
        partitions = make_topic(options, topic, 4)
    else:
        modern_topic(options, topic, 4)
        partitions = make_topic(options, topic, 4)
    equal(partitions, 4, f"partitions of {topic}")
    sender = producer(options)

    def produce(values):
        send_all(sender, topic, [(i % 4, None, value, None, None) for i, value in enumerate(values)])

    check_group(lambda: Member(options, topic, group), produce)
    sender.close()


def modern_topic(options, topic, partitions):
    """Clients of 0.9 and 0.10.0 had no call to create topics; their administrators' tools had."""
    from kafka.admin import KafkaAdminClient, NewTopic
    admin = KafkaAdminClient(bootstrap_servers=options.bootstrap)
    admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])
    admin.close()


def check_commits(options):
    """A committed offset and its metadata are there for the next consumer."""
    if version(options) < (0, 8, 2):
        return
    topic, group = fresh("kp-commit"), fresh("kp-commit-group")
    sender = producer(options)
    eventually(30, f"{topic} exists", lambda: sender.partitions_for(topic))
    send_all(sender, topic, [(0, None, b"%d" % i, None, None) for i in range(10)])
    sender.close()
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(**client(options, group_id=group, enable_auto_commit=False))
    consumer.assign([partition])
    fields = {"offset": 7, "metadata": "half way", "leader_epoch": -1}
    consumer.commit({partition: OffsetAndMetadata(*(fields[name] for name in OffsetAndMetadata._fields))})
    consumer.close()
    consumer = KafkaConsumer(**client(options, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"))
    consumer.assign([partition])
    equal(consumer.committed(partition), 7, "committed offset")
    equal(consumer.position(partition), 7, "position after a commit of 7")
    consumer.close()


def check_offsets(options):
    """Earliest and latest, and offsets by timestamp where the client can ask."""
    topic = fresh("kp-offsets")
    sender = producer(options)
    eventually(30, f"{topic} exists", lambda: sender.partitions_for(topic))
    base = int(time.time() * 1000) - 100_000
    stamped = version(options) >= (0, 10)
    send_all(sender, topic, [(0, None, b"%d" % i, None, base + 1000 * i if stamped else None) for i in range(10)])
    sender.close()
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(**client(options))
    equal(consumer.beginning_offsets([partition]), {partition: 0}, "beginning offsets")
    equal(consumer.end_offsets([partition]), {partition: 10}, "end offsets")
    if version(options) >= (0, 10, 1):
        found = consumer.offsets_for_times({partition: base + 4500})[partition]
        equal((found.offset, found.timestamp), (5, base + 5000), "first record at or after a time")
        check(consumer.offsets_for_times({partition: base + 9001})[partition] is None, "no record after the last one")
    consumer.close()


def check_admin(options):
    if version(options) != NEWEST:
        return
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
    admin = KafkaAdminClient(**client(options))
    topic = fresh("kp-admin")
    admin.create_topics([NewTopic(name=topic, num_partitions=3, replication_factor=1,
                                  topic_configs={"retention.ms": "3600000"})])
    eventually(30, f"{topic} is listed", lambda: topic in admin.list_topics())
    described = admin.describe_topics([topic])[0]
    equal(len(described["partitions"]), 3, "partitions that describe_topics tells")
    configs = repr(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    check("3600000" in configs, f"describe_configs does not tell retention.ms: {configs}")
    check(admin.describe_cluster(), "describe_cluster tells nothing")
    try:
        admin.create_topics([NewTopic(name=topic, num_partitions=3, replication_factor=1)])
        check(False, "a topic was created twice")
    except KafkaError as error:
        equal(type(error).__name__, "TopicAlreadyExistsError", "creating a topic twice")
    admin.delete_topics([topic])
    eventually(30, f"{topic} is gone", lambda: topic not in admin.list_topics())
    admin.close()


if __name__ == "__main__":
    main(__doc__, {
        "round-trip": check_round_trip,
        "compressions": check_compressions,
        "acks": check_acks,
        "offsets": check_offsets,
        "commits": check_commits,
        "groups": check_groups,
        "admin": check_admin,
    }, [("--api-version", {"default": "", "metavar": "0.10.0"})])
