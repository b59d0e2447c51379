# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon of the chaos test, as systemd runs it and by itself, and the host that it finds."""

import collections
import os
import socket
import time

import chaos_books
import harness
import pid1
from tree import Tree

CPUS = 32
SPUS = {0: "0-3", 1: "4-11", 2: "12-15", 3: "16-31"}
GROUP = 54321
REVOKE_GRACE = GONE_GRACE = 1_000_000
CONFIG = f"""[Policy]
AcquireGroup={GROUP}
RevokeGraceSec={REVOKE_GRACE // 1_000_000}
GoneGraceSec={GONE_GRACE // 1_000_000}
"""


def big_little(root):
    """Like a host with two sorts of CPUs, twice."""
    tree = Tree(root, f"0-{CPUS - 1}")
    for number, cpus in SPUS.items():
        tree.instance(number, cpus, type=8 + number)
    return tree


class Life:
    """What both kinds of daemons have in common: a log of each life, and how it is waited for."""

    def spawn(self):
        (self.root / "stderr").unlink(missing_ok=True)
        super().spawn()
        self.pidfd = os.pidfd_open(self.process.pid)
        return self

    def is_dead(self):
        return bool(harness.ready([self.pidfd], 0))

    def wait_ready(self):
        """False if it died instead."""
        deadline = time.monotonic() + harness.DEADLINE
        while not self.is_ready():
            if harness.ready([self.pidfd], 0.001):
                return False
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready within {harness.DEADLINE} s\n{self.read_log()}")
        return True

    def bury(self):
        """Its exit status, once it has ended."""
        if not harness.ready([self.pidfd], harness.DEADLINE):
            raise AssertionError(f"the daemon does not end\n{self.read_log()}")
        os.close(self.pidfd)
        return self.reap(harness.DEADLINE)

    def descriptors(self):
        """Number of sockets, pidfds by process (-1: dead), and others by what they are."""
        sockets, pids, others = 0, collections.Counter(), collections.Counter()
        base = f"/proc/{self.process.pid}"
        for fd in os.listdir(f"{base}/fd"):
            try:
                what = os.readlink(f"{base}/fd/{fd}")
                if what.startswith("socket:"):
                    sockets += 1
                elif what == "anon_inode:[pidfd]":
                    pids[pid_of(f"{base}/fdinfo/{fd}")] += 1
                elif what != harness.PROGRAM:  # an emulator may have that
                    others[what] += 1
            except FileNotFoundError:
                pass  # it has been closed
        return sockets, pids, others


class Kept(Life, pid1.Service):
    """A service of systemd: its socket, and what it stores, outlive it."""

    can_queue = True

    def __init__(self, root, **kwargs):
        super().__init__(root, **kwargs)
        self.socket_path.parent.mkdir(parents=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.listener.bind(str(self.socket_path))
        self.socket_path.chmod(0o666)
        self.listener.listen(1024)

    def is_ready(self):
        with self.news:
            return any(fields.get("READY") == "1" for fields in self.messages)

    def forget(self):
        """The unit is stopped."""
        with self.news:
            while self.store:
                self.drop(self.store[0])

    def stored_owners(self):
        """The processes whose pidfds are stored, by what those are called."""
        with self.news:
            stored = [(s.name.split("-"), pid_of(f"/proc/self/fdinfo/{s.fd}")) for s in self.store]
        for (word, pid, _), found in stored:
            chaos_books.need(word == "owner" and found in (int(pid), -1), "stored is something else:", pid, found)
        return sorted(int(pid) for (_, pid, _), _ in stored)

    def end(self):
        self.dismiss()
        self.listener.close()


class Alone(Life, harness.Broker):
    """Started by hand: nothing is kept for it."""

    can_queue = False

    def is_ready(self):
        try:
            return "READY=1" in self.notify.recv(65536, socket.MSG_DONTWAIT).decode().split("\n")
        except BlockingIOError:
            return False

    def forget(self):
        pass

    def stored_owners(self):
        return None

    def end(self):
        self.stop()


def pid_of(path):
    with open(path, encoding="ascii") as f:
        return next((int(line.split()[1]) for line in f if line.startswith("Pid:")), 0)
