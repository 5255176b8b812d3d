"""Single records at a rate, each in a request of its own, to one partition after the other of many topics.

    trickle.py HOST:PORT TOPICS PARTITIONS RATE SECONDS

Prints p50 and p99 in ms, from when a record was due until it was acknowledged. The client does the same whatever the number of
partitions, which ordinary ones do not: they look through all of them for each request.
"""

import asyncio
import statistics
import struct
import sys
import time

from crc32c import crc32c
from requests import PRODUCE, Connection, blob, expect, text, topic_of

CONNECTIONS = 4
WARM_UP_SECONDS = 2


def batch(value):
    """A record batch of one record, without a producer."""
    record = bytes([0, 0, 0, 1, len(value) * 2]) + value + b"\x00"
    body = struct.pack(">hiqqqhii", 0, 0, time.time_ns() // 10**6, time.time_ns() // 10**6, -1, -1, -1, 1)
    body += bytes([len(record) * 2]) + record
    return struct.pack(">qiibI", 0, len(body) + 9, 0, 2, crc32c(body)) + body


async def produce(connection, topic, partition, records):
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + text(topic) + struct.pack(">ii", 1, partition) + blob(records)
    answer = await connection.ask(PRODUCE, 3, body)
    at = 4 + 2 + len(topic) + 4 + 4
    expect(struct.unpack(">h", answer[at:at + 2])[0], "Produce")


async def run(address, topics, partitions, rate, seconds):
    connections = [await Connection.open(address) for _ in range(CONNECTIONS)]
    records, late, begun = batch(b"." * 60), [], time.monotonic()
    count = rate * (seconds + WARM_UP_SECONDS)

    async def write(turn):
        for number in range(turn, count, CONNECTIONS):
            due = begun + number / rate
            await asyncio.sleep(max(0, due - time.monotonic()))
            topic, partition = divmod(number * 7 % (topics * partitions), partitions)
            await produce(connections[turn], topic_of(topic), partition, records)
            if number >= rate * WARM_UP_SECONDS:
                late.append((time.monotonic() - due) * 1000)
    await asyncio.gather(*(write(turn) for turn in range(CONNECTIONS)))
    percentiles = statistics.quantiles(late, n=100)
    print(f"{percentiles[49]:.3f} {percentiles[98]:.3f}")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], *map(int, sys.argv[2:])))
