# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of host sessions against leases share: the whole daemon on the test PMU at a level, and events."""

import os
import pathlib

import machine
import perf
from machine import ARM64, RELEASE

# What level auto comes to on this machine: arm64 has trampolines for BPF programs from 6.4 on.
LSM = "bpf" in pathlib.Path("/sys/kernel/security/lsm").read_text().split(",")
BEST = "enforce" if LSM and (not ARM64 or RELEASE >= (6, 4)) else "reserve"
LONG = 10**10
INHERIT = 1 << 1


def level(name):
    return f"[Arbitration]\nLevel={name}\n"


class Event:
    """An event of this process's."""

    def __init__(self, *arguments, **kwargs):
        self.fd = perf.event(*arguments, **kwargs)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Case(machine.TestCase):
    """arm_spe_0 has CPUs 0 and 1, arm_spe_1 has 2 and 3."""

    level = BEST

    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.first, self.second = self.driver.type(0), self.driver.type(1)

    def start(self, name=None):
        self.daemon = self.broker(config=level(name or self.level))
        self.admin = self.client(self.daemon)
        self.addCleanup(self.unassign)

    def unassign(self):
        """What is assigned outlives the daemon, in /run."""
        if self.daemon.process:
            self.daemon.call("Unassign", cpus="0-3")

    def event(self, *arguments, **kwargs):
        event = Event(*arguments, **kwargs)
        self.addCleanup(event.close)
        return event

    def lease(self, cpus, mode="guest", **kwargs):
        """A process's lease: (the process, the lease, the stream of its changes)."""
        process, client = self.vmm(self.daemon)
        stream = client.stream("Acquire", request={"vm": "vm", "vcpus": 1, "cpus": cpus, "mode": mode} | kwargs)
        reply = stream.next()
        self.assertEqual(reply["change"], "granted")
        return process, reply["lease"], stream

    def queue(self, cpus, mode="exclusive", vm="vm"):
        _, client = self.vmm(self.daemon)
        stream = client.stream("Acquire", request={"vm": vm, "vcpus": 1, "cpus": cpus, "mode": mode}, waitUSec=LONG)
        self.assertEqual(stream.next()["change"], "queued")
        return stream

    def busy(self, cpus, mode="guest"):
        """Refused as Busy; who is in the way."""
        _, client = self.vmm(self.daemon)
        return self.refused("Busy", client, "Acquire", request={"vm": "vm", "vcpus": 1, "cpus": cpus, "mode": mode})[
            "holders"]

    def release(self, lease, stream):
        self.admin.call("Release", leaseId=lease["leaseId"])
        stream.change("ended")

    def sessions(self):
        return self.daemon.call("ListSessions")["sessions"]

    def refusals(self):
        return self.daemon.call("ListRefusals")["refusals"]

    def assert_open(self, expected):
        """{(PMU type, keyword arguments as pairs): '' or an error}, of events that are opened and closed."""
        found = {key: perf.outcome(key[0], **dict(key[1:])) for key in expected}
        self.assertEqual(found, expected)

    def wide(self, **expected):
        """What opening a CPU-wide event on each CPU comes to: wide(c0="EBUSY", c1="")."""
        types = {0: self.first, 1: self.first, 2: self.second, 3: self.second}
        cpus = {name: int(name[1:]) for name in expected}
        self.assertEqual({name: perf.outcome(types[cpu], cpu=cpu) for name, cpu in cpus.items()}, expected)

    def bound(self, expected, pid=0, cpu=-1, pmu=None):
        """What opening an event of a task comes to."""
        self.assertEqual(perf.outcome(self.first if pmu is None else pmu, pid=pid, cpu=cpu), expected)

    def task(self, cpus):
        """A process that may run on these CPUs."""
        process = self.vmm()
        os.sched_setaffinity(process.pid, cpus)
        return process.pid
