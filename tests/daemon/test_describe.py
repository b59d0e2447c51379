# SPDX-License-Identifier: LGPL-2.1-or-later
"""Describe: limits in force, counts, counters, and what the broker says it cannot do."""

import time
import unittest.mock

import harness
from sizes import GIB, MIB

MEMORY_KIB = 16 * 1024 * 1024


class TestDescribe(harness.TestCase):
    def test_defaults(self):
        broker = self.broker()
        host = broker.call("Describe")["host"]
        self.assertEqual(
            host["limits"],
            {
                "defaultBufferSize": 4 * MIB,
                "maxBufferSize": 64 * MIB,
                "maxMemoryPerVM": 2 * GIB,
                "maxMemoryPerUser": unittest.mock.ANY,
                "maxMemory": unittest.mock.ANY,
                "maxLeases": 4096,
                "maxLeasesPerUser": 1024,
                "maxConnections": 4096,
                "maxConnectionsPerUser": 2176,
            },
        )
        five_percent = MEMORY_KIB * 1024 * 5 // 100
        self.assertAlmostEqual(host["limits"]["maxMemory"], five_percent, delta=MIB)
        self.assertEqual(host["limits"]["maxMemoryPerUser"], host["limits"]["maxMemory"])

    def test_configured(self):
        broker = self.broker(
            config="[Limits]\nDefaultBufferSize=2M\nMaxBufferSize=32M\nMaxMemoryPerVM=1G\n"
            "MaxMemoryPerUser=3G\nMaxMemory=5G\nMaxLeases=7\nMaxLeasesPerUser=6\n"
            "MaxConnections=90\nMaxConnectionsPerUser=80\n"
        )
        self.assertEqual(
            broker.call("Describe")["host"]["limits"],
            {
                "defaultBufferSize": 2 * MIB,
                "maxBufferSize": 32 * MIB,
                "maxMemoryPerVM": GIB,
                "maxMemoryPerUser": 3 * GIB,
                "maxMemory": 5 * GIB,
                "maxLeases": 7,
                "maxLeasesPerUser": 6,
                "maxConnections": 90,
                "maxConnectionsPerUser": 80,
            },
        )

    def test_kvm_numbers(self):
        """Those of the configuration, by its keys, and of the kernel header; no guesses."""
        broker = self.broker()
        header = broker.call("Describe")["host"]["kvmNumbers"]
        self.assertEqual({number["origin"] for number in header} - {"header"}, set())
        keys = ("Capability", "Feature", "Group", "AttributeIrq", "AttributeSpu", "AttributeMaxBufferSize",
                "AttributeInit")
        broker.configure("[KVM]\n" + "".join(f"{key}={100 + i}\n" for i, key in enumerate(keys)))
        broker.call("Reload")
        self.assertEqual(broker.call("Describe")["host"]["kvmNumbers"],
                         [{"name": key, "value": 100 + i, "origin": "config"} for i, key in enumerate(keys)])
        broker.configure("[KVM]\nGroup=3\n")
        broker.call("Reload")
        numbers = broker.call("Describe")["host"]["kvmNumbers"]
        self.assertIn({"name": "Group", "value": 3, "origin": "config"}, numbers)
        self.assertEqual([n for n in numbers if n["name"] != "Group"], [n for n in header if n["name"] != "Group"])

    def test_honest(self):
        """What this version does not do, it says."""
        broker = self.broker()
        host = broker.call("Describe")["host"]
        self.assertEqual(host["level"], "none")
        self.assertTrue(host["levelReason"])
        self.assertIs(host["levelKept"], False)
        self.assertEqual(host["memlock"], {"manage": False, "able": False})
        self.assertTrue(all(isinstance(f, str) and f for f in host["features"]))
        self.assertTrue(host["version"])
        self.assertRegex(host["bootId"], "^[0-9a-f]{32}$")
        before = int(time.time() * 1e6)
        now = broker.call("Describe")["host"]["nowUSec"]
        self.assertTrue(before <= now <= int(time.time() * 1e6))
        self.assertTrue(self.refused("ArbitrationUnavailable", self.client(broker), "ListSessions")["reason"])

    def test_counts(self):
        broker = self.broker()
        client = self.client(broker)
        watch = self.client(broker).stream("Watch")
        watch.next()
        counts = client.call("Describe")["host"]["counts"]
        self.assertEqual(
            counts, {"instances": 2, "leases": 0, "waiting": 0, "connections": 2, "watchers": 1, "sessions": 0}
        )
        lease = client.call("Acquire", request={"vm": "a", "vcpus": 1, "cpus": "0-3", "mode": "exclusive"})[
            "lease"
        ]
        waiter = self.client(broker).stream(
            "Acquire", request={"vm": "b", "vcpus": 1, "cpus": "0"}, waitUSec=10**9
        )
        self.assertEqual(waiter.next()["lease"]["state"], "queued")
        host = client.call("Describe")["host"]
        self.assertEqual(
            host["counts"],
            {"instances": 2, "leases": 1, "waiting": 1, "connections": 3, "watchers": 1, "sessions": 0},
        )
        self.assertEqual(host["charge"], lease["charge"])

    def test_counters_count(self):
        broker = self.broker()
        client = self.client(broker)
        before = broker.counters()
        self.assertEqual(
            len(before), len(broker.call("Describe")["host"]["counters"]), "a counter stands twice"
        )
        lease = client.call("Acquire", request={"vm": "a", "vcpus": 1})["lease"]
        client.call("Release", leaseId=lease["leaseId"])
        self.refused(
            "NoSuchInstance", client, "Acquire", request={"vm": "a", "vcpus": 1, "instance": "arm_spe_9"}
        )
        after = broker.counters()
        self.assertEqual(set(after), set(before))
        self.assertTrue(all(after[name] >= before[name] for name in before))
        self.assertEqual(after["leases-granted"], before["leases-granted"] + 1)


if __name__ == "__main__":
    harness.main()
