# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ends of host sessions, at level observe on this machine's own kernel: whichever way a session ends, it is told
of, and a lease that waits for it is granted. The PMU does not exclude, as an SPU would: that the kernel can be asked
is for a virtual machine to show (tests/vm/guest/test_doubt.py)."""

import os
import signal
import sys

import harness
import profiler
from profiler import Profiler

OBSERVE = "[Arbitration]\nLevel=observe\n"
LONG = 60 * 10**6
CPU = 1


class TestCloses(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(tree=profiler.tree, config=OBSERVE)
        host = self.daemon.call("Describe")["host"]
        if host["level"] != "observe":
            self.skipTest(f"level {host['level']}: {host['levelReason']}")
        self.process = self.profiler()
        self.stream = self.client(self.daemon).stream("Watch")
        self.stream.next()

    def profiler(self):
        process = Profiler()
        self.addCleanup(process.kill)
        return process

    def told(self, change):
        """The session of our process, when that is told of it."""
        return self.stream.until(
            lambda reply: (event := reply["event"].get("session")) and event["change"] == change
            and event["session"]["pid"] == self.process.pid)["event"]["session"]["session"]

    def open(self, **kwargs):
        fd = self.process.open(**(kwargs or {"cpu": CPU}))
        self.told("opened")
        return fd

    def listed(self):
        return [s for s in self.daemon.call("ListSessions")["sessions"] if s["pid"] == self.process.pid]

    def wait_for_it(self):
        """A lease that waits for the session."""
        stream = self.client(self.daemon).stream(
            "Acquire", request={"vm": "vm", "vcpus": 1, "cpus": f"{CPU}", "bufferSize": 4096}, waitUSec=LONG)
        self.assertEqual(stream.next()["change"], "queued")
        return stream

    def ends(self, *ends):
        """Each but the last of these calls leaves the session open; then it is told of, and the lease granted."""
        lease = self.wait_for_it()
        for end in ends[:-1]:
            end()
            marker = self.client(self.daemon).call("ListSessions")["sessions"]
            self.assertIn(self.process.pid, [session["pid"] for session in marker])
            self.assertEqual(len(self.listed()), 1)
        self.assertFalse(harness.ready([lease.client.socket.fileno()], 0))
        ends[-1]()
        self.assertEqual(self.told("closed")["cpus"], f"{CPU}")
        self.assertEqual(lease.next()["change"], "granted")
        self.assertEqual(self.listed(), [])

    def test_close(self):
        fd = self.open()
        self.ends(lambda: self.process.close(fd))

    def test_close_task(self):
        """Bound to the lease's own process, which is another one than has it."""
        vmm, client = self.vmm(self.daemon)
        fd = self.open(pid=vmm.pid, cpu=CPU)
        stream = client.stream("Acquire", request={"vm": "vm", "vcpus": 1, "cpus": f"{CPU}", "bufferSize": 4096},
                               waitUSec=LONG)
        self.assertEqual(stream.next()["change"], "queued")
        self.process.close(fd)
        self.told("closed")
        self.assertEqual(stream.next()["change"], "granted")

    def test_dup2_over_it(self):
        fd = self.open()
        other = self.process.open(cpu=0)
        self.told("opened")
        lease = self.wait_for_it()
        self.process.dup2(other, fd)
        self.assertEqual(self.told("closed")["cpus"], f"{CPU}")
        self.assertEqual(lease.next()["change"], "granted")
        self.assertEqual([s["cpus"] for s in self.listed()], ["0"])

    def test_exec(self):
        self.open()
        self.ends(lambda: self.process.ask("exec"))

    def test_exit(self):
        self.open()
        self.ends(lambda: self.process.ask("exit"))

    def test_killed(self):
        self.open()
        self.ends(self.process.end)

    def test_last_duplicate(self):
        fd = self.open()
        copies = [self.process.dup(fd), self.process.dup(fd)]
        self.ends(lambda: self.process.close(copies[0]), lambda: self.process.close(fd),
                  lambda: self.process.close(copies[1]))

    def test_last_inherited(self):
        """By a child that is killed, when its parent has long closed it."""
        fd = self.open()
        child = self.process.fork()
        self.ends(lambda: self.process.close(fd), lambda: os.kill(child, signal.SIGKILL))

    def test_last_passed(self):
        """To a process that the broker knows nothing of; which keeps it when the opener dies."""
        fd = self.open()
        copy = self.process.receive(fd)
        self.addCleanup(lambda: copy is None or os.close(copy))

        def close():
            nonlocal copy
            os.close(copy)
            copy = None

        self.ends(lambda: self.process.close(fd), self.process.end, close)

    def test_mapped(self):
        """Closed and still mapped, that is nobody's to see here: an SPU's would stay."""
        fd = self.open()
        self.process.map(fd)
        self.ends(lambda: self.process.close(fd))
        self.process.unmap()


if __name__ == "__main__":
    if os.geteuid() == 0 and harness.PROGRAM:
        if reason := profiler.cannot():
            print(reason)
            sys.exit(77)
        profiler.take_turns()
    harness.main()
