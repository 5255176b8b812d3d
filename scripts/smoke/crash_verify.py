"""Reads a topic from its beginning and compares it with what was promised.

Every acknowledged record is at its offset, with its value; offsets have no gap; a value of an idempotent producer is
there once, and its values stand in the order of sending within a partition; the group has handled exactly what is there.
"""

import argparse
import sys
from collections import Counter

from common import check, equal, eventually, fresh, main_guard
from confluent_kafka import Consumer, KafkaException, TopicPartition


def lines(path):
    """The "partition offset value" lines of a file."""
    with open(path) as file:
        for line in file:
            partition, offset, value = line.split()
            yield (int(partition), int(offset)), value


def watermarks(reader, topic, partition):
    """The lowest and the next offset; a server that has only just started may ask for patience."""
    def ask():
        try:
            return reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException:
            return None
    return eventually(60, f"the watermarks of partition {partition} are told", ask)


def read_topic(options):
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": fresh("verify"), "check.crcs": True,
                       "enable.auto.commit": False})
    names = reader.list_topics(options.topic, timeout=30).topics[options.topic].partitions
    ends, stored = {}, {}
    for partition in names:
        low, ends[partition] = watermarks(reader, options.topic, partition)
        equal(low, 0, f"first offset of partition {partition}")
    reader.assign([TopicPartition(options.topic, partition, 0) for partition in names])
    position = dict.fromkeys(names, 0)

    def read():
        for message in reader.consume(5000, timeout=0.5):
            check(message.error() is None, f"reading back: {message.error()}")
            partition, offset = message.partition(), message.offset()
            equal(offset, position[partition], f"next offset of partition {partition}")
            position[partition] += 1
            stored[partition, offset] = message.value().decode()
        return position == ends

    eventually(120, f"everything up to {ends} is read back", read)
    reader.close()
    return stored


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--acks", action="append", required=True, metavar="FILE")
    parser.add_argument("--handled", metavar="FILE", help="what the group has handled")
    parser.add_argument("--idempotent", default="", metavar="NAME", help="values that start with it are there once")
    options = parser.parse_args()
    stored = read_topic(options)
    promised = 0
    for path in options.acks:
        for place, value in lines(path):
            promised += 1
            equal(stored.get(place), value, f"acknowledged record at partition and offset {place}")
    if options.idempotent:
        own = {place: value for place, value in stored.items() if value.startswith(f"{options.idempotent}-")}
        twice = [value for value, count in Counter(own.values()).items() if count > 1]
        check(not twice, f"{len(twice)} records of an idempotent producer are there more than once: {twice[:5]}")
        last = {}
        for (partition, offset), value in sorted(own.items()):
            number = int(value.rsplit("-", 1)[1])
            check(number > last.get(partition, -1), f"{value} at {partition}/{offset} stands behind a later one")
            last[partition] = number
    if options.handled:
        handled = list(lines(options.handled))
        equal(len(handled), len(dict(handled)), "records that the group has handled, without repetitions")
        check(dict(handled) == stored, f"the group has handled {len(handled)} records, and {len(stored)} are there")
    print(f"  {promised} acknowledged records are at their offsets, of {len(stored)} that are there")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
