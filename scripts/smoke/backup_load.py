"""Commits one transaction after the other until SIGTERM: a record of the same number in two topics, and a group's offset.

Each acknowledged number is written down. With --check it reads what a restored server holds: whole transactions only, all up
to some number, at least the one given, and the group's offset says the same number.
"""

import argparse
import itertools
import signal
import threading

from common import check, equal, main_guard
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TOPICS = ("pairs-left", "pairs-right")
GROUP = "pairs-readers"
TRANSACTION_TIMEOUT_MS = 5000


def load(options):
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    for made in admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS]).values():
        made.result(30)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": GROUP})
    # A transaction that is open in the moment of a backup is open after the restore, and its offset is unstable, until it times out.
    sender = Producer({"bootstrap.servers": options.bootstrap, "transactional.id": "pairs", "linger.ms": 0,
                       "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS})
    sender.init_transactions(30)
    with open(options.acks, "w", buffering=1) as acks:
        for number in itertools.count():
            if stopping.is_set():
                return
            sender.begin_transaction()
            for topic in TOPICS:
                sender.produce(topic, b"%d" % number)
            offsets = [TopicPartition(TOPICS[0], 0, number)]
            sender.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 30)
            sender.commit_transaction(30)
            acks.write(f"{number}\n")


def values(options, topic):
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": "pairs-check", "check.crcs": True,
                       "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, 0)])
    found = []
    while True:
        message = reader.poll(30)
        check(message is not None, f"{topic} is not read to its end")
        if message.error():
            reader.close()
            return found
        found.append(int(message.value()))


def check_restored(options):
    left, right = (values(options, topic) for topic in TOPICS)
    equal(left, list(range(len(left))), "numbers on the left")
    equal(right, left, "numbers on the right")
    check(len(left) > options.at_least, f"{options.at_least} was acknowledged, and {len(left)} are there")
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": GROUP})
    [committed] = reader.committed([TopicPartition(TOPICS[0], 0)], 30)
    equal(committed.offset, left[-1], "the group's offset")
    print(f"{len(left)} whole transactions")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--acks")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--at-least", type=int, default=0)
    options = parser.parse_args()
    if options.check:
        check_restored(options)
    else:
        load(options)


main_guard(main)
