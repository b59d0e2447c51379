# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU itself under a lease, as docs/RECIPES.md has it: by `speadm run`, and as libvirt starts it. No guest runs."""

import contextlib
import json
import os
import pathlib
import select
import shlex
import signal
import socket
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "daemon")]

import fetch  # noqa: E402
import harness  # noqa: E402

SPEADM = os.environ["SPEADM"]
WRAPPER = HERE.parent.parent / "speadm/libvirt-qemu"
MACHINE = ["-machine", "virt", "-S", "-nodefaults", "-display", "none"]


class Monitor:
    """QMP: a greeting, then an answer for each command."""

    def __init__(self, output, input):
        self.output, self.input = output, input
        self.greeting = json.loads(output.readline())["QMP"]
        self.call("qmp_capabilities")

    def call(self, command):
        self.input.write(json.dumps({"execute": command}) + "\n")
        self.input.flush()
        while "return" not in (reply := json.loads(self.output.readline())):
            assert "event" in reply, reply
        return reply["return"]


class TestQemu(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.command = fetch.qemu()("arm64")
        except (OSError, subprocess.CalledProcessError) as error:
            raise unittest.SkipTest(f"QEMU cannot be fetched: {error}") from error

    def setUp(self):
        super().setUp()
        self.daemon = self.broker(simulate="biglittle")

    def spawn(self, command, **environment):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env=os.environ | environment)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait, harness.DEADLINE)
        self.addCleanup(process.kill)
        return process

    def libvirt(self, *arguments):
        """As libvirt starts it: one program, with QEMU's arguments."""
        program = self.directory() / "qemu"
        program.write_text(f"#!/bin/sh\nexec {shlex.join(self.command)} \"$@\"\n")
        program.chmod(0o755)
        path = f"{pathlib.Path(SPEADM).parent}:{os.environ['PATH']}"
        return self.spawn([WRAPPER, *arguments], PATH=path, SPE_BROKER_QEMU=str(program),
                          SPE_BROKER_RUN_OPTIONS=f"--socket {self.daemon.socket_path}")

    @staticmethod
    def kill(pidfd):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def check_vm(self, process):
        """It has a lease, stays on its CPUs, and takes it along at its end."""
        monitor = Monitor(process.stdout, process.stdin)
        vcpus = monitor.call("query-cpus-fast")
        lease, = self.daemon.call("ListLeases")["leases"]
        self.assertEqual((lease["owner"]["pid"], lease["vm"], lease["vcpus"], len(vcpus)), (process.pid, "web1", 2, 2))
        first, _, last = lease["cpus"].partition("-")
        for vcpu in vcpus:
            cpus = os.sched_getaffinity(vcpu["thread-id"])
            self.assertLessEqual(cpus, set(range(int(first), int(last or first) + 1)))
        monitor.call("quit")
        self.assertEqual(process.wait(harness.DEADLINE), 0)
        harness.wait_for(lambda: not self.daemon.call("ListLeases")["leases"], "the lease's end")

    def test_run(self):
        self.check_vm(self.spawn([SPEADM, "--socket", str(self.daemon.socket_path), "run", "--vm", "web1", "--vcpus",
                                  "2", "--", *self.command, *MACHINE, "-smp", "2", "-qmp", "stdio"]))

    def test_libvirt(self):
        self.check_vm(self.libvirt("-name", "guest=web1,debug-threads=on", *MACHINE, "-smp", "2,sockets=2", "-qmp",
                                   "stdio"))

    def test_libvirt_asks(self):
        """What QEMU can do is asked of one that goes into the background."""
        directory = self.directory()
        path, pidfile = directory / "qmp", directory / "pid"
        process = self.libvirt("-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg",
                               "-qmp", f"unix:{path},server=on,wait=off", "-pidfile", str(pidfile), "-daemonize")
        self.assertEqual(process.wait(harness.DEADLINE), 0)
        background = os.pidfd_open(int(pidfile.read_text()))
        self.addCleanup(os.close, background)
        self.addCleanup(self.kill, background)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.DEADLINE)
            connection.connect(str(path))
            with connection.makefile("rw") as stream:
                monitor = Monitor(stream, stream)
                self.assertIn("version", monitor.greeting)
                self.assertEqual(self.daemon.call("ListLeases")["leases"], [])
                monitor.call("quit")
        self.assertTrue(select.select([background], [], [], harness.DEADLINE)[0], "it is gone")


if __name__ == "__main__":
    harness.main()
