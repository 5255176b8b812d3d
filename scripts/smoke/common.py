"""Shared by the smoke programs: checks with one clear sentence, deadlines, and the group check that every client runs.

A program calls main() with its checks; each runs under a deadline of its own. Exit status 1 and one sentence on
standard error when a check fails.
"""

import argparse
import faulthandler
import os
import sys
import threading
import time
import traceback

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
CHECK_SECONDS_MAX = 120


class Failure(Exception):
    """A check that does not hold; the message is the sentence that the person reads."""


def check(holds, sentence):
    if not holds:
        raise Failure(sentence)


def equal(seen, expected, what):
    check(seen == expected, f"{what}: expected {expected!r}, got {seen!r}")


def fresh(stem):
    """A name that no earlier run has used, for topics and groups."""
    return f"{stem}-{os.getpid()}-{time.time_ns() % 10**9}"


def eventually(seconds, what, ask):
    """Asks until the answer is true; the bound is an upper one, a healthy server answers at once."""
    until = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        check(time.monotonic() < until, f"not within {seconds} s: {what}")
        time.sleep(0.02)


def main(doc, checks, arguments=()):
    """Runs the checks named on the command line, or all; `arguments` are more (name, keywords) for argparse."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    for flag, keywords in arguments:
        parser.add_argument(flag, **keywords)
    parser.add_argument("check", nargs="*", help=f"of {', '.join(checks)}")
    options = parser.parse_args()
    for name in options.check or checks:
        faulthandler.dump_traceback_later(CHECK_SECONDS_MAX, exit=True)
        begin = time.monotonic()
        try:
            checks[name](options)
        except Failure as failure:
            stop(f"{name}: {failure}")
        except Exception as error:  # what a client library raises is a failed check too
            traceback.print_exc()
            stop(f"{name}: {type(error).__name__}: {error}")
        faulthandler.cancel_dump_traceback_later()
        print(f"  ok {name} ({time.monotonic() - begin:.1f} s)", flush=True)


def main_guard(program):
    """Runs a program that is one check: what it finds becomes one sentence and status 1."""
    try:
        return program()
    except Failure as failure:
        stop(str(failure))
    except Exception as error:  # what a client library raises is a failed check too
        traceback.print_exc()
        stop(f"{type(error).__name__}: {error}")


def cpu_seconds(pid):
    """User and system time of a process so far, to a hundredth of a second."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(sentence):
    print(f"FAILED {sentence}", file=sys.stderr, flush=True)
    # Client threads may hang on the very fault that was found; nothing of them is needed any more.
    os._exit(1)


class Processed:
    """What the members of a group have handled; knows which records were committed before they came again."""

    def __init__(self):
        self.lock = threading.Lock()
        self.values = {}
        self.committed = set()

    def received(self, records):
        with self.lock:
            for partition, offset, value in records:
                check((partition, offset) not in self.committed,
                      f"partition {partition} offset {offset} was committed and came again")
                before = self.values.setdefault((partition, offset), value)
                equal(value, before, f"partition {partition} offset {offset} changed its value")

    def was_committed(self, records):
        with self.lock:
            self.committed.update((partition, offset) for partition, offset, _ in records)


class Worker(threading.Thread):
    """One member of a group in a thread of its own, as in life: old clients block in poll() while the group moves."""

    def __init__(self, open_member, seen):
        super().__init__(daemon=True)
        self.open_member, self.seen = open_member, seen
        self.assigned = set()
        self.error = None
        self.leaving = threading.Event()
        self.start()

    def run(self):
        try:
            member = self.open_member()
            while not self.leaving.is_set():
                records = member.poll()
                self.seen.received(records)
                if records and member.commit():
                    self.seen.was_committed(records)
                self.assigned = member.assigned()
            member.close()
        except Exception as error:  # told to the thread that waits
            self.error = error

    def leave(self):
        self.leaving.set()
        self.join(timeout=30)
        check(not self.is_alive(), "a member could not leave its group within 30 s")
        self.raise_error()

    def raise_error(self):
        if self.error:
            raise self.error


def check_group(open_member, produce, partitions=4):
    """Two members share a topic, one leaves, the partitions move; nothing is lost, nothing committed comes again.

    open_member() gives an object with poll() -> [(partition, offset, value)], commit() -> bool (false when the
    group has moved on and the commit was refused), assigned() -> set of partitions, and close() (leaves the group).
    produce(values) returns when all of them are acknowledged.
    """
    seen = Processed()
    sent = [b"g%06d" % i for i in range(500)]
    produce(sent[:200])

    def wait(members, shares, count):
        def there():
            for member in members:
                member.raise_error()
            assigned = [set(member.assigned) for member in members]
            sizes = sorted(len(partitions) for partitions in assigned)
            whole = len(set().union(*assigned)) == partitions
            return sizes == shares and whole and len(seen.values) >= count
        eventually(60, f"{len(members)} members with {shares} of {partitions} partitions and {count} records", there)

    first = Worker(open_member, seen)
    wait([first], [partitions], 200)
    second = Worker(open_member, seen)
    wait([first, second], [partitions // 2, partitions - partitions // 2], 200)
    produce(sent[200:400])
    wait([first, second], [partitions // 2, partitions - partitions // 2], 400)
    first.leave()
    wait([second], [partitions], 400)
    produce(sent[400:])
    wait([second], [partitions], 500)
    second.leave()
    equal(sorted(seen.values.values()), sent, "the values that the group has handled")
