"""The load of scripts/crash: clients that outlive a server which is killed again and again, and write down what it promised.

One process, one thread per actor, until SIGTERM; then everybody finishes what is under way. Each actor writes a journal, a line
per event, into the folder of --journals; promises.py holds a server against them. A promise that an actor can judge by itself
(an offset that goes back, a member that gets the wrong record) ends the process with one sentence and status 1.
"""

import argparse
import itertools
import json
import os
import signal
import sys
import threading
import time

from common import check, equal, stop
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

FINISH_SECONDS_MAX = 90
IN_FLIGHT_MAX = 2000
CLIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "log_level": 0}
AWAY = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT,
        KafkaError._RESOLVE, -137,  # _DESTROY_BROKER, which the module has no name for
        KafkaError._WAIT_COORD, KafkaError.COORDINATOR_NOT_AVAILABLE}


def is_away(error):
    """Whether a call failed because nobody was there to answer it."""
    return error.retriable() or error.code() in AWAY


class Journal:
    """A file of whole lines; without a folder for journals nothing is kept."""

    def __init__(self, options, name):
        self.file = open(f"{options.journals}/{name}" if options.journals else os.devnull, "a", buffering=1)
        self.lock = threading.Lock()

    def note(self, *words):
        with self.lock:
            self.file.write(" ".join(map(str, words)) + "\n")


class Actor(threading.Thread):
    """Runs act() again and again until it is time to stop, then finish(). Nobody acts while `going` is not set."""

    going = threading.Event()
    going.set()

    def __init__(self, options, name):
        super().__init__(daemon=True, name=name)
        self.options, self.stopping = options, threading.Event()
        self.client = dict(CLIENT, **{"bootstrap.servers": options.bootstrap})
        self.journal = Journal(options, name)

    def run(self):
        try:
            while not self.stopping.is_set():
                if self.going.wait(0.2):
                    self.act()
            self.finish()
        except Exception as error:
            stop(f"{self.name}: {type(error).__name__}: {error}")

    def finish(self):
        """What is left to do when it is time to stop."""

    def insist(self, call, *arguments, seconds=FINISH_SECONDS_MAX):
        """Calls until somebody is there to answer; what else goes wrong is raised."""
        until = time.monotonic() + seconds
        while True:
            try:
                return call(*arguments)
            except KafkaException as error:
                if not is_away(error.args[0]) or time.monotonic() > until:
                    raise
                time.sleep(0.02)


class Appender(Actor):
    """Appends to all partitions of a topic. Journal: "acked PARTITION OFFSET VALUE TIMESTAMP"."""

    def __init__(self, options, topic, rate, size, **settings):
        super().__init__(options, f"append-{topic}")
        self.topic, self.rate, self.filling = topic, rate, b" " + b"." * size
        self.slots = threading.Semaphore(IN_FLIGHT_MAX)
        self.numbers = itertools.count()
        self.due = time.monotonic()
        self.producer = Producer({**self.client, "linger.ms": 5, "enable.idempotence": True, "message.timeout.ms": 0,
                                  "retry.backoff.ms": 20, **settings})

    def acked(self, error, message):
        self.slots.release()
        value = message.value().split(b" ")[0].decode()
        check(error is None, f"{value} was refused for good: {error}")
        self.journal.note("acked", message.partition(), message.offset(), value, message.timestamp()[1])

    def act(self):
        # Behind by more than a second it does not hurry: the rate is a bound and not a promise.
        self.due = max(self.due + 1 / self.rate, time.monotonic() - 1)
        while time.monotonic() < self.due or not self.slots.acquire(blocking=False):
            self.producer.poll(0.005)
            if self.stopping.is_set():
                return
        value = b"%s-%d" % (self.topic.encode(), next(self.numbers))
        self.producer.produce(self.topic, value + self.filling, key=value, on_delivery=self.acked)
        self.producer.poll(0)

    def finish(self):
        equal(self.producer.flush(FINISH_SECONDS_MAX), 0, f"records of {self.topic} without an answer at the end")


