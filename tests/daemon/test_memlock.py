# SPDX-License-Identifier: LGPL-2.1-or-later
"""RLIMIT_MEMLOCK of the processes that own leases, which lock real memory: what it is, and that it cannot be ratcheted
up, whoever changes it meanwhile."""

import errno
import resource

import harness
from memlock import BASE, MEMLOCK, UNLIMITED, MemlockCase, request
from sizes import MIB


class TestRule(MemlockCase):
    def test_base_and_charges(self):
        self.start()
        one = self.acquire()
        self.assertEqual(self.limit(), (BASE + one["charge"],) * 2)
        two = self.acquire(vm="db", vcpus=3, bufferSize=8 * MIB)
        self.assertEqual(self.limit(), (BASE + one["charge"] + two["charge"],) * 2)
        self.release(one)
        self.assertEqual(self.limit(), (BASE + two["charge"],) * 2)
        self.release(two)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_hard_is_not_lowered(self):
        self.start(base=(BASE, 5 * MIB))
        one = self.acquire()
        self.assertEqual(self.limit(), (BASE + one["charge"], 5 * MIB))
        two = self.acquire(vm="db")
        self.assertEqual(self.limit(), (BASE + one["charge"] + two["charge"],) * 2)
        self.release(one)
        self.assertEqual(self.limit(), (BASE + two["charge"], 5 * MIB))
        self.release(two)
        self.assertEqual(self.limit(), (BASE, 5 * MIB))

    def test_enough_to_pin(self):
        """What it is for: the charge can be locked, and not much more."""
        self.start()
        self.assertEqual(self.process.act("lock", MIB), str(errno.ENOMEM))
        lease = self.acquire()
        self.assertEqual(self.process.act("lock", lease["charge"]), "0")
        self.assertEqual(self.process.act("lock", MIB), str(errno.ENOMEM))

    def test_missing(self):
        self.start()
        lease = self.acquire()
        grown = self.daemon.call("Update", leaseId=lease["leaseId"], memlockMissing=3 * MIB)["lease"]
        self.assertEqual(grown["memlock"], {"bytes": lease["charge"] + 3 * MIB, "state": "applied"})
        self.assertEqual(self.limit(), (BASE + grown["charge"],) * 2)
        self.assertEqual(self.process.act("lock", grown["charge"]), "0")
        self.refused("LimitExceeded", self.client(self.daemon), "Update", leaseId=lease["leaseId"],
                     memlockMissing=1 << 40)
        self.assertEqual(self.limit(), (BASE + grown["charge"],) * 2)
        self.release(grown)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_revoked_keeps_it(self):
        """What it has pinned stays pinned."""
        self.start()
        lease = self.acquire()
        self.daemon.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        harness.wait_for(lambda: self.daemon.lease(lease["leaseId"])["state"] == "revoked", "revoked")
        self.assertEqual(self.limit()[0], BASE + lease["charge"])
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_waits(self):
        """A limit is raised for what is granted."""
        self.start()
        held = self.client(self.daemon).call("Acquire", request=request(vm="host", mode="exclusive"))["lease"]
        waiter = self.process.connect(self.daemon)
        self.addCleanup(waiter.close)
        admin = self.client(self.daemon).stream("Acquire", request=request(pid=self.process.pid), waitUSec=10**9)
        queued = admin.next()["lease"]
        self.assertEqual(queued["memlock"], {"bytes": 0, "state": "already_enough"})
        self.assertEqual(self.limit(), (BASE, BASE))
        resource.prlimit(self.process.pid, MEMLOCK, (BASE + 1, BASE + 1))  # it has no lease yet
        self.release(held)
        lease = admin.change("granted")["lease"]
        self.assertEqual(lease["memlock"], {"bytes": lease["charge"], "state": "applied"})
        self.assertEqual(self.limit(), (BASE + 1 + lease["charge"],) * 2)
        self.release(lease)
        self.assertEqual(admin.change("ended")["lease"]["state"], "ended")
        self.assertEqual(self.limit(), (BASE + 1,) * 2)

    def test_unlimited(self):
        self.start(base=(UNLIMITED, UNLIMITED))
        lease = self.acquire("unlimited")
        self.assertEqual(self.limit(), (UNLIMITED, UNLIMITED))
        self.release(lease)
        self.assertEqual(self.limit(), (UNLIMITED, UNLIMITED))

    def test_nearly_unlimited(self):
        """The sum is no limit that means something else."""
        self.start(base=(UNLIMITED - 2 if UNLIMITED > 0 else (1 << 63) - 1, UNLIMITED))
        base = self.limit()
        lease = self.acquire()
        self.release(lease)
        self.assertEqual(self.limit(), base)

    def test_dead(self):
        """Nothing is left to be done, and nothing is said."""
        self.start()
        self.acquire()
        self.process.kill()
        harness.wait_for(lambda: not self.daemon.call("ListLeases")["leases"], "ended")
        self.assert_idle(self.daemon)
        self.assertNotIn("MEMLOCK", self.daemon.read_log())


