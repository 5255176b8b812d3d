"""Clients without manners, one kind to a process: what each does until standard input ends or its work is done.

    clients.py KIND HOST:PORT TOPIC [SECONDS]

TOPIC has records that are worth asking for. The first line of standard output says "ready", when they begin; each other one is a
count for people. Nothing here knows Kafka beyond the few bytes of a request that it sends.
"""

import asyncio
import contextlib
import itertools
import os
import random
import resource
import socket
import struct
import sys
import threading
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_FETCH, JOIN_GROUP, CREATE_TOPICS, DESCRIBE_CONFIGS = 0, 1, 2, 3, 9, 11, 19, 32
MIB = 1 << 20
# socket.request.max.bytes of a server with the least memory limit.
LARGEST_FRAME = 64 * MIB
LONGEST = (1 << 31) - 1
RECORDS = b"r" * MIB


def frame(key, version, body):
    return struct.pack(">ihhih", len(body) + 10, key, version, 7, 0) + body


def text(value):
    return struct.pack(">h", len(value)) + value


def old_fetch(topic, wait_ms=0, least=1):
    """Fetch 2: what comes is converted for it, so it lies in the server's memory."""
    return frame(FETCH, 2, struct.pack(">iiii", -1, wait_ms, least, 1) + text(topic) + struct.pack(">iiqi", 1, 0, 0, LONGEST))


def long_fetch(topic):
    """Fetch 4 for as much as there can be, however long it takes."""
    head = struct.pack(">iiiibi", -1, LONGEST, LONGEST, LONGEST, 0, 1)
    return frame(FETCH, 4, head + text(topic) + struct.pack(">iiqi", 1, 0, 0, 1))


def join(group, member=b""):
    """JoinGroup 2, which takes new members at once."""
    body = text(group) + struct.pack(">ii", 300_000, LONGEST) + text(member) + text(b"consumer")
    return frame(JOIN_GROUP, 2, body + struct.pack(">i", 1) + text(b"range") + struct.pack(">i", 1000) + bytes(1000))


def produce_head(size):
    """The beginning of a Produce 3 of `size` bytes, up to its records."""
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + text(b"hostile") + struct.pack(">ii", 1, 0)
    records = size - 10 - len(body) - 4
    return struct.pack(">ihhih", size, PRODUCE, 3, 7, 0) + body + struct.pack(">i", records), records


CRC32C = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    CRC32C.append(_byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def idempotent(partition, producer_id):
    """Produce 3 of one record, the first of that producer."""
    record = b"\x10\x00\x00\x00\x01\x04id\x00"
    body = struct.pack(">hiqqqhii", 0, 0, 0, 0, producer_id, 0, 0, 1) + record
    batch = struct.pack(">qiibI", 0, len(body) + 9, -1, 2, crc32c(body)) + body
    head = struct.pack(">hhii", -1, 1, 30_000, 1) + text(b"invented") + struct.pack(">iii", 1, partition, len(batch))
    return frame(PRODUCE, 3, head + batch)


def many_things(topic):
    """Requests that name about as much as is still carried out on a server with few partitions, things that are there, and that are
    not."""
    count = 4000
    names = b"".join(text(b"u%06d" % i) for i in range(count))
    yield frame(METADATA, 1, struct.pack(">i", count) + names)
    head = struct.pack(">iiiibi", -1, 0, 0, LONGEST, 0, 1) + text(topic)
    yield frame(FETCH, 4, head + struct.pack(">i", count) + b"".join(struct.pack(">iqi", i, 0, 1) for i in range(count)))
    head = struct.pack(">ii", -1, 1) + text(topic)
    yield frame(LIST_OFFSETS, 1, head + struct.pack(">i", count) + b"".join(struct.pack(">iq", i, -1) for i in range(count)))
    yield frame(DESCRIBE_CONFIGS, 0, struct.pack(">i", count) + (b"\x02" + text(topic) + b"\xff\xff\xff\xff") * count)
    yield frame(OFFSET_FETCH, 1, text(b"g") + struct.pack(">i", 1) + text(topic) + struct.pack(f">i{count}i", count, *range(count)))


def giant_arrays(topic):
    """Requests that name as much as a frame holds."""
    room = LARGEST_FRAME - 200
    count = room // 2
    yield frame(METADATA, 1, struct.pack(">i", count) + bytes(2 * count))
    names = b"".join(b"\x00\x07!%06x" % i for i in range(1 << 20))
    yield frame(METADATA, 1, struct.pack(">i", 1 << 20) + names)
    count = room // 16
    head = struct.pack(">iiiibi", -1, LONGEST, LONGEST, LONGEST, 0, 1) + text(topic)
    yield frame(FETCH, 4, head + struct.pack(">i", count) + b"".join(struct.pack(">iqi", i, 0, 1) for i in range(1 << 16)) * (count >> 16) + bytes(16 * (count & 0xffff)))
    count = room // 12
    yield frame(LIST_OFFSETS, 1, struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">i", count) + bytes(12 * count))
    count = room // 6
    yield frame(OFFSET_FETCH, 1, text(b"g") + struct.pack(">i", count) + bytes(6 * count))
    count = room // 7
    yield frame(DESCRIBE_CONFIGS, 0, struct.pack(">i", count) + b"\x02\x00\x00\xff\xff\xff\xff" * count)


