# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests in a VM share: the test PMU, the machine's CPUs, and a broker on the real /sys, by its own paths.

A test here is a file test_*.py that the VM's root runs, alone, with tests/daemon on its path and these variables:
SPE_BROKER and SPEADM name the programs, SPE_VM_MODULE the test PMU's module, SPE_VM_KERNEL the kernel that was asked
for, SPE_BUILD_DIR the build. Its exit status is 0, 1, or 77 with the reason in its last line; it leaves the machine as
it was. One machine runs them all, one after the other."""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
from subprocess import CalledProcessError

import harness
from harness import DEADLINE, wait_for

SPEADM = os.environ.get("SPEADM", "")
MODULE = os.environ.get("SPE_VM_MODULE", "")
DEVICES = pathlib.Path("/sys/bus/event_source/devices")
CPUS = pathlib.Path("/sys/devices/system/cpu")
PARAMETERS = pathlib.Path("/sys/module/arm_spe_pmu/parameters")
ARM64 = platform.machine() == "aarch64"
RELEASE = tuple(int(number) for number in platform.release().split("-")[0].split("+")[0].split(".")[:2])


class Driver:
    """The test PMU, as a module that is loaded and unloaded."""

    def __init__(self):
        self.loading = None

    def load(self, *cpus, **parameters):
        self.start(*cpus, **parameters)
        self.wait()
        return self

    def start(self, *cpus, **parameters):
        """Loads it without waiting for that to be done."""
        arguments = [f"cpus={';'.join(cpus)}"] + [f"{key}={value}" for key, value in parameters.items()]
        self.loading = subprocess.Popen(["insmod", MODULE, *arguments], stderr=subprocess.PIPE, text=True)

    def wait(self):
        _, errors = self.loading.communicate(timeout=DEADLINE)
        code, self.loading = self.loading.returncode, None
        if code:
            raise AssertionError(f"insmod: {errors}")

    def release(self):
        (PARAMETERS / "release").write_text("1")
        self.wait()

    @staticmethod
    def unbind(device):
        """Takes one PMU away; devices are counted as they were given, names are not kept."""
        (PARAMETERS / "unbind").write_text(str(device))

    @staticmethod
    def bind(device):
        (PARAMETERS / "bind").write_text(str(device))

    def unload(self):
        subprocess.run(["rmmod", "arm_spe_pmu"], check=True, capture_output=True, text=True, timeout=DEADLINE)

    def clear(self):
        """Whatever a test has left."""
        if self.loading:
            self.release()
        if PARAMETERS.parent.exists():
            self.unload()

    @staticmethod
    def type(index):
        return int((DEVICES / f"arm_spe_{index}/type").read_text())


class Broker(harness.Broker):
    """The daemon as the system starts it: without --root."""

    def __init__(self, directory, **kwargs):
        super().__init__(directory, **kwargs)
        self.socket_path = pathlib.Path("/run/spe-broker/io.spebroker.Broker")
        self.arguments = ["--config", str(self.config_path)]


class TestCase(harness.TestCase):
    def setUp(self):
        # Leases outlive the broker, and those that this process owns a test.
        self.addCleanup(shutil.rmtree, "/run/spe-broker/leases", ignore_errors=True)
        self.driver = Driver()
        self.addCleanup(self.driver.clear)

    def new_broker(self, **kwargs):
        broker = Broker(self.directory(), **kwargs)
        self.brokers.append(broker)
        self.addCleanup(broker.stop)
        return broker

    def watch(self, broker):
        """A stream of what changes from now on."""
        stream = self.client(broker).stream("Watch")
        stream.next()
        return stream

    def told(self, stream, **expected):
        """Waits until the stream has said of each instance, last, that it is as described: arm_spe_0={fact: value}.
        In which order the kernel takes them is its own affair. Returns the instances."""
        last = {}
        while not all(name in last and facts.items() <= last[name].items() for name, facts in expected.items()):
            event = stream.until(lambda reply: reply["event"].get("instance"))["event"]
            last[event["instance"]["name"]] = event["instance"]
        return [last[name] for name in expected]

    def cpu(self, number, online):
        """Takes a CPU off line, or back. It is back at the end of the test."""
        file = CPUS / f"cpu{number}/online"
        if not file.exists():
            self.skipTest(f"CPU {number} cannot go off line")
        if not online:
            self.addCleanup(file.write_text, "1")
        file.write_text("1" if online else "0")

    def command(self, *arguments):
        """speadm: exit status, output, errors."""
        result = subprocess.run([SPEADM, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)
        return result.returncode, result.stdout, result.stderr


def write(path, text):
    pathlib.Path(path).write_text(text)


def main():
    if not MODULE:
        print("only in a virtual machine: tests/vm/suite.py")
        sys.exit(77)
    harness.main(needs_uevents=True)


__all__ = ["ARM64", "Broker", "CPUS", "CalledProcessError", "DEVICES", "Driver", "PARAMETERS", "RELEASE", "SPEADM",
           "TestCase", "main", "wait_for", "write"]
