# SPDX-License-Identifier: LGPL-2.1-or-later
"""Restart after restart, of all kinds: no lease is lost, and at no moment is a host session let in on a CPU of one."""

import collections
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest

import bpf
import outlive
import packages
import perf
import service
import system
from outlive import LEASED
from service import speadm
from system import ADDRESS, RUNTIME, SERVICE, run, show, systemctl

RESTARTS, SOME_RESTARTS = 20, 6
VMS = 200
FUTURE = {"of a version to come": [1, {"two": None}]}


class Opener:
    """A process of the host that opens a CPU-wide event on one CPU again and again. How often each outcome was, it says
    in the end."""

    def __init__(self, pmu_type, cpu):
        self.reader, writer = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            with contextlib.suppress(BaseException):
                self.work(writer, pmu_type, cpu)
            os._exit(0)
        os.close(writer)

    @staticmethod
    def work(writer, pmu_type, cpu):
        os.nice(19)  # it is to use gaps, not to make them longer
        outcomes, done = collections.Counter(), []
        signal.signal(signal.SIGTERM, lambda *_: done.append(True))
        while not done:
            outcomes[perf.outcome(pmu_type, cpu=cpu)] += 1
        os.write(writer, json.dumps(outcomes).encode())

    def stop(self):
        os.kill(self.child, signal.SIGTERM)
        os.waitpid(self.child, 0)
        with open(self.reader, encoding="utf-8") as pipe:
            return json.load(pipe)


def wait_for_next(pid):
    """Until another daemon than this one serves."""

    def serves():
        now = system.properties("MainPID", "ActiveState")
        return now["ActiveState"] == "active" and int(now["MainPID"]) not in (0, pid)

    system.wait_until(serves, "the next one")


def kill(code):
    pid = system.main_pid()
    os.kill(pid, code)
    wait_for_next(pid)


