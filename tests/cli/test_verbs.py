# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each verb asks for, and what it makes of the answer: as text and as JSON."""

import json
import signal
import subprocess

import cli
import fake
from cli import DONE, FAILED, HOST_CANNOT, NO_BROKER, REFUSED

INSTANCES = [
    fake.instance(leasedCpus="0-1", sessionCpus="2", leases=2, charge=16908288, assignments=[
        fake.assignment("0-1", "guest", vm="web"),
        fake.assignment("2-3", "none", state="draining", origin="runtime", remainingUSec=5000000)]),
    fake.instance("arm_spe_1", pmuType=9, cpus="4-11", onlineCpus="4-10", guest="no",
                  guestReason="KVM_CAP_ARM_SPE is not there", assignments=[fake.assignment("4-11", "host")]),
    fake.instance("arm_spe_2", pmuType=None, state="partial", cpus="", onlineCpus="", driver="unknown",
                  problem="there is no file type: the driver is still probing, or failed to"),
]
LEASES = [
    fake.lease("0123456789abcdef0123456789abcdef"),
    fake.lease("012345fedcba98760123456789abcdef", vm="db", mode="exclusive", state="revoking", vcpus=16,
               bufferSize=1 << 20, charge=1536 << 20, remainingUSec=7500000, reason="the operator wants it back"),
    fake.lease("fedcba98765432100123456789abcdef", vm="queue", instance="", pmuType=None, cpus="", bufferSize=0,
               charge=0, state="queued", remainingUSec=90000000, owner={"pid": None, "command": None}),
]
REFUSALS = [
    fake.refusal(vm="web", pid=1234, uid=1000, holders=[fake.holder()]),
    fake.refusal("LimitExceeded", message="MaxBufferSize is 64M.", vm="db", limit="MaxBufferSize",
                 requested=1 << 30, available=64 << 20),
] + fake.SESSION_REFUSALS
# What a stranger may call itself: escapes, a newline, C1, and a mark that turns the line around.
HOSTILE = "a\x1b[31mb\nc\x7f\u009b\u202ed"
HOSTILE_SHOWN = "a\\u001b[31mb\\u000ac\\u007f\\u009b\\u202ed"


class TestList(cli.TestCase):
    def test_text(self):
        broker = self.fake(ListInstances={"instances": INSTANCES})
        result = self.speadm("list", socket=broker.path)
        self.golden("list.txt", result.out)
        self.assertEqual(self.speadm(socket=broker.path).out, result.out, "list is the default")
        self.assertEqual(broker.calls, [("ListInstances", {}, False)] * 2)

    def test_no_legend(self):
        broker = self.fake(ListInstances={"instances": INSTANCES})
        result = self.speadm("--no-legend", "list", socket=broker.path)
        self.golden("list-no-legend.txt", result.out)
        self.assertEqual(self.speadm("list", "--no-legend", socket=broker.path).out, result.out)
        self.assertEqual(len(result.out.splitlines()), len(INSTANCES), "rows and nothing else")

    def test_json(self):
        broker = self.fake(ListInstances={"instances": INSTANCES})
        result = self.speadm("-j", "list", socket=broker.path)
        self.golden("list.json", result.out)
        self.assertEqual(json.loads(result.out), INSTANCES, "as the broker sent it")
        for line in (["--json"], ["-j"], ["list", "--json"], ["list", "-j", "--no-legend"]):
            self.assertEqual(self.speadm(*line, socket=broker.path).out, result.out)

    def test_one_is_an_array_too(self):
        broker = self.fake(ListInstances={"instances": INSTANCES[:1]})
        self.assertEqual(json.loads(self.speadm("-j", socket=broker.path).out), INSTANCES[:1])

    def test_nothing(self):
        broker = self.fake(ListInstances={"instances": []}, ListLeases={"leases": []}, ListRefusals={"refusals": []},
                           ListSessions={"sessions": []})
        for verb, remark in (("list", "This host has no SPU"), ("leases", "No leases."), ("refusals", "No refusals."),
                             ("sessions", "No host sessions.")):
            with self.subTest(verb):
                self.assertEqual(self.speadm(verb, "-j", socket=broker.path).out, "[]\n")
                self.assertEqual(self.speadm(verb, "--no-legend", socket=broker.path).out, "")
                self.assertIn(remark, self.speadm(verb, socket=broker.path).out)

    def test_newer_broker(self):
        """Members and words that this version does not know change nothing."""
        newer = INSTANCES[0] | {"state": "resting", "colour": "green"}
        broker = self.fake(check=False, ListInstances={"instances": [newer], "more": {}})
        self.assertIn("resting", self.speadm(socket=broker.path).out)
        self.assertEqual(json.loads(self.speadm("-j", socket=broker.path).out), [newer])

    def test_columns_stay(self):
        """The same columns whatever the content, each cell filled: scripts count them."""
        plain = fake.instance(cpus="", onlineCpus="")
        outputs = []
        for instances in ([plain], INSTANCES[:1], INSTANCES):
            broker = self.fake(ListInstances={"instances": instances})
            outputs.append(self.speadm(socket=broker.path).out.splitlines())
        self.assertEqual(len({tuple(o[0].split()) for o in outputs}), 1)
        self.assertEqual(len(outputs[0][1].split()), len(outputs[0][0].split()))

    def test_broken_types(self):
        """A broker that breaks its own interface is survived."""
        broker = self.fake(check=False, ListInstances={"instances": [{"name": 5, "charge": -1, "cpus": None}, 7]})
        rows = self.speadm("list", "--no-legend", socket=broker.path).out.splitlines()
        self.assertEqual([row.split() for row in rows], [["-"] * 8 + ["0", "0B", "-", "-"]] * 2)
        broker = self.fake(check=False, ListInstances={"instances": "none"})
        self.assertEqual(self.speadm("list", "-j", socket=broker.path).out, "[]\n")


