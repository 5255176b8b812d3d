"""Kills a server again and again under load and holds it against what it had promised; scripts/crash says more.

Everything that is decided (which options a server has, how and when it is killed) comes from --seed; when exactly a kill
strikes depends on the machine. A *world* is one data directory with its stores, its clients and some dozens of kills.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from common import check, eventually, main_guard
from power_cut import PowerCut
from promises import Judge, Promises
from server import STRUCK, Places, Server, names

KILLS_PER_WORLD = 40
# A full reading every so many kills, and at the end of a world.
FULL_EVERY = 20
# How long a server serves, and how long what is aimed at is waited for; what goes to another process takes longer.
LIFE_SECONDS_MAX = {"s3": 4, "folder": 1.2, "none": 1.2}
SLIP_SECONDS_MAX = {"s3": 0.03, "folder": 0.004, "none": 0.004}
TIERED = ["--upload-interval", "1s", "--storage-free-bytes", "1000000GiB"]
BUCKET = "crashes"
SMALL = ["--log-segment-bytes", "16MiB", "--log-roll-ms", "1000", "--log-cleaner-backoff-ms", "100",
         "--log-retention-check-interval-ms", "500", "--auto-create-topics-enable", "false"]


class World:
    """What is decided about a server before it is started."""

    def __init__(self, options, number):
        chance = random.Random(f"{options.seed}-{number}")
        self.number, self.options = number, options
        self.folder = f"{options.work}/world-{number}"
        os.makedirs(f"{self.folder}/journals")
        self.chance = chance
        # Every third does without the default: a kill loses nothing then either, but a power cut does.
        always = options.power_cuts or number % 3 != 2
        self.fsync = "always" if always else chance.choice(["interval=50", "never"])
        # Metadata in files can't be copied while a server runs, so there is no store then.
        self.files = chance.random() < 0.2 and not options.storage
        self.tier = chance.choice(["folder", "folder", "s3" if options.s3 else "folder", "none"]) if not self.files else "none"
        self.tier = options.storage or self.tier
        self.backups = not self.files and chance.random() < 0.7
        in_s3 = self.tier == "s3"
        self.tier_url, self.backup_url = (f"s3://{BUCKET}/world-{number}-{name}" if in_s3 else f"file://{self.folder}/{name}"
                                          for name in ("store", "backups"))
        self.places = Places(self.folder, options.s3_folder and f"{options.s3_folder}/world-{number}-" if in_s3 else None)
        # What can be seen from outside of what is being done there.
        self.shows_tier = self.tier == "folder" or (in_s3 and bool(options.s3_folder))
        self.consumer_protocol = chance.random() < 0.7
        self.cut = PowerCut(options.faulty_disk, self.folder) if options.power_cuts else None

    def tier_arguments(self):
        if self.tier == "folder":
            return [*TIERED, "--local-storage-path", f"{self.folder}/store"]
        if self.tier == "s3":
            return [*TIERED, "--storage", "s3", "--s3-bucket", BUCKET, "--s3-prefix", f"world-{self.number}-store"]
        return []

    def arguments(self):
        chosen = [*SMALL, "--fsync", self.fsync, *self.tier_arguments()]
        chosen += ["--file-metadata"] if self.files else []
        return chosen

    def backup_arguments(self, turn):
        """No upload begins while a backup is made, so where both take long it is now one and then the other."""
        if not self.backups or (self.tier == "s3" and turn % 2):
            return []
        return ["--enable-backup", "--backup-url", self.backup_url, "--backup-interval", "1s", "--backup-keep", "3"]

    def environment(self):
        """Of servers and tools: where S3 is, and the faulty disk."""
        return {"S3_ENDPOINT": self.options.s3 or ""} if self.tier == "s3" else {}

    def aims(self):
        """What can be under way here."""
        found = ["segment", "checkpoint", "tidying"]
        found += ["metadata"] if self.files else []
        found += ["copy", "cold read", "eviction"] if self.tier != "none" else []
        found += ["sweep"] if self.shows_tier else []
        found += ["object"] if self.tier == "folder" else []
        if self.backups:
            found += ["backup", "sweep"] if self.tier != "s3" or self.shows_tier else []
            found += ["backup object"] if self.tier != "s3" else []
        return found

    def __str__(self):
        metadata = "metadata in files" if self.files else f"tier {self.tier}, backups {'yes' if self.backups else 'no'}"
        return f"fsync {self.fsync}, {metadata}{', power cuts' if self.cut else ''}"


class Clients:
    """The processes that load a server, and their promises."""

    def __init__(self, world, bootstrap):
        self.world, self.bootstrap, self.processes = world, bootstrap, {}
        self.journals = f"{world.folder}/journals"
        self.promises = Promises(self.journals)

    def start(self):
        told = json.dumps({"consumer_protocol": self.world.consumer_protocol})
        actors = str(Path(__file__).with_name("actors.py"))
        self.spawn("actors", [sys.executable, actors, "--bootstrap", self.bootstrap, "--journals", self.journals, "--with", told])
        if self.world.options.loadgen:
            for name, more in (("wide", ["--partitions", "50"]), ("packed", ["--partitions", "6", "--compression", "zstd"])):
                self.spawn(name, [self.world.options.loadgen, "verify-acked", "--brokers", self.bootstrap, "--topic", name,
                                  "--file", self.acked(name), "--rate", "300", "--seconds", "100000", *more])

    def acked(self, name):
        return f"{self.world.folder}/{name}.acked"

    def spawn(self, name, command):
        with open(f"{self.world.folder}/{name}.out", "wb") as out:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def said(self, name):
        return Path(f"{self.world.folder}/{name}.out").read_text(errors="replace")[-3000:]

    def are_there(self):
        for name, process in self.processes.items():
            check(process.poll() is None, f"{name} ended by itself: {self.said(name)}")
        begun = [f"{self.journals}/ready", *(self.acked(name) for name in self.processes if name != "actors")]
        return all(os.path.exists(path) for path in begun)

    def finish(self):
        """Lets everybody finish while the server serves."""
        self.are_there()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            status = process.wait(200)
            check(status == 0, f"{name} ended with status {status}: {self.said(name)}")
        self.processes = {}

    def full_check(self, bootstrap, final):
        self.promises.read()
        Judge(bootstrap, self.promises).full(final)
        for name in ("wide", "packed") if self.world.options.loadgen else ():
            if not os.path.exists(self.acked(name)):
                continue
            done = subprocess.run([self.world.options.loadgen, "check-acked", self.acked(name), "--brokers", bootstrap,
                                   "--idle-timeout", "60s"], capture_output=True, text=True, timeout=300)
            check(done.returncode == 0, f"check-acked of {name}: {done.stdout[-1500:]} {done.stderr[-1500:]}")

    def kill(self):
        for process in self.processes.values():
            process.kill()


class Loop:
    """All worlds, one after the other, and the figures."""

    def __init__(self, options):
        self.options = options
        self.kills, self.struck, self.modes = 0, Counter(), Counter()
        self.full_checks, self.quick_checks, self.acknowledged = 0, 0, 0
        self.starts, self.began = [], time.monotonic()

    def run(self):
        number = self.options.first_world
        while self.kills < self.options.kills:
            world = World(self.options, number)
            print(f"world {number}: {world}", flush=True)
            self.live(world)
            shutil.rmtree(world.folder)
            for place in (world.places.tier, world.places.backups):
                shutil.rmtree(place, ignore_errors=True)
            if world.cut:
                shutil.rmtree(world.cut.journal)
            number += 1
            self.tell()
        return 0

    def tell(self):
        struck = ", ".join(f"{kind} {self.struck[kind]}" for kind in STRUCK if self.struck[kind])
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(self.modes.items()))
        starts = sorted(self.starts) or [0]
        print(f"{self.kills} kills ({modes}) in {time.monotonic() - self.began:.0f} s; struck: {struck}; "
              f"{self.acknowledged} events acknowledged, {self.full_checks} full checks, {self.quick_checks} quick ones; "
              f"starts: median {1000 * starts[len(starts) // 2]:.0f} ms, longest {1000 * starts[-1]:.0f} ms", flush=True)

    def live(self, world):
        server = Server(self.options.server, self.options.port, world.places, world.arguments(),
                        {**world.environment(), **(world.cut.environment() if world.cut else {})})
        clients = Clients(world, server.bootstrap)
        try:
            budget = min(KILLS_PER_WORLD, self.options.kills - self.kills)
            for turn in range(budget):
                self.round(world, server, clients, turn)
            self.close(world, server, clients)
        except BaseException:
            print(f"the world: {world.folder}; the server's log is {server.log}", flush=True)
            raise
        finally:
            clients.kill()
            if server.process and server.process.poll() is None:
                server.process.kill()

    def round(self, world, server, clients, turn):
        chance = world.chance
        # All is drawn at once, so that one decision does not depend on how another one went.
        mode = chance.choices(["starting", "any moment", "aimed"], [4, 3, 3])[0]
        when, aim, slip = chance.random(), chance.choice(world.aims()), chance.random() * SLIP_SECONDS_MAX[world.tier]
        goes_on = chance.random() < 0.25
        # The first starts are killed on an empty directory.
        mode = "starting" if turn < 3 else mode
        server.start(*world.backup_arguments(turn))
        if mode == "starting":
            time.sleep(when * server.start_seconds * 1.3)
        else:
            self.serve(world, server, clients, turn)
            if mode == "any moment":
                time.sleep(LIFE_SECONDS_MAX[world.tier] * when)
            else:
                self.aim(server, aim, slip, LIFE_SECONDS_MAX[world.tier])
        self.count(server.kill(), mode, clients)
        if world.cut and goes_on:
            world.cut.go_on()
        elif world.cut:
            world.cut.undo(chance)
        if turn % FULL_EVERY == FULL_EVERY - 1:
            self.verify(world)

    def serve(self, world, server, clients, turn):
        """Waits until the server serves, and looks whether everything is there."""
        server.wait_until_ready()
        self.starts.append(server.start_seconds)
        if not clients.processes:
            clients.start()
            eventually(30, "the clients are under way", clients.are_there)
        clients.are_there()
        if turn % FULL_EVERY == FULL_EVERY - 1:
            clients.full_check(server.bootstrap, final=False)
            self.full_checks += 1
        else:
            self.acknowledged += clients.promises.read()
            Judge(server.bootstrap, clients.promises).quick()
            self.quick_checks += 1

    def aim(self, server, kind, slip, seconds):
        """Waits until something of this kind is under way, but not for ever."""
        until = time.monotonic() + seconds
        seen = len(server.said())
        while time.monotonic() < until:
            if kind == "eviction":
                if "is in the object store only" in server.said()[seen:]:
                    return
            elif kind == "cold read":
                if server.places.is_caching():
                    time.sleep(slip)
                    return
            elif server.places.making()[kind] - server.before[kind]:
                time.sleep(slip)
                return
            time.sleep(0.0005)

    def count(self, struck, mode, clients):
        self.kills += 1
        self.modes[mode] += 1
        self.acknowledged += clients.promises.read()
        under_way = any(began not in clients.promises.ended[name] and began >= 0
                        for name, began in clients.promises.began.items())
        self.struck.update(struck | ({"transaction"} if under_way else set()))

    def tool(self, *arguments, check_status=True, environment=None):
        done = subprocess.run([self.options.tool, *arguments], capture_output=True, text=True, timeout=120,
                              env={**os.environ, **(environment or {})})
        check(not check_status or done.returncode == 0,
              f"chronik {' '.join(arguments)} ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        return done

    def verify(self, world):
        """What a kill leaves is sound: a torn tail at most."""
        self.tool("wal", "verify", "--data-dir", world.places.data)

    def close(self, world, server, clients):
        """The end of a world: everybody finishes; then all must be there as it runs, after a kill and after a clean stop."""
        server.start(*world.backup_arguments(0))
        self.serve(world, server, clients, 0)
        clients.finish()
        clients.promises.read()
        clients.promises.all_took_part()
        for how in ("as it runs", "after a kill", "after a clean stop"):
            clients.full_check(server.bootstrap, final=True)
            self.full_checks += 1
            if how == "as it runs":
                self.count(server.kill(), "any moment", clients)
                if world.cut:
                    world.cut.undo(world.chance)
                server.start(*world.backup_arguments(1))
                server.wait_until_ready()
            elif how == "after a kill":
                server.stop()
                self.verify(world)
                server.start(*world.backup_arguments(1))
                server.wait_until_ready()
        self.leftovers(world, server)
        self.restores(world, server, clients)

    def leftovers(self, world, server):
        """Temporary files and second names are gone once a server has started and is at rest, and the stores hold no orphans."""
        _, sweeping = world.places.words(world.places.tier)
        if sweeping:
            # The word of a sweep that was killed counts for an hour.
            print(f"  {len(self.orphans(world.places))} orphans in the store, until a killed sweep counts no more", flush=True)
        elif world.shows_tier:
            eventually(150, "what interrupted uploads left is swept", lambda: not self.orphans(world.places))
        server.stop()
        left = {kind: found for kind, found in world.places.making().items()
                if found and kind not in ("backup", "sweep")}
        check(not left, f"kills have left behind: {left}")
        frozen = set(names(f"{world.places.data}/frozen")) - {"lock"}
        check(not frozen, f"a backup's second names are left: {sorted(frozen)[:5]}")

    def orphans(self, places):
        """Objects of the tier that no manifest names."""
        base = f"{places.tier}/tier"
        named, there = set(), set()
        for directory in names(base):
            for manifest in names(f"{base}/{directory}/manifests"):
                try:
                    lines = Path(f"{base}/{directory}/manifests/{manifest}").read_text().splitlines()
                except FileNotFoundError:
                    # Another upload has taken its place; its objects count as orphans until the next look.
                    continue
                begins = 0
                for words in (line.split(" ") for line in lines):
                    if words[0] == "segment":
                        named.add(f"{words[4]}-{words[3]}-{words[1]}")
                    elif words[0] == "tail":
                        named.add(f"{words[4]}-{words[3]}-{begins}_{words[1]}")
                        begins += int(words[1])
            for kind in ("wal", "packs"):
                there |= {f"{kind}/{name}" for name in names(f"{base}/{directory}/segments/{kind}")}
        return there - named

    def restores(self, world, server, clients):
        """Restores that are killed: the same command, run again, comes to its end, and what it made is whole."""
        ways = []
        if self.options.restores == 0:
            return
        if world.backups and self.tool("-q", "backup", "list", "--url", world.backup_url, environment=world.environment()).stdout:
            ways.append(("a backup", self.restore_by_tool))
        if world.tier != "none":
            ways.append(("the tier", self.restore_by_server))
        for what, way in ways:
            shutil.rmtree(f"{world.folder}/restored", ignore_errors=True)
            way(world, server, clients)
            print(f"  restored from {what}: whole", flush=True)

    def killed(self, command, folder, seconds, environment=None):
        """Runs a command that makes a data directory, for so long; None if it was killed, else its status."""
        with open(f"{folder}.out", "ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env={**os.environ, **(environment or {})})
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.kills += 1
            self.modes["restore"] += 1
            if os.path.exists(f"{folder}/chronik.restoring"):
                self.struck["restore"] += 1
            return None

    def restore_by_tool(self, world, server, clients):
        into = f"{world.folder}/restored"
        environment = world.environment()
        command = [self.options.tool, "backup", "restore", "--url", world.backup_url, "--into", into]
        begun = time.monotonic()
        self.tool(*command[1:], environment=environment)
        took = time.monotonic() - begun
        for _ in range(self.options.restores):
            shutil.rmtree(into)
            # Killed twice, then run to its end.
            status = [self.killed(command, into, took * world.chance.random(), environment) for _ in range(2)]
            # It may be killed when it has just come to its end.
            is_there = os.path.exists(f"{into}/chronik.dir") and not os.path.exists(f"{into}/chronik.restoring")
            whole = 0 in status or is_there
            done = self.tool(*command[1:], check_status=False, environment=environment)
            if not whole or done.returncode == 0:
                check(done.returncode == 0, f"a restore does not go on after kills: {done.stderr}")
            else:
                check("not empty" in done.stderr, f"a restore into a restored directory says: {done.stderr}")
        self.serve_restored(world, server, clients, into, [])

    def restore_by_server(self, world, server, clients):
        into = f"{world.folder}/restored"
        more = [*world.tier_arguments(), "--restore-from", world.tier_url]
        command = [self.options.server, "--bind-addr", "127.0.0.1", "--kafka-port", str(self.options.port), "--admin-port", "off",
                   "--metrics-port", "off", "--data-dir", into, *SMALL, *more]
        took = self.serve_restored(world, server, None, into, more)
        for _ in range(self.options.restores):
            shutil.rmtree(into, ignore_errors=True)
            for _ in range(2):
                status = self.killed(command, into, took * world.chance.random(), world.environment())
                check(status is None, f"--restore-from ended with {status}: {Path(into + '.out').read_text()[-2000:]}")
            self.serve_restored(world, server, None, into, more)
        self.serve_restored(world, server, clients, into, more)

    def serve_restored(self, world, server, clients, folder, more):
        """A server on a restored directory starts, and serves one moment of what `clients` were promised; how long the start took."""
        places = Places(world.folder)
        places.data = folder
        restored = Server(self.options.server, self.options.port, places, [*SMALL, *more], world.environment())
        restored.run = server.run
        restored.start()
        try:
            restored.wait_until_ready()
            if clients:
                Judge(restored.bootstrap, clients.promises, cut=True).full(final=True)
            restored.stop()
            self.tool("wal", "verify", "--data-dir", folder)
            return restored.start_seconds
        finally:
            server.run = restored.run
            if restored.process.poll() is None:
                restored.process.kill()


def leave(*_):
    sys.exit("stopped")


def main():
    signal.signal(signal.SIGTERM, leave)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-world", type=int, default=1, help="begin with this world of the seed")
    parser.add_argument("--server", required=True, metavar="PROGRAM")
    parser.add_argument("--tool", required=True, metavar="PROGRAM")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work", required=True, metavar="FOLDER")
    parser.add_argument("--loadgen", metavar="PROGRAM", help="a load generator with verify-acked and check-acked")
    parser.add_argument("--s3", metavar="URL", help=f"a store with a bucket `{BUCKET}`")
    parser.add_argument("--s3-folder", metavar="FOLDER", help="where that bucket's objects are files")
    parser.add_argument("--storage", choices=["folder", "s3", "none"], help="the tier of every world; by the seed without it")
    parser.add_argument("--restores", type=int, default=4, help="of each kind per world, each killed twice")
    parser.add_argument("--power-cuts", action="store_true", help="each kill undoes what was not synced")
    parser.add_argument("--faulty-disk", metavar="LIBRARY")
    return Loop(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main_guard(main))
