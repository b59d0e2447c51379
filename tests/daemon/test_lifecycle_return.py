# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lease whose SPU comes back as another one: each rule, with the case beside it that is decided the other way."""

import harness
from lifecycle import BUFFER, LifecycleCase, request
from sizes import KIB


class TestType(LifecycleCase):
    def test_never_enabled(self):
        """One byte less than the buffer of one VCPU says that KVM has not charged one."""
        self.start()
        for locked in (0, BUFFER - 4 * KIB):
            with self.subTest(locked=locked):
                lease, stream = self.acquire(locked=locked, cpus="4-5")
                self.remove(1)
                self.away(stream, lease)
                self.host.instance(1, "4-11", type=33 + locked)
                self.rescan()
                self.back(stream, lease, pmuType=33 + locked)
                self.host.instance(1, "4-11", type=9)
                self.rescan()
                self.back(stream, lease)
                self.admin.call("Release", leaseId=lease["leaseId"])
                self.watch.until(lambda r: (r["event"].get("lease") or {}).get("change") == "ended")

    def test_enabled(self):
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="4-5")
        self.remove(1)
        self.away(stream, lease)
        self.host.instance(1, "4-11", type=33)
        self.rescan()
        stale = self.stale(stream, lease, pmuType=33)
        self.assertIn("PMU type 33, was 9", stale["reason"])
        # It needs a restart however often it goes, until it is the SPU that the VM has had.
        self.remove(1)
        self.away(stream, lease, restartRequired=True)
        self.host.instance(1, "4-11", type=33)
        self.rescan()
        self.assertEqual(self.stale(stream, lease, pmuType=33), stale)
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(stream, lease)

    def test_acquire_anew(self):
        """What the reason says helps."""
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="4-5", mode="exclusive")
        self.host.instance(1, "4-11", type=33)
        self.rescan()
        self.stale(stream, lease, pmuType=33)
        self.admin.call("Release", leaseId=lease["leaseId"])
        again = self.admin.call("Acquire", request=request(cpus="4-5", mode="exclusive"))["lease"]
        self.assertEqual((again["pmuType"], again["restartRequired"], again["reason"]), (33, False, None))

    def test_between_two_looks(self):
        """The SPU went and came back unseen: the same."""
        self.start()
        never, never_stream = self.acquire(cpus="4")
        enabled, enabled_stream = self.acquire(locked=BUFFER, cpus="4")
        self.host.instance(1, "4-11", type=33)
        self.rescan()
        self.back(never_stream, never, pmuType=33)
        self.stale(enabled_stream, enabled, pmuType=33)
        self.assertEqual(
            [self.event() for _ in range(3)], ["arm_spe_1 ready", "lease restored 4", "lease updated 4"]
        )
        # Looking again changes nothing, and tells nothing.
        self.rescan()
        self.remove(0)
        self.assertEqual(self.event(), "arm_spe_0 gone")


