"""Sends a server what is no Kafka, in many ways at once, while a good client goes on.

Every bad connection is answered or closed within a bound; the good client's records are all acknowledged and all
there; the server's memory stays bounded (with --pid).
"""

import os
import random
import resource
import socket
import struct
import sys
import threading
import time

from common import check, equal, eventually, fresh, main
from confluent_kafka import Consumer, Producer, TopicPartition

# How long a connection that sent nonsense may stay open. A half-sent frame may stay until the idle timeout.
CLOSE_SECONDS_MAX = 20
HALF_OPEN_MAX = 3000
# What the good client and the bad ones together may cost, over what the server took when it was idle.
GROWTH_BYTES_MAX = 400 << 20

API_VERSIONS, METADATA, PRODUCE, FETCH = 18, 3, 0, 1


def connect(options, seconds=CLOSE_SECONDS_MAX):
    host, port = options.bootstrap.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=seconds)


def frame(key, version, body=b"", correlation=7, client=b"smoke"):
    head = struct.pack(">hhih", key, version, correlation, len(client)) + client
    return struct.pack(">i", len(head) + len(body)) + head + body


def rest(sock):
    """Everything until the other side closes."""
    parts = []
    while True:
        try:
            part = sock.recv(1 << 16)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def closes(options, what, payload):
    """The connection that carries `payload` is closed by the server."""
    with connect(options) as sock:
        try:
            sock.sendall(payload)
        except (BrokenPipeError, ConnectionResetError):
            return b""
        try:
            return rest(sock)
        except TimeoutError:
            check(False, f"a connection with {what} was still open after {CLOSE_SECONDS_MAX} s")


def check_frames(options):
    """Frames whose length or head can't be meant."""
    closes(options, "a negative frame length", struct.pack(">i", -1) + b"x" * 100)
    closes(options, "the smallest frame length", struct.pack(">i", -(1 << 31)))
    closes(options, "a frame of 2 GiB", struct.pack(">i", (1 << 31) - 1) + b"x" * 1000)
    closes(options, "a frame over the limit", struct.pack(">i", 300 << 20) + b"x" * 1000)
    closes(options, "a frame without a head", struct.pack(">i", 2) + b"xx")
    closes(options, "an unknown API key", frame(32000, 0))
    closes(options, "a negative API key", frame(-5, 0))
    closes(options, "Metadata of a future version", frame(METADATA, 99))
    closes(options, "Metadata that ends early", frame(METADATA, 1, struct.pack(">i", 5)))
    closes(options, "Metadata with two billion topics", frame(METADATA, 1, struct.pack(">i", (1 << 31) - 1)))
    closes(options, "Produce with a record set longer than its frame",
           frame(PRODUCE, 3, struct.pack(">hhiihciii", -1, -1, 1000, 1, 1, b"t", 1, 0, 1 << 30)))


def check_future_api_versions(options):
    """ApiVersions of an unknown version is answered in the oldest layout, so that a newer client can step back."""
    with connect(options) as sock:
        # The head's tagged fields (none), then a client's name and version in the compact form.
        sock.sendall(frame(API_VERSIONS, 99, b"\x00" + b"\x06smoke" + b"\x021" + b"\x00"))
        length, correlation, error = struct.unpack(">iih", sock.recv(10, socket.MSG_WAITALL))
        equal((correlation, error), (7, 35), "correlation id and error of ApiVersions 99")
        check(length < 4096, f"the answer to ApiVersions 99 claims {length} bytes")


