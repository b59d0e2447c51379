# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions that were there first, at the best level that the kernel has: they are named, and a lease waits for them."""

import os
import pathlib
import socket

import machine
import perf
import sessions


class TestFirst(sessions.Case):
    def setUp(self):
        super().setUp()
        self.start("auto")

    def test_named(self):
        self.event(self.first, cpu=0)
        holder, = self.busy("0-1")
        self.assertEqual({key: holder[key] for key in ("kind", "pid", "uid", "command", "cpus")}, {
            "kind": "session", "pid": os.getpid(), "uid": 0, "cpus": "0",
            "command": pathlib.Path("/proc/self/comm").read_text().strip()})
        self.lease("1")
        self.lease("2-3", "exclusive")

    def test_of_a_task(self):
        """A task's session is in the way of exclusive leases where it reaches; at level reserve of any, and everywhere, as
        nothing could be held."""
        self.event(self.second, pid=self.task({2}))
        self.assertEqual([holder["cpus"] for holder in self.busy("2-3", "exclusive")],
                         ["2" if self.level == "enforce" else "2-3"])
        if self.level == "enforce":
            self.lease("2-3")

    def test_in_order(self):
        """Granted when the session closes, one after the other."""
        event = self.event(self.first, cpu=0)
        first, second = self.queue("0", vm="first"), self.queue("0-1", vm="second")
        event.close()
        lease = first.change("granted")["lease"]
        self.assertEqual([entry["state"] for entry in self.daemon.call("ListLeases")["leases"] if entry["vm"] == "second"],
                         ["queued"])
        self.wide(c0="EBUSY")
        self.admin.call("Release", leaseId=lease["leaseId"])
        second.change("granted")
        self.wide(c0="EBUSY", c1="EBUSY")

    def test_opener_gone(self):
        """An event lives as long as anybody has it: a child that its opener has left, or a message on its way."""
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                event = sessions.Event(self.first, cpu=0)
                socket.send_fds(theirs, [b"0"], [event.fd])
                os.write(writer, b"0")
            finally:
                os._exit(0)
        theirs.close()
        os.read(reader, 1)
        os.waitpid(pid, 0)
        self.addCleanup(ours.close)
        if self.level == "enforce":
            self.assertEqual([holder["pid"] for holder in self.busy("0")], [pid])
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        self.assertTrue(self.busy("0"))
        waiter = self.queue("0")
        os.close(fd)
        waiter.change("granted")

    def test_mapped(self):
        """Closed, but mapped: it lives."""
        event = self.event(self.first, cpu=0)
        with perf.Mapping(event.fd):
            event.close()
            self.assertTrue(self.busy("0"))
            waiter = self.queue("0")
        waiter.change("granted")

    def test_before_the_daemon(self):
        self.daemon.stop()
        event = self.event(self.first, cpu=0)
        self.start("auto")
        holder, = self.busy("0")
        self.assertEqual(holder["pid"], os.getpid())
        waiter = self.queue("0")
        event.close()
        waiter.change("granted")


class TestReserve(sessions.Case):
    """Perf's own exclusivity, on every kernel: coarser, and it tells its price."""

    level = "reserve"

    def setUp(self):
        super().setUp()
        self.start()

    def test_level(self):
        host = self.daemon.call("Describe")["host"]
        self.assertEqual(host["level"], "reserve")
        self.assertTrue(host["levelReason"])

    def test_lease(self):
        """CPU-wide ones are refused where it is, those of tasks on the whole instance; and the module stays."""
        _, lease, stream = self.lease("0")
        self.wide(c0="EBUSY", c1="", c2="")
        self.bound("EBUSY")
        self.bound("EBUSY", cpu=1)
        self.bound("", pmu=self.second)
        with self.assertRaises(machine.CalledProcessError) as caught:
            self.driver.unload()
        self.assertIn("in use", caught.exception.stderr)
        self.release(lease, stream)
        self.wide(c0="")
        self.bound("")

    def test_shared(self):
        """Nothing is held for it. (Where closes are not seen, the broker asks the kernel whether the first event is gone,
        by one of its own, and that is in the way of others for a moment.)"""
        self.lease("0", "shared")
        self.wide(c0="")
        machine.wait_for(lambda: perf.outcome(self.first, pid=0) == "", "a task's can be opened")

    def test_off_line(self):
        """The held event is gone with its CPU, and opened anew when that is back."""
        self.lease("2-3")
        watch = self.watch(self.daemon)
        self.cpu(3, False)
        self.told(watch, arm_spe_1={"onlineCpus": "2"})
        self.cpu(3, True)
        self.told(watch, arm_spe_1={"onlineCpus": "2-3"})
        self.wide(c2="EBUSY", c3="EBUSY")

    def test_waits(self):
        event = self.event(self.first, cpu=0)
        self.assertTrue(self.busy("0"))
        waiter = self.queue("0")
        event.close()
        waiter.change("granted")
        self.wide(c0="EBUSY")

    def test_unknown_holder(self):
        """Nobody can be seen to have it, and the kernel says that it is there."""
        self.daemon.stop()
        event = self.event(self.first, cpu=0)
        with perf.Mapping(event.fd):
            event.close()
            self.start()
            holder, = self.busy("0")
            self.assertEqual((holder["kind"], holder["pid"], holder["cpus"]), ("session", None, "0"))
        self.lease("0")


class TestObserve(sessions.Case):
    """Nothing is refused, and everything told."""

    level = "observe"

    def setUp(self):
        super().setUp()
        self.start()

    def test_contended(self):
        self.assertEqual(self.daemon.call("Describe")["host"]["level"], "observe")
        _, lease, stream = self.lease("0")
        event = self.event(self.first, cpu=0)
        self.assertTrue(stream.change("contended")["lease"]["contended"])
        self.assertEqual([(s["cpu"], s["contended"]) for s in self.sessions()], [(0, True)])
        event.close()
        self.assertFalse(stream.change("uncontended")["lease"]["contended"])
        self.assertEqual(self.sessions(), [])
        self.event(self.first, cpu=1)
        self.assertFalse(self.daemon.lease(lease["leaseId"])["contended"])


class TestUnavailable(sessions.Case):
    def test_named_level(self):
        """A level that the kernel does not have, by name: no lease that would need it, and the reason."""
        if sessions.BEST == "enforce":
            self.skipTest("this kernel has every level")
        self.start("enforce")
        answer = self.refused("ArbitrationUnavailable", self.admin, "Acquire",
                              request={"vm": "vm", "vcpus": 1, "cpus": "0"})
        self.assertTrue(answer["reason"])
        self.lease("0", "shared")


if __name__ == "__main__":
    machine.main()
