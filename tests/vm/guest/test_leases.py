# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of leases when a real driver is unloaded and loaded again, and when their CPUs go off line. The rules
one by one are tests/daemon/test_lifecycle_*.py's; here the kernel makes the changes, and nobody calls Rescan."""

import bpf
import machine
from sizes import MIB

BUFFER = MIB
# At level reserve, which others would have, the driver cannot be unloaded while there are leases.
LEVEL = "" if bpf.ENFORCES else "[Arbitration]\nLevel=observe\n"
RELOADS = 10


class TestLeases(machine.TestCase):
    def start(self, config=""):
        self.driver.load("0-1", "2-3")
        self.daemon = self.broker(config=LEVEL + config)
        self.admin = self.client(self.daemon)

    def acquire(self, cpus, locked=0, **kwargs):
        """A lease of a process that has locked so much memory, and the stream of its changes."""
        _, client = self.vmm(self.daemon, locked=locked)
        stream = client.stream("Acquire", request={"vm": "vm", "vcpus": 1, "bufferSize": BUFFER, "cpus": cpus} | kwargs)
        return stream.next()["lease"], stream

    def unload(self, *streams):
        self.driver.unload()
        for stream in streams:
            lease = stream.change("updated")["lease"]
            self.assertIsNone(lease["pmuType"])
            self.assertIn("gone", lease["reason"])
            self.assertGreater(lease["remainingUSec"], 0)

    def test_restored(self):
        self.start()
        lease, stream = self.acquire("2-3", mode="exclusive")
        self.assertEqual((lease["instance"], lease["pmuType"]), ("arm_spe_1", self.driver.type(1)))
        self.unload(stream)
        instance = self.daemon.instance("arm_spe_1")
        self.assertEqual((instance["state"], instance["leases"], instance["leasedCpus"]), ("gone", 1, "2-3"))
        machine.wait_for(lambda: not self.daemon.instance("arm_spe_0"), "the other one is gone, too")
        self.refused("InstanceNotReady", self.admin, "Acquire", request={"vm": "other", "vcpus": 1, "cpus": "2"})
        self.driver.load("0-1", "2-3")
        now = stream.change("restored")["lease"]
        self.assertEqual(now, lease | {"pmuType": self.driver.type(1)})
        self.refused("Busy", self.admin, "Acquire", request={"vm": "other", "vcpus": 1, "cpus": "2"})

    def test_types_change_hands(self):
        """The driver finds the SPUs in the other order: each has the other's name, and the type that it had."""
        self.start()
        types = self.driver.type(0), self.driver.type(1)
        never, never_stream = self.acquire("0-1")
        enabled, enabled_stream = self.acquire("2-3", locked=BUFFER)
        self.unload(never_stream, enabled_stream)
        self.driver.load("2-3", "0-1")
        self.assertEqual({self.driver.type(0), self.driver.type(1)}, set(types), "the kernel used other numbers")
        now = never_stream.change("restored")["lease"]
        self.assertEqual((now["instance"], now["pmuType"], now["cpus"]), ("arm_spe_1", self.driver.type(1), "0-1"))
        self.assertFalse(now["restartRequired"])
        stale = enabled_stream.next()["lease"]
        self.assertEqual((stale["instance"], stale["pmuType"], stale["cpus"]), ("arm_spe_0", self.driver.type(0), "2-3"))
        # KVM does not let a VM that has run change its SPU; the number decides.
        self.assertEqual(stale["restartRequired"], enabled["pmuType"] != self.driver.type(0))

    def test_another_type(self):
        """Another PMU has taken the number meanwhile."""
        self.start()
        never, never_stream = self.acquire("2-3")
        enabled, enabled_stream = self.acquire("2-3", locked=BUFFER)
        self.unload(never_stream, enabled_stream)
        self.driver.load("2-3")
        self.assertNotEqual(self.driver.type(0), never["pmuType"])
        now = never_stream.change("restored")["lease"]
        self.assertEqual((now["pmuType"], now["restartRequired"]), (self.driver.type(0), False))
        stale = enabled_stream.next()
        self.assertEqual((stale["change"], stale["lease"]["restartRequired"]), ("updated", True))
        self.assertIn(f"was {enabled['pmuType']}", stale["lease"]["reason"])

    def test_gone_for_too_long(self):
        self.start(config="[Policy]\nGoneGraceSec=100ms\n")
        lease, stream = self.acquire("2-3")
        other, other_stream = self.acquire("0-1")
        self.unload(stream, other_stream)
        now = stream.change("revoked")["lease"]
        self.assertEqual((now["state"], now["restartRequired"]), ("revoked", True))
        self.assertIn("GoneGraceSec", now["reason"])
        other_stream.change("revoked")  # the driver's SPUs go one by one, and so do the graces
        self.driver.load("0-1", "2-3")
        machine.wait_for(lambda: self.daemon.instance("arm_spe_1")["state"] == "ready", "the SPU is back")
        again, _ = self.acquire("2-3")
        self.assertEqual(again["state"], "granted")
        self.assertEqual(self.daemon.lease(lease["leaseId"])["state"], "revoked")
        self.assertEqual(self.daemon.lease(other["leaseId"])["state"], "revoked")

    def test_half_registered(self):
        """Half of an SPU restores nothing."""
        self.start()
        lease, stream = self.acquire("0-1")
        self.unload(stream)
        watch = self.watch(self.daemon)
        self.driver.start("0-1", half_registered=1)
        self.told(watch, arm_spe_0={"state": "partial"})
        self.assertIsNone(self.daemon.lease(lease["leaseId"])["pmuType"])
        self.driver.release()
        self.assertEqual(stream.change("restored")["lease"], lease | {"pmuType": self.driver.type(0)})

    def test_cpus(self):
        self.start()
        lease, stream = self.acquire("2-3", locked=BUFFER)
        self.cpu(3, False)
        now = stream.change("cpus")["lease"]
        self.assertEqual((now["cpus"], now["pmuType"], now["charge"]), ("2", lease["pmuType"], lease["charge"]))
        self.cpu(2, False)
        away = stream.change("updated")["lease"]
        self.assertIn("off line", away["reason"])
        self.assertIsNone(away["pmuType"])
        self.cpu(2, True)
        self.assertEqual(stream.change("restored")["lease"]["cpus"], "2")
        self.cpu(3, True)
        self.assertEqual(stream.change("cpus")["lease"], lease)

    def test_reloaded_in_a_loop(self):
        self.start()
        lease, stream = self.acquire("2-3", mode="exclusive")
        for _ in range(RELOADS):
            self.unload(stream)
            self.driver.load("0-1", "2-3")
            self.assertEqual(stream.change("restored")["lease"]["pmuType"], self.driver.type(1))
        self.assertEqual(self.daemon.lease(lease["leaseId"]), lease | {"pmuType": self.driver.type(1)})
        self.admin.call("Release", leaseId=lease["leaseId"])
        stream.change("ended")
        self.assert_idle(self.daemon)


if __name__ == "__main__":
    machine.main()
