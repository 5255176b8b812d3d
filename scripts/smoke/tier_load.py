"""Writes numbered records of a KiB, or of --size bytes, to one partition of a topic, and reads them back: every one, in order, none twice.

With --group the last number is committed for a group, and must be there when it reads. With --beside another topic is assigned in
the same consumer from its beginning, which need not give anything. With --config NAME=VALUE the topic is made with that, and must
have it when it is read.
"""

import argparse

from common import check, equal, main_guard
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType


def write(options):
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    config = dict([options.config.split("=", 1)] if options.config else [])
    admin.create_topics([NewTopic(options.topic, 1, 1, config=config)])[options.topic].result(30)
    failed, filling = [], b"." * options.size
    producer = Producer({"bootstrap.servers": options.bootstrap, "linger.ms": 5, "enable.idempotence": True})
    for number in range(options.records):
        while True:
            try:
                producer.produce(options.topic, b"%d %s" % (number, filling), partition=0,
                                 on_delivery=lambda error, _: failed.append(error) if error else None)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    equal(producer.flush(120), 0, "records without an acknowledgement")
    check(not failed, f"{len(failed)} records were refused: {failed[:1]}")
    if options.group:
        reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": options.group})
        reader.commit(offsets=[TopicPartition(options.topic, 0, options.records)], asynchronous=False)
        reader.close()


def read(options):
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": options.group or "tier-load", "check.crcs": True,
                       "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    wanted = [TopicPartition(options.topic, 0, 0)]
    if options.beside:
        wanted.append(TopicPartition(options.beside, 0, 0))
    reader.assign(wanted)
    number = 0
    while number < options.records:
        message = reader.poll(60)
        check(message is not None, f"nothing comes any more after record {number}")
        if message.topic() != options.topic:
            continue
        check(not message.error(), f"the partition ends at {number}: {message.error()}")
        equal(int(message.value().split(b" ", 1)[0]), number, "the next record")
        number += 1
    if options.group:
        [committed] = reader.committed([TopicPartition(options.topic, 0)], 30)
        equal(committed.offset, options.records, "the group's offset")
    reader.close()
    if options.config:
        name, value = options.config.split("=", 1)
        resource = ConfigResource(ResourceType.TOPIC, options.topic)
        admin = AdminClient({"bootstrap.servers": options.bootstrap})
        [told] = admin.describe_configs([resource]).values()
        equal(told.result(30)[name].value, value, f"{name} of {options.topic}")


def delete(options):
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    admin.delete_topics([options.topic])[options.topic].result(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["write", "read", "delete"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--group")
    parser.add_argument("--beside")
    parser.add_argument("--config", metavar="NAME=VALUE")
    options = parser.parse_args()
    {"write": write, "read": read, "delete": delete}[options.what](options)


main_guard(main)
