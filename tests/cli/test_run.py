# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm run: what the command finds, where it runs, and whose exit status it is."""

import json
import os
import resource
import subprocess
import sys

import cli
import fake
from cli import FAILED, HOST_CANNOT, NO_BROKER, REFUSED, USAGE

SHOW = ("import json, os; print(json.dumps({'pid': os.getpid(),"
        "'environment': {k: v for k, v in os.environ.items() if k.startswith('SPE_BROKER')},"
        "'affinity': sorted(os.sched_getaffinity(0)), 'descriptors': sorted(map(int, os.listdir('/proc/self/fd')))}))")
HERE = sorted(os.sched_getaffinity(0))


class TestRun(cli.TestCase):
    def granted(self, **members):
        members.setdefault("memlock", {"bytes": 8454144, "state": "applied"})
        return self.fake(Acquire={"lease": fake.lease(**members), "change": None})

    def show(self, broker, *arguments):
        result = self.speadm("run", "--vcpus", "2", *arguments, "--", sys.executable, "-c", SHOW, socket=broker.path)
        return json.loads(result.out), result.err

    def test_environment(self):
        broker = self.granted(cpus=str(HERE[0]), bufferSize=1 << 20)
        shown, errors = self.show(broker)
        self.assertEqual(errors, "")
        self.assertEqual(shown["environment"].pop("SPE_BROKER_PID"), str(shown["pid"]))
        self.assertEqual(shown["environment"], {
            "SPE_BROKER_LEASE": "0123456789abcdef0123456789abcdef", "SPE_BROKER_PMU_TYPE": "8",
            "SPE_BROKER_CPUS": str(HERE[0]), "SPE_BROKER_BUFFER_SIZE": "1048576", "SPE_BROKER_INTERRUPT": "21"})

    def test_pinned(self):
        shown, _ = self.show(self.granted(cpus=str(HERE[-1])))
        self.assertEqual(shown["affinity"], HERE[-1:])

    def test_some_cpus_are_elsewhere(self):
        """Those that are here are enough."""
        shown, errors = self.show(self.granted(cpus=f"{HERE[0]},4000-4095"))
        self.assertEqual((shown["affinity"], errors), (HERE[:1], ""))

    def test_another_machine(self):
        """A broker that looks at another machine, or simulates one: said, never silent."""
        shown, errors = self.show(self.granted(cpus="4000-4003"))
        self.assertEqual(shown["affinity"], HERE)
        self.assertEqual(errors, "speadm: this machine has none of CPUs 4000-4003 (the broker looks at another one):"
                                 " running unpinned\n")

    def test_cannot_pin(self):
        """CPUs that this machine has and that cannot be had: KVM_RUN would fail, so nothing is started."""
        possible = self.directory() / "possible"
        possible.write_text("0-4095\n")
        broker = self.granted(cpus="4000-4003")
        marker = self.directory() / "marker"
        script = 'mount --bind "$1" /sys/devices/system/cpu/possible && shift && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(possible)]
        if subprocess.run(command + ["true"], capture_output=True).returncode:
            self.skipTest("needs the right to mount")
        done = subprocess.run(command + self.command("run", "--vcpus", "2", "touch", marker, socket=broker.path),
                              capture_output=True, env=self.environment(), timeout=cli.DEADLINE)
        self.assertEqual((done.returncode, done.stderr.decode()), (
            FAILED, "speadm: cannot keep this process to CPUs 4000-4003: Invalid argument (none of them is on line,"
                    " or its cpuset leaves it none of them)\n"))
        self.assertFalse(marker.exists())

    def test_no_descriptor_is_left(self):
        """The lease does not hang on the connection, and the command has no business with it."""
        shown, _ = self.show(self.granted(cpus=str(HERE[0])))
        self.assertEqual(len(shown["descriptors"]), 4, "three, and that of the directory itself")

    def test_limited(self):
        broker = self.granted(cpus=str(HERE[0]), bufferSize=1 << 20, limitedBy="MaxMemory")
        _, errors = self.show(broker)
        self.assertEqual(errors, "speadm: the buffer is 1M instead of 4M: limited by MaxMemory\n")

    def memlock(self, state, limit):
        """What is said of that state with that limit."""
        broker = self.granted(cpus=str(HERE[0]), memlock={"bytes": 8454144, "state": state})
        result = self.speadm("run", "--vcpus", "2", "true", socket=broker.path,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, limit))
        return result.err

    def test_memlock(self):
        """What the broker has not raised is told, with the bytes; its twins are not."""
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        for state in ("unmanaged", "no_capability"):
            self.assertEqual(self.memlock(state, (65536, hard)), (
                f"speadm: RLIMIT_MEMLOCK is left at 64K ({state}): with SPE, the VM locks up to 8454144 bytes more than"
                " without, or KVM says ENOMEM\n"))
            if hard == resource.RLIM_INFINITY or hard >= 8454144:
                self.assertEqual(self.memlock(state, (8454144, hard)), "")
        for state in ("applied", "already_enough", "unlimited", "a word of a newer broker"):
            self.assertEqual(self.memlock(state, (65536, hard)), "")
        if hard == resource.RLIM_INFINITY:
            self.assertEqual(self.memlock("unmanaged", (hard, hard)), "")

    def test_request(self):
        broker = self.granted(cpus=str(HERE[0]))
        self.show(broker, "--vm", "web", "--cpus", "0", "--instance", "arm_spe_0", "--buffer", "1M", "--exact",
                  "--mode", "guest", "--wait", "1m30s")
        self.show(broker)
        request = {"vm": "web", "vcpus": 2, "cpus": "0", "instance": "arm_spe_0", "bufferSize": 1 << 20,
                   "exact": True, "mode": "guest"}
        ids = [call[1]["request"].pop("requestId") for call in broker.calls]
        self.assertEqual(broker.calls, [("Acquire", {"request": request, "waitUSec": 90000000}, False),
                                        ("Acquire", {"request": {"vcpus": 2}}, False)])
        self.assertRegex(" ".join(ids), r"\A[0-9a-f]{32} [0-9a-f]{32}\Z")
        self.assertNotEqual(*ids)

    def test_asked_again(self):
        """A broker that goes away is asked again, as the same request, for what is left of the wait."""
        lease = fake.lease(cpus=str(HERE[0]), memlock={"bytes": 1, "state": "applied"})
        answers = [fake.HANG_UP, fake.HANG_UP, {"lease": lease, "change": None}]
        broker = self.fake(Acquire=lambda parameters: answers.pop(0))
        result = self.speadm("run", "--vcpus", "2", "--wait", "1h", "echo", "mine", socket=broker.path)
        self.assertEqual((result.out, result.err.splitlines()), ("mine\n", [
            f"speadm: the broker at {broker.path} has gone: waiting for it to come back",
            "speadm: the broker is back"]))
        self.assertEqual(len({call[1]["request"]["requestId"] for call in broker.calls}), 1)
        waits = [call[1]["waitUSec"] for call in broker.calls]
        self.assertEqual((len(waits), waits), (3, sorted(set(waits), reverse=True)))
        self.assertEqual(waits[0], 3600 * 1000 * 1000)

    def test_refused_when_asked_again(self):
        answers = [fake.HANG_UP, fake.Error("Busy", holders=[fake.holder()])]
        broker = self.fake(Acquire=lambda parameters: answers.pop(0))
        result = self.speadm("run", "--vcpus", "2", "echo", "mine", socket=broker.path, expect=REFUSED)
        self.assertEqual((result.out, len(result.err.splitlines())), ("", 3), result)

    def test_command_keeps_its_options(self):
        broker = self.granted(cpus=str(HERE[0]))
        for dashes in ([], ["--"]):
            result = self.speadm("run", "--vcpus", "2", *dashes, "echo", "--vcpus", "9", "--json", socket=broker.path)
            self.assertEqual(result.out, "--vcpus 9 --json\n")

    def test_exit_status_is_the_command_s(self):
        broker = self.granted(cpus=str(HERE[0]))
        for code in (0, 1, 3, 77, 200):
            self.speadm("run", "--vcpus", "2", "sh", "-c", f"exit {code}", socket=broker.path, expect=code)
        self.speadm("run", "--vcpus", "2", "sh", "-c", "kill -TERM $$", socket=broker.path, expect=-15)

    def test_cannot_execute(self):
        broker = self.granted(cpus=str(HERE[0]))
        directory = self.directory()
        text = directory / "text"
        text.write_text("no program")
        for command, code, reason in (("no-such-command-anywhere", 127, "No such file or directory"),
                                      (directory / "absent", 127, "No such file or directory"),
                                      (directory, 126, "Permission denied"), (text, 126, "Permission denied")):
            result = self.speadm("run", "--vcpus", "2", "--", command, socket=broker.path, expect=code)
            self.assertEqual(self.sentence(result), f"cannot execute '{command}': {reason}")

    def test_refused(self):
        marker = self.directory() / "marker"
        broker = self.fake(Acquire=fake.Error("Busy", holders=[fake.holder()]))
        result = self.speadm("run", "--vcpus", "2", "touch", marker, socket=broker.path, expect=REFUSED)
        self.assertTrue(self.sentence(result).startswith("busy: lease 0123456789ab of VM web"))
        self.assertFalse(marker.exists(), "the command does not run")

    def test_scope_without_systemd(self):
        """Where no bus is: said, and nothing is asked for or run."""
        marker = self.directory() / "marker"
        broker = self.granted(cpus=str(HERE[0]))
        nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
        done = subprocess.run(
            self.command("run", "--vm", "web", "--vcpus", "2", "--scope", "touch", marker, socket=broker.path),
            env=self.environment() | nowhere, capture_output=True, text=True, timeout=cli.DEADLINE)
        bus = "system" if os.geteuid() == 0 else "user"
        self.assertEqual((done.returncode, done.stderr), (
            FAILED, f"speadm: --scope needs systemd, whose {bus} bus cannot be connected to: No such file or directory\n"))
        self.assertEqual((marker.exists(), broker.calls), (False, []))

    def test_scope_needs_a_name(self):
        result = self.speadm("run", "--vcpus", "2", "--scope", "true", expect=USAGE)
        self.assertEqual(self.sentence(result), "--scope needs --vm NAME, after which the scope is named")

    def best_effort(self, path, why, status, *options):
        """Is run without a lease, and with no variable of another one; its twin is not run."""
        command = ["run", "--vcpus", "2", *options]
        show = [sys.executable, "-c", SHOW]
        inherited = dict.fromkeys(("SPE_BROKER_LEASE", "SPE_BROKER_PID", "SPE_BROKER_PMU_TYPE", "SPE_BROKER_CPUS",
                                   "SPE_BROKER_BUFFER_SIZE", "SPE_BROKER_INTERRUPT"), "1")
        done = subprocess.run(self.command(*command, "--best-effort", "--", *show, socket=path), capture_output=True,
                              text=True, timeout=cli.DEADLINE, env=self.environment() | inherited)
        said = done.stderr.splitlines()
        self.assertEqual((done.returncode, said[1:]), (0, [f"speadm: running '{sys.executable}' without a lease"]))
        self.assertIn(why, said[0])
        shown = json.loads(done.stdout)
        self.assertEqual((shown["environment"], shown["affinity"]), ({}, HERE))
        twin = self.speadm(*command, "--", *show, socket=path, expect=status)
        self.assertEqual(twin.err.splitlines(), said[:1])
        self.assertEqual(twin.out, "")

    def test_best_effort(self):
        self.best_effort(self.directory() / "nobody", "no broker listens at", NO_BROKER)
        for error, why, status in (
                (fake.Error("Busy", holders=[fake.holder()]), "busy: lease 0123456789ab of VM web", REFUSED),
                (fake.Error("LimitExceeded", limit="MaxMemory", requested=2, available=1), "MaxMemory", REFUSED),
                (fake.Error("org.varlink.service.PermissionDenied"), "permission denied", REFUSED),
                (fake.Error("GuestUnsupported", instance="arm_spe_0", reason="pKVM"), "pKVM", HOST_CANNOT),
                (fake.Error("NoSuchInstance", instance="arm_spe_9", instances=["arm_spe_0"]), "arm_spe_9", FAILED)):
            self.best_effort(self.fake(Acquire=error).path, why, status)

    def test_best_effort_releases(self):
        """A lease that is of no use is given back; without the option it goes with the process."""
        broken = fake.lease(cpus=str(HERE[0]), interrupt=None)
        broker = self.fake(check=False, Acquire={"lease": broken}, Release={})
        self.best_effort(broker.path, "without its interrupt", FAILED)
        self.assertEqual([call[:2] for call in broker.calls if call[0] == "Release"],
                         [("Release", {"leaseId": "0123456789abcdef0123456789abcdef"})])

    def test_best_effort_granted(self):
        """With a lease it changes nothing."""
        shown, errors = self.show(self.granted(cpus=str(HERE[0])), "--best-effort")
        self.assertEqual((errors, shown["affinity"], len(shown["environment"])), ("", HERE[:1], 6))

    def test_best_effort_wrong_command_line(self):
        broker = self.fake(Acquire=fake.Error("org.varlink.service.InvalidParameter", parameter="vm"))
        self.speadm("run", "--vcpus", "2", "--best-effort", "true", socket=broker.path, expect=USAGE)
        self.speadm("run", "--best-effort", "true", socket=broker.path, expect=USAGE)

    def test_broken_grant(self):
        """What KVM would take for something else, or not at all, is not handed to a VMM."""
        marker = self.directory() / "marker"
        cpus = str(HERE[0])
        for lease, sentence in (
                ({}, "the broker granted a lease without its leaseId"),
                (fake.lease(cpus=None), "the broker granted a lease without its cpus"),
                (fake.lease(cpus=""), "the broker granted a lease without its cpus"),
                (fake.lease(cpus=cpus, pmuType=None), "the broker granted a lease without its pmuType"),
                (fake.lease(cpus=cpus, bufferSize=0), "the broker granted a lease without its bufferSize"),
                (fake.lease(cpus=cpus, interrupt=None), "the broker granted a lease without its interrupt"),
                (fake.lease(cpus="many"), "the broker says CPUs 'many', which is no list of CPUs")):
            broker = self.fake(check=False, Acquire={"lease": lease})
            result = self.speadm("run", "--vcpus", "2", "touch", marker, socket=broker.path, expect=FAILED)
            self.assertEqual(self.sentence(result), sentence)
            self.assertFalse(marker.exists())

    def test_waits(self):
        """The answer may come late, as long as --wait allows."""
        broker = self.fake(Acquire=fake.HOLD)
        process = self.spawn("run", "--vcpus", "1", "--wait", "1h", "true", socket=broker.path)
        cli.harness.wait_for(lambda: broker.calls, "the call")
        self.assertIsNone(process.poll())
        process.terminate()
        self.finish(process, expect=-15)


if __name__ == "__main__":
    cli.main()
