# SPDX-License-Identifier: LGPL-2.1-or-later
"""What speadm says of the host's own sessions: which there are, which were refused, and which are in the way."""

import json
import signal

import cli
import fake
from cli import HOST_CANNOT

REASON = "the kernel has no BPF"


class TestSessions(cli.TestCase):
    def test_text(self):
        broker = self.fake(ListSessions={"sessions": fake.SESSIONS})
        self.golden("sessions.txt", self.speadm("sessions", socket=broker.path).out)
        rows = self.speadm("sessions", "--no-legend", socket=broker.path).out.splitlines()
        self.assertEqual([row.split()[0] for row in rows], ["cpu", "task", "taskcpu"])
        self.assertEqual(broker.calls, [("ListSessions", {}, False)] * 2)

    def test_json(self):
        broker = self.fake(ListSessions={"sessions": fake.SESSIONS})
        result = self.speadm("sessions", "-j", socket=broker.path)
        self.assertEqual(json.loads(result.out), fake.SESSIONS, "as the broker sent it")
        self.golden("sessions.json", result.out)

    def test_not_seen(self):
        """A host on which nobody looks is no host without sessions."""
        broker = self.fake(ListSessions=fake.Error("ArbitrationUnavailable", reason=REASON))
        for form in ([], ["-j"]):
            sentence = self.sentence(self.speadm("sessions", *form, socket=broker.path, expect=HOST_CANNOT))
            self.assertEqual(sentence, f"host sessions cannot be seen: {REASON}")


class TestRefusals(cli.TestCase):
    OTHERS = [fake.refusal(vm="web", pid=1234, uid=1000, holders=[fake.holder(kind="session", leaseId=None, vm=None)])]

    def ask(self, *arguments):
        self.fake_ = self.fake(ListRefusals={"refusals": self.OTHERS + fake.SESSION_REFUSALS})
        return self.speadm("refusals", *arguments, socket=self.fake_.path).out

    def test_process(self):
        """Whose perf failed is told why, and what would do."""
        self.golden("refusals-pid.txt", self.ask("--pid", "4711"))
        self.assertEqual(self.fake_.calls, [("ListRefusals", {}, False)])
        self.assertIn("in the way: CPUs 2-3 are assigned to none\n", self.ask("--pid", "4712"))

    def test_only_that_process(self):
        shown = json.loads(self.ask("--pid", "4711", "-j"))
        self.assertEqual(shown, fake.SESSION_REFUSALS[:2])
        self.assertEqual(json.loads(self.ask("--pid", "99", "-j")), [])
        self.assertEqual(self.ask("--pid", "99"), "No refusals.\n")

    def test_of_a_lease(self):
        """To a VMM the table says it all."""
        text = self.ask("--pid", "1234")
        self.assertEqual(len(text.splitlines()), 2)
        self.assertNotIn("->", text)

    def test_limit(self):
        """So many of that process, whoever was refused since."""
        self.assertEqual(json.loads(self.ask("--pid", "4711", "--limit", "1", "-j")), fake.SESSION_REFUSALS[:1])
        self.assertEqual(json.loads(self.ask("--pid", "4712", "--limit", "1", "-j")), fake.SESSION_REFUSALS[2:])
        self.assertEqual(self.fake_.calls, [("ListRefusals", {}, False)], "the broker would count others")

    def test_no_legend(self):
        rows = self.ask("--pid", "4711", "--no-legend").splitlines()
        self.assertEqual([row.split()[3:7] for row in rows], [["-", "4711", "0", "Busy"],
                                                              ["-", "4711", "0", "NotAssigned"]])


class TestHolders(cli.TestCase):
    """A session in a lease's way is named; and one that nobody could be seen to have."""

    def test_named(self):
        named = fake.holder(kind="session", leaseId=None, vm=None, pid=77, command="perf", cpus="2")
        unseen = named | {"pid": None, "uid": None, "command": None, "cpus": "3"}
        broker = self.fake(Rescan=fake.Error("Busy", holders=[named, unseen]))
        self.assertEqual(self.sentence(self.speadm("rescan", socket=broker.path, expect=cli.REFUSED)),
                         "busy: session (pid 77, perf) on CPUs 2; session (whose, cannot be seen) on CPUs 3")

    def test_level(self):
        broker = self.fake(Rescan=fake.Error("ArbitrationUnavailable", reason=REASON))
        self.assertEqual(self.sentence(self.speadm("rescan", socket=broker.path, expect=HOST_CANNOT)),
                         f"host sessions cannot be kept off: {REASON}")


class TestAssign(cli.TestCase):
    """Sessions in the way of guests are told, and waited for."""

    def test_wait(self):
        steps = [{"affected": [], "draining": fake.SESSIONS[:2]}, {"affected": [], "draining": fake.SESSIONS[:1]}]
        last = {"affected": [], "draining": []}
        broker = self.fake(Assign=steps + [last])
        line = "assign guest --cpus 0-3 --for 10m --wait".split()
        self.golden("assign-sessions.txt", self.speadm(*line, socket=broker.path).out)
        self.assertEqual(broker.calls, [("Assign", {"cpus": "0-3", "owner": "guest", "forUSec": 600000000}, True)])
        self.assertEqual(json.loads(self.speadm(*line, "-j", socket=broker.path).out), last)
        rows = self.speadm(*line, "--no-legend", socket=broker.path).out.splitlines()
        self.assertEqual([row.split()[0] for row in rows], ["cpu", "task"])

        broker = self.fake(Assign=[steps[0], fake.HOLD])
        process = self.spawn(*line, socket=broker.path)
        self.assertEqual(self.line(process.stdout), "Host sessions in the way until they close:\n")
        self.assertIsNone(process.poll(), "they are still there")
        process.send_signal(signal.SIGTERM)
        self.finish(process, expect=-signal.SIGTERM)


class TestStatus(cli.TestCase):
    def test_level(self):
        for members, shown in (
                ({"level": "enforce", "levelReason": None, "levelKept": True, "gate": "enforce", "gateReason": None},
                 ("enforce", "yes", "enforce")),
                ({"level": "reserve", "levelReason": REASON, "gate": "log", "gateReason": REASON},
                 (f"reserve \\({REASON}\\)", "no", f"log \\({REASON}\\)"))):
            counts = fake.host()["counts"] | {"sessions": 3}
            host = fake.host(counts=counts, counters=[{"name": "sessions-refused", "value": 4}], **members)
            text = self.speadm("status", socket=self.fake(Describe={"host": host}).path).out
            self.assertRegex(text, rf"(?m)^Arbitration level: +{shown[0]}$")
            self.assertRegex(text, rf"(?m)^Outlives the broker: +{shown[1]}$")
            self.assertRegex(text, rf"(?m)^Gate: +{shown[2]}$")
            self.assertRegex(text, r"(?m)^Host sessions: +3$")
            self.assertRegex(text, r"(?m)^sessions-refused: +4$")


if __name__ == "__main__":
    cli.main()
