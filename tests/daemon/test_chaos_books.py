# SPDX-License-Identifier: LGPL-2.1-or-later
"""The books of the chaos test find what they are for: histories that are right, and the same with one thing wrong."""

import unittest

import chaos_books
import sizes
from chaos_books import USEC, Books, Fault, Watch

SIZE = 1 << 20
ALICE, BOB, ADMIN = 101, 102, 1


def lease(number, pid=ALICE, cpus="1", **kwargs):
    charge = sizes.charge(1, SIZE)
    return {"leaseId": f"{number:032x}", "vm": f"vm{number}", "vmOrigin": "administrator", "instance": "arm_spe_0",
            "pmuType": 8, "cpus": cpus, "vcpus": 1, "bufferSize": SIZE, "requestedBufferSize": SIZE, "limitedBy": None,
            "charge": charge, "memlock": {"bytes": charge, "state": "unmanaged"}, "interrupt": 21, "mode": "guest",
            "state": "granted", "reason": None, "contended": False, "misplaced": False,
            "restartRequired": False, "owner": {"pid": pid, "uid": 0, "command": "vmm", "unit": None}, "sinceUSec": 1000 + number,
            "remainingUSec": None} | kwargs


def host(there, assignments=(), **kwargs):
    """The one SPU, with these leases."""
    charged = [l for l in there if l["state"] in chaos_books.CHARGED]
    held = set().union(*(sizes.cpus(l["cpus"]) for l in charged if l["state"] != "revoked"))
    spu = {"name": "arm_spe_0", "pmuType": 8, "state": "ready", "cpus": "0-3", "onlineCpus": "0-3", "leasedCpus": sizes.cpulist(held),
           "charge": sum(l["charge"] for l in charged), "leases": len(charged), "assignments": list(assignments)}
    return [spu | kwargs]


def assignment(cpus, owner, origin="persistent", vm=None):
    return {"cpus": cpus, "owner": owner, "vm": vm, "origin": origin}