class TestTerminal(cli.TestCase):
    def test_width(self):
        leases = [fake.lease(vm="a-name-that-is-much-too-long-for-a-narrow-terminal" * 3)]
        broker = self.fake(ListLeases={"leases": leases})
        for columns in (120, 132):
            lines = self.on_terminal(broker, columns, "leases").splitlines()
            self.assertEqual(len(lines), 2)
            self.assertLessEqual(max(map(len, lines)), columns)
            self.assertIn("qemu-system-aar"[:4], lines[1])
        self.assertIn(leases[0]["vm"], self.speadm("leases", socket=broker.path).out, "elsewhere nothing is cut")


class TestLeases(cli.TestCase):
    def test_text(self):
        broker = self.fake(ListLeases={"leases": LEASES})
        self.golden("leases.txt", self.speadm("leases", socket=broker.path).out)
        self.golden("leases-no-legend.txt", self.speadm("leases", "--no-legend", socket=broker.path).out)

    def test_json(self):
        broker = self.fake(ListLeases={"leases": LEASES})
        self.assertEqual(json.loads(self.speadm("leases", "-j", socket=broker.path).out), LEASES)

    def test_spu_changes(self):
        """Its SPU is gone; it is another one; it did not come back in time; and its twin as always."""
        leases = [
            fake.lease(vm="gone", pmuType=None, remainingUSec=59000000, reason="its SPU is gone"),
            fake.lease(vm="other", pmuType=33, restartRequired=True, reason="its SPU has come back as another one"),
            fake.lease(vm="late", pmuType=None, restartRequired=True, state="revoked", reason="its SPU is gone"),
            fake.lease(vm="there"),
        ]
        broker = self.fake(ListLeases={"leases": leases})
        self.golden("leases-spu-changes.txt", self.speadm("leases", socket=broker.path).out)

    def test_contended(self):
        """A host session stands against it; its twin; and it is told with what else is wrong. VCPUs are misplaced."""
        leases = [fake.lease(contended=True), fake.lease(), fake.lease(contended=True, pmuType=None),
                  fake.lease(contended=True, restartRequired=True, misplaced=True),
                  fake.lease(misplaced=True, reason="1 of its 2 VCPU threads may run on CPUs 4, outside of the lease: "
                                                    "'taskset -cp 0-3 1236' keeps them off")]
        broker = self.fake(ListLeases={"leases": leases})
        self.golden("leases-contended.txt", self.speadm("leases", socket=broker.path).out)

    def test_vm(self):
        broker = self.fake(ListLeases={"leases": []})
        self.speadm("leases", "--vm", "web", socket=broker.path)
        self.speadm("leases", socket=broker.path)
        self.assertEqual(broker.calls, [("ListLeases", {"vm": "web"}, False), ("ListLeases", {}, False)])


