# SPDX-License-Identifier: LGPL-2.1-or-later
"""The arbiter alone, on the test PMU: which hook which kernel has, what is seen, and what is refused."""

import array
import mmap
import os
import pathlib
import signal
import socket
import threading
import unittest

import arbiter
import machine
import perf
from machine import ARM64, RELEASE, wait_for

LSM = "bpf" in pathlib.Path("/sys/kernel/security/lsm").read_text().split(",")
BEST = "tracepoints" if ARM64 and RELEASE < (6, 4) else "lsm" if LSM else "trampolines"


class ArbiterCase(machine.TestCase):
    hook = BEST

    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.first, self.second = self.driver.type(0), self.driver.type(1)
        self.arbiter = arbiter.Arbiter(self.hook)
        self.addCleanup(self.arbiter.end)
        self.arbiter.say("pmus", "arm_spe_0=0-1", "arm_spe_1=2-3")

    def hold(self, *arguments, **kwargs):
        fd = perf.event(*arguments, **kwargs)
        self.addCleanup(self.close, fd)
        return fd

    @staticmethod
    def close(fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def sessions(self):
        """As (PMU, CPU, whether bound to a task), sorted."""
        return sorted((s["pmu"], s["cpu"], s["thread"] != 0) for s in self.arbiter.sessions())

    def pids(self):
        return [session["pid"] for session in self.arbiter.sessions()]

    def gone(self):
        """Waits until nothing is open; where closes are only hinted at, until no process has one."""
        if self.arbiter.hook == "tracepoints":
            self.arbiter.say("iterate", 0)
            for session in self.arbiter.sessions():
                if session["unseen"]:
                    self.arbiter.say("forget", session["id"])
        return not self.arbiter.sessions()


class TestHook(ArbiterCase):
    def test_best(self):
        state = self.arbiter.state
        self.assertEqual(state["hook"], BEST, state)
        if BEST == "lsm":
            self.assertEqual((state["reason"], state["advice"]), ("", ""))

    def test_lower(self):
        """Each kernel has the hooks below its best; what is asked for is had without a reason."""
        order = ["none", "tracepoints", "trampolines", "lsm"]
        for hook in order[:order.index(BEST) + 1]:
            state = self.arbiter.say("new", hook)
            self.assertEqual((state["hook"], state["reason"]), (hook, ""))


class TestSeen(ArbiterCase):
    def test_open_and_close(self):
        self.assertEqual(self.sessions(), [])
        wide, bound = self.hold(self.first, cpu=1), self.hold(self.second, pid=0)
        both = self.hold(self.second, pid=self.vmm().pid, cpu=3)
        self.assertEqual(self.sessions(), [("arm_spe_0", 1, False), ("arm_spe_1", -1, True), ("arm_spe_1", 3, True)])
        for session in self.arbiter.sessions():
            self.assertEqual((session["pid"], session["uid"], session["entering"]), (os.getpid(), 0, False))
            self.assertTrue(session["command"].startswith("python3"))
            self.assertGreater(session["opened"], 0)
        for fd in (wide, bound, both):
            os.close(fd)
        wait_for(self.gone, "the end of all sessions")

    def test_own(self):
        """What the broker opens itself is not told of, nor refused where others' are."""
        self.hold(self.second, cpu=2)
        if self.arbiter.hook == "lsm":
            self.arbiter.close_cpus(cpu_wide="0-1")
            self.assertEqual(perf.outcome(self.first, cpu=1), "EBUSY")
        self.assertEqual(self.arbiter.say("own", self.first, 1)["result"], 0)
        self.arbiter.say("iterate", 0)
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False)])
        self.arbiter.again(self.hook)
        self.assertEqual(self.arbiter.say("own", self.first, 0)["result"], 0)
        self.arbiter.say("iterate", 0)
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False)])
        self.assertEqual(self.arbiter.counters()["drifted"], 0)

    def test_before(self):
        """What was open before, the iterator finds."""
        self.hold(self.first, cpu=0)
        other = arbiter.Arbiter(self.hook)
        self.addCleanup(other.end)
        (session,) = other.sessions()
        self.assertEqual((session["pmu"], session["cpu"], session["pid"], session["opened"]),
                         ("arm_spe_0", 0, os.getpid(), 0))


if __name__ == "__main__":
    machine.main()
