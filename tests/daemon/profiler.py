# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that open perf events on a PMU of this machine, which a fixture has as its SPU."""

import fcntl
import json
import os
import pathlib
import socket
import sys
import threading

sys.path.append(str(pathlib.Path(__file__).parents[1] / "vm/guest"))
import perf
from harness import DEADLINE, EMULATED
from tree import Tree

PR_SET_NAME = 15
CPUS = "0-1"


def pmu_type():
    """A PMU that counts on all CPUs, for tasks too, and that nobody else is likely to use; None without one."""
    path = pathlib.Path("/sys/bus/event_source/devices/msr/type")
    return int(path.read_text()) if path.exists() else None


def take_turns():
    """Waits until no other test has this PMU: their events would be in the way of each other's leases. Until this
    process ends."""
    global _turn
    _turn = os.open("/sys/bus/event_source/devices/msr/type", os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(_turn, fcntl.LOCK_EX)


def cannot():
    """Why there are no events of that PMU here, or None."""
    if EMULATED:
        return "the user emulation has no perf events"
    if pmu_type() is None:
        return "this machine has no PMU msr"
    if not {0, 1} <= os.sched_getaffinity(0):
        return "this machine's CPUs 0 and 1 are not both ours"
    try:
        os.close(event(cpu=0))
    except OSError as error:
        return f"perf_event_open: {error}"
    return None


def tree(root):
    """A host whose only SPU is that PMU, on two CPUs of this machine."""
    return Tree(root, CPUS).instance(0, CPUS, type=pmu_type())


def event(**kwargs):
    """It counts, and cannot sample."""
    return perf.event(pmu_type(), period=0, **kwargs)


def loop(n, **kwargs):
    for _ in range(n):
        os.close(event(**kwargs))


def thread():
    """One that waits for ever; its id."""
    started, ids = threading.Event(), []

    def run():
        ids.append(threading.get_native_id())
        started.set()
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    started.wait()
    return ids[0]


def fork():
    """A child that has all descriptors, and keeps them until it is killed."""
    pid = os.fork()
    if pid == 0:
        threading.Event().wait()
    return pid


class Profiler:
    """A process that does as it is told. Its events are known by their descriptors' numbers there."""

    def __init__(self, name="profiler"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.name = name
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                perf.libc.prctl(PR_SET_NAME, name.encode())
                self.serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self.control = ours
        ours.settimeout(DEADLINE)

    @staticmethod
    def serve(control):
        many, maps = [], []
        actions = {
            "open": event,
            "open_many": lambda n, **kwargs: many.extend(event(**kwargs) for _ in range(n)),
            "close_many": lambda: len([os.close(fd) for fd in many]),
            "loop": loop,
            "dup": os.dup,
            "dup2": lambda fd, other: os.dup2(fd, other, inheritable=False),
            "close": os.close,
            "map": lambda fd: maps.append(perf.map_alone(fd)),
            "unmap": lambda: maps.pop()(),
            "exec": lambda: os.execv("/bin/sleep", ["sleep", "infinity"]),
            "exit": lambda: os._exit(0),
            "thread": thread,
            "fork": fork,
        }
        while request := control.recv(4096):
            name, arguments, kwargs = json.loads(request)
            if name == "send":
                socket.send_fds(control, [b"0"], arguments)
                continue
            try:
                answer = {"result": actions[name](*arguments, **kwargs)}
            except OSError as error:
                answer = {"errno": error.errno}
            control.send(json.dumps(answer).encode())

    def ask(self, name, *arguments, **kwargs):
        self.control.send(json.dumps((name, arguments, kwargs)).encode())

    def answer(self):
        answer = json.loads(self.control.recv(4096))
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["result"]

    def __getattr__(self, name):
        """profiler.open(cpu=0): what serve() has an action for."""
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments, **kwargs):
            self.ask(name, *arguments, **kwargs)
            return self.answer()

        return call

    def receive(self, fd):
        """A copy of its descriptor, in this process."""
        self.ask("send", fd)
        _, fds, _, _ = socket.recv_fds(self.control, 1, 1)
        return fds[0]

    def end(self):
        """Kills it. Its number stays its own."""
        os.kill(self.pid, 9)

    def kill(self):
        if self.pid:
            self.control.close()
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.pid = 0