class Trimmer(Appender):
    """An appender that deletes its older records. Journal: also "trimmed PARTITION OFFSET" when that was acknowledged."""

    def __init__(self, options, topic, rate, size):
        super().__init__(options, topic, rate, size)
        self.admin = AdminClient(self.client)
        self.ends, self.trim_due = {}, time.monotonic() + 0.5

    def acked(self, error, message):
        super().acked(error, message)
        self.ends[message.partition()] = message.offset()

    def act(self):
        super().act()
        if time.monotonic() < self.trim_due:
            return
        self.trim_due = time.monotonic() + 0.5
        wanted = [TopicPartition(self.topic, p, end - 200) for p, end in self.ends.items() if end > 200]
        for tp, asked in self.admin.delete_records(wanted, request_timeout=5).items() if wanted else ():
            asked.add_done_callback(lambda told, partition=tp.partition: self.trimmed(told, partition))

    def trimmed(self, told, partition):
        # What was refused or not answered is no promise.
        if told.exception() is None:
            self.journal.note("trimmed", partition, told.result().low_watermark)


class Transactions(Actor):
    """One transaction after the other: a number into two topics, and every third as a group's offset; each fourth is aborted.

    Journal: "began N", then "committed N", "aborted N" or "unknown N ERROR".
    """

    SECONDS_MAX = 6

    def __init__(self, options, name, topics):
        super().__init__(options, f"transactions-{name}")
        self.id, self.topics, self.producer = name, topics, None
        self.numbers = itertools.count()
        self.reader = Consumer({**self.client, "group.id": f"group-{name}"})
        # librdkafka may wait for ever when it has lost its coordinator in the middle of send_offsets_to_transaction, with no
        # request under way. Another instance then takes its place; it is kept, because its end would wait as well.
        self.lost = []

    def open(self):
        producer = Producer({**self.client, "transactional.id": self.id, "linger.ms": 0, "retry.backoff.ms": 20,
                             "message.timeout.ms": 6000, "transaction.timeout.ms": 6000})
        try:
            self.insist(producer.init_transactions, 1, seconds=5)
            self.producer = producer
        except KafkaException as error:
            self.lost.append(producer)
            check(is_away(error.args[0]), f"refused to begin: {error}")

    def act(self):
        if self.producer is None:
            self.open()
        if self.producer is None:
            return
        number, outcome = next(self.numbers), []
        self.journal.note("began", number)
        attempt = threading.Thread(target=self.attempt, args=(self.producer, number, outcome), daemon=True)
        attempt.start()
        attempt.join(self.SECONDS_MAX)
        what, error, goes_on = outcome[0] if outcome else ("unknown", "it does not come to an end", False)
        self.journal.note(what, number, *([error.replace(" ", "_")] if error else ()))
        if not goes_on:
            self.lost.append(self.producer)
            self.producer = None
        time.sleep(0.01)

    def attempt(self, producer, number, outcome):
        """Tells how a transaction ended, with which error, and whether its producer can go on."""
        try:
            outcome.append((self.transaction(producer, number), None, True))
        except KafkaException as error:
            goes_on = error.args[0].txn_requires_abort() and self.gave_up(producer)
            outcome.append(("unknown", str(error.args[0]), goes_on))

    def gave_up(self, producer):
        try:
            self.insist(producer.abort_transaction, 1, seconds=2)
            return True
        except KafkaException:
            return False

    def transaction(self, producer, number):
        producer.begin_transaction()
        delivered = []
        for topic in self.topics:
            producer.produce(topic, b"%s-%d" % (self.id.encode(), number), key=self.id,
                             on_delivery=lambda error, _: delivered.append(error))
        if number % 3 == 0:
            offsets = [TopicPartition(self.topics[0], 0, number)]
            group = self.reader.consumer_group_metadata()
            self.insist(producer.send_offsets_to_transaction, offsets, group, 1, seconds=2)
        if number % 4 == 3:
            producer.flush(1)
            self.insist(producer.abort_transaction, 1, seconds=2)
            return "aborted"
        self.insist(producer.commit_transaction, 1, seconds=2)
        producer.poll(0)
        # librdkafka may clear its queue once more for an abort that it had to ask for twice, and commit the next transaction without
        # the records that were in there. It does tell that they were not sent.
        for error in delivered:
            if error is not None:
                raise KafkaException(error)
        check(len(delivered) == len(self.topics), f"{number} was committed without a word about its records")
        return "committed"


