# SPDX-License-Identifier: LGPL-2.1-or-later
"""CheckHost on a real kernel: what is read of its log, its files and its modules, and what its BPF does. No machine here
has SPE; with the test PMU loaded, what comes before an SPU is proved."""

import os
import pathlib
import subprocess

import harness
import machine
from machine import ARM64, RELEASE

# Since when a function of the kernel can call a BPF program there.
TRAMPOLINES = not ARM64 or RELEASE >= (6, 4)


class TestCheck(machine.TestCase):
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

    def test_no_spe(self):
        """speadm says what the host lacks, or what to do; to a test PMU that was there before, the log still owns."""
        checks = self.checks(self.start())
        failed = next(check for check in checks.values() if check["status"] == "failed")
        code, out, _ = self.command("check")
        verdict = out.splitlines()[-1]
        if failed["advice"]:
            self.assertEqual((code, verdict), (1, "A guest cannot have SPE now. First: " + failed["advice"]))
        else:
            self.assertEqual((code, verdict), (77, "A guest cannot have SPE on this host: " + failed["reason"]))
        if not ARM64:
            self.assertEqual((failed["name"], code), ("cpu", 77))
            self.assertIn("x86_64", failed["reason"])

    def test_driver(self):
        """As the driver comes and goes; its module goes after its PMU."""
        broker = self.start()
        stream = self.watch(broker)
        for _ in range(3):
            self.driver.load("0-1")
            self.told(stream, arm_spe_0={"state": "ready"})
            checks = self.checks(broker)
            for name in ("cpu", "firmware", "kpti", "driver-loaded", "driver-probe"):
                self.assertEqual(checks[name]["status"], "ok", checks[name])
            self.assertEqual(checks["instances"]["status"], "warning")
            self.assertIn("CPUs 2-3 have no SPU", checks["instances"]["reason"])
            self.driver.unload()
            self.told(stream, arm_spe_0={"state": "gone"})
            self.assertNotEqual(self.checks(broker)["instances"]["status"], "ok")
            harness.wait_for(lambda: self.checks(broker)["driver-loaded"]["status"] != "ok", "the driver's end")

    def test_files(self):
        """What Debian's kernels are, read from the places where it stands."""
        checks = self.checks(self.start())
        for name in ("perf-paranoid", "mem-sampling", "btf", "bpf-lsm"):
            self.assertEqual(checks[name]["status"], "ok", checks[name])
        self.assertIn("bpf", pathlib.Path("/sys/kernel/security/lsm").read_text().strip().split(","))

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
        self.assertEqual([target for target in self.descriptors(broker) if "bpf" in target], [], "nothing stays")

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
