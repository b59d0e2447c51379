# SPDX-License-Identifier: LGPL-2.1-or-later
"""Level=: what there is of what is wanted, on this machine's own kernel, with the reasons. Level enforce, and reserve on
PMUs that are locks, need kernels that are booted for it (tests/vm)."""

import pathlib
import re

import harness
from tree import Tree

PMUS = pathlib.Path("/sys/bus/event_source/devices")
LEVELS = ("none", "observe", "reserve", "enforce")
GUEST = {"vm": "a", "vcpus": 1, "cpus": "0"}
SHARED = GUEST | {"mode": "shared"}


def type_of(pmu):
    path = PMUS / pmu / "type"
    return int(path.read_text()) if path.exists() else 1


def real_pmu(root):
    """A host whose only SPU is a PMU of this machine that nobody uses: what other tests open is no session here."""
    return Tree(root, "0").instance(0, "0", type=type_of("power"))


def countable_pmu(root):
    """One whose PMU takes events that count, any number of them."""
    return Tree(root, "0").instance(0, "0", type=type_of("msr"))


def no_pmu(root):
    """One whose SPU has a type that no PMU of this machine has."""
    return Tree(root, "0").instance(0, "0", type=4242)


def level(name):
    return f"[Arbitration]\nLevel={name}\n"


class TestLevel(harness.TestCase):
    def told(self, broker):
        host = broker.call("Describe")["host"]
        return host["level"], host["levelReason"]

    def leases(self, broker, reason=None):
        """What may share is granted; what may not is, too, unless there is a reason."""
        client = self.client(broker)
        if reason:
            error = self.refused("ArbitrationUnavailable", client, "Acquire", request=GUEST)
            self.assertIn(reason, error["reason"])
            self.assertEqual(client.call("Query", request=GUEST)["decision"]["refusals"][0]["error"],
                             harness.BROKER + "ArbitrationUnavailable")
        else:
            client.call("Release", leaseId=client.call("Acquire", request=GUEST)["lease"]["leaseId"])
        client.call("Release", leaseId=client.call("Acquire", request=SHARED)["lease"]["leaseId"])

    def test_fixture(self):
        """Another host's tree has no level unless one is named."""
        for config in ("", level("auto")):
            broker = self.broker(tree=real_pmu, config=config)
            self.assertEqual(self.told(broker), ("none", "this is another host's tree (--root), and its configuration "
                                                 "names no level"))
            self.leases(broker)
            self.refused("ArbitrationUnavailable", self.client(broker), "ListSessions")
            broker.stop()
            self.assertIn("brokering 1 SPU, host sessions: none", broker.log)

    def test_simulated(self):
        broker = self.broker(simulate="biglittle")
        self.assertEqual(self.told(broker), ("none", "this host is simulated: nothing here is real hardware"))
        broker.stop()
        self.assertIn("brokering 2 SPUs of the simulated host biglittle, host sessions: none", broker.log)

    def test_none(self):
        broker = self.broker(tree=real_pmu, config=level("none"))
        self.assertEqual(self.told(broker), ("none", "the configuration says Level=none"))
        self.leases(broker)

    def test_observe(self):
        broker = self.broker(tree=real_pmu, config=level("observe"))
        have, reason = self.told(broker)
        if have == "observe":
            self.assertEqual(reason, "the configuration says Level=observe")
            self.leases(broker)
            self.assertEqual(self.client(broker).call("ListSessions")["sessions"], [])
        else:
            self.assertEqual(have, "none")
            self.assertTrue(reason.startswith("level observe cannot be had: "), reason)
            self.leases(broker, reason)

    def test_reserve(self):
        """This machine's PMUs are no locks."""
        broker = self.broker(tree=countable_pmu, config=level("reserve"))
        have, reason = self.told(broker)
        self.assertIn(have, ("observe", "none"))
        self.assertRegex(reason, "^level reserve cannot be had: (the PMU of arm_spe_0 is no lock|the broker may not open)")
        self.leases(broker, "level reserve cannot be had: ")
        broker.stop()
        self.assertIn(reason + "; leases that may not share are refused", broker.log)

    def test_reserve_without_pmu(self):
        broker = self.broker(tree=no_pmu, config=level("reserve"))
        _, reason = self.told(broker)
        self.assertRegex(reason, r"^level reserve cannot be had: (perf has no CPU 0 on the PMU of arm_spe_0 \(type 4242\)|"
                         "the broker may not open)")

    def test_reserve_without_spu(self):
        """It is tried when an SPU comes."""
        broker = self.broker(tree=lambda root: Tree(root, "0"), config=level("reserve"))
        self.assertIn("level reserve cannot be had: there is no SPU to try it on", self.told(broker)[1])
        broker.tree.instance(0, "0", type=4242)
        self.client(broker).call(harness.ADMIN + "Rescan")
        harness.wait_for(lambda: "no SPU" not in self.told(broker)[1], "the SPU is tried")

    def test_enforce(self):
        """Where this kernel has BPF LSM it is there; else what is missing is said, and leases are refused."""
        broker = self.broker(tree=real_pmu, config=level("enforce"))
        have, reason = self.told(broker)
        if have == "enforce":
            self.assertIsNone(reason)
            self.leases(broker)
        else:
            self.assertIn(have, ("observe", "none"))
            self.assertTrue(reason.startswith("level enforce cannot be had: "), reason)
            self.leases(broker, reason)

    def test_reload(self):
        """From each to each other; a lease stays, and the journal has a line for each change."""
        broker = self.broker(tree=real_pmu, config=level("none"))
        told = {}
        for name in LEVELS:
            broker.configure(level(name))
            broker.hangup()
            told[name] = self.told(broker)
        client = self.client(broker)
        lease = client.call("Acquire", request=SHARED)["lease"]
        for first in LEVELS:
            for second in LEVELS:
                for name in (first, second):
                    broker.configure(level(name))
                    broker.hangup()
                    self.assertEqual(self.told(broker), told[name])
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        broker.stop()
        changes = re.findall(r"host sessions: level (\w+) \(was (\w+)\)", broker.log)
        self.assertTrue(all(new != old for new, old in changes))
        if told["observe"][0] == "observe":
            self.assertIn(("observe", "none"), changes)
            self.assertIn(("none", "observe"), changes)

    def test_fault(self):
        """A word that is none leaves what is in force."""
        broker = self.broker(tree=real_pmu, config=level("none"))
        broker.configure(level("all"))
        broker.hangup()
        self.assertEqual(self.told(broker), ("none", "the configuration says Level=none"))
        broker.stop()
        self.assertIn("Level=all: not a level (auto, enforce, reserve, observe, none)", broker.log)


if __name__ == "__main__":
    harness.main()
