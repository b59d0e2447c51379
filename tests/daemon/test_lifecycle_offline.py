# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases whose CPUs go off line, and waiters for an SPU that goes or changes."""

import harness
from lifecycle import BUFFER, GRACE_USEC, OFF_LINE, LifecycleCase, request


class TestOffLine(LifecycleCase):
    def online(self, cpus):
        self.host.online(cpus)
        self.rescan()

    def test_some(self):
        """Told what it can use; it gets all of them back, and nobody else does."""
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="4-7", mode="exclusive")
        self.online("0-5,8-11")
        self.told(stream, "cpus", lease, cpus="4-5", reason="of its CPUs, 6-7 are off line")
        self.assertEqual([self.event(), self.event()], ["arm_spe_1 ready", "lease cpus 4-5"])
        self.assertEqual(self.daemon.instance("arm_spe_1")["leasedCpus"], "4-7")
        # Off line it can be had by nobody, and back on line it is not free.
        self.refused("NoInstanceForCpus", self.admin, "Acquire", request=request(cpus="6"))
        self.online("0-6,8-11")
        self.told(stream, "cpus", lease, cpus="4-6", reason="of its CPUs, 7 is off line")
        self.refused("Busy", self.admin, "Acquire", request=request(cpus="6"))
        self.online("0-11")
        self.told(stream, "cpus", lease)
        self.refused("Busy", self.admin, "Acquire", request=request(cpus="7"))

    def test_not_its_own(self):
        self.start()
        lease, stream = self.acquire(cpus="4-7")
        self.online("0-7")
        self.assertEqual(self.event(), "arm_spe_1 ready")
        self.assertEqual(self.daemon.lease(lease["leaseId"]), lease)
        self.online("0-11")
        self.ended(stream)

    def test_all(self):
        """As if the SPU were gone: with the grace, and restored by the first CPU that is back."""
        self.start()
        lease, stream = self.acquire(locked=BUFFER, cpus="4-5")
        self.online("0-3,6-11")
        self.away(stream, lease, reason=OFF_LINE)
        self.assertEqual(self.daemon.instance("arm_spe_1")["state"], "ready")
        self.online("0-4,6-11")
        self.told(stream, "restored", lease, cpus="4", reason="of its CPUs, 5 is off line")
        self.online("0-11")
        self.told(stream, "cpus", lease)

    def test_all_for_too_long(self):
        self.start("[Policy]\nGoneGraceSec=0\n")
        lease, stream = self.acquire(cpus="4-5")
        self.online("0-3,6-11")
        self.told(
            stream,
            "revoked",
            lease,
            state="revoked",
            reason=harness.revoked("its CPUs have been off line for longer than GoneGraceSec", "4-5", away=True),
            pmuType=None,
            restartRequired=True,
        )

    def test_update(self):
        """Moving away from CPUs that are off line gives them up."""
        self.start()
        lease, stream = self.acquire(cpus="4-7")
        self.online("0-5,8-11")
        self.told(stream, "cpus", lease, cpus="4-5", reason="of its CPUs, 6-7 are off line")
        self.refused("NoInstanceForCpus", self.admin, "Update", leaseId=lease["leaseId"], cpus="5-6")
        self.admin.call("Update", leaseId=lease["leaseId"], cpus="5")
        self.told(stream, "updated", lease, cpus="5")
        self.online("0-11")
        self.admin.call("Acquire", request=request(cpus="6-7", mode="exclusive"))
        self.assertEqual(self.daemon.lease(lease["leaseId"])["cpus"], "5")

    def test_update_from_nothing(self):
        """All off line: it may move to others of its instance."""
        self.start()
        lease, stream = self.acquire(cpus="4-5")
        self.online("0-3,6-11")
        self.away(stream, lease, reason=OFF_LINE)
        self.admin.call("Update", leaseId=lease["leaseId"], cpus="8")
        self.told(stream, "updated", lease, cpus="8")

    def test_assigned_away_meanwhile(self):
        """CPUs that come back are the lease's only as far as assignments still leave them to it."""
        self.start()
        lease, stream = self.acquire(cpus="4-7")
        self.online("0-5,8-11")
        self.told(stream, "cpus", lease, cpus="4-5", reason="of its CPUs, 6-7 are off line")
        self.admin.call("Assign", cpus="6", owner="host", runtime=True)
        self.told(stream, "updated", lease, cpus="4-5", reason="of its CPUs, 7 is off line")
        self.online("0-11")
        self.told(stream, "cpus", lease, cpus="4-5,7")

    def test_only_those_off_line_left(self):
        """Assignments take those on line: what is left is away."""
        self.start()
        lease, stream = self.acquire(cpus="4-5")
        self.online("0-4,6-11")
        self.told(stream, "cpus", lease, cpus="4", reason="of its CPUs, 5 is off line")
        affected = self.admin.call("Assign", cpus="4", owner="host", runtime=True)["affected"]
        self.assertEqual([l["leaseId"] for l in affected], [lease["leaseId"]])
        self.away(stream, lease, reason=OFF_LINE, cpus="5")
        self.online("0-11")
        self.back(stream, lease, cpus="5")

    def test_all_assigned_away_while_gone(self):
        """A lease that may not have its CPUs any more is revoked with that grace, there or not."""
        self.start("[Policy]\nGoneGraceSec=1000\nRevokeGraceSec=500\n")
        lease, stream = self.acquire(cpus="4-5")
        self.remove(1)
        away = self.away(stream, lease)
        reason = "all its CPUs are assigned to others now"
        self.admin.call("Assign", instance="arm_spe_1", owner="host", runtime=True)
        now = self.told(stream, "revoking", away, state="revoking", reason=reason)
        self.assertLessEqual(now["remainingUSec"], 500 * 10**6)
        self.admin.call("Unassign", cpus="4-5")
        self.away(stream, lease)
        self.host.instance(1, "4-11", type=9)
        self.rescan()
        self.back(stream, lease)


