# SPDX-License-Identifier: LGPL-2.1-or-later
"""examples/vmm-kvm.c: a VM on a real KVM, from the lease to its end. KVM has no SPE here, so the example has to say so
and run its guest without. But a VCPU's PMU (KVM_ARM_VCPU_PMU_V3) is set up by the same steps: with its numbers in SPE's
place, <spebroker/kvm.h> goes all the way with a real kernel, and what a lease's changes ask of a VMM is done by one."""

import os
import pathlib
import subprocess
import threading
import unittest

import harness
import machine
import tree

EXAMPLE = pathlib.Path(os.environ.get("SPE_BUILD_DIR", ".")) / "examples/example-vmm-kvm"
PMU_TYPE = pathlib.Path("/sys/bus/event_source/devices/armv8_pmuv3/type")
NUMBERS = {  # KVM_CAP_ARM_PMU_V3, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL with _IRQ, _SET_PMU, _FILTER, _INIT
    "Capability": 126,
    "Feature": 3,
    "Group": 0,
    "AttributeIrq": 0,
    "AttributeSpu": 3,
    "AttributeMaxBufferSize": 2,
    "AttributeInit": 1,
}
VCPUS, TICKS = 2, 3
LSM = pathlib.Path("/sys/kernel/security/lsm")
GATE = LSM.exists() and "bpf" in LSM.read_text().split(",") and machine.RELEASE >= (6, 4)
HOUR = 3600 * 1000 * 1000


def numbers(**changes):
    return "[KVM]\n" + "".join(f"{key}={value}\n" for key, value in (NUMBERS | changes).items())


