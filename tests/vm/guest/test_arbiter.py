# SPDX-License-Identifier: LGPL-2.1-or-later
"""The arbiter alone, on the test PMU: which hook which kernel has, what is seen, and what is refused."""

import array
import ctypes
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import unittest

import arbiter
import machine
import perf
from machine import ARM64, RELEASE, wait_for

ACTIVE = pathlib.Path("/sys/kernel/security/lsm")
LSM = ACTIVE.exists() and "bpf" in ACTIVE.read_text().split(",")
BEST = "tracepoints" if ARM64 and RELEASE < (6, 4) else "lsm" if LSM else "trampolines"
SESSIONS = 16384  # ARBITER_SESSIONS
FLOOD = 4000      # more refusals than the ring has room for
NEWPID, PIDFD_OPEN, PIDFD_GETFD = 0x20000000, 434, 438
NEEDS_LSM = unittest.skipUnless(BEST == "lsm", f"nothing is refused at {BEST}")
NEEDS_FREES = unittest.skipIf(BEST == "tracepoints", f"{BEST}: closes are only hinted at")


def setUpModule():
    """One arbiter for all tests, as to load the programs takes most of the time: each leaves no session."""
    ArbiterCase.driver = machine.Driver().load("0-1", "2-3")
    ArbiterCase.first, ArbiterCase.second = ArbiterCase.driver.type(0), ArbiterCase.driver.type(1)
    ArbiterCase.arbiter = arbiter.Arbiter("lsm")


def tearDownModule():
    ArbiterCase.arbiter.end()
    ArbiterCase.driver.clear()


class ArbiterCase(machine.TestCase):
    def setUp(self):
        self.arbiter.say("pmus", "arm_spe_0=0-1", "arm_spe_1=2-3")
        self.addCleanup(wait_for, self.gone, "the end of all sessions")
        self.addCleanup(self.arbiter.close_cpus)
        affinity = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, affinity)
        self.arbiter.refusals()

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

    def sessions(self):
        """As (PMU, CPU, whether bound to a task), sorted."""
        return sorted((s["pmu"], s["cpu"], s["thread"] != 0) for s in self.arbiter.sessions())

    def one(self):
        (session,) = self.arbiter.sessions()
        return session

    def gone(self):
        """Whether nothing is open; where closes are only hinted at, what no process has is over."""
        if self.arbiter.hook == "tracepoints":
            self.arbiter.say("iterate", 0)
            for session in self.arbiter.sessions():
                if session["unseen"]:
                    self.arbiter.say("forget", session["id"])
        return not self.arbiter.sessions()

    def child(self, function):
        """A process that runs it, and answers with a line once it has, then waits; killed at the end."""
        here, there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                here.close()
                there.sendall(f"{function()}\n".encode())
                signal.pause()
            finally:
                os._exit(1)
        there.close()
        self.addCleanup(here.close)
        self.addCleanup(self.kill, pid)
        return pid, here.recv(256).decode().strip()

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


class TestHook(ArbiterCase):
    def test_best(self):
        """Which hook this kernel has, and if it is not the best, what is missing."""
        state = self.arbiter.state
        self.assertEqual(state["hook"], BEST, state)
        if BEST == "lsm":
            self.assertEqual((state["reason"], state["advice"]), ("", ""))
        elif BEST == "tracepoints":
            self.assertIn("ENOTSUPP", state["reason"])
            self.assertIn("6.4", state["advice"])
        else:
            self.assertIn("bpf is not among the active security modules", state["reason"])
            self.assertIn(ACTIVE.read_text().strip(), state["reason"])
            self.assertIn("lsm=", state["advice"])

    def test_verified(self):
        """The kernel looks at each way through a program before it takes it, at a million instructions at most, and that is
        a start's time: each is far below."""
        texts = [path.read_text() for path in pathlib.Path(f"/proc/{self.arbiter.process.pid}/fdinfo").iterdir()]
        looked_at = [int(number) for text in texts for number in re.findall(r"^verified_insns:\s+(\d+)$", text, re.M)]
        self.assertGreaterEqual(len(looked_at), 1 if BEST == "tracepoints" else 3)
        self.assertLess(max(looked_at), 50_000, looked_at)

    def test_lower(self):
        """What is asked for is had without a reason. It refuses nothing below LSM, and takes up at once where the one
        before it left."""
        order = ["tracepoints", "trampolines", "lsm"]
        self.arbiter.close_cpus("1")
        for hook in [*order[:order.index(BEST)], BEST]:
            state = self.arbiter.again(hook)
            self.assertEqual(state["hook"], hook)
            if hook != "lsm":
                self.assertEqual(state["reason"], "")
                fd = perf.event(self.first, cpu=1)
                self.assertEqual(self.sessions(), [("arm_spe_0", 1, False)])
                os.close(fd)
                wait_for(self.gone, "the end")
        self.assertEqual(perf.outcome(self.first, cpu=1), "EBUSY" if BEST == "lsm" else "")


