"""Holds a server program against an older one by what the same work costs them; scripts/regression says how.

Each workload runs on both in turn, on an empty directory each time; ratios within a round are all that counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import check, main_guard
from running import Chronik

# A figure is clearly worse when the median of the rounds' ratios is above the first number, and no round's is below the second.
# The noise of shared machines is up to a fifth in CPU, and more in memory that is taken by the way.
MARGINS = {"cpu": (1.25, 1.10), "memory": (1.40, 1.20)}
# Ratios of less CPU than this, in seconds, say nothing.
CPU_SECONDS_MIN = 0.1
# Server memory below this is not looked at: the workloads may take 64 MB.
MEMORY_BYTES_MIN = 24 << 20
# What is put off by the server is paid for too.
SETTLE_SECONDS = 1

# What CPU is told for.
PER = {"bytes": (1e9, "GB"), "records": (1e6, "million records")}

PRODUCE = ["--partitions", "6", "--connections", "2", "--linger", "5ms"]


class Workload:
    """`prepare` and `measure` are loadgen's arguments; the CPU of `measure` counts, for each unit of its JSON's `unit`."""

    def __init__(self, name, unit, measure, prepare=(), again=1):
        self.name, self.unit, self.measure, self.prepare, self.again = name, unit, measure, prepare, again

    def run(self, server, loadgen):
        for arguments in self.prepare:
            load(loadgen, server, arguments)
        cpu, units = server.cpu_seconds(), 0
        for _ in range(self.again):
            units += load(loadgen, server, self.measure)[self.unit]
        time.sleep(SETTLE_SECONDS)
        spent = server.cpu_seconds() - cpu
        check(spent >= CPU_SECONDS_MIN, f"{self.name}: {spent:.2f} s of CPU are too little to compare; raise --scale")
        return {"cpu": spent / units, "memory": max(server.memory_peak(), MEMORY_BYTES_MIN)}


def load(loadgen, server, arguments):
    done = subprocess.run([loadgen, *arguments, "--brokers", server.address, "--quiet"], capture_output=True, text=True)
    check(done.returncode == 0, f"loadgen {' '.join(arguments)}: {done.stdout[-500:]} {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def workloads(scale):
    def records(count):
        return ["--records", str(max(1000, int(count * scale)))]
    big = ["produce", *PRODUCE, *records(800_000), "--size", "1024"]
    # A batch of this size has one record in it, and with one partition so has each request.
    single = ["produce", "--partitions", "1", "--connections", "16", "--linger", "0s", "--size", "900", "--batch-bytes", "1024"]
    return [
        Workload("produce, 1 KiB records", "bytes", big, [["produce", *PRODUCE, *records(100_000)]]),
        Workload("produce, 100-byte records", "records", ["produce", *PRODUCE, *records(4_000_000), "--size", "100"]),
        Workload("fetch, hot", "bytes", ["consume"], [big, ["consume"]], again=3),
        Workload("produce, requests of one record", "records", [*single, *records(120_000)], [[*single, *records(10_000)]]),
    ]


class Comparison:
    """The ratios of one figure, a list of one for each round."""

    def __init__(self):
        self.ratios = {}

    def add(self, workload, old, new):
        for figure in MARGINS:
            self.ratios.setdefault((workload, figure), []).append(new[figure] / old[figure])

    def worse(self):
        """What is clearly worse, as sentences."""
        found = []
        for (workload, figure), ratios in self.ratios.items():
            median_max, each_max = MARGINS[figure]
            if statistics.median(ratios) > median_max and min(ratios) > each_max:
                found.append(f"{workload}: {figure} is {statistics.median(ratios):.2f} times that of the old one")
        return found

    def table(self):
        for (workload, figure), ratios in self.ratios.items():
            yield f"  {workload:<34} {figure:<7} {statistics.median(ratios):5.2f}   by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"


def compare(options):
    comparison = Comparison()
    for number in range(options.rounds):
        for workload in workloads(options.scale):
            seen = {}
            for name, program in (("old", options.old), ("new", options.new)):
                server = Chronik(Path(options.work) / name, options.port, program)
                server.start()
                try:
                    seen[name] = workload.run(server, options.loadgen)
                finally:
                    server.stop()
            comparison.add(workload.name, seen["old"], seen["new"])
            many, unit = PER[workload.unit]
            print(f"round {number + 1}: {workload.name}: CPU, s for a {unit}: {seen['old']['cpu'] * many:.3f}, {seen['new']['cpu'] * many:.3f}; "
                  f"memory, MiB: {seen['old']['memory'] / 2**20:.0f}, {seen['new']['memory'] / 2**20:.0f}", flush=True)
    return comparison


def self_test():
    """The verdict itself, without servers."""
    for ratios, is_worse in (([1.0, 1.2, 1.3], False), ([1.3, 1.3, 1.05], False), ([1.3, 1.3, 1.15], True), ([0.8, 0.7, 0.9], False)):
        comparison = Comparison()
        for ratio in ratios:
            comparison.add("w", {"cpu": 1.0, "memory": 1.0}, {"cpu": ratio, "memory": 1.0})
        check(bool(comparison.worse()) == is_worse, f"{ratios} are taken for {'better' if is_worse else 'worse'} than they are")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--port", type=int, required=True)
    for name in ("work", "loadgen"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("old")
    parser.add_argument("new")
    options = parser.parse_args()
    self_test()
    comparison = compare(options)
    print("new against old, median of the rounds; less is better")
    print("\n".join(comparison.table()))
    worse = comparison.worse()
    check(not worse, "; ".join(worse))
    print("nothing is clearly worse")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