def check_other_protocols(options):
    """What people and scanners send to a port."""
    hello = bytes.fromhex("16030100c4010000c00303") + os.urandom(200)
    for what, payload in {
        "a TLS hello": hello,
        "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\n\r\n",
        "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
        "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    }.items():
        closes(options, what, payload)


def check_noise(options):
    """Random bytes, random frames, and good requests with flipped bits; each closed or answered."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**9))
    dice = random.Random(seed)
    print(f"  seed {seed}", flush=True)
    good = [frame(METADATA, 1, struct.pack(">i", 0)), frame(API_VERSIONS, 0),
            frame(FETCH, 4, struct.pack(">iiiibiihciiqi", -1, 100, 1, 1 << 20, 0, 1, 1, 1, b"t", 1, 0, 0, 1 << 20)),
            frame(PRODUCE, 3, struct.pack(">hhiihciii", -1, -1, 1000, 1, 1, b"t", 1, 0, 70) + bytes(70))]
    for _ in range(300):
        kind = dice.randrange(3)
        if kind == 0:
            payload = dice.randbytes(dice.randrange(1, 2000))
        elif kind == 1:
            body = dice.randbytes(dice.randrange(0, 400))
            payload = frame(dice.randrange(0, 95), dice.randrange(0, 20), body)
        else:
            payload = bytearray(dice.choice(good))
            for _ in range(dice.randrange(1, 6)):
                payload[dice.randrange(4, len(payload))] ^= 1 << dice.randrange(8)
        with connect(options) as sock:
            try:
                sock.sendall(payload)
                # A frame that is not whole yet may rightly be waited for: so say that no more comes.
                sock.shutdown(socket.SHUT_WR)
                rest(sock)
            except (ConnectionResetError, BrokenPipeError, OSError) as error:
                check(not isinstance(error, TimeoutError), f"noise of seed {seed} kept a connection open")


def check_half_open(options):
    """Thousands of connections that say nothing, or half a frame, and then a good one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, HALF_OPEN_MAX + 500), hard))
    count = min(HALF_OPEN_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    idle = []
    try:
        for i in range(count):
            try:
                sock = connect(options)
                # Half of a frame head, the head of a large frame, or nothing.
                sock.sendall((b"\x00\x00", struct.pack(">i", 50 << 20) + b"\x00\x03", b"")[i % 3])
                idle.append(sock)
            except OSError:
                # The server may refuse or close some of them; that is its right.
                continue
        round_trip(options)
        print(f"  {len(idle)} half-open connections", flush=True)
    finally:
        for sock in idle:
            sock.close()


def check_never_reads(options):
    """A client that asks for much, again and again, and never reads an answer."""
    topic = fresh("gb-big")
    producer = Producer({"bootstrap.servers": options.bootstrap, "linger.ms": 5})
    for _ in range(400):
        producer.produce(topic, os.urandom(50_000), partition=0)
        producer.poll(0)
    equal(producer.flush(60), 0, "records left without an answer")
    name = topic.encode()
    body = struct.pack(">iiiibih", -1, 0, 1, 50 << 20, 0, 1, len(name)) + name + struct.pack(">iiqi", 1, 0, 0, 50 << 20)
    request = frame(FETCH, 4, body)
    sockets = [connect(options) for _ in range(8)]
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        sent = 0
        while sent < 2000:
            try:
                sock.send(request)
                sent += 1
            except BlockingIOError:
                break  # The server has stopped reading from a client that doesn't: good.
    round_trip(options)
    for sock in sockets:
        sock.close()


def round_trip(options):
    """A good client of today gets its record through."""
    topic, told = fresh("gb-good"), []
    producer = Producer({"bootstrap.servers": options.bootstrap})
    producer.produce(topic, b"good", partition=0, on_delivery=lambda error, _: told.append(error))
    equal(producer.flush(30), 0, "records of the good client left without an answer")
    equal(told, [None], "what the good client was told")


class GoodClient(threading.Thread):
    """Produces all the while; in the end everything is acknowledged and there."""

    def __init__(self, options):
        super().__init__(daemon=True)
        self.options, self.topic, self.done = options, fresh("gb-steady"), threading.Event()
        self.acked, self.refused, self.slowest = 0, [], 0.0
        self.start()

    def told(self, error, message):
        if error:
            self.refused.append(str(error))
        else:
            self.acked += 1
            self.slowest = max(self.slowest, message.latency())

    def run(self):
        producer = Producer({"bootstrap.servers": self.options.bootstrap, "linger.ms": 5})
        i = 0
        while not self.done.is_set():
            producer.produce(self.topic, b"%d" % i, partition=0, on_delivery=self.told)
            producer.poll(0.002)
            i += 1
        producer.flush(60)
        self.sent = i

    def finish(self):
        self.done.set()
        self.join(90)
        equal(self.refused, [], "what the good client was refused")
        equal(self.acked, self.sent, "records of the good client that were acknowledged")
        reader = Consumer({"bootstrap.servers": self.options.bootstrap, "group.id": fresh("gb-reader")})
        reader.assign([TopicPartition(self.topic, 0, 0)])
        values = []

        def read():
            values.extend(m.value() for m in reader.consume(5000, timeout=0.5) if not m.error())
            return len(values) >= self.sent
        eventually(60, "the good client's records are read back", read)
        equal(values, [b"%d" % i for i in range(self.sent)], "the good client's records")
        reader.close()
        print(f"  the good client had {self.sent} records acknowledged, the slowest in {self.slowest * 1000:.0f} ms")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Watched:
    """Runs a check beside the good client, and looks at the server's memory afterwards."""

    def __init__(self, run):
        self.run = run

    def __call__(self, options):
        watch = options.pid and sys.platform == "linux"
        before = resident_bytes(options.pid) if watch else 0
        good = GoodClient(options)
        self.run(options)
        good.finish()
        if watch:
            after = resident_bytes(options.pid)
            print(f"  the server's memory: {before >> 20} MiB before, {after >> 20} MiB after", flush=True)
            check(after - before < GROWTH_BYTES_MAX,
                  f"the server took {(after - before) >> 20} MiB more, and {GROWTH_BYTES_MAX >> 20} are allowed")


if __name__ == "__main__":
    main(__doc__, {
        "future-api-versions": Watched(check_future_api_versions),
        "frames": Watched(check_frames),
        "other-protocols": Watched(check_other_protocols),
        "noise": Watched(check_noise),
        "half-open": Watched(check_half_open),
        "never-reads": Watched(check_never_reads),
    }, [("--pid", {"type": int, "default": 0, "help": "of the server, to watch its memory"})])
