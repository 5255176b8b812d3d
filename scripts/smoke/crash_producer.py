"""Produces without a pause until SIGTERM and writes every acknowledgement down, as "partition offset value".

It outlives the server: what is not acknowledged is sent again by the client until it is. It ends with status 0 when
everything it has sent was acknowledged.
"""

import argparse
import itertools
import signal
import sys
import threading

from common import stop

IN_FLIGHT_MAX = 500
DELIVERY_MS_MAX = 120_000


class Acks:
    """The file of acknowledgements, one line each, in whole lines."""

    def __init__(self, path, deliveries_max):
        self.file = open(path, "w", buffering=1)
        self.slots = threading.Semaphore(deliveries_max)

    def acked(self, partition, offset, value):
        self.file.write(f"{partition} {offset} {value.decode()}\n")
        self.slots.release()


def refused(error, value):
    stop(f"{value.decode()} was refused for good: {error}")


def run_confluent(options, acks, stopping):
    from confluent_kafka import Producer
    sender = Producer({"bootstrap.servers": options.bootstrap, "enable.idempotence": True, "linger.ms": 2,
                       "message.timeout.ms": DELIVERY_MS_MAX, "reconnect.backoff.max.ms": 500, "log_level": 2})

    def report(error, message):
        if error:
            refused(error, message.value())
        acks.acked(message.partition(), message.offset(), message.value())

    for i in itertools.count():
        while not acks.slots.acquire(blocking=False):
            sender.poll(0.05)
        if stopping.is_set():
            break
        # A key of its own for each record, so that compaction has to keep all of them.
        value = b"%s-%d" % (options.name.encode(), i)
        sender.produce(options.topic, value, key=value, on_delivery=report)
        sender.poll(0)
    return sender.flush(DELIVERY_MS_MAX / 1000)


def run_kafka_python(options, acks, stopping):
    from kafka import KafkaProducer
    sender = KafkaProducer(bootstrap_servers=options.bootstrap, acks="all", retries=10**6, linger_ms=2,
                           enable_idempotence=False, delivery_timeout_ms=DELIVERY_MS_MAX, reconnect_backoff_max_ms=500)
    for i in itertools.count():
        acks.slots.acquire()
        if stopping.is_set():
            break
        value = b"%s-%d" % (options.name.encode(), i)
        future = sender.send(options.topic, value, key=value)
        future.add_callback(lambda told, value: acks.acked(told.partition, told.offset, value), value=value)
        future.add_errback(lambda error, value: refused(error, value), value=value)
    sender.flush(timeout=DELIVERY_MS_MAX / 1000)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--name", required=True, help="what its values start with")
    parser.add_argument("--acks", required=True, metavar="FILE")
    parser.add_argument("client", choices=["confluent", "kafka-python"])
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    run = run_confluent if options.client == "confluent" else run_kafka_python
    left = run(options, Acks(options.acks, IN_FLIGHT_MAX), stopping)
    if left:
        stop(f"{left} records of {options.name} were never answered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