class TestRatchet(MemlockCase):
    """However it goes about it, a process that has no lease any more has what it had before."""

    def test_pin_and_release(self):
        self.start()
        pinned = 0
        for _ in range(50):
            lease = self.acquire()
            if self.process.act("lock", lease["charge"]) == "0":
                pinned += lease["charge"]
            self.release(lease)
            self.assertEqual(self.limit(), (BASE, BASE))
        self.assertEqual(pinned, lease["charge"], "once, and what is pinned stays so")

    def test_two_before_anything_is_pinned(self):
        self.start()
        for _ in range(10):
            leases = [self.acquire(vm=vm) for vm in ("web", "db")]
            charge = leases[0]["charge"]
            self.assertEqual(self.limit(), (BASE + 2 * charge,) * 2)
            self.process.act("lock", 2 * charge)
            self.release(*leases)
            self.assertEqual(self.limit(), (BASE, BASE))

    def test_lowers_it_a_little(self):
        """It is then another limit than was set; it is no better for that."""
        self.start()
        for lower in (1, 4096, MIB):
            for _ in range(5):
                lease = self.acquire()
                raised = BASE + lease["charge"]
                self.assertEqual(self.process.act("limit", raised - lower, raised), "0")
                self.release(lease)
                self.assertEqual(self.limit(), (BASE, BASE))

    def test_lowers_it_between_leases(self):
        self.start()
        lease = self.acquire()
        for i in range(10):
            raised = self.limit()[1]
            self.process.act("limit", raised - 1, raised - 1)
            more = self.acquire("unmanaged", vm=f"vm{i}")
            self.assertEqual(self.limit(), (raised - 1,) * 2)
            self.assertEqual(self.state(lease), "unmanaged")
            self.release(lease)
            lease = more
        self.release(lease)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_wavers(self):
        """It changes it all the time, so that it is never the same for two looks."""
        self.start()
        lease = self.acquire()
        raised = BASE + lease["charge"]
        self.process.act("waver", raised - 1, raised - 2, raised)
        harness.wait_for(lambda: self.limit()[0] < raised, "another limit")
        self.release(lease)
        soft, hard = self.limit()
        self.assertEqual(hard, BASE)
        self.assertLessEqual(soft, BASE)

    def test_what_it_could_have_by_itself(self):
        """It had a hard limit that is higher: what it makes of that is its own affair."""
        self.start(base=(BASE, 64 * MIB))
        lease = self.acquire()
        self.assertEqual(self.process.act("limit", 32 * MIB, 64 * MIB), "0")
        self.release(lease)
        self.assertEqual(self.limit(), (32 * MIB, 64 * MIB))

    def test_brokers_in_between(self):
        self.start()
        for i in range(5):
            lease = self.acquire()
            self.process.act("lock", lease["charge"])
            if i % 2 == 0:
                self.daemon.kill()
                self.daemon.start()
            else:
                self.daemon.restart()
            self.assertEqual((self.state(lease), self.limit()), ("applied", (BASE + lease["charge"],) * 2))
            more = self.acquire(vm="db")
            self.assertEqual(self.limit(), (BASE + 2 * lease["charge"],) * 2)
            self.release(lease, more)
            self.assertEqual(self.limit(), (BASE, BASE))


