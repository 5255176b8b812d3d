"""Servers that are measured, one at a time: chronik-server, a real Kafka, and the bench that stores nothing. All on loopback."""

import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path

from common import check, cpu_seconds

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60


class Running:
    """A process that listens on `address` and is `pid`, from `start` to `stop`; each start finds an empty folder."""

    name = ""

    def __init__(self, folder, port):
        self.folder, self.port = Path(folder), port
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.launch()

    def spawn(self, command, is_up):
        log = self.folder / "log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until = time.monotonic() + START_SECONDS_MAX
        while is_up not in log.read_text(errors="replace"):
            check(self.process.poll() is None, f"{self.name} ended while starting: {log.read_text(errors='replace')[-1000:]}")
            check(time.monotonic() < until, f"{self.name} is not up after {START_SECONDS_MAX} s")
            time.sleep(0.01)
        return log.read_text(errors="replace")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop(self):
        if self.process is not None:
            self.end()
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, name):
        return Path(f"/proc/{self.pid}/{name}").read_text(encoding="ascii")

    def cpu_seconds(self):
        """User and system time so far, to a hundredth of a second."""
        return cpu_seconds(self.pid)

    def memory_peak(self):
        """Most resident memory so far, in bytes."""
        return int(re.search(r"^VmHWM:\s+(\d+)", self.read("status"), re.M)[1]) << 10

    def disk_bytes(self):
        """What its folder takes on the disk."""
        return int(subprocess.run(["du", "-s", "--block-size=1", self.folder], capture_output=True, text=True, check=False).stdout.split()[0])

    def switches(self):
        """How often the threads that are there went to sleep of their own accord, by their names."""
        seen = Counter()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                name, status = (task / "comm").read_text().strip(), (task / "status").read_text()
            except FileNotFoundError:
                continue
            seen[name] += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
        return seen


class Chronik(Running):
    name = "chronik"

    def __init__(self, folder, port, program, options=()):
        super().__init__(folder, port)
        self.program, self.options = program, options

    def launch(self):
        said = self.spawn([self.program, "--bind-addr", "127.0.0.1", "--kafka-port", str(self.port), "--admin-port", "off",
                           "--metrics-port", "0", "--data-dir", str(self.folder / "data"), *self.options], " ready after ")
        self.metrics_address = re.search(r"metrics on (\S+)", said)[1]

    def cpu_seconds(self):
        """The same, exact: its threads live as long as it does, but for the one of a request for metrics."""
        return sum(schedstat_seconds(task) for task in Path(f"/proc/{self.pid}/task").iterdir())

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}


class Unstored(Running):
    name = "unstored"

    def __init__(self, folder, port, program):
        super().__init__(folder, port)
        self.program = program

    def launch(self):
        self.spawn([self.program, "--port", str(self.port)], "Kafka protocol on")


class Kafka(Running):
    """By its harness, with Kafka's defaults: acknowledged from the page cache."""

    name = "kafka"

    def __init__(self, folder, port, harness):
        super().__init__(folder, port)
        self.harness = harness

    def launch(self):
        self.command("start", "--port", str(self.port), "--fresh")

    def command(self, name, *more):
        done = subprocess.run([self.harness, name, "--dir", str(self.folder), *more], capture_output=True, text=True)
        check(done.returncode == 0, f"kafka {name}: {done.stderr[-1000:]}")

    @property
    def pid(self):
        return int((self.folder / "kafka.pid").read_text())

    def stop(self):
        if (self.folder / "kafka.pid").exists():
            self.command("stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def schedstat_seconds(task):
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        return 0


def percentile(before, after, name, share):
    """What a histogram of /metrics says of the time between two looks, within a bucket by its place there."""
    bucket = re.compile(rf'^{name}_bucket{{le="([^"]+)"}}$')
    seen = sorted((float(found[1]), count - before.get(key, 0)) for key, count in after.items() if (found := bucket.match(key)))
    wanted, low, below = seen[-1][1] * share, 0.0, 0
    for bound, count in seen:
        if count >= wanted and count > below:
            bound = low if bound == float("inf") else bound
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low
