"""Writes the same random records to a real Kafka and to this server, lets both compact them, and compares what is left.

Everything goes over raw connections, so that each batch is what this says. Compaction is held back with
min.compaction.lag.ms while records are written, so that both servers clean exactly once per round. Needs Python alone.
"""

import argparse
import gzip
import random
import socket
import struct
import time

from acks_load import crc32c, text, varint
from common import check, main_guard

PRODUCE, FETCH, LIST_OFFSETS, FIND_COORDINATOR, CREATE_TOPICS = 0, 1, 2, 10, 19
INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN, ALTER_CONFIGS = 22, 24, 26, 44
COORDINATOR_ERRORS = {14, 15, 16, 51}
DAY_MS = 86_400_000
SEGMENT_MS = 600_000
DELETE_RETENTION_MS = 1_000
ROUNDS = 3
TRANSACTIONAL, CONTROL, HORIZON, GZIP = 1 << 4, 1 << 5, 1 << 6, 1


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def bytes(self, length):
        value = self.data[self.at : self.at + length] if length >= 0 else None
        self.at += max(length, 0)
        return value

    def varint(self):
        shift = value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)


class Server:
    """One connection, one request at a time."""

    def __init__(self, name, address):
        host, port = address.rsplit(":", 1)
        self.name = name
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.producers = {}

    def ask(self, key, version, body):
        head = struct.pack(">hhi", key, version, 1) + text(b"compaction")
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        answer = self.read(struct.unpack(">i", self.read(4))[0])
        return Reader(answer[4:])

    def read(self, length):
        out = bytearray()
        while len(out) < length:
            piece = self.socket.recv(length - len(out))
            check(piece, f"{self.name} closed the connection")
            out += piece
        return bytes(out)

    def patiently(self, what, ask):
        """Asks until the answer is no longer that a coordinator is not there yet."""
        until = time.monotonic() + 60
        while (error := ask()) in COORDINATOR_ERRORS and time.monotonic() < until:
            time.sleep(0.05)
        check(error == 0, f"{self.name}: {what} is answered with error {error}")

    def create(self, topic, configs):
        entries = b"".join(text(name) + text(value) for name, value in configs.items())
        body = struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", 1, 1, 0, len(configs)) + entries
        answer = self.ask(CREATE_TOPICS, 4, body + struct.pack(">i?", 30_000, False))
        answer.take("i"), answer.take("i"), answer.bytes(answer.take("h"))
        error = answer.take("h")
        check(error == 0, f"{self.name}: CreateTopics is answered with error {error}")

    def configure(self, topic, name, value):
        entry = struct.pack(">ib", 1, 2) + text(topic) + struct.pack(">i", 1) + text(name) + b"\0" + text(value)
        answer = self.ask(ALTER_CONFIGS, 0, entry + b"\0")
        answer.take("i"), answer.take("i")
        error = answer.take("h")
        check(error == 0, f"{self.name}: IncrementalAlterConfigs is answered with error {error}")

    def find_coordinator(self, txn_id):
        def ask():
            answer = self.ask(FIND_COORDINATOR, 1, text(txn_id) + b"\1")
            answer.take("i")
            return answer.take("h")

        self.patiently("FindCoordinator", ask)

    def init_producer(self, name, txn_id):
        if txn_id:
            self.find_coordinator(txn_id)

        def ask():
            id_field = text(txn_id) if txn_id else struct.pack(">h", -1)
            answer = self.ask(INIT_PRODUCER_ID, 1, id_field + struct.pack(">i", 600_000))
            answer.take("i")
            error = answer.take("h")
            self.producers[name] = (answer.take("q"), answer.take("h"), 0)
            return error

        self.patiently("InitProducerId", ask)

    def join_txn(self, name, txn_id, topic):
        def ask():
            producer_id, epoch, _ = self.producers[name]
            body = text(txn_id) + struct.pack(">qh", producer_id, epoch)
            body += struct.pack(">i", 1) + text(topic) + struct.pack(">ii", 1, 0)
            answer = self.ask(ADD_PARTITIONS, 1, body)
            answer.take("i"), answer.take("i"), answer.bytes(answer.take("h")), answer.take("i"), answer.take("i")
            return answer.take("h")

        self.patiently("AddPartitionsToTxn", ask)

    def end_txn(self, name, txn_id, topic, committed):
        """Ends the transaction, and waits for its marker."""
        before = self.end_offset(topic)

        def ask():
            producer_id, epoch, _ = self.producers[name]
            answer = self.ask(END_TXN, 1, text(txn_id) + struct.pack(">qh?", producer_id, epoch, committed))
            answer.take("i")
            return answer.take("h")

        self.patiently("EndTxn", ask)
        until = time.monotonic() + 60
        while self.end_offset(topic) == before:
            check(time.monotonic() < until, f"{self.name}: a transaction has no marker after 60 s")
            time.sleep(0.01)

    def end_offset(self, topic):
        body = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, 0, -1)
        answer = self.ask(LIST_OFFSETS, 1, body)
        answer.take("i"), answer.bytes(answer.take("h")), answer.take("i"), answer.take("i")
        error = answer.take("h")
        check(error == 0, f"{self.name}: ListOffsets is answered with error {error}")
        answer.take("q")
        return answer.take("q")

    def produce(self, topic, step):
        producer_id, epoch, sequence = self.producers.get(step["producer"], (-1, -1, -1))
        records = batch(step, producer_id, epoch, sequence)
        if producer_id >= 0:
            self.producers[step["producer"]] = (producer_id, epoch, sequence + len(step["records"]))
        txn = text(step["txn"]) if step["txn"] else struct.pack(">h", -1)
        body = txn + struct.pack(">hii", -1, 30_000, 1) + text(topic) + struct.pack(">ii", 1, 0)
        answer = self.ask(PRODUCE, 3, body + struct.pack(">i", len(records)) + records)
        answer.take("i"), answer.bytes(answer.take("h")), answer.take("i"), answer.take("i")
        error = answer.take("h")
        check(error == 0, f"{self.name}: Produce is answered with error {error}")

    def fetch(self, topic, offset, committed):
        """The aborted transactions that are told, and the batches as bytes."""
        body = struct.pack(">iiiib", -1, 500, 1, 50 << 20, committed) + struct.pack(">i", 1) + text(topic)
        answer = self.ask(FETCH, 4, body + struct.pack(">iiqi", 1, 0, offset, 50 << 20))
        answer.take("i"), answer.take("i"), answer.bytes(answer.take("h")), answer.take("i"), answer.take("i")
        error = answer.take("h")
        check(error == 0, f"{self.name}: Fetch is answered with error {error}")
        answer.take("q"), answer.take("q")
        aborted = [(self.name_of(answer.take("q")), answer.take("q")) for _ in range(max(answer.take("i"), 0))]
        return aborted, answer.bytes(answer.take("i"))

    def name_of(self, producer_id):
        names = {known[0]: name for name, known in self.producers.items()}
        return names.get(producer_id, producer_id)

    def view(self, topic):
        """All batches of the partition, as far as they must be alike, after the aborted transactions."""
        aborted, batches = set(), []
        # One answer of Kafka's does not go beyond a segment, so the transactions of all of them count.
        for committed in (True, False):
            offset, end = 0, self.end_offset(topic)
            while offset < end:
                told, data = self.fetch(topic, offset, committed)
                found = self.batches(data, offset)
                if not found:
                    break
                aborted.update(told)
                batches += [] if committed else found
                offset = found[-1]["last"] + 1
        return [sorted(aborted)] + batches

    def batches(self, data, offset):
        reader, out = Reader(data), []
        while len(data) - reader.at >= 61:
            base, length = reader.take("q"), reader.take("i")
            if len(data) - reader.at < length:
                break
            one = self.batch(base, Reader(reader.bytes(length)))
            if one["last"] >= offset:
                out.append(one)
        return out

    def batch(self, base, reader):
        reader.take("i"), reader.take("b")
        crc = reader.take("I")
        check(crc == crc32c(reader.data[reader.at :]), f"{self.name}: the checksum at offset {base} is wrong")
        attributes, delta, first, largest = reader.take("h"), reader.take("i"), reader.take("q"), reader.take("q")
        producer_id, epoch, sequence, count = reader.take("q"), reader.take("h"), reader.take("i"), reader.take("i")
        body = reader.data[reader.at :]
        body = gzip.decompress(body) if attributes & 7 == GZIP and count else body
        is_control = bool(attributes & CONTROL)
        return {
            "base": base,
            "last": base + delta,
            "attributes": attributes,
            "largest": None if is_control else largest,
            "producer": self.name_of(producer_id),
            "epoch": epoch,
            "sequence": sequence,
            "records": [record(base, first, is_control, Reader(body)) for body in split(body, count)],
        }


