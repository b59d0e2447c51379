# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases, and what keeps host sessions off, over the death of the broker: systemd keeps it until the unit stops."""

import contextlib
import json
import os
import pathlib
import re
import signal
import unittest

import bpf
import perf
import service
import system
from service import speadm
from system import SERVICE, run, show, systemctl

GATE = pathlib.Path("/run/spe-broker-gate")
DEVICES = pathlib.Path("/sys/bus/event_source/devices")
LEASED, ASSIGNED, FREE = 0, 1, 2  # CPUs; the last is another SPU's


def host():
    return json.loads(speadm("--json", "status"))


def objects(pid):
    """What a process has of BPF: links, their programs, and maps, by their numbers."""
    found = set()
    for path in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            text = path.read_text()
            if "prog_type:" not in text:  # a program that is loaded, and perhaps never run
                found |= set(re.findall(r"^(link_id|prog_id|map_id):\s+(\d+)$", text, re.M))
    return found


def kept(pid):
    """Those that systemd has, too."""
    return objects(pid) & objects(1)


@unittest.skipUnless(os.environ.get("SPE_VM_MODULE"), "no module with test PMUs")
class TestCase(service.TestCase):
    """A lease on one CPU, an assignment on another, on the PMUs of the machine."""

    @classmethod
    def setUpClass(cls):
        run("insmod", os.environ["SPE_VM_MODULE"], "cpus=0-1;2-3")
        cls.addClassCleanup(run, "rmmod", "arm_spe_pmu")
        system.remove_drop_in("10-host")
        cls.addClassCleanup(system.simulate)
        systemctl("restart", SERVICE)
        cls.types = [int((DEVICES / f"arm_spe_{i}/type").read_text()) for i in range(2)]

    def setUp(self):
        super().setUp()
        speadm("assign", "guest", "--cpus", ASSIGNED)
        self.addCleanup(speadm, "unassign", "--cpus", ASSIGNED)
        self.owner = self.vmm("--cpus", str(LEASED), "--vcpus", "1")
        self.lease = self.owner.lease
        self.assertNotEqual(self.lease, "", speadm("refusals"))
        (self.before,) = service.leases()

    def opens(self):
        """What becomes of CPU-wide events: those on the CPUs that are leased, assigned, and free."""
        return [perf.outcome(self.types[cpu // 2], cpu=cpu) for cpu in (LEASED, ASSIGNED, FREE)]

    def level(self):
        status = host()
        self.assertEqual((status["level"], status["levelReason"] is None), bpf.LEVEL, status)
        return status["level"]

    def lives(self):
        """The lease is as it was before, and protects."""
        (lease,) = service.leases()
        self.assertEqual(lease, self.before)
        self.assertEqual(self.opens()[:2], ["EBUSY", "EBUSY"])

    def ends(self):
        """It is a lease like any other: with its owner it ends, and its CPU is open."""
        self.owner.end()
        system.wait_until(lambda: not service.leases(), "the lease ends with its owner")
        system.wait_until(lambda: self.opens()[LEASED] == "", "its CPU is open")


class TestOutlive(TestCase):
    """Between the death of a broker and the next one is a gate: the unit is on its way, and waits there."""

    def close_gate(self):
        os.mkfifo(GATE)
        os.chmod(GATE, 0o644)
        self.addCleanup(GATE.unlink)
        system.drop_in("50-gate", f"ExecStartPre=/bin/sh -c 'read line <{GATE}'")
        self.addCleanup(system.remove_drop_in, "50-gate")
        self.addCleanup(self.let_in)

    @staticmethod
    def let_in():
        """Whoever waits at the gate when a test has failed."""
        with contextlib.suppress(OSError):
            gate = os.open(GATE, os.O_WRONLY | os.O_NONBLOCK)
            os.write(gate, b"\n")
            os.close(gate)

    def open_gate(self):
        """Whoever waits there goes on. Returns when somebody did."""
        with open(GATE, "w", encoding="ascii") as gate:
            gate.write("\n")

    def test_dead_and_back(self):
        level, status = self.level(), host()
        self.assertTrue(status["levelKept"], status)
        self.assertEqual(self.opens(), ["EBUSY", "EBUSY", ""])
        session = perf.event(self.types[1], cpu=FREE)
        self.addCleanup(os.close, session)
        before, pid = self.session(), system.main_pid()
        n_kept = system.wait_until(lambda: int(show("NFileDescriptorStore")), "descriptors in systemd's store")
        ours = kept(pid)
        links = {(kind, number) for kind, number in objects(pid) if kind != "map_id"}
        self.assertEqual(links - ours, set(), "systemd has all of them")
        self.assertEqual({kind for kind, _ in ours}, {"link_id", "prog_id", "map_id"})

        self.close_gate()
        os.kill(pid, signal.SIGKILL)
        system.wait_until(lambda: show("ActiveState") == "activating" and show("MainPID") == "0", "its death")
        self.assertEqual(self.opens(), ["EBUSY", "EBUSY", "EBUSY"], "the last is taken by a session")
        self.assertEqual(int(show("NFileDescriptorStore")), n_kept)
        self.open_gate()
        system.wait_until(lambda: show("ActiveState") == "active", "the next one")

        self.assertNotIn(system.main_pid(), (0, pid))
        self.assertEqual(self.level(), level)
        self.assertTrue(host()["levelKept"])
        self.assertEqual(kept(system.main_pid()), ours, "taken over, each of them")
        self.assertAlmostEqual(self.session(), before, delta=100_000, msg="as the table has had it from the beginning")
        self.lives()
        self.ends()
        self.refuse_again()

    def session(self):
        (session,) = json.loads(speadm("--json", "sessions"))
        self.assertEqual((session["pid"], session["cpu"], session["instance"]), (os.getpid(), FREE, "arm_spe_1"))
        return session["sinceUSec"]

    def refuse_again(self):
        """What was taken over obeys its new master."""
        speadm("assign", "guest", "--cpus", LEASED)
        self.addCleanup(speadm, "unassign", "--cpus", LEASED)
        self.assertEqual(self.opens()[:2], ["EBUSY", "EBUSY"])

    def test_restarted(self):
        """'systemctl restart' has no gap either."""
        self.close_gate()
        ours = kept(system.main_pid())
        systemctl("restart", "--no-block", SERVICE)
        system.wait_until(lambda: show("ActiveState") == "activating" and show("MainPID") == "0", "its end")
        self.assertEqual(self.opens(), ["EBUSY", "EBUSY", ""])
        self.open_gate()
        system.wait_until(lambda: show("ActiveState") == "active", "the next one")
        self.assertEqual(kept(system.main_pid()), ours)
        self.lives()

    def test_stopped(self):
        """Nothing is left of it, in systemd or in the kernel. Started again it knows its leases but those whose owners
        have gone."""
        mortal = self.vmm("--cpus", str(FREE), "--vcpus", "1")
        self.assertEqual(self.opens(), ["EBUSY", "EBUSY", "EBUSY"])
        self.assertEqual({lease["leaseId"] for lease in service.leases()}, {self.lease, mortal.lease})
        ours = objects(system.main_pid())
        systemctl("stop", SERVICE)
        system.wait_until(lambda: self.opens() == ["", "", ""], "all CPUs are open")
        self.assertEqual(int(show("NFileDescriptorStore")), 0)
        system.wait_until(lambda: not bpf.existing(ours), "no program, map or link of it exists")
        mortal.end()
        systemctl("start", SERVICE)
        self.lives()
        self.assertEqual(self.opens()[FREE], "")

    def test_privileges(self):
        """Debian's kernels want more than others, which the package's drop-in gives; without it, it is said what is
        missing, and nothing is where the kernel wants no more."""
        self.addCleanup(systemctl, "restart", SERVICE)
        name = "10-perf-event-paranoid"
        system.drop_in(name)  # in /run, it takes the place of the package's
        self.addCleanup(system.remove_drop_in, name)
        systemctl("restart", SERVICE)
        status = host()
        self.assertEqual(status["level"], "none", status)
        self.assertIn("perf_event_paranoid", status["levelReason"])
        system.set_paranoid(2)
        self.addCleanup(system.set_paranoid, 3)
        systemctl("restart", SERVICE)
        self.level()
