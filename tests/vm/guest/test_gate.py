# SPDX-License-Identifier: LGPL-2.1-or-later
"""The gate on real VCPUs: who may set attributes of KVM's SPE group. No KVM has that group, and answers ENXIO for the
number that stands for it here, so whatever passes the gate is told apart from what does not. The daemons here look at a
tree of their own and have no KVM to ask, so that every lease can be had."""

import os
import pathlib
import shutil
import tempfile
import unittest

import harness
import machine
import pid1
import tree
import vcpu
from machine import ARM64, RELEASE

LSM = "bpf" in pathlib.Path("/sys/kernel/security/lsm").read_text().split(",")
ATTACHES = LSM and (not ARM64 or RELEASE >= (6, 4))
NEEDS_GATE = unittest.skipUnless(ATTACHES, "the kernel has no such hook")
GROUP, OTHER_GROUP = 300, 301
IRQ, SPU, SIZE, INIT, UNKNOWN = 0, 1, 2, 3, 9
NUMBERS = {"Capability": 65000, "Feature": 200, "Group": GROUP, "AttributeIrq": IRQ, "AttributeSpu": SPU,
           "AttributeMaxBufferSize": SIZE, "AttributeInit": INIT}
MINE, OTHER = 8, 9  # PMU types of the tree's arm_spe_0 and arm_spe_1
BUFFER = 1 << 20
PMU_TYPE = pathlib.Path("/sys/bus/event_source/devices/armv8_pmuv3/type")
PMU_FEATURE = 3
FLOOD = 2000  # more than the ring has room for


def config(gate, **changes):
    numbers = "".join(f"{key}={value}\n" for key, value in (NUMBERS | changes).items() if value is not None)
    return f"[Arbitration]\nLevel=none\nGate={gate}\n[KVM]\n{numbers}"


def two_spus(root, types=(MINE, OTHER), kvm="/dev/no-such-kvm"):
    host = tree.Tree(root, "0-7")
    host.instance(0, "0-3", type=types[0])
    host.instance(1, "4-7", type=types[1])
    (host.root / "dev").mkdir()
    (host.root / "dev/kvm").symlink_to(kvm)
    return host


def setUpModule():
    """One daemon for nearly all tests, as to load the program takes most of the time. Where there is no gate, it says so
    itself."""
    if not vcpu.load():
        raise unittest.SkipTest("no /dev/kvm")
    directory = tempfile.mkdtemp(prefix="spe-")
    unittest.addModuleCleanup(shutil.rmtree, directory)
    Case.daemon = pid1.Service(directory, tree=two_spus, config=config("enforce"))
    unittest.addModuleCleanup(Case.daemon.dismiss)
    Case.daemon.start()


class Case(harness.TestCase):
    def setUp(self):
        self.before = self.counters()
        self.known = {refusal["id"] for refusal in self.daemon.call("ListRefusals")["refusals"]}

    def vmm_with_vcpu(self, **kwargs):
        """Which takes its leases along."""
        vmm = vcpu.Vcpu(**kwargs)
        self.addCleanup(vmm.end)
        return vmm

    def lease(self, vmm, cpus="0-3", size=BUFFER):
        return self.daemon.call("Acquire", request={"vm": "web1", "vcpus": 1, "cpus": cpus, "bufferSize": size,
                                                    "pid": vmm.pid})["lease"]["leaseId"]

    def reload(self, gate, **changes):
        self.daemon.configure(config(gate, **changes))
        self.daemon.call("io.spebroker.Admin.Reload")

    def host(self):
        return self.daemon.call("Describe")["host"]

    def refusals(self):
        """New ones, the newest first."""
        return [r for r in self.daemon.call("ListRefusals")["refusals"] if r["id"] not in self.known]

    def told(self, n):
        """New ones, when there are so many."""
        return harness.wait_for(lambda: len(found := self.refusals()) >= n and found, f"{n} refusals")

    def counters(self):
        counters = self.daemon.counters()
        return counters["gate-refused"], counters["gate-reported"], counters["gate-refusals-lost"]

    def counted(self):
        """Refused, reported, lost."""
        return tuple(now - before for now, before in zip(self.counters(), self.before, strict=True))

    def outcome(self, vmm, expected):
        """{(attribute, value): '' or an error}"""
        found = {(attribute, value): vmm.set(GROUP, attribute, value) for attribute, value in expected}
        self.assertEqual(found, expected)


