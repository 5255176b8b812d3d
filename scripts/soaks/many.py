"""Measures one server with many partitions and groups; scripts/many says what.

Prints figures and judges none: they say something beside each other, and beside those of another build.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "crashes"))

from common import check, main_guard  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from server import Places, Server  # noqa: E402
from soak import Watched  # noqa: E402

STARTS = 5


class Many:
    """One server, first new, then full."""

    def __init__(self, options):
        self.options = options
        self.metrics = f"127.0.0.1:{options.metrics_port}"
        self.server = Server(options.server, options.port, Places(options.work), [])
        self.server.metrics_port = str(options.metrics_port)
        self.server.log_level = "info"
        self.watched = Watched(self.server)

    def begin(self):
        self.server.start()
        self.server.wait_until_ready()

    def say(self, what, figure):
        print(f"  {what:<58} {figure}", flush=True)

    def loadgen(self, prefix, topics, partitions, rate, seconds):
        """A trickle over so many topics, which are made if they are missing."""
        done = subprocess.run([self.options.loadgen, "many", "--brokers", self.server.bootstrap, "--topics", str(topics), "--partitions",
                               str(partitions), "--prefix", prefix, "--rate", str(rate), "--seconds", str(seconds), "--linger", "0s",
                               "--connections", "2", "--quiet"], capture_output=True, text=True)
        check(done.returncode == 0, f"loadgen many: {done.stdout[-1000:]} {done.stderr[-1000:]}")
        return json.loads(done.stdout)

    def run(self):
        self.starts("new", 1)
        self.churn("new")
        self.fill()
        self.idle("without clients")
        self.beside_members()
        self.latencies()
        self.churn("full")
        self.scrape()
        self.starts("full", STARTS)
        self.server.stop()
        return 0

    def starts(self, what, count):
        if self.server.process is None:
            self.begin()
        for how, end in (("SIGTERM", self.server.stop), ("kill -9", self.server.kill)):
            took, cpu = [], []
            for _ in range(count):
                if what == "full":
                    self.loadgen("many", self.options.topics, self.options.partitions, self.options.rate, 6)
                end()
                self.begin()
                took.append(self.server.start_seconds * 1000)
                cpu.append(self.watched.cpu_seconds() * 1000)
            self.say(f"{what}: ready after {how}, ms; CPU until then, ms",
                     "; ".join(", ".join(f"{ms:.0f}" for ms in series) for series in (took, cpu)))
            sizes = [path.stat().st_size for path in Path(self.server.places.data, "checkpoints").glob("*.ckpt")]
            self.say(f"{what}: checkpoints, KiB", ", ".join(f"{size >> 10}" for size in sizes))
            self.say(f"{what}: memory then, MiB", f"{self.watched.sample()['memory'] / 2**20:.1f}")

    def fill(self):
        options = self.options
        cpu = self.watched.cpu_seconds()
        made = self.loadgen("many", options.topics, options.partitions, options.rate, options.topics * options.partitions / options.rate + 6)
        self.say("topics and partitions", f"{options.topics}, {options.topics * options.partitions}")
        self.say("created in, s; server CPU of that and a record to each, s", f"{made['create_s']}; {self.watched.cpu_seconds() - cpu:.2f}")
        self.members(0)
        self.watched.rest()
        self.say("memory, MiB", f"{self.watched.sample()['memory'] / 2**20:.1f}")

    def members(self, live, while_there=lambda: None):
        program = str(Path(__file__).with_name("members.py"))
        run = subprocess.Popen([sys.executable, program, self.server.bootstrap, str(self.options.groups), str(self.options.partitions), str(live)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = [run.stdout.readline() for _ in range(2)]
        check(said == ["committed\n", "joined\n"], f"the members say {said}")
        while_there()
        out, _ = run.communicate()
        check(run.returncode == 0, "the members ended with an error")
        return out.split()

    def idle(self, what):
        tasks = Path(f"/proc/{self.server.process.pid}/task")

        def switches():
            return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)[1]) for task in tasks.iterdir())
        before, cpu, seconds = switches(), self.watched.cpu_seconds(), self.options.seconds
        time.sleep(seconds)
        self.say(f"{what}: wake-ups a second, CPU in percent", f"{(switches() - before) / seconds:.1f}, {100 * (self.watched.cpu_seconds() - cpu) / seconds:.2f}")

    def beside_members(self):
        live = self.options.live
        answered, took = self.members(live, lambda: self.idle(f"with {live} members at rest"))
        self.say("requests of the members a second", f"{int(answered) / float(took):.0f}")

    def churn(self, what):
        """Topics that are made and deleted, one after the other."""
        admin = AdminClient({"bootstrap.servers": self.server.bootstrap})
        took, cpu, until = [], self.watched.cpu_seconds(), time.monotonic() + self.options.seconds
        while time.monotonic() < until:
            begun, name = time.monotonic(), f"passing-{len(took)}"
            admin.create_topics([NewTopic(name, 10, 1)])[name].result(20)
            admin.delete_topics([name])[name].result(20)
            took.append((time.monotonic() - begun) * 1000)
        percentiles = statistics.quantiles(took, n=100)
        self.say(f"{what}: a topic made and deleted: p50, p99, ms; CPU each, ms",
                 f"{percentiles[49]:.2f}, {percentiles[98]:.2f}; {1000 * (self.watched.cpu_seconds() - cpu) / len(took):.2f}")

    def scrape(self):
        cpu, took = self.watched.cpu_seconds(), []
        for _ in range(20):
            begun = time.monotonic()
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
                size = len(answer.read())
            took.append((time.monotonic() - begun) * 1000)
        self.say("GET /metrics: median, ms; CPU, ms; KiB",
                 f"{statistics.median(took):.1f}; {1000 * (self.watched.cpu_seconds() - cpu) / len(took):.1f}; {size >> 10}")

    def latencies(self):
        """The same rate over all partitions and over those of one topic, in turn."""
        options, seen = self.options, []
        for _ in range(options.rounds):
            of_round = []
            for topics in (options.topics, 1):
                cpu = self.watched.cpu_seconds()
                done = subprocess.run([sys.executable, str(Path(__file__).with_name("trickle.py")), self.server.bootstrap, str(topics),
                                       str(options.partitions), str(options.rate), str(options.seconds)], capture_output=True, text=True)
                check(done.returncode == 0, f"trickle.py: {done.stderr[-1000:]}")
                of_round.append([*map(float, done.stdout.split()), self.watched.cpu_seconds() - cpu])
                self.say(f"{options.rate} records/s over {topics * options.partitions} partitions: p50, p99, ms; CPU, s",
                         ", ".join(f"{figure:.2f}" for figure in of_round[-1]))
            seen.append([all_of / max(few, 0.01) for all_of, few in zip(*of_round)])
        self.say("all partitions to few, median of rounds: p50, p99, CPU", ", ".join(f"{statistics.median(of):.2f}" for of in zip(*seen)))

    def end(self):
        if self.server.process and self.server.process.poll() is None:
            self.server.process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("topics", 1000), ("partitions", 10), ("groups", 1000), ("live", 300), ("rate", 500), ("rounds", 3), ("seconds", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("port", "metrics-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("server", "work", "loadgen"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    many = Many(options)
    try:
        return many.run()
    finally:
        many.end()


if __name__ == "__main__":
    sys.exit(main_guard(main))
