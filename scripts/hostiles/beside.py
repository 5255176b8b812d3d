"""Runs bad clients beside good ones, and looks at the server: latency of the good ones, its turns, its use of the processors, memory,
descriptors, silence. scripts/hostile says what is compared with what.

Exit status 1 and a sentence for each thing that does not hold.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

from clients import KINDS

# Beside bad clients the p99 may be so many times what it is when the same bad clients turn to the twin.
RATIO_MAX = 2.0
# Processor time of one turn of the server's loop, in ms; a bound of its histogram.
TURN_MS_MAX = 10
# What the server may use of a core for the bad clients.
SHARE_MAX = 0.6
# Differences below this are the machine's, in ms.
NOISE_MS = 0.5
# Memory that may stay taken when all is over: what the server keeps ready, and what its allocator does.
KEPT_BYTES_MAX = 96 << 20
# What partitions remember of invented producers, for as long as of others (limits::PRODUCERS_MAX).
PRODUCERS_BYTES_MAX = 120 << 20
# How long it may take until everything is given back.
SETTLE_SECONDS = 20
TOPIC = "good"
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Server:
    """What is seen of the process from outside."""

    def __init__(self, options):
        self.proc, self.metrics = f"/proc/{options.pid}", options.metrics

    def read(self, name):
        with open(f"{self.proc}/{name}", encoding="ascii") as file:
            return file.read()

    def memory(self, name):
        return int(re.search(rf"^{name}:\s+(\d+) kB", self.read("status"), re.M)[1]) << 10

    def forget_peak(self):
        with open(f"{self.proc}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def sockets(self):
        """Sockets that are open. Files come and go with the log."""
        count = 0
        for name in os.listdir(f"{self.proc}/fd"):
            try:
                count += os.readlink(f"{self.proc}/fd/{name}").startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    def gauges(self):
        """What clients may hold: connections, and memory of requests and answers."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            found = re.findall(r"^(chronik_(?:active_connections|request_memory_bytes|response_memory_bytes)) (\d+)$",
                               answer.read().decode(), re.M)
        return {name: int(number) for name, number in found}

    def cpu_seconds(self):
        """Of all threads, so far."""
        fields = self.read("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def turns(self):
        """How many turns of the loop took up to so many ms of processor time."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            found = re.findall(r'^chronik_reactor_turn_cpu_seconds_bucket\{le="([^"]+)"\} (\d+)$', answer.read().decode(), re.M)
        return {float(bound) * 1000: int(count) for bound, count in found}

    def switches(self):
        count = 0
        for task in os.listdir(f"{self.proc}/task"):
            try:
                count += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", self.read(f"task/{task}/status"), re.M)[1])
            except (FileNotFoundError, ProcessLookupError):
                pass  # a thread that has just ended
        return count


class Good:
    """Producers, and a pair of producer and consumer. Their percentiles in ms."""

    def __init__(self, options, seconds):
        load = [options.loadgen, "--brokers", options.bootstrap, "--quiet", "--seconds", str(seconds), "--linger", "0s"]
        produce = ["produce", "--topic", TOPIC, "--rate", str(options.rate), "--size", "1024", "--connections", "2"]
        pair = ["e2e", "--topic", "pair", "--rate", str(options.rate / 4)]
        self.runs = {name: subprocess.Popen([load[0], *command, *load[1:]], stdout=subprocess.PIPE, text=True)
                     for name, command in {"produce": produce, "end to end": pair}.items()}

    def finish(self):
        results = {}
        for name, run in self.runs.items():
            out, _ = run.communicate()
            result = json.loads(out)
            latency = result.get("latency_ms") or result.get("e2e_latency_ms") or {}
            results[name] = {p: latency.get(p, math.inf) for p in ("p50", "p99")}
            if run.returncode != 0:
                results[name]["p99"] = math.inf
        return results


def settled(server, before):
    """Waits until nothing of the bad clients is left; what is, as a sentence."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        fds, gauges = server.sockets(), server.gauges()
        left = [f"{fds} sockets, {before[0]} before"] if fds > before[0] else []
        left += [f"{name} is {gauges[name]}, {number} before" for name, number in before[1].items() if gauges[name] > number]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


class Bad:
    """One kind of bad clients."""

    def __init__(self, options, kind, bootstrap):
        script = os.path.join(os.path.dirname(__file__), "clients.py")
        self.kind, self.did = kind, ""
        self.run = subprocess.Popen([sys.executable, script, kind, bootstrap, TOPIC, str(options.connections)],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # Some have much to prepare.
        self.run.stdout.readline()
        time.sleep(5)

    def leave(self):
        if self.kind == "flood":
            self.run.wait()  # all of them, however long it takes
        out, _ = self.run.communicate()
        self.did = out.strip()
        return [f"the bad clients ended with status {self.run.returncode}"] if self.run.returncode != 0 else []


def turns_between(before, after):
    """The shortest bound that all turns between two looks kept, and the one that all but one in a thousand kept, in ms."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = max(counts.values())
    return [next(bound for bound, count in counts.items() if count >= total * part) for part in (1, 0.999)]


def beside(options, server, kind):
    """The good load beside one kind of bad clients: percentiles, what the server did, and what is wrong."""
    before = server.sockets(), server.gauges()
    server.forget_peak()
    bad = Bad(options, kind, options.bootstrap)
    begun, used, turns = time.monotonic(), server.cpu_seconds(), server.turns()
    good = Good(options, options.seconds).finish()
    seen = {"share": (server.cpu_seconds() - used) / (time.monotonic() - begun)}
    wrong = bad.leave()
    seen["longest"], seen["most"] = turns_between(turns, server.turns())
    seen["peak"], seen["did"] = server.memory("VmHWM"), bad.did
    if seen["longest"] > TURN_MS_MAX:
        wrong.append(f"a turn took more than {TURN_MS_MAX} ms of processor time, but at most {seen['longest']:g}")
    wrong += [f"not given back {SETTLE_SECONDS} s after they were gone: {left}" for left in settled(server, before)]
    return good, seen, wrong


def main():
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "twin", "metrics", "loadgen", "memory-limit"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    options = parser.parse_args()
    number, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB)?", options.memory_limit).groups()
    limit = int(number) * UNITS.get(unit, 1)
    kinds = options.kinds or list(KINDS)
    server, faults, ratios, shares, peaks = Server(options), [], {}, {}, {}

    # Something to ask for, and a server that has had its first load.
    for bootstrap in (options.twin, options.bootstrap):
        subprocess.run([options.loadgen, "produce", "--brokers", bootstrap, "--quiet", "--topic", TOPIC, "--partitions", "4",
                        "--size", "1024", "--records", "300000"], check=True, stdout=subprocess.DEVNULL)
    Good(options, 3).finish()
    begun = server.memory("VmRSS")
    print(f"  memory {begun >> 20} MiB, limit {limit >> 20} MiB, {server.sockets()} sockets", flush=True)
    for _ in range(options.rounds):
        used, since = server.cpu_seconds(), time.monotonic()
        alone = Good(options, options.seconds).finish()
        own_share = (server.cpu_seconds() - used) / (time.monotonic() - since)
        for kind in kinds:
            twin = Bad(options, kind, options.twin)
            elsewhere = Good(options, options.seconds).finish()
            faults += [f"{kind}, at the twin: {fault}" for fault in twin.leave()]
            good, seen, wrong = beside(options, server, kind)
            shown = []
            for name, values in good.items():
                ratios.setdefault((kind, name), []).append(values["p99"] / max(elsewhere[name]["p99"], NOISE_MS))
                shown.append(f"{name} p50 {values['p50']:.2f}, p99 alone {alone[name]['p99']:.2f} / at the twin "
                             f"{elsewhere[name]['p99']:.2f} / here {values['p99']:.2f} ms, ratio {ratios[kind, name][-1]:.2f}")
            shares.setdefault(kind, []).append(seen["share"] - own_share)
            peaks[kind] = max(seen["peak"], peaks.get(kind, 0))
            print(f"  {kind}: {'; '.join(shown)}; turns within {seen['longest']:g} ms, 99.9 % within {seen['most']:g}; "
                  f"{seen['share']:.2f} cores, {own_share:.2f} alone; memory at most {seen['peak'] >> 20} MiB; {seen['did']}", flush=True)
            faults += [f"{kind}: {fault}" for fault in wrong]
    for (kind, name), seen in ratios.items():
        if statistics.median(seen) > RATIO_MAX and os.environ.get("LATENCY") != "no":
            faults.append(f"{kind}: the p99 of {name} is {statistics.median(seen):.2f} times what it is beside the same at the twin")
    faults += [f"{kind}: the server uses {statistics.median(seen):.2f} of a core for them" for kind, seen in shares.items()
               if statistics.median(seen) > SHARE_MAX]
    faults += [f"{kind}: the server took {peak >> 20} MiB" for kind, peak in peaks.items() if peak > limit]
    ended = server.memory("VmRSS")
    print(f"  memory {ended >> 20} MiB in the end", flush=True)
    if ended > begun + KEPT_BYTES_MAX + ("ids" in kinds) * PRODUCERS_BYTES_MAX:
        faults.append(f"{ended - begun >> 20} MiB more memory than in the beginning")
    faults += silence(server)
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return 1 if faults else 0


def silence(server):
    """No thread wakes any more: no timer of the clients is left. Retention and what else is due may come in between."""
    for _ in range(12):
        before = server.switches()
        time.sleep(5)
        if server.switches() == before:
            return []
    return ["the server still wakes up, a minute after all clients were gone"]


if __name__ == "__main__":
    sys.exit(main())
