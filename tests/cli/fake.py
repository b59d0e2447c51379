# SPDX-License-Identifier: LGPL-2.1-or-later
"""A scripted broker: says what it is told to, so that speadm meets what a real broker rarely says. Its words
are held to the interface descriptions, unless a test wants them broken."""

import json

import listener
from wire import CATALOGUE, full_name

HOLD = object()  # in a script: leave the caller waiting until it hangs up
HANG_UP = object()  # in a script: close the connection


class Error:
    """A reply that is an error: Error("Busy", holders=[])."""

    def __init__(self, name, **parameters):
        self.name = name if "." in name else "io.spebroker.Broker." + name
        self.parameters = parameters


class Raw(bytes):
    """Bytes on the wire as they are."""


class Fake(listener.Listener):
    """Listens at path. script maps a method to what it answers: the parameters of a reply, an Error, Raw, HOLD,
    HANG_UP, a list of them (with 'continues' on all but the last), or a function of the parameters that returns
    one of these. calls records what was asked."""

    def __init__(self, path, script, check=True):
        self.check, self.calls = check, []
        self.script = {full_name(method): answer for method, answer in script.items()}
        super().__init__(path)

    def converse(self, connection):
        for message in self.messages(connection):
            if not self.answer(connection, json.loads(message)):
                return

    def answer(self, connection, call):
        method, parameters = call["method"], call.get("parameters") or {}
        self.calls.append((method.rpartition(".")[2], parameters, bool(call.get("more"))))
        answers = self.script[method]
        if callable(answers):
            answers = answers(parameters)
        if not isinstance(answers, list):
            answers = [answers]
        for i, answer in enumerate(answers):
            if answer is HOLD:
                connection.recv(1)
                return False
            if answer is HANG_UP:
                return False
            connection.sendall(self.encode(method, answer, i + 1 < len(answers)))
        return True

    def encode(self, method, answer, continues):
        if isinstance(answer, Raw):
            return answer
        if isinstance(answer, Error):
            if self.check and not answer.name.startswith("org.varlink.service."):
                CATALOGUE.check_error(answer.name, answer.parameters)
            return json.dumps({"error": answer.name, "parameters": answer.parameters}).encode() + b"\0"
        if self.check:
            CATALOGUE.check_reply(method, answer)
        message = {"parameters": answer}
        if continues:
            message["continues"] = True
        return json.dumps(message, ensure_ascii=False).encode() + b"\0"


# What a broker says, with defaults for what a test does not care about.


def instance(name="arm_spe_0", **members):
    return {
        "name": name, "pmuType": 8, "state": "ready", "guest": "unknown", "guestReason": None, "cpus": "0-3",
        "onlineCpus": "0-3", "leasedCpus": "", "sessionCpus": "", "assignments": [], "maxBufferSize": None,
        "capabilities": {"archInst": 0, "ernd": 1, "countSize": 12, "minInterval": 1024, "formats": ["ts_enable"]},
        "driver": "module", "charge": 0, "leases": 0, "problem": None,
    } | members


def assignment(cpus, owner, **members):
    return {"cpus": cpus, "owner": owner, "vm": None, "origin": "persistent", "state": "active",
            "remainingUSec": None} | members


def lease(lease_id="0123456789abcdef0123456789abcdef", **members):
    owner = {"pid": 1234, "uid": 1000, "command": "qemu-system-aar", "unit": None} | members.pop("owner", {})
    return {
        "leaseId": lease_id, "vm": "web", "vmOrigin": "administrator", "instance": "arm_spe_0", "pmuType": 8,
        "cpus": "0-3", "vcpus": 2, "bufferSize": 4 << 20, "requestedBufferSize": 4 << 20, "limitedBy": None,
        "charge": 8454144, "memlock": {"bytes": 8454144, "state": "unmanaged"}, "interrupt": 21, "mode": "guest",
        "state": "granted", "reason": None, "contended": False, "misplaced": False, "restartRequired": False,
        "owner": owner, "sinceUSec": 1790000000000000, "remainingUSec": None,
    } | members


