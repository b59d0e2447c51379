# SPDX-License-Identifier: LGPL-2.1-or-later
"""Revoke: a grace, then a lease that protects nothing but is listed and charged until its owner is gone."""

import os
import signal

import harness
from journal import Journal
from sizes import MIB

LONG = 10**9
REVOKING = "fd1d9ca691ce449cb09863e36e593b4d"
RESTORED = "52725a5650c4445eb92916800dbe3839"
REVOKED = "eb8264de47d44f738c4c7fe478ac415f"
KILLED = "d088c5fab3ae46938a83884f71a4f606"
NOT_KILLED = "e6aaef5a178b4b568c0a9b2534944e0a"
ENDED = "f6728a1333534dff922e81638c7df161"
ADMIN = {"SPE_BROKER_ADMIN_PID": str(os.getpid()), "SPE_BROKER_ADMIN_UID": "0"}


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
        self.assertEqual(told["reason"], harness.revoked("an administrator took it back", "0-1"))
        # It protects and permits nothing, but is listed and charged
        instance = self.daemon.instance()
        self.assertEqual(
            (instance["leasedCpus"], instance["charge"], instance["leases"]), ("", lease["charge"], 1)
        )
        host = self.daemon.call("Describe")["host"]
        self.assertEqual((host["charge"], host["counts"]["leases"]), (lease["charge"], 1))
        other = self.admin.call("Acquire", request=request(cpus="0-3", mode="exclusive"))["lease"]
        # Its guest may go on profiling there, which the exclusive lease was promised not to happen
        contended = stream.change("contended")["lease"]
        self.assertTrue(contended["contended"])
        self.assertEqual(contended["reason"], told["reason"] + f"; VM vm has an exclusive lease of CPUs 0-1 (lease "
                         f"{other['leaseId']}, pid {os.getpid()})")
        held = self.daemon.lease(other["leaseId"])
        self.assertEqual((other["contended"], other["reason"]), (True, held["reason"]))
        self.assertEqual((held["contended"], held["reason"]), (
            True, "VM vm, whose lease is revoked, may go on profiling on CPUs 0-1 (lease "
            f"{lease['leaseId']}, pid {self.process.pid})"))
        self.admin.call("Release", leaseId=other["leaseId"])
        uncontended = stream.change("uncontended")["lease"]
        self.assertEqual((uncontended["contended"], uncontended["reason"]), (False, told["reason"]))
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
        self.assertEqual(self.admin.call("ListRefusals")["refusals"], [])
        self.admin.call("Release", leaseId=held["leaseId"])
        self.assert_idle(self.daemon)

    def test_queued_without_more(self):
        """Whoever waits without a stream is refused, with what it waited for; why now, ListRefusals says."""
        held = self.admin.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        with self.process.connect(self.daemon) as waiter:
            for reason in ("maintenance", None):
                waiter.send("Acquire", {"request": request(cpus="0"), "waitUSec": LONG})
                queued = harness.wait_for(lambda: [lease for lease in self.admin.call("ListLeases")["leases"]
                                                   if lease["state"] == "queued"], "it waits")[0]
                self.admin.call("Revoke", leaseId=queued["leaseId"], **({"reason": reason} if reason else {}))
                with self.assertRaises(harness.VarlinkError) as caught:
                    waiter.receive()
                self.assertEqual(caught.exception.name, harness.BROKER + "Busy")
                self.assertEqual([h["leaseId"] for h in caught.exception.parameters["holders"]], [held["leaseId"]])
                refusal = self.admin.call("ListRefusals")["refusals"][0]
                self.assertEqual((refusal["error"], refusal["holders"]),
                                 (harness.BROKER + "Busy", caught.exception.parameters["holders"]))
                why = reason or "an administrator took it back"
                self.assertTrue(refusal["message"].startswith(f"its wait was ended: {why}; "), refusal["message"])
        self.admin.call("Release", leaseId=held["leaseId"])
        self.assert_idle(self.daemon)

    def test_twice(self):
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG)
        stream.change("revoking")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        stream.change("revoked")
        self.assertEqual(self.daemon.call("Describe")["host"]["charge"], lease["charge"])

    def test_shorter_grace(self):
        """The shorter of two, whichever comes first; the last reason."""
        lease, stream = self.acquire()
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=500 * 10**6, reason="one")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG, reason="two")
        stream.change("revoking")
        told = stream.change("revoking")["lease"]
        self.assertLessEqual(told["remainingUSec"], 500 * 10**6)
        self.assertEqual(told["reason"], "two")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=100 * 10**6, reason="three", kill=True)
        told = stream.change("revoking")["lease"]
        self.assertLessEqual(told["remainingUSec"], 100 * 10**6)
        self.assertEqual(told["reason"], "three; its process is killed when the time is over")
        # What was asked for and said once is not taken back by asking again without it
        self.admin.call("Revoke", leaseId=lease["leaseId"])
        self.assertEqual(stream.change("revoking")["lease"]["reason"],
                         "three; its process is killed when the time is over")
        self.owner.call("Release", leaseId=lease["leaseId"])
        stream.change("ended")
        self.process.connect(self.daemon).close()  # nobody was killed

    def test_update_while_revoking(self):
        """It may be moved, which is no way out: the grace goes on."""
        lease, stream = self.acquire(cpus="0-1")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG, reason="enough")
        stream.change("revoking")
        now = self.owner.call("Update", leaseId=lease["leaseId"], cpus="2")["lease"]
        self.assertEqual((now["state"], now["cpus"], now["reason"]), ("revoking", "2", "enough"))
        self.assertTrue(0 < now["remainingUSec"] <= LONG)
        self.assertEqual(stream.change("updated")["lease"] | {"remainingUSec": 0}, now | {"remainingUSec": 0})
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0, reason="enough")
        stream.change("revoking")
        self.assertEqual(stream.change("revoked")["lease"]["reason"], harness.revoked("enough", "2"))

    def test_after_an_assignment(self):
        """Then it is the administrator's, and stays so when the assignment goes."""
        lease, stream = self.acquire(cpus="0-1")
        self.admin.call("Assign", cpus="0-1", owner="host", runtime=True)
        self.assertEqual(stream.change("revoking")["lease"]["reason"], "all its CPUs are assigned to others now")
        self.admin.call("Revoke", leaseId=lease["leaseId"])
        self.assertEqual(stream.change("revoking")["lease"]["reason"], "an administrator took it back")
        self.admin.call("Unassign", cpus="0-1")
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "revoking")

    def test_ended(self):
        """Its last word is why it ended, and nothing of what was before."""
        lease, stream = self.acquire(cpus="0-1")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        stream.change("revoked")
        other = self.admin.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        stream.change("contended")
        self.owner.call("Release", leaseId=lease["leaseId"])
        told = stream.change("ended")["lease"]
        self.assertEqual((told["reason"], told["contended"], told["remainingUSec"]), ("it was released", False, None))
        self.assertIsNone(self.daemon.lease(other["leaseId"])["reason"])

    def test_restart(self):
        """What has been said of it is said again, and its owner is killed all the same."""
        stubborn = harness.Process(uid=1000, groups=[4321], ignore=(signal.SIGTERM,))
        self.addCleanup(stubborn.kill)
        lease = stubborn.call(self.daemon, "Acquire", request=request(cpus="0"))["lease"]
        for kill, then in ((False, "'speadm revoke --kill' ends it"), (True, "it is killed when the time is over")):
            self.daemon.call("Revoke", leaseId=lease["leaseId"], graceUSec=LONG if kill else 0, reason="out", kill=kill)
            harness.wait_for(lambda: self.daemon.lease(lease["leaseId"])["state"] == "revoked", "it is revoked")
            self.daemon.restart()
            held = self.daemon.lease(lease["leaseId"])
            self.assertEqual((held["state"], held["reason"]), ("revoked", harness.revoked("out", "0", then)))
        self.daemon.call("Revoke", leaseId=lease["leaseId"], graceUSec=500_000)
        harness.wait_for(lambda: "SIGTERM" in self.daemon.lease(lease["leaseId"])["reason"], "SIGTERM")
        self.daemon.restart()
        self.assertEqual(os.WTERMSIG(stubborn.wait()), signal.SIGKILL)
        harness.wait_for(lambda: self.daemon.lease(lease["leaseId"]) is None, "the lease has ended")

    def test_again_with_kill(self):
        """A revoked lease's owner can be killed later; until then each step is told, with the time that is left."""
        stubborn = harness.Process(uid=1000, groups=[4321], ignore=(signal.SIGTERM,))
        self.addCleanup(stubborn.kill)
        client = stubborn.connect(self.daemon)
        self.addCleanup(client.close)
        stream = client.stream("Acquire", request=request(cpus="1"))
        lease = stream.next()["lease"]
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=0, reason="out")
        stream.change("revoking")
        self.assertEqual(stream.change("revoked")["lease"]["reason"], harness.revoked("out", "1"))
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=200_000, kill=True)
        told = stream.change("revoked")["lease"]
        self.assertEqual((told["state"], told["reason"]), (
            "revoked", harness.revoked("out", "1", "it is killed when the time is over")))
        self.assertTrue(0 < told["remainingUSec"] <= 200_000)
        told = stream.change("updated")["lease"]
        self.assertEqual((told["state"], told["reason"]), (
            "revoked", harness.revoked("out", "1", "it has been sent SIGTERM, and SIGKILL follows")))
        self.assertTrue(0 < told["remainingUSec"] <= 200_000)
        told = stream.change("updated")["lease"]
        self.assertEqual((told["reason"], told["remainingUSec"]), (
            harness.revoked("out", "1", "it has been sent SIGKILL"), None))
        self.assertEqual(stream.change("ended")["lease"]["reason"], "its owner is gone")
        self.assertEqual(os.WTERMSIG(stubborn.wait()), signal.SIGKILL)


