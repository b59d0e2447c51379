# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm check: what it makes of the broker's checks, and how it exits."""

import json

import cli
import fake
from cli import DONE, FAILED, HOST_CANNOT, NO_BROKER
from fake import Error, check

COMMAND = "grubby --update-kernel=ALL --args=kpti=off && reboot"
KPTI = check("kpti", "failed", "The kernel is unmapped while user space runs (KPTI), so the driver arm_spe_pmu cannot"
             " use the profiling buffer and gives up.", COMMAND)
FOLLOWS = check("driver-probe", "unknown", "Follows from kpti.")
GUEST = check("guest", reason="arm_spe_0: KVM gives it to guests.")
READY = [check("cpu", reason="The CPUs have SPE."), check("driver-loaded", reason="The driver is loaded."), GUEST]
WARNED = READY + [check("trampolines", "warning", "BPF programs do not attach.", "boot a kernel of 6.4 or later")]
UNKNOWN = READY[:2] + [check("guest", "unknown", "This version does not probe KVM.")]
BLOCKED = [READY[0], KPTI, FOLLOWS, UNKNOWN[2]]
NEVER = [READY[0], check("kvm", "failed", "This kernel has no KVM."), KPTI]

CAN = "A guest can have SPE on this host."
MAYBE = ("Nothing is found in the way, but whether KVM gives SPE to a guest is not known: ")


class TestCase(cli.TestCase):
    def ask(self, checks, *arguments, expect, level="none", **kwargs):
        host = fake.host(level=level, levelReason=f"{level} is all there is" if level != "enforce" else None)
        self.broker_ = self.fake(CheckHost={"checks": checks}, Describe={"host": host})
        return self.speadm("check", *arguments, socket=self.broker_.path, expect=expect, **kwargs)

    def verdict(self, result):
        """The last line, which stands apart."""
        lines = result.out.splitlines()
        self.assertEqual(lines[-2], "")
        return lines[-1]


class TestVerdict(TestCase):
    """Which line is the last, and how it exits."""

    CASES = [
        ("ready", READY, DONE, CAN),
        ("a warning is in nobody's way", WARNED, DONE, CAN),
        ("only some SPUs", READY[:2] + [check("guest", "warning", "arm_spe_1: no.")], DONE, CAN),
        ("KVM not asked", UNKNOWN, DONE, MAYBE + "This version does not probe KVM."),
        ("KVM not among the checks", READY[:2], DONE, MAYBE + "this broker does not say"),
        ("something to do", BLOCKED, FAILED, "A guest cannot have SPE now. First: " + COMMAND),
        ("nothing to do", NEVER, HOST_CANNOT, "A guest cannot have SPE on this host: This kernel has no KVM."),
        ("KVM says no", READY[:2] + [check("guest", "failed", "arm_spe_0: no.")], HOST_CANNOT,
         "A guest cannot have SPE on this host: arm_spe_0: no."),
        ("a word of a newer broker", [check("x", "resting")] + READY, DONE, CAN),
        ("no checks", [], DONE, MAYBE + "this broker does not say"),
    ]

    def test_verdicts(self):
        for name, checks, status, line in self.CASES:
            with self.subTest(name):
                result = self.ask(checks, expect=status)
                self.assertEqual(self.verdict(result), line)
                self.assertEqual(result.err, "")
                self.assertEqual(self.broker_.calls, [("CheckHost", {}, False)])

    def test_the_same_in_every_form(self):
        for name, checks, status, _ in self.CASES:
            with self.subTest(name):
                self.assertEqual(json.loads(self.ask(checks, "--json", expect=status).out), checks)
                lines = self.ask(checks, "--no-legend", expect=status).out.splitlines()
                self.assertEqual([line.split()[:2] for line in lines], [[c["name"], c["status"]] for c in checks])

    def test_broken_types(self):
        """A broker that breaks its own interface is survived."""
        broker = self.fake(check=False, CheckHost={"checks": [{"name": 5, "status": None}, 7]})
        self.assertIn("\n?     ?      ?\n", self.speadm("check", socket=broker.path).out)
        broker = self.fake(check=False, CheckHost={"checks": "none"})
        self.assertEqual(self.speadm("check", "-j", socket=broker.path).out, "[]\n")

    def test_refused(self):
        for answer, status in ((Error("org.varlink.service.PermissionDenied"), cli.REFUSED),
                               (Error("org.varlink.service.MethodNotFound", method="CheckHost"), FAILED),
                               (fake.HANG_UP, NO_BROKER)):
            broker = self.fake(CheckHost=answer)
            self.assertTrue(self.sentence(self.speadm("check", socket=broker.path, expect=status)))
        self.speadm("check", socket="/nonexistent", expect=NO_BROKER)


