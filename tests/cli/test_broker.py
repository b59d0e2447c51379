# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm and the real broker: every verb, with what it does to the broker and not only what it prints."""

import json
import os
import signal
import subprocess

import cli
from cli import DONE, FAILED, HOST_CANNOT, NO_BROKER, REFUSED, USAGE
from harness import NOBODY, tree, wait_for
from sizes import MIB, charge
from wire import CATALOGUE

# Of two VCPUs with the default buffer: depends on the host's page size.
CHARGE = charge(2, 4 * MIB)
COMMAND = (f"{CHARGE / MIB:.1f}M".replace(".0M", "M"), "SIZE")


class TestCase(cli.TestCase):
    def start(self, simulate="biglittle", **kwargs):
        self.daemon = self.broker(simulate=simulate, **kwargs)

    def ask(self, line, expect=DONE, **kwargs):
        words = line.split() if isinstance(line, str) else line
        return self.speadm(*words, socket=self.daemon.socket_path, expect=expect, **kwargs)

    def json(self, line, **kwargs):
        return json.loads(self.ask(f"-j {line}", **kwargs).out)

    def lease(self, vm="web", **request):
        """A VMM with a lease; returns its process, its connection and the lease."""
        process, client = self.vmm(self.daemon)
        return process, client, client.call("Acquire", request={"vm": vm, "vcpus": 2} | request)["lease"]

    def start_speadm(self, line, **kwargs):
        words = line.split() if isinstance(line, str) else line
        return self.spawn(*words, socket=self.daemon.socket_path, **kwargs)


class TestReading(TestCase):
    def test_list(self):
        for host in ("biglittle", "neoverse-v1", "partial"):
            self.start(host)
            self.golden(f"host-{host}.txt", self.ask("list").out)
            self.assertEqual(self.json("list"), self.daemon.call("ListInstances")["instances"])
        self.start()
        self.golden("host-biglittle.json", self.ask("list -j").out)

    def test_no_spu(self):
        self.daemon = self.broker(tree=lambda root: tree.Tree(root))
        self.assertEqual(self.ask("list -j").out, "[]\n")
        self.assertIn("This host has no SPU", self.ask("list").out)
        for line in ("--instance arm_spe_0", "--cpus 0", ""):
            self.ask(f"query --vm web --vcpus 1 {line}", expect=HOST_CANNOT)
            self.ask(f"run --vm web --vcpus 1 {line} -- true", expect=HOST_CANNOT)

    def test_nothing(self):
        self.start()
        for verb in ("leases", "refusals"):
            self.assertEqual(self.ask(f"{verb} -j").out, "[]\n")
            self.assertEqual(self.ask(f"{verb} --no-legend").out, "")

    def test_leases(self):
        self.start()
        process, _, lease = self.lease()
        self.lease("db", vcpus=1, instance="arm_spe_1", cpus="4-5", mode="exclusive", bufferSize=MIB)
        listed = self.json("leases")
        self.assertEqual(listed, self.daemon.call("ListLeases")["leases"])
        self.assertEqual({l["vm"] for l in listed}, {"web", "db"})
        self.assertEqual(self.json("leases --vm web"), [lease])
        self.assertEqual(self.json("leases --vm nobody"), [])
        row = self.ask("leases --vm web --no-legend").out.split()
        self.assertEqual(row[:3] + row[3:5] + row[7:11], [lease["leaseId"][:12], "web", lease["instance"],
                                                          lease["cpus"], "2", "guest", "granted", "-",
                                                          str(process.pid)])
        self.assertEqual(row[6], COMMAND[0])

    def test_status(self):
        self.start()
        self.lease()
        host = self.json("status")
        CATALOGUE.check_reply("io.spebroker.Broker.Describe", {"host": host})
        self.assertEqual((host["counts"]["leases"], host["charge"]), (1, CHARGE))
        self.assertEqual(host["level"], "none")
        text = self.ask("status").out
        self.assertRegex(text, r"(?m)^Leases: +1 of [0-9]+, 0 waiting$")
        self.assertRegex(text, rf"(?m)^Charge: +{COMMAND[0]} of ")
        self.assertRegex(text, r"(?m)^Arbitration level: +none \(.+\)$")

    def test_sessions(self):
        """Where nobody looks, that is said, and no list is printed."""
        self.start()
        reason = self.json("status")["levelReason"]
        for form in ("", "-j "):
            self.assertEqual(self.sentence(self.ask(f"{form}sessions", expect=HOST_CANNOT)),
                             f"host sessions cannot be seen: {reason}")

    def test_required_level(self):
        """The level that is there, the levels below it, and no other."""
        levels = ["none", "observe", "reserve", "enforce"]
        for wanted in ("none", "observe"):
            self.start(config=f"[Arbitration]\nLevel={wanted}\n")
            host = self.json("status")
            self.assertRegex(self.ask("status").out, rf"(?m)^Arbitration level: +{host['level']} \(")
            had = host["level"] == wanted
            for required in levels:
                reached = levels.index(host["level"]) >= levels.index(required)
                result = self.ask(f"check --require {required}", expect=DONE if had and reached else FAILED)
                self.assertEqual(f"level {required} is required, and the broker has level {host['level']}: "
                                 f"{host['levelReason']}" in result.err, not reached)
                self.assertIn(f"(level {host['level']})", result.out)

    def test_refusals(self):
        self.start()
        self.ask("run --vm web --vcpus 1 --instance arm_spe_7 -- true", expect=FAILED)
        self.ask("run --vm db --vcpus 1 --cpus 3-4 -- true", expect=FAILED)
        self.assertEqual([r["vm"] for r in self.json("refusals")], ["db", "web"], "newest first")
        self.assertEqual([r["vm"] for r in self.json("refusals --limit 1")], ["db"])
        row = self.ask("refusals --vm web --no-legend").out.split(maxsplit=7)
        self.assertEqual((row[3], row[5], row[6]), ("web", "0", "NoSuchInstance"))
        self.assertEqual(row[0], self.json("refusals --vm web")[0]["id"][:12])
        self.assertIn("arm_spe_7", row[7])


