# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lease whose SPU goes: what it is told, what it holds, when it is revoked; and a driver that is reloaded in a loop."""

import harness
from lifecycle import BUFFER, GRACE_USEC, LifecycleCase, request


class TestGone(LifecycleCase):
    def test_back_as_it_was(self):
        """Whatever the VM has done."""
        self.start()
        for locked in (0, BUFFER):
            with self.subTest(locked=locked):
                lease, stream = self.acquire(locked=locked, cpus="4-5")
                self.remove(1)
                self.away(stream, lease)
                self.assertEqual([self.event(), self.event()], ["arm_spe_1 gone", "lease updated 4-5"])
                instance = self.daemon.instance("arm_spe_1")
                self.assertEqual(
                    (instance["state"], instance["leases"], instance["charge"], instance["leasedCpus"]),
                    ("gone", 1, lease["charge"], "4-5"),
                )
                self.host.instance(1, "4-11", type=9)
                self.rescan()
                self.assertEqual(self.back(stream, lease), lease)
                self.assertEqual([self.event(), self.event()], ["arm_spe_1 ready", "lease restored 4-5"])
                self.ended(stream)
                self.assertEqual(self.event(), "lease ended 4-5")
        self.assert_idle(self.daemon)

    def test_partial(self):
        """The directory is there without its type: for the lease it is the same, the instance says which."""
        self.start()
        lease, stream = self.acquire(cpus="4-5")
        self.host.instance(1, "4-11", type=None)
        self.rescan()
        self.away(stream, lease)
        self.assertEqual([self.event(), self.event()], ["arm_spe_1 partial", "lease updated 4-5"])
        self.assertEqual(self.daemon.instance("arm_spe_1")["state"], "partial")
        # From partial to gone nothing changes for the lease, and nothing is told of it.
        self.remove(1)
        self.assertEqual(self.event(), "arm_spe_1 gone")
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(stream, lease)
        self.assertEqual([self.event(), self.event()], ["arm_spe_1 ready", "lease restored 4-5"])

    def test_partial_assigned_by_name(self):
        """It does not say which CPUs it has: an assignment of the configuration to it goes on to hold, and so
        does the lease."""
        policy = "[Policy]\nDefaultOwner=host\nRevokeGraceSec=0\nGoneGraceSec=1000\n"
        self.start(policy + "[Assignment guests]\nInstance=arm_spe_1\nOwner=guest\n")
        lease, stream = self.acquire(cpus="4-5")
        self.host.instance(1, None, type=None)
        self.rescan()
        self.away(stream, lease)
        instance = self.daemon.instance("arm_spe_1")
        self.assertEqual((instance["state"], instance["cpus"], instance["leasedCpus"]), ("partial", "4-11", "4-5"))
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(stream, lease)
        # Without a lease on it, it is what the tree says.
        self.host.instance(1, None, type=None)
        self.rescan()
        self.admin.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(self.daemon.instance("arm_spe_1")["cpus"], "")

    def test_nothing_is_granted_on_it(self):
        self.start()
        lease, _ = self.acquire(cpus="4-5")
        self.remove(1)
        for asked in ({"instance": "arm_spe_1"}, {"cpus": "8"}):
            answer = self.refused("InstanceNotReady", self.admin, "Acquire", request=request(**asked))
            self.assertEqual((answer["instance"], answer["state"]), ("arm_spe_1", "gone"))
        self.refused("InstanceNotReady", self.admin, "Update", leaseId=lease["leaseId"], cpus="6")
        # Its twin is still there.
        self.assertEqual(self.admin.call("Acquire", request=request())["lease"]["instance"], "arm_spe_0")

    def test_others_are_left_alone(self):
        self.start()
        lease, stream = self.acquire(cpus="0")
        self.remove(1)
        self.assertEqual(self.daemon.lease(lease["leaseId"]), lease)
        self.ended(stream)

    def test_ends_while_away(self):
        """With the owner; then the instance has nothing left to stay for."""
        self.start()
        process, client = self.vmm(self.daemon)
        client.call("Acquire", request=request(cpus="4"))
        self.remove(1)
        process.kill()
        self.watch.until(lambda r: r["event"]["kind"] == "lease" and r["event"]["lease"]["change"] == "ended")
        self.assertEqual(self.event(), "arm_spe_1 gone")
        self.assertIsNone(self.daemon.instance("arm_spe_1"))
        self.assert_idle(self.daemon)


