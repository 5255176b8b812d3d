"""confluent-kafka (librdkafka) against a server: idempotent producer, consumer, groups, compressions, admin client."""

import functools
import time

from common import COMPRESSIONS, check, check_group, equal, eventually, fresh, main
from confluent_kafka import (Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer,
                             TopicCollection, TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)

SECONDS = 30
# What a commit may be answered while the group is between two generations.
MOVING = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
          KafkaError._STATE, KafkaError._NO_OFFSET)


@functools.lru_cache(maxsize=None)
def admin_of(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def admin(options):
    """One admin client for all checks: a call dies with the client that made it."""
    return admin_of(options.bootstrap)


def settled(futures):
    """The results of an admin call's futures, in its order."""
    return {key: future.result(timeout=SECONDS) for key, future in futures.items()}


def make_topic(options, stem, partitions=1, **config):
    topic = fresh(stem)
    settled(admin(options).create_topics([NewTopic(topic, partitions, 1, config=config)]))
    listed = admin(options).list_topics
    eventually(SECONDS, "the new topic is listed", lambda: topic in listed(timeout=SECONDS).topics)
    return topic


def send_all(options, topic, records, **config):
    """Sends (partition, key, value, headers, timestamp) records; their acknowledged (partition, offset), in order."""
    acks = [None] * len(records)
    sender = Producer({"bootstrap.servers": options.bootstrap, "enable.idempotence": True, "linger.ms": 5, **config})

    def acked(i):
        def report(error, message):
            check(error is None, f"record {i} of {topic} was refused: {error}")
            acks[i] = (message.partition(), message.offset())
        return report

    for i, (partition, key, value, headers, stamp) in enumerate(records):
        more = {"timestamp": stamp} if stamp else {}
        sender.produce(topic, value, key, partition, on_delivery=acked(i), headers=headers, **more)
    equal(sender.flush(SECONDS), 0, f"records of {topic} left without an answer")
    return acks


def read_all(options, topic, partition, count, **config):
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": fresh("cf-reader"),
                       "auto.offset.reset": "earliest", "enable.auto.commit": False, **config})
    reader.assign([TopicPartition(topic, partition, 0)])
    records = []

    def read():
        for message in reader.consume(count, timeout=0.5):
            check(message.error() is None, f"consuming {topic}-{partition}: {message.error()}")
            records.append(message)
        return len(records) >= count

    eventually(SECONDS, f"{count} records of {topic}-{partition}", read)
    equal(len(records), count, f"records in {topic}-{partition}")
    reader.close()
    return records


def check_round_trip(options):
    topic = make_topic(options, "cf-trip")
    now = int(time.time() * 1000)
    headers = [("h", b"\x00\xff"), ("h", b"again"), ("null", None), ("empty", b"")]
    sent = [(0, b"key-%d" % i if i % 3 else None, b"value-%d" % i if i != 7 else None, headers, now + i)
            for i in range(50)]
    equal(send_all(options, topic, sent), [(0, i) for i in range(50)], "acknowledged offsets")
    for i, (message, (_, key, value, _, stamp)) in enumerate(zip(read_all(options, topic, 0, 50), sent)):
        equal(message.offset(), i, "offset")
        equal(message.key(), key, f"key of record {i}")
        equal(message.value(), value, f"value of record {i}")
        equal(message.headers(), headers, f"headers of record {i}")
        equal(message.timestamp(), (1, stamp), f"timestamp of record {i}")


def check_compressions(options):
    for compression in COMPRESSIONS:
        topic = make_topic(options, f"cf-{compression}")
        sent = [(0, None, (b"%06d " % i) * (i % 40 + 1), None, None) for i in range(1000)]
        acks = send_all(options, topic, sent, **{"compression.type": compression, "linger.ms": 20})
        equal(acks, [(0, i) for i in range(1000)], f"{compression}: acknowledged offsets")
        read = [(m.offset(), m.value()) for m in read_all(options, topic, 0, 1000, **{"check.crcs": True})]
        equal(read, [(i, s[2]) for i, s in enumerate(sent)], f"{compression}: records")


def check_many_partitions(options):
    """Records by key over many partitions: contiguous offsets in each, a key always in one."""
    topic = make_topic(options, "cf-many", 12)
    sent = [(-1, b"k%d" % (i % 50), b"%d" % i, None, None) for i in range(5000)]
    acks = send_all(options, topic, sent)
    homes = {}
    for (partition, _), (_, key, _, _, _) in zip(acks, sent):
        equal(homes.setdefault(key, partition), partition, f"partition of key {key!r}")
    for partition in set(homes.values()):
        mine = [(offset, s[2]) for (p, offset), s in zip(acks, sent) if p == partition]
        equal([offset for offset, _ in mine], list(range(len(mine))), f"acknowledged offsets of partition {partition}")
        read = [(m.offset(), m.value()) for m in read_all(options, topic, partition, len(mine))]
        equal(read, mine, f"records of partition {partition}")


