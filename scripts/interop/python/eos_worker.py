"""Moves records from a topic to another one in transactions that hold the offsets too, until SIGTERM.

Whatever a client calls abortable is aborted and read again; whatever it calls fatal ends the client and begins a new one.
"""

import argparse
import asyncio
import signal
import sys
import threading

BATCH_MAX = 100

stopping = threading.Event()


def run_confluent(options):
    from confluent_kafka import Consumer, KafkaException, Producer
    while not stopping.is_set():
        consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": options.group, "enable.auto.commit": False,
                             "auto.offset.reset": "earliest", "isolation.level": "read_committed", "log_level": 2,
                             **({"group.protocol": "consumer"} if options.group_protocol == "consumer" else
                                {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300})})
        consumer.subscribe([options.source])
        producer = Producer({"bootstrap.servers": options.bootstrap, "transactional.id": options.transactional_id,
                             "transaction.timeout.ms": 20000, "log_level": 2})
        try:
            producer.init_transactions(30)
            while not stopping.is_set():
                messages = [m for m in consumer.consume(BATCH_MAX, timeout=0.3) if m.error() is None]
                if not messages:
                    continue
                producer.begin_transaction()
                for message in messages:
                    producer.produce(options.target, message.value(), key=message.value())
                producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30)
                producer.commit_transaction(30)
        except KafkaException as problem:
            error = problem.args[0]
            print(f"worker: {error}", file=sys.stderr, flush=True)
            if not error.fatal():
                try:
                    producer.abort_transaction(30)
                except KafkaException as again:
                    print(f"worker: abort: {again}", file=sys.stderr, flush=True)
        finally:
            # What was read and not committed is read again by the next one.
            consumer.close()


async def run_aiokafka(options):
    """aiokafka does not tell the server which member commits (KIP-447), so each worker has partitions of its own: the
    transactional id, which belongs to them, keeps zombies away."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.errors import KafkaError
    while not stopping.is_set():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap, group_id=options.group, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed")
        producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=options.transactional_id,
                                    transaction_timeout_ms=20000)
        await consumer.start()
        try:
            # This ends what a predecessor left open; only then are the committed offsets the last ones.
            await producer.start()
            consumer.assign([TopicPartition(options.source, int(number)) for number in options.partitions.split(",")])
            while not stopping.is_set():
                batches = await consumer.getmany(timeout_ms=300, max_records=BATCH_MAX)
                if not batches:
                    continue
                async with producer.transaction():
                    for records in batches.values():
                        for record in records:
                            await producer.send(options.target, record.value, key=record.value)
                    offsets = {tp: records[-1].offset + 1 for tp, records in batches.items()}
                    await producer.send_offsets_to_transaction(offsets, options.group)
        except KafkaError as problem:
            print(f"worker: {problem!r}", file=sys.stderr, flush=True)
        finally:
            await producer.stop()
            await consumer.stop()


def run_kafka_python(options):
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.errors import KafkaError
    from kafka.structs import OffsetAndMetadata
    while not stopping.is_set():
        consumer = KafkaConsumer(
            options.source, bootstrap_servers=options.bootstrap, group_id=options.group, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed", session_timeout_ms=6000,
            heartbeat_interval_ms=300, max_poll_records=BATCH_MAX)
        producer = KafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=options.transactional_id,
                                 transaction_timeout_ms=20000)
        try:
            producer.init_transactions()
            while not stopping.is_set():
                batches = consumer.poll(timeout_ms=300)
                if not batches:
                    continue
                producer.begin_transaction()
                for records in batches.values():
                    for record in records:
                        producer.send(options.target, record.value, key=record.value)
                offsets = {tp: OffsetAndMetadata(records[-1].offset + 1, "", -1) for tp, records in batches.items()}
                producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
                producer.commit_transaction()
        except KafkaError as problem:
            print(f"worker: {problem!r}", file=sys.stderr, flush=True)
            try:
                producer.abort_transaction()
            except KafkaError as again:
                print(f"worker: abort: {again!r}", file=sys.stderr, flush=True)
        finally:
            producer.close(timeout=10)
            consumer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["confluent", "aiokafka", "kafka-python"])
    for name in ("bootstrap", "source", "target", "group", "transactional-id"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--group-protocol", default="classic")
    parser.add_argument("--partitions", required=True, help="those of this worker, for clients that need it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    if options.client == "aiokafka":
        asyncio.run(run_aiokafka(options))
    elif options.client == "confluent":
        run_confluent(options)
    else:
        run_kafka_python(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
