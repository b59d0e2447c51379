# SPDX-License-Identifier: LGPL-2.1-or-later
"""Update.memlockMissing: what KVM wants beyond what was thought."""

import harness
import wire
from memlock import request
from sizes import MIB

INT64_MAX = (1 << 63) - 1
LIMITS = "[Limits]\nMaxMemoryPerVM=64M\nMaxMemoryPerUser=96M\nMaxMemory=128M\n"


class TestMissing(harness.TestCase):
    """Update.memlockMissing: what KVM wants beyond what was thought is charged, to all accounts, and given back."""

    def charges(self, broker, instance="arm_spe_1"):
        return broker.call("Describe")["host"]["charge"], broker.instance(instance)["charge"]

    def test_grows_and_is_given_back(self):
        broker = self.broker(config=LIMITS)
        process, client = self.vmm(broker, uid=1000)
        lease = broker.call("Acquire", request=request(pid=process.pid))["lease"]
        follow = process.connect(broker).stream("Follow", leaseId=lease["leaseId"])
        self.addCleanup(follow.close)
        follow.next()
        charge = lease["charge"]
        for missing in (1, 4096, 10 * MIB):
            grown = client.call("Update", leaseId=lease["leaseId"], memlockMissing=missing)["lease"]
            charge += missing
            self.assertEqual((grown["charge"], grown["memlock"]["bytes"]), (charge, charge))
            self.assertEqual(grown, lease | {"charge": charge, "memlock": grown["memlock"]})
            self.assertEqual(follow.change("updated")["lease"], grown)
            self.assertEqual(self.charges(broker), (charge, charge))
        client.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_limits(self):
        """Each in its turn, with its twin: one byte less is allowed."""
        broker = self.broker(config=LIMITS)
        process, client = self.vmm(broker, uid=1000)
        root = self.client(broker)
        for limit, size, vm, caller, owner in (
            ("MaxMemoryPerVM", 64, "web", client, {"pid": process.pid}),
            ("MaxMemoryPerUser", 96, "db", client, {"pid": process.pid}),
            ("MaxMemory", 128, "web", root, {}),
        ):
            lease = root.call("Acquire", request=request(vm=vm, **owner))["lease"]
            left = size * MIB - self.charges(broker)[0]
            with self.subTest(limit):
                answer = self.refused("LimitExceeded", caller, "Update", leaseId=lease["leaseId"],
                                      memlockMissing=left + 1)
                self.assertEqual(answer, {"limit": limit, "requested": left + 1, "available": left})
                self.assertEqual(broker.lease(lease["leaseId"]), lease)
                self.assertEqual(self.charges(broker)[0], size * MIB - left)
                grown = caller.call("Update", leaseId=lease["leaseId"], memlockMissing=left)["lease"]
                self.assertEqual(grown["charge"], lease["charge"] + left)
                self.refused("LimitExceeded", caller, "Update", leaseId=lease["leaseId"], memlockMissing=1)

    def test_refused_as_a_whole(self):
        """CPUs and bytes in one call: the first refusal by the rules, and nothing is done."""
        broker = self.broker(config=LIMITS)
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        client.call("Acquire", request=request(vm="db", cpus="8", mode="exclusive"))
        for cpus, missing, error in (
            ("0", 1 << 40, "NoInstanceForCpus"),
            ("7-8", 1 << 40, "LimitExceeded"),
            ("6-7", 1 << 40, "LimitExceeded"),
            ("7-8", 1, "Busy"),
        ):
            with self.subTest(cpus=cpus, missing=missing):
                self.refused(error, client, "Update", leaseId=lease["leaseId"], cpus=cpus, memlockMissing=missing)
                self.assertEqual(broker.lease(lease["leaseId"]), lease)
        grown = client.call("Update", leaseId=lease["leaseId"], cpus="6-7", memlockMissing=1)["lease"]
        self.assertEqual((grown["cpus"], grown["charge"]), ("6-7", lease["charge"] + 1))

    def test_absurd(self):
        broker = self.broker(config="[Limits]\nMaxMemoryPerVM=7340032T\nMaxMemoryPerUser=7340032T\nMaxMemory=7340032T\n")
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        for missing in (0, -1, -1 << 63, INT64_MAX, INT64_MAX - lease["charge"]):
            with self.subTest(missing):
                self.invalid("memlockMissing", client, "Update", leaseId=lease["leaseId"], memlockMissing=missing)
                self.assertEqual(broker.lease(lease["leaseId"]), lease)
        self.refused("LimitExceeded", client, "Update", leaseId=lease["leaseId"],
                     memlockMissing=INT64_MAX - lease["charge"] - 1)
        client.call("Update", leaseId=lease["leaseId"], memlockMissing=6 << 60)

    def test_only_while_it_holds(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        broker.call("Revoke", leaseId=lease["leaseId"], graceUSec=10**10)
        client.call("Update", leaseId=lease["leaseId"], memlockMissing=1)  # it may still be about to stop
        broker.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        harness.wait_for(lambda: broker.lease(lease["leaseId"])["state"] == "revoked", "revoked")
        self.invalid("leaseId", client, "Update", leaseId=lease["leaseId"], memlockMissing=1)
        self.assertEqual(broker.lease(lease["leaseId"])["charge"], lease["charge"] + 1)

    def test_told_beforehand(self):
        self.assertIn("Update.memlockMissing", self.broker().call("Describe")["host"]["features"])

    def test_outlives_the_broker(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        grown = client.call("Update", leaseId=lease["leaseId"], memlockMissing=MIB)["lease"]
        broker.kill()
        broker.start()
        self.assertEqual(broker.lease(lease["leaseId"]), grown)
        self.assertEqual(self.charges(broker), (grown["charge"],) * 2)
        broker.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_lets_refusals_come(self):
        """A waiter that the growth leaves no room for is told so."""
        broker = self.broker(config="[Limits]\nMaxMemory=16M\nMaxMemoryPerUser=32M\n")
        client = self.client(broker)
        lease = client.call("Acquire", request=request(mode="exclusive", exact=True))["lease"]
        waiter = self.client(broker)
        waiter.send("Acquire", {"request": request(vm="db", exact=True), "waitUSec": 10**9})
        harness.wait_for(lambda: broker.call("Describe")["host"]["counts"]["waiting"] == 1, "a waiter")
        client.call("Update", leaseId=lease["leaseId"], memlockMissing=8 * MIB)
        with self.assertRaises(wire.VarlinkError) as caught:
            waiter.receive()
        self.assertEqual(caught.exception.parameters["limit"], "MaxMemory")


class TestEnabled(harness.TestCase):
    """Who was short of locked memory has enabled SPE: such a VM does not follow another SPU."""

    def test_is_not_taken_over(self):
        broker = self.broker()
        client = self.client(broker)
        leases = [client.call("Acquire", request=request(vm=vm))["lease"] for vm in ("web", "db")]
        client.call("Update", leaseId=leases[0]["leaseId"], memlockMissing=1)
        broker.tree.write(broker.tree.path(1, "type"), 99)
        broker.call("Rescan")
        self.assertEqual([broker.lease(lease["leaseId"])["restartRequired"] for lease in leases], [True, False])


if __name__ == "__main__":
    harness.main()
