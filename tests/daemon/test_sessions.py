#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host sessions, at level observe on this machine's own kernel: what is open is known, exactly, and told as the
event itself causes it. Level enforce needs kernels that are booted for it (tests/vm)."""

import os
import resource
import signal
import sys
import time

import harness
import profiler
from harness import TestCase, wait_for
from profiler import Profiler

OBSERVE = "[Arbitration]\nLevel=observe\n"
MANY = 10000


class SessionTest(TestCase):
    def setUp(self):
        self.profilers = set()

    def observer(self, **kwargs):
        return self.broker(tree=profiler.tree, config=OBSERVE, **kwargs)

    def profiler(self, name="profiler"):
        process = Profiler(name)
        self.profilers.add(process.pid)
        self.addCleanup(process.kill)
        return process

    def ours(self, sessions):
        """Without those that others may have on this machine."""
        return [s for s in sessions if s["pid"] in self.profilers]

    def sessions(self, broker):
        return self.ours(broker.call("ListSessions")["sessions"])

    def wait_sessions(self, broker, n):
        return wait_for(lambda: len(found := self.sessions(broker)) == n and (found or [None]), f"{n} sessions")

    def watch(self, broker):
        stream = self.client(broker).stream("Watch")
        self.snapshot = stream.next()["event"]["snapshot"]
        return stream

    def told(self, stream, kind, change):
        """The next lease or session of ours with this change."""
        return stream.until(
            lambda reply: (event := reply["event"].get(kind))
            and event["change"] == change
            and (kind == "lease" or event["session"]["pid"] in self.profilers)
        )["event"][kind][kind]

    def expected(self, process, kind, cpus, cpu=None, task=None, contended=False):
        return {"kind": kind, "instance": "arm_spe_0", "cpu": cpu, "task": task, "cpus": cpus, "pid": process.pid,
                "uid": 0, "command": process.name, "contended": contended}

    def assert_sessions(self, broker, *expected):
        found = self.wait_sessions(broker, len(expected))
        for session in found:
            del session["sinceUSec"]
        self.assertCountEqual(found, expected)

    def lease(self, client, **request):
        request = {"vm": "web1", "vcpus": 1, "cpus": "0", "mode": "guest", "bufferSize": 4096} | request
        return client.call("Acquire", request=request)["lease"]


class TestKnown(SessionTest):
    def test_kinds(self):
        broker, process, target = self.observer(), self.profiler(), self.profiler("target")
        thread = target.thread()
        os.sched_setaffinity(target.pid, {1})
        os.sched_setaffinity(thread, {0, 1})
        self.assertEqual(self.sessions(broker), [])
        before = time.time() * 1e6
        process.open(cpu=0)
        process.open(pid=target.pid)
        process.open(pid=thread)
        process.open(pid=thread, cpu=1)
        process.open(pid=target.pid, cpu=0)  # where it may not run
        self.assert_sessions(
            broker,
            self.expected(process, "cpu", "0", cpu=0),
            self.expected(process, "task", "1", task=target.pid),
            self.expected(process, "task", "0-1", task=thread),
            self.expected(process, "taskcpu", "1", cpu=1, task=thread),
            self.expected(process, "taskcpu", "", cpu=0, task=target.pid),
        )
        for session in self.sessions(broker):
            if session["sinceUSec"] is not None:
                self.assertTrue(before - 1e6 < session["sinceUSec"] < time.time() * 1e6, session)
        self.assertEqual(broker.instance()["sessionCpus"], "0-1")
        self.assertGreaterEqual(broker.call("Describe")["host"]["counts"]["sessions"], 5)

    def test_group(self):
        """Each event of a group is a session."""
        broker, process = self.observer(), self.profiler()
        leader = process.open(cpu=1)
        process.open(cpu=1, group=leader)
        self.assert_sessions(broker, *[self.expected(process, "cpu", "1", cpu=1)] * 2)
        process.close(leader)  # the other is its own leader then
        self.assert_sessions(broker, self.expected(process, "cpu", "1", cpu=1))

    def test_own_thread(self):
        """pid 0: itself."""
        broker, process = self.observer(), self.profiler()
        process.open(pid=0, cpu=0)
        self.assert_sessions(broker, self.expected(process, "taskcpu", "0", cpu=0, task=process.pid))

    def test_before(self):
        """What was open before the broker looked."""
        process = self.profiler()
        process.open(cpu=0)
        broker = self.observer()
        self.assertIsNone(self.wait_sessions(broker, 1)[0]["sinceUSec"])
        self.assert_sessions(broker, self.expected(process, "cpu", "0", cpu=0))

    def test_snapshot(self):
        broker, process = self.observer(), self.profiler()
        fd = process.open(cpu=0)
        self.wait_sessions(broker, 1)
        stream = self.watch(broker)
        self.assertEqual(len(self.ours(self.snapshot["sessions"])), 1)
        process.close(fd)
        closed = self.told(stream, "session", "closed")
        self.assertEqual((closed["pid"], closed["cpus"], closed["contended"]), (process.pid, "0", False))

    def test_level_none(self):
        broker = self.broker(tree=profiler.tree)
        self.profiler().open(cpu=0)
        answer = self.refused("ArbitrationUnavailable", self.client(broker), "ListSessions")
        self.assertTrue(answer["reason"])


class TestAlive(SessionTest):
    """An event lives as long as any descriptor of it, wherever that is."""

    def opened(self):
        self.other = self.profiler("other")  # now: it would inherit what is open later
        broker, process = self.observer(), self.profiler()
        stream = self.watch(broker)
        fd = process.open(cpu=0)
        self.told(stream, "session", "opened")
        return broker, process, stream, fd

    def still_there(self, broker, stream):
        """A second one comes and goes, and the first is there as before."""
        fd = self.other.open(cpu=1)
        for change in ("opened", "closed"):
            self.assertEqual(self.told(stream, "session", change)["pid"], self.other.pid)
            if change == "opened":
                self.other.close(fd)
        self.assertEqual([s["cpus"] for s in self.sessions(broker)], ["0"])

    def test_dup(self):
        broker, process, stream, fd = self.opened()
        copy = process.dup(fd)
        process.close(fd)
        self.still_there(broker, stream)
        process.close(copy)
        self.told(stream, "session", "closed")

    def test_passed(self):
        broker, process, stream, fd = self.opened()
        copy = process.receive(fd)
        self.profilers.add(os.getpid())
        process.kill()
        self.still_there(broker, stream)
        os.close(copy)
        self.told(stream, "session", "closed")

    def test_fork(self):
        broker, process, stream, fd = self.opened()
        child = process.fork()
        self.profilers.add(child)
        self.addCleanup(lambda: child and os.kill(child, signal.SIGKILL))
        process.kill()
        self.still_there(broker, stream)
        os.kill(child, signal.SIGKILL)
        child = 0
        self.told(stream, "session", "closed")

    def test_opener_dies(self):
        broker, process, stream, _ = self.opened()
        process.kill()
        self.told(stream, "session", "closed")
        self.assertEqual(self.sessions(broker), [])

    def test_target_dies(self):
        """It has nowhere to run any more, so it stands against nothing; but it is open."""
        broker, process, target = self.observer(), self.profiler(), self.profiler("target")
        fd = process.open(pid=target.pid)
        self.wait_sessions(broker, 1)
        target.kill()
        process.close(process.open(cpu=0))  # an occasion to look
        wait_for(lambda: [s["cpus"] for s in self.sessions(broker)] == [""], "no reach")
        process.close(fd)
        self.wait_sessions(broker, 0)


class TestAgainstLeases(SessionTest):
    def test_contended(self):
        broker, process = self.observer(), self.profiler("perf")
        lease = self.lease(self.client(broker), cpus="0-1")
        stream = self.watch(broker)
        fd = process.open(cpu=1)
        told = self.told(stream, "lease", "contended")
        self.assertEqual((told["leaseId"], told["contended"]), (lease["leaseId"], True))
        self.assertIn(f"perf (pid {process.pid}) samples CPU 1", told["reason"])
        self.assertTrue(self.told(stream, "session", "opened")["contended"])
        self.assertTrue(self.sessions(broker)[0]["contended"])
        process.close(fd)
        told = self.told(stream, "lease", "uncontended")
        self.assertEqual((told["contended"], told["reason"]), (False, None))
        self.told(stream, "session", "closed")
        self.assertIn(f"lease {lease['leaseId']} of VM web1 is contended: perf (pid {process.pid})", broker.read_log())

    def test_uncontended(self):
        """Beside it, of a task, and against one that shares."""
        broker, process, target = self.observer(), self.profiler(), self.profiler("target")
        client = self.client(broker)
        self.lease(client, cpus="0")
        self.lease(client, cpus="1", mode="shared")
        process.open(cpu=1)
        process.open(pid=target.pid)
        process.open(pid=target.pid, cpu=0)
        self.assertEqual([s["contended"] for s in self.wait_sessions(broker, 3)], [False] * 3)
        self.assertEqual([l["contended"] for l in client.call("ListLeases")["leases"]], [False] * 2)

    def test_own(self):
        """A task that is the lease's own process."""
        broker, process, other = self.observer(), self.profiler(), self.profiler("other")
        vmm, client = self.vmm(broker)
        self.lease(client)
        stream = self.watch(broker)
        process.open(pid=other.pid, cpu=0)
        self.assertFalse(self.told(stream, "session", "opened")["contended"])
        fd = process.open(pid=vmm.pid, cpu=0)
        self.assertIn(f"samples thread {vmm.pid}", self.told(stream, "lease", "contended")["reason"])
        process.close(fd)
        self.told(stream, "lease", "uncontended")

    def test_busy(self):
        broker, process = self.observer(), self.profiler("perf")
        client = self.client(broker)
        process.open(cpu=0)
        self.wait_sessions(broker, 1)
        request = {"vm": "web1", "vcpus": 1, "cpus": "0-1", "mode": "guest"}
        holders = self.refused("Busy", client, "Acquire", request=request)["holders"]
        self.assertEqual(holders, [{"kind": "session", "leaseId": None, "vm": None, "pid": process.pid, "uid": 0,
                                    "command": "perf", "cpus": "0"}])
        refusal = client.call("ListRefusals")["refusals"][0]
        self.assertEqual(refusal["message"],
                         f"CPU 0 of arm_spe_0 is taken: perf (pid {process.pid}) has a session there")
        self.lease(client, cpus="1")
        self.lease(client, cpus="0", mode="shared")

    def test_unseen_by_the_copy(self):
        """An open that is done is known by the time that somebody asks for a lease, rung or not."""
        broker, process = self.observer(), self.profiler()
        client = self.client(broker)
        request = {"vm": "web1", "vcpus": 1, "cpus": "0", "mode": "guest"}
        for _ in range(20):
            fd = process.open(cpu=0)
            self.refused("Busy", client, "Acquire", request=request)
            process.close(fd)
            client.call("Release", leaseId=client.call("Acquire", request=request, waitUSec=10**7)["lease"]["leaseId"])

    def test_wait(self):
        broker, process = self.observer(), self.profiler()
        fd = process.open(cpu=0)
        self.wait_sessions(broker, 1)
        stream = self.client(broker).stream(
            "Acquire", request={"vm": "web1", "vcpus": 1, "cpus": "0", "mode": "guest"}, waitUSec=60 * 10**6)
        self.assertEqual(stream.next()["change"], "queued")
        process.close(fd)
        self.assertEqual(stream.next()["change"], "granted")

    def test_assign(self):
        broker, process = self.observer(), self.profiler()
        first, second = process.open(cpu=0), process.open(cpu=1)
        self.wait_sessions(broker, 2)
        stream = self.client(broker).stream("Assign", cpus="0", owner="guest", runtime=True)
        self.assertEqual([s["cpus"] for s in self.ours(stream.next()["draining"])], ["0"])
        self.assertEqual(broker.instance()["assignments"][0]["state"], "draining")
        process.close(first)
        self.assertEqual(stream.next()["draining"], [])
        self.assertTrue(stream.done)
        self.assertEqual(broker.instance()["assignments"][0]["state"], "active")
        process.close(second)