class Member(Actor):
    """The one member of a group: each record once and in order, and commits that never go back. Journal: "committed P O"."""

    def __init__(self, options, group, topic, **settings):
        super().__init__(options, f"member-{group}")
        self.topic = topic
        # Per partition: what comes next, from where it may begin again after an assignment, what was acknowledged.
        self.next, self.again, self.committed = {}, {}, {}
        self.consumer = Consumer({**self.client, "group.id": group, "auto.offset.reset": "earliest", "check.crcs": True,
                                  "enable.auto.commit": False, **settings})
        self.consumer.subscribe([topic], on_assign=self.assigned)
        self.look_due = 0

    def assigned(self, _, partitions):
        self.again.update({tp.partition: self.committed.get(tp.partition, 0) for tp in partitions})

    def act(self):
        for message in self.consumer.consume(500, timeout=0.1):
            if message.error():
                check(is_away(message.error()), f"reading: {message.error()}")
                continue
            partition, offset = message.partition(), message.offset()
            wanted = self.next.get(partition, 0)
            begin = self.again.pop(partition, wanted)
            check(begin <= offset <= wanted, f"partition {partition}: {offset} came where {begin} to {wanted} was due")
            self.next[partition] = offset + 1
        self.commit()
        if time.monotonic() > self.look_due:
            self.look_due = time.monotonic() + 0.5
            self.look()

    def commit(self):
        new = {p: o for p, o in self.next.items() if self.committed.get(p) != o}
        if not new:
            return
        try:
            told = self.consumer.commit(offsets=[TopicPartition(self.topic, p, o) for p, o in new.items()],
                                        asynchronous=False)
        except KafkaException:
            return  # The server is away, or the group is moving; what is not acknowledged is not promised.
        for tp in told:
            if tp.error is None:
                self.committed[tp.partition] = tp.offset
                self.journal.note("committed", tp.partition, tp.offset)

    def look(self):
        try:
            told = self.consumer.committed([TopicPartition(self.topic, p) for p in self.committed], timeout=2)
        except KafkaException:
            return
        for tp in told:
            check(tp.offset >= self.committed[tp.partition],
                  f"the committed offset of {tp.partition} went back from {self.committed[tp.partition]} to {tp.offset}")

    def finish(self):
        until = time.monotonic() + FINISH_SECONDS_MAX
        while not self.at_end():
            check(time.monotonic() < until, f"not everything is read: {self.next}, committed {self.committed}")
            self.act()
        self.look()
        self.consumer.close()

    def at_end(self):
        try:
            ends = {p: self.consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=5)[1]
                    for p in self.consumer.list_topics(self.topic, timeout=5).topics[self.topic].partitions}
        except KafkaException:
            return False
        return all(self.next.get(p, 0) == end == self.committed.get(p, 0) for p, end in ends.items())