class TestSeen(ArbiterCase):
    def test_open_and_close(self):
        self.assertEqual(self.sessions(), [])
        other, _ = self.child(lambda: "")
        fds = [self.hold(self.first, cpu=1), self.hold(self.second, pid=0), self.hold(self.second, pid=other, cpu=3)]
        self.assertEqual(self.sessions(), [("arm_spe_0", 1, False), ("arm_spe_1", -1, True), ("arm_spe_1", 3, True)])
        for session in self.arbiter.sessions():
            self.assertEqual((session["pid"], session["uid"], session["entering"]), (os.getpid(), 0, False))
            self.assertTrue(session["command"].startswith("python3"))
            self.assertGreater(session["opened"], 0)
            self.assertEqual(session["process"], {1: 0, -1: os.getpid(), 3: other}[session["cpu"]])
        for fd in fds:
            os.close(fd)
        wait_for(self.gone, "the end")

    def test_own(self):
        """What the broker opens itself is not told of, nor refused where others' are."""
        self.addCleanup(self.arbiter.say, "disown")
        before = self.arbiter.counters()["drifted"]
        self.hold(self.second, cpu=2)
        if self.arbiter.hook == "lsm":
            self.arbiter.close_cpus(cpu_wide="0-1")
            self.assertEqual(perf.outcome(self.first, cpu=1), "EBUSY")
        self.assertEqual(self.arbiter.say("own", self.first, 1)["result"], 0)
        self.arbiter.say("iterate", 0)
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False)])
        self.arbiter.again(BEST)
        self.assertEqual(self.arbiter.say("own", self.first, 0)["result"], 0)
        self.arbiter.say("iterate", 0)
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False)])
        self.assertEqual(self.arbiter.counters()["drifted"], before)

    def test_before(self):
        """What was open before, the iterator finds, once however many descriptors there are."""
        fd = self.hold(self.first, cpu=0)
        self.addCleanup(self.close, os.dup(fd))
        other = arbiter.Arbiter("tracepoints")
        self.addCleanup(other.end)
        (session,) = other.sessions()
        self.assertEqual((session["pmu"], session["cpu"], session["pid"], session["opened"]),
                         ("arm_spe_0", 0, os.getpid(), 0))
        self.assertTrue(session["command"].startswith("python3"))

    def test_doorbell(self):
        """Opens and closes ring, once until it is heard; other events and their ends do not."""
        def quiet():
            # At tracepoints, whatever is closed by somebody who had a session rings.
            return BEST == "tracepoints" or not self.arbiter.say("wait", 0)["rung"]

        self.arbiter.refusals()
        self.assertTrue(quiet())
        self.hold(perf.SOFTWARE, cpu=0, config=perf.DUMMY)
        self.assertTrue(quiet())
        for _ in range(2):
            fd = perf.event(self.first, cpu=0)
            self.assertTrue(self.arbiter.say("wait", 10000)["rung"])
            self.assertEqual(self.arbiter.refusals(), [])
            self.assertTrue(quiet())
            os.close(fd)
            self.assertTrue(self.arbiter.say("wait", 10000)["rung"])
            self.arbiter.refusals()

    def test_unknown_name(self):
        """An SPU that nobody has named is one; a named PMU is one, whatever its name."""
        self.arbiter.say("pmus", "arm_spe_0=0-1")
        self.hold(self.second, cpu=2)
        software = self.hold(perf.SOFTWARE, cpu=0, config=perf.DUMMY)
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False)])
        self.arbiter.say("pmus", "software=0-3")
        self.assertEqual(self.sessions(), [("arm_spe_1", 2, False), ("software", 0, False)])
        os.close(software)
        self.arbiter.say("pmus")

    def test_threads_and_groups(self):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        leader = self.hold(perf.SOFTWARE, pid=thread.native_id, config=perf.DUMMY)
        self.hold(self.first, pid=thread.native_id, group=leader)
        session = self.one()
        self.assertEqual((session["thread"], session["process"], session["pid"]),
                         (thread.native_id, os.getpid(), os.getpid()))

    def test_passed_on(self):
        """dup, SCM_RIGHTS and pidfd_getfd, after whose opener has ended: one event, until the last has closed it."""
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)

        def open_and_send():
            fd = os.dup(perf.event(self.first, cpu=0))
            there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            return fd

        pid, number = self.child(open_and_send)
        self.assertEqual(self.one()["pid"], pid)
        pidfd = perf.libc.syscall(PIDFD_OPEN, pid, 0)
        taken = perf.libc.syscall(PIDFD_GETFD, pidfd, int(number), 0)
        os.close(pidfd)
        self.assertGreaterEqual(taken, 0)
        self.kill(pid)
        _, ancillary, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
        received = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        for fd in (taken, received):
            self.arbiter.say("iterate", 0)
            self.assertEqual((self.one()["pid"], self.one()["unseen"]), (pid, False))
            os.close(fd)
        wait_for(self.gone, "the end")

    @NEEDS_FREES
    def test_without_descriptor(self):
        """Mapped and then closed, or in flight: it is there, though no process has a descriptor of it."""
        fd = self.hold(self.first, cpu=0)
        unmap = perf.map_alone(fd)
        os.close(fd)
        self.assertFalse(self.one()["unseen"])
        self.arbiter.say("iterate", 0)
        self.assertTrue(self.one()["unseen"])
        unmap()
        self.assertEqual(self.sessions(), [])

        here, there = socket.socketpair()
        fd = self.hold(self.second, cpu=2)
        there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        self.arbiter.say("iterate", 0)
        self.assertFalse(self.one()["unseen"])
        os.close(fd)
        self.arbiter.say("iterate", 0)
        self.assertTrue(self.one()["unseen"])
        here.close()
        there.close()
        wait_for(lambda: self.sessions() == [], "the end of what was in flight")

    def test_fork_and_exec(self):
        """A copy that fork() makes is no session of its own; the descriptor that exec() closes ends it."""
        self.hold(self.first, pid=0, flags=perf.INHERIT)
        pid, _ = self.child(lambda: "")
        self.assertEqual(len(self.sessions()), 1)
        self.kill(pid)
        self.assertEqual(len(self.sessions()), 1)

        pid, _ = self.child(lambda: perf.event(self.second, cpu=2))
        self.assertEqual(len(self.sessions()), 2)
        self.kill(pid)
        script = ("import os, perf; perf.event({}, cpu=2); os.write(1, b'x'); os.read(0, 1);"
                  "os.execvp('cat', ['cat'])").format(self.second)
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.read(1)
            self.assertIn(("arm_spe_1", 2, False), self.sessions())
            process.stdin.write(b"xy")
            process.stdin.flush()
            process.stdout.read(1)  # cat's
            if BEST == "tracepoints":
                self.arbiter.say("iterate", 0)
            self.assertEqual([s["cpu"] for s in self.arbiter.sessions() if not s["unseen"]], [-1])

    def test_other_pid_namespace(self):
        """Its processes are told by the numbers that they have here."""
        def inside():
            if perf.libc.unshare(NEWPID) != 0:
                return "unshare"
            ready, done = os.pipe()
            pid = os.fork()
            if pid == 0:
                perf.event(self.first, pid=0)
                os.write(done, str(os.getpid()).encode())
                signal.pause()
            return f"{pid} {os.read(ready, 16).decode()}"

        _, answer = self.child(inside)
        outer, inner = map(int, answer.split())
        self.addCleanup(lambda: os.kill(outer, signal.SIGKILL))
        self.assertEqual(inner, 1)
        session = self.one()
        self.assertEqual((session["pid"], session["process"], session["thread"]), (outer, outer, outer))

    @NEEDS_FREES
    def test_cpu_off_line(self):
        fd = self.hold(self.second, cpu=3)
        self.cpu(3, False)
        self.assertEqual(self.sessions(), [("arm_spe_1", 3, False)])
        os.close(fd)
        wait_for(self.gone, "the end")

    def test_kept(self):
        """Another process takes up where one left: what only the table knows stays known, and what is closed closed."""
        fd = self.hold(self.first, cpu=0)
        unmap = perf.map_alone(fd)
        os.close(fd)
        self.arbiter.close_cpus("1")
        state = self.arbiter.again(BEST)
        self.assertEqual((state["hook"], state["left"]), (BEST, 0))
        self.assertEqual(self.sessions(), [("arm_spe_0", 0, False)])
        self.assertTrue(self.one()["unseen"])
        self.assertEqual(perf.outcome(self.first, cpu=1), "EBUSY" if BEST == "lsm" else "")
        unmap()