@unittest.skipUnless(machine.ARM64, "not arm64")
class TestVmm(harness.TestCase):
    def host(self, config, pmu_type=None):
        """A daemon whose arm_spe_0 has the type of this machine's CPUs' PMU, on this machine's CPUs."""
        pmu_type = int(PMU_TYPE.read_text()) if pmu_type is None else pmu_type

        def write(root):
            host = tree.Tree(root, "0-3")
            host.instance(0, "0-3", type=pmu_type)
            return host

        return self.broker(tree=write, config=config)

    def spawn(self, *arguments, before=()):
        process = subprocess.Popen([*map(str, (*before, EXAMPLE, *arguments))], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        watchdog = threading.Timer(harness.DEADLINE, process.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        return process

    def end(self, process):
        lines = process.stdout.read().splitlines()
        self.assertEqual(process.wait(harness.DEADLINE), 0, lines)
        return lines

    def assert_line(self, process, expected):
        line = process.stdout.readline()
        self.assertEqual(line.strip(), expected, process.stdout.read() if expected not in line else "")

    def assert_vcpus_on(self, process, cpus):
        """Its VCPU threads, and no others, are there."""

        def where():
            found = {}
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
                name = (task / "comm").read_text().strip()
                if name.startswith("vcpu"):
                    found[name] = sorted(os.sched_getaffinity(int(task.name)))
            return found

        expected = {f"vcpu{i}": cpus for i in range(VCPUS)}
        harness.wait_for(lambda: where() == expected, f"{expected}, not {where()}")

    def ended(self, broker):
        harness.wait_for(lambda: not broker.call("ListLeases")["leases"], "the lease's end")
        self.assert_idle(broker)

    def without(self, broker, reason):
        """It says why, gives the lease back, and the guest runs to its end."""
        lines = self.end(self.spawn(broker.socket_path, "web", "0-3", TICKS))
        self.assertEqual([line for line in lines[1:] if line], ["released", "the guest runs without SPE"])
        self.assertRegex(lines[0], f"^no SPE: {reason}")
        self.assert_idle(broker)

    def test_numbers_unknown(self):
        """What this kernel, without SPE, and a broker without configuration come to."""
        self.without(self.host(""), "KVM's numbers for SPE are known neither from the kernel header .*"
                                    "Set the numbers of this kernel's <linux/kvm.h> in section \\[KVM\\]")

    def test_unsupported(self):
        self.without(self.host(numbers(Capability=65535)),
                     "KVM gives no SPE to guests: .* \\(KVM_CHECK_EXTENSION of SPE\\)")

    def test_numbers_of_another_kernel(self):
        for key, said in (("Group", "The VCPU was initialised without SPE, or not at all"),
                          ("AttributeSpu", "KVM lacks the attribute that names the SPU"),
                          ("AttributeInit", "KVM lacks the attribute that enables SPE")):
            with self.subTest(key):
                self.without(self.host(numbers(**{key: 65535})), said)

    def test_no_such_spu(self):
        self.without(self.host(numbers(), pmu_type=65530),
                     "KVM knows no SPU of this PMU type: .* \\(KVM_SET_DEVICE_ATTR of the SPU, 65530: No such device")

    def test_no_broker(self):
        lines = self.end(self.spawn(self.directory() / "socket", "web", "0-3", TICKS))
        self.assertEqual(lines, ["no SPE: no broker answers", "the guest runs without SPE"])

    def test_refused(self):
        broker = self.host(numbers())
        broker.call("Assign", cpus="0-3", owner="host", runtime=True)
        lines = self.end(self.spawn(broker.socket_path, "web", "0-3", TICKS))
        self.assertRegex(lines[0], "^no SPE: .*assigned to host")
        self.assertEqual(lines[1:], ["the guest runs without SPE"])

    @unittest.skipUnless(GATE, "the kernel has no such hook")
    def test_gate(self):
        """Who has a lease passes; whose lease is another broker's does not, and says what it met with."""
        gatekeeper = self.host("[Arbitration]\nLevel=none\nGate=enforce\n" + numbers())
        self.assertEqual(gatekeeper.call("Describe")["host"]["gate"], "enforce")
        lines = self.end(self.spawn(gatekeeper.socket_path, "web", "0-3", TICKS))
        self.assertEqual(lines[0], "the guest runs with SPE", lines)
        self.without(self.host(numbers()), "The broker's gate refuses it: .* \\(KVM_SET_DEVICE_ATTR of SPE's interrupt, "
                                           "21: Permission denied\\)\\. See speadm refusals")
        refusals = gatekeeper.call("ListRefusals")["refusals"]
        self.assertEqual([refusal["error"] for refusal in refusals], ["io.spebroker.Broker.NoSuchLease"])

    def test_to_the_end(self):
        """The guest switches itself off."""
        for changes in ({}, {"AttributeMaxBufferSize": 65535}):
            broker = self.host(numbers(**changes))
            lines = self.end(self.spawn(broker.socket_path, "web", "0-3", TICKS))
            self.assertEqual(lines[0], "the guest runs with SPE", lines)
            self.ended(broker)

    def test_life(self):
        """Placed, moved, revoked: then the VM ends, and the lease with it."""
        broker = self.host(numbers())
        process = self.spawn(broker.socket_path, "web", "1-3")
        self.assert_line(process, "the guest runs with SPE")
        self.assert_line(process, "VCPU threads on CPUs 1-3")
        self.assert_vcpus_on(process, [1, 2, 3])
        lease = broker.call("ListLeases")["leases"][0]
        self.assertEqual((lease["vm"], lease["vcpus"], lease["owner"]["pid"]), ("web", VCPUS, process.pid))

        broker.call("Assign", cpus="3", owner="host", runtime=True)
        self.assert_line(process, "VCPU threads on CPUs 1-2")
        self.assert_vcpus_on(process, [1, 2])

        broker.call("Revoke", leaseId=lease["leaseId"], graceUSec=HOUR, reason="maintenance")
        lines = self.end(process)
        self.assertRegex(lines[0], "^revoking: .*maintenance")
        self.assertEqual(lines[1:], [])
        self.ended(broker)

    def test_adopted(self):
        """Under 'speadm run' it has one lease, and not two."""
        broker = self.host(numbers())
        process = self.spawn(broker.socket_path, "web", before=[
            machine.SPEADM, "--socket", broker.socket_path, "run", "--vm", "run", "--vcpus", VCPUS, "--cpus", "1-3", "--"])
        self.assertRegex(process.stdout.readline(), "^speadm: RLIMIT_MEMLOCK is left ")
        self.assert_line(process, "the guest runs with SPE")
        self.assert_line(process, "VCPU threads on CPUs 1-3")
        self.assertEqual([(lease["vm"], lease["owner"]["pid"]) for lease in broker.call("ListLeases")["leases"]],
                         [("run", process.pid)])
        self.assert_vcpus_on(process, [1, 2, 3])
        process.kill()
        self.ended(broker)

    def test_broker_restarts(self):
        """The VM goes on, and hears of what has changed."""
        broker = self.host(numbers())
        process = self.spawn(broker.socket_path, "web", "1-3")
        self.assert_line(process, "the guest runs with SPE")
        self.assert_line(process, "VCPU threads on CPUs 1-3")
        broker.kill()
        broker.configure(numbers() + "[Assignment host]\nCpus=3\nOwner=host\n")
        broker.start()
        self.assert_line(process, "VCPU threads on CPUs 1-2")
        self.assert_vcpus_on(process, [1, 2])

    def test_killed(self):
        """What it had goes with it."""
        broker = self.host(numbers())
        process = self.spawn(broker.socket_path)
        self.assert_line(process, "the guest runs with SPE")
        process.kill()
        self.ended(broker)


if __name__ == "__main__":
    harness.main()
