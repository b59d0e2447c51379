# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm run: what the command finds, where it runs, and whose exit status it is."""

import json
import os
import subprocess
import sys

import cli
import fake
from cli import FAILED, REFUSED

SHOW = ("import json, os; print(json.dumps({"
        "'environment': {k: v for k, v in os.environ.items() if k.startswith('SPE_BROKER')},"
        "'affinity': sorted(os.sched_getaffinity(0)), 'descriptors': sorted(map(int, os.listdir('/proc/self/fd')))}))")
HERE = sorted(os.sched_getaffinity(0))


class TestRun(cli.TestCase):
    def granted(self, **members):
        return self.fake(Acquire={"lease": fake.lease(**members), "change": None})

    def show(self, broker, *arguments):
        result = self.speadm("run", "--vcpus", "2", *arguments, "--", sys.executable, "-c", SHOW, socket=broker.path)
        return json.loads(result.out), result.err

    def test_environment(self):
        broker = self.granted(cpus=str(HERE[0]), bufferSize=1 << 20)
        shown, errors = self.show(broker)
        self.assertEqual(errors, "")
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
        answers = [fake.HANG_UP, fake.HANG_UP, {"lease": fake.lease(cpus=str(HERE[0])), "change": None}]
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