@NEEDS_GATE
class TestEnforce(Case):
    def setUp(self):
        super().setUp()
        self.mine = self.vmm_with_vcpu()

    def test_no_lease(self):
        self.assertEqual((self.host()["gate"], self.host()["gateReason"]), ("enforce", None))
        stream = self.client(self.daemon).stream("Watch")
        stream.next()
        self.outcome(self.mine, {(IRQ, 21): "EACCES", (SPU, MINE): "EACCES", (SIZE, BUFFER): "EACCES",
                                 (INIT, None): "EACCES", (UNKNOWN, 0): "EACCES"})
        refusals = self.told(5)
        self.assertEqual({(r["error"], r["vm"], r["pid"], r["uid"]) for r in refusals},
                         {("io.spebroker.Broker.NoSuchLease", None, self.mine.pid, 0)})
        messages = [r["message"] for r in reversed(refusals)]
        for name, message in zip(("IRQ", "SPU", "MAX_BUFFER_SIZE", "INIT", "attribute 9"), messages, strict=True):
            self.assertEqual(message, f"python3 (pid {self.mine.pid}) may not set {name} of SPE on a VCPU: "
                                      "the process has no lease")
        self.assertIn("speadm run", refusals[0]["allowed"])
        event = stream.until(lambda reply: reply["event"]["refusal"])["event"]
        self.assertEqual(event["refusal"]["id"], refusals[-1]["id"])
        self.assertEqual(self.counted(), (5, 0, 0))
        self.mine.set(GROUP, INIT)
        self.assertIn("(2 times)", harness.wait_for(
            lambda: "times" in (found := self.told(5)[0]["message"]) and found, "one that counts"))

    def test_lease(self):
        lease = self.lease(self.mine)
        self.outcome(self.mine, {(IRQ, 21): "ENXIO", (SPU, MINE): "ENXIO", (SIZE, BUFFER): "ENXIO", (SIZE, 4096): "ENXIO",
                                 (INIT, None): "ENXIO", (UNKNOWN, 0): "ENXIO"})
        self.assertEqual(self.mine.set(GROUP, SPU, MINE, by="in_thread"), "ENXIO")
        self.assertEqual(self.counted(), (0, 0, 0))
        # A process that it has made is another one, also with its lease's connection and descriptors.
        self.assertEqual(self.mine.set(GROUP, INIT, by="in_child"), "EACCES")
        self.assertNotEqual(self.told(1)[0]["pid"], self.mine.pid)
        self.assertEqual(self.vmm_with_vcpu().set(GROUP, SPU, MINE), "EACCES")
        self.daemon.call("Release", leaseId=lease)
        self.outcome(self.mine, {(SPU, MINE): "EACCES", (INIT, None): "EACCES"})

    def groups(self):
        """A control group, and one in it. The VMM ends before they do."""
        group = pathlib.Path(f"/sys/fs/cgroup/spe-broker-{os.getpid()}")
        inner = group / "vmm"
        for path in (group, inner):
            path.mkdir()
            self.addCleanup(path.rmdir)
        self.addCleanup(self.mine.end)
        return group, inner

    def lease_of_group(self, group, cpus="0-3", size=BUFFER):
        path = f"/{group.relative_to('/sys/fs/cgroup')}"
        return self.daemon.call("Acquire", request={"vm": "web1", "vcpus": 1, "cpus": cpus, "bufferSize": size,
                                                    "cgroup": path})["lease"]["leaseId"]

    def revoke(self, lease):
        self.daemon.call("io.spebroker.Admin.Revoke", leaseId=lease, graceUSec=0)
        harness.wait_for(lambda: self.daemon.lease(lease)["state"] == "revoked", "the end of the grace")

    def test_control_group(self):
        """All that are in it, or below it, may what its lease says, as long as they are: what they fork, too."""
        group, inner = self.groups()
        lease = self.lease_of_group(group)
        self.assertEqual(self.mine.set(GROUP, INIT), "EACCES")
        (inner / "cgroup.procs").write_text(str(self.mine.pid))
        self.outcome(self.mine, {(IRQ, 21): "ENXIO", (SPU, MINE): "ENXIO", (SIZE, BUFFER): "ENXIO", (INIT, None): "ENXIO",
                                 (SPU, OTHER): "EACCES", (SIZE, 0): "EACCES"})
        # It may, by the gate; KVM has it that a VCPU is used by the process that made its VM.
        self.assertEqual(self.mine.set(GROUP, INIT, by="in_child"), "EIO")
        size, spu = self.told(3)[:2]
        self.assertEqual((size["error"], size["vm"], size["pid"]),
                         ("io.spebroker.Broker.LimitExceeded", "web1", self.mine.pid))
        self.assertIn(f"arm_spe_1 is not the SPU of its lease {lease}, which is arm_spe_0", spu["message"])
        self.daemon.call("Release", leaseId=lease)
        self.outcome(self.mine, {(SPU, MINE): "EACCES", (INIT, None): "EACCES"})

    def test_groups_in_each_other(self):
        """The SPUs are those of all of them, the size is the innermost one's; by which lease it was refused is told."""
        group, inner = self.groups()
        wide, narrow = self.lease_of_group(group, size=2 * BUFFER), self.lease_of_group(inner, cpus="4-7")
        (inner / "cgroup.procs").write_text(str(self.mine.pid))
        self.outcome(self.mine, {(SPU, MINE): "ENXIO", (SPU, OTHER): "ENXIO", (SIZE, BUFFER): "ENXIO",
                                 (SIZE, 2 * BUFFER): "EACCES", (SPU, 77): "EACCES"})
        self.assertIn(f"is not the SPU of its lease {narrow}, which is arm_spe_1", self.told(2)[0]["message"])
        self.revoke(narrow)
        self.outcome(self.mine, {(SPU, MINE): "ENXIO", (SIZE, 2 * BUFFER): "ENXIO", (SPU, OTHER): "EACCES"})
        self.assertIn(f"is not the SPU of its lease {wide}, which is arm_spe_0", self.told(3)[0]["message"])
        self.revoke(wide)
        self.outcome(self.mine, {(INIT, None): "EACCES"})
        self.assertIn(f"its lease {narrow} is revoked", self.told(4)[0]["message"])

    def test_other_spu(self):
        lease = self.lease(self.mine)
        self.outcome(self.mine, {(SPU, OTHER): "EACCES", (SPU, 77): "EACCES", (SPU, 0xFFFFFFFF): "EACCES"})
        unknown, other = self.told(3)[1:]
        self.assertEqual((other["error"], other["vm"], other["instance"], other["instances"]),
                         ("io.spebroker.Broker.NoSuchInstance", "web1", "arm_spe_1",
                          [{"name": "arm_spe_0", "cpus": "0-3"}]))
        self.assertIn(f"arm_spe_1 is not the SPU of its lease {lease}, which is arm_spe_0", other["message"])
        self.assertEqual(other["allowed"], "arm_spe_0 is allowed, PMU type 8")
        self.assertEqual(unknown["instance"], "PMU type 77")
        # Leases of two SPUs allow both.
        self.lease(self.mine, cpus="4-7")
        self.outcome(self.mine, {(SPU, OTHER): "ENXIO", (SPU, MINE): "ENXIO"})
        self.daemon.call("Release", leaseId=lease)
        self.outcome(self.mine, {(SPU, OTHER): "ENXIO", (SPU, MINE): "EACCES"})

    def test_size(self):
        lease = self.lease(self.mine)
        self.outcome(self.mine, {(SIZE, BUFFER + 4096): "EACCES", (SIZE, 0): "EACCES", (SIZE, 1 << 63): "EACCES",
                                 (SIZE, BUFFER): "ENXIO"})
        huge, none, more = self.told(3)
        self.assertEqual((more["error"], more["limit"], more["requested"], more["available"]),
                         ("io.spebroker.Broker.LimitExceeded", "lease", BUFFER + 4096, BUFFER))
        self.assertIn("1052672 bytes is more than the 1048576 bytes of its lease", more["message"])
        self.assertIn("no limit is more than", none["message"])
        self.assertEqual((none["requested"], huge["requested"]), (0, (1 << 63) - 1))
        # Of several leases, the largest counts.
        self.lease(self.mine, cpus="0", size=2 * BUFFER)
        self.outcome(self.mine, {(SIZE, 2 * BUFFER): "ENXIO", (SIZE, 2 * BUFFER + 8192): "EACCES"})
        self.daemon.call("Release", leaseId=lease)
        self.outcome(self.mine, {(SIZE, 2 * BUFFER): "ENXIO"})

    def test_untouched(self):
        """Other groups, and files that are no VCPUs."""
        self.assertEqual(self.mine.set(OTHER_GROUP, SPU, OTHER), "ENXIO")
        name = self.directory() / "kvm-vcpu:0"
        name.write_text("")
        self.assertEqual(self.mine.set(GROUP, INIT, of=str(name)), "ENOTTY")
        self.assertEqual(self.mine.set(GROUP, INIT, of="eventfd"), "ENOTTY")
        self.assertIn(self.mine.set(GROUP, INIT, of="vm"), ("ENXIO", "ENOTTY"))
        self.assertIn(self.mine.set(GROUP, INIT, of="kvm"), ("EINVAL", "ENOTTY"))
        self.assertEqual(self.counted(), (0, 0, 0))
        self.assertEqual(self.mine.set(GROUP, INIT), "EACCES")

    def test_bad_addresses(self):
        """What cannot be read is nothing that KVM could take."""
        self.assertEqual(self.mine.set(GROUP, INIT, attribute_at=vcpu.NOWHERE), "EFAULT")
        self.lease(self.mine)
        for attribute in (SPU, SIZE):
            self.assertEqual(self.mine.set(GROUP, attribute, value_at=vcpu.NOWHERE), "EFAULT")
        self.assertEqual(self.counted(), (0, 0, 0))

    def test_revoked(self):
        lease = self.lease(self.mine)
        self.daemon.call("io.spebroker.Admin.Revoke", leaseId=lease, graceUSec=3600 * 10**6)
        self.outcome(self.mine, {(INIT, None): "ENXIO"})
        self.revoke(lease)
        self.outcome(self.mine, {(INIT, None): "EACCES", (SPU, MINE): "EACCES"})
        refusal = self.told(1)[0]
        self.assertEqual(refusal["vm"], "web1")
        self.assertIn(f"its lease {lease} is revoked", refusal["message"])

    def test_flood(self):
        """More at once than can be told, each refused and counted."""
        self.assertEqual(self.mine.set(GROUP, INIT, by="often", times=FLOOD), "EACCES")
        self.assertEqual(self.counted()[0], FLOOD)
        self.assertEqual(len(self.told(1)), 1)


