# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host sessions for the generated cases: real perf events, on a PMU of this machine that nothing else here uses
and that stands in for one of the host's SPUs. Needs BPF, as the broker does to see them."""

import fcntl
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm/guest"))

import perf  # noqa: E402
import sizes  # noqa: E402

PMU = pathlib.Path("/sys/bus/event_source/devices/msr")
OBSERVE = "[Arbitration]\nLevel=observe\n"
SESSIONS_MAX = 6


class Pmu:
    """The PMU, for as long as no other test has it: sessions of others would be judged as ours."""

    def __init__(self):
        self.lock = open(PMU / "type")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.type = int(self.lock.read())

    def close(self):
        self.lock.close()


def usable(case, tree):
    """Can events of this PMU be opened, and does the broker see sessions here?"""
    try:
        os.close(perf.event(int((PMU / "type").read_text()), cpu=0, period=0))
    except OSError:
        return False
    broker = case.broker(tree=tree, config=OBSERVE)
    host = broker.call("Describe")["host"]
    broker.stop()
    return host["level"] == "observe"


class Profilers:
    """The sessions that are open, and how ListSessions must say them."""

    def __init__(self, pmu_type, parts):
        self.type, self.open = pmu_type, []
        for part in parts:  # the SPU of the CPUs that this machine has
            if part["type"] == pmu_type:
                part["type"] = parts[0]["type"]
        parts[0]["type"] = pmu_type

    def start(self, rng, targets):
        """Opens one, on a CPU or a process; what it is, in a word."""
        cpu, task = rng.choice(sorted(os.sched_getaffinity(0))), rng.choice(targets)
        kind = rng.choice(("cpu", "cpu", "task", "taskcpu"))
        cpu, task = None if kind == "task" else cpu, None if kind == "cpu" else task
        fd = perf.event(
            self.type, pid=-1 if task is None else task, cpu=-1 if cpu is None else cpu, period=0
        )
        self.open.append({"fd": fd, "kind": kind, "cpu": cpu, "task": task, "reached": False, "dead": False})
        return kind

    def stop(self, session):
        os.close(session["fd"])
        self.open.remove(session)

    def stop_all(self, task=None):
        for session in [s for s in self.open if task in (None, s["task"])]:
            self.stop(session)

    def has_spu(self, parts):
        return any(p["type"] == self.type and not p["gone"] and not p["partial"] for p in parts)

    def spu(self, state):
        """The SPU that has the PMU's type, or None."""
        return next(
            (i for i in state.instances if i.state == "ready" and i.json["pmuType"] == self.type), None
        )

    def reach(self, session, instance):
        if session["dead"]:
            return set()
        reach = instance.online if session["cpu"] is None else instance.online & {session["cpu"]}
        return reach if session["task"] is None else reach & os.sched_getaffinity(session["task"])

    def follow(self, state):
        """The host may be another one: perf lets go of a CPU-wide event whose CPU goes off line, for good."""
        instance = self.spu(state)
        for session in self.open:
            reach = self.reach(session, instance) if instance else set()
            if session["kind"] == "cpu" and session["reached"] and instance and not reach:
                session["dead"] = True
            session["reached"] = bool(reach)

    def expected(self, state):
        """(kind, instance, CPU, target, reach) of each, sorted."""
        instance = self.spu(state)
        return sorted(
            (
                (s["kind"], instance.name, s["cpu"], s["task"], sizes.cpulist(self.reach(s, instance)))
                for s in self.open
                if instance
            ),
            key=str,
        )

    def agrees(self, state):
        """Does ListSessions say so of the events of this process? What reaches nothing may be listed longer."""
        told = [
            (s["kind"], s["instance"], s.get("cpu"), s.get("task"), s["cpus"])
            for s in state.sessions
            if s["pid"] == os.getpid()
        ]
        expected = self.expected(state)
        if any(session not in told for session in expected):
            return False
        return sorted((s for s in told if s[-1]), key=str) == [s for s in expected if s[-1]]