class TestNames(LifecycleCase):
    """Names and types are used again for other SPUs: the CPUs say which one it is."""

    def swapped(self, *types):
        with self.host.at_once():
            self.host.instance(0, "4-11", type=types[0]).instance(1, "0-3", type=types[1])
        self.rescan()

    def test_swapped(self):
        self.start()
        little, little_stream = self.acquire(cpus="0-1", mode="exclusive")
        big, big_stream = self.acquire(locked=BUFFER, cpus="4-7")
        self.remove(0, 1)
        self.away(little_stream, little)
        self.away(big_stream, big)
        self.swapped(8, 9)
        self.back(little_stream, little, instance="arm_spe_1", pmuType=9)
        stale = self.stale(big_stream, big, instance="arm_spe_0", pmuType=8)
        self.assertIn("PMU type 8, was 9", stale["reason"])
        for name, lease in (("arm_spe_1", little), ("arm_spe_0", big)):
            instance = self.daemon.instance(name)
            self.assertEqual(
                (instance["charge"], instance["leases"], instance["leasedCpus"]),
                (lease["charge"], 1, lease["cpus"]),
            )
        self.refused("Busy", self.admin, "Acquire", request=request(cpus="1"))
        self.refused("NoInstanceForCpus", self.admin, "Update", leaseId=big["leaseId"], cpus="2")
        moved = self.admin.call("Update", leaseId=little["leaseId"], cpus="2-3")["lease"]
        self.assertEqual((moved["instance"], moved["cpus"], moved["pmuType"]), ("arm_spe_1", "2-3", 9))

    def test_types_go_along(self):
        """Only the names have changed, and KVM does not know them: restored, whatever the VM has done."""
        self.start()
        big, stream = self.acquire(locked=BUFFER, cpus="4-7")
        self.remove(0, 1)
        self.away(stream, big)
        self.swapped(9, 8)
        self.back(stream, big, instance="arm_spe_0")

    def test_renumbered(self):
        """It comes back under a number that is new; the old one is nobody's then."""
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="4-7")
        self.remove(1)
        self.away(stream, lease)
        self.host.instance(2, "4-11", type=9)
        self.rescan()
        self.assertIsNone(self.daemon.instance("arm_spe_1"))
        self.back(stream, lease, instance="arm_spe_2")
        self.assertEqual(
            [self.event() for _ in range(5)],
            ["arm_spe_1 gone", "lease updated 4-7", "arm_spe_2 ready", "lease restored 4-7", "arm_spe_1 gone"],
        )
        self.assertEqual(self.daemon.instance("arm_spe_2")["leases"], 1)

    def test_one_by_one(self):
        """The other SPU comes back first, under this one's name and type: it is not mistaken for it."""
        self.start()
        little, stream = self.acquire(cpus="0-1")
        self.remove(0, 1)
        self.away(stream, little)
        self.host.instance(0, "4-11", type=8)
        self.rescan()
        held = self.daemon.lease(little["leaseId"])
        self.assertEqual((held["pmuType"], held["restartRequired"], held["cpus"]), (None, False, "0-1"))
        self.assertEqual(self.daemon.instance("arm_spe_0")["leasedCpus"], "")
        self.invalid("leaseId", self.admin, "Update", leaseId=little["leaseId"], cpus="5")
        self.host.instance(1, "0-3", type=9)
        self.rescan()
        self.back(stream, little, instance="arm_spe_1", pmuType=9)

    def test_revoked_lease_follows(self):
        """It is listed where its CPUs are, and stays what it is."""
        self.start()
        lease, stream = self.acquire(cpus="0-1")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0, reason="enough")
        self.assertEqual(stream.next()["change"], "revoking")
        stream.follow.next()
        revoked = self.told(stream, "revoked", lease, state="revoked", reason=harness.revoked("enough", "0-1"))
        self.remove(0, 1)
        self.told(stream, "updated", revoked, pmuType=None, reason=harness.revoked("enough", "0-1", away=True))
        self.swapped(8, 9)
        self.told(stream, "updated", revoked, instance="arm_spe_1", pmuType=9, restartRequired=True)
        self.assertEqual(self.daemon.instance("arm_spe_1")["charge"], lease["charge"])
        self.assertEqual(self.daemon.instance("arm_spe_0")["charge"], 0)
        self.admin.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(self.daemon)


class TestCut(LifecycleCase):
    """The SPU comes back with other CPUs."""

    def test_some_left(self):
        self.start()
        never, never_stream = self.acquire(cpus="6-8")
        enabled, enabled_stream = self.acquire(locked=BUFFER, cpus="6-8")
        self.remove(1)
        self.away(never_stream, never)
        self.away(enabled_stream, enabled)
        self.host.instance(1, "4-7", type=9)
        self.rescan()
        now = self.back(never_stream, never, cpus="6-7")
        stale = self.stale(enabled_stream, enabled, cpus="6-7")
        self.assertIn("other CPUs", stale["reason"])
        # What it needed them for is over, so one shrinks for good; the other is as it was with all of them.
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(enabled_stream, enabled)
        self.assertEqual(self.daemon.lease(never["leaseId"]), now)

    def test_moved_to_what_is_left(self):
        """The VM has enabled this very SPU, and now keeps to the CPUs that it has."""
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="6-8")
        self.host.instance(1, "4-7", type=9)
        self.rescan()
        self.stale(stream, lease, cpus="6-7")
        self.admin.call("Update", leaseId=lease["leaseId"], cpus="5-6")
        self.told(stream, "updated", lease, cpus="5-6")

    def test_none_left(self):
        """Then it has no SPU, whoever has the name."""
        self.start()
        lease, stream = self.acquire(cpus="8-11")
        self.host.instance(1, "4-7", type=9)
        self.rescan()
        self.away(stream, lease)
        self.assertEqual(self.daemon.instance("arm_spe_1")["state"], "ready")
        self.host.instance(1, "4-9", type=9)
        self.rescan()
        self.back(stream, lease, cpus="8-9")

    def test_more_than_before(self):
        """All its CPUs, and others: as it was."""
        self.start()
        enabled, stream = self.acquire(locked=BUFFER, cpus="4-5")
        self.remove(1)
        self.away(stream, enabled)
        self.host.write("sys/devices/system/cpu/possible", "0-15")
        self.host.online("0-15")
        self.host.instance(1, "4-15", type=9)
        self.rescan()
        self.back(stream, enabled)

    def test_freed(self):
        """CPUs that a lease does not have any more are for others."""
        self.start()
        lease, stream = self.acquire(cpus="6-8", mode="exclusive")
        self.remove(0, 1)
        self.away(stream, lease)
        with self.host.at_once():
            self.host.instance(0, "0-3,8", type=8).instance(1, "4-7", type=9)
        self.rescan()
        self.back(stream, lease, cpus="6-7")
        self.admin.call("Acquire", request=request(cpus="8", mode="exclusive"))
        self.refused("Busy", self.admin, "Acquire", request=request(cpus="7"))


if __name__ == "__main__":
    harness.main()