class TestQuery(TestCase):
    def test_granted(self):
        self.start()
        self.golden("broker-query-granted.txt", cli.normalise(self.ask("query --vm web --vcpus 2").out, COMMAND))
        decision = self.json("query --vm web --vcpus 2")
        self.assertTrue(decision["granted"])
        _, _, lease = self.lease()
        for member in ("instance", "pmuType", "cpus", "bufferSize", "charge", "mode"):
            self.assertEqual(decision["offer"][member], lease[member], member)

    def test_refused(self):
        self.start()
        self.lease(instance="arm_spe_0")
        line = "query --vm db --vcpus 2 --instance arm_spe_0 --mode exclusive --buffer 128M --exact"
        decision = self.json(line, expect=REFUSED)
        self.assertEqual([r["error"].rpartition(".")[2] for r in decision["refusals"]], ["LimitExceeded", "Busy"])
        text = self.ask(line, expect=REFUSED).out
        self.assertEqual([l.split(":")[:2] for l in text.splitlines() if l.startswith("refused")],
                         [["refused", " LimitExceeded"], ["refused", " Busy"]])
        self.assertEqual(self.json("leases")[0]["vm"], "web", "a query takes nothing")
        self.assertEqual(len(self.json("leases")), 1)

    def test_offered_line_is_granted(self):
        self.start()
        text = self.ask("query --vm web --vcpus 2 --cpus 3-5 --buffer 80M", expect=FAILED).out
        line = text.splitlines()[-1].split()
        self.assertEqual((line[:2], line[-2:]), (["speadm", "run"], ["--", "COMMAND"]))
        self.ask(line[1:-1] + ["true"])


