"""Produces and commits with marked records and offsets over raw connections, and writes down who asked for what.

Each line of --asked is "PORT CORRELATION MARKER": the local port of the connection, the id of the request, and a text
that is in no other request and that the server has to write to its log before it may answer. Needs Python alone.
"""

import argparse
import socket
import struct
import sys
import threading
import time

from common import check, equal, eventually, main_guard

PRODUCE, METADATA, OFFSET_COMMIT = 0, 3, 8
CONNECTIONS = 4
ROUNDS = 12
# Requests that one connection sends before it reads their answers.
PIPELINED = 4

CRC32C = []
for byte in range(256):
    crc = byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    CRC32C.append(crc)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def text(value):
    return struct.pack(">h", len(value)) + value


def batch(value):
    """A RecordBatch v2 of one record."""
    body = b"\x00" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    record = varint(len(body)) + body
    now = int(time.time() * 1000)
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


def produce(topic, marker):
    """Produce v3, acks=-1."""
    records = batch(marker)
    return 3, struct.pack(">hhii", -1, -1, 10000, 1) + text(topic) + struct.pack(">iii", 1, 0, len(records)) + records


def commit(topic, marker):
    """OffsetCommit v2 without a group membership; the marker is the text beside the offset."""
    partition = struct.pack(">iq", 0, 1) + text(marker)
    body = text(b"traced") + struct.pack(">i", -1) + text(b"") + struct.pack(">qi", -1, 1) + text(topic)
    return 2, body + struct.pack(">i", 1) + partition


class Connection:
    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.port = self.socket.getsockname()[1]
        self.last = 0

    def send(self, key, version, body):
        self.last += 1
        head = struct.pack(">hhi", key, version, self.last) + text(b"trace")
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        return self.last

    def exactly(self, count):
        data = self.socket.recv(count, socket.MSG_WAITALL)
        equal(len(data), count, "bytes of an answer")
        return data

    def receive(self):
        (length,) = struct.unpack(">i", self.exactly(4))
        answer = self.exactly(length)
        return struct.unpack(">i", answer[:4])[0], answer[4:]


def make_topic(bootstrap, topic):
    """Asks for the topic's metadata until it has a leader; asking creates it."""
    connection = Connection(bootstrap)

    def ask():
        connection.send(METADATA, 1, struct.pack(">i", 1) + text(topic))
        _, answer = connection.receive()
        at = answer.index(text(topic)) - 2
        return answer[at:at + 2] == b"\0\0"
    eventually(30, f"topic {topic.decode()} exists", ask)


def error_of(key, topic, answer):
    """The one error code of a Produce v3 or OffsetCommit v2 answer about one partition."""
    at = answer.index(text(topic)) + len(text(topic)) + 4 + 4
    return struct.unpack(">h", answer[at:at + 2])[0]


def talk(options, number, asked):
    topic = b"traced"
    connection = Connection(options.bootstrap)
    for turn in range(ROUNDS):
        sent = {}
        for i in range(PIPELINED):
            marker = b"marker-%d-%d-%d-end" % (number, turn, i)
            key, build = (OFFSET_COMMIT, commit) if (turn + i) % 3 == 2 else (PRODUCE, produce)
            version, body = build(topic, marker)
            correlation = connection.send(key, version, body)
            sent[correlation] = key
            asked.append(f"{connection.port} {correlation} {marker.decode()}\n")
        for correlation, key in sent.items():
            told, answer = connection.receive()
            equal(told, correlation, "order of the answers")
            equal(error_of(key, topic, answer), 0, f"error of request {correlation} (API {key})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--asked", required=True, metavar="FILE")
    options = parser.parse_args()
    make_topic(options.bootstrap, b"traced")
    asked, failures = [], []

    def run(number):
        try:
            talk(options, number, asked)
        except Exception as error:  # told by the thread that waits
            failures.append(f"connection {number}: {error!r}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    check(not failures, "; ".join(failures))
    equal(len(asked), CONNECTIONS * ROUNDS * PIPELINED, "requests that were answered")
    with open(options.asked, "w") as file:
        file.writelines(asked)
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
