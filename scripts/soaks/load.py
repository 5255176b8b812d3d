"""The load of scripts/soak: clients of every kind, all the time, whose work leaves nothing behind that would grow for ever.

One process, one thread per actor, until SIGTERM. SIGUSR1 has everybody rest, SIGUSR2 go on. A promise that an actor sees broken
ends the process with one sentence and status 1. Most actors are those of scripts/crash.
"""

import argparse
import itertools
import random
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "crashes"))

from actors import (CLIENT, FINISH_SECONDS_MAX, Actor, Appender, Compacted, Topics, Transactions, Trimmer,  # noqa: E402
                    is_away, perform)
from common import check, stop  # noqa: E402
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

# Records stay so long, so that the disk comes to rest soon. Longer than the server is ever away.
AGED = {"retention.ms": "15000", "segment.ms": "3000", "segment.bytes": "1048576"}
SIZED = {"retention.bytes": "2097152", "segment.bytes": "1048576"}
COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.bytes": "1048576", "segment.ms": "1000",
             "delete.retention.ms": "2000"}
TOPICS = {"aged": (6, AGED), "sized": (3, SIZED), "trimmed": (2, SIZED), "compacted": (3, COMPACTED), "left": (1, AGED),
          "right": (5, AGED), **{f"wide-{number:05}": (4, AGED) for number in range(50)}}


class Reader(Actor):
    """A member of a group for as long as it is there; a thread of its own, because a member may wait for the others."""

    def __init__(self, options, topic, settings):
        super().__init__(options, "reader")
        self.topic, self.consumer = topic, Consumer({**self.client, **settings})
        self.consumer.subscribe([topic])

    def act(self):
        last = {}
        for message in self.consumer.consume(500, timeout=0.1):
            if message.error():
                check(is_away(message.error()), f"reading: {message.error()}")
                continue
            partition, offset = message.partition(), message.offset()
            check(offset > last.get(partition, -1), f"partition {partition}: {offset} came after {last.get(partition)}")
            last[partition] = offset
        if last:
            try:
                self.consumer.commit(offsets=[TopicPartition(self.topic, p, o + 1) for p, o in last.items()], asynchronous=False)
            except KafkaException:
                pass  # The server is away, or the group has moved on.

    def finish(self):
        self.consumer.close()


class Turning(Actor):
    """A group that is never at rest: the oldest member leaves, another one joins."""

    MEMBERS = 3
    TURN_SECONDS = 3

    def __init__(self, options, group, topic, **settings):
        super().__init__(options, f"turning-{group}")
        self.topic, self.members = topic, []
        self.settings = {"group.id": group, "auto.offset.reset": "earliest", "check.crcs": True, "enable.auto.commit": False,
                         **settings}

    def act(self):
        if len(self.members) == self.MEMBERS:
            self.end(self.members.pop(0))
        self.members.append(Reader(self.options, self.topic, self.settings))
        self.members[-1].start()
        self.stopping.wait(self.TURN_SECONDS)

    def end(self, member):
        member.stopping.set()
        member.join(FINISH_SECONDS_MAX)
        check(not member.is_alive(), f"a member can't leave within {FINISH_SECONDS_MAX} s")

    def finish(self):
        for member in self.members:
            self.end(member)


class Passing(Actor):
    """Groups and transactional ids that are used once. Every other group is deleted, all else is left to expire."""

    def __init__(self, options):
        super().__init__(options, "passing")
        self.numbers, self.admin = itertools.count(), AdminClient(self.client)
        self.run_id = f"{random.getrandbits(32):08x}"

    def act(self):
        name = f"passing-{self.run_id}-{next(self.numbers)}"
        try:
            self.transaction(name)
            self.group(name)
        except KafkaException as error:
            known = {KafkaError._STATE, KafkaError.NON_EMPTY_GROUP, KafkaError.GROUP_ID_NOT_FOUND, KafkaError._PURGE_QUEUE}
            check(is_away(error.args[0]) or error.args[0].code() in known or error.args[0].txn_requires_abort(),
                  f"{name}: {error}")
        self.stopping.wait(0.3)

    def transaction(self, name):
        producer = Producer({**self.client, "transactional.id": name, "message.timeout.ms": 4000, "transaction.timeout.ms": 4000})
        producer.init_transactions(5)
        producer.begin_transaction()
        producer.produce("right", name.encode())
        producer.commit_transaction(5)

    def group(self, name):
        reader = Consumer({**self.client, "group.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                           "session.timeout.ms": 6000})
        reader.subscribe(["aged"])
        last = {message.partition(): message.offset() for message in reader.consume(100, timeout=1) if not message.error()}
        if last:
            reader.commit(offsets=[TopicPartition("aged", p, o + 1) for p, o in last.items()], asynchronous=False)
        reader.close()
        if last and int(name.rpartition("-")[2]) % 2:
            self.admin.delete_consumer_groups([name], request_timeout=5)[name].result(20)


def cast(options):
    """Everybody who takes part."""
    yield Appender(options, "aged", 200, 2000, **{"compression.type": "lz4"})
    yield Appender(options, "sized", 200, 4000)
    yield Trimmer(options, "trimmed", 100, 500)
    yield Compacted(options, "compacted", 200)
    for name in ("one", "two"):
        yield Transactions(options, name, ("left", "right"))
    yield Turning(options, "classic", "aged", **{"session.timeout.ms": 6000})
    yield Turning(options, "cooperative", "aged", **{"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"})
    yield Turning(options, "new", "aged", **{"group.protocol": "consumer"})
    yield Passing(options)
    yield Topics(options)


def make_topics(options):
    """The topics of everybody; the server is new."""
    admin = AdminClient(dict(CLIENT, **{"bootstrap.servers": options.bootstrap}))
    wanted = [NewTopic(name, partitions, 1, config=config) for name, (partitions, config) in TOPICS.items()]
    for name, made in admin.create_topics(wanted, request_timeout=20).items():
        made.result(20)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    options = parser.parse_args()
    options.journals = None
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGUSR1, lambda *_: Actor.going.clear())
    signal.signal(signal.SIGUSR2, lambda *_: Actor.going.set())
    make_topics(options)
    actors = list(cast(options))
    perform(actors, stopping, lambda: print("all are there", flush=True))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # one sentence for whoever runs it
        stop(f"{type(error).__name__}: {error}")