class TestNumbers(cli.TestCase):
    def column(self, n, **members):
        leases = [fake.lease(**dict(zip(members, values))) for values in zip(*members.values())]
        broker = self.fake(ListLeases={"leases": leases})
        out = self.speadm("leases", "--no-legend", socket=broker.path).out
        return [line.split()[n] for line in out.splitlines()]

    def test_sizes(self):
        """For people: one decimal at most, rounded to the nearest, and the unit above where that rounds up to it."""
        sizes = {0: "0B", 1: "1B", 1023: "1023B", 1024: "1K", 1075: "1K", 1076: "1.1K", 1536: "1.5K", 4 << 20: "4M",
                 (4 << 20) + 1: "4M", 1023 << 10: "1023K", (1 << 20) - 1: "1M", (1 << 20) - 60: "1023.9K",
                 (1 << 30) - 1: "1G", 1023 << 42: "4P", 1 << 60: "1E", (1 << 63) - 1: "8E"}
        self.assertEqual(self.column(5, bufferSize=sizes), list(sizes.values()))

    def test_times(self):
        times = {0: "0ms", 999: "0ms", 1000: "1ms", 250000: "250ms", 999999: "999ms", 1000000: "1s", 7500000: "7s",
                 60000000: "1m", 61000000: "1m1s", 3600000000: "1h", 3660000000: "1h1m", 86400000000: "1d",
                 90000000000: "1d1h", (1 << 63) - 1: "106751991d4h"}
        self.assertEqual(self.column(9, remainingUSec=times), list(times.values()))


class TestRefusals(cli.TestCase):
    def test_text(self):
        broker = self.fake(ListRefusals={"refusals": REFUSALS})
        result = self.speadm("refusals", "--vm", "web", "--limit", "5", socket=broker.path)
        self.golden("refusals.txt", result.out)
        self.assertEqual(broker.calls, [("ListRefusals", {"vm": "web", "limit": 5}, False)])

    def test_json(self):
        broker = self.fake(ListRefusals={"refusals": REFUSALS})
        self.assertEqual(json.loads(self.speadm("refusals", "-j", socket=broker.path).out), REFUSALS)


class TestStatus(cli.TestCase):
    def test_text(self):
        self.golden("status.txt", self.speadm("status", socket=self.fake(Describe={"host": fake.host()}).path).out)

    def test_memlock(self):
        for memlock, shown in (((True, True), "managed"), ((True, False), "managed, no capability"),
                               ((False, True), "unmanaged")):
            host = fake.host(memlock=dict(zip(("manage", "able"), memlock)), levelReason=None)
            result = self.speadm("status", socket=self.fake(Describe={"host": host}).path)
            self.assertRegex(result.out, rf"(?m)^Memlock limits: +{shown}$")
            self.assertRegex(result.out, r"(?m)^Arbitration level: +none$")

    def test_json(self):
        broker = self.fake(Describe={"host": fake.host()})
        self.assertEqual(json.loads(self.speadm("status", "-j", socket=broker.path).out), fake.host())


