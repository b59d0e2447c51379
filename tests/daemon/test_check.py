# SPDX-License-Identifier: LGPL-2.1-or-later
"""CheckHost: what it says of a host, that it looks again, and what many who ask cost."""

import os
import pathlib
import re
import time

import harness
import tree

# Reading it takes so long that a list is not made for everybody who asks.
LONG_LOG = "[    0.000000] eth0: link up\n" * 200000
STATUSES = {"ok", "warning", "failed", "unknown"}
PAGE = pathlib.Path(os.environ["SPE_SOURCE_DIR"], "man/spe-broker.8.scd").read_text()


def documented():
    """The names of spe-broker(8), in its order."""
    section = PAGE.partition("\n# HOST CHECKS\n")[2].partition("\n# ")[0]
    return re.findall(r"\*([a-z-]+)\*", " ".join(re.findall(r"(?m)^\*[a-z-]+\*.*$", section)))


class TestCheckHost(harness.TestCase):
    def checks(self, broker):
        checks = broker.call("CheckHost")["checks"]
        return {check["name"]: check for check in checks}

    def test_form(self):
        for simulate in (None, "biglittle", "partial"):
            broker = self.broker(simulate=simulate) if simulate else self.broker(tree=tree.Tree)
            checks = broker.call("CheckHost")["checks"]
            self.assertEqual([check["name"] for check in checks], documented())
            for check in checks:
                self.assertIn(check["status"], STATUSES)
                self.assertTrue(check["reason"])
                self.assertNotIn("\n", check["reason"] + (check["advice"] or ""))
                self.assertNotEqual(check["advice"], "")

    def test_feature(self):
        self.assertIn("CheckHost", self.broker().call("Describe")["host"]["features"])

    def test_another_machine(self):
        """What only the running kernel can say is not said of another one."""
        checks = self.checks(self.broker(simulate="biglittle"))
        self.assertEqual(checks["cpu"]["status"], "ok")
        self.assertEqual(checks["instances"]["status"], "ok")
        for name in ("guest", "trampolines", "level"):
            self.assertEqual((checks[name]["status"], checks[name]["advice"]), ("unknown", None), name)

    def test_level(self):
        """What Describe has, in its words; and it fails where the configuration wants more than there is."""
        for wanted in ("none", "observe", "reserve", "enforce"):
            with self.subTest(wanted):
                broker = self.broker(config=f"[Arbitration]\nLevel={wanted}\n")
                host, check = broker.call("Describe")["host"], self.checks(broker)["level"]
                self.assertIn(f"(level {host['level']})", check["reason"])
                self.assertIn(host["levelReason"] or "", check["reason"])
                had = host["level"] == wanted
                self.assertEqual((check["status"], check["advice"] is None), ("ok" if had else "failed", had), check)
                self.assertEqual("leases that may not share are refused" in check["reason"], not had)
                if not had:
                    request = {"vm": "a", "vcpus": 1}
                    reason = self.refused("ArbitrationUnavailable", self.client(broker), "Acquire", request=request)
                    self.assertEqual(reason, {"reason": host["levelReason"]})
                    broker.call("Acquire", request=request | {"mode": "shared"})

    def test_level_is_the_present_one(self):
        """However much a list costs to make."""
        broker = self.broker(config="[Arbitration]\nLevel=none\n")
        broker.tree.write("var/log/kmsg", LONG_LOG)
        self.assertEqual(self.checks(broker)["level"]["status"], "ok")
        broker.configure("")
        broker.call("Reload")
        self.assertEqual(self.checks(broker)["level"]["status"], "unknown")

    def test_looks_again(self):
        """After a rescan, at once, and by itself."""
        broker = self.broker()
        broker.tree.write("var/log/kmsg", LONG_LOG)
        self.assertEqual(self.checks(broker)["instances"]["status"], "ok")
        for name in ("arm_spe_0", "arm_spe_1"):
            broker.tree.remove_instance(name)
        broker.call("Rescan")
        self.assertNotEqual(self.checks(broker)["instances"]["status"], "ok")

        broker.tree.write("proc/sys/kernel/perf_event_paranoid", "2")
        harness.wait_for(lambda: self.checks(broker)["perf-paranoid"]["status"] == "ok", "a look at the host")
        broker.tree.write("proc/sys/kernel/perf_event_paranoid", "-1")
        harness.wait_for(lambda: self.checks(broker)["perf-paranoid"]["advice"], "another look")

    def test_many(self):
        """Who asks without end does not get a list made for each time."""
        broker = self.broker()
        broker.tree.write("var/log/kmsg", LONG_LOG)
        client = self.client(broker)
        begin = time.monotonic()
        client.call("CheckHost")
        cost = time.monotonic() - begin

        n = 200
        begin = time.monotonic()
        for _ in range(n):
            client.send("CheckHost")
        for _ in range(n):
            self.assertEqual(len(client.receive()[0]["checks"]), len(documented()))
        self.assertLess(time.monotonic() - begin, n / 2 * cost, "as long as so many lists would take")


if __name__ == "__main__":
    harness.main()
