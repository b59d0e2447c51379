# SPDX-License-Identifier: LGPL-2.1-or-later
"""RLIMIT_MEMLOCK of the processes that own leases: over brokers that end, with what they have written down, with another
configuration, and without the capability."""

import json
import resource

import harness
from memlock import BASE, MANAGED, MEMLOCK, UNLIMITED, MemlockCase, is_able
from sizes import MIB


class TestRestart(MemlockCase):
    def test_stays_while_there_is_no_broker(self):
        self.start()
        lease = self.acquire()
        self.daemon.stop()
        self.assertEqual(self.limit(), (BASE + lease["charge"],) * 2)
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("applied", (BASE + lease["charge"],) * 2))
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_ends_while_there_is_no_broker(self):
        """With its owner: nothing is left."""
        self.start()
        self.acquire()
        self.daemon.stop()
        self.process.kill()
        self.daemon.start()
        self.assert_idle(self.daemon)
        self.assertNotIn("MEMLOCK", self.daemon.read_log())

    def test_killed_before_it_was_raised(self):
        """A file that says more than was done: the limit follows."""
        self.start()
        lease = self.acquire()
        self.daemon.kill()
        resource.prlimit(self.process.pid, MEMLOCK, (BASE, BASE))
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("applied", (BASE + lease["charge"],) * 2))

    def test_killed_after_it_was_lowered(self):
        """Of two leases, one had ended, but its file was not removed: it is still a lease."""
        self.start()
        one, two = self.acquire(), self.acquire(vm="db")
        self.daemon.kill()
        resource.prlimit(self.process.pid, MEMLOCK, (BASE + one["charge"],) * 2)
        self.daemon.start()
        self.assertEqual(self.limit(), (BASE + one["charge"] + two["charge"],) * 2)
        self.release(one, two)
        self.assertEqual(self.limit(), (BASE, BASE))

    def alter(self, lease, change):
        path = self.file(lease)
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record, separators=(",", ":")) + "\n")

    def test_nothing_written_down(self):
        """By an older build, for instance."""
        self.start()
        lease = self.acquire()
        raised = self.limit()
        self.daemon.kill()
        self.alter(lease, lambda record: record.pop("memlock"))
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("unmanaged", raised))
        more = self.acquire("unmanaged", vm="db")
        self.release(lease, more)
        self.assertEqual(self.limit(), raised)

    def test_damaged(self):
        """A base that somebody else has written raises nothing; the lease is what it was."""
        for change in (
            {"soft": 1 << 40, "hard": 1 << 41},
            {"soft": None, "hard": None},
            {"changed": True},
            {"sum": "0" * 16},
            {"more": 1},
            {"soft": -1},
            {"hard": "x"},
            {"soft": MIB, "hard": 1},
        ):
            with self.subTest(change):
                self.start()
                lease = self.acquire()
                raised = self.limit()
                self.daemon.kill()
                self.alter(lease, lambda record, change=change: record["memlock"].update(change))
                self.daemon.start()
                memlock = {"memlock": {"bytes": lease["charge"], "state": "unmanaged"}}
                self.assertEqual(self.daemon.lease(lease["leaseId"]), lease | memlock)
                self.assertEqual(self.limit(), raised)
                self.assertIn(f"{lease['leaseId']}: what it says of its owner's RLIMIT_MEMLOCK is damaged",
                              self.daemon.read_log())
                self.release(lease)
                self.assertEqual(self.limit(), raised)

    def test_another_leases(self):
        """One that was right, in a file that it does not belong to."""
        self.start()
        lease, other = self.acquire(), self.acquire(process=self.owner((MIB, MIB)), vm="db")
        raised = self.limit()
        self.daemon.kill()
        stranger = json.loads(self.file(other).read_text())["memlock"]
        self.alter(lease, lambda record: record.update(memlock=stranger))
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("unmanaged", raised))
        self.assertEqual(self.state(other), "applied")

    def test_one_of_two_is_damaged(self):
        """The other one knows."""
        self.start()
        one, two = self.acquire(), self.acquire(vm="db")
        self.daemon.kill()
        self.alter(one, lambda record: record.pop("memlock"))
        self.daemon.start()
        self.assertEqual([self.state(lease) for lease in (one, two)], ["applied"] * 2)
        self.release(one, two)
        self.assertEqual(self.limit(), (BASE, BASE))