class TestQuery(cli.TestCase):
    def query(self, decision, *arguments, expect):
        broker = self.fake(Query={"decision": {"granted": False, "offer": None, "refusals": [],
                                               "counterOffer": None} | decision})
        return self.speadm("query", "--vcpus", "2", *arguments, socket=broker.path, expect=expect), broker

    def test_granted(self):
        result, broker = self.query({"granted": True, "offer": fake.offer(limitedBy="MaxMemory")}, expect=DONE)
        self.golden("query-granted.txt", result.out)
        self.assertEqual(broker.calls, [("Query", {"request": {"vcpus": 2}}, False)])

    def test_request(self):
        _, broker = self.query({"granted": True, "offer": fake.offer()}, "--vm", "web", "--cpus", "0-3,8",
                               "--instance", "arm_spe_0", "--buffer", "4M", "--exact", "--mode", "shared", "--pid",
                               "17", expect=DONE)
        self.assertEqual(broker.calls[0][1]["request"], {
            "vm": "web", "vcpus": 2, "cpus": "0-3,8", "instance": "arm_spe_0", "bufferSize": 4 << 20, "exact": True,
            "mode": "shared", "pid": 17})

    def test_refused(self):
        refusals = [fake.refusal(holders=[fake.holder()]), REFUSALS[1]]
        result, _ = self.query({"refusals": refusals, "counterOffer": fake.offer(bufferSize=65536)}, "--vm",
                               "it's a vm", expect=REFUSED)
        self.golden("query-refused.txt", result.out)
        self.assertEqual(result.err, "", "the answer is on stdout")

    def test_paste(self):
        """The line offered is one that works: it asks for what the offer says."""
        vm = "it's a $(vm)"
        result, _ = self.query({"refusals": [fake.refusal()], "counterOffer": fake.offer(bufferSize=257 << 12)},
                               "--vm", vm, expect=REFUSED)
        line = result.out.splitlines()[-1].strip()
        self.assertTrue(line.startswith("speadm run "), line)
        self.assertTrue(line.endswith(" -- COMMAND"), line)
        line = line.replace("speadm run", '"$SPEADM" --socket "$SOCKET" query').removesuffix(" -- COMMAND")
        broker = self.fake(Query={"decision": {"granted": True, "offer": fake.offer(), "refusals": [],
                                               "counterOffer": None}})
        subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL, timeout=cli.DEADLINE,
                       env=self.environment(SPEADM=cli.SPEADM, SOCKET=str(broker.path)))
        self.assertEqual(broker.calls[0][1]["request"], {
            "vm": vm, "vcpus": 2, "cpus": "0-3", "instance": "arm_spe_0", "bufferSize": 257 << 12, "mode": "guest"})

    def test_json(self):
        decision = {"granted": False, "offer": None, "refusals": REFUSALS, "counterOffer": fake.offer()}
        result, _ = self.query(decision, "-j", expect=REFUSED)
        self.assertEqual(json.loads(result.out), decision)

    def test_exit_status_is_the_first_refusal_s(self):
        for error, members, code in (
                ("Busy", {}, REFUSED), ("LimitExceeded", {}, REFUSED), ("NotAssigned", {}, REFUSED),
                ("BufferSizeNotRepresentable", {}, REFUSED), ("InstanceNotReady", {}, HOST_CANNOT),
                ("GuestUnsupported", {}, HOST_CANNOT), ("ArbitrationUnavailable", {}, HOST_CANNOT),
                ("NoSuchInstance", {"instances": []}, HOST_CANNOT), ("NoInstanceForCpus", {}, HOST_CANNOT),
                ("NoSuchInstance", {"instances": [{"name": "arm_spe_0", "cpus": "0"}]}, FAILED),
                ("NoInstanceForCpus", {"instances": [{"name": "arm_spe_0", "cpus": "0"}]}, FAILED)):
            with self.subTest(error, **members):
                self.query({"refusals": [fake.refusal(error, **members), fake.refusal()]}, expect=code)


class TestAssign(cli.TestCase):
    def test_parameters(self):
        nothing = {"affected": [], "draining": []}
        for line, parameters in (
                ("assign host --cpus 0-3", {"cpus": "0-3", "owner": "host"}),
                ("assign --instance arm_spe_0 guest --vm web",
                 {"instance": "arm_spe_0", "owner": "guest", "vm": "web"}),
                ("assign any --cpus 1 --instance arm_spe_0 --runtime",
                 {"cpus": "1", "instance": "arm_spe_0", "owner": "any", "runtime": True}),
                ("assign none --cpus 1 --for 1m", {"cpus": "1", "owner": "none", "forUSec": 60000000}),
                ("drain --cpus 0", {"cpus": "0", "owner": "none"}),
                ("drain --instance arm_spe_0 --for 2h --runtime",
                 {"instance": "arm_spe_0", "owner": "none", "runtime": True, "forUSec": 7200000000})):
            with self.subTest(line):
                broker = self.fake(Assign=nothing)
                result = self.speadm(*line.split(), socket=broker.path)
                self.assertEqual((result.out, result.err), ("", ""), "nothing is in the way: nothing to say")
                self.assertEqual(broker.calls, [("Assign", parameters, False)])

    def test_displaced(self):
        answer = {"affected": LEASES[1:2], "draining": [fake.session()]}
        broker = self.fake(Assign=answer)
        self.golden("assign.txt", self.speadm("assign", "host", "--cpus", "0", socket=broker.path).out)
        result = self.speadm("assign", "host", "--cpus", "0", "-j", socket=broker.path)
        self.assertEqual(json.loads(result.out), answer)

    def test_wait(self):
        """With --wait it ends when the last step is told, and not before."""
        first = {"affected": LEASES[1:2], "draining": []}
        last = {"affected": [], "draining": []}
        broker = self.fake(Assign=[first, first, last])
        self.assertIn("db", self.speadm("drain", "--cpus", "0", "--wait", socket=broker.path).out)
        self.assertEqual(broker.calls, [("Assign", {"cpus": "0", "owner": "none"}, True)])
        self.assertEqual(json.loads(self.speadm("drain", "--cpus", "0", "--wait", "-j", socket=broker.path).out), last)

        broker = self.fake(Assign=[first, fake.HOLD])
        process = self.spawn("drain", "--cpus", "0", "--wait", socket=broker.path)
        self.assertIn("shrink or are revoked", self.line(process.stdout), "told at once")
        self.assertIsNone(process.poll())
        process.terminate()
        self.finish(process, expect=-signal.SIGTERM)

    def test_unassign(self):
        broker = self.fake(Unassign={})
        self.assertEqual(self.speadm("unassign", "--cpus", "0-1", socket=broker.path).out, "")
        self.assertEqual(self.speadm("unassign", "--instance", "arm_spe_0", "-j", socket=broker.path).out, "{}\n")
        self.assertEqual(broker.calls, [("Unassign", {"cpus": "0-1"}, False),
                                        ("Unassign", {"instance": "arm_spe_0"}, False)])


