# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many VMMs, an administrator, and a daemon that is killed again and again: the world of the chaos test. Who does
what, and when the daemon dies, follows from the seed and the round's number; how the processes interleave does not.
One process drives everything, so that the books (chaos_books.py) see all of it in one order."""

import collections
import json
import os
import random
import select
import signal
import time

import chaos_books
import chaos_points
import harness
import sizes
import wire
from chaos_acts import Acts
from chaos_daemon import GONE_GRACE, REVOKE_GRACE, SPUS
from chaos_vmm import Line, Vmm, Watcher, usec

VMMS = 20
POINT_TRIES = 15
MAY_WAIT = ("Acquire", "Follow")
LINGER = 5  # seconds that an owner without leases may still be stored; the daemon means one


def saved_assignments(root):
    """What the files say, as Assigned has it."""
    found, unassigned = {}, {}
    for origin, directory in (("persistent", "var/lib"), ("runtime", "run")):
        try:
            said = json.loads((root / directory / "spe-broker/assignments.json").read_bytes())
        except FileNotFoundError:
            continue
        gone = unassigned if said.get("id") == unassigned.get("id") else {}
        unassigned = said.get("unassigned", {})
        found |= {(origin, cpu): (a["owner"], a["vm"]) for a in said["assignments"]
                  for cpu in sizes.cpus(a["cpus"]) - sizes.cpus(gone.get("cpus", ""))}
    return found


class World(Acts):
    """One daemon, and everybody about it."""

    def __init__(self, daemon, seed):
        self.daemon, self.seed = daemon, seed
        self.books = chaos_books.Books(REVOKE_GRACE, GONE_GRACE)
        self.points = chaos_points.Points(daemon)
        self.lines = {}  # fd: whoever reads from it
        self.history = collections.deque(maxlen=200)
        self.admin = self.watcher = None
        self.names = 0
        self.out = set()  # numbers of SPUs that are not there
        self.off = set()  # CPUs off line
        self.lingering = {}  # pid: since when it has been stored without leases
        self.types = {number: 8 + number for number in SPUS}
        self.deaths = collections.Counter()
        self.restarts = self.reborn = 0
        self.began = time.monotonic()
        self.vmms = []
        self.rng = random.Random(f"{seed}")
        for i in range(VMMS):
            self.vmms.append(self.new_vmm(i))

    def new_vmm(self, i):
        vmm = Vmm(self, 0 if i % 2 else 20000 + i)
        if vmm.number in self.books.dead:  # that was another one's pid
            for line in [line for line in self.lines.values() if line.pid == vmm.number]:
                line.hang_up()
            self.books.born(vmm.number)
        return vmm

    def say(self, text):
        self.history.append(f"{time.monotonic() - self.began:9.4f} {text}")

    # Everything that happens by itself

    def look_for_dead(self):
        pidfds = {vmm.pidfd: vmm for vmm in self.vmms if vmm.pidfd >= 0 and vmm.number not in self.books.dead}
        for fd in harness.ready(list(pidfds), 0):
            self.say(f"{pidfds[fd].number} is dead")
            self.books.died(pidfds[fd].number)
            pidfds[fd].bury()

    def pump(self, timeout=0.0, until=None):
        """Reads what arrives, until the condition holds, at the latest after timeout. False: it does not."""
        deadline = time.monotonic() + timeout
        while True:
            if until and until():
                return True
            poll = select.poll()
            for fd in self.lines:
                poll.register(fd, select.POLLIN)
            if self.daemon.process:
                poll.register(self.daemon.pidfd, select.POLLIN)
            found = [fd for fd, _ in poll.poll(max(deadline - time.monotonic(), 0) * 1000)]
            for fd in found:
                if fd in self.lines:
                    self.lines[fd].feed()
            if self.daemon.process and self.daemon.pidfd in found:
                return bool(until and until())
            if not found and time.monotonic() >= deadline:
                return bool(until and until())

    def drain(self):
        """After a death: all that was sent is read, and who was served hears that nothing more comes."""
        for fd in list(self.lines):
            while fd in self.lines and self.lines[fd].feed():
                pass

    # Life and death of the daemon

    def start(self):
        """It is up, however often it dies before."""
        while True:
            self.look_for_dead()
            self.books.up()
            self.daemon.spawn()
            if self.daemon.wait_ready():
                break
            self.fallen("start")
            self.points.disarm()
        self.points.disarm()
        self.say(f"--- started, pid {self.daemon.process.pid}")

    def fallen(self, how):
        """It is dead or about to be."""
        code = self.daemon.bury()
        chaos_books.need(code == (0 if how in ("term", "stop") else -signal.SIGKILL), f"{how}: exit status {code}",
                         self.daemon.log)
        self.drain()
        self.admin = self.watcher = None
        self.restarts += 1
        self.deaths[how] += 1
        self.say(f"--- {how}: it has exited with {code}")

    def strike(self, how):
        """Ends it, as how says."""
        if self.daemon.is_dead():
            return
        self.say(f"--- {how}")
        self.daemon.process.send_signal(signal.SIGTERM if how in ("term", "stop") else signal.SIGKILL)

    # What is compared

    def look(self):
        """A snapshot into the books, and whatever else there is to see. What may still change is returned."""
        watcher = Watcher(self)
        snapshot = watcher.first()
        leases = snapshot["leases"]
        late = self.books.snapshot(leases, snapshot["instances"], watcher.now, usec())
        late += self.check_host(snapshot["instances"])
        if not self.watcher or not self.watcher.is_open():
            self.watcher = watcher
            watcher.listen()
        else:
            watcher.close()
        if not self.admin or not self.admin.is_open():
            self.admin = Line(self, self.daemon.socket_path, os.getpid())
        if self.admin.calls:
            return late + ["the administrator waits"]
        self.books.assigned.saved(saved_assignments(self.daemon.root))
        listed = self.admin.call("ListLeases")["leases"]
        brief = [(l["leaseId"], l["state"], l["cpus"], l["charge"]) for l in leases]
        if brief != [(l["leaseId"], l["state"], l["cpus"], l["charge"]) for l in listed]:
            late.append("ListLeases says something else")
        return late + self.books.describe(self.admin.call("Describe")["host"], leases) + self.inspect(leases)

    def check_host(self, instances):
        """It sees what there is."""
        seen = set().union(*(sizes.cpus(i["onlineCpus"]) for i in instances if i["state"] == "ready"))
        there = set().union(*(sizes.cpus(SPUS[number]) for number in SPUS.keys() - self.out)) - self.off
        return [] if seen == there else [f"it sees CPUs {sizes.cpulist(seen)} instead of {sizes.cpulist(there)}"]

    def inspect(self, leases):
        """Files, stored descriptors, open descriptors."""
        late = []
        charged = sorted(l["leaseId"] for l in leases if l["state"] in chaos_books.CHARGED)
        files = sorted(os.listdir(self.daemon.root / "run/spe-broker/leases"))
        if files != charged:
            late.append(f"files {files} for leases {charged}")
        owners = {l["owner"]["pid"] for l in leases if l["state"] in chaos_books.CHARGED}
        late += self.check_stored(owners)
        return late + self.check_descriptors({l["owner"]["pid"] for l in leases})

    def check_stored(self, owners):
        """systemd has the pidfds of owners, and for a while those of processes that were."""
        stored, now = self.daemon.stored_owners(), time.monotonic()
        if stored is None:
            return []
        without = set(stored) - owners
        self.lingering = {pid: self.lingering.get(pid, now) for pid in without}
        if len(set(stored)) != len(stored) or not owners <= set(stored):
            return [f"stored are pidfds of {stored}, owners are {sorted(owners)}"]
        return [f"{pid} is still stored" for pid, since in self.lingering.items()
                if now - since > LINGER or not self.vmms]

    def measure(self):
        """What it has open when it has nothing to do."""
        with wire.Client(self.daemon.socket_path) as client:
            client.call("Describe")
            sockets, _, others = self.daemon.descriptors()
        self.idle = sockets - 1, others

    def check_descriptors(self, owners):
        """What the daemon has open: a socket for each connection, a pidfd for each owner, and perhaps one for the
        peer of each connection; the rest is what it had when it was idle."""
        sockets, pids, others = self.daemon.descriptors()
        late = []
        if sockets != self.idle[0] + len(self.lines):
            late.append(f"{sockets} sockets are open for {len(self.lines)} connections, and were {self.idle[0]}")
        if others != self.idle[1]:
            late.append(f"open are {others}, and were {self.idle[1]} when it was idle")
        most = collections.Counter(owners) + collections.Counter(
            -1 if pid in self.books.dead else pid for pid in [
                *(line.pid for line in self.lines.values()), *self.lingering])
        for pid in owners | set(pids):
            if not (pid in owners) <= pids[pid] <= most[pid]:
                late.append(f"{pids[pid]} pidfds of {pid}, owner: {pid in owners}, {most[pid]} at most")
        return late

    def settle(self):
        """Waits until everything is as it must be in the end; nothing may be left on its way."""
        deadline = time.monotonic() + harness.DEADLINE
        self.pump(harness.DEADLINE, lambda: all(
            call.method in MAY_WAIT for line in self.lines.values() for call in line.calls))
        while late := self.look():
            if time.monotonic() > deadline:
                raise chaos_books.Fault(f"it stays so: {late}")
            self.say(f"  late: {late}")
            self.pump(0.003)

    # A round: a life of the daemon, its end, what happens then, and its start

    def run(self, number, how):
        rng = random.Random(f"{self.seed}/{number}")
        self.say(f"=== round {number}: {how}")
        at_start, point = chaos_points.AT_START.get(how), chaos_points.POINTS.get(how)
        if at_start:
            how = "stop" if at_start.action == "stop" else "kill"
        self.first = None
        self.tidy_up(rng)
        if point:
            how = self.live_to_point(rng, how, point)
        else:
            self.live(rng, how)
        self.fallen(how)
        if how == "stop":
            self.daemon.forget()
        for _ in range(rng.choice((0, 0, 1, 3))):
            self.act(rng, self.IN_THE_DARK if self.daemon.can_queue else ((World.die, 2), (World.be_reborn, 1)))
        if at_start:
            self.die_with_leases(rng)
            self.points.arm(next(name for name, p in chaos_points.AT_START.items() if p is at_start))
        self.start()
        self.settle()

    def calm(self, number):
        """A round in which the daemon lives on."""
        self.say(f"=== round {number}")
        self.calm_acts(random.Random(f"{self.seed}/{number}"), 20)

    def calm_acts(self, rng, n):
        for _ in range(n):
            self.wait_a_little(rng, self.act(rng))
        self.settle()

    def live(self, rng, how):
        acts = rng.randint(4, 12)
        if rng.random() < 0.3:  # it has lived for a while
            self.calm_acts(rng, acts)
        strike_at = rng.randrange(acts)
        for i in range(acts):
            line = self.act(rng)
            if i != strike_at:
                self.wait_a_little(rng, line)
                continue
            if how == "byte" and line:  # the first byte of an answer is there
                harness.ready([line.socket.fileno()], 0.05)
            elif how != "sent":
                harness.ready([self.daemon.pidfd], rng.choice((0, 0.0002, 0.001, 0.003)) * rng.random())
            self.strike(how)
            return

    def wait_a_little(self, rng, line):
        """For the answer, or not."""
        if not line or rng.random() < 0.4:
            self.pump()
            return
        calls = len(line.calls)
        self.pump(0.01, lambda: len(line.calls) < calls or not line.is_open() or self.daemon.is_dead())

    def live_to_point(self, rng, how, point):
        """Until the daemon has come to the point, which the shim sees to; or it never does. How it ended."""
        for _ in range(POINT_TRIES):
            self.replace_dead()
            line = self.PREPARATIONS.get(point.action, World.acquire)(self, rng)
            self.pump(0.05, lambda: not line or line.replies > 0 or not line.is_open())
            self.points.arm(how)
            line = getattr(self, point.action)(rng)
            calls = len(line.calls) if line else 0
            self.pump(point.patience, lambda: self.daemon.is_dead() or (
                point.patience <= 0.05 and line and (len(line.calls) < calls or not line.is_open())))
            if self.points.disarm():
                return "point"
        self.strike("kill")
        return "kill"

    def finish(self):
        """Everybody goes; then nothing is left."""
        for vmm in self.vmms:
            vmm.hang_up()
            vmm.bury()
            self.books.died(vmm.number)
        self.vmms = []
        self.settle()
        chaos_books.need(not self.books.leases, "leases without owners:", self.books.leases)
        host = self.admin.call("Describe")["host"]
        chaos_books.need((host["charge"], host["counts"]["leases"], host["counts"]["waiting"]) == (0, 0, 0), host)

    def close(self):
        for vmm in self.vmms:
            vmm.bury()
        for line in list(self.lines.values()):
            line.hang_up()