@NEEDS_LSM
class TestRefused(ArbiterCase):
    def refused(self, cause, *arguments, **kwargs):
        self.arbiter.refusals()
        self.assertEqual(perf.outcome(*arguments, **kwargs), "EBUSY")
        (refusal,) = self.arbiter.refusals()
        self.assertEqual((refusal["cause"], refusal["session"]["pid"]), (cause, os.getpid()))
        self.assertEqual(self.sessions(), [])
        return refusal

    def allowed(self, *arguments, **kwargs):
        self.assertEqual(perf.outcome(*arguments, **kwargs), "")
        wait_for(self.gone, "the end")

    def test_cpu_wide(self):
        self.arbiter.close_cpus("1-2,4095")
        refusal = self.refused("cpu_wide", self.first, cpu=1)
        self.assertEqual((refusal["session"]["pmu"], refusal["session"]["cpu"], refusal["affinity"]),
                         ("arm_spe_0", 1, ""))
        self.refused("cpu_wide", self.second, cpu=2)
        self.allowed(self.first, cpu=0)
        self.allowed(self.second, cpu=3)
        self.allowed(self.first, pid=0)
        self.allowed(self.first, pid=0, cpu=1)
        self.allowed(perf.SOFTWARE, cpu=1, config=perf.DUMMY)
        self.arbiter.close_cpus("0")
        self.allowed(self.first, cpu=1)
        self.refused("cpu_wide", self.first, cpu=0)

    def test_task_bound(self):
        """Where the target may run, of the event's CPU and of the PMU's CPUs."""
        self.arbiter.close_cpus("-", "1")
        for affinity, cpu, expected in (({0}, -1, False), ({1}, -1, True), ({0, 1}, -1, True), ({0, 1}, 0, False),
                                        ({0, 1}, 1, True), ({0}, 1, False), ({2, 3}, -1, False)):
            with self.subTest(affinity=affinity, cpu=cpu):
                os.sched_setaffinity(0, affinity)
                if expected:
                    refusal = self.refused("task_bound", self.first, pid=0, cpu=cpu)
                    self.assertEqual(refusal["affinity"].replace("-", ","), ",".join(map(str, sorted(affinity))))
                    self.assertEqual(refusal["session"]["process"], os.getpid())
                else:
                    self.allowed(self.first, pid=0, cpu=cpu)
        os.sched_setaffinity(0, {0, 1, 2, 3})
        self.allowed(self.second, pid=0)
        self.allowed(self.first, cpu=1)
        self.allowed(perf.SOFTWARE, pid=0, config=perf.DUMMY)
        self.arbiter.say("pmus", "arm_spe_0=0-1")  # of the other, it is not known where it is
        self.refused("task_bound", self.second, pid=0)

    def test_owner(self):
        owner, _ = self.child(lambda: "")
        other, _ = self.child(lambda: "")
        self.arbiter.say("owner", owner, "0")
        refusal = self.refused("owner", self.first, pid=owner)
        self.assertEqual(refusal["session"]["process"], owner)
        self.allowed(self.first, pid=owner, cpu=1)
        self.allowed(self.second, pid=owner)
        self.allowed(self.first, pid=other)
        self.allowed(self.first, cpu=0)
        self.arbiter.say("owner", owner, "-")
        self.allowed(self.first, pid=owner)

    def test_owner_cgroup(self):
        """Whoever is in it or below it when the event is opened: what its processes start is in it too."""
        root = pathlib.Path("/sys/fs/cgroup", f"spe-broker-{os.getpid()}")
        inner, beside = root / "vcpus" / "0", root.with_name(root.name + "-2")
        for path in (root, root / "vcpus", inner, beside):
            path.mkdir()
            self.addCleanup(path.rmdir)
        owner, _ = self.child(lambda: "")
        self.arbiter.say("owner", f"cgroup:{root.stat().st_ino}", "0")
        self.allowed(self.first, pid=owner)
        for path in (inner, root, root / "vcpus"):
            (path / "cgroup.procs").write_text(str(owner))
            self.assertEqual(self.refused("owner", self.first, pid=owner)["session"]["process"], owner)
            self.allowed(self.first, pid=owner, cpu=1)
        self.allowed(self.first, pid=0)
        (beside / "cgroup.procs").write_text(str(owner))
        self.allowed(self.first, pid=owner)
        # A lease of a group within, elsewhere, does not hide that of the outer one.
        (inner / "cgroup.procs").write_text(str(owner))
        self.arbiter.say("owner", f"cgroup:{inner.stat().st_ino}", "1")
        self.refused("owner", self.first, pid=owner, cpu=0)
        self.refused("owner", self.first, pid=owner, cpu=1)
        # Nor does one of the process itself.
        self.arbiter.say("owner", owner, "2")
        self.refused("owner", self.first, pid=owner, cpu=0)
        self.arbiter.say("owner", f"cgroup:{inner.stat().st_ino}", "-")
        self.allowed(self.first, pid=owner, cpu=1)
        self.arbiter.say("owner", f"cgroup:{root.stat().st_ino}", "-")
        self.arbiter.say("owner", owner, "-")
        self.allowed(self.first, pid=owner)
        self.kill(owner)

    def test_group_and_thread(self):
        self.arbiter.close_cpus("-", "0-3")
        leader = self.hold(perf.SOFTWARE, pid=0, config=perf.DUMMY)
        self.refused("task_bound", self.first, pid=0, group=leader)
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        refusal = self.refused("task_bound", self.first, pid=thread.native_id)
        stop.set()
        thread.join()
        self.assertEqual((refusal["session"]["thread"], refusal["session"]["process"]),
                         (thread.native_id, os.getpid()))

    def test_fork_never_fails(self):
        """Not even where what is inherited could not be opened."""
        self.hold(self.first, pid=0, flags=perf.INHERIT)
        self.arbiter.close_cpus("0-3", "0-3")
        pid, answer = self.child(lambda: "forked")
        self.assertEqual(answer, "forked")
        self.kill(pid)
        self.assertEqual(self.arbiter.refusals(), [])

    def test_flood(self):
        """More refusals than can be told are counted, and what comes after is told again."""
        before = self.arbiter.counters()
        self.arbiter.close_cpus("1")
        for _ in range(FLOOD):
            if perf.outcome(self.first, cpu=1) != "EBUSY":
                self.fail("let in")
        after = self.arbiter.counters()
        lost = after["lost"] - before["lost"]
        self.assertEqual(after["refused"] - before["refused"], FLOOD)
        self.assertGreater(lost, 0)
        self.assertEqual(len(self.arbiter.refusals()), FLOOD - lost)
        self.refused("cpu_wide", self.first, cpu=1)
        self.assertEqual(after["drifted"], before["drifted"])