class Crowd:
    """Connections from several loopback addresses, as many as wanted at a time, and what became of them."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.to = (host, int(port))
        self.opened = self.refused = self.sent = 0
        self.done = asyncio.Event()

    def source(self, number, each=4000):
        return f"127.0.0.{2 + number // each % 32}"

    async def open(self, number):
        """A connection, or None when there is none to be had."""
        try:
            reader, writer = await asyncio.open_connection(*self.to, local_addr=(self.source(number), 0), limit=1 << 16)
        except OSError:
            self.refused += 1
            await asyncio.sleep(1)
            return None
        self.opened += 1
        return reader, writer

    async def again_and_again(self, number, do):
        """Opens a connection, lets `do` have it until it ends or breaks, and begins anew."""
        await asyncio.sleep(random.random())
        while not self.done.is_set():
            pair = await self.open(number)
            if pair is None:
                continue
            try:
                await do(number, *pair)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.5)
            finally:
                pair[1].transport.abort()

    async def run(self, count, do):
        print("ready", flush=True)
        tasks = [asyncio.create_task(self.again_and_again(number, do)) for number in range(count)]
        await self.done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(f"{self.opened} connections, {self.refused} refused, {self.sent} requests", flush=True)


async def answer(reader):
    size, = struct.unpack(">i", await reader.readexactly(4))
    while size > 0:
        size -= len(await reader.read(min(size, 1 << 16)) or b"x" * size)


async def drip(crowd, topic):
    """2,000 that send a byte of a request now and then."""
    head, _ = produce_head(MIB)

    async def do(_number, _reader, writer):
        for byte in head + bytes(1000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.5 + random.random())
    await crowd.run(2000, do)


async def half(crowd, topic):
    """64 that send half of a large request, and then a byte now and then: more than the memory for requests."""
    head, _ = produce_head(16 * MIB)

    async def do(_number, _reader, writer):
        writer.write(head)
        for _ in range(8):
            writer.write(RECORDS)
            await writer.drain()
        crowd.sent += 1
        while True:
            writer.write(b"r")
            await writer.drain()
            await asyncio.sleep(0.5 + random.random())
    await crowd.run(64, do)


async def mute(crowd, topic):
    """400 that ask for much, in an old format and in today's, and never read."""
    everything = frame(METADATA, 1, struct.pack(">i", -1))

    async def do(number, _reader, writer):
        writer.transport.pause_reading()
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        requests = old_fetch(topic) if number % 2 else everything * 100
        for _ in range(1000):
            writer.write(requests)
            await writer.drain()
            crowd.sent += 1
            await asyncio.sleep(0.05)
        await asyncio.sleep(3600)
    await crowd.run(400, do)


async def crowd_in(crowd, topic):
    """9,000 that come and stay, from two addresses."""
    crowd.source = lambda number: f"127.0.0.{2 + number % 2}"

    async def do(number, reader, writer):
        await reader.read()
        await asyncio.sleep(1)
    await crowd.run(9000, do)


async def frames(crowd, topic):
    """4 that send requests of the largest size, two a second together."""
    async def do(_number, reader, writer):
        head, records = produce_head(LARGEST_FRAME)
        while True:
            writer.write(head)
            for at in range(0, records, MIB):
                writer.write(RECORDS[:min(MIB, records - at)])
                await writer.drain()
            crowd.sent += 1
            await answer(reader)
            await asyncio.sleep(2)
    await crowd.run(4, do)


