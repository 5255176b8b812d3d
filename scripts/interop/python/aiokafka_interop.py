"""aiokafka beyond the smoke test: transactions, exactly once, assignors, offsets, the rest of its admin client."""

import asyncio
import threading
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (CommitFailedError, IllegalGenerationError, KafkaError, OffsetOutOfRangeError, ProducerFenced,
                             RebalanceInProgressError, UnknownMemberIdError)
from interop import ADD_PARTITIONS_TO_TXN, check, check_exactly_once, equal, fresh, main

from common import check_group

SECONDS = 30


class Loop:
    """An event loop in a thread, so that the checks read from top to bottom."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine, seconds=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)


LOOP = Loop()


async def with_admin(options, call):
    admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap)
    await admin.start()
    try:
        return await call(admin)
    finally:
        await admin.close()


def make_topic(options, stem, partitions=1):
    topic = fresh(stem)
    LOOP.run(with_admin(options, lambda admin: admin.create_topics([NewTopic(topic, partitions, 1)])))
    return topic


def send_all(options, topic, values, partitions=1, **config):
    async def send():
        producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, enable_idempotence=True, linger_ms=5, **config)
        await producer.start()
        try:
            futures = [await producer.send(topic, value, partition=i % partitions) for i, value in enumerate(values)]
            await asyncio.gather(*futures)
        finally:
            await producer.stop()
    LOOP.run(send())


def read_all(options, topic, isolation="read_committed"):
    """Every value up to the end that the isolation level shows."""
    async def read():
        consumer = AIOKafkaConsumer(bootstrap_servers=options.bootstrap, isolation_level=isolation, auto_offset_reset="earliest",
                                    fetch_max_wait_ms=50)
        await consumer.start()
        try:
            partitions = await partitions_of(options, topic)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            values = []
            for tp in partitions:
                await consumer.seek_to_beginning(tp)
            until = time.monotonic() + SECONDS
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                check(time.monotonic() < until, f"{topic} cannot be read to {ends}")
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    values.extend(record.value for record in records)
            return values
        finally:
            await consumer.stop()
    return LOOP.run(read())


async def partitions_of(options, topic):
    described = await with_admin(options, lambda admin: admin.describe_topics([topic]))
    return [TopicPartition(topic, partition["partition"]) for partition in described[0]["partitions"]]


def check_transactions(options):
    topic, group = make_topic(options, "ai-txn", 2), fresh("ai-txn-group")

    async def run():
        producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=fresh("ai-txn-id"))
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"a1")
                await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 11}, group)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"b1")
            await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 99}, group)
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait(topic, b"c1")
        finally:
            await producer.stop()
        return await with_admin(options, lambda admin: admin.list_consumer_group_offsets(group))

    offsets = LOOP.run(run())
    equal(offsets[TopicPartition(topic, 0)].offset, 11, "the offset of the transactions")
    equal(sorted(read_all(options, topic)), [b"a1", b"c1"], "read committed")
    equal(sorted(read_all(options, topic, "read_uncommitted")), [b"a1", b"b1", b"c1"], "read uncommitted")


def check_fencing(options):
    topic, name = make_topic(options, "ai-fence"), fresh("ai-fence-id")

    async def run():
        def producer():
            return AIOKafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=name)
        first, second = producer(), producer()
        await first.start()
        await first.begin_transaction()
        await first.send_and_wait(topic, b"of the first")
        await second.start()
        await second.begin_transaction()
        await second.send_and_wait(topic, b"of the second")
        try:
            await first.send_and_wait(topic, b"of the zombie")
            await first.commit_transaction()
            told = None
        except KafkaError as error:
            told = error
        await second.commit_transaction()
        await second.stop()
        try:
            await first.stop()
        except KafkaError:
            pass
        return told

    told = LOOP.run(run())
    check(isinstance(told, ProducerFenced) or "epoch" in repr(told).lower(), f"the zombie is told {told!r}")
    equal(read_all(options, topic), [b"of the second"], "read committed")


def exactly_once(options):
    check_exactly_once(options, "aiokafka", lambda topic, values: send_all(options, topic, values, 4),
                       lambda topic: read_all(options, topic), lambda stem, n: make_topic(options, stem, n), kills=2)


class Member:
    """An aiokafka consumer as check_group wants it."""

    def __init__(self, options, topic, group, assignor):
        async def start():
            self.consumer = AIOKafkaConsumer(
                topic, bootstrap_servers=options.bootstrap, group_id=group, auto_offset_reset="earliest",
                enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=300,
                partition_assignment_strategy=[assignor])
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


def groups(assignor):
    def run(options):
        topic, group = make_topic(options, "ai-group-topic", 4), fresh("ai-group")
        check_group(lambda: Member(options, topic, group, assignor), lambda values: send_all(options, topic, values, 4))
    return run


def check_offsets(options):
    topic = make_topic(options, "ai-offsets")
    send_all(options, topic, [b"%d" % i for i in range(10)])
    partition = TopicPartition(topic, 0)

    async def run():
        told = await with_admin(options, lambda admin: admin.delete_records({partition: RecordsToDelete(4)}))
        consumer = AIOKafkaConsumer(bootstrap_servers=options.bootstrap, auto_offset_reset="none", group_id=fresh("ai-none"))
        await consumer.start()
        try:
            consumer.assign([partition])
            begin = (await consumer.beginning_offsets([partition]))[partition]
            consumer.seek(partition, 1)
            try:
                await asyncio.wait_for(consumer.getone(), SECONDS)
                error = None
            except OffsetOutOfRangeError as problem:
                error = problem
            consumer.seek(partition, 4)
            first = await asyncio.wait_for(consumer.getone(), SECONDS)
            return told, begin, error, first.offset
        finally:
            await consumer.stop()

    told, begin, error, first = LOOP.run(run())
    equal((begin, first), (4, 4), "the beginning and the first record after deleting up to 4")
    check(error is not None, "a deleted offset is not out of range")
    check("4" in repr(told), f"delete_records tells {told}")


def check_admin(options):
    topic = make_topic(options, "ai-admin", 2)

    async def run(admin):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "12345"})
        altered = await admin.alter_configs([resource])
        check("0" in repr(altered), f"alter_configs tells {altered}")
        told = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        check("12345" in repr(told), "the altered config is not told")
        await admin.create_partitions({topic: NewPartitions(3)})
        coordinator = await admin.find_coordinator(fresh("ai-some-group"))
        check(coordinator >= 0, f"the coordinator is {coordinator}")
        described = await admin.describe_topics([topic])
        equal(len(described[0]["partitions"]), 3, "partitions")
        again = await admin.create_topics([NewTopic(topic, 1, 1)])
        return repr(again)

    try:
        told = LOOP.run(with_admin(options, run))
    except KafkaError as error:
        told = repr(error)
    check("36" in told or "TopicAlreadyExists" in told, f"creating a topic twice is answered with {told}")


if __name__ == "__main__":
    main(__doc__, {
        "transactions": (check_transactions, ADD_PARTITIONS_TO_TXN),
        "fencing": (check_fencing, ADD_PARTITIONS_TO_TXN),
        "exactly-once": (exactly_once, ADD_PARTITIONS_TO_TXN),
        "group-range": groups(RangePartitionAssignor),
        "group-sticky": groups(StickyPartitionAssignor),
        "offsets": check_offsets,
        "admin": check_admin,
    })