class TestMany(ArbiterCase):
    def test_full(self):
        """As many as the table holds; beyond that, refused where it can be, and counted."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (SESSIONS + 64, SESSIONS + 64))
        self.arbiter.say("pmus", "software=0-3")
        before = self.arbiter.counters()
        fds = []
        self.addCleanup(lambda: [os.close(fd) for fd in fds])
        for _ in range(SESSIONS):
            fds.append(perf.event(perf.SOFTWARE, pid=0, config=perf.DUMMY))
        self.assertEqual(len(self.arbiter.sessions()), SESSIONS)
        for _ in range(3):
            self.assertEqual(perf.outcome(perf.SOFTWARE, pid=0, config=perf.DUMMY), "EBUSY" if BEST == "lsm" else "")
        after = self.arbiter.counters()
        self.assertEqual(after["full"] - before["full"], 3)
        if BEST == "lsm":
            self.assertEqual([r["cause"] for r in self.arbiter.refusals()], ["full"] * 3)
            os.close(fds.pop())
            fds.append(perf.event(perf.SOFTWARE, pid=0, config=perf.DUMMY))
        while fds:
            os.close(fds.pop())
        wait_for(self.gone, "the end of them all")
        self.arbiter.say("pmus")


if __name__ == "__main__":
    machine.main()