class Member:
    """A confluent-kafka consumer as check_group wants it."""

    def __init__(self, options, topic, group, **config):
        self.consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": group,
                                  "auto.offset.reset": "earliest", "enable.auto.commit": False,
                                  "session.timeout.ms": 10000, "heartbeat.interval.ms": 300, **config})
        self.consumer.subscribe([topic])
        self.offsets = {}

    def poll(self):
        messages = self.consumer.consume(100, timeout=0.2)
        for message in messages:
            check(message.error() is None, f"a member was told {message.error()}")
        self.offsets = {m.partition(): m.offset() + 1 for m in messages}
        self.topic = messages[0].topic() if messages else None
        return [(m.partition(), m.offset(), m.value()) for m in messages]

    def commit(self):
        offsets = [TopicPartition(self.topic, p, o) for p, o in self.offsets.items()]
        try:
            done = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() in MOVING:
                return False
            raise
        return all(tp.error is None for tp in done)

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


def check_groups(options):
    for strategy in ("range,roundrobin", "cooperative-sticky"):
        topic, group = make_topic(options, "cf-group-topic", 4), fresh("cf-group")

        def produce(values):
            send_all(options, topic, [(i % 4, None, value, None, None) for i, value in enumerate(values)])

        check_group(lambda: Member(options, topic, group, **{"partition.assignment.strategy": strategy}), produce)


def check_static_members(options):
    """A static member that comes back within its session gets its partitions again, in the same generation."""
    topic, group = make_topic(options, "cf-static", 2), fresh("cf-static-group")

    def member():
        return Member(options, topic, group, **{"group.instance.id": "the-one"})

    def owns(one):
        one.poll()
        return one.assigned() == {0, 1}

    first = member()
    eventually(SECONDS, "the static member has both partitions", lambda: owns(first))
    first.close()
    second = member()
    eventually(SECONDS, "the static member has both partitions again", lambda: owns(second))
    described = settled(admin(options).describe_consumer_groups([group]))[group]
    equal([m.group_instance_id for m in described.members], ["the-one"], "instance ids in the group")
    second.close()


def check_topics(options):
    client, topic = admin(options), fresh("cf-admin")
    settled(client.create_topics([NewTopic(topic, 2, 1)], validate_only=True))
    settled(client.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "3600000"})]))
    try:
        settled(client.create_topics([NewTopic(topic, 2, 1)]))
        check(False, "a topic was created twice")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "creating a topic twice")
    try:
        settled(client.create_topics([NewTopic("no/slash", 1, 1)]))
        check(False, "a topic with a slash in its name was created")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_EXCEPTION, "creating a topic with a bad name")
    eventually(SECONDS, "the topic is listed", lambda: topic in client.list_topics(timeout=SECONDS).topics)
    settled(client.create_partitions([NewPartitions(topic, 5)]))

    def partitions():
        return len(client.list_topics(topic, timeout=SECONDS).topics[topic].partitions)

    eventually(SECONDS, "the topic has five partitions", lambda: partitions() == 5)
    described = settled(client.describe_topics(TopicCollection([topic])))[topic]
    equal((described.name, len(described.partitions)), (topic, 5), "described topic")
    check(described.topic_id is not None, "describe_topics tells no topic id")
    settled(client.delete_topics([topic]))
    eventually(SECONDS, "the topic is gone", lambda: topic not in client.list_topics(timeout=SECONDS).topics)
    try:
        settled(client.delete_topics([topic]))
        check(False, "a topic was deleted twice")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "deleting a topic twice")


def check_configs(options):
    client = admin(options)
    topic = make_topic(options, "cf-configs", 1, **{"retention.ms": "3600000"})

    def configs():
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return settled(client.describe_configs([resource]))[resource]

    before = configs()
    equal(before["retention.ms"].value, "3600000", "retention.ms of the new topic")
    equal(before["retention.ms"].is_default, False, "whether a set value is a default")
    equal(before["cleanup.policy"].value, "delete", "cleanup.policy of the new topic")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("max.message.bytes", "123456", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
    ])
    settled(client.incremental_alter_configs([change]))
    eventually(SECONDS, "max.message.bytes is changed", lambda: configs()["max.message.bytes"].value == "123456")
    equal(configs()["retention.ms"].is_default, True, "whether retention.ms is a default again")
    bad = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("max.message.bytes", "lots", incremental_operation=AlterConfigOpType.SET)])
    try:
        settled(client.incremental_alter_configs([bad]))
        check(False, "max.message.bytes=lots was accepted")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_CONFIG, "setting a number to a word")
    cluster = client.describe_cluster().result(timeout=SECONDS)
    check(cluster.cluster_id, "describe_cluster tells no cluster id")
    broker = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
    check(settled(client.describe_configs([broker]))[broker], "the broker has no configs")


