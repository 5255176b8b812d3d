"""Shared by the Python programs: checks that need some API, and the exactly-once check that every client runs.

Checks, deadlines and names are those of scripts/smoke/common.py; here a failed check does not keep the others from
running.
"""

import argparse
import concurrent.futures
import faulthandler
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "smoke"))

from common import Failure, check, equal, eventually, fresh  # noqa: E402

CHECK_SECONDS_MAX = 200
ADD_PARTITIONS_TO_TXN, CREATE_ACLS, SCRAM, LIST_TRANSACTIONS = 24, 30, 51, 66
CONSUMER_GROUP_HEARTBEAT, DESCRIBE_QUORUM, UPDATE_FEATURES = 68, 55, 57
DESCRIBE_PRODUCERS = 61


def offered(bootstrap):
    """Keys of the APIs that the server advertises, asked with ApiVersions v0."""
    host, port = bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as stream:
        stream.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
        file = stream.makefile("rb")
        body = file.read(struct.unpack(">i", file.read(4))[0])
    count = struct.unpack_from(">i", body, 6)[0]
    return {struct.unpack_from(">hhh", body, 10 + 6 * i)[0] for i in range(count)}


def main(doc, checks):
    """Runs checks, given as {name: function} or {name: (function, API keys that it needs)}."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("check", nargs="*", help=f"of {', '.join(checks)}")
    options = parser.parse_args()
    keys = offered(options.bootstrap)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for name in options.check or checks:
        run, *needs = checks[name] if isinstance(checks[name], tuple) else (checks[name],)
        missing = [key for key in needs if key not in keys]
        if missing:
            count["skipped"] += 1
            print(f"  SKIPPED {name}: the server does not offer API {missing[0]}", flush=True)
            continue
        faulthandler.dump_traceback_later(CHECK_SECONDS_MAX, exit=True)
        begin = time.monotonic()
        try:
            run(options)
            count["passed"] += 1
            print(f"  ok {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as error:  # what a client library raises is a failed check too
            count["failed"] += 1
            if not isinstance(error, Failure):
                traceback.print_exc()
            print(f"  FAILED {name}: {type(error).__name__}: {error}", flush=True)
        faulthandler.cancel_dump_traceback_later()
    print("  " + ", ".join(f"{number} {what}" for what, number in count.items()), flush=True)
    bad = count["failed"] or (count["skipped"] and os.environ.get("CI") == "true")
    # Client threads of failed checks may hang.
    os._exit(1 if bad else 0)


def refused(call, *arguments, **keywords):
    """The error that a call must end with."""
    try:
        call(*arguments, **keywords)
    except Exception as error:  # every client has classes of its own
        return error
    raise Failure(f"{getattr(call, '__name__', call)} was not refused")


def settled(told, seconds=30):
    """The result of an admin call's future, or of its futures."""
    if isinstance(told, dict):
        return {what: future.result(timeout=seconds) for what, future in told.items()}
    return told.result(timeout=seconds)


class Workers:
    """Processes that move records from a topic to another one, exactly once (eos_worker.py)."""

    def __init__(self, options, client, source, target, group, *more):
        self.command = [sys.executable, str(Path(__file__).with_name("eos_worker.py")), client, "--bootstrap",
                        options.bootstrap, "--source", source, "--target", target, "--group", group, *more]
        self.running = {}

    def start(self, name, partitions):
        self.running[name] = subprocess.Popen([*self.command, "--transactional-id", name, "--partitions", partitions],
                                              stdin=subprocess.DEVNULL)

    def end(self, name, how):
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(timeout=60)

    def alive(self):
        for name, process in self.running.items():
            check(process.poll() is None, f"worker {name} ended by itself, with status {process.returncode}")


def check_exactly_once(options, client, produce, read, make_topic, *more, count=4000, kills=3):
    """Two workers move records; one is killed with -9 and started anew with its transactional id, again and again.

    produce(topic, values) returns when all are acknowledged; read(topic) gives the values that are committed.
    """
    source, target, group = make_topic("eos-from", 4), make_topic("eos-to", 2), fresh("eos")
    workers = Workers(options, client, source, target, group, *more)
    values = [b"%06d" % i for i in range(count)]
    piece = count // (kills + 1)
    names = [fresh("eos-one"), fresh("eos-two")]
    share = dict(zip(names, ("0,1", "2,3")))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            for name in names:
                workers.start(name, share[name])
            for number in range(kills + 1):
                last = count if number == kills else (number + 1) * piece
                pool.submit(produce, source, values[number * piece:last]).result(timeout=60)
                moved = number * piece + piece // 2
                eventually(90, f"{moved} records are moved", lambda: workers.alive() or len(read(target)) >= moved)
                if number < kills:
                    name = names[number % 2]
                    workers.end(name, signal.SIGKILL)
                    workers.start(name, share[name])
            eventually(90, f"all {count} records are moved", lambda: workers.alive() or len(read(target)) >= count)
            for name in names:
                equal(workers.end(name, signal.SIGTERM), 0, f"status of worker {name}")
        finally:
            for process in workers.running.values():
                process.kill()
    got = sorted(read(target))
    equal(len(got), count, "records that came through, each exactly once")
    equal(got, values, "the records")
