# SPDX-License-Identifier: LGPL-2.1-or-later
"""What speadm check says of a booted machine: what the real kernel shows is what the checks read, and the first thing to
do is the right one. (tests/daemon/test_check_hosts.py has every other host.)"""

import json

import machine
from machine import ARM64, RELEASE

LOADED = {"driver-built": "ok", "driver-loaded": "ok", "driver-probe": "ok", "instances": "ok"}
# The rest of a Debian kernel, whatever its version.
KERNEL = {"mem-sampling": "ok", "perf-paranoid": "ok", "btf": "ok", "bpf-lsm": "ok"}
ARM64_KVM = {"kvm": "ok", "kvm-mode": "ok"}
# arm64 has trampolines for BPF programs from 6.4 on (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS).
TRAMPOLINES = not ARM64 or RELEASE >= (6, 4)


class TestCheck(machine.TestCase):
    def checks(self):
        """{name: (status, reason, advice)}, and the exit status."""
        code, output, errors = self.command("check", "--json")
        self.assertEqual(errors, "")
        return {check["name"]: (check["status"], check["reason"], check["advice"]) for check in json.loads(output)}, code

    def assert_statuses(self, checks, expected):
        self.assertEqual({name: checks[name][0] for name in expected}, expected, checks)

    def test_loaded(self):
        self.driver.load("0-1", "2-3")
        self.broker()
        checks, _ = self.checks()
        self.assert_statuses(checks, {"cpu": "ok"} | LOADED | KERNEL | (ARM64_KVM if ARM64 else {}))
        self.assertIn("2 SPUs are ready, on CPUs 0-3", checks["instances"][1])
        self.assertEqual(checks["trampolines"][0] == "ok", TRAMPOLINES, checks["trampolines"])
        self.assertEqual(checks["guest"][0], "unknown")

    def test_unloaded(self):
        self.driver.load("0-1")
        broker = self.broker()
        stream = self.watch(broker)
        self.driver.unload()
        self.told(stream, arm_spe_0={"state": "gone"})
        # The module goes after its PMUs.
        machine.wait_for(lambda: self.checks()[0]["driver-loaded"][0] != "ok", "the module is gone, too")
        checks, code = self.checks()
        if ARM64:
            self.assertEqual(code, 1)
            self.assert_statuses(checks, {"driver-built": "ok", "driver-loaded": "failed", "instances": "unknown"})
            self.assertIn("modprobe arm_spe_pmu", checks["driver-loaded"][2])
            self.assertEqual(checks["firmware"][0], "failed", "QEMU's device tree has no SPE")
        else:
            self.assertEqual(code, 77)
            self.assert_statuses(checks, {"cpu": "failed", "driver-loaded": "unknown", "instances": "unknown"})
            self.assertIn("this machine is x86_64", checks["cpu"][1])

    def test_half_registered(self):
        """An SPU that is not whole proves nothing; when it is, it does."""
        self.driver.start("0-3", half_registered=1)
        broker = self.broker()
        stream = self.watch(broker)
        self.told_or_is(broker, stream, "partial")
        self.assertNotEqual(self.checks()[0]["instances"][0], "ok")
        self.driver.release()
        self.told_or_is(broker, stream, "ready")
        self.assert_statuses(self.checks()[0], LOADED)

    def told_or_is(self, broker, stream, state):
        if (broker.instance() or {}).get("state") != state:
            self.told(stream, arm_spe_0={"state": state})

    def test_partly_off_line(self):
        """SPUs stay what they are if CPUs go off line."""
        self.driver.load("0-1", "2-3")
        self.broker()
        self.cpu(3, False)
        self.assert_statuses(self.checks()[0], LOADED)

    def test_as_users_see_it(self):
        """The command's own words, and its exit status."""
        self.driver.load("0-1", "2-3")
        self.broker()
        code, output, _ = self.command("check")
        lines = output.splitlines()
        self.assertEqual(lines[0].split(), ["CHECK", "STATUS", "REASON"])
        self.assertEqual(code, 0, output)
        self.assertIn("whether KVM gives SPE to a guest is not known", lines[-1])
        code, output, _ = self.command("list", "--no-legend")
        self.assertEqual((code, [line.split()[0:3:2] for line in output.splitlines()]),
                         (0, [["arm_spe_0", "ready"], ["arm_spe_1", "ready"]]))


if __name__ == "__main__":
    machine.main()