class Rereader(Actor):
    """Reads a topic that nothing is deleted from again and again from its beginning, wherever it lies by now."""

    def __init__(self, options, topic, partitions):
        super().__init__(options, f"reread-{topic}")
        self.topic, self.all = topic, range(partitions)
        self.consumer = Consumer({**self.client, "group.id": f"reread-{topic}", "check.crcs": True, "enable.auto.commit": False,
                                  "enable.partition.eof": True})
        self.next, self.ended = {}, set(self.all)

    def act(self):
        if len(self.ended) == len(self.all):
            self.next, self.ended = {p: 0 for p in self.all}, set()
            self.consumer.assign([TopicPartition(self.topic, p, 0) for p in self.all])
        for message in self.consumer.consume(200, timeout=0.1):
            partition = message.partition()
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                self.ended.add(partition)
            elif message.error():
                check(is_away(message.error()), f"reading: {message.error()}")
            elif partition not in self.ended:
                equal(message.offset(), self.next[partition], f"the next offset of partition {partition}")
                check(message.value().startswith(self.topic.encode()), f"what stands at {message.offset()}: {message.value()[:40]}")
                self.next[partition] += 1
        time.sleep(0.02)

    def finish(self):
        self.consumer.close()


class Compacted(Actor):
    """Few keys, written again and again; of those with a t each fourth record is a tombstone.

    Journal: "sent KEY NUMBER" before, "acked KEY NUMBER PARTITION OFFSET" after.
    """

    KEYS = [f"k{i}" for i in range(40)] + [f"t{i}" for i in range(10)]

    def __init__(self, options, topic, rate):
        super().__init__(options, f"compacted-{topic}")
        self.topic, self.rate = topic, rate
        self.turns = itertools.count()
        self.producer = Producer({**self.client, "linger.ms": 5, "enable.idempotence": True, "message.timeout.ms": 0,
                                  "retry.backoff.ms": 20})

    def act(self):
        if len(self.producer) > IN_FLIGHT_MAX:
            self.producer.poll(0.05)
            return
        number, at = divmod(next(self.turns), len(self.KEYS))
        key = self.KEYS[at]
        self.journal.note("sent", key, number)
        value = None if key[0] == "t" and number % 4 == 3 else f"{key}:{number} {'.' * 300}"

        def acked(error, message):
            check(error is None, f"{key}:{number} was refused for good: {error}")
            self.journal.note("acked", key, number, message.partition(), message.offset())

        self.producer.produce(self.topic, value, key=key, on_delivery=acked)
        self.producer.poll(1 / self.rate)

    def finish(self):
        equal(self.producer.flush(FINISH_SECONDS_MAX), 0, f"records of {self.topic} without an answer at the end")