class TestChanged(MemlockCase):
    """Somebody else changes it meanwhile."""

    def test_raised(self):
        """By libvirt, for instance: by another process that may."""
        self.start()
        lease = self.acquire()
        resource.prlimit(self.process.pid, MEMLOCK, (256 * MIB, 512 * MIB))
        self.assertEqual(self.state(lease), "applied", "it is looked at when something is to be done")
        more = self.acquire("already_enough", vm="db")
        self.assertEqual(self.state(lease), "already_enough")
        self.release(lease, more)
        self.assertEqual(self.limit(), (256 * MIB, 512 * MIB))
        again = self.acquire()
        self.assertEqual(self.limit(), (256 * MIB + again["charge"], 512 * MIB))
        self.release(again)
        self.assertEqual(self.limit(), (256 * MIB, 512 * MIB))

    def test_to_unlimited(self):
        self.start()
        lease = self.acquire()
        resource.prlimit(self.process.pid, MEMLOCK, (UNLIMITED, UNLIMITED))
        more = self.acquire("already_enough", vm="db")
        self.release(lease, more)
        self.assertEqual(self.limit(), (UNLIMITED, UNLIMITED))

    def test_raised_too_little(self):
        self.start()
        lease = self.acquire()
        changed = (BASE + lease["charge"] + 1,) * 2
        resource.prlimit(self.process.pid, MEMLOCK, changed)
        more = self.acquire("unmanaged", vm="db")
        self.assertEqual(self.limit(), changed)
        grown = self.daemon.call("Update", leaseId=lease["leaseId"], memlockMissing=1)["lease"]
        self.assertEqual((grown["memlock"]["state"], self.limit()), ("unmanaged", changed))
        self.release(more)
        self.assertEqual((self.state(lease), self.limit()), ("already_enough", changed))
        self.release(lease)
        self.assertEqual(self.limit(), changed)

    def test_lowered_below_the_base(self):
        self.start()
        lease = self.acquire()
        self.assertEqual(self.process.act("limit", 4096, 8192), "0")
        more = self.acquire("unmanaged", vm="db")
        self.release(lease, more)
        self.assertEqual(self.limit(), (4096, 8192))

    def test_over_a_restart(self):
        """That it is somebody else's is not forgotten, also where it is a limit that could be the broker's."""
        self.start()
        one, two = self.acquire(), self.acquire(vm="db")
        changed = (BASE + one["charge"],) * 2
        resource.prlimit(self.process.pid, MEMLOCK, changed)
        grown = self.daemon.call("Update", leaseId=two["leaseId"], memlockMissing=1)["lease"]
        self.assertEqual(grown["memlock"]["state"], "unmanaged")
        self.daemon.restart()
        self.assertEqual(([self.state(lease) for lease in (one, two)], self.limit()), (["unmanaged"] * 2, changed))
        self.release(two)
        self.assertEqual((self.state(one), self.limit()), ("already_enough", changed))
        self.release(one)
        self.assertEqual(self.limit(), (BASE, BASE))

    def test_found_by_an_update(self):
        """Of the only lease: it is written down as well."""
        self.start()
        lease = self.acquire()
        raised = BASE + lease["charge"]
        self.process.act("limit", raised - 1, raised)
        grown = self.daemon.call("Update", leaseId=lease["leaseId"], memlockMissing=1)["lease"]
        self.assertEqual(grown["memlock"]["state"], "unmanaged")
        self.daemon.restart()
        self.assertEqual((self.state(lease), self.limit()), ("unmanaged", (raised - 1, raised)))

    def test_while_there_is_no_broker(self):
        self.start()
        lease = self.acquire()
        self.daemon.kill()
        resource.prlimit(self.process.pid, MEMLOCK, (256 * MIB,) * 2)
        self.daemon.start()
        self.assertEqual((self.state(lease), self.limit()), ("already_enough", (256 * MIB,) * 2))
        self.release(lease)
        self.assertEqual(self.limit(), (256 * MIB,) * 2)


if __name__ == "__main__":
    harness.main()