class TestJournal(harness.TestCase):
    """What is found in the journal of a lease that is taken back, by each way."""

    def start(self, config="", prefix=()):
        self.daemon = self.new_broker(config="[Policy]\nAcquireGroup=4321\n" + config)
        self.journal = Journal(self.daemon)
        self.addCleanup(self.journal.close)
        self.daemon.wrapper += prefix
        self.daemon.start()
        self.admin = self.client(self.daemon)
        self.process, self.owner = self.vmm(self.daemon, uid=1000, groups=[4321])
        self.pid = self.process.pid

    def acquire(self, **kwargs):
        return self.owner.call("Acquire", request=request(**kwargs))["lease"]

    def said(self, message_id, lease, n=1, priority="5", **more):
        """The sentence about this lease, the fields being those of its owner."""
        entry = self.journal.wait(message_id, n)
        text = entry.pop("MESSAGE")
        head = f"lease {lease['leaseId']} of VM vm "
        self.assertTrue(text.startswith(head), text)
        self.assertEqual(entry, {
            "MESSAGE_ID": message_id, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "spe-broker",
            "SPE_BROKER_LEASE": lease["leaseId"], "SPE_BROKER_VM": "vm", "SPE_BROKER_INSTANCE": lease["instance"],
            "SPE_BROKER_OWNER_PID": str(self.pid), "SPE_BROKER_OWNER_UID": "1000",
            "SPE_BROKER_OWNER_COMMAND": lease["owner"]["command"]} | more)
        return text.removeprefix(head)

    def test_administrator(self):
        self.start()
        lease = self.acquire(cpus="0-1")
        who = f"{lease['owner']['command']} (pid {self.pid})"
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=20_000, reason="maintenance")
        self.assertEqual(self.said(REVOKING, lease, **ADMIN),
                         f"is taken back: maintenance; {who} has 0.02 s to release it")
        self.assertEqual(self.said(REVOKED, lease), "is revoked: " + harness.revoked("maintenance", "0-1"))
        self.owner.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(self.said(ENDED, lease), "was taken back, and has ended: it was released")
        self.assertEqual(self.journal.of(KILLED), [])
        # Of a lease that its owner releases by himself there is nothing to say
        self.owner.call("Release", leaseId=self.acquire(cpus="0-1")["leaseId"])
        self.admin.call("Describe")
        self.journal.wait(ENDED)

    def test_kill(self):
        self.start()
        lease = self.acquire(cpus="0-1")
        who = f"{lease['owner']['command']} (pid {self.pid})"
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=300_000, kill=True)
        self.assertEqual(
            self.said(REVOKING, lease, **ADMIN),
            f"is taken back: an administrator took it back; {who} has 0.3 s to release it, and is killed then")
        self.assertEqual(self.said(KILLED, lease, SPE_BROKER_SIGNAL="SIGTERM"),
                         f"is revoked: {who}, which has it, was sent SIGTERM")
        self.assertEqual(os.WTERMSIG(self.process.wait()), signal.SIGTERM)
        self.assertEqual(self.said(ENDED, lease), "was taken back, and has ended: its owner is gone")

    def test_assignment(self):
        self.start("RevokeGraceSec=1000\n")
        lease = self.acquire(cpus="0-1")
        self.admin.call("Assign", cpus="0-1", owner="host", runtime=True)
        self.assertIn("is taken back: all its CPUs are assigned to others now; ", self.said(REVOKING, lease))
        self.admin.call("Unassign", cpus="0-1")
        self.assertEqual(self.said(RESTORED, lease), "may stay after all: assignments leave it CPUs again")
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "granted")
        self.assertEqual(self.journal.of(REVOKED), [])

    def test_assignment_over(self):
        self.start("RevokeGraceSec=0\n")
        stream = self.process.connect(self.daemon).stream("Acquire", request=request(cpus="0-1"))
        self.addCleanup(stream.close)
        lease = stream.next()["lease"]
        self.admin.call("Assign", cpus="0-1", owner="host", runtime=True)
        stream.change("revoking")
        self.said(REVOKING, lease)
        told = stream.change("revoked")["lease"]
        self.assertEqual(told["reason"], harness.revoked("all its CPUs are assigned to others now", "0-1"))
        self.assertEqual(self.said(REVOKED, lease), "is revoked: " + told["reason"])

    def test_gone(self):
        """There is no grace to tell of: it went long ago."""
        self.start("GoneGraceSec=0\n")
        lease = self.acquire(cpus="0-1")
        self.daemon.tree.remove_instance("arm_spe_0")
        self.admin.call("Rescan")
        reason = harness.revoked("its SPU has been gone for longer than GoneGraceSec", "0-1", away=True)
        self.assertEqual(self.said(REVOKED, lease), "is revoked: " + reason)
        self.assertEqual(self.daemon.lease(lease["leaseId"])["reason"], reason)
        self.assertEqual(self.journal.of(REVOKING), [])

    def test_must_not_kill(self):
        """Without the right to, that is said wherever somebody looks; and it can be asked for again."""
        if harness.EMULATED:
            self.skipTest("the emulator runs with the daemon's capabilities")
        self.start(prefix=["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill"])
        stream = self.process.connect(self.daemon).stream("Acquire", request=request(cpus="0-1"))
        self.addCleanup(stream.close)
        lease = stream.next()["lease"]
        who = f"{lease['owner']['command']} (pid {self.pid})"
        for n in (1, 2):
            self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=1, reason="now", kill=True)
            self.assertEqual(
                self.said(NOT_KILLED, lease, n, "4", SPE_BROKER_SIGNAL="SIGTERM"),
                f"is revoked, but {who}, which has it, cannot be sent SIGTERM: Operation not permitted")
            told = stream.change("revoked" if n == 1 else "updated")["lease"]
            self.assertEqual((told["state"], told["remainingUSec"], told["reason"]), (
                "revoked", None, harness.revoked("now", "0-1", "the broker was not able to kill it")))
            self.said(REVOKING, lease, n, **ADMIN)  # who wanted it, of one that is revoked already, too
        self.assertEqual(self.journal.of(KILLED), [])
        self.assertEqual(self.owner.call("ListLeases")["leases"], [told])


if __name__ == "__main__":
    harness.main()