class TestMany(SessionTest):
    def test_at_once(self):
        """Ten thousand sessions: each is known, and clients are answered all the while."""
        broker, process = self.observer(), self.profiler()
        client, stream = self.client(broker), self.watch(broker)
        process.ask("open_many", MANY, cpu=0)
        slowest = 0
        while not harness.ready([process.control.fileno()], 0):
            begin = time.monotonic()
            client.call("Describe")
            slowest = max(slowest, time.monotonic() - begin)
        process.answer()
        self.wait_sessions(broker, MANY)
        self.assertLess(slowest, 10)
        self.assertFalse(stream.next()["event"]["lost"])  # it is told something, from then on a snapshot if need be
        process.close_many()
        self.wait_sessions(broker, 0)

    def test_flood(self):
        """A process that opens and closes in a loop leaves the broker most of its time."""
        broker, process = self.observer(), self.profiler()
        client = self.client(broker)
        process.ask("loop", 50000, cpu=0)
        times = []
        while not harness.ready([process.control.fileno()], 0):
            begin = time.monotonic()
            client.call("ListInstances")
            times.append(time.monotonic() - begin)
        process.answer()
        self.assertGreater(len(times), 3)
        self.assertLess(sorted(times)[len(times) // 2], 1)
        self.wait_sessions(broker, 0)


def can_observe():
    """Whether this machine's kernel shows sessions at all."""
    if reason := profiler.cannot():
        return reason
    profiler.take_turns()

    class Probe(SessionTest):
        def runTest(self):
            self.host = self.observer().call("Describe")["host"]

    probe = Probe()
    result = harness.unittest.TestResult()
    probe.run(result)
    if result.wasSuccessful() and probe.host["level"] != "observe":
        return f"level {probe.host['level']}: {probe.host['levelReason']}"
    return None


if __name__ == "__main__":
    if os.geteuid() == 0 and harness.PROGRAM and (reason := can_observe()):
        print(reason)
        sys.exit(77)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 1000, MANY + 1000))
    harness.main()