def holder(**members):
    return {"kind": "lease", "leaseId": "0123456789abcdef0123456789abcdef", "vm": "web", "pid": 1234, "uid": 1000,
            "command": "qemu-system-aar", "cpus": "0-3"} | members


def session(**members):
    return {"kind": "cpu", "instance": "arm_spe_0", "cpu": 2, "task": None, "cpus": "2", "pid": 77, "uid": 0,
            "command": "perf", "sinceUSec": None, "contended": True} | members


def refusal(error="Busy", **members):
    nothing = dict.fromkeys(("vm", "pid", "uid", "instance", "instances", "state", "reason", "cpus", "owner",
                             "assignedVm", "limit", "requested", "available", "nearest", "holders",
                             "allowed"))
    return {"id": "f" * 32, "error": "io.spebroker.Broker." + error, "message": "CPUs 0-3 are taken.",
            "whenUSec": 1790000000000000} | nothing | members


def offer(**members):
    return {"instance": "arm_spe_0", "pmuType": 8, "cpus": "0-3", "bufferSize": 4 << 20, "charge": 8454144,
            "mode": "guest", "limitedBy": None} | members


def host(**members):
    return {
        "version": "1.2.3", "features": [], "level": "none", "levelReason": "this version sees no host sessions",
        "levelKept": False, "gate": "off", "gateReason": "guesses", "memlock": {"manage": False, "able": False}, "kvmNumbers": [],
        "limits": {"defaultBufferSize": 4 << 20, "maxBufferSize": 64 << 20, "maxMemoryPerVM": 2 << 30,
                   "maxMemoryPerUser": 3 << 30, "maxMemory": 3 << 30, "maxLeases": 4096, "maxLeasesPerUser": 1024,
                   "maxConnections": 4096, "maxConnectionsPerUser": 2176},
        "charge": 8454144,
        "counts": {"instances": 2, "leases": 1, "waiting": 3, "connections": 5, "watchers": 1, "sessions": 0},
        "counters": [{"name": "leases-granted", "value": 7}, {"name": "leases-refused", "value": 2}],
        "nowUSec": 1790000000000000, "bootId": "0" * 32,
    } | members


def check(name, status="ok", reason="It is.", advice=None):
    return {"name": name, "status": status, "reason": reason, "advice": advice}


def event(sequence, kind, member, lost=False):
    return {"event": {"sequence": sequence, "kind": kind, "lost": lost, "snapshot": None, "lease": None,
                      "instance": None, "refusal": None, "session": None} | {kind: member}}


# A CPU-wide session that stands against a lease, one of a task that does not, and one that can sample nowhere.
SESSIONS = [
    session(),
    session(kind="task", cpu=None, task=1235, cpus="0-3", pid=1300, uid=1000, contended=False,
            sinceUSec=1790000000000000),
    session(kind="taskcpu", instance="arm_spe_1", cpu=4, task=1236, cpus="", command="profiler", contended=False),
]
# Host sessions that were refused, the newest first.
SESSION_REFUSALS = [
    refusal(pid=4711, uid=0, instance="arm_spe_0", message="perf may not profile CPU 2: VM web has a lease of it.",
            holders=[holder(cpus="2"), holder(vm="db", leaseId="f" * 32, command=None, cpus="2")],
            allowed="sessions of tasks are allowed (perf record -p PID, or a command)"),
    refusal("NotAssigned", pid=4711, uid=0, instance="arm_spe_0", cpus="0-1", owner="guest", assignedVm="web",
            message="CPUs 0-1 are assigned to VM web."),
    refusal("NotAssigned", pid=4712, uid=0, instance="arm_spe_0", cpus="2-3", owner="none",
            message="CPUs 2-3 are drained."),
]