class TestEnd(cli.TestCase):
    WHOLE = LEASES[0]["leaseId"]

    def test_whole_id(self):
        """A whole id is the broker's to judge."""
        broker = self.fake(Release={}, Revoke={})
        self.assertEqual(self.speadm("release", self.WHOLE, socket=broker.path).out, "")
        self.assertEqual(self.speadm("release", self.WHOLE, "-j", socket=broker.path).out, "{}\n")
        self.speadm("revoke", self.WHOLE, "--grace", "250ms", "--reason", "a new kernel", "--kill", socket=broker.path)
        self.assertEqual(broker.calls, [
            ("Release", {"leaseId": self.WHOLE}, False), ("Release", {"leaseId": self.WHOLE}, False),
            ("Revoke", {"leaseId": self.WHOLE, "graceUSec": 250000, "reason": "a new kernel", "kill": True}, False)])

    def test_prefix(self):
        broker = self.fake(ListLeases={"leases": LEASES}, Release={}, Revoke={})
        self.speadm("release", "0123456", socket=broker.path)
        self.speadm("revoke", "f", socket=broker.path)
        self.assertEqual(broker.calls[1::2], [("Release", {"leaseId": self.WHOLE}, False),
                                              ("Revoke", {"leaseId": LEASES[2]["leaseId"]}, False)])

    def test_ambiguous(self):
        broker = self.fake(ListLeases={"leases": LEASES})
        sentence = self.sentence(self.speadm("release", "0123", socket=broker.path, expect=FAILED))
        self.assertEqual(sentence, f"'0123' stands for several leases: {LEASES[0]['leaseId']} (VM web),"
                                   f" {LEASES[1]['leaseId']} (VM db)")
        self.assertEqual([call[0] for call in broker.calls], ["ListLeases"], "nothing is released")

    def test_unknown(self):
        broker = self.fake(ListLeases={"leases": LEASES})
        self.assertEqual(self.sentence(self.speadm("revoke", "00", socket=broker.path, expect=FAILED)),
                         "there is no lease 00 (any more); see 'speadm leases'")


class TestService(cli.TestCase):
    def test_rescan_reload(self):
        broker = self.fake(Rescan={}, Reload={})
        for verb in ("rescan", "reload"):
            self.assertEqual(self.speadm(verb, socket=broker.path).out, "")
            self.assertEqual(self.speadm(verb, "-j", socket=broker.path).out, "{}\n")
        self.assertEqual([call[0] for call in broker.calls], ["Rescan", "Rescan", "Reload", "Reload"])