class TestLevels(Case):
    def tearDown(self):
        self.reload("enforce")

    @NEEDS_GATE
    def test_reload(self):
        """Another level, and other numbers, take effect at once; the leases that there are are known."""
        mine, other = self.vmm_with_vcpu(), self.vmm_with_vcpu()
        lease = self.lease(mine)
        self.reload("log")
        self.assertEqual((self.host()["gate"], self.host()["gateReason"]), ("log", "the configuration says Gate=log"))
        self.outcome(other, {(INIT, None): "ENXIO"})
        self.assertEqual(self.told(1)[0]["message"], f"python3 (pid {other.pid}) has set INIT of SPE on a VCPU, which is "
                                                     "only reported here: the process has no lease")
        self.outcome(mine, {(INIT, None): "ENXIO", (SPU, MINE): "ENXIO", (SPU, OTHER): "ENXIO", (SIZE, 0): "ENXIO"})
        self.assertEqual(mine.set(GROUP, INIT, attribute_at=vcpu.NOWHERE), "EFAULT")
        self.assertEqual(len(self.told(3)), 3)
        self.assertEqual(self.counted(), (0, 3, 0))

        self.reload("enforce", Group=OTHER_GROUP)
        self.assertEqual((other.set(GROUP, INIT), other.set(OTHER_GROUP, INIT)), ("ENXIO", "EACCES"))
        # An attribute whose number is not known is in the group, and its value is not compared.
        self.reload("enforce", AttributeMaxBufferSize=None)
        self.outcome(other, {(SIZE, 4096): "EACCES"})
        self.outcome(mine, {(SIZE, 1 << 40): "ENXIO", (SPU, OTHER): "EACCES"})

        self.reload("off")
        self.assertEqual((self.host()["gate"], self.host()["gateReason"]), ("off", "the configuration says Gate=off"))
        self.outcome(other, {(INIT, None): "ENXIO"})
        self.daemon.until(lambda: not any(s.name.startswith("gate-") for s in self.daemon.store), "none is kept")
        self.reload("enforce")
        self.outcome(mine, {(INIT, None): "ENXIO", (SPU, MINE): "ENXIO", (SPU, OTHER): "EACCES"})
        self.outcome(other, {(INIT, None): "EACCES"})
        self.daemon.call("Release", leaseId=lease)
        self.outcome(mine, {(INIT, None): "EACCES"})

    def test_guesses(self):
        """By numbers that are not known, nothing is refused, nor reported."""
        mine = self.vmm_with_vcpu()
        for missing in ("Capability", "Group", "AttributeSpu", "AttributeInit"):
            self.reload("enforce", **{missing: None})
            host = self.host()
            self.assertEqual(host["gate"], "off")
            self.assertIn("are guesses", host["gateReason"])
            self.assertNotIn("EACCES", [mine.set(group, INIT) for group in (0, 1, 2, 3, GROUP)])
        self.assertEqual((self.refusals(), self.counters()), ([], (0, 0, 0)))

    @unittest.skipIf(ATTACHES, "the kernel has the hook")
    def test_no_hook(self):
        self.assertEqual(self.host()["gate"], "off")
        self.assertIn("level enforce cannot be had: ", self.host()["gateReason"])
        self.assertEqual(self.vmm_with_vcpu().set(GROUP, INIT), "ENXIO")


