# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's side at the command line, at the level that the kernel has: who profiles, who may not and why, and CPUs for
the host for a while. (What the broker does is test_arbitration.py's; tests/cli has every form of output.)"""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import machine
import perf
from machine import ARM64, RELEASE, SPEADM, wait_for

LSM = pathlib.Path("/sys/kernel/security/lsm").read_text()
LEVEL = "reserve" if ARM64 and RELEASE < (6, 4) or "bpf" not in LSM.split(",") else "enforce"
# A process of its own that opens a CPU-wide event, and says what came of it.
OPEN = "import perf; print(perf.outcome({pmu_type}, cpu={cpu}) or 'opened')"


class TestHost(machine.TestCase):
    def start(self, config=""):
        self.driver.load("0-1", "2-3")
        self.daemon = self.broker(config=config)

    def ask(self, *words, expect=0):
        code, output, errors = self.command(*words)
        self.assertEqual(code, expect, (words, output, errors))
        return output

    def event(self, cpu):
        fd = perf.event(self.driver.type(cpu // 2), cpu=cpu)
        self.addCleanup(lambda: closed or os.close(fd))
        closed = []
        return lambda: closed.append(os.close(fd)) if not closed else None

    def somebody(self, cpu):
        """Another process tries: its id and what it got."""
        script = OPEN.format(pmu_type=self.driver.type(cpu // 2), cpu=cpu)
        with subprocess.Popen(["python3", "-B", "-c", script], stdout=subprocess.PIPE, text=True) as process:
            return process.pid, process.communicate()[0].strip()

    def spawn(self, *words):
        process = subprocess.Popen([SPEADM, *words], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_level(self):
        """In status and in check the same words; and what scripts require."""
        self.start()
        host = json.loads(self.ask("status", "-j"))
        self.assertEqual(host["level"], LEVEL)
        check = next(c for c in json.loads(self.ask("check", "-j")) if c["name"] == "level")
        self.assertEqual(check["status"], "ok" if LEVEL == "enforce" else "warning")
        self.assertIn(host["levelReason"] or "(level enforce).", check["reason"])
        self.ask("check", "--require", LEVEL)
        self.ask("check", "--require", "enforce", expect=0 if LEVEL == "enforce" else 1)

    def test_sessions(self):
        self.start()
        self.assertEqual(json.loads(self.ask("sessions", "-j")), [])
        close = self.event(2)
        wait_for(lambda: self.ask("sessions", "--no-legend"), "the session")
        self.assertEqual(self.ask("sessions", "--no-legend").split()[:5], ["cpu", "arm_spe_1", "2", "-", "2"])
        close()
        wait_for(lambda: not self.ask("sessions", "--no-legend"), "its end")

    def test_refused(self):
        """A perf that fails on a guest's CPU is told whose it is, where the broker can know."""
        self.start()
        vm = self.spawn("run", "--vm", "web1", "--vcpus", "2", "--cpus", "0-1", "--", "tail", "-f", "/dev/null")
        wait_for(lambda: "granted" in self.ask("leases"), "the lease")
        pid, outcome = self.somebody(1)
        self.assertEqual(outcome, "EBUSY")
        self.assertEqual(self.somebody(2)[1], "opened")
        if LEVEL == "enforce":
            wait_for(lambda: json.loads(self.ask("refusals", "-j", "--pid", str(pid))), "the refusal")
            text = self.ask("refusals", "--pid", str(pid))
            self.assertIn(f"of VM web1 (pid {vm.pid}, tail) on CPUs 1\n", text)
            self.assertIn("-> sessions of tasks are allowed (perf record -p PID, or a command)", text)
        else:
            self.assertEqual(json.loads(self.ask("refusals", "-j")), [], "the kernel tells nobody")
        vm.kill()
        vm.wait()
        wait_for(lambda: not json.loads(self.ask("leases", "-j")), "the lease's end")
        self.assertEqual(self.somebody(1)[1], "opened")

    def test_scope(self):
        """A VMM that goes into the background keeps its lease, and the lease ends with it; so does systemd's scope."""
        self.start()
        vmm_path = self.directory() / "vcpu0"  # its one thread is called so, too
        vmm_path.symlink_to(shutil.which("tail"))
        vmm = f"{vmm_path} -f /dev/null >/dev/null 2>&1 & echo $! $SPE_BROKER_LEASE ${{SPE_BROKER_PID-none}}"
        said = self.ask("run", "--scope", "--vm", "web 1/\u00fc", "--vcpus", "2", "--cpus", "0-1", "--", "sh", "-c", vmm)
        pid, lease_id, of = said.split()
        lease, = json.loads(self.ask("leases", "-j"))
        self.assertEqual((lease["leaseId"], lease["owner"]["pid"], of), (lease_id, None, "none"))
        cgroup = pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
        self.assertEqual(lease["owner"]["cgroup"], cgroup)
        unit = cgroup.rpartition("/")[2]
        self.assertRegex(unit, r"\Aspe-web\\x201\\x2f\\xc3\\xbc-[0-9a-f]{32}\.scope\Z")
        self.assertEqual(os.sched_getaffinity(int(pid)), {0, 1})
        self.assertFalse(lease["misplaced"])
        os.sched_setaffinity(int(pid), {0, 2})
        wait_for(lambda: json.loads(self.ask("leases", "-j"))[0]["misplaced"], "that it is seen")
        self.assertIn(f"may run on CPUs 2, outside of the lease: 'taskset -cp 0-1 {pid}'", self.ask("leases"))
        os.kill(int(pid), signal.SIGTERM)
        wait_for(lambda: not json.loads(self.ask("leases", "-j")), "the lease's end")
        wait_for(lambda: subprocess.run(["systemctl", "is-active", unit], capture_output=True).returncode, "the scope's")

    def test_scope_refused(self):
        """The scope is gone with the process that was refused."""
        self.start()
        self.ask("run", "--scope", "--vm", "web1", "--vcpus", "2", "--cpus", "0-1", "--buffer", "1G", "--exact", "--",
                 "true", expect=3)
        wait_for(lambda: "spe-web1-" not in subprocess.run(["systemctl", "list-units", "--all"], capture_output=True,
                                                           text=True).stdout, "the end of the scope")
        self.assertEqual(json.loads(self.ask("leases", "-j")), [])

    def test_cpus_for_the_host(self):
        """For a while: when the command is done, perf gets them."""
        self.start()
        vm = self.spawn("run", "--vm", "web1", "--vcpus", "1", "--cpus", "0-1", "--", "tail", "-f", "/dev/null")
        wait_for(lambda: "granted" in self.ask("leases"), "the lease")
        self.assertEqual(self.somebody(0)[1], "EBUSY")
        self.ask("assign", "host", "--cpus", "0", "--for", "10m", "--wait")
        self.assertEqual(self.somebody(0)[1], "opened")
        self.assertEqual(self.somebody(1)[1], "EBUSY")
        self.ask("assign", "host", "--cpus", "0", "--for", "10ms", "--wait")
        wait_for(lambda: "0:host" not in self.ask("list"), "the end of the assignment")
        self.assertIsNone(vm.poll())

    def test_drain(self):
        """Nobody gets in any more; who is in is waited for."""
        self.start()
        close = self.event(2)
        drain = self.spawn("drain", "--instance", "arm_spe_1", "--wait")
        self.assertEqual(drain.stdout.readline(), "Host sessions in the way until they close:\n")
        self.assertIn("(draining)", self.ask("list"))
        self.assertEqual(self.somebody(3)[1], "EBUSY")
        self.assertIsNone(drain.poll())
        close()
        self.assertEqual(drain.wait(machine.DEADLINE), 0)
        self.assertEqual(self.somebody(2)[1], "EBUSY")
        self.ask("unassign", "--instance", "arm_spe_1")
        self.assertEqual(self.somebody(2)[1], "opened")


if __name__ == "__main__":
    machine.main()
