"""Measures what docs/performance.md says of small requests, of the way without storing, of rest and of scale; scripts/measure says how.

Prints figures and judges none: they mean something beside each other only.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# In front: a package of the name `requests` may be installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soaks"))

from common import check, main_guard  # noqa: E402
from members import Member, commit  # noqa: E402
from requests import Connection, expect, text  # noqa: E402
from running import Chronik, Kafka, Unstored, percentile  # noqa: E402

FSYNC, PRODUCE, GROUP = "chronik_wal_fsync_latency_seconds", "chronik_produce_latency_seconds", "chronik_wal_group_bytes"
LEAVE_GROUP, API_VERSIONS = 13, 18
# Groups without members that have had one.
LEFT_GROUPS = 100
# Of what was deleted so much has to be back, which is what is promised; and the seconds after which it is given up.
SPACE_BACK, SPACE_SECONDS_MAX = 0.75, 300
# The disk is at rest when nothing has changed for so long: then segments that are made ready ahead are there.
SPACE_REST_SECONDS = 10


def say(what, figure):
    print(f"  {what:<66} {figure}", flush=True)


class Measure:
    def __init__(self, options):
        self.options = options

    def server(self, name):
        options, folder = self.options, Path(self.options.work) / name
        if name == "kafka":
            return Kafka(folder, options.port, options.kafka)
        if name == "unstored":
            return Unstored(folder, options.port, options.unstored)
        more = ["--max-connections", "20000", "--max-connections-per-ip", "20000"]
        return Chronik(folder, options.port, options.server, more)

    @contextlib.contextmanager
    def started(self, name):
        server = self.server(name)
        server.start()
        try:
            yield server
        finally:
            server.stop()

    def program(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        check(done.returncode == 0, f"{command}: {done.stdout[-500:]} {done.stderr[-1000:]}")
        return json.loads(done.stdout)

    def requests(self, server, seconds, **more):
        """The client of benches/requests.rs; what it saw, and the server's CPU in it."""
        words = [word for name, value in more.items() for word in (f"--{name}", str(value))]
        seen = self.program(self.options.requests, "--brokers", server.address, "--pid", str(server.pid), "--seconds", str(seconds), *words)
        seen["cpu_us"] = seen["server_cpu_s"] / max(seen["requests"], 1) * 1e6
        return seen

    def small(self):
        """One record each, many connections, acks=all, each with one request under way."""
        options, per_cpu = self.options, {"chronik": [], "kafka": []}
        for _ in range(options.rounds):
            for name in per_cpu if options.kafka else ["chronik"]:
                with self.started(name) as server:
                    load = {"connections": options.connections, "partitions": 64}
                    self.requests(server, 1, warmup=options.warmup, **load)
                    before = server.metrics() if name == "chronik" else {}
                    seen = self.requests(server, options.seconds, **load)
                    per_cpu[name].append(seen["requests"] / seen["server_cpu_s"])
                    say(f"{name}: requests/s; per server CPU second; p50, p99, p99.9, ms",
                        f"{seen['requests'] / options.seconds:.0f}; {per_cpu[name][-1]:.0f}; "
                        f"{seen['p50_ms']:.2f}, {seen['p99_ms']:.2f}, {seen['p999_ms']:.2f}")
                    if before:
                        self.beside_writes(before, server.metrics(), seen["p99_ms"])
        if options.kafka:
            ratios = [ours / theirs for ours, theirs in zip(per_cpu["chronik"], per_cpu["kafka"])]
            say("requests per server CPU second, against Kafka", ", ".join(f"{ratio:.2f}" for ratio in ratios))

    def beside_writes(self, before, after, p99_ms):
        write, produce = (1000 * percentile(before, after, name, 0.99) for name in (FSYNC, PRODUCE))
        say("its durable writes: p99, ms; p99 of the request against that", f"{write:.2f}; {p99_ms / write:.2f}")
        say("p99 of the request as the server sees it, ms; against that", f"{produce:.2f}; {produce / write:.2f}")
        groups = after[f"{FSYNC}_count"] - before[f"{FSYNC}_count"]
        say("requests in a durable write", f"{(after[f'{PRODUCE}_count'] - before[f'{PRODUCE}_count']) / groups:.1f}")

    def produce(self, server, records, size, *more):
        return self.program(self.options.loadgen, "produce", "--brokers", server.address, "--records", str(records), "--size", str(size),
                            "--connections", "2", "--linger", "5ms", "--quiet", *more)

    def stored(self):
        """100-byte records beside a server that stores nothing, and 1 KiB beside the log alone, by the same client."""
        options, rates = self.options, {"chronik": [], "unstored": []}
        for _ in range(options.rounds):
            for name in rates:
                with self.started(name) as server:
                    self.produce(server, options.records // 5, 100)
                    cpu, seen = server.cpu_seconds(), self.produce(server, options.records, 100)
                    rates[name].append(seen["records_per_s"])
                    say(f"{name}, 100 bytes: records/s; server and client CPU, s per million",
                        f"{rates[name][-1]:.0f}; {(server.cpu_seconds() - cpu) / options.records * 1e6:.3f}, "
                        f"{seen['client_cpu_s'] / options.records * 1e6:.3f}")
                    if name == "chronik":
                        self.beside_log(server)
        say("records/s, against the server that stores nothing",
            ", ".join(f"{ours / bare:.2f}" for ours, bare in zip(rates["chronik"], rates["unstored"])))

    def beside_log(self, server):
        records = self.options.records // 4
        before, cpu = server.metrics(), server.cpu_seconds()
        seen = self.produce(server, records, 1024)
        after, cpu = server.metrics(), server.cpu_seconds() - cpu
        groups = after[f"{GROUP}_count"] - before[f"{GROUP}_count"]
        kib = round((after[f"{GROUP}_sum"] - before[f"{GROUP}_sum"]) / groups / 1024)
        folder = Path(self.options.work) / "wal"
        folder.mkdir(exist_ok=True)
        done = subprocess.run([self.options.wal, str(folder)], capture_output=True, text=True, env={**os.environ, "KIB": str(kib)})
        check(done.returncode == 0, f"wal: {done.stderr[-1000:]}")
        line = next(line for line in done.stdout.splitlines() if line.startswith("log: direct, always  "))
        words = line.split()
        of_log = float(words[words.index("MB/s") - 1])
        say(f"1 KiB records: MB/s; the log alone with groups of {kib} KiB; ratio",
            f"{seen['mb_per_s']:.0f}; {of_log:.0f}; {seen['mb_per_s'] / of_log:.2f}")
        say("1 KiB records: server and client CPU, s/GB", f"{cpu / (records * 1024) * 1e9:.2f}, {seen['client_cpu_s'] / (records * 1024) * 1e9:.2f}")

    def hot(self):
        """1 KiB records in client-sized batches, read again and again out of memory."""
        options, costs = self.options, {"chronik": [], "kafka": []}
        for _ in range(options.rounds):
            for name in costs if options.kafka else ["chronik"]:
                with self.started(name) as server:
                    self.produce(server, options.records // 4, 1024, "--topic", "hot", "--partitions", "6")
                    seen = self.program(options.hot, "--brokers", server.address, "--topic", "hot", "--partitions", "6", "--connections", "2",
                                        "--pid", str(server.pid), "--warmup", str(options.warmup), "--seconds", str(options.seconds))
                costs[name].append(seen["server_s_per_gb"])
                say(f"{name}: MB/s; server and client CPU, s/GB",
                    f"{seen['mb_per_s']:.0f}; {seen['server_s_per_gb']:.3f}, {seen['client_s_per_gb']:.3f}")
        if options.kafka:
            ratios = [theirs / ours for ours, theirs in zip(costs["chronik"], costs["kafka"])]
            say("bytes per server CPU second, against Kafka", ", ".join(f"{ratio:.2f}" for ratio in ratios))

    def idle(self):
        """A thousand connections that are silent, and a thousand groups without members."""
        options = self.options
        with self.started("chronik") as server:
            self.program(options.loadgen, "many", "--brokers", server.address, "--topics", str(options.groups), "--partitions", "1", "--prefix", "many",
                         "--rate", "500", "--seconds", "2", "--linger", "0s", "--quiet")
            asyncio.run(rest_beside(server, options.silent, options.groups, self.rest))

    def rest(self, server):
        time.sleep(self.options.settle)
        before, cpu = server.switches(), server.cpu_seconds()
        time.sleep(self.options.idle_seconds)
        woken = +(server.switches() - before)
        say(f"{self.options.silent} silent connections, {self.options.groups} groups: voluntary switches in {self.options.idle_seconds} s; CPU, s",
            f"{woken.total()}; {server.cpu_seconds() - cpu:.3f}")
        if woken:
            say("by thread", ", ".join(f"{name}: {count}" for name, count in woken.most_common()))
        say("memory at most until then, MiB", f"{server.memory_peak() / 2**20:.1f}")

    def scale(self):
        """The same requests at the same rate over few and over many connections and partitions."""
        options = self.options
        sizes = {"few": {"connections": 10, "topics": 1}, "many": {"connections": options.many, "topics": options.many // 10}}
        for api in options.apis.split(","):
            costs = {name: [] for name in sizes}
            for _ in range(options.rounds):
                for name, size in sizes.items():
                    with self.started("chronik") as server:
                        load = {"partitions": 10, "rate": options.rate, **size}
                        self.requests(server, 1, warmup=1 + options.many / options.rate if api == "fetch" else 1, api="produce", **load)
                        seen = self.requests(server, options.seconds, api=api, warmup=2, **load)
                    costs[name].append(seen["cpu_us"])
                    say(f"{api}, {name}: server CPU, µs a request; p50, p99, ms", f"{seen['cpu_us']:.1f}; {seen['p50_ms']:.2f}, {seen['p99_ms']:.2f}")
            ratios = [many / few for many, few in zip(costs["many"], costs["few"])]
            say(f"{api}: many against few, by round; median", f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}; {statistics.median(ratios):.2f}")

    def space(self):
        """Two topics that share segments of the default size: one is deleted, then the other one may hold little; until the disk has the space back."""
        options, topics = self.options, ("stays", "goes")
        for _ in range(options.rounds):
            with self.started("chronik") as server:
                for topic in topics:
                    self.tool(server, "create", topic, "-p", "6", "-c", f"segment.bytes={16 << 20}")
                with ThreadPoolExecutor(len(topics)) as both:
                    list(both.map(lambda topic: self.produce(server, options.records // 8, 1024, "--topic", topic), topics))
                payload = options.records // 8 * 1024
                for what, words, least in (("a topic is deleted", ("delete", "goes", "-y"), 0),
                                           ("retention.bytes is lowered", ("set", "stays", f"retention.bytes={16 << 20}"), 6 * (32 << 20))):
                    before, since = settled(server), time.monotonic()
                    self.tool(server, *words)
                    while before - server.disk_bytes() < SPACE_BACK * (payload - least):
                        check(time.monotonic() - since < SPACE_SECONDS_MAX, f"{what}: {before - server.disk_bytes()} bytes of {payload} came back")
                        time.sleep(0.2)
                    say(f"{what}: MB; seconds until {SPACE_BACK:.0%} of it are back", f"{(payload - least) / 1e6:.0f}; {time.monotonic() - since:.1f}")

    def tool(self, server, *words):
        command = [self.options.tool, "-b", server.address, "topic", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        check(done.returncode == 0, f"{command}: {done.stdout[-500:]} {done.stderr[-1000:]}")


def settled(server):
    """What its folder takes on the disk when that has come to rest."""
    until, seen, since = time.monotonic() + SPACE_SECONDS_MAX, None, 0.0
    while seen is None or time.monotonic() - since < SPACE_REST_SECONDS:
        check(time.monotonic() < until, "the disk does not come to rest")
        time.sleep(0.5)
        now = server.disk_bytes()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


async def rest_beside(server, silent, groups, rest):
    """Connections that have said ApiVersions, and groups that have committed offsets; some had a member, which has left."""
    address = server.address
    connection = await Connection.open(address)
    for number in range(groups):
        await commit(connection, number, 1)
    for number in range(min(LEFT_GROUPS, groups)):
        member = Member(address, number, 1)
        await member.join()
        answer = await member.coordinator.ask(LEAVE_GROUP, 0, member.group + text(member.id))
        expect(struct.unpack(">h", answer[:2])[0], "LeaveGroup")
        for one in (member.coordinator, member.records):
            one.writer.close()
    connections = [await Connection.open(address) for _ in range(silent)]
    for one in connections:
        await one.ask(API_VERSIONS, 0, b"")
    await asyncio.to_thread(rest, server)


def main():
    parts = ("small", "stored", "hot", "idle", "scale", "space")
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 3), ("seconds", 10), ("warmup", 10), ("connections", 64), ("records", 4_000_000), ("silent", 1000),
                          ("groups", 1000), ("settle", 30), ("idle-seconds", 60), ("rate", 5000), ("many", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--apis", default="produce,fetch,list-offsets")
    parser.add_argument("--port", type=int, required=True)
    for name in ("server", "tool", "work", "loadgen", "requests", "unstored", "wal", "hot"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kafka", help="the harness that starts and stops one; without it there is nothing to compare with")
    parser.add_argument("part", nargs="*")
    options = parser.parse_args()
    check(set(options.part) <= set(parts), f"the parts are {', '.join(parts)}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measure = Measure(options)
    for part in options.part or parts:
        print(f"{part}: {' '.join(getattr(measure, part).__doc__.split())}", flush=True)
        getattr(measure, part)()
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