@NEEDS_GATE
class TestKept(Case):
    """systemd keeps what is stored there while there is no broker."""

    def test_killed(self):
        mine, other, ends = self.vmm_with_vcpu(), self.vmm_with_vcpu(), self.vmm_with_vcpu()
        lease, _ = self.lease(mine), self.lease(ends)
        self.daemon.until(lambda: sum(s.name.startswith("gate-") for s in self.daemon.store) == 4, "all is stored")
        names = [name for name in self.daemon.names() if name.startswith("gate-")]
        self.daemon.kill()
        for start in (lambda: None, self.daemon.start):
            start()
            self.outcome(mine, {(INIT, None): "ENXIO", (SPU, MINE): "ENXIO", (SPU, OTHER): "EACCES"})
            self.outcome(other, {(INIT, None): "EACCES"})
            ends.end()  # what it was allowed, nobody is any more
        self.assertEqual([name for name in self.daemon.names() if name.startswith("gate-")], names)
        self.assertEqual([l["leaseId"] for l in self.daemon.call("ListLeases")["leases"]], [lease])
        self.assertEqual(self.told(1)[-1]["pid"], mine.pid)  # the last broker was not told of any
        self.daemon.call("Release", leaseId=lease)
        self.outcome(mine, {(INIT, None): "EACCES"})