class TestNoGap(outlive.TestCase):
    def refused_throughout(self, n, *ways):
        """Of so many restarts one after another, in these ways by turns."""
        opener = Opener(self.types[LEASED // 2], LEASED)
        try:
            for i in range(n):
                ways[i % len(ways)]()
                self.assertEqual(service.leases(), [self.before], f"restart {i}")
        finally:
            outcomes = opener.stop()
        self.assertEqual(set(outcomes), {"EBUSY"}, outcomes)
        self.assertGreater(outcomes["EBUSY"], 100)
        self.assertEqual(show("ActiveState"), "active")
        print(f"{n} restarts, {outcomes['EBUSY']} opens, all refused")

    def restarted(self, level, n):
        self.configure(f"[Arbitration]\nLevel={level}\n")
        speadm("reload")
        self.assertEqual(outlive.host()["level"], level)
        self.assertEqual(self.opens()[LEASED], "EBUSY")
        self.refused_throughout(n, lambda: kill(signal.SIGKILL), lambda: systemctl("restart", SERVICE),
                                lambda: kill(signal.SIGTERM))
        self.ends()

    @unittest.skipUnless(bpf.ENFORCES, "this kernel does not refuse with BPF")
    def test_enforce(self):
        self.restarted("enforce", RESTARTS)

    def test_reserve(self):
        self.restarted("reserve", SOME_RESTARTS if bpf.ENFORCES else RESTARTS)

    def test_watchdog(self):
        """A daemon that hangs is ended by systemd, and another takes over."""
        system.drop_in("50-watchdog", "WatchdogSec=3s")
        self.addCleanup(system.remove_drop_in, "50-watchdog")
        systemctl("restart", SERVICE)
        opener = Opener(self.types[LEASED // 2], LEASED)
        journal = system.Journal(UNIT=SERVICE)
        try:
            kill(signal.SIGSTOP)
        finally:
            outcomes = opener.stop()
        self.assertTrue(any("'watchdog'" in message for message in journal.messages()), journal.messages())
        self.assertEqual(set(outcomes), {"EBUSY"}, outcomes)
        self.lives()

    def test_opener(self):
        """It does tell where it is let in: while the unit is stopped."""
        opener = Opener(self.types[LEASED // 2], LEASED)
        systemctl("stop", SERVICE)
        system.wait_until(lambda: self.opens()[LEASED] == "", "the CPU is open")
        systemctl("start", SERVICE)
        self.assertIn("", opener.stop())

    def test_a_newer_version_was_there(self):
        """What it has written of its own into the lease's file is still there when the next newer one comes."""
        path = RUNTIME / "leases" / self.lease
        text = json.loads(path.read_text())
        path.write_text(json.dumps(text | FUTURE))
        systemctl("restart", SERVICE)
        self.lives()
        speadm("revoke", "--grace", "1h", self.lease)
        (lease,) = service.leases()
        self.assertEqual(lease["state"], "revoking")
        now = json.loads(path.read_text())
        self.assertEqual({key: value for key, value in now.items() if key in FUTURE}, FUTURE)
        self.assertNotEqual(now["state"], text["state"], "it was written anew")
        systemctl("restart", SERVICE)
        (again,) = service.leases()
        self.assertEqual(again | {"remainingUSec": 0}, lease | {"remainingUSec": 0})
        self.assertLessEqual(again["remainingUSec"], lease["remainingUSec"], "the grace went on")


class TestMany(service.TestCase):
    """An upgrade while two hundred VMs hold leases. Simulated: the machine has not that many CPUs."""

    def setUp(self):
        super().setUp()
        self.vmms = []
        self.addCleanup(self.end)
        for _ in range(VMS):
            self.vmms.append(subprocess.Popen(["tail", "-f", "/dev/null"], stdin=subprocess.DEVNULL))
        self.empty = int(show("NFileDescriptorStore"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(system.DEADLINE)
            client.connect(str(ADDRESS))
            for i, vmm in enumerate(self.vmms):
                self.acquire(client, f"vm{i}", vmm.pid)

    def end(self):
        for vmm in self.vmms:
            vmm.kill()
            vmm.wait()
        self.vmms = []

    def acquire(self, client, name, pid):
        request = {"vm": name, "vcpus": 1, "bufferSize": 4096, "pid": pid}
        call = {"method": "io.spebroker.Broker.Acquire", "parameters": {"request": request}}
        client.sendall(json.dumps(call).encode() + b"\0")
        reply = b""
        while not reply.endswith(b"\0"):
            reply += client.recv(65536)
        self.assertNotIn("error", json.loads(reply[:-1]), reply)

    def test_all_live(self):
        before = service.leases()
        self.assertEqual(len(before), VMS)
        system.wait_until(lambda: int(show("NFileDescriptorStore")) >= self.empty + VMS, "the pidfds of their owners")
        for way in (lambda: run("dpkg", "--install", *packages.files()), lambda: kill(signal.SIGKILL),
                    lambda: systemctl("restart", SERVICE)):
            way()
            self.assertEqual(service.leases(), before)
            self.assertGreaterEqual(int(show("NFileDescriptorStore")), self.empty + VMS)
        systemctl("stop", SERVICE)
        for vmm in self.vmms[::2]:
            vmm.kill()
            vmm.wait()
        systemctl("start", SERVICE)
        alive = {vmm.pid for vmm in self.vmms[1::2]}
        self.assertEqual(service.leases(), [lease for lease in before if lease["owner"]["pid"] in alive])
        self.end()
        system.wait_until(lambda: not service.leases(), "all have ended")
        system.wait_until(lambda: int(show("NFileDescriptorStore")) <= self.empty, "nothing of them is kept")
        self.assertEqual(list((RUNTIME / "leases").iterdir()), [])


class TestVersions(service.TestCase):
    """To a version that is newer, and back."""

    def newer(self):
        """The package as it is, but for its version."""
        (package,) = [path for path in packages.files() if "/spe-broker_" in path]
        directory = pathlib.Path("/tmp/spe-broker-newer")
        self.addCleanup(run, "rm", "-rf", directory, f"{directory}.deb")
        run("dpkg-deb", "--raw-extract", package, directory)
        control = directory / "DEBIAN/control"
        lines = [f"{line}+newer" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
        control.write_text("\n".join(lines) + "\n")
        run("dpkg-deb", "--root-owner-group", "--build", directory, f"{directory}.deb")
        return f"{directory}.deb", package

    def test_upgrade_and_downgrade(self):
        vmm, before = self.vmm(), service.leases()
        self.assertEqual([lease["leaseId"] for lease in before], [vmm.lease])
        for package, suffix in zip(self.newer(), ("+newer", "")):
            pid = system.main_pid()
            run("dpkg", "--install", package)
            version = run("dpkg-query", "-W", "-f=${Version}", "spe-broker")
            self.assertEqual(version.endswith("+newer"), bool(suffix), version)
            self.assertNotIn(system.main_pid(), (0, pid))
            self.assertEqual(service.leases(), before)
