# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm, the real broker and real perf events, where the kernel lets the broker see them: the machine's PMU for software
events stands for an SPU."""

import json
import os
import pathlib
import signal
import sys

import cli
from cli import DONE, REFUSED
from harness import tree, wait_for

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "vm/guest"))
import perf  # noqa: E402 (found through the line above)

DUMMY = 9  # PERF_COUNT_SW_DUMMY


class TestCase(cli.TestCase):
    def setUp(self):
        self.daemon = self.broker(tree=tree.software, config="[Arbitration]\nLevel=observe\n")
        host = self.daemon.call("Describe")["host"]
        if host["level"] != "observe":
            self.skipTest(host["levelReason"])
        others = self.daemon.call("ListSessions")["sessions"]
        if others:
            self.skipTest(f"{others[0]['command']} (pid {others[0]['pid']}) uses this PMU, and would be in the way")

    def ask(self, *words, expect=DONE):
        return self.speadm(*words, socket=self.daemon.socket_path, expect=expect).out

    def mine(self):
        """The sessions of this process; others may come."""
        return [s for s in json.loads(self.ask("sessions", "-j")) if s["pid"] == os.getpid()]

    def open(self, **where):
        """An event that is seen, and what closes it."""
        before = len(self.mine())
        fd = perf.event(tree.PERF_TYPE_SOFTWARE, config=DUMMY, **where)
        closed = []

        def close():
            if not closed:
                closed.append(os.close(fd))

        self.addCleanup(close)
        wait_for(lambda: len(self.mine()) == before + 1, "the session")
        return close

    def lease(self, vm="web", **request):
        process, client = self.vmm(self.daemon)
        return process, client, client.call("Acquire", request={"vm": vm, "vcpus": 1, "cpus": "0"} | request)["lease"]


class TestSeen(TestCase):
    def test_sessions(self):
        self.assertEqual(self.mine(), [])
        closes = [self.open(cpu=0), self.open(pid=os.getpid())]
        cpu, task = self.mine()
        self.assertEqual((cpu["kind"], cpu["cpu"], cpu["task"], cpu["cpus"], cpu["instance"]),
                         ("cpu", 0, None, "0", "arm_spe_0"))
        self.assertEqual((task["kind"], task["cpu"], task["task"], task["uid"]),
                         ("task", None, os.getpid(), os.getuid()))
        row = next(r for r in self.ask("sessions", "--no-legend").splitlines() if f" {os.getpid()} " in r)
        self.assertEqual(row.split()[:5], ["cpu", "arm_spe_0", "0", "-", "0"])
        self.assertRegex(self.ask("status"), r"(?m)^Host sessions: +[1-9]")
        self.assertRegex(self.ask("list", "--no-legend").split()[7], "^0")
        for close in closes:
            close()
        wait_for(lambda: not self.mine(), "the end of the sessions")

    def test_monitor(self):
        process = self.spawn("monitor", socket=self.daemon.socket_path)
        self.assertIn("host sessions: ", self.line(process.stdout))

        def told(change):
            while True:
                line = self.line(process.stdout)
                if f"(pid {os.getpid()}): {change}, " in line:
                    return line

        self.open(cpu=0)()
        self.assertTrue(told("opened").endswith("arm_spe_0 CPUs 0, kind cpu\n"))
        told("closed")
        self.lease()
        close = self.open(cpu=0)
        self.assertTrue(told("opened").endswith("kind cpu, contended\n"))
        close()
        told("closed")
        process.send_signal(signal.SIGINT)
        self.finish(process)


class TestLeases(TestCase):
    def contended(self):
        return "contended" in self.ask("leases", "--no-legend", "--vm", "web")

    def test_contended(self):
        """It was there first, so all that can be had is to say so; and that it is over."""
        self.lease()
        self.assertFalse(self.contended())
        close = self.open(cpu=0)
        wait_for(self.contended, "contention")
        self.assertEqual([s["contended"] for s in self.mine()], [True])
        reason = json.loads(self.ask("leases", "-j", "--vm", "web"))[0]["reason"]
        self.assertIn(f"(pid {os.getpid()})", reason)
        close()
        wait_for(lambda: not self.contended(), "the end of contention")

    def test_not_contended(self):
        self.lease(mode="shared")
        self.open(cpu=0)
        self.assertFalse(self.contended())
        self.assertEqual([s["contended"] for s in self.mine()], [False])

    def test_busy(self):
        """The lease waits for it, and until then is told who is in the way."""
        close = self.open(cpu=0)
        line = ("run", "--vm", "web", "--vcpus", "1", "--cpus", "0", "--mode", "guest")
        result = self.speadm(*line, "--", "true", socket=self.daemon.socket_path, expect=REFUSED)
        self.assertIn(f"busy: session (pid {os.getpid()}, ", result.err)
        waiter = self.spawn(*line, "--wait", "1h", "--", "echo", "mine", socket=self.daemon.socket_path)
        wait_for(lambda: "queued" in self.ask("leases"), "the waiter")
        close()
        self.assertEqual(self.line(waiter.stdout), "mine\n")
        self.finish(waiter)


class TestAssign(TestCase):
    def test_draining(self):
        """CPUs for guests: what the host has open there is told, and waited for."""
        close = self.open(cpu=0)
        first = json.loads(self.ask("assign", "guest", "--cpus", "0", "-j"))
        self.assertIn(os.getpid(), [s["pid"] for s in first["draining"]])
        self.assertIn("0:guest(draining)", self.ask("list"))
        process = self.spawn("assign", "guest", "--cpus", "0", "--for", "10m", "--wait",
                             socket=self.daemon.socket_path)
        self.assertEqual(self.line(process.stdout), "Host sessions in the way until they close:\n")
        self.assertIsNone(process.poll())
        close()
        self.finish(process)


if __name__ == "__main__":
    cli.main(needs_broker=True)
