# SPDX-License-Identifier: LGPL-2.1-or-later
"""CheckHost on the fixture hosts of hosts.py: the whole answer of each as a file in golden/check/, and, apart from that,
which check is the first that failed. SPE_GOLDEN_UPDATE=1 writes the files anew: read the difference before you keep it.
"""

import json
import os
import pathlib
import re

import harness
import hosts
import tree

GOLDEN = pathlib.Path(__file__).with_name("golden") / "check"
UPDATE = os.environ.get("SPE_GOLDEN_UPDATE") == "1"

NAMES = ["cpu", "firmware", "kpti", "driver-built", "driver-loaded", "driver-probe", "instances", "mem-sampling",
         "perf-paranoid", "kvm", "kvm-mode", "guest", "memlock", "btf", "bpf-lsm", "trampolines", "level"]
# What SPE in a guest does not depend on.
NEVER_FAILS = {"mem-sampling", "perf-paranoid", "memlock", "btf", "bpf-lsm", "trampolines", "level"}

# The first check that fails, with a word of its advice; "" where nothing helps on this host.
FIRST_FAILURE = {
    "acpi-gsi": ("firmware", "MADT"),
    "acpi-not-homogeneous": ("firmware", "PPTT"),
    "acpi-not-homogeneous-old": ("firmware", "PPTT"),
    "acpi-short-table": ("firmware", "MADT"),
    "acpi-silent": ("firmware", "MADT"),
    "altra-kpti": ("kpti", "kpti=off"),
    "altra-kpti-not-loaded": ("kpti", "kpti=off"),
    "altra-kpti-off": ("driver-loaded", "modprobe arm_spe_pmu"),
    "altra-kpti-old": ("kpti", "kpti=off"),
    "altra-kpti-reloaded": ("kpti", "kpti=off"),
    "cores-too-old": ("cpu", ""),
    "device-tree-disabled": ("firmware", "okay"),
    "device-tree-missing": ("firmware", "compatible"),
    "device-tree-no-interrupt": ("firmware", "interrupt"),
    "half-registered": ("instances", "modprobe -r"),
    "kpti-for-meltdown": ("kpti", "kpti=off"),
    "kpti-unknown": ("driver-loaded", "modprobe arm_spe_pmu"),
    "kpti-vulnerable": ("driver-loaded", "modprobe arm_spe_pmu"),
    "kvm-disabled": ("kvm", "kvm-arm.mode=none"),
    "kvm-error": ("kvm", "dmesg"),
    "kvm-missing": ("kvm", "dmesg"),
    "kvm-no-hyp": ("kvm", "EL2"),
    "kvm-not-built": ("kvm", "CONFIG_KVM=y"),
    "kvm-nvhe": ("kvm-mode", "kvm-arm.mode=nvhe"),
    "kvm-nvhe-log-lost": ("kvm-mode", "kvm-arm.mode=nvhe"),
    "kvm-nvhe-old-words": ("kvm-mode", ""),
    "kvm-protected": ("kvm-mode", "kvm-arm.mode=protected"),
    "kvm-protected-log-lost": ("kvm-mode", "kvm-arm.mode=protected"),
    "log-empty": ("driver-probe", "modprobe -r"),
    "log-hostile": ("instances", "dmesg"),
    "log-missing": ("driver-probe", "modprobe -r"),
    "module-coming": ("instances", "dmesg"),
    "module-not-built": ("driver-built", "CONFIG_ARM_SPE_PMU=m"),
    "module-not-loaded": ("driver-loaded", "modprobe arm_spe_pmu"),
    "modules-extra-missing": ("driver-built", "apt install linux-modules-extra-$(uname -r)"),
    "nothing": ("instances", "dmesg"),
    "probe-alignment": ("driver-probe", ""),
    "probe-higher-level": ("driver-probe", "firmware"),
    "probe-no-interrupt": ("firmware", "interrupt"),
    "probe-no-interrupt-old": ("firmware", "interrupt"),
    "probe-no-memory": ("driver-probe", "modprobe -r"),
    "probe-no-memory-builtin": ("driver-probe", "reboot"),
    "probe-no-name": ("driver-probe", "modprobe -r"),
    "probe-no-partition": ("firmware", "partition"),
    "probe-no-spe": ("cpu", ""),
    "probe-not-registered": ("driver-probe", "modprobe -r"),
    "probe-record-size": ("driver-probe", ""),
    "probe-silent": ("driver-probe", "modprobe -r"),
    "probe-spi": ("firmware", "PPI"),
    "vm-device-tree": ("cpu", ""),
    "vm-driver-not-built": ("driver-built", "CONFIG_ARM_SPE_PMU=m"),
    "vm-hidden": ("cpu", ""),
    "vm-higher-level": ("driver-probe", ""),
    "vm-without-spe": ("cpu", ""),
    "x86": ("cpu", ""),
}
READY = {"big-little", "big-little-one-missing", "big-little-one-partial", "graviton2", "graviton3", "kvm-mode-log-lost",
         "lsm-debian", "lsm-fedora", "lsm-ubuntu", "mem-sampling", "no-btf-no-bpf", "perf-for-everybody", "probe-failed-then-good"}


def by_name(checks):
    return {check["name"]: check for check in checks}


def first_failure(checks):
    return next((check for check in checks if check["status"] == "failed"), None)