class TestOthers(Case):
    """Daemons of their own."""

    new_broker = machine.TestCase.new_broker

    def test_auto(self):
        """The whole daemon, on the real host. It ends with all that it has."""
        daemon = self.new_broker(config=config("auto", Group=OTHER_GROUP))
        daemon.start()
        host = daemon.call("Describe")["host"]
        self.assertEqual(host["gate"], "log" if ATTACHES else "off", host["gateReason"])
        if ATTACHES:
            self.assertIn("unless the configuration says Gate=enforce", host["gateReason"])
            self.assertEqual(self.vmm_with_vcpu().set(OTHER_GROUP, INIT), "ENXIO")
            self.assertEqual(daemon.counters()["gate-reported"], 1)

    @unittest.skipUnless(ARM64 and ATTACHES, "no KVM here has attributes like SPE's")
    def test_real_attributes(self):
        """A VCPU's PMU has the like (test_guest.py), so here KVM says yes to what the gate lets through; and the broker's
        own question to KVM is not refused."""
        numbers = {"Capability": 126, "Feature": PMU_FEATURE, "Group": 0, "AttributeIrq": 0, "AttributeSpu": 3,
                   "AttributeMaxBufferSize": 2, "AttributeInit": 1}
        kind = int(PMU_TYPE.read_text())
        daemon = harness.Broker(self.directory(), config=config("enforce", **numbers),
                                tree=lambda root: two_spus(root, types=(kind, OTHER), kvm="/dev/kvm"))
        self.addCleanup(daemon.stop)
        daemon.start()
        self.assertEqual(daemon.instance("arm_spe_0")["guest"], "yes")
        mine = self.vmm_with_vcpu(feature=PMU_FEATURE)
        self.assertEqual(mine.set(0, 3, kind), "EACCES")
        daemon.call("Acquire", request={"vm": "web1", "vcpus": 1, "cpus": "0-3", "pid": mine.pid})
        self.assertEqual((mine.set(0, 3, kind), mine.set(0, 3, OTHER)), ("", "EACCES"))
        daemon.stop()
        self.assertEqual(mine.set(0, 3, OTHER), "ENXIO", "it ends with a daemon that nothing is kept for")


if __name__ == "__main__":
    machine.main()
