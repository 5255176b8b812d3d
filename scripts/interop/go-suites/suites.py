"""Runs the tests that Go clients publish in their modules and compares what two servers let them see.

    suites.py run BINARY --folder F --seconds N --out FILE [--names REGEX] [--like FILE] [--together]
    suites.py compare KAFKA OURS --exceptions FILE --suite NAME

`run` writes "RESULT NAME" lines, tests and their subtests, each test in a process of its own, and what fails is tried
once more. --together is for tests with a long preparation: one process first, and single ones for what it did not come
to and for what failed in it. With --like, tests in which nothing passed in that run are left out.
`compare` fails when something passed on Kafka and did not here, and when an exception matches nothing.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time

LINE = re.compile(r"^\s*--- (PASS|FAIL|SKIP): (\S+)")
# The servers' ports are in the names of some subtests.
PORT = re.compile(r"127\.0\.0\.1:\d+")
TRIES = 2


def run_tests(options, names, seconds):
    """The results of tests and their subtests in one process, and what it printed."""
    command = [options.binary, "-test.v", "-test.run", f"^({'|'.join(names)})$", "-test.timeout", f"{seconds}s"]
    process = subprocess.Popen(command, cwd=options.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", start_new_session=True)
    try:
        output = process.communicate(timeout=seconds + 30)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
    results = {}
    for line in output.splitlines():
        told = LINE.match(line)
        if told:
            results[PORT.sub("ADDRESS", told.group(2))] = told.group(1)
    if len(names) == 1 and process.returncode:
        results[names[0]] = "FAIL"
    return results, output


def part(results, name):
    """The results of one test and its subtests."""
    return {test: result for test, result in results.items() if test.split("/")[0] == name}


def read(path):
    results = {}
    with open(path) as file:
        for line in file:
            result, name = line.split(maxsplit=1)
            results[name.strip()] = result
    return results


def run(options):
    told = subprocess.run([options.binary, "-test.list", options.names], cwd=options.folder, capture_output=True, text=True)
    names = [name for name in told.stdout.split() if name.startswith("Test")]
    if options.like:
        before = read(options.like)
        names = [name for name in names
                 if any(result == "PASS" for test, result in before.items() if test.split("/")[0] == name)]
    if not names:
        sys.exit(f"no tests in {options.binary}: {told.stdout} {told.stderr}")
    logs = options.out + ".failed"
    os.makedirs(logs, exist_ok=True)
    first = {}
    if options.together:
        first, output = run_tests(options, names, options.seconds * len(names))
        with open(os.path.join(logs, "together.log"), "w") as log:
            log.write(output)
    with open(options.out, "w") as out:
        for number, name in enumerate(names, 1):
            begin = time.monotonic()
            results = part(first, name)
            for _ in range(TRIES):
                if name in results and "FAIL" not in results.values():
                    break
                results, output = run_tests(options, [name], options.seconds)
                results.setdefault(name, "PASS")
                if "FAIL" in results.values():
                    with open(os.path.join(logs, name + ".log"), "w") as log:
                        log.write(output)
            for test, result in results.items():
                out.write(f"{result} {test}\n")
            out.flush()
            if "FAIL" in results.values() or time.monotonic() - begin > 20:
                print(f"  {results[name]} {name} ({time.monotonic() - begin:.0f} s, {number} of {len(names)})", flush=True)
    return 0


def exceptions(path, suite):
    """The patterns for this suite, in lines "SUITE PATTERN" below comments that give the reason."""
    patterns = []
    with open(path) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, pattern = line.split(maxsplit=1)
                if name == suite:
                    patterns.append(pattern.strip())
    return patterns


def compare(options):
    kafka, ours = read(options.kafka), read(options.ours)
    allowed = exceptions(options.exceptions, options.suite)
    used, bad, alike = set(), [], 0
    for name, result in kafka.items():
        if result != "PASS":
            continue
        # A subtest that does not run here is its parent's failure.
        here = ours.get(name, "PASS" if "/" in name else "MISSING")
        if here == "PASS":
            alike += 1
            continue
        pattern = next((p for p in allowed if re.fullmatch(p, name)), None)
        if pattern:
            used.add(pattern)
        else:
            bad.append(f"{name} passes on Kafka and here: {here}")
    count = {result: sum(1 for r in kafka.values() if r == result) for result in ("PASS", "FAIL", "SKIP")}
    print(f"  {options.suite}: on Kafka {count['PASS']} pass, {count['FAIL']} fail, {count['SKIP']} are skipped; "
          f"here {alike} of those that pass there pass, {len(bad)} do not, {len(used)} exceptions")
    for pattern in set(allowed) - used:
        print(f"  an exception matches nothing: {options.suite} {pattern}")
    for line in bad:
        print(f"  {line}")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.set_defaults(call=run)
    one.add_argument("binary")
    one.add_argument("--folder", required=True)
    one.add_argument("--seconds", type=int, required=True, help="for each test")
    one.add_argument("--out", required=True)
    one.add_argument("--names", default=".")
    one.add_argument("--like", help="results of another run: only tests in which something passed there")
    one.add_argument("--together", action="store_true")
    two = commands.add_parser("compare")
    two.set_defaults(call=compare)
    two.add_argument("kafka")
    two.add_argument("ours")
    two.add_argument("--exceptions", required=True)
    two.add_argument("--suite", required=True)
    options = parser.parse_args()
    return options.call(options)


if __name__ == "__main__":
    sys.exit(main())