def split(body, count):
    reader = Reader(body)
    return [reader.bytes(reader.varint()) for _ in range(count)]


def record(base, first, is_control, reader):
    reader.take("b")
    timestamp = first + reader.varint()
    offset = base + reader.varint()
    key, value = reader.bytes(reader.varint()), reader.bytes(reader.varint())
    headers = [(reader.bytes(reader.varint()), reader.bytes(reader.varint())) for _ in range(reader.varint())]
    return offset, None if is_control else timestamp, key, value, headers


def batch(step, producer_id, epoch, sequence):
    first, body = step["records"][0][0], b""
    for delta, (timestamp, key, value, headers) in enumerate(step["records"]):
        one = b"\0" + varint(timestamp - first) + varint(delta) + varint(len(key)) + key
        one += varint(-1) if value is None else varint(len(value)) + value
        one += varint(len(headers)) + b"".join(varint(len(k)) + k + varint(len(v)) + v for k, v in headers)
        body += varint(len(one)) + one
    attributes = (TRANSACTIONAL if step["txn"] else 0) | (GZIP if step["gzip"] else 0)
    body = gzip.compress(body) if step["gzip"] else body
    count = len(step["records"])
    largest = max(timestamp for timestamp, *_ in step["records"])
    checked = struct.pack(">hiqqqhii", attributes, count - 1, first, largest, producer_id, epoch, sequence, count) + body
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


