"""Reads the syscall trace of a server and proves that no answer left before its request was durable.

The trace is that of `strace -f -yy -xx -s BIG`, from the start of the server; --asked is what acks_load.py wrote down.
For every request of that list: the answer's first byte was handed to the socket only after a write of the request's
marker to a file of the log had returned, and after the fdatasync of that file had returned (or the file was opened
with O_DSYNC). strace stops a thread at both ends of a call and lets it go on only after it has written the line, so the
order of the lines is the order of cause and effect.

Exit status: 0 all answers came after their sync; 3 at least one came early; 1 the trace can't be understood.
"""

import argparse
import re
import sys
from collections import defaultdict

from common import check, main_guard

EARLY = 3
WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2"}
SENDS = {"write", "writev", "sendto", "sendmsg"}
SYNCS = {"fdatasync", "fsync"}

# 1234 name(args) = result, 1234 name(args <unfinished ...>, 1234 <... name resumed>args) = result
LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$")
CALL = re.compile(r"^(\w+)\((.*)$")
RESULT = re.compile(r"^(.*)\) += (-?\d+|\?)(.*)$")
DESCRIPTOR = re.compile(r"^(\d+)<((?:->|[^>])*)>")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class Call:
    """One system call: the lines at which it began and ended, and what was in it."""

    def __init__(self, name, args, begin):
        self.name, self.args, self.begin = name, args, begin
        self.end, self.result, self.tail = None, None, ""


def calls(path):
    """Every finished call, in the order of their ends."""
    pending = {}
    with open(path) as file:
        for number, line in enumerate(file):
            matched = LINE.match(line.rstrip("\n"))
            if not matched or matched[3].startswith(("+++", "---")):
                continue
            thread, resumed, rest = matched.groups()
            if resumed:
                call = pending.pop(thread, None)
                if call is None:
                    continue
                call.args += rest
            else:
                begun = CALL.match(rest)
                if not begun:
                    continue
                call = Call(begun[1], begun[2], number)
                if call.args.endswith("<unfinished ...>"):
                    call.args = call.args[:-len("<unfinished ...>")]
                    pending[thread] = call
                    continue
            ended = RESULT.match(call.args)
            check(ended, f"line {number + 1} of the trace can't be understood: {line[:100]}")
            call.args, call.end, call.tail = ended[1], number, ended[3]
            call.result = -1 if ended[2] == "?" else int(ended[2])
            yield call


def plain(escaped):
    """Text of a descriptor, which -xx writes in hexadecimal where it is a path."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), escaped)


def payload(call):
    """The bytes that the call has really taken."""
    parts = []
    for digits, cut in STRING.findall(call.args):
        check(not cut, f"the trace has cut a buffer of {call.name} short: give strace a larger -s")
        parts.append(bytes.fromhex(digits.replace("\\x", "")))
    return b"".join(parts)[:max(call.result, 0)]


class Trace:
    """What the trace tells: durable moments of marked writes, and the moments at which answers began to leave."""

    def __init__(self, path, log_folder):
        self.log_folder = log_folder
        self.open_flags = {}  # descriptor -> flags of its openat
        self.unsynced = defaultdict(list)  # descriptor -> writes to a log file that no sync has covered
        self.durable = []  # (line, bytes): from this line on these bytes are on the disk
        self.streams = defaultdict(lambda: (bytearray(), []))  # client port -> bytes sent, [(position, line)]
        self.log_writes = self.log_syncs = 0
        for call in calls(path):
            self.take(call)

    def take(self, call):
        if call.result < 0:
            return
        if call.name == "openat":
            self.open_flags[call.result] = call.args
            self.unsynced.pop(call.result, None)
            return
        check(call.name not in ("io_uring_setup", "io_uring_enter"), "the server uses io_uring, which a trace can't see into")
        descriptor = DESCRIPTOR.match(call.args)
        if not descriptor:
            return
        number, target = int(descriptor[1]), plain(descriptor[2])
        if call.name == "close":
            self.open_flags.pop(number, None)
        elif target.startswith("TCP") and "->" in target and call.name in SENDS:
            self.sent(int(target.rstrip("]").rsplit(":", 1)[1]), call)
        elif self.is_log(target) and call.name in WRITES:
            self.written(number, call)
        elif self.is_log(target) and call.name in SYNCS:
            self.synced(number, call)

    def is_log(self, target):
        return target.startswith(self.log_folder) and target.endswith(".log")

    def written(self, number, call):
        self.log_writes += 1
        data = payload(call)
        if "O_DSYNC" in self.open_flags.get(number, "") or "O_SYNC" in self.open_flags.get(number, ""):
            self.durable.append((call.end, data))
        else:
            self.unsynced[number].append((call.end, data))

    def synced(self, number, call):
        self.log_syncs += 1
        covered = [data for end, data in self.unsynced[number] if end <= call.begin]
        self.unsynced[number] = [(end, data) for end, data in self.unsynced[number] if end > call.begin]
        self.durable.extend((call.end, data) for data in covered)

    def sent(self, port, call):
        stream, starts = self.streams[port]
        starts.append((len(stream), call.begin))
        stream += payload(call)

    def answers(self, port):
        """Correlation id -> line at which the first byte of that answer was handed over."""
        stream, starts = self.streams[port]
        found, at, next_start = {}, 0, 0
        while at + 8 <= len(stream):
            while next_start + 1 < len(starts) and starts[next_start + 1][0] <= at:
                next_start += 1
            length = int.from_bytes(stream[at:at + 4], "big")
            correlation = int.from_bytes(stream[at + 4:at + 8], "big")
            found[correlation] = starts[next_start][1]
            at += 4 + length
        return found

    def durable_at(self, marker):
        """The first line from which on the marker is on the disk; none if it never is."""
        return min((line for line, data in self.durable if marker in data), default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", required=True)
    parser.add_argument("--asked", required=True)
    parser.add_argument("--log-folder", required=True, help="where the server's log segments are")
    options = parser.parse_args()
    trace = Trace(options.trace, options.log_folder)
    answers = {}
    checked, early = 0, []
    with open(options.asked) as file:
        for line in file:
            port, correlation, marker = line.split()
            if port not in answers:
                answers[port] = trace.answers(int(port))
            left = answers[port].get(int(correlation))
            check(left is not None, f"the trace has no answer to request {correlation} of port {port}")
            durable = trace.durable_at(marker.encode())
            if durable is None or durable >= left:
                early.append(f"{marker}: answered at line {left + 1}, durable "
                             + (f"at line {durable + 1}" if durable is not None else "never"))
            checked += 1
    print(f"  {checked} answers; {trace.log_writes} writes and {trace.log_syncs} syncs of the log")
    check(checked > 0, "nothing was asked")
    for sentence in early[:5]:
        print(f"  EARLY {sentence}")
    if early:
        print(f"  {len(early)} of {checked} answers left before their request was durable")
    return EARLY if early else 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
