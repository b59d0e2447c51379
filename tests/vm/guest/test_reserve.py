# SPDX-License-Identifier: LGPL-2.1-or-later
"""Level reserve's hand alone: disabled CPU-wide events as locks (bpf/reserve.h), against a PMU that excludes as a real
SPU does, on a real kernel, with CPUs that go off line, PMUs that go away, and a module that is to be unloaded."""

import os
import pathlib
import subprocess

import machine
import perf
from harness import DEADLINE, ready

SHELL = pathlib.Path(os.environ.get("SPE_BUILD_DIR", ".")) / "tests/vm/reserve-shell"
# From here on a PMU can go away while there are events on it; before, whoever takes it away waits for ever, or worse.
UNBIND_WITH_EVENTS = (6, 15)


class Shell:
    """A process that holds and asks."""

    def __init__(self, test):
        self.process = subprocess.Popen([SHELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        test.addCleanup(self.close)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(DEADLINE) == 0

    def say(self, *words):
        print(*words, file=self.process.stdin)
        assert ready([self.process.stdout.fileno()], DEADLINE), f"no answer to {words}"
        return self.process.stdout.readline().removesuffix("\n")


class TestReserve(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.first, self.second = self.driver.type(0), self.driver.type(1)
        self.shell = Shell(self)

    def hold(self, pmu_type, cpu):
        self.assertEqual(self.shell.say("hold", pmu_type, cpu), "ok")

    def foreign(self, *arguments, **kwargs):
        """Somebody else's event, until it is closed or the test ends."""
        file = os.fdopen(perf.event(*arguments, **kwargs), "rb", buffering=0)
        self.addCleanup(file.close)
        return file

    def test_try(self):
        for pmu_type, cpu, expected in ((self.first, 0, "ok"), (self.second, 0, "off-line"), (self.second, 3, "ok"),
                                        (4_000_000_000, 0, "off-line"), (self.first, 4000, "off-line")):
            with self.subTest(pmu_type=pmu_type, cpu=cpu):
                self.assertEqual(self.shell.say("try", pmu_type, cpu), expected)
        # The kernel's own clock lets any number of events on a CPU.
        self.assertEqual(self.shell.say("try", 1, 0), "shared")
        file = self.foreign(self.first, cpu=0)
        self.assertEqual(self.shell.say("try", self.first, 0), "busy")
        self.assertEqual(self.shell.say("try", self.first, 1), "ok")
        file.close()
        self.assertEqual(self.shell.say("try", self.first, 0), "ok")

    def test_hold(self):
        """No other on this CPU, and none that is bound to a task on the whole instance; the other is not touched."""
        other = self.vmm().pid
        self.hold(self.first, 0)
        self.hold(self.first, 0)
        self.assertEqual(perf.outcome(self.first, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, cpu=1), "")
        for pid in (0, other):
            for cpu in (-1, 0, 1):
                with self.subTest(pid=pid, cpu=cpu):
                    self.assertEqual(perf.outcome(self.first, pid=pid, cpu=cpu), "EBUSY")
            self.assertEqual(perf.outcome(self.second, pid=pid), "")
        for cpu in (2, 3):
            self.assertEqual(perf.outcome(self.second, cpu=cpu), "")

        self.assertEqual(self.shell.say("release", 0), "")
        self.assertEqual(perf.outcome(self.first, cpu=0), "")
        self.assertEqual(perf.outcome(self.first, pid=other), "")

    def test_ends_with_its_process(self):
        self.hold(self.first, 1)
        self.assertEqual(perf.outcome(self.first, cpu=1), "EBUSY")
        self.shell.close()
        self.assertEqual(perf.outcome(self.first, cpu=1), "")

    def test_ask(self):
        def ask(pmu_type, cpu):
            return self.shell.say("ask", pmu_type, cpu)

        file = self.foreign(self.first, cpu=0)
        self.assertEqual([ask(self.first, 0), ask(self.first, 1), ask(self.second, 2)], ["busy", "ok", "ok"])
        self.assertEqual(self.shell.say("hold", self.first, 0), "busy")
        self.assertEqual(self.shell.say("held"), "")
        file.close()
        self.assertEqual(ask(self.first, 0), "ok")

        file = self.foreign(self.first, pid=0)
        self.assertEqual([ask(self.first, 0), ask(self.first, 1), ask(self.second, 2)], ["busy", "busy", "ok"])
        self.assertEqual(self.shell.say("hold", self.first, 1), "busy")
        file.close()
        self.hold(self.first, 1)
        # A CPU that is held is no question.
        self.assertEqual(ask(self.first, 1), "ok")
        self.assertEqual(perf.outcome(self.first, cpu=0), "")

    def test_ask_thread(self):
        """Which of two tasks has one: asking for the CPU cannot tell."""
        mine, other = os.getpid(), self.vmm().pid

        def ask():
            return [self.shell.say("ask-thread", self.first, pid) for pid in (mine, other, 4_000_000)]

        self.assertEqual(ask(), ["ok", "ok", "off-line"])
        first, second = (self.foreign(self.first, pid=pid) for pid in (0, other))
        self.assertEqual(ask(), ["busy", "busy", "off-line"])
        first.close()
        self.assertEqual(ask(), ["ok", "busy", "off-line"])
        second.close()
        self.assertEqual(ask(), ["ok", "ok", "off-line"])

    def test_mapped(self):
        """Closed, but still mapped: the kernel says that it is there."""
        file = self.foreign(self.first, cpu=0)
        unmap = perf.map_alone(file.fileno())
        file.close()
        self.assertEqual(self.shell.say("ask", self.first, 0), "busy")
        unmap()
        self.assertEqual(self.shell.say("ask", self.first, 0), "ok")

    def test_off_line(self):
        """What was held there locks nothing on the CPU that is back, but goes on keeping task-bound ones off."""
        self.hold(self.second, 2)
        self.hold(self.second, 3)
        self.cpu(3, False)
        self.assertEqual(self.shell.say("ask", self.first, 3), "off-line")
        self.cpu(3, True)
        self.assertEqual(perf.outcome(self.second, cpu=3), "", "it went on locking")
        self.assertEqual(perf.outcome(self.second, cpu=2), "EBUSY")
        self.assertEqual(self.shell.say("look", "0-3"), "2")
        self.hold(self.second, 3)
        self.assertEqual(perf.outcome(self.second, cpu=3), "EBUSY")

        self.cpu(3, False)
        self.assertEqual(self.shell.say("look", "0-2"), "2")
        self.assertEqual(self.shell.say("hold", self.second, 3), "off-line")
        self.cpu(3, True)
        self.hold(self.second, 3)
        self.assertEqual(self.shell.say("look", "0-3"), "2-3")

    def test_dead_event_is_in_the_way(self):
        """Of task-bound ones, until it is let go of."""
        self.hold(self.second, 3)
        self.cpu(3, False)
        self.cpu(3, True)
        self.assertEqual(perf.outcome(self.second, pid=0), "EBUSY")
        self.assertEqual(self.shell.say("look", "0-3"), "")
        self.assertEqual(perf.outcome(self.second, pid=0), "")

    def test_somebody_was_faster(self):
        self.hold(self.second, 3)
        self.cpu(3, False)
        self.assertEqual(self.shell.say("look", "0-2"), "")
        self.cpu(3, True)
        file = self.foreign(self.second, cpu=3)
        self.assertEqual(self.shell.say("hold", self.second, 3), "busy")
        file.close()
        self.hold(self.second, 3)

    def test_pins_the_module(self):
        """That is the price; it ends with what is held."""
        self.hold(self.first, 0)
        with self.assertRaises(machine.CalledProcessError) as caught:
            self.driver.unload()
        self.assertIn("in use", caught.exception.stderr)
        self.assertEqual(self.shell.say("release", 0), "")
        self.driver.unload()
        self.assertEqual(self.shell.say("hold", self.first, 0), "off-line")

    def test_unbound(self):
        """A PMU that goes away alone, and comes back under its old type, or as another has it meanwhile."""
        if machine.RELEASE < UNBIND_WITH_EVENTS:
            self.skipTest("this kernel cannot take a PMU away that has events")
        self.hold(self.first, 0)
        self.hold(self.second, 2)
        self.driver.unbind(0)
        self.assertEqual(self.shell.say("look", "0-3"), "2")
        self.hold(self.second, 3)
        self.driver.bind(0)
        again = self.driver.type(2)  # a name is not used twice
        self.hold(again, 0)
        self.assertEqual(perf.outcome(again, cpu=0), "EBUSY")

        # Not looked at in between: the type is there, and what was held of it locks nothing.
        self.driver.unbind(0)
        self.driver.bind(0)
        self.assertEqual(self.driver.type(3), again)
        self.assertEqual(perf.outcome(again, cpu=0), "")
        self.assertEqual(self.shell.say("look", "0-3"), "2-3")
        self.hold(again, 0)
        self.assertEqual(perf.outcome(again, cpu=0), "EBUSY")

    def test_denied(self):
        """Without the privilege it says so, and holds nothing."""
        process = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", SHELL], text=True,
                                 input=f"try {self.first} 0\nhold {self.first} 0\nheld\n", capture_output=True,
                                 timeout=DEADLINE, check=True)
        self.assertEqual(process.stdout.split("\n"), ["denied", "denied", "", ""])


if __name__ == "__main__":
    machine.main()
