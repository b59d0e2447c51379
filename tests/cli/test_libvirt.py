# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's emulator that is QEMU under a lease: which arguments are a VM's, and what becomes of the process."""

import os
import pathlib
import subprocess
import sys

import cli
import fake
from cli import DONE, REFUSED

WRAPPER = pathlib.Path(os.environ["SPE_SOURCE_DIR"]) / "speadm/libvirt-qemu"
# As libvirt starts QEMU to ask it what it can do (src/qemu/qemu_process.c, qemuProcessQMPLaunch()), and for a VM.
PROBE = ["-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg", "-qmp",
         "unix:/monitor.sock,server=on,wait=off", "-pidfile", "/qemu.pid", "-daemonize"]
VM = ["-name", "guest=web1,debug-threads=on", "-S", "-object", '{"qom-type":"secret","id":"masterKey0"}', "-machine",
      "virt-7.2,usb=off,gic-version=3,dump-guest-core=off,memory-backend=mach-virt.ram", "-accel", "kvm", "-cpu", "host",
      "-m", "4096", "-smp", "4,sockets=4,cores=1,threads=1", "-no-shutdown", "-msg", "timestamp=on"]
# Prints who it is and what it got, a line each.
PROGRAM = f"#!{sys.executable}\n" + """import os, sys
print(os.path.basename(sys.argv[0]), os.getpid(), os.environ.get("SPE_BROKER_LEASE"))
for argument in sys.argv[1:]:
    print(argument)
"""


class TestLibvirt(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.bin = self.directory()
        self.qemu = self.program("qemu")

    def program(self, name):
        path = self.bin / name
        path.write_text(PROGRAM)
        path.chmod(0o755)
        return path

    def run_wrapper(self, *arguments, path=None, expect=DONE, **environment):
        """Who it became, with which pid and lease, and what that one's arguments are."""
        environment = {"SPE_BROKER_QEMU": str(self.qemu)} | environment
        process = subprocess.Popen([WRAPPER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=self.environment(**environment) | {"PATH": str(path or self.bin)})
        self.addCleanup(process.kill)
        out, self.errors = process.communicate(timeout=cli.DEADLINE)
        self.assertEqual(process.returncode, expect, self.errors)
        if not out:
            return None
        first, *rest = out.splitlines()
        name, pid, lease = first.split()
        self.assertEqual(int(pid), process.pid, "it stays one process")
        return name, lease, rest

    def vm(self, *arguments, **environment):
        """What speadm would be told before '--'; behind it must be QEMU with all of its arguments."""
        self.program("speadm")
        name, _, rest = self.run_wrapper(*arguments, **environment)
        self.assertEqual(name, "speadm")
        split = rest.index("--")
        self.assertEqual(rest[split + 1:], [str(self.qemu), *arguments])
        return rest[:split]

    def test_vm(self):
        self.assertEqual(self.vm(*VM), ["run", "--vm", "web1", "--vcpus", "4"])

    def test_names(self):
        for text, name in {"web1": "web1", "guest=web1": "web1", "debug-threads=on,guest=web 1": "web 1",
                           "guest=a,,b,,,debug-threads=on": "a,b,", ",,a": ",a", "process=x,guest=*": "*",
                           "guest=-x": "-x", "guest=a=b": "a=b"}.items():
            with self.subTest(text):
                self.assertEqual(self.vm("-name", text), ["run", "--vm", name, "--vcpus", "1"])

    def test_vcpus(self):
        for text, vcpus in {"4": "4", "cpus=3": "3", "4,maxcpus=8,sockets=8": "8", "maxcpus=6,cpus=2": "6",
                            "sockets=2,cores=3,threads=1": "6",
                            "0x2,sockets=2": "0x2", "sockets=a[0],cores=2": "2"}.items():
            with self.subTest(text):
                self.assertEqual(self.vm("--name", "web", "--smp", text), ["run", "--vm", "web", "--vcpus", vcpus])

    def test_options(self):
        self.assertEqual(self.vm("-name", "web", SPE_BROKER_RUN_OPTIONS="--buffer 1M  --mode *"),
                         ["run", "--vm", "web", "--vcpus", "1", "--buffer", "1M", "--mode", "*"])

    def test_no_vm(self):
        """Then there is no lease to be asked for, and no broker has to be there."""
        for arguments in (PROBE, ["--version"], [], ["-name", ""], ["-name", "debug-threads=on"], ["-name"],
                          ["-name", "web", "-machine", "none"], ["-name", "web", "-M", "accel=tcg,type=none"]):
            with self.subTest(arguments):
                self.assertEqual(self.run_wrapper(*arguments), ("qemu", "None", arguments))

    def test_no_qemu(self):
        self.run_wrapper(*PROBE, SPE_BROKER_QEMU=str(self.bin / "gone"), expect=127)
        self.assertIn("gone", self.errors)

    def run_speadm(self, broker, **kwargs):
        (self.bin / "speadm").symlink_to(cli.SPEADM)
        return self.run_wrapper(*VM, SPE_BROKER_RUN_OPTIONS=f"--socket {broker.path}", **kwargs)

    def test_lease(self):
        """libvirt watches the process that it started: that one has the lease, and is QEMU in the end."""
        lease = fake.lease(cpus=str(sorted(os.sched_getaffinity(0))[0]))
        broker = self.fake(Acquire={"lease": lease, "change": None})
        self.assertEqual(self.run_speadm(broker), ("qemu", lease["leaseId"], VM))
        request = broker.calls[0][1]["request"]
        self.assertEqual((request["vm"], request["vcpus"]), ("web1", 4))

    def test_refused(self):
        broker = self.fake(Acquire=fake.Error("Busy", holders=[fake.holder()]))
        self.assertIsNone(self.run_speadm(broker, expect=REFUSED))
        self.assertIn("speadm: ", self.errors)


if __name__ == "__main__":
    cli.main()
