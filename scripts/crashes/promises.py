"""What the actors were promised, by their journals, and whether a server keeps it.

A journal is read before the server is asked, so everything in it is older than the answer.
"""

import time
from collections import Counter, defaultdict

from common import Failure, check, equal, eventually, fresh
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

# By what the records of a topic may go: nothing, their age, the partition's size, deletion on demand.
APPENDED = {"kept": None, "plain": None, "aged": "age", "sized": "size", "trimmed": "demand"}
AGED_MS = 4000
TRANSACTIONS = ("one", "two")
READ_SECONDS_MAX = 120
QUIET_CLIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "log_level": 0}


class Lines:
    """The new whole lines of a file that grows."""

    def __init__(self, path):
        self.path, self.at = path, 0

    def new(self):
        try:
            with open(self.path, "rb") as file:
                file.seek(self.at)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        self.at += whole
        for line in data[:whole].decode().splitlines():
            yield line.split(" ")


class Promises:
    """Everything that has been acknowledged to the actors of one folder of journals."""

    def __init__(self, folder):
        self.files = {name: Lines(f"{folder}/{name}") for name in [
            *(f"append-{topic}" for topic in APPENDED), *(f"transactions-{name}" for name in TRANSACTIONS),
            "compacted-compacted", "topics", "member-readers", "member-new-readers"]}
        # By topic: what stands at (partition, offset), with its timestamp.
        self.records = {topic: {} for topic in APPENDED}
        self.trimmed = defaultdict(int)
        self.began = {name: -1 for name in TRANSACTIONS}
        self.ended = {name: {} for name in TRANSACTIONS}
        self.sent, self.keys, self.places = {}, {}, {}
        self.topics, self.topic_records, self.settings = {}, {}, {}
        self.committed = {"readers": {}, "new-readers": {}}
        # The lowest offset of each partition that was seen: it never goes back.
        self.lowest = defaultdict(int)

    def read(self):
        """Takes what was written down since the last time; the number of events."""
        count = 0
        for name, lines in self.files.items():
            kind, _, rest = name.partition("-")
            take = {"append": self.take_append, "transactions": self.take_transaction, "compacted": self.take_compacted,
                    "topics": self.take_topic, "member": self.take_member}[kind]
            for words in lines.new():
                take(rest, *words)
                count += 1
        return count

    def take_append(self, topic, what, partition, offset, value=None, timestamp=None):
        if what == "trimmed":
            self.trimmed[int(partition)] = max(self.trimmed[int(partition)], int(offset))
            return
        place = int(partition), int(offset)
        before = self.records[topic].setdefault(place, (value, int(timestamp)))
        equal(value, before[0], f"{topic}: two records were acknowledged at {place}")

    def take_transaction(self, name, what, number, _=None):
        if what == "began":
            self.began[name] = int(number)
        else:
            self.ended[name][int(number)] = what

    def take_compacted(self, _, what, key, number, partition=None, offset=None):
        if what == "sent":
            self.sent[key] = int(number)
        else:
            self.keys[key] = max(self.keys.get(key, -1), int(number))
            self.places[key, int(number)] = int(partition), int(offset)

    def take_topic(self, _, what, name, *rest):
        if what == "acked":
            self.topic_records.setdefault(name, {})[int(rest[0])] = rest[1]
        elif what in ("setting", "set"):
            self.settings[name] = what, rest[0]
        else:
            self.topics[name] = what

    def take_member(self, group, _, partition, offset):
        self.committed[group][int(partition)] = int(offset)

    def all_took_part(self):
        """Nobody was kept from doing what they are there for: otherwise there is nothing to be held against."""
        counts = {topic: len(records) for topic, records in self.records.items()}
        for name, ended in self.ended.items():
            counts[f"committed transactions of {name}"] = sum(what == "committed" for what in ended.values())
            counts[f"aborted transactions of {name}"] = sum(what == "aborted" for what in ended.values())
        counts["keys"], counts["offsets of readers"] = len(self.keys), len(self.committed["readers"])
        for what in ("created", "deleted"):
            counts[f"{what} topics"] = sum(seen == what for seen in self.topics.values())
        idle = [what for what, count in counts.items() if count == 0]
        check(not idle, f"nothing was acknowledged of: {', '.join(idle)}")

    def ends(self):
        """Behind the last acknowledged record of each partition."""
        ends = {}
        for topic, records in self.records.items():
            for partition, offset in records:
                ends[topic, partition] = max(ends.get((topic, partition), 0), offset + 1)
        return ends


