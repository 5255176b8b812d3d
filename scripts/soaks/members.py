"""Members of many groups at rest, in one thread: each is alone in its group, has all partitions of a topic, and waits for records.

    members.py HOST:PORT GROUPS PARTITIONS [LIVE]     group G commits offsets of topic many-G; the first LIVE have a member

Says "committed" and "joined", and goes on until standard input ends; the last line is the number of requests that were answered
since "joined", and the seconds.
"""

import asyncio
import resource
import struct
import sys
import time

from requests import (FETCH, HEARTBEAT, JOIN_GROUP, LIST_OFFSETS, OFFSET_COMMIT, SYNC_GROUP, Connection, blob, expect, text,
                      topic_of)

HEARTBEAT_SECONDS, FETCH_WAIT_MS = 3, 500


async def commit(connection, number, partitions):
    body = text(f"group-{number}") + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1)
    body += text(topic_of(number))
    body += struct.pack(">i", partitions) + b"".join(struct.pack(">iq", p, 0) + text("") for p in range(partitions))
    answer = await connection.ask(OFFSET_COMMIT, 2, body)
    expect(struct.unpack(">h", answer[-2:])[0], "OffsetCommit")


class Member:
    """The one member of a group; JoinGroup 1, SyncGroup 0, Heartbeat 0, Fetch 7."""

    def __init__(self, address, number, partitions):
        self.address, self.number, self.partitions = address, number, partitions
        self.group, self.topic = text(f"group-{number}"), topic_of(number)

    async def join(self):
        """Two connections, as clients have them: one to the coordinator, one for records."""
        self.coordinator, self.records = await Connection.open(self.address), await Connection.open(self.address)
        subscription = struct.pack(">hi", 0, 1) + text(self.topic) + struct.pack(">i", -1)
        body = self.group + struct.pack(">ii", 45_000, 300_000) + text("") + text("consumer") + struct.pack(">i", 1)
        answer = await self.coordinator.ask(JOIN_GROUP, 1, body + text("range") + blob(subscription))
        code, self.generation = struct.unpack(">hi", answer[:6])
        expect(code, "JoinGroup")
        at = 6
        for _ in range(2):  # the protocol, and the leader, which is this member
            size, = struct.unpack(">h", answer[at:at + 2])
            self.id, at = answer[at + 2:at + 2 + size], at + 2 + size
        mine = struct.pack(">hi", 0, 1) + text(self.topic) + struct.pack(f">i{self.partitions}i", self.partitions, *range(self.partitions))
        who = self.group + struct.pack(">i", self.generation) + text(self.id)
        answer = await self.coordinator.ask(SYNC_GROUP, 0, who + struct.pack(">i", 1) + text(self.id) + blob(mine + struct.pack(">i", -1)))
        expect(struct.unpack(">h", answer[:2])[0], "SyncGroup")
        self.heartbeat = who

    async def beat(self):
        await asyncio.sleep(HEARTBEAT_SECONDS * (self.number % 100) / 100)
        while True:
            answer = await self.coordinator.ask(HEARTBEAT, 0, self.heartbeat)
            expect(struct.unpack(">h", answer[:2])[0], "Heartbeat")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def fetch(self):
        """A session that asks for what comes behind the end, again and again."""
        topics = struct.pack(">i", 1) + text(self.topic) + struct.pack(">i", self.partitions)
        topics += b"".join(struct.pack(">iqqi", p, end, -1, 1 << 20) for p, end in enumerate(await self.ends()))
        session, epoch = 0, 0
        while True:
            head = struct.pack(">iiiibii", -1, FETCH_WAIT_MS, 1, 50 << 20, 0, session, epoch)
            answer = await self.records.ask(FETCH, 7, head + (struct.pack(">i", 0) if epoch else topics) + struct.pack(">i", 0))
            code, session = struct.unpack(">hi", answer[4:10])
            expect(code, "Fetch")
            epoch += 1

    async def ends(self):
        body = struct.pack(">ii", -1, 1) + text(self.topic) + struct.pack(">i", self.partitions)
        answer = await self.records.ask(LIST_OFFSETS, 1, body + b"".join(struct.pack(">iq", p, -1) for p in range(self.partitions)))
        at = 4 + 2 + len(self.topic) + 4
        found = dict.fromkeys(range(self.partitions), 0)
        for _ in range(self.partitions):
            partition, code, _, offset = struct.unpack(">ihqq", answer[at:at + 22])
            expect(code, "ListOffsets")
            found[partition], at = offset, at + 22
        return [found[p] for p in range(self.partitions)]


async def run(address, groups, partitions, live):
    connection = await Connection.open(address)
    for number in range(groups):
        await commit(connection, number, partitions)
    print("committed", flush=True)
    members = [Member(address, number, partitions) for number in range(live)]
    for member in members:
        await member.join()
    loops = [asyncio.create_task(loop()) for member in members for loop in (member.beat, member.fetch)]
    await asyncio.sleep(5)
    print("joined", flush=True)
    Connection.answered, begun = 0, time.monotonic()
    until = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([until, *loops], return_when=asyncio.FIRST_COMPLETED)
    if until not in done:
        done.pop().result()
    print(Connection.answered, time.monotonic() - begun, flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(run(sys.argv[1], *map(int, sys.argv[2:])))