class TestWaiters(LifecycleCase):
    """Who waits is decided anew by what was asked, not by what it waited for."""

    def wait(self, **kwargs):
        stream = self.client(self.daemon).stream(
            "Acquire", request=request(**kwargs), waitUSec=GRACE_USEC
        )
        self.assertEqual(stream.next()["change"], "queued")
        return stream

    def test_refused(self):
        """Only Busy waits: an SPU that is gone is no reason to."""
        self.start()
        lease, _ = self.acquire(cpus="4-5", mode="exclusive")
        waiter = self.wait(cpus="4", instance="arm_spe_1")
        self.admin.call("Acquire", request=request(cpus="0", mode="exclusive"))
        patient = self.wait(cpus="0")
        self.remove(1)
        with self.assertRaises(harness.VarlinkError) as caught:
            waiter.next()
        self.assertEqual(caught.exception.name, harness.BROKER + "InstanceNotReady")
        self.assertEqual(caught.exception.parameters["state"], "gone")
        self.assertEqual(self.daemon.call("Describe")["host"]["counts"]["waiting"], 1)
        patient.close()

    def test_elsewhere(self):
        """It named no SPU: another one will do."""
        self.start()
        self.acquire(cpus="0-3", mode="exclusive")
        held, _ = self.acquire(cpus="4-11", mode="exclusive")
        waiter = self.wait()
        self.remove(1)
        self.assertEqual(self.daemon.call("Describe")["host"]["counts"]["waiting"], 1)
        self.host.instance(2, "12-15", type=10)
        self.host.write("sys/devices/system/cpu/possible", "0-15")
        self.host.online("0-15")
        self.rescan()
        lease = waiter.change("granted")["lease"]
        self.assertEqual((lease["instance"], lease["pmuType"], lease["cpus"]), ("arm_spe_2", 10, "12-15"))

    def test_other_name(self):
        """It asked for CPUs: they are another instance's now, of another type."""
        self.start()
        held, _ = self.acquire(cpus="4-5", mode="exclusive")
        waiter = self.wait(cpus="5-6")
        with self.host.at_once():
            self.host.instance(0, "4-11", type=77).instance(1, "0-3", type=9)
        self.rescan()
        self.assertEqual(self.daemon.call("Describe")["host"]["counts"]["waiting"], 1)
        self.admin.call("Release", leaseId=held["leaseId"])
        lease = waiter.change("granted")["lease"]
        self.assertEqual((lease["instance"], lease["pmuType"], lease["cpus"]), ("arm_spe_0", 77, "5-6"))

    def test_other_cpus(self):
        """It named an SPU and no CPUs: whatever that has when its turn comes."""
        self.start()
        held, _ = self.acquire(cpus="4-11", mode="exclusive")
        waiter = self.wait(instance="arm_spe_1")
        self.host.instance(1, "4-9", type=9)
        self.rescan()
        self.admin.call("Release", leaseId=held["leaseId"])
        self.assertEqual(waiter.change("granted")["lease"]["cpus"], "4-9")

    def test_off_line(self):
        """Some of what it asked for is off line: no SPU has it, whoever held it."""
        self.start("[Policy]\nGoneGraceSec=0\n")
        lease, stream = self.acquire(cpus="4-5", mode="exclusive")
        waiter = self.wait(cpus="4-6", instance="arm_spe_1")
        self.host.online("0-3,6-11")
        self.rescan()
        self.assertEqual(stream.next()["change"], "revoked")
        with self.assertRaises(harness.VarlinkError) as caught:
            waiter.next()
        self.assertEqual(caught.exception.name, harness.BROKER + "NoInstanceForCpus")


if __name__ == "__main__":
    harness.main()
