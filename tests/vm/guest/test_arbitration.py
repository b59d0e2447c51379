# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host sessions against leases at level enforce, by the whole daemon on a real kernel: what each lease refuses, and
beside it what it lets be."""

import json
import os
import signal
import unittest

import machine
import perf
import sessions
from sessions import INHERIT

SOFTWARE, DUMMY = 1, 9  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY


@unittest.skipUnless(sessions.BEST == "enforce", "no level enforce on this kernel")
class EnforceCase(sessions.Case):
    def setUp(self):
        super().setUp()
        self.start("auto")


class TestRefused(EnforceCase):
    def test_level(self):
        host = self.daemon.call("Describe")["host"]
        self.assertEqual((host["level"], host["levelReason"]), ("enforce", None))

    def test_guest_lease(self):
        """CPU-wide ones where it is; of tasks only its owner's own, where they meet it."""
        owner, lease, stream = self.lease("0")
        self.wide(c0="EBUSY", c1="", c2="", c3="")
        self.bound("")
        self.bound("", cpu=0)
        self.bound("EBUSY", pid=owner.pid)
        self.bound("EBUSY", pid=owner.pid, cpu=0)
        self.bound("", pid=owner.pid, cpu=1)
        self.bound("", pid=owner.pid, pmu=self.second)
        os.sched_setaffinity(owner.pid, {1})
        self.bound("", pid=owner.pid)
        os.sched_setaffinity(owner.pid, {0, 1})
        self.release(lease, stream)
        self.wide(c0="")
        self.bound("", pid=owner.pid)

    def test_exclusive_lease(self):
        _, lease, stream = self.lease("0", "exclusive")
        self.wide(c0="EBUSY", c1="", c2="")
        for cpus, expected in (({0, 1}, "EBUSY"), ({0}, "EBUSY"), ({1}, ""), ({2, 3}, "")):
            self.bound(expected, pid=self.task(cpus))
        both = self.task({0, 1})
        self.bound("EBUSY", pid=both, cpu=0)
        self.bound("", pid=both, cpu=1)
        self.bound("", pid=both, pmu=self.second)
        self.release(lease, stream)
        self.bound("", pid=both)

    def test_shared_lease(self):
        owner, _, stream = self.lease("0", "shared")
        self.wide(c0="", c1="")
        for pid in (0, owner.pid):
            self.bound("", pid=pid)
        self.event(self.first, cpu=0)
        self.assertEqual([session["cpu"] for session in self.sessions()], [0])
        self.lease("0", "shared")
        del stream

    def test_assigned(self):
        """CPUs kept for guests, and drained ones: no session whose reach meets them, lease or not."""
        both = self.task({0, 1})
        for owner, cpu, other in ("guest", 0, 1), ("none", 1, 0):
            with self.subTest(owner):
                self.admin.call("Assign", cpus=str(cpu), owner=owner, runtime=True)
                self.wide(**{f"c{cpu}": "EBUSY", f"c{other}": ""})
                self.bound("EBUSY", pid=both)
                self.bound("", pid=self.task({other}))
                machine.wait_for(lambda: ("io.spebroker.Broker.NotAssigned", str(cpu), owner) in {
                    (refusal["error"], refusal["cpus"], refusal["owner"]) for refusal in self.refusals()}, "it is told")
                self.admin.call("Unassign", cpus=str(cpu))
                self.wide(**{f"c{cpu}": ""})
                self.bound("", pid=both)

    def test_inherited(self):
        """fork() in a profiled program never fails; a new event of the same kind does."""
        self.event(self.first, pid=0, flags=INHERIT)
        draining = self.admin.call("Assign", cpus="0-1", owner="guest", runtime=True)["draining"]
        self.assertEqual([(s["kind"], s["task"], s["pid"]) for s in draining], [("task", os.getpid(), os.getpid())])
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            self.assertEqual(os.waitpid(pid, 0), (pid, 0))
        self.bound("EBUSY", pid=self.task({0}))
        self.assertEqual(len(self.sessions()), 1)

    def test_other_pmus(self):
        self.lease("0-1", "exclusive")
        self.lease("2-3", "exclusive")
        self.wide(c0="EBUSY", c3="EBUSY")
        for keywords in ({"cpu": 0}, {"pid": 0}, {"pid": 0, "cpu": 0}):
            self.assertEqual(perf.outcome(SOFTWARE, config=DUMMY, **keywords), "")

    def test_refusals(self):
        """Told once, with who was in the way and what is allowed; what the kernel refuses by itself is not."""
        held = self.event(self.second, cpu=2)
        self.wide(c2="EBUSY")
        held.close()
        self.assertEqual(self.refusals(), [])
        _, lease, _ = self.lease("0")
        self.wide(c0="EBUSY")
        refusal, = machine.wait_for(self.refusals, "it is told")
        self.assertEqual((refusal["error"], refusal["pid"], refusal["uid"], refusal["instance"], refusal["vm"]),
                         ("io.spebroker.Broker.Busy", os.getpid(), 0, "arm_spe_0", None))
        holder, = refusal["holders"]
        self.assertEqual((holder["kind"], holder["leaseId"], holder["cpus"]), ("lease", lease["leaseId"], "0"))
        self.assertIn(lease["leaseId"], refusal["message"])
        self.assertIn("CPUs 1 of arm_spe_0", refusal["allowed"])
        code, output, _ = self.command("refusals", "--json", "--pid", str(os.getpid()))
        self.assertEqual((code, [entry["id"] for entry in json.loads(output)]), (0, [refusal["id"]]))
        code, output, _ = self.command("refusals", "--json", "--pid", "1")
        self.assertEqual((code, json.loads(output)), (0, []))


