"""Runs a server for long under a load that leaves nothing behind, and says whether anything of it grows; scripts/soak says more.

A run is a number of cycles. In each the clients work, a load generator writes records that stay until the end of the cycle, the
server is perhaps stopped or killed and started again; then everybody rests, all acknowledged records are looked for, and a sample is
taken. The first part of a run has the restarts, the second is one life of the server.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "crashes"))

from common import check, cpu_seconds, eventually, main_guard  # noqa: E402
from confluent_kafka import KafkaException  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from server import Places, Server  # noqa: E402

# What is kept for long by default goes soon, so that whatever stays shows.
OPTIONS = ["--log-segment-bytes", "16MiB", "--log-retention-ms", "15s", "--log-retention-check-interval-ms", "500",
           "--log-cleaner-backoff-ms", "500", "--offsets-retention-minutes", "1", "--producer-id-expiration-ms", "60s",
           "--transactional-id-expiration-ms", "60s", "--auto-create-topics-enable", "false"]
KEPT = {"retention.ms": "-1"}
CYCLE_SECONDS_MIN, CYCLE_SECONDS_MAX, CYCLES = 10, 60, 18
RESTART_EVERY = 2
# The server is at rest when it takes less than this of a processor for a second; groups have heartbeats.
REST_CPU, REST_SECONDS_MAX = 0.05, 20

# How much more the last third of a part may have than the second one, by median: a share, and so much besides. The share is
# for what follows the load, the rest for what samples have by chance: some segments more that are about to go, clients that are
# just coming, pages that the allocator keeps.
TOLERANCE = {"memory": (0.05, 3 << 20), "descriptors": (0.10, 6), "connections": (0.10, 6), "threads": (0, 0), "disk": (0.05, 8 << 20), "files": (0.10, 6),
             "start after a stop": (0.5, 0.03), "start after a kill": (0.5, 0.10)}
SAMPLES_MIN = 6
UNITS = {"memory": (1 << 20, "MiB"), "disk": (1 << 20, "MiB"), "start after a stop": (0.001, "ms"), "start after a kill": (0.001, "ms")}


def thirds(samples):
    """The medians of the second and of the last third."""
    count = len(samples)
    return statistics.median(samples[count // 3:2 * count // 3]), statistics.median(samples[2 * count // 3:])


class Watched:
    """What is seen of a server from outside."""

    def __init__(self, server):
        self.server = server

    def read(self, name):
        return Path(f"/proc/{self.server.process.pid}/{name}").read_text(encoding="ascii")

    def cpu_seconds(self):
        return cpu_seconds(self.server.process.pid)

    def rest(self):
        """Waits until hardly anything is done any more, within bounds."""
        until = time.monotonic() + REST_SECONDS_MAX
        before = self.cpu_seconds()
        while time.monotonic() < until:
            time.sleep(1)
            now = self.cpu_seconds()
            if now - before < REST_CPU:
                return
            before = now

    def sample(self):
        status = dict(line.split(":", 1) for line in self.read("status").splitlines())
        files, size = 0, 0
        for folder, _, names in os.walk(self.server.places.data):
            for name in names:
                try:
                    size += os.stat(f"{folder}/{name}").st_blocks * 512
                    files += 1
                except FileNotFoundError:
                    pass
        sockets, others = self.descriptors()
        return {"memory": int(status["VmRSS"].split()[0]) << 10, "threads": int(status["Threads"]), "connections": sockets,
                "descriptors": others, "disk": size, "files": files}

    def descriptors(self):
        """Sockets, of which there are as many as clients, and others, of which there are as many as files in use."""
        folder, sockets, others = f"/proc/{self.server.process.pid}/fd", 0, 0
        for name in os.listdir(folder):
            try:
                is_socket = os.readlink(f"{folder}/{name}").startswith("socket:")
            except FileNotFoundError:
                continue
            sockets, others = sockets + is_socket, others + (not is_socket)
        return sockets, others


class Load:
    """The clients that work all the time."""

    def __init__(self, options, bootstrap):
        self.out, self.loadgen, self.bootstrap = f"{options.work}/load.out", options.loadgen, bootstrap
        self.acked, self.running = f"{options.work}/lasting.acked", {}

    def spawn(self, name, command):
        with open(f"{self.out}.{name}", "ab") as out:
            self.running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def said(self, name):
        return Path(f"{self.out}.{name}").read_text(errors="replace")[-3000:]

    def start(self):
        self.spawn("clients", [sys.executable, str(Path(__file__).with_name("load.py")), "--bootstrap", self.bootstrap])
        eventually(60, "the clients are under way", lambda: "all are there" in self.said("clients") or self.look())
        self.spawn("lasting", self.verified("lasting", self.acked, 10, 100_000))

    def verified(self, topic, file, rate, seconds):
        return [self.loadgen, "verify-acked", "--brokers", self.bootstrap, "--topic", topic, "--file", file, "--rate", str(rate),
                "--seconds", str(seconds), "--timeout", "48h", "--quiet"]

    def look(self):
        for name, process in self.running.items():
            check(process.poll() is None, f"{name} ended by itself: {self.said(name)}")

    def rest(self):
        self.running["clients"].send_signal(signal.SIGUSR1)

    def go_on(self):
        self.running["clients"].send_signal(signal.SIGUSR2)

    def finish(self):
        self.look()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.running.items():
            status = process.wait(200)
            check(status == 0, f"{name} ended with status {status}: {self.said(name)}")
        self.running = {}

    def kill(self):
        for process in self.running.values():
            process.kill()


class Soak:
    """One run."""

    def __init__(self, options):
        self.options, self.chance = options, random.Random(options.seed)
        places = Places(options.work)
        self.server = Server(options.server, options.port, places, OPTIONS)
        self.server.log_level = "info"
        self.watched = Watched(self.server)
        self.load = Load(options, self.server.bootstrap)
        self.seconds = max(CYCLE_SECONDS_MIN, min(CYCLE_SECONDS_MAX, options.minutes * 60 / CYCLES))
        self.admin = AdminClient({"bootstrap.servers": self.server.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 100})
        self.checked = self.restarts = 0
        self.grown = []

    def run(self):
        self.server.start()
        self.server.wait_until_ready()
        self.create("lasting", 3)
        self.load.start()
        begun, half = time.monotonic(), self.options.minutes * 30
        parts = {"with restarts": (0, half), "one life": (half, 2 * half)}
        parts = {"one life": (0, 2 * half)} if self.options.no_restarts else parts
        cycle = 0
        for part, (_, end) in parts.items():
            samples = {}
            while time.monotonic() - begun < end or not samples:
                self.cycle(cycle, part == "with restarts" and cycle % RESTART_EVERY == 1, samples)
                cycle += 1
            self.judge(part, samples)
        self.load.finish()
        self.check_acked("lasting", self.load.acked)
        self.server.stop()
        print(f"{cycle} cycles of {self.seconds:.0f} s of load, {self.restarts} restarts, {self.checked} acknowledged records looked for",
              flush=True)
        check(not self.grown, f"it grows: {'; '.join(self.grown)}")
        return 0

    def cycle(self, number, restarts, samples):
        topic = f"cycle-{number}"
        self.create(topic, 6)
        file = f"{self.options.work}/{topic}.acked"
        writers = {"verify-acked": self.load.verified(topic, file, 500, self.seconds),
                   "many": [self.options.loadgen, "many", "--brokers", self.server.bootstrap, "--topics", "50", "--partitions", "4",
                            "--rate", "200", "--prefix", "wide", "--seconds", str(self.seconds), "--timeout", "10m",
                            "--delivery-timeout", "5m", "--drain", "2m"]}
        running = {name: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                   for name, command in writers.items()}
        try:
            if restarts:
                # What has not begun when the server is away would give up.
                eventually(300, "the writers are under way", lambda: os.path.exists(file) and os.path.getsize(file) > 1000)
                time.sleep(self.seconds * self.chance.uniform(0.2, 0.8))
                self.restart(samples)
            for name, process in running.items():
                said, _ = process.communicate(timeout=600)
                # The trickle promises nothing, and gives up when the server is away while it asks for its topics.
                check(process.returncode == 0 or (restarts and name == "many"), f"{name} ended with {process.returncode}: {said[-1500:]}")
        finally:
            for process in running.values():
                process.kill()
        self.load.look()
        self.load.rest()
        self.check_acked(topic, file)
        self.ask(lambda: self.admin.delete_topics([topic], request_timeout=10)[topic])
        self.watched.rest()
        taken = self.watched.sample()
        for what, figure in taken.items():
            samples.setdefault(what, []).append(figure)
        print(f"  cycle {number}: {', '.join(f'{what} {self.shown(what, figure)}' for what, figure in taken.items())}", flush=True)
        self.load.go_on()

    def create(self, topic, partitions):
        self.ask(lambda: self.admin.create_topics([NewTopic(topic, partitions, 1, config=KEPT)], request_timeout=10)[topic])

    def ask(self, call):
        def answer():
            try:
                call().result(20)
                return True
            except KafkaException as error:
                check(error.args[0].retriable() or error.args[0].code() < 0, f"refused: {error}")
                return False
        eventually(60, "the server answers", answer)

    def restart(self, samples):
        """SIGTERM and kill -9 in turn; how long the start took."""
        killed = self.restarts % 2 == 1
        if killed:
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()
        self.server.wait_until_ready()
        self.restarts += 1
        samples.setdefault(f"start after a {'kill' if killed else 'stop'}", []).append(self.server.start_seconds)

    def check_acked(self, topic, file):
        done = subprocess.run([self.options.loadgen, "check-acked", file, "--brokers", self.server.bootstrap, "--idle-timeout", "60s"],
                              capture_output=True, text=True, timeout=600)
        check(done.returncode == 0, f"check-acked of {topic}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        self.checked += json.loads(done.stdout)["acknowledged"]
        if topic != "lasting":
            os.remove(file)

    def judge(self, part, samples):
        print(f"{part}:", flush=True)
        for what, seen in samples.items():
            # What the process has begins anew with every start.
            if part == "with restarts" and what in ("memory", "descriptors", "connections", "threads"):
                continue
            if len(seen) < SAMPLES_MIN:
                print(f"  {what}: {', '.join(self.shown(what, figure) for figure in seen)}; too few samples to say more", flush=True)
                continue
            before, after = thirds(seen)
            share, more = TOLERANCE[what]
            grows = after > before * (1 + share) + more
            print(f"  {what}: {self.shown(what, before)} in the second third, {self.shown(what, after)} in the last, "
                  f"from {self.shown(what, min(seen))} to {self.shown(what, max(seen))} in all{': GROWS' if grows else ''}", flush=True)
            if grows:
                self.grown.append(f"{what} ({part})")

    @staticmethod
    def shown(what, figure):
        unit, name = UNITS.get(what, (1, ""))
        return f"{figure / unit:.{1 if name else 0}f} {name}".rstrip()

    def end(self):
        self.load.kill()
        if self.server.process and self.server.process.poll() is None:
            self.server.process.kill()


def leave(*_):
    sys.exit("stopped")


def main():
    signal.signal(signal.SIGTERM, leave)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-restarts", action="store_true")
    parser.add_argument("--port", type=int, required=True)
    for name in ("server", "work", "loadgen"):
        parser.add_argument(f"--{name}", required=True)
    soak = Soak(parser.parse_args())
    try:
        return soak.run()
    finally:
        soak.end()


if __name__ == "__main__":
    sys.exit(main_guard(main))
