"""The one member of a group: reads without a pause until SIGTERM, commits, and lives through restarts of the server.

Checks by itself: it is assigned its partitions once and they are never taken away (a restart shorter than its session
starts no rebalance); offsets come without a gap and without a repetition; a commit that was acknowledged is never
behind again. Writes "partition offset value" of each record, and ends when it has read and committed everything.
The client's own log goes to standard error: a request that got no answer within 15 s is told of there.
"""

import argparse
import json
import signal
import sys
import threading
import time

from common import check, equal, main_guard
from confluent_kafka import Consumer, KafkaException, TopicPartition

SECONDS_TO_FINISH = 60
ERRORS_MAX = 10


class Member:
    def __init__(self, options):
        self.options = options
        self.file = open(options.records, "w", buffering=1)
        self.next, self.committed, self.assignments = {}, {}, 0
        self.refused, self.errors, self.ends, self.state = None, [], {}, {}
        self.consumer = Consumer({
            "bootstrap.servers": options.bootstrap, "group.id": options.group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": 30000, "heartbeat.interval.ms": 500,
            "reconnect.backoff.max.ms": 500, "check.crcs": True, "log_level": 5,
            "socket.timeout.ms": 15000, "statistics.interval.ms": 2000, "stats_cb": self.note_state})
        self.consumer.subscribe([options.topic], on_assign=self.assigned, on_revoke=self.revoked)
        self.leaving = False

    def assigned(self, _, partitions):
        self.assignments += 1
        equal(self.assignments, 1, "assignments of a member that never left")
        self.next = {tp.partition: 0 for tp in partitions}

    def revoked(self, *_):
        check(self.leaving, "the partitions of a member that never left were taken away")

    def note_state(self, statistics):
        """What the client thinks of its partitions and its coordinator."""
        told = json.loads(statistics)
        partitions = told["topics"].get(self.options.topic, {}).get("partitions", {})
        wanted = ("fetch_state", "next_offset", "app_offset", "fetchq_cnt", "hi_offset", "committed_offset")
        self.state = {number: [f"{key} {state.get(key)}" for key in wanted] for number, state in partitions.items()}
        group = told.get("cgrp", {})
        self.state["group"] = [f"{key} {group.get(key)}" for key in ("state", "join_state", "rebalance_reason")]
        self.state["brokers"] = [f"{name} {broker['state']}" for name, broker in told["brokers"].items()]

    def step(self):
        """One poll and, if it brought something, one commit."""
        told = self.consumer.consume(1000, timeout=0.2)
        messages = [m for m in told if m.error() is None]
        self.errors = (self.errors + [m.error() for m in told if m.error()])[-ERRORS_MAX:]
        for message in messages:
            partition, offset = message.partition(), message.offset()
            equal(offset, self.next[partition], f"next offset of partition {partition}")
            self.next[partition] = offset + 1
            self.file.write(f"{partition} {offset} {message.value().decode()}\n")
        if messages:
            self.commit()

    def commit(self):
        offsets = [TopicPartition(self.options.topic, p, o) for p, o in self.next.items() if o]
        try:
            told = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as refused:
            self.refused = refused
            return  # The server is away; what is not acknowledged is not promised.
        self.committed.update({tp.partition: tp.offset for tp in told if tp.error is None})

    def check_commits(self):
        """What the server holds is at least what it has acknowledged."""
        partitions = [TopicPartition(self.options.topic, p) for p in self.next]
        try:
            told = self.consumer.committed(partitions, timeout=5)
        except KafkaException:
            return
        for tp in told:
            promised = self.committed.get(tp.partition, -1)
            check(tp.offset >= promised or promised < 0,
                  f"committed offset of partition {tp.partition} went back from {promised} to {tp.offset}")

    def at_end(self):
        """Whether everything is read and committed."""
        self.ends = {}
        for partition, position in self.next.items():
            _, high = self.consumer.get_watermark_offsets(TopicPartition(self.options.topic, partition), timeout=10)
            self.ends[partition] = high
            if (position, self.committed.get(partition, 0)) != (high, high):
                return False
        return bool(self.next)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--records", required=True, metavar="FILE")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    member = Member(parser.parse_args())
    looked = time.monotonic()
    while not stopping.is_set():
        member.step()
        if time.monotonic() - looked > 0.5:
            member.check_commits()
            looked = time.monotonic()
    until = time.monotonic() + SECONDS_TO_FINISH
    while not member.at_end():
        check(time.monotonic() < until, f"the group has not read everything: it is at {member.next}, "
              f"has committed {member.committed} of {member.ends}, was last refused with {member.refused}, "
              f"errors: {member.errors}, state of the client: {json.dumps(member.state)}")
        member.step()
        member.commit()
    member.check_commits()
    member.leaving = True
    member.consumer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