class Judge:
    """Holds one server against promises. `cut` tells that it was restored: what is missing at the end is no fault."""

    def __init__(self, bootstrap, promises, cut=False):
        self.bootstrap, self.promises, self.cut = bootstrap, promises, cut
        self.client = {**QUIET_CLIENT, "bootstrap.servers": bootstrap}
        self.admin = AdminClient(self.client)

    def insist(self, what, ask):
        """The answer, once there is one: a server that has only just started may ask for patience."""
        def answer():
            try:
                return (ask(),)
            except KafkaException:
                return None
        return eventually(60, what, answer)[0]

    def watermarks(self, partitions):
        """First and next offset of each partition."""
        def ask(spec):
            asked = self.admin.list_offsets({TopicPartition(t, p): spec for t, p in partitions}, request_timeout=10)
            return {(tp.topic, tp.partition): told.result().offset for tp, told in asked.items()}
        low = self.insist("the first offsets are told", lambda: ask(OffsetSpec.earliest()))
        high = self.insist("the last offsets are told", lambda: ask(OffsetSpec.latest()))
        return {place: (low[place], high[place]) for place in partitions}

    def quick(self):
        """Every acknowledged record lies between the first and the last offset, or its topic lets records go."""
        ends = self.promises.ends()
        self.check_ends(ends, self.watermarks(list(ends)) if ends else {})
        self.check_commits()

    def check_ends(self, ends, seen):
        for (topic, partition), (low, high) in seen.items():
            place = f"{topic}-{partition}"
            check(self.cut or high >= ends[topic, partition],
                  f"{place} ends at {high}, and {ends[topic, partition] - 1} was acknowledged")
            check(low <= high, f"{place} begins at {low} and ends at {high}")
            if self.cut:
                continue
            before = self.promises.lowest[topic, partition]
            check(low >= before, f"{place} began at {before}, and begins at {low} now")
            self.promises.lowest[topic, partition] = low
            if APPENDED[topic] is None:
                equal(low, 0, f"first offset of {place}")
            if topic == "trimmed":
                check(low >= self.promises.trimmed[partition],
                      f"{place} begins at {low}; deleted up to {self.promises.trimmed[partition]}")

    def check_commits(self):
        for group, topic in (("readers", "kept"), ("new-readers", "plain")):
            promised = dict(self.promises.committed[group])
            if not promised or self.cut:
                continue
            reader = Consumer({**self.client, "group.id": group})
            told = self.insist(f"the offsets of {group} are told",
                               lambda: reader.committed([TopicPartition(topic, p) for p in promised], timeout=5))
            reader.close()
            for tp in told:
                check(tp.offset >= promised[tp.partition],
                      f"group {group} had committed {promised[tp.partition]} of {topic}-{tp.partition}, and has {tp.offset}")

    def full(self, final=False):
        """Reads everything. `final` says that nobody writes any more."""
        self.quick()
        for topic in APPENDED:
            self.check_appended(topic)
        # While transactions are under way, readers of committed records would have to wait for them.
        if final:
            self.check_transactions()
        self.check_compacted()
        self.check_topics()

    def read(self, topic, isolation="read_uncommitted", seconds=READ_SECONDS_MAX):
        """All records up to the end as it is now, {(partition, offset): (value, key)}, and the first and last offsets then.

        A reader of committed records waits for the transactions that are open now.
        """
        names = self.insist(f"{topic} is there", lambda: self.admin.list_topics(topic, timeout=10))
        check(names.topics[topic].error is None, f"{topic}: {names.topics[topic].error}")
        marks = self.watermarks([(topic, p) for p in names.topics[topic].partitions])
        reader = Consumer({**self.client, "group.id": fresh("judge"), "check.crcs": True, "enable.auto.commit": False,
                           "enable.partition.eof": True, "isolation.level": isolation, "auto.offset.reset": "earliest"})
        reader.assign([TopicPartition(topic, p, low) for (_, p), (low, high) in marks.items() if high > low])
        left = {p for (_, p), (low, high) in marks.items() if high > low}
        found, last = {}, {}
        until = time.monotonic() + seconds
        while left:
            check(time.monotonic() < until, f"partitions {left} of {topic} are not read to their ends {marks}")
            for message in reader.consume(5000, timeout=0.5):
                partition, offset = message.partition(), message.offset()
                is_end = message.error() is not None
                check(not is_end or message.error().code() == KafkaError._PARTITION_EOF, f"{topic}: {message.error()}")
                if not is_end:
                    before = last.get(partition, -1)
                    check(offset > before, f"{topic}-{partition}: offset {offset} came after {before}")
                    last[partition] = offset
                    found[partition, offset] = message.value(), message.key()
                if offset + (not is_end) >= marks[topic, partition][1]:
                    left.discard(partition)
        reader.close()
        return found, {p: mark for (_, p), mark in marks.items()}

    def check_appended(self, topic):
        promised = dict(self.promises.records[topic])
        if not promised:
            return
        found, marks = self.read(topic)
        # What was there when the reading began may have gone meanwhile.
        after = self.watermarks([(topic, p) for p in marks])
        now_ms = time.time() * 1000
        values = Counter(value.split(b" ")[0] for value, _ in found.values())
        twice = [value for value, count in values.items() if count > 1]
        check(topic == "plain" or not twice, f"{topic}: {twice[:5]} of an idempotent producer are there more than once")
        for (partition, offset), (value, timestamp) in promised.items():
            place = f"{topic}-{partition}: offset {offset}, acknowledged as {value},"
            if offset < after[topic, partition][0]:
                check(APPENDED[topic] is not None, f"{place} is gone")
                check(APPENDED[topic] != "age" or timestamp + AGED_MS <= now_ms + 1, f"{place} is gone before its time")
                continue
            if self.cut and offset >= marks[partition][1]:
                continue
            there = found.get((partition, offset))
            check(there is not None, f"{place} is missing; there are {marks[partition]}")
            equal(there[0].split(b" ")[0].decode(), value, f"{topic}-{partition}: the record at offset {offset}")

    def check_transactions(self):
        ended = self.promises.ended
        left = self.numbers("left")
        right = self.numbers("right")
        for name in TRANSACTIONS:
            one, two = left.get(name, []), right.get(name, [])
            for side, numbers in (("left", one), ("right", two)):
                equal(len(numbers), len(set(numbers)), f"{side}: transactions of {name} without repetitions")
            for number, what in ended[name].items():
                if what == "committed" and not self.cut:
                    check(number in one and number in two, f"transaction {name}-{number} was committed and is not there")
                check(what != "aborted" or (number not in one and number not in two),
                      f"transaction {name}-{number} was aborted and is there")
            halves = sorted(set(one) ^ set(two))
            check(not halves, f"{name}: halves of transactions: {halves[:5]}")
            self.check_group_of(name, one)

    def numbers(self, topic):
        """By transactional id, the numbers that a reader of committed records sees."""
        numbers = defaultdict(list)
        found, _ = self.read(topic, "read_committed")
        for value, _ in found.values():
            name, _, number = value.decode().rpartition("-")
            numbers[name].append(int(number))
        return numbers

    def check_group_of(self, name, numbers):
        """The group's offset is of the last transaction that is there."""
        last = max((number for number in numbers if number % 3 == 0), default=-1001)
        reader = Consumer({**self.client, "group.id": f"group-{name}"})
        [told] = self.insist(f"the offset of {name} is told",
                             lambda: reader.committed([TopicPartition("left", 0)], timeout=5))
        reader.close()
        equal(told.offset, last, f"the offset that transactions of {name} committed")

    def check_compacted(self):
        keys, places = dict(self.promises.keys), dict(self.promises.places)
        if not keys:
            return
        found, marks = self.read("compacted")
        self.promises.read()
        sent, last = self.promises.sent, {}
        numbers = {place: number for (_, number), place in places.items()}
        for place, (value, key) in sorted(found.items()):
            key = key.decode()
            number = None
            if value is not None:
                named, _, rest = value.decode().partition(":")
                number = int(rest.split(" ")[0])
                equal(named, key, f"compacted: the key of the value at {place}")
                equal(places.get((key, number), place), place, f"compacted: where {key}:{number} was acknowledged")
                check(number > last.get(key, (-1,))[0], f"compacted: {key}:{number} stands behind {last.get(key)}")
            else:
                check(key[0] == "t", f"compacted: a tombstone of {key}")
                # One that is not acknowledged yet comes after all that are.
                number = numbers.get(place, keys.get(key, -1) + 0.5)
            last[key] = number, place
        for key, number in keys.items():
            seen = last.get(key, (-1,))[0]
            partition, offset = places[key, number]
            if seen >= number or (self.cut and offset >= marks[partition][1]):
                continue
            # A tombstone goes when its time is over, and takes everything before it along.
            gone = seen < 0 and key[0] == "t" and any(n % 4 == 3 for n in range(number, sent[key] + 1))
            check(gone, f"compacted: {key}:{number} was acknowledged, and the last one that is there is {seen}")

    def check_topics(self):
        before = dict(self.promises.topics)
        records = {name: dict(those) for name, those in self.promises.topic_records.items()}
        settings = dict(self.promises.settings)
        there = self.insist("the topics are told", lambda: self.admin.list_topics(timeout=10)).topics
        kept = [name for name, what in before.items() if what == "created" and name in there]
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in kept]
        configs = {}
        for resource, told in self.admin.describe_configs(asked, request_timeout=10).items() if asked else ():
            # A topic may be deleted just now; if it isn't, what it lacks is found out below.
            if told.exception(10) is None:
                configs[resource.name] = told.result()["max.message.bytes"].value
        self.promises.read()
        for name, what in before.items():
            if self.promises.topics[name] != what or self.cut:
                continue
            if what == "created":
                check(name in there, f"topic {name} was created and is not there")
                equal(len(there[name].partitions), 2, f"partitions of {name}")
                is_set = settings.get(name, ("", ""))[0] == "set"
                check(not is_set or configs.get(name) == settings[name][1],
                      f"max.message.bytes of {name} was set to {settings.get(name)} and is {configs.get(name)}")
            check(what != "deleted" or name not in there, f"topic {name} was deleted and is there")
        alive = [name for name in kept if name in records][-2:]
        for name in alive:
            self.check_passing(name, records[name])

    def check_passing(self, name, records):
        try:
            found, _ = self.read(name, seconds=5)
        except (Failure, KafkaException, KeyError):
            found = None  # It may just be deleted.
        self.promises.read()
        if self.promises.topics[name] == "created" and not self.cut:
            for offset, value in records.items():
                there = (found or {}).get((0, offset), (b"",))[0].decode()
                equal(there, value, f"{name}: the record that was acknowledged at offset {offset}")