class Partition:
    """A random history, written to all servers alike."""

    def __init__(self, seed, servers):
        self.random, self.servers = random.Random(seed), servers
        self.topic = f"compaction-{seed}-{int(time.time())}".encode()
        # Markers carry the time of day. They must not look later than records, or they would begin segments.
        self.clock = int(time.time() * 1000) + SEGMENT_MS
        self.open, self.written = set(), 0
        self.txn_ids = {name: self.topic + b"-" + name.encode() for name in ("t1", "t2")}
        configs = {
            b"cleanup.policy": b"compact",
            b"segment.ms": b"%d" % SEGMENT_MS,
            b"segment.bytes": b"1048576",
            b"min.cleanable.dirty.ratio": b"0",
            b"delete.retention.ms": b"%d" % DELETE_RETENTION_MS,
            b"min.compaction.lag.ms": b"%d" % (30 * DAY_MS),
            b"message.timestamp.after.max.ms": b"%d" % (365 * DAY_MS),
        }
        for server in servers:
            server.create(self.topic, configs)
            for name in ("i1", "i2"):
                server.init_producer(name, None)
            for name, txn_id in self.txn_ids.items():
                server.init_producer(name, txn_id)

    def step(self):
        kind = self.random.randrange(12)
        name = self.random.choice(["t1", "t2"])
        if kind == 0:
            # What follows stands in another segment.
            self.clock += SEGMENT_MS + 1
        elif kind <= 3 and name in self.open:
            self.end(name, self.random.random() < 0.5)
        else:
            self.append(self.random.choice(["t1", "t2", "i1", "i2", None, None]))

    def append(self, producer):
        txn = self.txn_ids.get(producer)
        if txn and producer not in self.open:
            self.open.add(producer)
            for server in self.servers:
                server.join_txn(producer, txn, self.topic)
        records = []
        for _ in range(self.random.randrange(1, 6)):
            self.clock += self.random.randrange(1000)
            value = None if self.random.random() < 0.25 else self.random.randbytes(self.random.randrange(60))
            headers = [(b"h", b"x")] if self.random.random() < 0.2 else []
            records.append((self.clock, b"k%d" % self.random.randrange(12), value, headers))
        self.written += len(records)
        step = {"producer": producer, "txn": txn, "gzip": self.random.random() < 0.4, "records": records}
        for server in self.servers:
            server.produce(self.topic, step)

    def end(self, name, committed):
        self.open.discard(name)
        for server in self.servers:
            server.end_txn(name, self.txn_ids[name], self.topic, committed)

    def end_all(self):
        for name in sorted(self.open):
            self.end(name, self.random.random() < 0.5)

    def round(self, number):
        """Writes, lets both clean once, and compares. The last round leaves no transaction open."""
        for _ in range(40):
            self.step()
        # What stands so far can be cleaned for certain; a transaction of what follows may be in the way of the rest.
        self.end_all()
        self.clock += SEGMENT_MS + 1
        for _ in range(20):
            self.step()
        if number + 1 == ROUNDS or self.random.random() < 0.5:
            self.end_all()
        # The active segment holds the last records only, so that all others can be cleaned.
        self.clock += SEGMENT_MS + 1
        self.append(None)
        before = [server.view(self.topic) for server in self.servers]
        self.alike(before, "before the cleaning")
        for server in self.servers:
            server.configure(self.topic, b"min.compaction.lag.ms", b"0")
        views = [self.cleaned(server, seen) for server, seen in zip(self.servers, before)]
        for server in self.servers:
            server.configure(self.topic, b"min.compaction.lag.ms", b"%d" % (30 * DAY_MS))
        self.alike(views, f"after cleaning {number + 1}")
        left = sum(len(one["records"]) for one in views[0][1:])
        batches = len(views[0]) - 1
        print(f"{self.topic.decode()}: round {number + 1}: {batches} batches, {left} records, of {self.written} written")

    def cleaned(self, server, before):
        """What is there once the server has cleaned, and has been the same for a while."""
        until, seen, same = time.monotonic() + 90, before, 0
        while seen == before or same < 10:
            check(time.monotonic() < until, f"{server.name} has not compacted {self.topic} in 90 s")
            time.sleep(0.1)
            now = server.view(self.topic)
            same = same + 1 if now == seen else 0
            seen = now
        return seen

    def alike(self, views, when):
        kafka, chronik = views
        for one, other in zip(kafka, chronik):
            if one != other:
                check(False, f"{self.topic.decode()}, {when}: Kafka has\n  {one}\nand Chronik Stream\n  {other}")
        check(len(kafka) == len(chronik), f"{self.topic.decode()}, {when}: {len(kafka)} batches and {len(chronik)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--chronik", required=True)
    parser.add_argument("seeds", nargs="*", type=int)
    args = parser.parse_args()
    for seed in args.seeds or [1, 2, 3, 4]:
        servers = [Server("Kafka", args.kafka), Server("Chronik Stream", args.chronik)]
        partition = Partition(seed, servers)
        for number in range(ROUNDS):
            partition.round(number)
            # Tombstones of this round are over in the next one.
            time.sleep((DELETE_RETENTION_MS + 200) / 1000)


if __name__ == "__main__":
    main_guard(main)