class TestHosts(harness.TestCase):
    answers = {}  # for all tests: a daemon for each host is enough

    def ask(self, name):
        if name not in self.answers:
            broker = self.broker(tree=hosts.HOSTS[name])
            checks = broker.call("CheckHost")["checks"]
            for instance in broker.call("ListInstances")["instances"]:
                checks[NAMES.index("guest")]["reason"] = checks[NAMES.index("guest")]["reason"].replace(
                    instance["guestReason"] or "no reason", "GUEST-REASON")  # which has its own tests
            broker.stop()
            self.answers[name] = checks
        return self.answers[name]

    def test_all_are_expected(self):
        self.assertEqual(set(FIRST_FAILURE) | READY, set(hosts.HOSTS))
        self.assertFalse(set(FIRST_FAILURE) & READY)
        if not UPDATE:
            self.assertEqual({path.name for path in GOLDEN.iterdir()}, {f"{name}.json" for name in hosts.HOSTS})

    def golden(self, name, checks):
        lines = ",\n".join("  " + json.dumps(check, ensure_ascii=False) for check in checks)
        text = f"[\n{lines}\n]\n"
        path = GOLDEN / f"{name}.json"
        if UPDATE:
            path.write_text(text)
        self.assertEqual(path.read_text(), text)

    def well_formed(self, checks):
        self.assertEqual([check["name"] for check in checks], NAMES)
        for check in checks:
            with self.subTest(check["name"]):
                self.assertIn(check["status"], ("ok", "warning", "failed", "unknown"))
                self.assertRegex(check["reason"], r"\A[A-Za-z0-9][ -~]*\.\Z", "not a sentence")
                advice = check.get("advice")
                if advice is not None:
                    self.assertRegex(advice, r"\A[ -~]+\Z", "not a line")
                self.assertFalse(check["status"] == "ok" and advice, "what is good needs no advice")
                self.assertFalse(check["status"] == "failed" and check["name"] in NEVER_FAILS)

    def test_hosts(self):
        for name in hosts.HOSTS:
            with self.subTest(name):
                checks = self.ask(name)
                self.golden(name, checks)
                self.well_formed(checks)
                failed = first_failure(checks)
                if name in READY:
                    self.assertIsNone(failed)
                    continue
                expected, word = FIRST_FAILURE[name]
                self.assertEqual(failed["name"], expected)
                self.assertIn(word, failed.get("advice") or "")
                self.assertEqual(bool(word), bool(failed.get("advice")), "can something be done here, or not?")

    def test_consequences(self):
        """What depends on a check that failed does not fail with it."""
        for name, cause, follow in (
            ("altra-kpti", "kpti", {"driver-probe", "instances", "guest"}),
            ("module-not-loaded", "driver-loaded", {"driver-probe", "instances", "guest"}),
            ("module-not-built", "driver-built", {"driver-loaded", "driver-probe", "instances", "guest"}),
            ("acpi-gsi", "firmware", {"driver-probe", "instances", "guest"}),
            ("half-registered", "instances", {"guest"}),
            ("kvm-protected", "kvm-mode", {"guest"}),
            ("x86", "cpu", set(NAMES[1:7]) | {"kvm", "kvm-mode", "guest"}),
        ):
            with self.subTest(name):
                checks = self.ask(name)
                self.assertEqual([c["name"] for c in checks if c["status"] == "failed"], [cause])
                self.assertEqual({c["name"] for c in checks if re.fullmatch(r"Follows from .*\.", c["reason"])}, follow)
                for check in checks:
                    if check["name"] in follow:
                        self.assertEqual((check["status"], check["reason"]), ("unknown", f"Follows from {cause}."))


class TestChange(harness.TestCase):
    def test_cure(self):
        """As the operator does what the first failure advises, the next one comes to light."""
        written = []
        broker = self.broker(tree=lambda root: written.append(hosts.modules_extra_missing(root)))
        host = written[0]

        def first():
            broker.call("Rescan")
            failed = first_failure(broker.call("CheckHost")["checks"])
            return failed and failed["name"]

        self.assertEqual(first(), "driver-built")
        host.modules()
        self.assertEqual(first(), "driver-loaded")
        host.say('arm_spe_pmu arm,spe-v1: profiling buffer inaccessible. Try passing "kpti=off" on the kernel command line')
        host.driver(bound=())
        self.assertEqual(first(), "kpti")
        host.say("arm_spe_pmu arm,spe-v1: probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]")
        self.assertEqual(first(), "instances")
        host.instance(0, "0-63", type=11)
        self.assertIsNone(first())
        checks = by_name(broker.call("CheckHost")["checks"])
        self.assertEqual({name: checks[name]["status"] for name in NAMES[:7]}, dict.fromkeys(NAMES[:7], "ok"))

    def test_large_host(self):
        """4,096 CPUs, a log of many megabytes without an end of a line."""

        def write(root):
            host = hosts.Host(root, "0-4095", None)
            host.instance(0, "0-2047")
            host.write("var/log/kmsg", b"x" * (20 << 20))

        checks = by_name(self.broker(tree=write).call("CheckHost")["checks"])
        self.assertEqual(checks["instances"]["status"], "warning")
        self.assertIn("CPUs 2048-4095", checks["instances"]["reason"])

    def test_everybody_may_ask(self):
        broker = self.broker(tree=tree.one_spu)
        stranger = self.vmm(uid=65534)
        self.assertEqual(len(stranger.call(broker, "CheckHost")["checks"]), len(NAMES))


if __name__ == "__main__":
    harness.main()
