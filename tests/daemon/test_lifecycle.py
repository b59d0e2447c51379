# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of a lease when its SPU goes, comes back as another one, or its CPUs go off line: each rule, with
the case beside it that is decided the other way. What is told is asserted by content and order."""

import harness
from sizes import KIB, MIB

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
            stream, "revoked", lease, state="revoked", reason=reason, pmuType=None, restartRequired=True
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
        self.told(stream, "updated", lease, state="revoked", reason=reason, restartRequired=True)
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
            reason="its SPU has been gone for longer than GoneGraceSec",
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
        revoked = self.told(stream, "revoked", lease, state="revoked", reason="enough")
        self.remove(0, 1)
        self.told(stream, "updated", revoked, pmuType=None)
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
            reason="its CPUs have been off line for longer than GoneGraceSec",
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