class TestText(TestCase):
    def test_text(self):
        self.golden("check-blocked.txt", self.ask(BLOCKED, expect=FAILED).out)
        self.golden("check-ready.txt", self.ask(WARNED, expect=DONE).out)
        self.golden("check-blocked.json", self.ask(BLOCKED, "-j", expect=FAILED).out)

    def test_terminal(self):
        """Sentences are broken between words to fit; a command stays in one piece, to be pasted."""
        for columns in (80, 100):
            broker = self.fake(CheckHost={"checks": BLOCKED})
            text = self.on_terminal(broker, columns, "check", expect=FAILED)
            if columns == 80:
                self.golden("check-terminal.txt", text)
            lines = text.splitlines()
            self.assertIn("  -> " + COMMAND, lines)
            self.assertTrue(all(len(line) <= columns or COMMAND in line for line in lines), text)
            self.assertIn(KPTI["reason"], " ".join(text.split()))
            self.assertTrue(any(len(line) > columns - 12 for line in lines), "no line uses the width")

    def test_verdict_on_a_terminal(self):
        for checks, status in ((NEVER[:1] + [check("kvm", "failed", "word " * 40)], HOST_CANNOT), (UNKNOWN, DONE)):
            broker = self.fake(CheckHost={"checks": checks})
            text = self.on_terminal(broker, 80, "check", expect=status)
            self.assertLessEqual(max(map(len, text.splitlines())), 80)
            verdict = text.split("\n\n")[1]
            self.assertGreater(len(verdict.splitlines()), 1)
            self.assertTrue(verdict.startswith(("A guest cannot have SPE on this host: word", MAYBE[:40])), verdict)

    def test_narrow_terminal(self):
        for columns in (1, 30):
            broker = self.fake(CheckHost={"checks": BLOCKED + [check("long", reason="x" * 100 + " y")]})
            text = self.on_terminal(broker, columns, "check", expect=FAILED)
            self.assertIn(KPTI["reason"], " ".join(text.split()))
            self.assertIn("x" * 100 + "\n", text)

    def test_hostile(self):
        """What the kernel's log holds, a stranger may have written."""
        hostile = [check("driver-probe", "failed", "a\x1b[31mb\nc\u202ed", "e\x1b[0m")]
        result = self.ask(hostile, expect=FAILED)
        self.assertIn("a\\u001b[31mb\\u000ac\\u202ed\n  -> e\\u001b[0m\n", result.out)
        self.assertNotIn("\x1b", self.ask(hostile, "-j", expect=FAILED).out)


class TestRequire(TestCase):
    LEVELS = ["none", "observe", "reserve", "enforce"]

    def test_order(self):
        for has, level in enumerate(self.LEVELS):
            for wants, required in enumerate(self.LEVELS):
                with self.subTest(level=level, required=required):
                    status = DONE if has >= wants else FAILED
                    result = self.ask(READY, "--require", required, level=level, expect=status)
                    self.assertEqual(self.verdict(result), CAN)
                    said = (f"speadm: level {required} is required, and the broker has level {level}: "
                            f"{level} is all there is\n")
                    self.assertEqual(result.err, "" if status == DONE else said)
                    self.assertEqual([call[0] for call in self.broker_.calls], ["CheckHost", "Describe"])

    def test_the_host_comes_first(self):
        for checks, status in ((BLOCKED, FAILED), (NEVER, HOST_CANNOT)):
            self.assertEqual(self.ask(checks, "--require", "none", expect=status).err, "")
            self.assertIn("level enforce is required", self.ask(checks, "--require=enforce", expect=status).err)

    def test_json(self):
        result = self.ask(READY, "--require", "reserve", "-j", level="observe", expect=FAILED)
        self.assertEqual(json.loads(result.out), READY)
        self.assertIn("level reserve is required, and the broker has level observe", result.err)

    def test_hostile(self):
        host = fake.host(levelReason="a\x1b[31mb")
        for form in ([], ["-j"]):
            broker = self.fake(CheckHost={"checks": READY}, Describe={"host": host})
            result = self.speadm("check", "--require", "enforce", *form, socket=broker.path, expect=FAILED)
            self.assertIn("has level none: a\\u001b[31mb\n", result.err)

    def test_unknown_word(self):
        """A level that this speadm does not know is not taken for a good one."""
        result = self.ask(READY, "--require", "observe", level="all", expect=FAILED)
        self.assertIn("the broker has level all", result.err)


if __name__ == "__main__":
    cli.main()