class TestGrace(LifecycleCase):
    def test_over(self):
        """Revoked, charged until it is released, and a restart is due even if the SPU returns as it was."""
        self.start("[Policy]\nGoneGraceSec=100ms\n")
        lease, stream = self.acquire(cpus="4-5", mode="exclusive")
        self.remove(1)
        reason = "its SPU has been gone for longer than GoneGraceSec"
        self.assertEqual(stream.next()["change"], "updated")
        stream.follow.next()
        now = self.told(
            stream, "revoked", lease, state="revoked", reason=harness.revoked(reason, "4-5", away=True), pmuType=None,
            restartRequired=True
        )
        self.assertIsNone(now["remainingUSec"])
        self.assertEqual(
            [self.event() for _ in range(3)], ["arm_spe_1 gone", "lease updated 4-5", "lease revoked 4-5"]
        )
        instance = self.daemon.instance("arm_spe_1")
        self.assertEqual(
            (instance["state"], instance["charge"], instance["leasedCpus"]), ("gone", lease["charge"], "")
        )
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.told(stream, "updated", lease, state="revoked", reason=harness.revoked(reason, "4-5"),
                  restartRequired=True)
        # Its CPUs are free, for whoever does not mind.
        self.admin.call("Acquire", request=request(cpus="4-5"))
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "revoked")
        self.admin.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(self.daemon.counters()["leases-revoked"], 1)

    def test_instance_goes_with_the_last(self):
        self.start("[Policy]\nGoneGraceSec=0\n")
        lease, stream = self.acquire(cpus="4-5")
        self.remove(1)
        self.assertEqual(self.daemon.instance("arm_spe_1")["leases"], 1)
        self.admin.call("Release", leaseId=lease["leaseId"])
        self.assertIsNone(self.daemon.instance("arm_spe_1"))
        self.assert_idle(self.daemon)

    def test_none(self):
        """Without a grace there is nothing between granted and revoked."""
        self.start("[Policy]\nGoneGraceSec=0\n")
        lease, stream = self.acquire(cpus="4-5")
        self.remove(1)
        self.told(
            stream,
            "revoked",
            lease,
            state="revoked",
            reason=harness.revoked("its SPU has been gone for longer than GoneGraceSec", "4-5", away=True),
            pmuType=None,
            restartRequired=True,
        )
        self.assertEqual([self.event(), self.event()], ["arm_spe_1 gone", "lease revoked 4-5"])

    def test_not_counted_twice(self):
        """Coming back ends the grace; it counts from the last time that it went."""
        self.start("[Policy]\nGoneGraceSec=1000\n")
        lease, stream = self.acquire(cpus="4-5")
        self.remove(1)
        first = self.away(stream, lease)["remainingUSec"]
        harness.wait_for(
            lambda: self.daemon.lease(lease["leaseId"])["remainingUSec"] < first - 20000, "time passes"
        )
        self.rescan()
        self.assertLess(self.daemon.lease(lease["leaseId"])["remainingUSec"], first - 20000)
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(stream, lease)
        self.remove(1)
        self.assertGreater(self.away(stream, lease)["remainingUSec"], GRACE_USEC - 10**6)

    def test_revoking(self):
        """A revocation goes on, and the SPU's return does not withdraw it."""
        self.start()
        lease, stream = self.acquire(cpus="4-5")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=500 * 10**6, reason="maintenance")
        revoking = self.told(stream, "revoking", lease, state="revoking", reason="maintenance")
        self.remove(1)
        now = self.told(stream, "updated", revoking, pmuType=None)
        self.assertLessEqual(now["remainingUSec"], 500 * 10**6)
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.told(stream, "updated", revoking)


class TestLoop(LifecycleCase):
    ROUNDS = 1000

    def test_driver_loop(self):
        """Loaded and unloaded a thousand times: each time the lease is told once of either, and in the end
        every charge is what it was."""
        self.start()
        never, never_stream = self.acquire(cpus="4-5", mode="exclusive")
        enabled, enabled_stream = self.acquire(locked=BUFFER, cpus="0")
        before = self.daemon.call("ListInstances")["instances"]
        charges = [(i["name"], i["charge"], i["leases"], i["leasedCpus"]) for i in before]
        # A directory that is put aside and back is as good as one that is written anew, and faster.
        names = [self.host.devices / name for name in ("arm_spe_0", "arm_spe_1")]
        aside = [self.host.root / name.name for name in names]
        for name, other in zip(names, aside):
            other.symlink_to(name.resolve())
        for _ in range(self.ROUNDS):
            for name in names:
                name.unlink()
            self.admin.send("Rescan")
            self.admin.receive()
            for name, other in zip(names, aside):
                name.symlink_to(other.readlink())
            self.admin.send("Rescan")
            self.admin.send("Describe")
            self.admin.receive()
            host, _ = self.admin.receive()
            self.assertEqual(host["host"]["charge"], never["charge"] + enabled["charge"])
            self.assertEqual(host["host"]["counts"]["leases"], 2)
            for stream in (never_stream, enabled_stream):
                self.assertEqual([stream.next()["change"], stream.next()["change"]], ["updated", "restored"])
        after = self.daemon.call("ListInstances")["instances"]
        self.assertEqual([(i["name"], i["charge"], i["leases"], i["leasedCpus"]) for i in after], charges)
        self.assertEqual([self.daemon.lease(l["leaseId"]) for l in (never, enabled)], [never, enabled])
        for lease, stream in ((never, never_stream), (enabled, enabled_stream)):
            self.admin.call("Release", leaseId=lease["leaseId"])
            self.assertEqual(stream.next()["change"], "ended")
        self.assert_idle(self.daemon)


if __name__ == "__main__":
    harness.main()