async def arrays(crowd, topic):
    """4 that send requests that name millions of things, or as many as are still carried out, some a second together."""
    requests = [request for pair in itertools.zip_longest(giant_arrays(topic), many_things(topic)) for request in pair if request]

    async def do(number, reader, writer):
        request = requests[(number + crowd.sent) % len(requests)]
        crowd.sent += 1
        for at in range(0, len(request), MIB):
            writer.write(request[at:at + MIB])
            await writer.drain()
        await answer(reader)
        await asyncio.sleep(2)
    await crowd.run(4, do)


async def waits(crowd, topic):
    """4,000 that ask for little, as late as possible."""
    async def do(_number, reader, writer):
        writer.write(long_fetch(topic))
        crowd.sent += 1
        await answer(reader)
    await crowd.run(4000, do)


async def joins(crowd, topic):
    """300 that join groups without end: new members of some, and new groups, a thousand a second together."""
    async def do(number, reader, writer):
        for _ in range(20):
            group = b"crowded" if number % 3 else b"g%d-%d" % (number, crowd.sent)
            writer.write(join(group))
            crowd.sent += 1
            # Who is in a rebalance is kept waiting; so it leaves without a word.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answer(reader), 0.3)
            await asyncio.sleep(0.3)
    await crowd.run(300, do)


async def garbage(crowd, topic):
    """50 that send noise, some of it in frames."""
    async def do(number, reader, writer):
        noise = random.randbytes(random.randrange(1, 5000))
        writer.write(frame(random.randrange(95), random.randrange(20), noise) if number % 2 else noise)
        crowd.sent += 1
        writer.write_eof()
        await reader.read()
        await asyncio.sleep(0.1)
    await crowd.run(50, do)


async def ids(crowd, topic):
    """16 that invent a producer for every record, each in a partition of its own: thousands a second together."""
    async def do(number, reader, writer):
        for _ in range(1000):
            for _ in range(50):
                crowd.sent += 1
                # No two of them, and none that the server would give to anybody.
                writer.write(idempotent(number, (1 << 40) + crowd.sent))
            await writer.drain()
            for _ in range(50):
                await answer(reader)
    host, port = crowd.to
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(frame(CREATE_TOPICS, 0, struct.pack(">i", 1) + text(b"invented") + struct.pack(">ihiii", 16, 1, 0, 0, 30_000)))
    await answer(reader)
    writer.transport.abort()
    await crowd.run(16, do)


def flood(address, done, count):
    """As many connections as there shall be, one after the other, from 32 addresses; every other one is reset."""
    host, port = address.rsplit(":", 1)
    reset = struct.pack("ii", 1, 0)
    made = refused = 0
    print("ready", flush=True)
    begun = time.monotonic()
    while made < count and not done.is_set():
        with socket.socket() as sock:
            try:
                sock.bind((f"127.0.0.{2 + made % 32}", 0))
                sock.connect((host, int(port)))
            except OSError:
                refused += 1
                continue
            made += 1
            if made % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    print(f"{made} connections in {time.monotonic() - begun:.0f} s, {refused} refused", flush=True)


KINDS = {
    "drip": drip, "half": half, "mute": mute, "crowd": crowd_in, "frames": frames, "arrays": arrays, "waits": waits,
    "joins": joins, "garbage": garbage, "ids": ids, "flood": flood,
}


async def be(kind, address, topic, done):
    crowd = Crowd(address)
    loop = asyncio.get_running_loop()

    def wait():
        done.wait()
        loop.call_soon_threadsafe(crowd.done.set)
    threading.Thread(target=wait, daemon=True).start()
    await KINDS[kind](crowd, topic.encode())


def main():
    kind, address, topic = sys.argv[1:4]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # They have machines of their own, in truth.
    os.nice(19)
    done = threading.Event()

    def wait():
        sys.stdin.read()
        done.set()
    threading.Thread(target=wait, daemon=True).start()
    if kind == "flood":
        flood(address, done, int(sys.argv[4]))
    else:
        asyncio.run(be(kind, address, topic, done))


if __name__ == "__main__":
    main()
