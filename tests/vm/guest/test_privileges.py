# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the broker's checks take beside files that everybody may read: the kernel's log, and the kernel's BPF, on a
real kernel and with the capabilities that the unit gives."""

import os
import pathlib
import subprocess

import machine
from machine import ARM64, RELEASE

# Since when a function of the kernel can call a BPF program there.
TRAMPOLINES = not ARM64 or RELEASE >= (6, 4)


class TestPrivileges(machine.TestCase):
    def start(self, *lost):
        """A broker without these capabilities, in place of the one before."""
        for broker in self.brokers:
            broker.stop()
        broker = self.new_broker()
        if lost:
            sets = ",".join("-" + name for name in lost)
            broker.wrapper = ["setpriv", "--bounding-set", sets, "--inh-caps", sets]
        return broker.start()

    def checks(self, broker):
        return {check["name"]: check for check in broker.call("CheckHost")["checks"]}

    def descriptors(self, broker):
        """What they lead to; some come and go with its connections."""
        for entry in pathlib.Path(f"/proc/{broker.process.pid}/fd").iterdir():
            try:
                yield os.readlink(entry)
            except FileNotFoundError:
                pass

    def test_kernel_log(self):
        """KVM's mode stands there alone; kernel.dmesg_restrict keeps it from those without CAP_SYSLOG."""
        if not ARM64:
            self.skipTest("KVM has modes on arm64 only")
        restrict = pathlib.Path("/proc/sys/kernel/dmesg_restrict")
        self.addCleanup(restrict.write_text, restrict.read_text())
        restrict.write_text("1")
        self.assertIn("VHE", self.checks(self.start())["kvm-mode"]["reason"])
        denied = self.checks(self.start("syslog", "sys_admin"))["kvm-mode"]
        self.assertEqual((denied["status"], denied["advice"]), ("unknown", "sysctl kernel.dmesg_restrict=0"))
        restrict.write_text("0")
        self.assertEqual(self.checks(self.start("syslog", "sys_admin"))["kvm-mode"]["status"], "ok")

    def test_trampolines(self):
        broker = self.start()
        check = self.checks(broker)["trampolines"]
        if TRAMPOLINES:
            self.assertEqual((check["status"], check["advice"]), ("ok", None), check)
        else:
            self.assertEqual((check["status"], check["advice"]), ("warning", "Boot a kernel of 6.4 or later."), check)
            self.assertIn("loads but does not attach: errno 524 (ENOTSUPP)", check["reason"])
        once = sorted(target for target in self.descriptors(broker) if "bpf" in target)
        broker.call("Rescan")
        self.checks(broker)
        self.assertEqual(sorted(target for target in self.descriptors(broker) if "bpf" in target), once,
                         "nothing stays of the trial")

    def test_capabilities(self):
        """The two that the unit gives are enough, and each is needed."""
        others = ("sys_admin", "net_admin", "sys_ptrace", "dac_override")
        self.assertNotEqual(self.checks(self.start(*others))["trampolines"]["status"], "unknown")
        for lost in ("bpf", "perfmon"):
            check = self.checks(self.start(lost, *others))["trampolines"]
            self.assertEqual(check["status"], "unknown", check)
            self.assertIn("CAP_BPF and CAP_PERFMON", check["reason"])

    def test_unit(self):
        """The module's own test, where it does not have to pretend."""
        done = subprocess.run([pathlib.Path(os.environ["SPE_BUILD_DIR"], "tests/unit/test-bpf-probe")], check=False,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("attach, as tried" if TRAMPOLINES else "ENOTSUPP", done.stdout)


if __name__ == "__main__":
    machine.main()