def check_records_and_offsets(options):
    client = admin(options)
    topic = make_topic(options, "cf-offsets")
    base = int(time.time() * 1000) - 100_000
    send_all(options, topic, [(0, None, b"%d" % i, None, base + 1000 * i) for i in range(10)])
    partition = TopicPartition(topic, 0)

    def offset(spec):
        return settled(client.list_offsets({partition: spec}))[partition].offset

    equal(offset(OffsetSpec.earliest()), 0, "earliest offset")
    equal(offset(OffsetSpec.latest()), 10, "latest offset")
    equal(offset(OffsetSpec.max_timestamp()), 9, "offset of the highest timestamp")
    equal(offset(OffsetSpec.for_timestamp(base + 4500)), 5, "offset of the first record at or after a time")
    deleted = settled(client.delete_records([TopicPartition(topic, 0, 4)]))
    equal([d.low_watermark for d in deleted.values()], [4], "low watermark after deleting up to 4")
    equal(offset(OffsetSpec.earliest()), 4, "earliest offset after deleting up to 4")
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": fresh("cf-reader"),
                       "auto.offset.reset": "earliest", "enable.auto.commit": False})
    reader.assign([TopicPartition(topic, 0, 1)])
    first = eventually(SECONDS, "a record after the deleted ones", lambda: reader.poll(0.5))
    equal((first.error(), first.offset()), (None, 4), "first record after the deleted ones")
    equal(reader.get_watermark_offsets(partition, timeout=SECONDS), (4, 10), "watermarks")
    reader.close()


def check_group_admin(options):
    client = admin(options)
    topic, group = make_topic(options, "cf-ga", 2), fresh("cf-ga-group")
    send_all(options, topic, [(i % 2, None, b"%d" % i, None, None) for i in range(20)])
    member = Member(options, topic, group)

    def committed_all():
        if member.poll():
            member.commit()
        positions = member.consumer.committed(
            [TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=SECONDS)
        return [tp.offset for tp in positions] == [10, 10]

    eventually(SECONDS, "the group has committed everything", committed_all)
    listed = client.list_consumer_groups().result(timeout=SECONDS)
    check(group in [g.group_id for g in listed.valid], "list_consumer_groups does not tell the group")
    described = settled(client.describe_consumer_groups([group]))[group]
    equal((described.state.name, len(described.members)), ("STABLE", 1), "state and members of the group")
    assigned = described.members[0].assignment.topic_partitions
    equal(sorted(tp.partition for tp in assigned), [0, 1], "partitions that the description tells")
    try:
        settled(client.delete_consumer_groups([group]))
        check(False, "a group with a member was deleted")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.NON_EMPTY_GROUP, "deleting a group with a member")
    member.close()

    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3), TopicPartition(topic, 1, 4)])

    def altered():
        # The member's leaving may still be under way, and while it is the call is refused.
        try:
            settled(client.alter_consumer_group_offsets([wanted]))
            return True
        except KafkaException:
            return False

    eventually(SECONDS, "the offsets of the empty group are altered", altered)
    told = settled(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    equal(sorted((tp.partition, tp.offset) for tp in told.topic_partitions), [(0, 3), (1, 4)], "altered offsets")
    settled(client.delete_consumer_groups([group]))
    listed = client.list_consumer_groups().result(timeout=SECONDS)
    check(group not in [g.group_id for g in listed.valid], "a deleted group is still listed")


def check_refusals(options):
    """What can't be stored is refused with Kafka's error, and the client goes on."""
    topic = make_topic(options, "cf-refused", 1, **{"max.message.bytes": "2000"})
    errors = []
    sender = Producer({"bootstrap.servers": options.bootstrap, "message.timeout.ms": 10000})
    sender.produce(topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error.code() if error else 0))
    sender.produce(topic, b"fits", partition=0, on_delivery=lambda error, _: errors.append(error.code() if error else 0))
    equal(sender.flush(SECONDS), 0, "records left without an answer")
    check(KafkaError.MSG_SIZE_TOO_LARGE in errors, f"a record over max.message.bytes was answered {errors}")
    equal(send_all(options, topic, [(0, None, b"fits", None, None)])[0][0], 0, "partition of a record that fits")


if __name__ == "__main__":
    main(__doc__, {
        "round-trip": check_round_trip,
        "compressions": check_compressions,
        "many-partitions": check_many_partitions,
        "groups": check_groups,
        "static-members": check_static_members,
        "topics": check_topics,
        "configs": check_configs,
        "records-and-offsets": check_records_and_offsets,
        "group-admin": check_group_admin,
        "refusals": check_refusals,
    })