class TestMonitor(cli.TestCase):
    EVENTS = [
        fake.event(0, "snapshot", {"instances": INSTANCES, "leases": LEASES, "sessions": fake.SESSIONS[:1]}),
        fake.event(1, "lease", {"change": "granted", "lease": LEASES[0]}),
        fake.event(2, "lease", {"change": "revoking", "lease": LEASES[1]}),
        fake.event(3, "lease", {"change": "queued", "lease": LEASES[2]}),
        fake.event(4, "instance", INSTANCES[2]),
        fake.event(5, "refusal", REFUSALS[0]),
        fake.event(6, "refusal", REFUSALS[2]),
        fake.event(7, "session", {"change": "opened", "session": fake.SESSIONS[0]}),
        fake.event(8, "session", {"change": "uncontended", "session": fake.SESSIONS[1]}),
        fake.event(9, "session", {"change": "closed", "session": fake.SESSIONS[2]}),
        fake.event(10, "snapshot", {"instances": [], "leases": [], "sessions": []}, lost=True),
    ]

    LOST = 8  # lines on what the last snapshot has no more

    def watch(self, *arguments, events, interrupt, more=0):
        broker = self.fake(Watch=events)
        process = self.spawn("monitor", *arguments, socket=broker.path)
        lines = [self.line(process.stdout) for _ in range(len(self.EVENTS) + more)]
        if interrupt:
            process.send_signal(interrupt)
        rest, errors = self.finish(process, expect=DONE if interrupt else NO_BROKER)
        self.assertEqual(rest, "")
        self.assertEqual(broker.calls, [("Watch", {}, True)])
        return lines, errors

    def test_text(self):
        """Every event is on its way as soon as it is there; an interrupt is the way to end it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            lines, errors = self.watch(events=self.EVENTS + [fake.HOLD], interrupt=number, more=self.LOST)
            self.assertEqual(errors, "")
        self.golden("monitor.txt", cli.normalise("".join(lines)))

    def test_json(self):
        lines, _ = self.watch("-j", events=self.EVENTS + [fake.HOLD], interrupt=signal.SIGINT)
        self.assertEqual([json.loads(line) for line in lines], [e["event"] for e in self.EVENTS])

    # A broker comes and goes: it goes, goes again before it has said anything, and is back with other things.
    WAS = {"instances": INSTANCES, "leases": LEASES, "sessions": fake.SESSIONS[:2]}
    IS = {"instances": [INSTANCES[0] | {"leasedCpus": "0-1", "leases": 1}] + INSTANCES[2:],
          "leases": [LEASES[0] | {"cpus": "0-1"}, LEASES[2] | {"leaseId": "a" * 32},
                     LEASES[1] | {"remainingUSec": 5}],
          "sessions": [fake.SESSIONS[0] | {"contended": False, "sinceUSec": None}, fake.SESSIONS[2]]}
    LIVES = [[fake.event(0, "snapshot", WAS), fake.event(1, "lease", {"change": "granted", "lease": LEASES[0]}),
              fake.HANG_UP],
             [fake.HANG_UP],
             [fake.event(0, "snapshot", IS), fake.HOLD]]

    def lives(self, *arguments, lines):
        lives = list(self.LIVES)
        broker = self.fake(Watch=lambda parameters: lives.pop(0))
        process = self.spawn("monitor", *arguments, socket=broker.path)
        told = [self.line(process.stdout) for _ in range(lines)]
        process.send_signal(signal.SIGINT)
        rest, errors = self.finish(process)
        self.assertEqual((rest, errors), ("", (
            f"speadm: the broker at {broker.path} has gone: waiting for it to come back\n"
            "speadm: the broker is back\n")))
        self.assertEqual(broker.calls, [("Watch", {}, True)] * 3)
        return told

    def test_broker_comes_back(self):
        """What has changed meanwhile is told."""
        lines = self.lives(lines=11)
        self.golden("monitor-back.txt", cli.normalise("".join(lines)))

    def test_broker_comes_back_json(self):
        """Nothing but events, as they come."""
        lines = self.lives("-j", lines=3)
        self.assertEqual([json.loads(line) for line in lines],
                         [e["event"] for life in self.LIVES for e in life if isinstance(e, dict)])

    def test_broker_goes_away(self):
        """It is waited for until an interrupt."""
        broker = self.fake(Watch=[self.EVENTS[0], fake.HOLD])
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.spawn("monitor", socket=broker.path)
            self.line(process.stdout)
            broker.path.rename(broker.path.with_name(f"away-{number}"))
            broker.hang_up()
            self.assertIn("has gone", self.line(process.stderr))
            process.send_signal(number)
            self.assertEqual(self.finish(process), ("", ""))
            broker.path.with_name(f"away-{number}").rename(broker.path)

    def test_broker_hangs_up_at_once(self):
        """Nothing was heard of it: there may never be more."""
        broker = self.fake(Watch=fake.HANG_UP)
        result = self.speadm("monitor", socket=broker.path, expect=NO_BROKER)
        self.assertRegex(self.sentence(result), r"\Athe broker at .* closed the connection: ")
        self.speadm("monitor", socket=self.directory() / "socket", expect=NO_BROKER)

    def test_refused_when_back(self):
        lives = [[self.EVENTS[0], fake.HANG_UP], fake.Error("org.varlink.service.PermissionDenied")]
        broker = self.fake(Watch=lambda parameters: lives.pop(0))
        result = self.speadm("monitor", socket=broker.path, expect=cli.REFUSED)
        self.assertEqual(len(result.err.splitlines()), 2, result)

    def test_broker_ends_the_stream(self):
        _, errors = self.watch(events=self.EVENTS, interrupt=None, more=self.LOST)
        self.assertEqual(errors, "speadm: the broker ended the stream of events\n")

    def test_unknown_kind(self):
        broker = self.fake(check=False, Watch=[fake.event(0, "weather", {"sun": True})])
        result = self.speadm("monitor", socket=broker.path, expect=NO_BROKER)
        self.assertIn("an event of kind weather\n", result.out)


class TestHostile(cli.TestCase):
    """Strings that strangers wrote never reach a terminal as they are."""

    def assert_safe(self, text, shown):
        self.assertIn(shown, text)
        for character in text:
            self.assertFalse(character < " " and character != "\n" or "\x7f" <= character < "\xa0" or
                             character == "\u202e", ascii(text))

    def test_text(self):
        broker = self.fake(
            ListInstances={"instances": [fake.instance(problem=HOSTILE, assignments=[
                fake.assignment("0-3", "guest", vm=HOSTILE)])]},
            ListLeases={"leases": [fake.lease(vm=HOSTILE, owner={"command": HOSTILE})]},
            ListRefusals={"refusals": [fake.refusal(vm=HOSTILE, message=HOSTILE),
                                       fake.refusal(pid=7, message="m", allowed=HOSTILE)]},
            ListSessions={"sessions": [fake.session(command=HOSTILE)]},
            Describe={"host": fake.host(levelReason=HOSTILE)},
            Query={"decision": {"granted": False, "offer": None, "refusals": [fake.refusal(message=HOSTILE)],
                                "counterOffer": None}},
            Assign={"affected": [fake.lease(vm=HOSTILE)], "draining": [fake.session(command=HOSTILE)]},
            Watch=[fake.event(0, "lease", {"change": "granted", "lease": fake.lease(vm=HOSTILE)})])
        for line, code in (("list", DONE), ("leases", DONE), ("refusals", DONE), ("status", DONE),
                           ("sessions", DONE), ("refusals --pid 7", DONE),
                           ("query --vcpus 1", REFUSED), ("drain --cpus 0", DONE), ("monitor", NO_BROKER)):
            with self.subTest(line):
                result = self.speadm(*line.split(), socket=broker.path, expect=code)
                self.assert_safe(result.out, HOSTILE_SHOWN)

    def test_json(self):
        broker = self.fake(ListLeases={"leases": [fake.lease(vm=HOSTILE)]})
        result = self.speadm("leases", "-j", socket=broker.path)
        self.assertEqual(json.loads(result.out)[0]["vm"], HOSTILE, "no byte of it is lost")
        self.assert_safe(result.out, "\\u009b\\u202ed")

    def test_errors(self):
        broker = self.fake(Rescan=fake.Error("InstanceNotReady", instance=HOSTILE, state="partial", reason="r"),
                           Reload=fake.Error("Busy", holders=[fake.holder(command=HOSTILE)]))
        for verb, arguments in (("rescan", []), ("rescan", ["-j"]), ("reload", []), ("reload", ["-j"])):
            code = HOST_CANNOT if verb == "rescan" else REFUSED
            result = self.speadm(verb, *arguments, socket=broker.path, expect=code)
            self.assert_safe(self.sentence(result), HOSTILE_SHOWN)

    def test_other_languages(self):
        """What is merely foreign stays as it is."""
        broker = self.fake(ListLeases={"leases": [fake.lease(vm="Prüfstand-機械")]})
        self.assertIn("Prüfstand-機械", self.speadm("leases", socket=broker.path).out)


if __name__ == "__main__":
    cli.main()