class TestConfig(MemlockCase):
    def host(self):
        return self.daemon.call("Describe")["host"]["memlock"]

    def check(self):
        return next(check for check in self.daemon.call("CheckHost")["checks"] if check["name"] == "memlock")

    def test_yes(self):
        self.start()
        self.assertEqual(self.host(), {"manage": True, "able": True})
        self.assertEqual((self.check()["status"], self.check()["advice"]), ("ok", None))

    def test_no(self):
        self.start("[Memlock]\nManage=no\n")
        self.assertEqual(self.host(), {"manage": False, "able": False})
        self.assertEqual(self.check()["status"], "warning")
        lease = self.acquire("unmanaged")
        self.assertEqual(self.limit(), (BASE, BASE))
        self.daemon.call("Update", leaseId=lease["leaseId"], memlockMissing=1)
        self.assertEqual(self.limit(), (BASE, BASE))
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_not_of_another_machine(self):
        """The default, with --root: nothing."""
        self.start("")
        self.assertEqual(self.host(), {"manage": False, "able": False})
        self.acquire("unmanaged")
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_switched_off(self):
        """What was raised is brought back, when it is over."""
        self.start()
        lease = self.acquire()
        self.daemon.configure("[Memlock]\nManage=no\n")
        self.daemon.call("Reload")
        raised = (BASE + lease["charge"],) * 2
        more = self.acquire("unmanaged", vm="db")
        self.assertEqual(self.limit(), raised)
        self.daemon.restart()
        self.assertEqual((self.state(lease), self.limit()), ("unmanaged", raised))
        self.release(lease, more)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_switched_on(self):
        """Whoever has leases already has cared for it itself."""
        self.start("[Memlock]\nManage=no\n")
        lease = self.acquire("unmanaged")
        self.daemon.configure(MANAGED)
        self.daemon.call("Reload")
        more = self.acquire("unmanaged", vm="db")
        self.assertEqual(self.limit(), (BASE, BASE))
        self.release(lease, more)
        self.release(self.acquire())
        self.assertEqual(self.limit(), (BASE, BASE))


class TestCapability(MemlockCase):
    """Without CAP_SYS_RESOURCE."""

    WITHOUT = ("setpriv", "--bounding-set=-sys_resource")

    def test_another_users(self):
        self.start(wrapper=self.WITHOUT)
        self.assertEqual(self.daemon.call("Describe")["host"]["memlock"], {"manage": True, "able": False})
        check = next(c for c in self.daemon.call("CheckHost")["checks"] if c["name"] == "memlock")
        self.assertEqual((check["status"], check["advice"]),
                         ("warning", "Give spe-broker CAP_SYS_RESOURCE, as its unit does."))
        lease = self.acquire("no_capability")
        grown = self.daemon.call("Update", leaseId=lease["leaseId"], memlockMissing=1)["lease"]
        self.assertEqual(grown["memlock"]["state"], "no_capability")
        self.assertEqual(self.limit(), (BASE, BASE))
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))
        self.assertNotIn("RLIMIT", self.daemon.read_log())

    def test_unlimited(self):
        """Nothing has to be raised."""
        self.start(wrapper=self.WITHOUT, base=(UNLIMITED, UNLIMITED))
        self.release(self.acquire("unlimited"))
        self.assertEqual(self.limit(), (UNLIMITED, UNLIMITED))

    def test_gained(self):
        """A broker with it takes over from one without: what it knows of the base is enough."""
        self.start(wrapper=self.WITHOUT)
        lease = self.acquire("no_capability")
        self.daemon.stop()
        self.daemon.wrapper = []
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("applied", (BASE + lease["charge"],) * 2))
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_lost(self):
        """A broker without it takes over from one that had it: what is left raised is told."""
        self.start()
        lease = self.acquire()
        raised = self.limit()
        self.daemon.stop()
        self.daemon.wrapper = list(self.WITHOUT)
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("applied", raised))
        more = self.acquire("no_capability", vm="db")
        self.release(more, lease)
        self.assertEqual(self.limit(), raised)
        self.assertIn(f"(pid {self.process.pid}): RLIMIT_MEMLOCK stays raised after its last lease",
                      self.daemon.read_log())


class TestSameUser(MemlockCase):
    """The kernel lets a broker without the capability change what is its own user's, as far as the hard limit goes."""

    HARD = 6 * MIB

    def setUp(self):
        soft, hard = resource.getrlimit(MEMLOCK)
        if 0 <= hard < self.HARD:
            self.skipTest("the limit of this process is too low")

    def start_without(self):
        wrapper = TestCapability.WITHOUT if is_able() else ()
        self.start(wrapper=wrapper, base=(BASE, self.HARD), uid=0)

    def test_within_the_hard_limit(self):
        self.start_without()
        lease = self.acquire()
        self.assertEqual(self.limit(), (BASE + lease["charge"], self.HARD))
        more = self.acquire("no_capability", vm="db")
        self.assertEqual(self.limit(), (BASE + lease["charge"], self.HARD))
        self.release(more)
        self.assertEqual((self.state(lease), self.limit()), ("applied", (BASE + lease["charge"], self.HARD)))
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, self.HARD))

    def test_ratchet(self):
        """Also over brokers that are killed."""
        self.start_without()
        for i in range(50):
            lease = self.acquire()
            self.assertEqual(self.limit(), (BASE + lease["charge"], self.HARD))
            if i % 10 == 0:
                self.daemon.kill()
                self.daemon.start()
                self.assertEqual((self.state(lease), self.limit()[0]), ("applied", BASE + lease["charge"]))
            self.release(lease)
            self.assertEqual(self.limit(), (BASE, self.HARD))

    def test_changed(self):
        self.start_without()
        lease = self.acquire(bufferSize=MIB)
        self.process.act("limit", 5 * MIB, self.HARD)
        more = self.acquire("already_enough", vm="db", bufferSize=MIB)
        self.process.act("limit", 4096, self.HARD)
        self.release(more)
        self.assertEqual(self.state(lease), "unmanaged")
        self.release(lease)
        self.assertEqual(self.limit(), (4096, self.HARD))


if __name__ == "__main__":
    harness.main()
