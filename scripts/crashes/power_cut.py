"""Makes a power cut of a kill -9: undoes what faulty_disk.c has written down and no fsync had made durable.

Of the writes to a file that were not synced all, none or some survive, and of some only a part of their sectors; of the
changes of folders that were not synced all, none or the first few. What survives is durable from then on.
"""

import os
import shutil
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

WRITE, TRUNCATE, EXTEND, SYNC, CREATE, LINK, UNLINK, RENAME, MKDIR, RMDIR, SYNC_FOLDER = range(1, 12)
HEAD = struct.Struct("<10Q")
SECTOR_BYTES = 512


@dataclass
class Entry:
    """One entry of the journal, as in faulty_disk.c."""
    kind: int
    number: int
    inode: int
    position: int
    length: int
    old_length: int
    before: bytes
    after: bytes
    path: str
    other: str


def entries(data):
    """The whole entries, and how many bytes they are; the last one may be torn, and then it did not happen."""
    found, at = [], 0
    while at + HEAD.size <= len(data):
        *numbers, before, after, path, other = HEAD.unpack_from(data, at)
        lengths = before, after, path, other
        if at + HEAD.size + sum(lengths) > len(data):
            break
        at += HEAD.size
        parts = []
        for length in lengths:
            parts.append(data[at:at + length])
            at += length
        found.append(Entry(*numbers, parts[0], parts[1], parts[2].decode(), parts[3].decode()))
    return found, at


class PowerCut:
    """The journal of one folder."""

    def __init__(self, library, folder):
        self.library, self.root = library, folder
        self.journal = f"{folder}.journal"
        self.undone, self.survived = 0, 0
        self.clear()

    def clear(self):
        shutil.rmtree(self.journal, ignore_errors=True)
        os.makedirs(self.journal)

    def environment(self):
        return {"LD_PRELOAD": self.library, "FAULTY_ROOT": self.root, "FAULTY_JOURNAL": self.journal}

    def read(self):
        path = Path(self.journal, "ops")
        data = path.read_bytes() if path.exists() else b""
        found, whole = entries(data)
        if whole < len(data):
            os.truncate(path, whole)
        return found

    def go_on(self):
        """A kill without a power cut: what is not durable stays so."""
        self.read()

    def undo(self, chance):
        """The power cut. `chance` decides what survives."""
        found = self.read()
        self.undo_files(found, chance)
        self.undo_folders(found, chance)
        self.clear()

    def undo_files(self, found, chance):
        synced = defaultdict(int)
        for entry in found:
            if entry.kind == SYNC:
                synced[entry.inode] = max(synced[entry.inode], entry.position)
        pending = defaultdict(list)
        for entry in found:
            if entry.kind in (WRITE, TRUNCATE, EXTEND) and entry.number > synced[entry.inode]:
                pending[entry.inode].append(entry)
        for inode, those in pending.items():
            with open(f"{self.journal}/i{inode}", "r+b") as file:
                for entry in reversed(those):
                    self.take_back(file, entry)
                share = chance.choice([0, 0, 0.5, 1])
                for entry in those:
                    survives = chance.random() < share
                    self.survived += survives
                    self.undone += not survives
                    if survives:
                        self.do_again(file, entry, chance, is_torn=share < 1)

    @staticmethod
    def take_back(file, entry):
        if entry.before:
            file.seek(entry.position)
            file.write(entry.before)
        file.truncate(entry.old_length)

    @staticmethod
    def do_again(file, entry, chance, is_torn):
        if entry.kind == TRUNCATE:
            file.truncate(entry.position)
        elif entry.kind == EXTEND:
            file.truncate(max(os.fstat(file.fileno()).st_size, entry.position))
        else:
            is_torn = is_torn and chance.random() < 0.5
            for at in range(0, entry.length, SECTOR_BYTES) if is_torn else (0,):
                if not is_torn or chance.random() < 0.5:
                    file.seek(entry.position + at)
                    file.write(entry.after[at:at + SECTOR_BYTES] if is_torn else entry.after)

    def undo_folders(self, found, chance):
        synced = defaultdict(int)
        for entry in found:
            if entry.kind == SYNC_FOLDER:
                synced[entry.path] = max(synced[entry.path], entry.position)

        def is_pending(entry):
            folders = [os.path.dirname(path) for path in (entry.path, entry.other if entry.kind == RENAME else "") if path]
            if entry.kind == LINK:
                folders = [os.path.dirname(entry.other)]
            return any(entry.number > synced[folder] for folder in folders)

        pending = [e for e in found if e.kind in (CREATE, LINK, UNLINK, RENAME, MKDIR, RMDIR) and is_pending(e)]
        kept = chance.choice([0, 0, chance.randint(0, len(pending)), len(pending)])
        self.survived += kept
        self.undone += len(pending) - kept
        for entry in reversed(pending[kept:]):
            # A file that was moved to another folder is there once that one is synced, and may still be where it was, too.
            has_arrived = entry.kind == RENAME and entry.number <= synced[os.path.dirname(entry.other)]
            self.take_back_name(entry, has_arrived)

    def take_back_name(self, entry, has_arrived):
        # What a later change that is durable has made of the name stays.
        if entry.kind in (CREATE, LINK):
            name = entry.path if entry.kind == CREATE else entry.other
            if self.is_inode(name, entry.inode):
                os.unlink(name)
        elif entry.kind == UNLINK:
            self.put_back(entry.path, entry.inode)
        elif entry.kind == RENAME:
            if self.is_inode(entry.other, entry.inode) and not has_arrived:
                os.unlink(entry.other)
                if entry.position:
                    self.put_back(entry.other, entry.position)
            self.put_back(entry.path, entry.inode)
        elif entry.kind == MKDIR:
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.kind == RMDIR:
            os.makedirs(entry.path, exist_ok=True)

    @staticmethod
    def is_inode(name, inode):
        try:
            return os.stat(name).st_ino == inode
        except (FileNotFoundError, NotADirectoryError):
            return False

    def put_back(self, name, inode):
        held = f"{self.journal}/i{inode}"
        if os.path.exists(held) and not os.path.exists(name) and os.path.isdir(os.path.dirname(name)):
            os.link(held, name)