class TestChanges(EnforceCase):
    def test_revoked(self):
        """A lease that is revoked protects nothing any more."""
        _, lease, stream = self.lease("0")
        self.wide(c0="EBUSY")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=1)
        stream.change("revoked")
        self.wide(c0="")

    def test_shrunk(self):
        process, lease, _ = self.lease("0-1")
        self.wide(c0="EBUSY", c1="EBUSY")
        process.call(self.daemon, "Update", leaseId=lease["leaseId"], cpus="0")
        self.wide(c0="EBUSY", c1="")

    def test_owner_gone(self):
        process, _, stream = self.lease("0")
        watch = self.watch(self.daemon)
        process.kill()
        watch.until(lambda reply: (reply["event"].get("lease") or {}).get("change") == "ended"
                    or reply["event"].get("kind") == "instance")
        machine.wait_for(lambda: not self.daemon.call("ListLeases")["leases"], "it ended")
        self.wide(c0="")
        del stream

    def test_off_line(self):
        """A CPU of a lease comes back closed: there is no time in which it is open."""
        self.lease("2-3")
        self.cpu(3, False)
        self.cpu(3, True)
        self.wide(c3="EBUSY", c2="EBUSY")

    def test_session_off_line(self):
        """An event of a CPU that is off line stands against nothing."""
        self.event(self.second, cpu=3)
        self.assertEqual([h["cpus"] for h in self.busy("2-3")], ["3"])
        self.cpu(3, False)
        machine.wait_for(lambda: [s["cpus"] for s in self.sessions()] == [""], "it is dead")
        self.lease("2", "exclusive")

    def test_reloaded(self):
        """Type numbers change hands; the names are not those the broker has scanned, and it is not even running."""
        _, _, stream = self.lease("2-3", "exclusive")
        os.kill(self.daemon.process.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.daemon.process.pid, signal.SIGCONT)
        self.driver.unload()
        self.driver.load("2", "0-1", "3")
        self.assert_open({(self.driver.type(0), ("cpu", 2)): "EBUSY", (self.driver.type(1), ("cpu", 0)): "",
                          (self.driver.type(2), ("cpu", 3)): "EBUSY"})
        self.driver.unload()
        self.driver.load("2-3", "0-1")
        os.kill(self.daemon.process.pid, signal.SIGCONT)
        machine.wait_for(lambda: stream.next()["lease"]["pmuType"] == self.driver.type(0), "it has followed")
        self.assert_open({(self.driver.type(0), ("cpu", 3)): "EBUSY", (self.driver.type(1), ("cpu", 1)): ""})


class TestHost(EnforceCase):
    """The host's side: assignments that wait until nothing is in the way."""

    def test_assign(self):
        _, lease, stream = self.lease("0-1")
        code, _, errors = self.command("assign", "host", "--cpus", "0", "--for", "10m", "--wait")
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(stream.change("cpus")["lease"]["cpus"], "1")
        self.wide(c0="", c1="EBUSY")
        assignment, = self.daemon.instance()["assignments"]
        self.assertEqual((assignment["cpus"], assignment["owner"], assignment["origin"]), ("0", "host", "runtime"))
        self.assertTrue(0 < assignment["remainingUSec"] <= 600 * 10**6)
        del lease

    def test_ends_by_itself(self):
        self.admin.call("Assign", cpus="0", owner="guest", forUSec=1)
        machine.wait_for(lambda: not self.daemon.instance()["assignments"], "it is over")
        self.wide(c0="")

    def test_draining(self):
        """A session in the way of guests is listed until it closes, and new ones are refused at once."""
        event = self.event(self.first, cpu=0)
        stream = self.client(self.daemon).stream("Assign", cpus="0", owner="guest", runtime=True)
        self.assertEqual([s["pid"] for s in stream.next()["draining"]], [os.getpid()])
        self.assertEqual(self.daemon.instance()["assignments"][0]["state"], "draining")
        self.bound("EBUSY", pid=self.task({0}))
        event.close()
        last = stream.until(lambda reply: not reply["draining"])
        self.assertTrue(stream.done, last)
        self.assertEqual(self.daemon.instance()["assignments"][0]["state"], "active")
        self.wide(c0="EBUSY", c1="")


if __name__ == "__main__":
    machine.main()