class TestBooks(unittest.TestCase):
    def setUp(self):
        self.books = Books()

    def ask(self, number, pid=ALICE, mode="guest", **kwargs):
        request = {"vm": f"vm{number}", "vcpus": 1, "mode": mode, "requestId": f"r{number}"} | kwargs
        return self.books.sent("Acquire", {"request": request}, pid)

    def grant(self, number, pid=ALICE, **kwargs):
        granted = lease(number, pid, **kwargs)
        self.books.replied(self.ask(number, pid, granted["mode"]), {"lease": granted, "change": "granted"})
        return granted

    def call(self, method, pid=ALICE, **parameters):
        return self.books.sent(method, parameters, pid)

    def restart(self):
        self.books.up()

    def show(self, *leases, now=0, after=0, **kwargs):
        return self.books.snapshot(list(leases), host(leases, **kwargs), now, after)

    def wrong(self, pattern, *leases, **kwargs):
        with self.assertRaisesRegex(Fault, pattern):
            self.show(*leases, **kwargs)

    # A lease that was granted

    def test_kept(self):
        one, two = self.grant(1), self.grant(2, BOB)
        self.restart()
        self.assertEqual(self.show(one, two), [])

    def test_lost(self):
        one, _ = self.grant(1), self.grant(2, BOB)
        self.restart()
        self.wrong("lost: .*vm2", one)

    def test_lost_by_no_such_lease(self):
        one = self.grant(1)
        update = self.call("Update", leaseId=one["leaseId"], cpus="2")
        with self.assertRaisesRegex(Fault, "lost: Update"):
            self.books.failed(update, "io.spebroker.Broker.NoSuchLease")

    def test_lost_by_release(self):
        one = self.grant(1)
        release = self.call("Release", leaseId=one["leaseId"])
        with self.assertRaisesRegex(Fault, "lost: Release"):
            self.books.failed(release, "io.spebroker.Broker.NoSuchLease")

    def test_lost_by_end(self):
        one = self.grant(1)
        follow = self.call("Follow", leaseId=one["leaseId"])
        with self.assertRaisesRegex(Fault, "lost: .*has ended"):
            self.books.replied(follow, {"lease": one | {"state": "ended"}, "change": "ended"})

    def test_lost_by_refusal(self):
        self.grant(1)
        with self.assertRaisesRegex(Fault, "lost: .*asked for again"):
            self.books.failed(self.ask(1), "io.spebroker.Broker.Busy")

    def test_stranger(self):
        one = self.grant(1)
        with self.assertRaisesRegex(Fault, "PermissionDenied"):
            self.books.failed(self.call("Release", leaseId=one["leaseId"]), "org.varlink.service.PermissionDenied")

    def test_changed(self):
        one = self.grant(1)
        self.restart()
        for field, value in (("charge", 1), ("sinceUSec", 5), ("mode", "shared"), ("bufferSize", 4096), ("vcpus", 2),
                             ("owner", one["owner"] | {"uid": 1})):
            self.wrong(f": {field} was", one | {field: value})

    def test_other_cpus(self):
        one = self.grant(1)
        self.wrong("instead of one of", one | {"cpus": "2"})

    # One that has ended

    def test_released(self):
        one = self.grant(1)
        self.books.replied(self.call("Release", leaseId=one["leaseId"]), {})
        self.assertEqual(self.show(), [])

    def test_resurrected(self):
        one = self.grant(1)
        self.books.replied(self.call("Release", leaseId=one["leaseId"]), {})
        self.restart()
        self.wrong("resurrected: .*vm1", one)

    def test_resurrected_later(self):
        one = self.grant(1)
        self.books.closed(self.call("Release", leaseId=one["leaseId"]))
        self.assertEqual(self.show(), [])
        self.wrong("resurrected: .*vm1", one)

    def test_resurrected_by_acquire(self):
        one = self.grant(1)
        self.books.replied(self.call("Release", leaseId=one["leaseId"]), {})
        with self.assertRaisesRegex(Fault, "resurrected: .*vm1"):
            self.books.replied(self.ask(1), {"lease": one, "change": None})

    def test_owner_died(self):
        one = self.grant(1)
        self.books.died(ALICE)
        self.assertIn("its owner is dead", self.show(one)[0])  # it may not have been seen to yet
        self.assertEqual(self.show(), [])

    def test_owner_died_before_start(self):
        one = self.grant(1)
        self.books.died(ALICE)
        self.restart()
        self.wrong("resurrected: .*dead before the start", one)

    def test_pid_used_again(self):
        one = self.grant(1)
        self.books.died(ALICE)
        self.books.born(ALICE)
        self.wrong("resurrected: .*vm1", one)

    def test_nobodys(self):
        self.wrong("nobody's", lease(1))

    # A call that was in flight

    def test_in_flight_carried_out(self):
        self.books.closed(self.ask(1))
        self.restart()
        self.assertEqual(self.show(lease(1)), [])
        again = self.ask(1)
        self.books.replied(again, {"lease": lease(1), "change": None})

    def test_in_flight_not_carried_out(self):
        self.books.closed(self.ask(1))
        self.restart()
        self.assertEqual(self.show(), [])
        self.wrong("nobody's", lease(1))

    def test_in_flight_twice(self):
        self.books.closed(self.ask(1))
        self.restart()
        self.wrong("carried out twice", lease(1), lease(3, vm="vm1"))

    def test_granted_twice(self):
        self.grant(1)
        with self.assertRaisesRegex(Fault, "granted twice"):
            self.books.replied(self.ask(1), {"lease": lease(3, vm="vm1"), "change": "granted"})

    def test_moved_or_not(self):
        one = self.grant(1)
        for cpus in ("1", "2"):
            self.books.closed(self.call("Update", leaseId=one["leaseId"], cpus="2"))
            self.assertEqual(self.show(one | {"cpus": cpus}), [])
        self.wrong("instead of one of", one)

    def test_waits_without_connection(self):
        ask = self.ask(1)
        waiting = lease(1, state="queued", pmuType=None, charge=0)
        self.assertEqual(self.show(waiting), [])
        self.books.closed(ask)
        self.assertIn("without a connection", self.show(waiting)[0])

    # Conflicts

    def test_conflict(self):
        one = self.grant(1)
        self.wrong("conflict: CPU 1", one, self.grant(2, BOB, mode="exclusive", cpus="1-2"))

    def test_no_conflict(self):
        """The same modes apart, other modes together, and one that protects nothing any more."""
        one, two = self.grant(1), self.grant(2, BOB, mode="exclusive", cpus="2")
        self.assertEqual(self.show(one, two, self.grant(3, BOB, mode="shared")), [])
        self.books.replied(self.call("Revoke", ADMIN, leaseId=two["leaseId"], graceUSec=0), {}, now=0)
        self.assertEqual(self.show(one, two | {"state": "revoked"}, lease(3, BOB, mode="shared"),
                                   self.grant(4, cpus="2", mode="exclusive")), [])

    def test_conflict_in_watch(self):
        def event(sequence, change, what):
            return {"sequence": sequence, "kind": "lease", "lease": {"change": change, "lease": what}}

        one, two = lease(1), lease(2, mode="exclusive")
        for order in ((("ended", one | {"state": "ended"}), ("granted", two)), (("granted", two),)):
            watch = Watch(self.books)
            watch.event({"sequence": 0, "kind": "snapshot", "snapshot": {"leases": [one]}})
            if len(order) == 1:
                with self.assertRaisesRegex(Fault, "conflict: CPU 1"):
                    watch.event(event(1, *order[0]))
            else:
                for i, step in enumerate(order):
                    watch.event(event(i + 1, *step))

    def test_resurrected_in_watch(self):
        one = self.grant(1)
        early = Watch(self.books)
        self.books.replied(self.call("Release", leaseId=one["leaseId"]), {})
        snapshot = {"sequence": 0, "kind": "snapshot", "snapshot": {"leases": [one]}}
        early.event(snapshot)
        with self.assertRaisesRegex(Fault, "resurrected: .*in Watch"):
            Watch(self.books).event(snapshot)

    # Sums

    def test_leaked_charge(self):
        one = self.grant(1)
        self.wrong("charge:", one, charge=2 * one["charge"])
        self.wrong("leases:", one, leases=2)
        self.wrong("leasedCpus:", one, leasedCpus="1-2")

    def test_leaked_charge_in_describe(self):
        one = self.grant(1)
        said = {"charge": one["charge"], "counts": {"leases": 1, "waiting": 0}}
        self.assertEqual(self.books.describe(said, [one]), [])
        self.assertTrue(self.books.describe(said | {"charge": one["charge"] + 1}, [one]))
        self.assertTrue(self.books.describe(said, []))

    # Assignments and revocations

    def test_assigned(self):
        one = self.grant(1, cpus="1-2")
        self.books.replied(self.call("Assign", ADMIN, cpus="2", owner="host"), {})
        self.wrong("against the assignments", one, assignments=[assignment("2", "host")])
        self.wrong("assignments: shown", one | {"cpus": "1"})
        self.assertEqual(self.show(one | {"cpus": "1"}, assignments=[assignment("2", "host")]), [])

    def test_assigned_or_not(self):
        one = self.grant(1, cpus="1-2")
        self.books.closed(self.call("Assign", ADMIN, cpus="2", owner="host"))
        self.restart()
        self.assertEqual(self.show(one), [])
        self.wrong("assignments: shown", one | {"cpus": "1"}, assignments=[assignment("2", "host")])

    def test_saved(self):
        """What is taken from two files is gone from both, or from none."""
        both = {(origin, 1): ("any", None) for origin in ("persistent", "runtime")}
        for runtime in (False, True):
            self.books.replied(self.call("Assign", ADMIN, cpus="1", owner="any", runtime=runtime), {})
        self.books.assigned.saved(both)
        self.books.closed(self.call("Unassign", ADMIN, cpus="1"))
        for half in both:
            with self.assertRaisesRegex(chaos_books.Fault, "assignments: saved are"):
                self.books.assigned.saved({half: both[half]})
        self.books.assigned.saved({})
        with self.assertRaisesRegex(chaos_books.Fault, "assignments: saved are"):
            self.books.assigned.saved(both)

    def test_revoked(self):
        one = self.grant(1)
        self.wrong("nobody revoked it", one | {"state": "revoking", "remainingUSec": 5})
        self.books.replied(self.call("Revoke", ADMIN, leaseId=one["leaseId"], graceUSec=USEC), {}, now=1000)
        self.wrong("was revoked, and is granted", one)
        self.wrong("its grace has become longer", one | {"state": "revoking", "remainingUSec": USEC}, now=2000)
        self.assertEqual(self.show(one | {"state": "revoking", "remainingUSec": USEC - 1000}, now=2000), [])
        self.assertEqual(self.show(one | {"state": "revoked"}, now=2000), [])
        self.wrong("was revoked, is revoking", one | {"state": "revoking", "remainingUSec": 1}, now=2000)

    def test_barred(self):
        one = self.grant(1)
        self.books.replied(self.call("Assign", ADMIN, cpus="1", owner="none"), {})
        revoking = one | {"state": "revoking", "remainingUSec": USEC}
        self.assertEqual(self.show(revoking, assignments=[assignment("1", "none")]), [])
        self.books.replied(self.call("Unassign", ADMIN, cpus="1"), {})
        self.assertEqual(self.show(one), [])
        self.wrong("nobody revoked it", revoking)

    # CPUs and SPUs

    def test_off_line(self):
        """It is said to have those on line, and has all of them when they are back."""
        one = self.grant(1, cpus="1-2")
        self.wrong("instead of one of", one, onlineCpus="0-1,3", leasedCpus="1-2")
        some = one | {"cpus": "1"}
        self.assertEqual(self.show(some, onlineCpus="0-1,3", leasedCpus="1-2"), [])
        self.wrong("leasedCpus", some, onlineCpus="0-1,3", leasedCpus="1-3")
        self.wrong("leasedCpus", some, onlineCpus="0-1,3", leasedCpus="2")
        self.wrong("instead of one of", some)
        self.assertEqual(self.show(one | {"pmuType": None, "remainingUSec": 5}, onlineCpus="0,3", leasedCpus="1-2"), [])
        self.wrong("all CPUs are off line", one, onlineCpus="0,3", leasedCpus="1-2")
        self.assertEqual(self.show(one), [])

    def test_away(self):
        """It is revoked after the grace, counted from when it went, and not before."""
        grace = self.books.gone_grace
        one = self.grant(1)
        self.books.goes({1}, 1000)
        gone = one | {"pmuType": None, "remainingUSec": grace}
        off = {"onlineCpus": "0,2-3", "leasedCpus": "1"}
        self.wrong("nobody revoked it", gone | {"state": "revoked"}, **off, after=grace)
        self.wrong("is away for ever", gone | {"remainingUSec": None}, **off)
        self.assertEqual(self.show(gone, **off, now=2000, after=2010), [])
        self.assertEqual(self.show(gone | {"remainingUSec": grace - 1000}, **off, now=3000, after=3020), [])
        self.wrong("may be away for longer", gone, **off, now=3000, after=3020)
        self.assertEqual(self.show(gone | {"state": "revoked"}, **(off | {"leasedCpus": ""}), after=grace + 2000), [])

    def test_away_again(self):
        """Back in time, it has the whole grace the next time."""
        one = self.grant(1)
        self.books.goes({1}, 1000)
        gone = one | {"pmuType": None, "remainingUSec": self.books.gone_grace}
        off = {"onlineCpus": "0,2-3", "leasedCpus": "1"}
        self.assertEqual(self.show(gone, **off, now=1000, after=1000), [])
        self.books.returns({1})
        self.assertEqual(self.show(one, now=5000, after=5000), [])
        self.books.goes({1}, 9000)
        self.assertEqual(self.show(gone, **off, now=9000, after=9000), [])
        self.wrong("nobody revoked it", gone | {"state": "revoked"}, **off, after=self.books.gone_grace + 8000)

    def test_off_line_before_it_was_heard_of(self):
        self.books.closed(self.ask(1))
        one = lease(1)
        self.assertEqual(self.show(one, onlineCpus="0-1,3", leasedCpus="1-2"), [])
        self.wrong("instead of one of", one | {"cpus": "1,3"})
        self.assertEqual(self.show(one | {"cpus": "1-2"}), [])
        self.wrong("instead of one of", one)

    def test_gone(self):
        one = self.grant(1)
        self.assertEqual(self.show(one | {"pmuType": None, "remainingUSec": 5}, state="gone"), [])
        self.wrong("a PMU type of no instance", one, state="gone")
        self.assertEqual(self.show(one | {"pmuType": 9}, pmuType=9), [])
        self.wrong("'pmuType': 8", one, pmuType=9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
