# SPDX-License-Identifier: LGPL-2.1-or-later
"""Control groups of the machine that the tests run on: each test's own, removed at its end."""

import itertools
import os
import pathlib

import harness

MAGIC = 0x63677270  # CGROUP2_SUPER_MAGIC
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
counter = itertools.count()


def mount():
    """Where the unified hierarchy is and can be written; None if there is none."""
    for path in map(pathlib.Path, MOUNTS):
        if (path / "cgroup.controllers").exists() and os.access(path, os.W_OK):
            probe = path / f"spe-broker-probe-{os.getpid()}"
            try:
                probe.mkdir()
                probe.rmdir()
            except OSError:
                continue
            return path
    return None


def path_of(pid):
    """As the kernel says where a process is."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


class Group:
    """A group that is empty at first; path is as in /proc/PID/cgroup."""

    def __init__(self, name=None, uid=0):
        self.path = name or f"/spe-broker-test-{os.getpid()}-{next(counter)}"
        self.directory = pathlib.Path(f"{mount()}{self.path}")
        self.uid = uid
        self.make()

    def make(self):
        self.directory.mkdir()
        os.chown(self.directory, self.uid, self.uid)

    def below(self, name):
        return Group(f"{self.path}/{name}", self.uid)

    def add(self, process):
        (self.directory / "cgroup.procs").write_text(str(getattr(process, "pid", process)))

    def populated(self):
        return "populated 1" in (self.directory / "cgroup.events").read_text().splitlines()

    def remove(self):
        """Also what is below it; once the last process has ended."""
        if not self.directory.exists():
            return
        for path in sorted(self.directory.rglob("*/"), reverse=True):
            if path.is_dir():
                harness.wait_for(lambda p=path: self.try_remove(p), f"{path} to be empty")
        harness.wait_for(lambda: self.try_remove(self.directory), f"{self.directory} to be empty")

    @staticmethod
    def try_remove(path):
        try:
            path.rmdir()
        except OSError:
            return False
        return True

    def leave(self):
        """Its processes go back to the root."""
        for pid in (self.directory / "cgroup.procs").read_text().split():
            (mount() / "cgroup.procs").write_text(pid)
