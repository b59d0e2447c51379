# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples against the real daemon: both do and say the same."""

import os
import pathlib
import subprocess
import sys
import threading

import harness

SOURCE = pathlib.Path(os.environ["SPE_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tests/cli"))

from fake import HOLD, Fake, lease  # noqa: E402

EXAMPLES = {"c": [os.environ["SPE_EXAMPLE"]], "python": [sys.executable, "-B", str(SOURCE / "examples/vmm.py")]}


class TestExamples(harness.TestCase):
    def spawn(self, example, *arguments, before=(), env=None):
        process = subprocess.Popen([*before, *EXAMPLES[example], *map(str, arguments)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=os.environ | (env or {}))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        # So that a line that never comes is an end of file.
        watchdog = threading.Timer(harness.DEADLINE, process.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        return process

    def end(self, process, status):
        stdout, stderr = process.communicate(timeout=harness.DEADLINE)
        self.assertEqual(process.returncode, status, stdout + stderr)
        return stdout.splitlines(), stderr.splitlines()

    def each(self):
        for example in EXAMPLES:
            with self.subTest(example):
                yield example, self.broker(simulate="biglittle")

    def lease_of(self, process, broker):
        """What it says of its lease is what the broker says of it."""
        said = [process.stdout.readline().strip() for _ in range(6)]
        lease = next(l for l in broker.call("ListLeases")["leases"] if l["owner"]["pid"] == process.pid)
        self.assertEqual(said, [
            f"lease {lease['leaseId']}: {lease['instance']}",
            f"VCPU threads on CPUs {lease['cpus']}",
            f"KVM_ARM_VCPU_SPE_IRQ {lease['interrupt']}",
            f"KVM_ARM_VCPU_SPE_SPU {lease['pmuType']}",
            f"KVM_ARM_VCPU_MAX_BUFFER_SIZE {lease['bufferSize']}",
            f"RLIMIT_MEMLOCK +{lease['memlock']['bytes']} {lease['memlock']['state']}",
        ])
        return lease

    def test_lease(self):
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path, "web", "5-6")
            lease = self.lease_of(process, broker)
            self.assertEqual((lease["vm"], lease["instance"], lease["cpus"], lease["vcpus"]),
                             ("web", "arm_spe_1", "5-6", 2))
            process.terminate()
            self.assertEqual(self.end(process, 0)[0], ["released"])
            self.assert_idle(broker)

    def test_adopted(self):
        """Under 'speadm run' they have one lease, and not two; whose environment is another process's takes its own."""
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path, before=[
                os.environ["SPEADM"], "--socket", broker.socket_path, "run", "--vm", "run", "--vcpus", "1", "--"])
            lease = self.lease_of(process, broker)
            self.assertEqual([(l["leaseId"], l["vm"]) for l in broker.call("ListLeases")["leases"]],
                             [(lease["leaseId"], "run")])
            child = self.spawn(example, broker.socket_path, "child", env={
                "SPE_BROKER_LEASE": lease["leaseId"], "SPE_BROKER_PID": str(process.pid)})
            self.assertEqual(self.lease_of(child, broker)["vm"], "child")
            for each in (child, process):
                each.terminate()
                self.assertEqual(self.end(each, 0)[0], ["released"])
            self.assert_idle(broker)

    def test_revoked(self):
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path)
            lease = self.lease_of(process, broker)
            broker.call("Revoke", leaseId=lease["leaseId"], graceUSec=3600 * 1000 * 1000, reason="maintenance")
            self.assertEqual(self.end(process, 0)[0], ["revoking", "released"])
            self.assert_idle(broker)

    def test_moved(self):
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path, "web", "4-7")
            self.lease_of(process, broker)
            broker.call("Assign", cpus="6-7", owner="host", runtime=True)
            self.assertEqual(process.stdout.readline(), "VCPU threads on CPUs 4-5\n")
            process.terminate()
            self.assertEqual(self.end(process, 0)[0], ["released"])

    def spu(self, broker, pmu_type):
        """The driver is loaded again: arm_spe_1 with another PMU type, or gone."""
        devices = broker.root / "run/spe-broker/simulated/sys/bus/event_source/devices"
        if pmu_type is None:
            (devices / "arm_spe_1").rename(devices / "elsewhere")
        else:
            (devices / "elsewhere/type").write_text(f"{pmu_type}\n")
            (devices / "elsewhere").rename(devices / "arm_spe_1")
        broker.call("Rescan")

    def test_driver_reloaded(self):
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path, "web", "4-7")
            self.lease_of(process, broker)
            self.spu(broker, None)
            self.assertRegex(process.stdout.readline(), "^no SPU: its SPU is gone")
            self.spu(broker, 33)
            self.assertEqual(process.stdout.readline(), "KVM_ARM_VCPU_SPE_SPU 33\n")
            process.terminate()
            self.assertEqual(self.end(process, 0)[0], ["released"])

    def test_broker_restarts(self):
        """Killed, and stopped: the library's example goes on, and hears of what has changed."""
        broker = self.broker(simulate="biglittle")
        process = self.spawn("c", broker.socket_path, "web", "4-7")
        lease = self.lease_of(process, broker)
        for way in (broker.kill, broker.stop):
            way()
            line = process.stdout.readline()
            self.assertEqual(line, "the broker is away\n", line or self.end(process, 0))
            broker.start()
            self.assertEqual(process.stdout.readline(), "the broker is back\n")
            self.assertEqual(broker.lease(lease["leaseId"]) | {"remainingUSec": None}, lease)
        broker.kill()
        self.assertEqual(process.stdout.readline(), "the broker is away\n")
        broker.configure("[Assignment host]\nCpus=6-7\nOwner=host\n")
        broker.start()
        self.assertEqual([process.stdout.readline() for _ in range(2)],
                         ["the broker is back\n", "VCPU threads on CPUs 4-5\n"])
        process.terminate()
        self.assertEqual(self.end(process, 0)[0], ["released"])
        self.assert_idle(broker)

    def test_restart(self):
        """The SPU is another one, and the broker does not know that this VM has not enabled the old one."""
        granted = lease(pmuType=8)
        stale = lease(pmuType=33, restartRequired=True, reason="its SPU has come back as another one")
        for example in EXAMPLES:
            with self.subTest(example):
                broker = Fake(self.directory() / "socket", {
                    "Acquire": {"lease": granted, "change": None},
                    "Follow": [{"lease": granted, "change": None}, {"lease": stale, "change": "updated"}, HOLD],
                    "Release": {},
                })
                self.addCleanup(broker.close)
                said = self.end(self.spawn(example, broker.path), 0)[0]
                self.assertEqual(said[6:], [f"restart: {stale['reason']}", "released"])
                self.assertEqual(broker.calls[-1], ("Release", {"leaseId": granted["leaseId"]}, False))

    def test_killed(self):
        for example, broker in self.each():
            process = self.spawn(example, broker.socket_path)
            self.lease_of(process, broker)
            process.kill()
            self.end(process, -9)
            harness.wait_for(lambda: not broker.call("ListLeases")["leases"], "the lease's end")
            self.assert_idle(broker)

    def test_refused(self):
        for example, broker in self.each():
            _, stderr = self.end(self.spawn(example, broker.socket_path, "web", "3-4"), 3)
            self.assertIn("NoInstanceForCpus", stderr[0])
            request = {"vcpus": 2, "vm": "web", "cpus": "3-4"}
            offer = broker.call("Query", request=request)["decision"]["counterOffer"]
            self.assertEqual(stderr[1], f"There would be {offer['instance']}, CPUs {offer['cpus']}, "
                                        f"{offer['bufferSize']} bytes for each VCPU.")

    def test_no_broker(self):
        for example in EXAMPLES:
            with self.subTest(example):
                _, stderr = self.end(self.spawn(example, self.directory() / "socket"), 4)
                self.assertIn("no broker is running", stderr[0])


if __name__ == "__main__":
    harness.main()