class TestExitStatus(TestCase):
    """Each for query, which says no, and for run, which is told no. The allowed twin is beside it."""

    def both(self, request, expect, **kwargs):
        self.ask(f"query {request}", expect=expect, **kwargs)
        result = self.ask(f"run {request} -- true", expect=expect, **kwargs)
        if expect != DONE:
            return self.sentence(result)

    def test_refused(self):
        self.start()
        self.assertIn("MaxBufferSize", self.both("--vm web --vcpus 1 --buffer 128M --exact", REFUSED))
        self.both("--vm web --vcpus 1 --buffer 1M --exact", DONE)
        self.assertIn("cannot represent", self.both("--vm web --vcpus 1 --buffer 4097 --exact", REFUSED))
        self.both("--vm web --vcpus 1 --buffer 8K --exact", DONE)

    def test_assigned(self):
        self.start()
        self.ask("assign host --cpus 0-1")
        self.assertIn("CPUs 0-1 are assigned to the host", self.both("--vm web --vcpus 1 --cpus 0-1", REFUSED))
        self.both("--vm web --vcpus 1 --cpus 2-3", DONE)
        self.ask("assign guest --cpus 2-3 --vm db")
        self.assertIn("VM db alone", self.both("--vm web --vcpus 1 --cpus 2-3", REFUSED))
        self.both("--vm db --vcpus 1 --cpus 2-3", DONE)
        self.ask("drain --cpus 2-3")
        self.assertIn("drained", self.both("--vm db --vcpus 1 --cpus 2-3", REFUSED))

    def test_busy(self):
        self.start()
        process, _, lease = self.lease(instance="arm_spe_0", cpus="0-3")
        sentence = self.both("--vm db --vcpus 1 --cpus 0 --mode exclusive", REFUSED)
        self.assertTrue(sentence.startswith(f"busy: lease {lease['leaseId'][:12]} of VM web (pid {process.pid}, "),
                        sentence)
        self.both("--vm db --vcpus 1 --cpus 0 --mode guest", DONE)

    def test_host_cannot(self):
        self.start("partial")
        states = {i["state"]: i["name"] for i in self.json("list")}
        self.assertIn(states["partial"], self.both(f"--vm web --vcpus 1 --instance {states['partial']}", HOST_CANNOT))
        self.both(f"--vm web --vcpus 1 --instance {states['ready']}", DONE)

    def test_permission(self):
        self.start()
        nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.ask("list", **nobody)
        for line in ("query --vm web --vcpus 1", "run --vm web --vcpus 1 -- true", "drain --cpus 0", "rescan", "reload",
                     "unassign --cpus 0"):
            self.assertIn("permission denied", self.sentence(self.ask(line, expect=REFUSED, **nobody)))

    def test_release_of_others(self):
        self.start()
        _, _, lease = self.lease()
        nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for verb in ("release", "revoke"):
            self.assertIn("permission denied",
                          self.sentence(self.ask(f"{verb} {lease['leaseId']}", expect=REFUSED, **nobody)))
        self.assertEqual(self.json("leases"), [lease])

    def test_not_accepted(self):
        """What only the broker can judge is a wrong command line still."""
        self.start()
        for line, about in (("query --vm web --vcpus 100000", "--vcpus"), ("drain --cpus 100", "--cpus"),
                            ("drain --cpus 4 --instance arm_spe_0", "--cpus")):
            self.assertIn(about, self.sentence(self.ask(line, expect=USAGE)))
        self.assertIn("give --vm NAME", self.sentence(self.ask("query --vcpus 1", expect=USAGE)))
        result = self.ask(["query", "--vcpus", "1", "--vm", "a\nb"], expect=USAGE)
        self.assertIn("does not accept this --vm", self.sentence(result))

    def test_failed(self):
        self.start()
        self.assertIn("there is no lease", self.sentence(self.ask("release " + "0" * 32, expect=FAILED)))
        self.assertIn("there is no lease", self.sentence(self.ask("revoke " + "0" * 32, expect=FAILED)))
        self.assertIn("there is no SPU arm_spe_7: this host has arm_spe_0, arm_spe_1",
                      self.both("--vm web --vcpus 1 --instance arm_spe_7", FAILED))
        self.ask("drain --instance arm_spe_7", expect=FAILED)

    def test_no_broker(self):
        self.start()
        self.ask("list")
        self.daemon.stop()
        self.assertIn("no broker listens", self.sentence(self.ask("list", expect=NO_BROKER)))