class Topics(Actor):
    """Makes topics, writes a few records, changes a setting and deletes them again.

    Journal: "creating NAME", "created NAME", "acked NAME OFFSET VALUE", "setting NAME V", "set NAME V", "deleting NAME",
    "deleted NAME". V is max.message.bytes.
    """

    ALIVE_MAX = 6

    def __init__(self, options):
        super().__init__(options, "topics")
        self.admin = AdminClient(self.client)
        self.alive, self.numbers = [], itertools.count()
        self.producer = Producer({**self.client, "linger.ms": 0, "message.timeout.ms": 3000, "retry.backoff.ms": 20})

    def settle(self, futures, unless):
        """Waits for an answer; None if there was none, so that it is open whether it was done."""
        try:
            return futures.result(20) or True
        except KafkaException as error:
            code = error.args[0].code()
            check(code in unless or is_away(error.args[0]), f"refused: {error}")
            return True if code in unless else None

    def act(self):
        if len(self.alive) < self.ALIVE_MAX:
            self.create(f"passing-{next(self.numbers)}")
        else:
            self.delete(self.alive.pop(0))
        time.sleep(0.05)

    def create(self, name):
        self.journal.note("creating", name)
        made = None
        while made is None and not self.stopping.is_set():
            made = self.settle(self.admin.create_topics([NewTopic(name, 2, 1)], request_timeout=3)[name],
                               {KafkaError.TOPIC_ALREADY_EXISTS})
        if made is None:
            return
        self.journal.note("created", name)
        self.alive.append(name)
        for number in range(10):
            self.producer.produce(name, b"%s-%d" % (name.encode(), number), partition=0, on_delivery=self.acked)
        self.producer.poll(0.02)
        self.change(name, 500_000 + int(name.split("-")[1]))

    def change(self, name, number):
        entry = ConfigEntry("max.message.bytes", str(number), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        self.journal.note("setting", name, number)
        if self.settle(self.admin.incremental_alter_configs([resource], request_timeout=3)[resource], set()):
            self.journal.note("set", name, number)

    def acked(self, error, message):
        # A topic may be deleted before its last record is answered.
        if error is None:
            self.journal.note("acked", message.topic(), message.offset(), message.value().decode())

    def delete(self, name):
        self.journal.note("deleting", name)
        gone = None
        while gone is None and not self.stopping.is_set():
            gone = self.settle(self.admin.delete_topics([name], request_timeout=3)[name],
                               {KafkaError.UNKNOWN_TOPIC_OR_PART})
        if gone is not None:
            self.journal.note("deleted", name)

    def finish(self):
        self.producer.flush(10)


def cast(options, told):
    """Everybody who takes part."""
    yield Appender(options, "kept", 250, 100)
    yield Appender(options, "plain", 100, 100, **{"enable.idempotence": False, "acks": 1, "compression.type": "lz4"})
    yield Appender(options, "aged", 150, 2000)
    yield Appender(options, "sized", 250, 8000, **{"compression.type": "none"})
    yield Trimmer(options, "trimmed", 150, 500)
    yield Compacted(options, "compacted", 250)
    for name in ("one", "two"):
        yield Transactions(options, name, ("left", "right"))
    yield Member(options, "readers", "kept", **{"session.timeout.ms": 45000, "heartbeat.interval.ms": 500})
    if told["consumer_protocol"]:
        yield Member(options, "new-readers", "plain", **{"group.protocol": "consumer"})
    yield Rereader(options, "kept", 6)
    yield Topics(options)


def make_topics(options):
    """The topics of everybody; those of a run before may be there."""
    aged = {"retention.ms": "4000", "segment.ms": "500", "segment.bytes": "1048576"}
    sized = {"retention.bytes": "4194304", "segment.bytes": "1048576"}
    compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.bytes": "1048576",
                 "segment.ms": "300", "delete.retention.ms": "2000"}
    wanted = [NewTopic("kept", 6, 1), NewTopic("plain", 24, 1), NewTopic("aged", 3, 1, config=aged), NewTopic("left", 1, 1),
              NewTopic("sized", 3, 1, config=sized), NewTopic("trimmed", 2, 1), NewTopic("right", 5, 1),
              NewTopic("compacted", 3, 1, config=compacted)]
    until = time.monotonic() + FINISH_SECONDS_MAX
    admin = AdminClient(dict(CLIENT, **{"bootstrap.servers": options.bootstrap}))
    while wanted:
        check(time.monotonic() < until, "the topics can't be made")
        for topic, made in zip(list(wanted), admin.create_topics(wanted, request_timeout=3).values()):
            try:
                made.result(20)
                wanted.remove(topic)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    wanted.remove(topic)
                elif not is_away(error.args[0]):
                    raise


def perform(actors, stopping, ready):
    """Lets actors work until it is said to stop, and waits for their ends; `ready` is called when all are under way."""
    for actor in actors:
        actor.start()
    ready()
    while not stopping.wait(0.2):
        check(all(actor.is_alive() for actor in actors), "an actor ended by itself")
    Actor.going.set()
    for actor in actors:
        actor.stopping.set()
    for actor in actors:
        actor.join(FINISH_SECONDS_MAX * 2)
        check(not actor.is_alive(), f"{actor.name} does not come to an end")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--journals", required=True, metavar="FOLDER")
    parser.add_argument("--with", dest="told", type=json.loads, default={"consumer_protocol": True})
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    make_topics(options)
    actors = list(cast(options, options.told))
    perform(actors, stopping, lambda: open(f"{options.journals}/ready", "w").close())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # one sentence for whoever runs it
        stop(f"{type(error).__name__}: {error}")
