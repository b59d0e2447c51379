# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases whose SPU goes, comes back as another one, or whose CPUs go off line: what the tests of each rule share. What
is told is asserted by content and order."""

import harness
from sizes import MIB

BUFFER = MIB
LONG = "[Policy]\nGoneGraceSec=1000\n"
GRACE_USEC = 1000 * 10**6
GONE = "its SPU is gone: the lease is revoked unless it is back in time"
OFF_LINE = "all its CPUs are off line: it is revoked unless one is back in time"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": BUFFER} | kwargs


class LifecycleCase(harness.TestCase):
    """arm_spe_0 (type 8) on CPUs 0-3, arm_spe_1 (type 9) on CPUs 4-11; an administrator who watches."""

    def start(self, config=LONG):
        self.daemon = self.broker(config=config)
        self.host = self.daemon.tree
        self.admin = self.client(self.daemon)
        self.watch = self.client(self.daemon).stream("Watch")
        self.watch.next()

    def acquire(self, locked=0, **kwargs):
        """A lease of a process that has locked so much memory, and the stream of its changes."""
        process, client = self.vmm(self.daemon, locked=locked)
        stream = client.stream("Acquire", request=request(**kwargs))
        lease = stream.next()["lease"]
        self.assertEqual(lease["state"], "granted")
        lease_stream = process.connect(self.daemon).stream("Follow", leaseId=lease["leaseId"])
        self.addCleanup(lease_stream.close)
        self.assertEqual(lease_stream.next(), {"lease": lease, "change": None})
        stream.follow = lease_stream
        self.assertEqual(self.event(), f"lease granted {lease['cpus']}")
        return lease, stream

    def event(self):
        """The next event of the Watch stream, in short."""
        event = self.watch.next()["event"]
        if event["kind"] == "lease":
            return f"lease {event['lease']['change']} {event['lease']['lease']['cpus']}"
        if event["kind"] == "instance":
            return f"{event['instance']['name']} {event['instance']['state']}"
        return event["kind"]

    def told(self, stream, change, lease, **differs):
        """The next thing that is told about the lease is this change, and nothing but this differs; the same
        by Acquire, by Follow, and in the list."""
        reply = stream.next()
        now = reply["lease"]
        self.assertEqual((reply["change"], now), (change, lease | differs | self.remaining(now)))
        followed = stream.follow.next()
        self.assertEqual((followed["change"], followed["lease"] | self.remaining(now)), (change, now))
        if now["state"] != "ended":
            held = self.daemon.lease(lease["leaseId"])
            self.assertEqual(held | self.remaining(now), now)
        return now

    @staticmethod
    def remaining(lease):
        """It runs, so it is compared apart."""
        return {"remainingUSec": lease["remainingUSec"]}

    def away(self, stream, lease, reason=GONE, **differs):
        now = self.told(stream, "updated", lease, pmuType=None, reason=reason, **differs)
        self.assertGreater(now["remainingUSec"], 0)
        self.assertLessEqual(now["remainingUSec"], GRACE_USEC)
        return now

    def back(self, stream, lease, **differs):
        now = self.told(stream, "restored", lease, reason=None, restartRequired=False, **differs)
        self.assertIsNone(now["remainingUSec"])
        return now

    def stale(self, stream, lease, **differs):
        """The lease needs a restart; says why, and what to do."""
        reply = stream.next()
        self.assertEqual(reply["change"], "updated")
        self.assertTrue(reply["lease"]["reason"])
        expected = lease | differs | {"restartRequired": True, "reason": reply["lease"]["reason"]}
        self.assertEqual(reply["lease"], expected)
        self.assertIn("restart the VM, or release the lease and acquire anew", reply["lease"]["reason"])
        self.assertEqual(stream.follow.next(), reply)
        return reply["lease"]

    def rescan(self):
        self.admin.call("Rescan")

    def remove(self, *numbers):
        with self.host.at_once():
            for number in numbers:
                self.host.remove_instance(number)
        self.rescan()

    def ended(self, stream):
        """It is released, and nothing was told until then."""
        lease_id = self.daemon.call("ListLeases")["leases"][0]["leaseId"]
        self.admin.call("Release", leaseId=lease_id)
        for follower in (stream, stream.follow):
            reply = follower.next()
            self.assertEqual((reply["change"], reply["lease"]["leaseId"]), ("ended", lease_id))