class TestRun(TestCase):
    def test_lease_is_the_command_s(self):
        """The lease is the process's own, and ends with it."""
        self.start()
        path, ready = self.fifo()
        command = ["/bin/sh", "-c", f'echo $SPE_BROKER_LEASE >"{path}"; read -r line']
        process = self.start_speadm("run --vm web --vcpus 2 --instance arm_spe_0 --".split() + command,
                                    stdin=subprocess.PIPE)
        lease_id = self.line(ready).strip()
        lease = self.daemon.lease(lease_id)
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["command"]), (process.pid, "sh"), "not speadm")
        self.assertEqual((lease["vm"], lease["cpus"]), ("web", "0-3"))
        self.finish(process, expect=1)  # read's own status at the end of the file
        wait_for(lambda: self.daemon.lease(lease_id) is None, "the end of the lease")
        self.assert_idle(self.daemon)

    def test_not_executed(self):
        """Nothing stays behind where the command cannot be executed."""
        self.start()
        self.ask("run --vm web --vcpus 1 -- /nonexistent", expect=127)
        wait_for(lambda: not self.json("leases"), "the end of the lease")

    def test_wait(self):
        self.start()
        process, _, _ = self.lease(instance="arm_spe_0")
        line = "--vm db --vcpus 1 --instance arm_spe_0 --mode exclusive"
        self.ask(f"run {line} --wait 1ms -- true", expect=REFUSED)
        waiter = self.start_speadm(f"run {line} --wait 1h -- echo mine")
        wait_for(lambda: any(l["state"] == "queued" for l in self.json("leases")), "the waiter")
        self.assertRegex(self.ask("leases --no-legend").out, r"(?m) queued +59m[0-9]+s ")
        process.kill()
        self.assertEqual(self.finish(waiter), ("mine\n", ""))

    def test_wait_over_restarts(self):
        """Who waits waits on, and gets one lease."""
        self.start()
        process, _, _ = self.lease(instance="arm_spe_0")
        waiter = self.start_speadm("run --vm db --vcpus 1 --instance arm_spe_0 --mode exclusive --wait 1h -- cat",
                                   stdin=subprocess.PIPE)
        for way in (self.daemon.kill, self.daemon.stop):
            wait_for(lambda: any(l["state"] == "queued" for l in self.json("leases")), "the waiter")
            way()
            self.daemon.start()
        self.assertIn("has gone", self.line(waiter.stderr))
        process.kill()
        wait_for(lambda: [(l["vm"], l["state"]) for l in self.json("leases")] == [("db", "granted")], "its lease")
        self.assertEqual(self.line(waiter.stderr), "speadm: the broker is back\n")


