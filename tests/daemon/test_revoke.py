# SPDX-License-Identifier: LGPL-2.1-or-later
"""Revoke: a grace, then a lease that protects nothing but is listed and charged until its owner is gone."""

import os
import signal

import harness
from sizes import MIB

LONG = 10**9


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestRevoke(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(config="[Policy]\nAcquireGroup=4321\nRevokeGraceSec=1000\n")
        self.admin = self.client(self.daemon)
        self.process, self.owner = self.vmm(self.daemon, uid=1000, groups=[4321])

    def acquire(self, **kwargs):
        """A lease of the VMM, and the stream that follows it."""
        stream = self.process.connect(self.daemon).stream("Acquire", request=request(**kwargs))
        self.addCleanup(stream.close)
        return stream.next()["lease"], stream

    def test_grace(self):
        lease, stream = self.acquire(cpus="0-1")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG, reason="maintenance")
        told = stream.change("revoking")["lease"]
        self.assertEqual((told["state"], told["charge"]), ("revoking", lease["charge"]))
        self.assertTrue(0 < told["remainingUSec"] <= LONG)
        self.assertIn("maintenance", told["reason"])
        # It still protects
        self.assertEqual(self.daemon.instance()["leasedCpus"], "0-1")
        self.refused("Busy", self.admin, "Acquire", request=request(cpus="1", mode="exclusive"))
        self.owner.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(stream.next()["change"], "ended")
        self.assert_idle(self.daemon)

    def test_default_grace(self):
        lease, _ = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"])
        held = self.daemon.lease(lease["leaseId"])
        self.assertTrue(900 * 10**6 < held["remainingUSec"] <= LONG)

    def test_after_the_grace(self):
        lease, stream = self.acquire(cpus="0-1", mode="guest")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=20_000)
        stream.change("revoking")
        told = stream.change("revoked")["lease"]
        self.assertEqual((told["state"], told["contended"]), ("revoked", False))
        self.assertIsNone(told.get("remainingUSec"))
        self.assertTrue(told["reason"])
        # It protects and permits nothing, but is listed and charged
        instance = self.daemon.instance()
        self.assertEqual(
            (instance["leasedCpus"], instance["charge"], instance["leases"]), ("", lease["charge"], 1)
        )
        host = self.daemon.call("Describe")["host"]
        self.assertEqual((host["charge"], host["counts"]["leases"]), (lease["charge"], 1))
        other = self.admin.call("Acquire", request=request(cpus="0-3", mode="exclusive"))["lease"]
        # Its guest may go on profiling there, which the exclusive lease was promised not to happen
        self.assertTrue(stream.change("contended")["lease"]["contended"])
        self.assertTrue(self.daemon.lease(other["leaseId"])["contended"])
        self.admin.call("Release", leaseId=other["leaseId"])
        self.assertFalse(stream.change("uncontended")["lease"]["contended"])
        self.process.kill()
        self.assertEqual(stream.change("ended")["lease"]["leaseId"], lease["leaseId"])
        self.assert_idle(self.daemon)

    def test_released_after_the_grace(self):
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        stream.change("revoked")
        self.owner.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(stream.next()["change"], "ended")
        self.assert_idle(self.daemon)

    def test_no_way_back(self):
        """A revoked lease cannot be moved, and its request id grants nothing."""
        lease = self.owner.call("Acquire", request=request(cpus="0", requestId="r"))["lease"]
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        self.owner.send("Update", {"leaseId": lease["leaseId"], "cpus": "1"})
        with self.assertRaises(harness.VarlinkError):
            self.owner.receive()
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "revoked")

    def test_kill(self):
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=200_000, kill=True)
        self.assertEqual(os.WTERMSIG(self.process.wait()), signal.SIGTERM)
        stream.change("ended")
        self.assert_idle(self.daemon)

    def test_kill_the_stubborn(self):
        """SIGTERM, a second grace, then SIGKILL."""
        stubborn = harness.Process(uid=1000, groups=[4321], ignore=(signal.SIGTERM,))
        self.addCleanup(stubborn.kill)
        lease = stubborn.call(self.daemon, "Acquire", request=request())["lease"]
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=20_000, kill=True)
        self.assertEqual(os.WTERMSIG(stubborn.wait()), signal.SIGKILL)
        harness.wait_for(lambda: self.daemon.lease(lease["leaseId"]) is None, "the lease has ended")
        self.assert_idle(self.daemon)

    def test_without_kill_nobody_is_killed(self):
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        stream.change("revoked")
        self.assertEqual(self.owner.call("ListLeases")["leases"][0]["state"], "revoked")

    def test_who(self):
        lease, _ = self.acquire()
        self.refused("PermissionDenied", self.owner, "Revoke", leaseId=lease["leaseId"])
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "granted")

    def test_unknown(self):
        answer = self.refused(harness.ADMIN + "NoSuchLease", self.admin, "Revoke", leaseId="0" * 32)
        self.assertEqual(answer, {"leaseId": "0" * 32})

    def test_queued(self):
        """A wait can be ended too; there is nothing to give a grace for."""
        held = self.admin.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        waiter = self.process.connect(self.daemon).stream("Acquire", request=request(cpus="0"), waitUSec=LONG)
        self.addCleanup(waiter.close)
        lease = waiter.next()["lease"]
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG)
        self.assertEqual(waiter.change("ended")["lease"]["leaseId"], lease["leaseId"])
        self.admin.call("Release", leaseId=held["leaseId"])
        self.assert_idle(self.daemon)

    def test_twice(self):
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG)
        stream.change("revoking")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        stream.change("revoked")
        self.assertEqual(self.daemon.call("Describe")["host"]["charge"], lease["charge"])


if __name__ == "__main__":
    harness.main()
