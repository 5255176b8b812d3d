"""One chronik-server that is started and killed, and what a kill has interrupted, by what it left behind."""

import os
import re
import signal
import subprocess
import time

from common import check

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30

# What a kill can be aimed at, and be seen to have struck. The texts are for people.
STRUCK = {
    "start": "in a start or a recovery",
    "segment": "a segment of the log was being made",
    "checkpoint": "a checkpoint was being written",
    "tidying": "a pack was being written",
    "compaction": "a compacted partition was being written",
    "copy": "files were held for a backup or an upload",
    "upload": "an upload was under way",
    "object": "an object was being sent to the tier",
    "eviction": "a local copy was about to go",
    "cold read": "what only the store has was being read",
    "backup": "a backup was under way",
    "backup object": "an object was being sent to the backups",
    "sweep": "the store was being swept",
    "restore": "a restore was under way",
    "metadata": "a file of metadata was being written",
    "transaction": "a transaction was under way",
}


def names(folder):
    """The names in a folder that may be absent."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def with_end(folder, end):
    return {name for name in names(folder) if name.endswith(end)}


# How old the last block from the store is at most while something is being read there.
COLD_SECONDS_MAX = 0.03


class Places:
    """The folders of one world, and what is in the making there. `stores` begins the paths of the stores, if they are elsewhere."""

    def __init__(self, folder, stores=None):
        self.folder, self.data = folder, f"{folder}/data"
        self.tier, self.backups = (f"{stores or folder + '/'}{name}" for name in ("store", "backups"))

    def is_caching(self):
        """Whether something has come from the store just now."""
        cache = f"{self.data}/cache"
        for name in names(cache):
            try:
                if time.time() - os.stat(f"{cache}/{name}").st_mtime < COLD_SECONDS_MAX:
                    return True
            except FileNotFoundError:
                pass
        return False

    def words(self, store):
        """Who says in a store that something is being made there, and who that something is swept."""
        base = f"{store}/tier" if store == self.tier else store
        making = {name for directory in names(base) for name in names(f"{base}/{directory}/making")}
        sweeping = {directory for directory in names(base) if os.path.exists(f"{base}/{directory}/sweeping")}
        return making, sweeping

    def sending(self, store):
        return {name for name in names(f"{store}/.chronik-tmp") if name != "lock"}

    def making(self):
        """What would be interrupted now, by kind: names that are only there while something is made."""
        _, sweep = self.words(self.tier)
        backups, other_sweep = self.words(self.backups)
        return {
            "segment": with_end(f"{self.data}/wal", ".tmp"),
            "checkpoint": with_end(f"{self.data}/checkpoints", ".tmp"),
            "metadata": with_end(f"{self.data}/metadata", ".tmp"),
            "tidying": with_end(f"{self.data}/packs", ".tmp"),
            "copy": set(names(f"{self.data}/frozen")) - {"lock"},
            "object": self.sending(self.tier),
            "backup": backups,
            "backup object": self.sending(self.backups),
            "sweep": sweep | other_sweep,
        }


class Server:
    """A server on one port and one data directory, run after run."""

    def __init__(self, program, port, places, options, environment=None):
        self.program, self.port, self.places, self.options = program, port, places, options
        self.environment = {**os.environ, **(environment or {})}
        self.process, self.log, self.run = None, "", 0
        self.before = {}
        self.start_seconds = 0.05
        self.log_level, self.metrics_port = "debug", "off"

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def start(self, *options):
        """Starts it and waits for nothing."""
        self.run += 1
        self.log = f"{self.places.folder}/server.{self.run}.log"
        # What earlier kills have left in the stores stays for a while and says nothing about the next.
        self.before = self.places.making()
        self.began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "--bind-addr", "127.0.0.1", "--kafka-port", str(self.port), "--admin-port", "off",
                 "--metrics-port", self.metrics_port, "--log-level", self.log_level, "--data-dir", self.places.data, *self.options, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def ready(self):
        return " ready after " in self.said()

    def wait_until_ready(self):
        until = self.began + START_SECONDS_MAX
        while not self.ready():
            check(self.process.poll() is None, f"the server ended while starting: {self.said()[-2000:]}")
            check(time.monotonic() < until, f"the server is not ready after {START_SECONDS_MAX} s")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - self.began

    def kill(self):
        """kill -9, and what that has interrupted."""
        check(self.process.poll() is None, f"the server was gone before it was killed: {self.said()[-2000:]}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # Of a start that was not far, the files are those of the run before.
        cold = {"cold read"} if self.places.is_caching() else set()
        said = self.said()
        self.judge(said)
        return self.struck(said) | cold

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = None
        said = self.said()
        check(status == 0, f"a clean stop ended with status {status}: {said[-1000:]}")
        self.judge(said)

    def judge(self, said):
        """No error and nothing damaged may be in the log: whatever a kill left, a start copes with it."""
        # With the smallest segments a burst may come before the next one is reserved, and is sent again.
        said = said.replace("ERROR the disk is full: Produce is refused", "the disk is full: Produce is refused")
        wrong = re.findall(r"^\S+ ERROR .*$|^.*panicked.*$|^.*(?:damaged|corrupt).*$", said, re.MULTILINE)
        check(not wrong, f"the server says: {wrong[:3]} (in {self.log})")

    def struck(self, said):
        new = {kind for kind, found in self.places.making().items() if found - self.before.get(kind, set())}
        if " ready after " not in said:
            new.add("start")
        if "copy" in new and "backup" not in new:
            new.add("upload")
        if "tidying" in new:
            jobs = re.findall(r"(tidying|compacting) .* into packs/", said)
            if jobs and jobs[-1] == "compacting":
                new.add("compaction")
        going = re.findall(r"(wal/\d+\.log|packs/\d+\.seg) is in the object store only", said)
        if any(os.path.exists(f"{self.places.data}/{path}") for path in going):
            new.add("eviction")
        return new
