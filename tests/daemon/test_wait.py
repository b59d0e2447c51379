# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting: in order, without a charge, only for what is busy, and gone with its connection or its owner."""

import select

import harness
from sizes import MIB

LONG = 10**9


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestWait(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(config="[Policy]\nAcquireGroup=4321\n")
        self.main = self.client(self.daemon)

    def acquire(self, **kwargs):
        return self.main.call("Acquire", request=request(**kwargs))["lease"]

    def release(self, lease):
        self.main.call("Release", leaseId=lease["leaseId"])

    def queue(self, wait=LONG, **kwargs):
        """A waiter on a connection of its own, known to be queued."""
        stream = self.client(self.daemon).stream("Acquire", request=request(**kwargs), waitUSec=wait)
        first = stream.next()
        self.assertEqual((first["change"], first["lease"]["state"]), ("queued", "queued"))
        stream.lease = first["lease"]
        return stream

    def waiting(self):
        return self.daemon.call("Describe")["host"]["counts"]["waiting"]

    def test_queued_then_granted(self):
        held = self.acquire(cpus="0-1", mode="exclusive")
        waiter = self.queue(cpus="1-2", vm="next")
        listed = self.daemon.lease(waiter.lease["leaseId"])
        self.assertEqual((listed["state"], listed["vm"], listed["cpus"]), ("queued", "next", "1-2"))
        self.assertTrue(0 < listed["remainingUSec"] <= LONG)
        host = self.daemon.call("Describe")["host"]
        self.assertEqual(
            (host["charge"], host["counts"]["leases"], host["counts"]["waiting"]), (held["charge"], 1, 1)
        )
        self.assertEqual(self.daemon.instance()["leasedCpus"], "0-1")
        self.release(held)
        granted = waiter.next()
        self.assertEqual((granted["change"], granted["lease"]["state"]), ("granted", "granted"))
        self.assertEqual(granted["lease"]["leaseId"], waiter.lease["leaseId"])
        self.assertIsNone(granted["lease"].get("remainingUSec"))
        self.assertEqual(self.waiting(), 0)

    def test_without_more(self):
        held = self.acquire(cpus="0-1", mode="exclusive")
        client = self.client(self.daemon)
        client.send("Acquire", {"request": request(cpus="1"), "waitUSec": LONG})
        harness.wait_for(lambda: self.waiting() == 1, "it waits")
        self.assertFalse(select.select([client.socket], [], [], 0)[0])
        self.release(held)
        self.assertEqual(client.receive()[0]["lease"]["state"], "granted")

    def test_free_is_granted_at_once(self):
        self.assertEqual(
            self.main.call("Acquire", request=request(), waitUSec=LONG)["lease"]["state"], "granted"
        )

    def test_in_order(self):
        held = self.acquire(cpus="0-3", mode="exclusive")
        waiters = [self.queue(cpus="0", mode="exclusive", vm=f"vm{i}") for i in range(4)]
        for i, waiter in enumerate(waiters):
            self.release(held)
            held = waiter.change("granted")["lease"]
            self.assertEqual(held["vm"], f"vm{i}")
            self.assertEqual(self.waiting(), len(waiters) - 1 - i)

    def test_compatible_waiters_together(self):
        held = self.acquire(cpus="0-3", mode="exclusive")
        waiters = [self.queue(cpus="0-1") for _ in range(3)]
        self.release(held)
        for waiter in waiters:
            waiter.change("granted")

    def test_waiter_ahead(self):
        """Free CPUs are not free for what conflicts with an earlier waiter; for the rest they are."""
        held = self.acquire(cpus="0", mode="exclusive")
        waiter = self.queue(cpus="0-2", mode="exclusive")
        answer = self.refused("Busy", self.main, "Acquire", request=request(cpus="2-3"))
        self.assertEqual(answer["holders"], [])
        decision = self.main.call("Query", request=request(cpus="2-3"))["decision"]
        self.assertFalse(decision["granted"])
        self.assertEqual(decision["counterOffer"]["cpus"], "3")
        self.acquire(cpus="3")
        self.release(held)
        waiter.change("granted")
        self.refused("Busy", self.main, "Acquire", request=request(cpus="2-3"))

    def test_shared_wish_is_not_in_the_way(self):
        """A guest lease that waits does not conflict with other guest leases."""
        self.acquire(cpus="0", mode="exclusive")
        self.queue(cpus="0-1", mode="guest")
        self.acquire(cpus="1", mode="guest")
        self.refused("Busy", self.main, "Acquire", request=request(cpus="0-1", mode="exclusive"))
        self.refused("Busy", self.main, "Acquire", request=request(cpus="1", mode="exclusive"))

    def test_later_waiter_behind_earlier(self):
        held = self.acquire(cpus="0", mode="exclusive")
        first = self.queue(cpus="0-2", mode="exclusive", vm="first")
        second = self.queue(cpus="2-3", mode="exclusive", vm="second")
        self.assertEqual(self.waiting(), 2)
        self.release(held)
        lease = first.change("granted")["lease"]
        self.assertEqual(self.waiting(), 1)
        self.release(lease)
        second.change("granted")

    def test_gone_with_its_connection(self):
        self.acquire(cpus="0", mode="exclusive")
        waiter = self.queue(cpus="0-1", mode="exclusive")
        self.refused("Busy", self.main, "Acquire", request=request(cpus="1"))
        waiter.close()
        harness.wait_for(lambda: self.waiting() == 0, "the waiter is gone")
        self.assertIsNone(self.daemon.lease(waiter.lease["leaseId"]))
        self.acquire(cpus="1")

    def test_leaving_waiter_lets_others_in(self):
        self.acquire(cpus="0", mode="exclusive")
        first = self.queue(cpus="0-1", mode="exclusive")
        second = self.queue(cpus="1")
        first.close()
        second.change("granted")

    def test_gone_with_its_owner(self):
        self.acquire(cpus="0", mode="exclusive")
        process = self.vmm(uid=1000)
        waiter = self.queue(cpus="0-1", pid=process.pid)
        process.kill()
        self.assertEqual(waiter.change("ended")["lease"]["state"], "ended")
        self.assertTrue(waiter.done)
        self.assertEqual(self.waiting(), 0)

    def test_runs_out(self):
        held = self.acquire(cpus="0", mode="exclusive", vm="holder")
        for more in (False, True):
            with self.subTest(more):
                client = self.client(self.daemon)
                client.send("Acquire", {"request": request(cpus="0-1"), "waitUSec": 50_000}, more=more)
                if more:
                    self.assertEqual(client.receive()[0]["change"], "queued")
                with self.assertRaises(harness.VarlinkError) as caught:
                    client.receive()
                self.assertEqual(caught.exception.name, harness.BROKER + "Busy")
                self.assertEqual([h["leaseId"] for h in caught.exception.holders], [held["leaseId"]])
                self.assertEqual(self.waiting(), 0)
                client.call("Describe")
        self.acquire(cpus="1")

    def test_zero_does_not_wait(self):
        self.acquire(cpus="0", mode="exclusive")
        self.refused("Busy", self.main, "Acquire", request=request(cpus="0"), waitUSec=0)
        self.assertEqual(self.waiting(), 0)

    def test_only_busy_waits(self):
        self.acquire(cpus="0", mode="exclusive")
        for error, asked in (
            ("NoSuchInstance", {"instance": "arm_spe_9"}),
            ("NoInstanceForCpus", {"cpus": "3-4"}),
            ("LimitExceeded", {"cpus": "0", "bufferSize": 2**40, "exact": True}),
        ):
            self.refused(error, self.main, "Acquire", request=request(**asked), waitUSec=LONG)

    def test_owner_death_lets_the_waiter_in(self):
        process, client = self.vmm(self.daemon)
        client.call("Acquire", request=request(cpus="0", mode="exclusive"))
        waiter = self.queue(cpus="0")
        process.kill()
        waiter.change("granted")

    def test_revocation_lets_the_waiter_in(self):
        held = self.acquire(cpus="0", mode="exclusive")
        waiter = self.queue(cpus="0")
        self.main.call("Revoke", leaseId=held["leaseId"], graceUSec=0)
        waiter.change("granted")

    def test_limit_met_while_waiting(self):
        """A waiter holds no charge, so a limit can come in its way meanwhile. Whatever it is told then, the
        limit holds."""
        held = self.acquire(cpus="0", mode="exclusive")
        waiter = self.queue(cpus="0")
        self.acquire(cpus="1")
        self.daemon.configure("[Limits]\nMaxLeases=1\n")
        self.main.call("Reload")
        self.refused("LimitExceeded", self.main, "Acquire", request=request(cpus="2"))
        self.release(held)
        self.assertEqual(self.daemon.call("Describe")["host"]["counts"]["leases"], 1)
        waiter.close()

    def test_many(self):
        """A hundred waiters, most of which lose patience: nothing is left over."""
        held = self.acquire(cpus="0-3", mode="exclusive")
        streams = [self.queue(cpus="0-3", mode="exclusive", bufferSize=4096) for _ in range(100)]
        self.assertEqual(self.waiting(), 100)
        for stream in streams[1:]:
            stream.close()
        harness.wait_for(lambda: self.waiting() == 1, "those that hung up are gone")
        self.release(held)
        self.release(streams[0].change("granted")["lease"])
        self.assert_idle(self.daemon)


if __name__ == "__main__":
    harness.main()