class TestAdmin(TestCase):
    def assigned(self, name="arm_spe_0"):
        instance = next(i for i in self.json("list") if i["name"] == name)
        return {a["cpus"]: (a["owner"], a["vm"], a["origin"]) for a in instance["assignments"]}

    def test_assign(self):
        self.start()
        self.ask("assign host --cpus 0-1")
        self.ask("assign guest --cpus 2 --vm web --runtime")
        self.ask("assign none --cpus 3 --for 1h")
        self.assertEqual(self.assigned(), {"0-1": ("host", None, "persistent"), "2": ("guest", "web", "runtime"),
                                           "3": ("none", None, "runtime")})
        self.golden("broker-assigned.txt", self.ask("list").out)
        self.ask("unassign --instance arm_spe_0")
        self.assertEqual(self.assigned(), {})
        self.ask("drain --instance arm_spe_1")
        self.assertEqual(self.assigned("arm_spe_1"), {"4-11": ("none", None, "persistent")})

    def test_displaced(self):
        self.start()
        _, _, lease = self.lease(instance="arm_spe_0")
        answer = self.json("assign host --cpus 0-1")
        CATALOGUE.check_reply("io.spebroker.Admin.Assign", answer)
        self.assertEqual([(l["leaseId"], l["cpus"]) for l in answer["affected"]], [(lease["leaseId"], "2-3")])
        text = self.ask("assign host --cpus 2").out.splitlines()
        self.assertEqual(text[0], "Leases that shrink or are revoked:")
        self.assertEqual(text[2].split()[:4], [lease["leaseId"][:12], "web", "arm_spe_0", "3"])

    def test_wait(self):
        self.start(config="[Policy]\nRevokeGraceSec=3600\n")
        self.ask("drain --cpus 4 --wait")
        process, _, _ = self.lease(instance="arm_spe_0")
        drain = self.start_speadm("drain --instance arm_spe_0 --wait")
        self.assertEqual(self.line(drain.stdout), "Leases that shrink or are revoked:\n")
        self.assertIsNone(drain.poll())
        process.kill()
        self.finish(drain)
        self.assertEqual(self.json("leases"), [])

    def test_wait_over_restarts(self):
        self.start(config="[Policy]\nRevokeGraceSec=3600\n")
        process, _, lease = self.lease(instance="arm_spe_0")
        drain = self.start_speadm("drain --instance arm_spe_0 --for 1h --wait")
        lines = [self.line(drain.stdout) for _ in range(3)]
        self.assertIn(lease["leaseId"][:12], lines[2])
        for way in (self.daemon.kill, self.daemon.stop):
            way()
            self.assertIn("has gone", self.line(drain.stderr))
            self.daemon.start()
            self.assertEqual(self.line(drain.stderr), "speadm: the broker is back\n")
        self.assertEqual(self.assigned(), {"0-3": ("none", None, "runtime")})
        process.kill()
        self.assertEqual(self.finish(drain)[1], "")
        self.assertEqual(self.json("leases"), [])

    def test_for_a_while(self):
        """The host's CPUs for a time: those that guests leave at once; and it ends by itself."""
        self.start()
        _, _, lease = self.lease(instance="arm_spe_0")
        self.assertIn(lease["leaseId"][:12], self.ask("assign host --cpus 0-1 --for 10m --wait").out)
        self.assertEqual(self.assigned(), {"0-1": ("host", None, "runtime")})
        self.assertEqual(self.daemon.lease(lease["leaseId"])["cpus"], "2-3")
        self.ask("query --vm db --vcpus 1 --cpus 0", expect=REFUSED)
        self.ask("assign host --cpus 0-1 --for 50ms --wait")
        wait_for(lambda: not self.assigned(), "the end of the assignment")
        self.ask("query --vm db --vcpus 1 --cpus 0")

    def test_release(self):
        self.start()
        _, _, lease = self.lease()
        self.ask(f"release {lease['leaseId'][:10]}")
        self.assertEqual(self.json("leases"), [])
        self.assert_idle(self.daemon)

    def test_revoke(self):
        self.start()
        process, client, lease = self.lease()
        stream = client.stream("Follow", leaseId=lease["leaseId"])
        self.ask(["revoke", lease["leaseId"][:12], "--grace", "1h", "--reason", "a new kernel"])
        told = stream.change("revoking")["lease"]
        self.assertEqual(told["state"], "revoking")
        self.assertIn("a new kernel", told["reason"])
        self.assertRegex(self.ask("leases --no-legend").out, r" revoking +(1h|59m[0-9]+s) ")
        self.ask(f"revoke {lease['leaseId']} --grace 0 --kill")
        self.assertEqual(os.WTERMSIG(process.wait()), signal.SIGTERM)
        wait_for(lambda: not self.json("leases"), "the end of the lease")

    def test_rescan(self):
        self.daemon = self.broker()
        self.daemon.tree.remove_instance(1)
        self.ask("rescan")
        self.assertEqual([i["name"] for i in self.json("list")], ["arm_spe_0"])

    def test_reload(self):
        self.start(config="[Limits]\nMaxBufferSize=2M\n")
        self.daemon.configure("[Limits]\nMaxBufferSize=1M\n")
        self.ask("reload")
        self.assertEqual(self.json("status")["limits"]["maxBufferSize"], MIB)
        self.daemon.configure("[Limits]\n\nMaxBufferSize=lots\n")
        sentence = self.sentence(self.ask("reload", expect=FAILED))
        self.assertIn("spe-broker.conf:3: ", sentence)
        self.assertTrue(sentence.endswith("; the running configuration stays in force"), sentence)
        self.assertEqual(self.json("status")["limits"]["maxBufferSize"], MIB)


