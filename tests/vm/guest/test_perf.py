# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test PMU is to perf what a real SPU is: whatever the broker learns from it about sessions counts. The rules are
those of drivers/perf/arm_spe_pmu.c and, for PMUs that exclude, of kernel/events/core.c."""

import os
import unittest

import machine
import perf
from sizes import MIB

PA_ENABLE, PCT_ENABLE = 1 << 1, 1 << 2


class TestPerf(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3", max_buff_size=MIB)
        self.first, self.second = self.driver.type(0), self.driver.type(1)

    def hold(self, *arguments, **kwargs):
        fd = perf.event(*arguments, **kwargs)
        self.addCleanup(self.close, fd)
        return fd

    @staticmethod
    def close(fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def other_task(self):
        """Another process's pid, until the end of the test."""
        process = self.vmm()
        return process.pid

    def test_cpus(self):
        for cpu, expected in ((0, ""), (1, ""), (2, "ENOENT"), (3, "ENOENT")):
            with self.subTest(cpu=cpu):
                self.assertEqual(perf.outcome(self.first, cpu=cpu), expected)
        self.assertEqual(perf.outcome(self.second, cpu=2), "")

    def test_attributes(self):
        for flags, expected in ((perf.EXCLUDE_IDLE, "EOPNOTSUPP"), (perf.FREQ, "EINVAL"), (0, "")):
            with self.subTest(flags=flags):
                self.assertEqual(perf.outcome(self.first, cpu=0, flags=flags), expected)

    def test_privileged(self):
        """Physical addresses and time are for those with CAP_PERFMON, also in their own task."""
        def unprivileged(config):
            pid = os.fork()
            if pid == 0:
                os.setresuid(65534, 65534, 65534)
                os._exit({"": 0, "EACCES": 1}.get(perf.outcome(self.first, pid=0, config=config), 2))
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        paranoid = "/proc/sys/kernel/perf_event_paranoid"
        with open(paranoid, encoding="ascii") as file:
            self.addCleanup(machine.write, paranoid, file.read())
        machine.write(paranoid, "2")
        # Its own task, and not the kernel's part of it.
        for config, expected in ((PA_ENABLE, 1), (PCT_ENABLE, 1)):
            self.assertEqual(unprivileged(config), expected)
            self.assertEqual(perf.outcome(self.first, pid=0, config=config), "")

    def test_cpu_wide(self):
        self.hold(self.first, cpu=0)
        self.assertEqual(perf.outcome(self.first, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, cpu=1), "")
        self.assertEqual(perf.outcome(self.second, cpu=2), "")
        for pid in (0, self.other_task()):
            self.assertEqual(perf.outcome(self.first, pid=pid), "EBUSY")
            self.assertEqual(perf.outcome(self.first, pid=pid, cpu=1), "EBUSY")
            self.assertEqual(perf.outcome(self.second, pid=pid), "")

    def test_task(self):
        fd = self.hold(self.first, pid=0)
        self.assertEqual(perf.outcome(self.first, pid=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, pid=0, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, pid=self.other_task()), "")
        self.assertEqual(perf.outcome(self.first, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.second, cpu=2), "")
        os.close(fd)
        self.assertEqual(perf.outcome(self.first, cpu=0), "")

    def test_task_on_cpu(self):
        self.hold(self.first, pid=0, cpu=0)
        self.assertEqual(perf.outcome(self.first, pid=0, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, pid=0, cpu=1), "")

    def test_off_line(self):
        self.cpu(3, False)
        self.assertEqual(perf.outcome(self.second, cpu=3), "ENODEV")
        self.cpu(3, True)
        self.assertEqual(perf.outcome(self.second, cpu=3), "")

    def test_aux(self):
        """A buffer of the size that the capability allows, and none beyond."""
        fd = self.hold(self.first, cpu=0)
        self.assertNotEqual(perf.map_aux(fd, 2 * MIB), "")
        self.assertEqual(perf.map_aux(fd, MIB), "")

    def test_pins_the_module(self):
        fd = self.hold(self.first, cpu=0)
        with self.assertRaises(machine.CalledProcessError) as caught:
            self.driver.unload()
        self.assertIn("in use", caught.exception.stderr)
        os.close(fd)
        self.driver.unload()

    def test_types_are_not_kept(self):
        """Loaded again, the PMUs have the first numbers that are free: a type says nothing of what it was before."""
        self.driver.unload()
        self.assertEqual(perf.outcome(self.first, cpu=0), "ENOENT")
        self.driver.load("2-3", "0-1")
        self.assertEqual({self.driver.type(0), self.driver.type(1)}, {self.first, self.second})


class TestParameters(unittest.TestCase):
    def test_refused(self):
        """What makes no PMU makes no module."""
        driver = machine.Driver()
        for cpus in ("", "x", "0;", "0;;1"):
            with self.subTest(cpus), self.assertRaises(AssertionError):
                driver.load(cpus)
        self.assertFalse(machine.PARAMETERS.parent.exists())


if __name__ == "__main__":
    machine.main()
