"""aiokafka against a server: producer, consumer, a group of two members, compressions, admin."""

import asyncio
import threading
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (CommitFailedError, IllegalGenerationError, RebalanceInProgressError,
                             UnknownMemberIdError)
from common import COMPRESSIONS, check, check_group, equal, eventually, fresh, main

SECONDS = 30


class Loop:
    """An event loop in a thread, so that the checks read from top to bottom."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine, seconds=SECONDS):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)


LOOP = Loop()


def topic_of(options, stem, partitions=1, configs=None):
    async def make():
        admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap)
        await admin.start()
        topic = fresh(stem)
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs or {})])
        await admin.close()
        return topic
    return LOOP.run(make())


def send_all(options, topic, records, **config):
    """Sends (partition, key, value, headers, timestamp) records; their acknowledged (partition, offset), in order."""
    async def send():
        producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, enable_idempotence=True, linger_ms=5, **config)
        await producer.start()
        try:
            futures = [await producer.send(topic, value, key, partition, stamp, headers)
                       for partition, key, value, headers, stamp in records]
            acks = await asyncio.gather(*futures)
        finally:
            await producer.stop()
        return [(ack.partition, ack.offset) for ack in acks]
    return LOOP.run(send())


def read_all(options, topic, partition, count):
    async def read():
        consumer = AIOKafkaConsumer(bootstrap_servers=options.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, partition)])
            records = []
            while len(records) < count:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    records.extend(batch)
        finally:
            await consumer.stop()
        return records
    records = LOOP.run(read())
    equal(len(records), count, f"records in {topic}-{partition}")
    return records


def check_round_trip(options):
    topic = topic_of(options, "ai-trip")
    now = int(time.time() * 1000)
    headers = [("h", b"\x00\xff"), ("h", b"again"), ("empty", b"")]
    sent = [(0, b"key-%d" % i if i % 3 else None, b"value-%d" % i if i != 7 else None, headers, now + i)
            for i in range(50)]
    equal(send_all(options, topic, sent), [(0, i) for i in range(50)], "acknowledged offsets")
    for i, (record, (_, key, value, _, stamp)) in enumerate(zip(read_all(options, topic, 0, 50), sent)):
        equal((record.offset, record.key, record.value, record.timestamp), (i, key, value, stamp), f"record {i}")
        equal(list(record.headers), headers, f"headers of record {i}")


def check_compressions(options):
    for compression in COMPRESSIONS:
        topic = topic_of(options, f"ai-{compression}")
        sent = [(0, None, (b"%06d " % i) * (i % 40 + 1), None, None) for i in range(1000)]
        acks = send_all(options, topic, sent, compression_type=None if compression == "none" else compression)
        equal(acks, [(0, i) for i in range(1000)], f"{compression}: acknowledged offsets")
        read = [(r.offset, r.value) for r in read_all(options, topic, 0, 1000)]
        equal(read, [(i, s[2]) for i, s in enumerate(sent)], f"{compression}: records")


class Member:
    """An aiokafka consumer as check_group wants it."""

    def __init__(self, options, topic, group):
        async def start():
            self.consumer = AIOKafkaConsumer(
                topic, bootstrap_servers=options.bootstrap, group_id=group, auto_offset_reset="earliest",
                enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=300)
            await self.consumer.start()
        LOOP.run(start())

    def poll(self):
        batches = LOOP.run(self.consumer.getmany(timeout_ms=200))
        self.offsets = {tp: records[-1].offset + 1 for tp, records in batches.items()}
        return [(tp.partition, r.offset, r.value) for tp, records in batches.items() for r in records]

    def commit(self):
        try:
            LOOP.run(self.consumer.commit(self.offsets))
            return True
        except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError):
            return False

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}

    def close(self):
        LOOP.run(self.consumer.stop())


def check_groups(options):
    topic, group = topic_of(options, "ai-group-topic", 4), fresh("ai-group")

    def produce(values):
        send_all(options, topic, [(i % 4, None, value, None, None) for i, value in enumerate(values)])

    check_group(lambda: Member(options, topic, group), produce)


def check_offsets(options):
    topic = topic_of(options, "ai-offsets")
    base = int(time.time() * 1000) - 100_000
    send_all(options, topic, [(0, None, b"%d" % i, None, base + 1000 * i) for i in range(10)])

    async def ask():
        consumer = AIOKafkaConsumer(bootstrap_servers=options.bootstrap)
        await consumer.start()
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        last = (await consumer.end_offsets([partition]))[partition]
        at = (await consumer.offsets_for_times({partition: base + 4500}))[partition]
        await consumer.stop()
        return first, last, at.offset, at.timestamp
    equal(LOOP.run(ask()), (0, 10, 5, base + 5000), "beginning, end, and first record at or after a time")


def check_admin(options):
    topic = topic_of(options, "ai-admin", 2, {"retention.ms": "3600000"})
    group = fresh("ai-admin-group")
    send_all(options, topic, [(0, None, b"%d" % i, None, None) for i in range(5)])
    member = Member(options, topic, group)
    eventually(SECONDS, "the member has read everything", lambda: member.poll() and member.commit())
    # A member that is still there would ask for the deleted topic, and asking creates it again.
    member.close()

    async def ask():
        admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap)
        await admin.start()
        try:
            check(topic in await admin.list_topics(), "list_topics does not tell the topic")
            await admin.create_partitions({topic: NewPartitions(4)})
            described = (await admin.describe_topics([topic]))[0]
            equal(len(described["partitions"]), 4, "partitions after create_partitions")
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            check("3600000" in repr(await admin.describe_configs([resource])), "describe_configs has no retention.ms")
            check((await admin.describe_cluster())["brokers"], "describe_cluster tells no broker")
            check(group in [g[0] for g in await admin.list_consumer_groups()], "list_consumer_groups has no group")
            check(group in repr(await admin.describe_consumer_groups([group])), "describe_consumer_groups has no group")
            offsets = await admin.list_consumer_group_offsets(group)
            equal(offsets[TopicPartition(topic, 0)].offset, 5, "committed offset")
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():
                await asyncio.sleep(0.02)
        finally:
            await admin.close()
    LOOP.run(ask())


if __name__ == "__main__":
    main(__doc__, {
        "round-trip": check_round_trip,
        "compressions": check_compressions,
        "offsets": check_offsets,
        "groups": check_groups,
        "admin": check_admin,
    })
