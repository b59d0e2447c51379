# SPDX-License-Identifier: LGPL-2.1-or-later
"""The broker follows the kernel: PMUs come and go, are half there for a while, CPUs go off line. Nobody calls Rescan;
the uevents are the kernel's own."""

import machine
from machine import DEVICES, RELEASE
from sizes import MIB

RELOADS = 20
SWAPS = 6
FORMATS = ["branch_filter", "event_filter", "jitter", "load_filter", "min_latency", "pa_enable", "pct_enable",
           "store_filter", "ts_enable"]


class TestTopology(machine.TestCase):
    def start(self):
        self.daemon = self.broker()
        self.assertEqual(self.daemon.call("ListInstances")["instances"], [])
        self.stream = self.watch(self.daemon)

    def ready(self, *cpus):
        """All of them are told to be ready, with these CPUs, and the types that the kernel says. Returns them."""
        return self.told(self.stream, **{
            f"arm_spe_{i}": {"state": "ready", "cpus": expected, "pmuType": self.driver.type(i)}
            for i, expected in enumerate(cpus)})

    def unload(self, n):
        self.driver.unload()
        self.told(self.stream, **{f"arm_spe_{i}": {"state": "gone"} for i in range(n)})

    def test_there_at_start(self):
        self.driver.load("0-3")
        instance = self.broker().instance()
        self.assertEqual((instance["state"], instance["cpus"]), ("ready", "0-3"))

    def test_appears(self):
        self.start()
        self.driver.load("0-1", "2-3", max_buff_size=2 * MIB)
        first, second = self.ready("0-1", "2-3")
        self.assertNotEqual(first["pmuType"], second["pmuType"])
        self.assertEqual(self.daemon.call("ListInstances")["instances"], [first, second])
        for instance in (first, second):
            self.assertEqual((instance["driver"], instance["maxBufferSize"]), ("module", 2 * MIB))
            self.assertEqual((instance["onlineCpus"], instance["leases"]), (instance["cpus"], 0))
            self.assertIsNone(instance["problem"])
        capabilities = first["capabilities"]
        self.assertEqual(sorted(capabilities["formats"]), FORMATS)
        self.assertEqual((capabilities["minInterval"], capabilities["countSize"]), (1024, 12))
        self.assertEqual((capabilities["archInst"], capabilities["ernd"]), (False, True))
        self.unload(2)
        self.assertEqual(self.daemon.call("ListInstances")["instances"], [])

    def test_no_limit(self):
        """The capability is not there, or is 0: no limit is told."""
        self.start()
        for parameters in ({}, {"max_buff_size": 0}):
            with self.subTest(parameters):
                self.driver.load("0-3", **parameters)
                self.assertIsNone(self.ready("0-3")[0]["maxBufferSize"])
                self.unload(1)

    def test_where(self):
        """Whose child the PMU is depends on the kernel, and the broker does not care."""
        self.driver.load("0-3")
        parent = "/sys/devices/platform/spe" if RELEASE >= (6, 10) else "/sys/devices"
        self.assertEqual(str((DEVICES / "arm_spe_0").resolve()), f"{parent}/arm_spe_0")
        self.assertEqual(self.broker().instance()["state"], "ready")

    def test_half_registered(self):
        """Its probe has not ended: partial, and not for guests; then it has."""
        self.start()
        self.driver.start("0-1", half_registered=1)
        instance, = self.told(self.stream, arm_spe_0={"state": "partial"})
        self.assertIn("cpumask", instance["problem"])
        answer = self.refused("InstanceNotReady", self.client(self.daemon), "Acquire", request={
            "vm": "vm", "vcpus": 1, "instance": "arm_spe_0"})
        self.assertEqual((answer["instance"], answer["state"]), ("arm_spe_0", "partial"))
        self.driver.release()
        self.assertIsNone(self.ready("0-1")[0]["problem"])
        lease = self.daemon.call("Acquire", request={"vm": "vm", "vcpus": 1})["lease"]
        self.assertEqual((lease["cpus"], lease["pmuType"]), ("0-1", self.driver.type(0)))

    def test_cpus(self):
        self.start()
        self.driver.load("0-1", "2-3")
        self.ready("0-1", "2-3")
        for online, expected in ((False, "2"), (True, "2-3")):
            self.cpu(3, online)
            instance, = self.told(self.stream, arm_spe_1={"onlineCpus": expected})
            self.assertEqual((instance["state"], instance["cpus"]), ("ready", "2-3"))
        self.assertEqual(self.daemon.instance("arm_spe_0")["onlineCpus"], "0-1")

    def test_reloaded_in_a_loop(self):
        self.start()
        before = self.daemon.counters()
        for _ in range(RELOADS):
            self.driver.load("0-1", "2-3")
            self.ready("0-1", "2-3")
            self.unload(2)
        self.assertEqual(self.daemon.call("ListInstances")["instances"], [])
        self.assert_idle(self.daemon)
        self.assertGreaterEqual(self.daemon.counters()["rescans"] - before["rescans"], 2 * RELOADS)

    def test_swapped_in_a_loop(self):
        """What the CPUs are is never told with what the other's type is."""
        self.start()
        for i in range(SWAPS):
            cpus = ("0-1", "2-3") if i % 2 else ("2-3", "0-1")
            self.driver.load(*cpus)
            self.ready(*cpus)
            self.unload(2)


if __name__ == "__main__":
    machine.main()
