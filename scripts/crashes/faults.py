"""Disks that fail and limits that are met: what a server does then, and that nothing acknowledged is lost; scripts/faults says more.

Each case gets a server on an empty directory, some load, a fault at a certain moment, and what is expected of the server: that
it serves on, that it ends with a sentence and a status of its own, or that it does not start. Then the fault goes away, the
server starts again, and everything that was acknowledged has to be there.
"""

import argparse
import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

from acks_load import PRODUCE, Connection, error_of, produce
from actors import AWAY
from common import check, cpu_seconds, equal, eventually, fresh, main_guard
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from power_cut import PowerCut

KAFKA_STORAGE_ERROR = 56
EX_IOERR, EX_DATAERR, EX_UNAVAILABLE = 74, 65, 69
START_SECONDS_MAX = 30
SMALL = ["--log-segment-bytes", "16MiB", "--log-roll-ms", "1000", "--log-retention-check-interval-ms", "500",
         "--log-cleaner-backoff-ms", "100"]
TOPIC = "faults"
CGROUP_BYTES = 12 << 20
PARTITIONS = 4
# Those of the case that runs.
SERVERS = []


class Server:
    """A server on its own folder."""

    def __init__(self, options, folder, more=(), library=True):
        self.options, self.folder, self.more = options, folder, list(more)
        self.data, self.rules = f"{folder}/data", f"{folder}.rules"
        self.log, self.runs, self.process = "", 0, None
        self.generation = 0
        os.makedirs(folder, exist_ok=True)
        self.environment = dict(os.environ)
        if library and options.faulty_disk:
            Path(self.rules).write_bytes(b"\0" * 4096)
            self.rule()
            self.environment |= {"LD_PRELOAD": options.faulty_disk, "FAULTY_ROOT": folder, "FAULTY_RULES": self.rules}
        self.acked = {}
        SERVERS.append(self)

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.options.port}"

    def rule(self, *rules):
        """From now on these rules hold, and no others."""
        self.generation += 1
        body = f"{self.generation}\n" + "".join(f"{rule}\n" for rule in rules)
        with open(self.rules, "r+b") as file:
            file.write(body.encode().ljust(4096, b"\0"))

    def start(self, *more, limit=None):
        self.runs += 1
        self.log = f"{self.folder}.{self.runs}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.options.server, "--bind-addr", "127.0.0.1", "--kafka-port", str(self.options.port), "--admin-port", "off",
                 "--metrics-port", "off", "--log-level", "debug", "--data-dir", self.data, *SMALL, *self.more, *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, preexec_fn=limit)

    def said(self):
        return Path(self.log).read_text(errors="replace")

    def says(self, pattern):
        return re.search(pattern, self.said()) is not None

    def serve(self, *more, limit=None):
        self.start(*more, limit=limit)
        self.wait_until_ready()

    def wait_until_ready(self):
        def ready():
            check(self.process.poll() is None, f"the server ended while starting: {self.said()[-1500:]}")
            return " ready after " in self.said()
        eventually(START_SECONDS_MAX, "the server is ready", ready)

    def ended(self, status, pattern):
        """It ends by itself with this status and a sentence; never by a signal."""
        try:
            seen = self.process.wait(30)
        except subprocess.TimeoutExpired:
            seen = "none: it runs on"
        equal(seen, status, f"status of the server, which said {self.said()[-1000:]}")
        check(self.says(pattern), f"the server ended and does not say '{pattern}': {self.said()[-1500:]}")

    def is_there(self):
        check(self.process.poll() is None, f"the server ended with {self.process.returncode}: {self.said()[-1500:]}")

    def kill(self):
        self.is_there()
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.is_there()
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(30), 0, f"status after SIGTERM of the server, which said {self.said()[-1000:]}")

    # --- load ---

    def make_topic(self, topic=TOPIC, partitions=PARTITIONS, **config):
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(30)

    def load(self, records, topic=TOPIC, size=500, seconds=30):
        """Writes records, and remembers what was acknowledged; the number of those that were not."""
        refused = []

        def told(error, message):
            if error:
                refused.append(error)
            else:
                self.acked[topic, message.partition(), message.offset()] = message.value()

        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 2, "log_level": 0,
                             "message.timeout.ms": seconds * 1000, "reconnect.backoff.max.ms": 100})
        for number in range(records):
            value = b"%s-%d-%d %s" % (topic.encode(), time.monotonic_ns(), number, os.urandom(size // 2).hex().encode())
            producer.produce(topic, value, partition=number % PARTITIONS, on_delivery=told)
            producer.poll(0)
        producer.flush(seconds + 5)
        return len(refused)

    def error_of_produce(self, topic=TOPIC):
        """The error code that one Produce request is answered with."""
        connection = Connection(self.bootstrap)
        version, body = produce(topic.encode(), os.urandom(2000).hex().encode())
        connection.send(PRODUCE, version, body)
        _, answer = connection.receive()
        connection.socket.close()
        return error_of(PRODUCE, topic.encode(), answer)

    def nothing_lost(self, without=()):
        """Every acknowledged record is at its offset, unless its topic was deleted."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": fresh("faults"), "check.crcs": True, "log_level": 0,
                           "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
        wanted = {place: value for place, value in self.acked.items() if place[0] not in without}
        left = {(topic, partition) for topic, partition, _ in wanted}
        reader.assign([TopicPartition(topic, partition, 0) for topic, partition in left])
        until = time.monotonic() + 60
        while left:
            check(time.monotonic() < until, f"{left} are not read to their ends")
            for message in reader.consume(1000, timeout=0.5):
                if message.error():
                    error = message.error()
                    check(error.code() == KafkaError._PARTITION_EOF or error.retriable() or error.code() in AWAY,
                          f"{message.topic()}-{message.partition()} can't be read: {error}")
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.discard((message.topic(), message.partition()))
                    continue
                place = message.topic(), message.partition(), message.offset()
                expected = wanted.pop(place, None)
                check(expected is None or expected == message.value(), f"another record is at {place}")
        reader.close()
        check(not wanted, f"{len(wanted)} acknowledged records are gone: {sorted(wanted)[:3]}")

    def is_sound(self):
        done = subprocess.run([self.options.tool, "wal", "verify", "--data-dir", self.data], capture_output=True, text=True)
        equal(done.returncode, 0, f"chronik wal verify: {done.stdout[-1500:]}{done.stderr[-500:]}")


def no_fault_left(server, without=()):
    """The end of each case: the fault is over, and a start brings everything back."""
    if server.process.poll() is None:
        server.stop()
    server.is_sound()
    server.serve()
    server.nothing_lost(without)
    equal(server.load(50), 0, "records that are refused after the fault is over")
    server.stop()


# --- errors of single operations, by the faulty disk ---

Case = namedtuple("Case", "title rules expected says more", defaults=((),))
EIO, ENOSPC, EMFILE = errno.EIO, errno.ENOSPC, errno.EMFILE
TIER = ("--local-storage-path", "{folder}/store", "--upload-interval", "500ms", "--storage-free-bytes", "1000000GiB")
BACKUP = ("--enable-backup", "--backup-url", "file://{folder}/backups", "--backup-interval", "1s")
DIES, SERVES, REFUSES = "dies", "serves", "refuses"
CANNOT = "the log cannot be written, so nothing more can be acknowledged"

CASES = [
    Case("fsync of the log fails", [f"fsync /wal/0 {EIO} 3 1"], DIES, CANNOT),
    Case("fsync of the log fails for want of space", [f"fsync /wal/0 {ENOSPC} 2 1"], DIES, CANNOT),
    Case("a write to the log fails", [f"write /wal/0 {EIO} 3 1"], DIES, CANNOT),
    Case("a write to the log fails for want of space", [f"write /wal/0 {ENOSPC} 3 1"], DIES, CANNOT),
    Case("a few writes to the log are short", ["write /wal/0 -1 0 40"], SERVES, "faulty_disk: write"),
    Case("a segment gets no space", [f"fallocate /wal/ {ENOSPC} 0 3"], SERVES, "no space for the log's next segment"),
    Case("a segment can't be made", [f"create /wal/ {EIO} 0 3"], SERVES, "no space for the log's next segment"),
    Case("a segment's header can't be written", [f"write /wal/prepare {EIO} 0 2"], SERVES, "no space for the log's next"),
    Case("a segment's header can't be synced", [f"fsync /wal/prepare {EIO} 0 2"], SERVES, "no space for the log's next"),
    Case("a segment does not get its name", [f"rename /wal/ {EIO} 0 2"], SERVES, "no space for the log's next segment"),
    Case("the folder of the log can't be synced", [f"fsync /data/wal {EIO} 4 1"], DIES, CANNOT),
    Case("no descriptor is left for a segment", [f"open /wal/ {EMFILE} 0 5"], SERVES, "faulty_disk: open"),
    Case("the log can't be cut when it is sealed", [f"truncate /wal/ {EIO} 0 1"], DIES, CANNOT),
    Case("a checkpoint can't be written", [f"write /checkpoints/ {EIO} 0 3"], SERVES, "cannot write a checkpoint"),
    Case("a checkpoint can't be synced", [f"fsync /checkpoints {EIO} 0 3"], SERVES, "cannot write a checkpoint"),
    Case("a checkpoint does not get its name", [f"rename /checkpoints/ {EIO} 0 3"], SERVES, "cannot write a checkpoint"),
    Case("an old checkpoint can't be removed", [f"unlink /checkpoints/ {EIO} 0 3"], SERVES, "faulty_disk: unlink"),
    Case("a pack can't be made", [f"create /packs/ {EIO} 0 2"], SERVES, "cannot tidy"),
    Case("a pack can't be written", [f"write /packs/ {EIO} 0 2"], SERVES, "cannot tidy"),
    Case("a pack finds no space", [f"write /packs/ {ENOSPC} 0 2"], SERVES, "no space to tidy"),
    Case("a pack can't be synced", [f"fsync /packs/ {EIO} 0 2"], SERVES, "cannot tidy"),
    Case("a pack does not get its name", [f"rename /packs/ {EIO} 0 2"], SERVES, "cannot tidy"),
    Case("a pack is written and read in parts", ["write /packs/ -1 0 50", "read /wal/ -1 0 200"], SERVES, "faulty_disk"),
    Case("dead segments can't be removed", [f"unlink /wal/0 {EIO} 0 4"], SERVES, "cannot remove"),
    Case("files of metadata can't be written", [f"write /metadata/ {EIO} 0 1"], DIES, CANNOT, ("--file-metadata",)),
    Case("files of metadata can't be synced", [f"fsync /metadata/ {EIO} 0 1"], DIES, CANNOT, ("--file-metadata",)),
    Case("files of metadata don't get their names", [f"rename /metadata/ {EIO} 0 1"], DIES, CANNOT, ("--file-metadata",)),
    Case("the tier can't be written", [f"write /store/ {EIO} 0 3"], SERVES, "was not uploaded", TIER),
    Case("the tier is full", [f"write /store/ {ENOSPC} 0 3"], SERVES, "was not uploaded", TIER),
    Case("objects of the tier can't be synced", [f"fsync /store/ {EIO} 0 3"], SERVES, "was not uploaded", TIER),
    Case("objects of the tier don't get their names", [f"link /store/ {EIO} 0 2", f"rename /store/ {EIO} 0 2"], SERVES,
         "was not uploaded", TIER),
    Case("files can't be held for a backup", [f"link /frozen/ {EIO} 0 2"], SERVES, "no backup was made", BACKUP),
    Case("backups can't be written", [f"write /backups/ {EIO} 0 3"], SERVES, "no backup was made", BACKUP),
]

STARTS = [
    Case("the log can't be read at a start", [f"read /wal/ {EIO} 0 0"], REFUSES, "cannot open the data directory"),
    Case("a segment can't be opened at a start", [f"open /wal/ {EIO} 0 0"], REFUSES, "cannot open the data directory"),
    Case("no descriptor is left at a start", [f"open /wal/ {EMFILE} 0 0"], REFUSES, "cannot open the data directory"),
    Case("checkpoints can't be read at a start", [f"read /checkpoints/ {EIO} 0 0"], REFUSES, "cannot open the data directory"),
    Case("the log is read in parts at a start", ["read /wal/ -1 0 0"], SERVES, "faulty_disk: read"),
    Case("the tail can't be made durable at a start", [f"fsync /wal/ {EIO} 0 1"], REFUSES, "cannot open the data directory"),
    Case("names can't be made durable at a start", [f"fsync /data/wal {EIO} 0 1"], REFUSES, "cannot open the data directory"),
    Case("packs can't be read at a start", [f"read /packs/ {EIO} 0 0"], SERVES, "ready after"),
    Case("no segment can be made at a start", [f"create /wal/ {EIO} 0 2"], SERVES, "ready after"),
]


def run_case(options, folder, case):
    """An error while there is load."""
    server = Server(options, folder, [word.format(folder=folder) for word in case.more])
    server.serve()
    server.make_topic()
    server.make_topic("gone")
    check(server.load(200) == 0 and server.load(3000, "gone", size=2000) == 0, "records are refused without a fault")
    server.rule(*case.rules)
    # What is deleted gives tidying something to do, and checkpoints.
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    deleted = admin.delete_topics(["gone"], request_timeout=5)["gone"]
    until = time.monotonic() + 25
    while time.monotonic() < until and server.process.poll() is None and not server.says(case.says):
        server.load(100, seconds=3)
    if case.expected == DIES:
        server.ended(EX_IOERR, case.says)
    else:
        server.is_there()
        check(server.says("faulty_disk: "), "the fault was not met")
        check(server.says(case.says), f"the server does not say '{case.says}': {server.said()[-1500:]}")
        server.nothing_lost(without=["gone"])
    deleted.exception(10)
    server.rule()
    if case.expected == SERVES:
        equal(server.load(200), 0, "records that are refused when the fault is over, without a restart")
    no_fault_left(server, without=["gone"])


def run_start(options, folder, case):
    """An error while a server starts on what a kill has left."""
    server = Server(options, folder)
    server.serve()
    server.make_topic()
    server.make_topic("gone")
    server.load(3000, "gone", size=2000)
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    admin.delete_topics(["gone"])["gone"].result(10)

    def is_settled():
        """There are packs, and both checkpoints know them: what none knows yet has to be read at a start."""
        server.load(100)
        packs, checkpoints = (list(Path(server.data, name).glob("*.*")) for name in ("packs", "checkpoints"))
        if not packs or len(checkpoints) != 2 or any(path.suffix == ".tmp" for path in packs + checkpoints):
            return False
        return max(path.stat().st_mtime for path in packs) < min(path.stat().st_mtime for path in checkpoints)
    eventually(40, "there are packs and two checkpoints that know them", is_settled)
    for _ in range(2):
        server.load(300)
        server.kill()
        server.serve()
    server.load(300)
    eventually(40, "the checkpoints know the packs", is_settled)
    server.kill()
    server.rule(*case.rules)
    server.start()
    if case.expected == REFUSES:
        server.ended(EX_IOERR, case.says)
        check(server.says("faulty_disk: "), "the fault was not met")
    else:
        server.wait_until_ready()
        server.kill()
    server.rule()
    server.serve()
    server.nothing_lost(without=["gone"])
    no_fault_left(server, without=["gone"])


# --- a full disk ---

def fill(path, leave_bytes=0):
    """Takes what is free on a filesystem, but so much."""
    free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize - leave_bytes
    with open(f"{path}/filler", "ab", buffering=0) as file:
        block = b"f" * (1 << 20)
        try:
            while free > 0:
                free -= file.write(block[:min(free, len(block))])
        except OSError as error:
            equal(error.errno, ENOSPC, "what ends the filling of the disk")


def full_disk(options, folder):
    """A small filesystem is filled by the records themselves; then by others, to the last byte."""
    server = Server(options, folder, library=False)
    server.serve()
    server.make_topic()
    server.make_topic("passing")
    server.load(4000, "passing", size=4000)
    for _ in range(100):
        # Small requests may still fit when large ones don't.
        if server.load(2000, size=8000, seconds=2) and server.error_of_produce() == KAFKA_STORAGE_ERROR:
            break
    else:
        check(False, "the disk does not get full")
    check(server.says("the disk is full: Produce is refused with KAFKA_STORAGE_ERROR"), "a full disk is not said")
    server.is_there()
    server.nothing_lost()
    print("    full by its own records: Produce is refused, everything is read", flush=True)
    commit(server, 7)
    fill(folder)
    server.kill()
    server.serve()
    equal(committed(server), 7, "the offset that was committed on a full disk")
    server.nothing_lost()
    equal(server.error_of_produce(), KAFKA_STORAGE_ERROR, "the error of Produce after kill -9 on a full disk")
    print("    full to the last byte: kill -9, and it starts and serves", flush=True)
    os.unlink(f"{folder}/filler")
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    admin.delete_topics(["passing"], request_timeout=10)["passing"].result(20)
    begun = time.monotonic()
    eventually(90, "Produce is served again once a topic is deleted", lambda: server.error_of_produce() == 0)
    print(f"    a topic is deleted: Produce is served again after {time.monotonic() - begun:.0f} s", flush=True)
    no_fault_left(server, without=["passing"])


def commit(server, offset):
    reader = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "on-full-disk", "log_level": 0})
    reader.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=False)
    reader.close()


def committed(server):
    reader = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "on-full-disk", "log_level": 0})
    [told] = reader.committed([TopicPartition(TOPIC, 0)], timeout=20)
    reader.close()
    return told.offset


def filled_by_others(options, folder):
    """Somebody else fills the disk in the middle of the load, again and again, with a kill each time."""
    server = Server(options, folder, library=False)
    server.serve()
    server.make_topic()
    for turn in range(4):
        server.load(500)
        fill(folder, leave_bytes=turn << 20)
        for _ in range(60):
            if server.load(1000, size=8000, seconds=1):
                break
        server.is_there()
        server.nothing_lost()
        server.kill()
        server.serve()
        server.nothing_lost()
        os.unlink(f"{folder}/filler")
        eventually(30, "Produce is served again", lambda: server.error_of_produce() == 0)
    no_fault_left(server)


def full_from_the_start(options, folder):
    """No room for a first segment: refused, or served read-only; with room it starts."""
    server = Server(options, folder, library=False)
    fill(folder, leave_bytes=1 << 20)
    server.start()
    server.ended(EX_IOERR, "(full|[Nn]o space)")
    os.unlink(f"{folder}/filler")
    server.serve()
    server.make_topic()
    no_fault_left(server)


# --- limits of the process ---

def file_size(options, folder):
    """RLIMIT_FSIZE: the signal must not end the server, and what can't be written is a full disk."""
    low = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    server = Server(options, folder, library=False)
    server.start(limit=low)
    server.ended(EX_IOERR, "(too large|limit)")
    server.serve()
    server.make_topic()
    server.load(500)
    server.kill()
    # Enough for what is there, too little for one more segment.
    server.start(limit=low)
    server.wait_until_ready()
    server.nothing_lost()
    equal(server.error_of_produce(), KAFKA_STORAGE_ERROR, "the error of Produce when no segment can be made")
    server.is_there()
    server.stop()
    no_fault_left(server)


def descriptors(options, folder):
    """RLIMIT_NOFILE: more clients than descriptors; who is in is served, nothing spins, and others get in later."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    server = Server(options, folder, library=False)
    server.serve(limit=limit)
    server.make_topic()
    for _ in range(3):
        server.load(300)
    early = Connection(server.bootstrap)
    crowd = []
    for _ in range(400):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", options.port))
        crowd.append(one)
    before, begun = cpu_seconds(server.process.pid), time.monotonic()
    for number in range(40):
        version, body = produce(TOPIC.encode(), b"early-%d" % number)
        early.send(PRODUCE, version, body)
        _, answer = early.receive()
        equal(error_of(PRODUCE, TOPIC.encode(), answer), 0, "the error of Produce of a client that is in")
        time.sleep(0.05)
    share = (cpu_seconds(server.process.pid) - before) / (time.monotonic() - begun)
    server.is_there()
    check(share < 0.3, f"the server takes {100 * share:.0f}% of a CPU while it has no descriptors")
    for one in crowd:
        one.close()
    eventually(30, "new clients get in again", lambda: server.load(20, seconds=2) == 0)
    print(f"    400 clients on 200 descriptors: {100 * share:.0f}% CPU, the early client is served", flush=True)
    server.nothing_lost()
    server.stop()
    no_fault_left(server)


def starts_or_ends(server, limit):
    """Which of the two a server with a limit does."""
    return eventually(30, f"a server with {limit} starts or ends",
                      lambda: "serves" if server.says(" ready after ") else
                      "ends" if server.process.poll() is not None else None)


def no_descriptors(options, folder):
    """Ever fewer descriptors: the server starts, or says what it lacks, and what it has acknowledged stays."""
    server = Server(options, folder, library=False)
    server.serve()
    server.make_topic()
    server.load(100)
    server.stop()
    for limit in (64, 40, 30, 25, 20, 16, 12, 8):
        server.start(limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        if starts_or_ends(server, f"{limit} descriptors") == "ends":
            check(server.process.returncode > 0, f"with {limit} descriptors it ends by signal {server.process.returncode}")
            check(server.says("(open files|many)"), f"with {limit} descriptors it says {server.said()[-500:]}")
            continue
        server.is_there()
        server.stop()
    no_fault_left(server)


def memory(options, folder):
    """Ever less address space: the server serves, or ends; what it has acknowledged stays."""
    server = Server(options, folder, library=False)
    server.serve()
    server.make_topic()
    server.load(2000)
    server.stop()
    outcomes = []
    for mebibytes in (1024, 512, 256, 128, 64, 32):
        bound = mebibytes << 20
        server.start(limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)))
        outcome = starts_or_ends(server, f"{mebibytes} MiB")
        if outcome == "serves":
            outcome = "serves, refuses" if server.load(3000, size=2000, seconds=5) else "serves"
        if server.process.poll() is None:
            server.stop()
        elif outcome != "ends":
            outcome += ", ends"
        outcomes.append(f"{mebibytes} MiB: {outcome}")
        check(len(server.said()) > 0, "the server ended without a word")
    print(f"    address space: {'; '.join(outcomes)}", flush=True)
    no_fault_left(server)


def cgroup(options, folder):
    """A memory cgroup that kills: what was acknowledged before is there afterwards."""
    first = Path("/sys/fs/cgroup/memory")
    is_first = (first / "memory.limit_in_bytes").exists()
    if not is_first and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "no memory cgroup is mounted here"
    group = (first if is_first else first.parent) / f"chronik-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if is_first else "memory.max")).write_text(str(CGROUP_BYTES))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        return f"no memory cgroup can be made here: {error}"
    server = Server(options, folder, library=False)
    try:
        enter = lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
        server.serve(limit=enter)
        server.make_topic()
        refused, killed = 0, 0
        for _ in range(5):
            refused += server.load(2000, size=8000, seconds=5)
            if server.process.poll() is not None:
                killed += 1
                server.serve(limit=enter)
        server.nothing_lost()
        server.stop()
        print(f"    {CGROUP_BYTES >> 20} MiB: killed {killed} times, {refused} records not acknowledged", flush=True)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        eventually(10, "the cgroup is empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    no_fault_left(server)
    return None


def first_power_cut(options, folder):
    """A power cut soon after the first start: the folder of the data must not be gone with what was acknowledged in it."""
    os.makedirs(folder)
    cut = PowerCut(options.faulty_disk, folder)
    server = Server(options, folder, library=False)
    server.environment |= cut.environment()
    server.serve()
    server.make_topic()
    server.load(200)
    server.kill()
    cut.undo(Strict())
    server.serve()
    server.nothing_lost()
    server.stop()
    server.environment = dict(os.environ)
    no_fault_left(server)


class Strict:
    """A chance that lets nothing survive which was not synced."""

    def choice(self, options):
        return options[0]

    def random(self):
        return 1.0

    def randint(self, low, _):
        return low


ON_SMALL_DISK = {"full-disk": full_disk, "filled-by-others": filled_by_others, "full-from-the-start": full_from_the_start}
LIMITS = {"file-size": file_size, "descriptors": descriptors, "no-descriptors": no_descriptors, "memory": memory,
          "cgroup": cgroup}


def chosen(options):
    """Names, and what runs them in a folder."""
    for name, run in ON_SMALL_DISK.items():
        if options.small_disk:
            yield name, options.small_disk, run
    for name, run in LIMITS.items():
        yield name, f"{options.work}/{name}", run
    if options.faulty_disk:
        yield "a power cut soon after the first start", f"{options.work}/first-power-cut", first_power_cut
        for number, case in enumerate(CASES):
            yield case.title, f"{options.work}/case-{number}", lambda o, f, case=case: run_case(o, f, case)
        for number, case in enumerate(STARTS):
            yield case.title, f"{options.work}/start-{number}", lambda o, f, case=case: run_start(o, f, case)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, metavar="PROGRAM")
    parser.add_argument("--tool", required=True, metavar="PROGRAM")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work", required=True, metavar="FOLDER")
    parser.add_argument("--faulty-disk", metavar="LIBRARY")
    parser.add_argument("--small-disk", metavar="FOLDER", help="an empty filesystem of some 100 MiB")
    parser.add_argument("only", nargs="*", help="parts of the titles of cases")
    options = parser.parse_args()
    done, failed = 0, []
    for title, folder, run in chosen(options):
        if options.only and not any(part in title for part in options.only):
            continue
        print(f"  {title}", flush=True)
        try:
            skipped = run(options, folder)
        except (Exception, KeyboardInterrupt) as error:
            print(f"  FAILED {title}: {error}", file=sys.stderr, flush=True)
            failed.append(title)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            done += not skipped
            if skipped:
                print(f"  SKIPPED {title}: {skipped}", flush=True)
        finally:
            clean(options, folder)
    print(f"{done} cases are well, {len(failed)} are not", flush=True)
    return 1 if failed else 0


def clean(options, folder):
    """Ends what a case has left running, and empties its folder."""
    for server in SERVERS:
        if server.process and server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    SERVERS.clear()
    for path in Path(folder).glob("*") if os.path.isdir(folder) else ():
        if path.name != "lost+found":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    sys.exit(main_guard(main))