class TestMonitor(TestCase):
    def test_lines(self):
        self.start()
        monitor = self.start_speadm("monitor")
        lines = [self.line(monitor.stdout)]
        process, client, lease = self.lease(instance="arm_spe_0")
        client.call("Release", leaseId=lease["leaseId"])
        self.ask("run --vm db --vcpus 1 --instance arm_spe_7 -- true", expect=FAILED)
        while "refused" not in lines[-1]:
            lines.append(self.line(monitor.stdout))
        monitor.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(monitor), ("", ""))
        self.golden("broker-monitor.txt",
                    cli.normalise("".join(lines), (lease["leaseId"][:12], "LEASE"), COMMAND))

    def test_assignments(self):
        """What an assignment changes is seen."""
        self.start()
        monitor = self.start_speadm("monitor")
        self.line(monitor.stdout)
        self.ask("assign host --cpus 0-1")
        self.assertRegex(self.line(monitor.stdout), r" arm_spe_0: ready, .*, assigned 0-1:host$")
        self.ask("unassign --cpus 0-1")
        self.assertNotIn("assigned", self.line(monitor.stdout))
        monitor.send_signal(signal.SIGINT)
        self.finish(monitor)

    def test_json(self):
        self.start()
        monitor = self.start_speadm("monitor -j")
        event = json.loads(self.line(monitor.stdout))
        CATALOGUE.check_reply("io.spebroker.Broker.Watch", {"event": event})
        self.assertEqual((event["sequence"], event["kind"]), (0, "snapshot"))
        self.assertEqual(event["snapshot"]["instances"], self.json("list"))

    def test_broker_restarts(self):
        """Killed, and stopped: leases live on, and what has changed is told when the broker is back."""
        self.start()
        process, client, lease = self.lease(instance="arm_spe_0")
        monitor = self.start_speadm("monitor")
        self.line(monitor.stdout)
        self.daemon.kill()
        self.assertEqual(self.line(monitor.stderr), f"speadm: the broker at {self.daemon.socket_path} has gone:"
                                                    " waiting for it to come back\n")
        self.daemon.start()
        self.assertIn("leases: 1", self.line(monitor.stdout))
        self.assertEqual(self.line(monitor.stderr), "speadm: the broker is back\n")
        self.daemon.stop()
        self.line(monitor.stderr)
        self.daemon.configure("[Assignment host]\nCpus=3\nOwner=host\n")
        self.daemon.start()
        lines = [self.line(monitor.stdout) for _ in range(3)]
        self.assertIn("leases: 1", lines[0])
        self.assertRegex(lines[1], r"arm_spe_0: ready, .*, assigned 3:host$")
        self.assertRegex(lines[2], rf"lease {lease['leaseId'][:12]} of VM web: cpus, arm_spe_0 CPUs 0-2, ")
        self.daemon.kill()
        self.assertIn("back", self.line(monitor.stderr))
        self.assertIn("has gone", self.line(monitor.stderr))
        monitor.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(monitor), ("", ""))


class TestHostile(TestCase):
    def test_command_name(self):
        """A process may call itself anything; its lease is shown all the same, and safely."""
        self.start()
        path, ready = self.fifo()
        name = b"a\x1b[2Jb\x9b\xff"
        program = (f"import os; open('/proc/self/comm', 'wb').write({name!r});"
                   f" open({str(path)!r}, 'w').write('ready\\n'); input()")
        self.start_speadm(["run", "--vm", "web", "--vcpus", "1", "--", "python3", "-c", program], stdin=subprocess.PIPE)
        self.line(ready)
        for line in ("leases", "query --vm db --vcpus 1 --mode exclusive --instance arm_spe_0"):
            out = self.ask(line, expect=DONE if line == "leases" else REFUSED).out
            self.assertFalse([c for c in out if c < " " and c != "\n" or "\x7f" <= c < "\xa0"], ascii(out))


if __name__ == "__main__":
    cli.main(needs_broker=True)
