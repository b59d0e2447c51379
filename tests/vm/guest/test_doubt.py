# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions that no process can be seen to have, on a PMU that excludes: what the kernel still has stays, however it is
hidden, and a lease that waits for it is granted when it is gone. At level observe the kernel tells of each end, or
(arm64 before 6.4) only hints at closes; at level reserve the kernel lets nobody in either."""

import os
import signal
import socket

import machine
import perf
from machine import CPUS, wait_for

LONG = 600 * 10**6


class DoubtCase(machine.TestCase):
    level = "observe"

    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.first, self.second = self.driver.type(0), self.driver.type(1)
        self.daemon = self.broker(config=f"[Arbitration]\nLevel={self.level}\n")
        host = self.daemon.call("Describe")["host"]
        self.assertEqual(host["level"], self.level, host["levelReason"])

    def open(self, *arguments, **kwargs):
        fd = perf.event(*arguments, **kwargs)
        file = os.fdopen(fd, "rb", buffering=0)
        self.addCleanup(file.close)
        return file

    def sessions(self):
        return sorted((s["kind"], s["cpus"]) for s in self.daemon.call("ListSessions")["sessions"])

    def request(self, cpus, mode="guest"):
        return {"vm": "vm", "vcpus": 1, "cpus": cpus, "bufferSize": 4096, "mode": mode}

    def waiting(self, cpus, mode="guest"):
        """A lease that waits for a session."""
        stream = self.client(self.daemon).stream("Acquire", request=self.request(cpus, mode), waitUSec=LONG)
        self.assertEqual(stream.next()["change"], "queued")
        return stream

    def granted(self, stream):
        lease = stream.next()
        self.assertEqual(lease["change"], "granted")
        return lease["lease"]


class TestObserve(DoubtCase):
    def test_closed(self):
        file = self.open(self.first, cpu=0)
        stream = self.waiting("0")
        file.close()
        self.granted(stream)
        self.assertEqual(self.sessions(), [])

    def test_mapped(self):
        file = self.open(self.first, cpu=0)
        unmap = perf.map_alone(file.fileno())
        file.close()
        stream = self.waiting("0")
        self.assertEqual(self.sessions(), [("cpu", "0")])
        self.refused("Busy", self.client(self.daemon), "Acquire", request=self.request("0"))
        unmap()
        self.granted(stream)
        self.assertEqual(self.sessions(), [])

    def test_in_flight(self):
        """In a message that nobody has received."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            file = self.open(self.first, cpu=1)
            socket.send_fds(ours, [b"0"], [file.fileno()])
            file.close()
            stream = self.waiting("0-1")
            self.assertEqual(self.sessions(), [("cpu", "1")])
        self.granted(stream)

    def test_mapped_by_the_dead(self):
        file = self.open(self.first, cpu=0)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            perf.map_alone(file.fileno())
            file.close()
            os.write(writer, b"0")
            signal.pause()
        os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        file.close()
        stream = self.waiting("0")
        self.assertEqual(self.sessions(), [("cpu", "0")])
        os.kill(pid, signal.SIGKILL)
        self.granted(stream)
        os.waitpid(pid, 0)

    def test_one_of_two_tasks(self):
        """Either stands against an exclusive lease; that one lives says nothing of the other."""
        one, other = self.open(self.first, pid=0), self.open(self.first, pid=self.vmm().pid)
        wait_for(lambda: len(self.sessions()) == 2, "both")
        stream = self.waiting("0", "exclusive")
        one.close()
        wait_for(lambda: len(self.sessions()) == 1, "one is gone")
        other.close()
        self.granted(stream)

    def test_off_line(self):
        """An event whose CPU was off line is none any more, though it has a descriptor."""
        stream = self.watch(self.daemon)
        self.open(self.second, cpu=3)
        wait_for(lambda: self.sessions() == [("cpu", "3")], "the session")
        self.refused("Busy", self.client(self.daemon), "Acquire", request=self.request("2-3"))
        self.cpu(3, False)
        self.told(stream, arm_spe_1={"onlineCpus": "2"})
        self.assertEqual(self.sessions(), [("cpu", "")])
        self.cpu(3, True)
        self.told(stream, arm_spe_1={"onlineCpus": "2-3"})
        self.assertEqual(self.sessions(), [("cpu", "")])
        lease = self.client(self.daemon).call("Acquire", request=self.request("2-3"))["lease"]
        self.assertFalse(lease["contended"])
        # One that is opened now is as good as any, if the kernel lets it be.
        outcome = perf.outcome(self.second, cpu=3)
        self.assertEqual(outcome, {"observe": "", "reserve": "EBUSY"}[self.level])


class TestReserve(TestObserve):
    level = "reserve"

    def test_held(self):
        """What the broker holds keeps others off, and is no session; it ends with the lease."""
        client = self.client(self.daemon)
        lease = client.call("Acquire", request=self.request("0"))["lease"]
        self.assertEqual(self.sessions(), [])
        self.assertEqual(perf.outcome(self.first, cpu=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, pid=0), "EBUSY")
        self.assertEqual(perf.outcome(self.first, cpu=1), "")
        self.assertEqual(perf.outcome(self.second, pid=0), "")
        with self.assertRaises(machine.CalledProcessError):
            self.driver.unload()
        client.call("Release", leaseId=lease["leaseId"])
        wait_for(lambda: perf.outcome(self.first, cpu=0) == "", "let go")
        self.assertEqual(perf.outcome(self.first, pid=0), "")
        wait_for(lambda: not self.sessions(), "no session")

    def test_held_by_systemd_too(self):
        """Somebody has copies of what the broker holds: nobody's session, whoever is met with it."""
        self.client(self.daemon).call("Acquire", request=self.request("0-1"))
        copies = perf.copies(self.daemon.process.pid)
        self.addCleanup(lambda: [os.close(fd) for fd in copies])
        self.assertEqual(len(copies), 2)
        self.open(self.second, cpu=2)
        wait_for(lambda: ("cpu", "2") in self.sessions(), "a look")
        self.assertEqual(self.sessions(), [("cpu", "2")])
        self.assertEqual([lease["contended"] for lease in self.daemon.call("ListLeases")["leases"]], [False])

    def test_held_again(self):
        """On a CPU that was off line."""
        self.client(self.daemon).call("Acquire", request=self.request("2-3"))
        stream = self.watch(self.daemon)
        self.cpu(3, False)
        self.told(stream, arm_spe_1={"onlineCpus": "2"})
        self.cpu(3, True)
        self.told(stream, arm_spe_1={"onlineCpus": "2-3"})
        self.assertTrue((CPUS / "cpu3/online").read_text().startswith("1"))
        wait_for(lambda: perf.outcome(self.second, cpu=3) == "EBUSY", "held again")
        self.assertEqual(self.sessions(), [])


if __name__ == "__main__":
    machine.main()
