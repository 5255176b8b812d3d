"""The few bytes of Kafka that members.py and trickle.py send, so that hundreds of clients fit into one thread."""

import asyncio
import struct
import sys

PRODUCE, FETCH, LIST_OFFSETS, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 0, 1, 2, 8, 11, 12, 14


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">h", len(value)) + value


def blob(value):
    return struct.pack(">i", len(value)) + value


class Connection:
    """One request at a time. `answered` counts those of all."""

    answered = 0

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address):
        host, port = address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, key, version, body):
        """The answer behind its correlation id."""
        self.writer.write(blob(struct.pack(">hhih", key, version, 7, 0) + body))
        size, = struct.unpack(">i", await self.reader.readexactly(4))
        Connection.answered += 1
        return (await self.reader.readexactly(size))[4:]


def expect(code, what):
    if code != 0:
        sys.exit(f"{what} was answered with error {code}")


def topic_of(number):
    """As `loadgen many --prefix many` names them."""
    return f"many-{number:05}"
