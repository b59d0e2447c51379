# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections are lost at chosen moments of a call, to the real daemon: whatever the moment, each call is carried out
once, and the caller learns what came of it."""

import os
import select
import sys

import harness

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

import library  # noqa: E402  (loads the library)
from library import Context, request  # noqa: E402
from proxy import ANSWERED, BEFORE, SENT, Proxy  # noqa: E402

HOUR = 3600 * 1000 * 1000
SPU = {"instance": "arm_spe_0"}


def nothing():
    pass


# One loss, and several in a row.
LOSSES = [[(moment, nothing)] for moment in (BEFORE, SENT, ANSWERED)]
LOSSES += [[(ANSWERED, nothing), (BEFORE, nothing), (ANSWERED, nothing)], [(SENT, nothing)] * 4]


class TestCase(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(simulate="biglittle")

    def proxy(self, plan):
        proxy = Proxy(self.directory() / "socket", self.daemon.socket_path, plan)
        self.addCleanup(proxy.close)
        return proxy

    def context(self, path, reconnect=True):
        context = Context(path=path)
        self.assertEqual((context.result, context.set_reconnect(reconnect)), (0, 0))
        return context

    def each_loss(self):
        for plan in LOSSES:
            with self.subTest([moment for moment, _ in plan]):
                proxy = self.proxy(plan)
                yield proxy, self.context(proxy.path)
                self.assertEqual(proxy.plan, [])

    def leases(self):
        return self.daemon.call("ListLeases")["leases"]


class TestCalls(TestCase):
    def test_acquire(self):
        for proxy, context in self.each_loss():
            r, lease = context.acquire(request(1, vm="a", mode=library.EXCLUSIVE))
            self.assertEqual(r, 0)
            self.assertEqual([l["leaseId"] for l in self.leases()], [lease.id])
            self.assertEqual(context.release(lease.id), 0)
            self.assertEqual(self.leases(), [])

    def test_release(self):
        direct = self.context(self.daemon.socket_path)
        for proxy, context in self.each_loss():
            _, lease = direct.acquire(request(1, vm="a"))
            self.assertEqual(context.release(lease.id), 0)
            self.assertEqual(self.leases(), [])
            self.assertEqual(context.release(lease.id), library.REFUSED)

    def test_update(self):
        direct = self.context(self.daemon.socket_path)
        _, lease = direct.acquire(request(1, vm="a", cpus="4-5"))
        for i, (proxy, context) in enumerate(self.each_loss()):
            cpus = ("6-7", "4-5")[i % 2]
            r, moved = context.update_cpus(lease.id, cpus)
            self.assertEqual((r, moved.cpus, self.leases()[0]["cpus"]), (0, cpus, cpus))

    def test_query(self):
        for _, context in self.each_loss():
            self.assertEqual(context.query(request(1, vm="a"))[0], 0)

    def test_refused(self):
        """A refusal is an answer, and is not asked again."""
        for proxy, context in self.each_loss():
            self.assertEqual(context.acquire(request(1, vm="a", instance="arm_spe_7"))[0], library.REFUSED)
            self.assertEqual(context.refusal.name, "NoSuchInstance")

    def test_wait(self):
        """A waiter is asked for again for what is left of its wait, and waits once, at the end of the queue."""
        holder = self.context(self.daemon.socket_path)
        _, held = holder.acquire(request(1, vm="a", mode=library.EXCLUSIVE, **SPU))
        waiters = []

        def waiting():
            found = [l for l in self.leases() if l["state"] == "queued"]
            return found if len(found) == 1 and found[0]["leaseId"] not in waiters else None

        def note():
            waiters.append(harness.wait_for(waiting, "a waiter")[0]["leaseId"])

        def release():
            note()
            self.assertEqual(holder.release(held.id), 0)

        proxy = self.proxy([(SENT, note), (SENT, note), (SENT, release)])
        r, lease = self.context(proxy.path).acquire(request(1, vm="b", mode=library.EXCLUSIVE, **SPU), HOUR)
        self.assertEqual((r, [l["leaseId"] for l in self.leases()]), (0, [lease.id]))
        self.assertEqual(len(proxy.calls), 4)

    def test_without_reconnecting(self):
        """The caller is told which it is."""
        for moment, outcome, leases in ((BEFORE, library.OUTCOME_UNKNOWN, 0), (ANSWERED, library.OUTCOME_UNKNOWN, 1)):
            with self.subTest(moment):
                context = self.context(self.proxy([(moment, nothing)]).path, reconnect=False)
                self.assertEqual(context.acquire(request(1, vm="a"))[0], outcome)
                self.assertEqual(len(self.leases()), leases)
                self.assertEqual(context.acquire(request(1, vm="a"))[0], library.DISCONNECTED)
                self.assertEqual(len(self.leases()), leases)


class TestStreams(TestCase):
    def resume(self, stream):
        self.assertEqual([stream.process()[0] for _ in range(2)], [library.DISCONNECTED, library.RECONNECTED])

    def changes(self, stream):
        """All that is told until nothing more is."""
        told = []
        while True:
            r, lease = stream.process(timeout=0)
            if r:
                return told, r
            told.append((lease.change, lease.state, lease.cpus))

    def interrupted(self, meanwhile):
        """A stream of a lease of CPUs 0-3 that is lost; meanwhile() happens before it is there again."""
        calls = self.context(self.daemon.socket_path)
        _, lease = calls.acquire(request(1, vm="a", cpus="0-3"))
        proxy = self.proxy([None])
        stream = self.context(proxy.path)
        fd = stream.fd
        self.assertEqual((stream.follow(lease.id), stream.process()[0]), (0, 0))
        connected = len(proxy.threads)
        self.assertEqual(connected, 1)
        proxy.plan[:] = [(BEFORE, lambda: meanwhile(calls, lease.id)), None]
        proxy.hang_up()
        self.resume(stream)
        self.assertEqual(stream.fd, fd)
        return lease.id, stream

    def test_nothing(self):
        _, stream = self.interrupted(lambda calls, lease_id: None)
        self.assertEqual(self.changes(stream), ([], library.AGAIN))
        self.daemon.call("Assign", cpus="3", owner="host", runtime=True)
        r, lease = stream.process()
        self.assertEqual((r, lease.change, lease.cpus), (0, "cpus", "0-2"))

    def test_cpus(self):
        _, stream = self.interrupted(
            lambda calls, lease_id: self.daemon.call("Assign", cpus="3", owner="host", runtime=True))
        self.assertEqual(self.changes(stream), ([("cpus", "granted", "0-2")], library.AGAIN))

    def test_there_and_back(self):
        def meanwhile(calls, lease_id):
            self.daemon.call("Assign", cpus="3", owner="host", runtime=True)
            self.daemon.call("Unassign", cpus="3")

        _, stream = self.interrupted(meanwhile)
        self.assertEqual(self.changes(stream)[1], library.AGAIN)

    def test_revoking(self):
        _, stream = self.interrupted(
            lambda calls, lease_id: self.daemon.call("Revoke", leaseId=lease_id, graceUSec=HOUR))
        self.assertEqual(self.changes(stream), ([("revoking", "revoking", "0-3")], library.AGAIN))

    def test_revoked(self):
        _, stream = self.interrupted(
            lambda calls, lease_id: self.daemon.call("Revoke", leaseId=lease_id, graceUSec=0))
        self.assertEqual(self.changes(stream), ([("revoked", "revoked", "0-3")], library.AGAIN))

    def test_ended(self):
        _, stream = self.interrupted(lambda calls, lease_id: self.assertEqual(calls.release(lease_id), 0))
        self.assertEqual(self.changes(stream), ([("ended", "ended", "0-3")], library.ENDED))

    def test_acquire_and_follow(self):
        """Lost before anything was said, while it waits, and after it was granted: one lease, and one waiter."""
        holder = self.context(self.daemon.socket_path)
        _, held = holder.acquire(request(1, vm="a", mode=library.EXCLUSIVE, **SPU))
        proxy = self.proxy([(SENT, nothing), None, None])
        stream = self.context(proxy.path)
        self.assertEqual(stream.acquire_and_follow(request(1, vm="b", mode=library.EXCLUSIVE, **SPU), HOUR), 0)
        self.resume(stream)
        r, first = stream.process()
        self.assertEqual((r, first.change), (0, "queued"))
        proxy.hang_up()
        harness.wait_for(lambda: all(l["state"] != "queued" for l in self.leases()), "the waiter's end")
        self.resume(stream)
        r, second = stream.process()
        self.assertEqual((r, second.change), (0, "queued"))
        self.assertNotEqual(first.id, second.id)
        self.assertEqual([l["leaseId"] for l in self.leases() if l["state"] == "queued"], [second.id])

        proxy.plan[:] = [(BEFORE, lambda: self.assertEqual(holder.release(held.id), 0))]
        proxy.hang_up()
        self.resume(stream)
        r, lease = stream.process()
        self.assertEqual((r, lease.change, lease.state), (0, "granted", "granted"))
        proxy.hang_up()
        self.resume(stream)
        self.assertEqual(self.changes(stream), ([], library.AGAIN))
        self.assertEqual([l["leaseId"] for l in self.leases()], [lease.id])
        self.assertIn(b".Follow", proxy.calls[-1])

    def test_one_descriptor(self):
        """It is readable when there is something to do, and not otherwise."""
        _, stream = self.interrupted(lambda calls, lease_id: None)
        self.assertEqual(self.changes(stream), ([], library.AGAIN))
        self.assertEqual(select.select([stream.fd], [], [], 0)[0], [])
        self.daemon.call("Assign", cpus="3", owner="host", runtime=True)
        self.assertEqual(select.select([stream.fd], [], [], harness.DEADLINE)[0], [stream.fd])


if __name__ == "__main__":
    harness.main()
