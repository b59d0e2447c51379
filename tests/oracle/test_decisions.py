# SPDX-License-Identifier: LGPL-2.1-or-later
"""Generated models against decide() itself, judged by judge.py: what only the kernel can bring about, host
sessions above all, is here what the case says. SPE_SEED=N runs one case (which every failure names),
SPE_LONG=1 many more."""

import collections
import json
import os
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "daemon"))

import harness  # noqa: E402
import seeded  # noqa: E402
import sizes  # noqa: E402
from cases import SIZES, VMS, Host  # noqa: E402
from judge import MODES, Fault, State, clash, need, offered  # noqa: E402
from sizes import MIB  # noqa: E402

LONG = os.environ.get("SPE_LONG") == "1"
SEEDS = [int(os.environ["SPE_SEED"])] if "SPE_SEED" in os.environ else range(1, 100001 if LONG else 8001)
ORDER = (
    "NoSuchInstance InstanceNotReady GuestUnsupported NoInstanceForCpus NotAssigned BufferSizeNotRepresentable "
    "LimitExceeded ArbitrationUnavailable Busy"
).split()
REASON = "it was never there"
THREADS = range(1, 5)
EXPECTED = (
    [f"refused {error}" for error in ORDER if error != "GuestUnsupported"]
    + [f"{mode} granted" for mode in MODES]
    + ["guest beside a task", "shared beside a task", "shared beside a session"]
    + ["by a session alone", "by its own session", "by an exclusive lease's right", "by an assignment"]
    + ["by what is not seen", "exclusive instead", "guest instead", "shared instead", "nothing instead"]
    + [
        f"move {word}"
        for word in ("granted", "kept a session", "Busy", "NotAssigned", "ArbitrationUnavailable")
    ]
    + ["move unprotected"]
)


class Case:
    """A host with leases, sessions and waiters, and one request."""

    def __init__(self, seed):
        self.seed, self.rng = seed, random.Random(seed)
        self.host = Host(self.rng)
        for _ in range(self.rng.randint(0, 2)):
            cpus, owner, vm = self.host.some_assignment(self.rng)
            self.host.assign(self.rng.choice(("persistent", "runtime")), cpus, owner, vm)
        self.instances = [self.instance(part) for part in self.host.parts]
        few = self.rng.choice((0, 2, 4))
        self.leases = [self.lease(i) for i in range(self.rng.randint(0, few))]
        self.sessions = [self.session() for _ in range(self.rng.choice((0, 1, 1, 2, 5)))]
        self.unseen = self.host.some_cpus(self.rng) if self.rng.random() < 0.1 else set()
        self.unprotected = REASON if self.rng.random() < 0.15 else None
        self.claims = [
            (self.rng.choice(MODES), self.host.some_cpus(self.rng))
            for _ in range(self.rng.choice((0, 0, 0, 1, 2)))
        ]
        self.moving = self.rng.choice(self.leases) if self.leases and self.rng.random() < 0.4 else None
        self.request = self.some_request()
        if self.moving:
            self.request |= {
                "uid": self.moving["owner"]["uid"],
                "vm": self.moving["vm"],
                "mode": self.moving["mode"],
                "instance": self.moving["instance"],
                "cpus": self.place(self.moving["instance"]),
            }
        self.state = self.make_state()

    def instance(self, part):
        state = "partial" if part["partial"] else "ready"
        return {
            "name": f"arm_spe_{part['name']}",
            "state": state,
            "pmuType": part["type"],
            "cpus": sizes.cpulist(part["cpus"]),
            "onlineCpus": sizes.cpulist(part["cpus"] & self.host.online),
            "maxBufferSize": part["max"],
            "charge": 0,
            "assignments": [],
        }

    def place(self, name):
        """CPUs, mostly on line, of an instance."""
        instance = next(i for i in self.instances if i["name"] == name)
        pool = sizes.cpus(instance["onlineCpus"] if self.rng.random() < 0.9 else instance["cpus"])
        pool = sorted(pool or sizes.cpus(instance["cpus"]))
        return set(self.rng.sample(pool, self.rng.randint(1, min(len(pool), 4))))

    def lease(self, number):
        instance = self.rng.choice(self.instances)
        charge = sizes.charge(1, self.rng.choice((4096, MIB)))
        instance["charge"] += charge
        return {
            "leaseId": str(number),
            "vm": self.rng.choice(VMS),
            "instance": instance["name"],
            "cpus": sizes.cpulist(self.place(instance["name"])),
            "mode": self.rng.choice(("guest", "guest", "shared", "exclusive")),
            "state": "granted",
            "charge": charge,
            "owner": {"uid": self.rng.choice((0, 1000, 1001))},
        }

    def session(self):
        """As ListSessions says it."""
        instance, kind = self.rng.choice(self.instances), self.rng.choice(("cpu", "cpu", "task", "taskcpu"))
        cpus = sorted(self.place(instance["name"]))
        if kind != "task":
            cpus = cpus[:1]
        return {
            "kind": kind,
            "instance": instance["name"],
            "cpu": cpus[0] if kind != "task" else None,
            "task": self.rng.choice(THREADS) if kind != "cpu" else None,
            "cpus": sizes.cpulist(cpus if self.rng.random() < 0.95 else []),
        }

    def some_request(self):
        rng, origin = self.rng, self.rng.choice(("administrator", "machine", "unit", "caller"))
        return {
            "uid": rng.choice((0, 1000, 1001)),
            "administrator": rng.random() < 0.4,
            "vm": rng.choice(VMS),
            "origin": origin,
            "vcpus": rng.choice((1, 1, 2, 4)),
            "cpus": self.host.some_cpus(rng) if rng.random() < 0.6 else None,
            "instance": f"arm_spe_{rng.randrange(len(self.host.parts) + 1)}" if rng.random() < 0.25 else None,
            "size": rng.choice(SIZES[:5] if rng.random() < 0.5 else SIZES),
            "exact": rng.random() < 0.2,
            "mode": rng.choice(MODES + ("guest",)),
            "threads": set(rng.sample(THREADS, rng.choice((0, 1, 2)))),
        }

    def make_state(self):
        decided = {
            cpu: a
            for origin in ("config", "persistent", "runtime")
            for cpu, a in self.host.assigned.get(origin, {}).items()
        }
        return State(
            self.host.settings,
            self.instances,
            self.leases,
            None,
            decided=decided,
            sessions=self.sessions,
            unseen=self.unseen,
            unprotected=self.unprotected,
        )

    def line(self):
        """For decide-lines."""
        settings, request = self.host.settings, dict(self.request)
        request["cpus"] = None if request["cpus"] is None else sizes.cpulist(request["cpus"])
        threads = request.pop("threads")
        own = [sizes.cpus(s["cpus"]) for s in self.sessions if s["task"] in threads]
        request["ownSessions"] = sizes.cpulist(set().union(*own))
        return json.dumps(
            {
                "defaultOwner": settings.default_owner,
                "limits": settings.limits,
                "overrides": [{"vm": vm, "uid": 0} | section for vm, section in settings.vms.items()]
                + [{"vm": None, "uid": uid} | section for uid, section in settings.users.items()],
                "instances": self.instances,
                "assignments": [
                    {"cpus": str(cpu), "owner": owner, "vm": vm, "origin": origin}
                    for origin, cpus in self.host.assigned.items()
                    for cpu, (owner, vm) in cpus.items()
                ],
                "leases": self.leases,
                "sessions": self.sessions,
                "unholdable": sizes.cpulist(self.unseen),
                "unprotected": self.unprotected,
                "claims": [{"mode": mode, "cpus": sizes.cpulist(cpus)} for mode, cpus in self.claims],
                "request": request,
                "held": self.moving["cpus"] if self.moving else None,
            }
        )

    # The answer

    def check(self, answer, seen):
        told = [refusal["error"] for refusal in answer["refusals"]]
        need(answer["granted"] == (not told), "granted, with", told)
        need(told == sorted(told, key=ORDER.index) and len(set(told)) == len(told), "order", told)
        for refusal in answer["refusals"]:
            unprotected = refusal["error"] == "ArbitrationUnavailable"
            need(refusal.get("reason") == (REASON if unprotected else None), "reason", refusal)
        if self.moving:
            self.check_move(answer, told, seen)
        else:
            self.check_decision(answer, told, seen)

    def check_move(self, answer, told, seen):
        instance, request = self.state.find(self.moving["instance"]), self.request
        right = self.state.judge_move(instance, self.moving, request, self.claims)
        need((told or [None])[0] == right, "a move:", told, "instead of", right)
        seen[f"move {right or 'granted'}"] += 1
        if not told:
            kept = request["cpus"] & sizes.cpus(self.moving["cpus"])
            there = self.state.profiled(request["mode"], instance, kept, request["threads"])
            seen["move kept a session"] += bool(there)
            seen["move unprotected"] += bool(self.unprotected and request["mode"] != "shared")

    def check_decision(self, answer, told, seen):
        request, claims = self.request, self.claims
        errors, instance, judgement = self.state.decide(request, claims)
        need(answer["granted"] == (not errors), "granted:", answer, "but:", errors)
        need(answer["granted"] or told[0] in errors, "refused with", told, "instead of", errors)
        need(("offer" in answer) == (told in ([], ["Busy"])), "an offer with", told)
        need("counterOffer" not in answer or told, "a counter-offer beside a grant")
        if not told:
            offered(answer["offer"], instance, judgement, request)
            self.note_granted(instance, judgement[1], seen)
            return
        seen[f"refused {told[0]}"] += 1
        if told == ["Busy"]:
            self.check_busy(answer["offer"], answer["refusals"][0], seen)
        self.check_counter_offer(answer.get("counterOffer"), seen)

    def note_granted(self, instance, cpus, seen):
        mode = self.request["mode"]
        seen[f"{mode} granted"] += 1
        for session in self.sessions:
            if sizes.cpus(session["cpus"]) & cpus:
                seen[f"{mode} beside a {'session' if session['kind'] == 'cpu' else 'task'}"] += 1

    def check_busy(self, offer, refusal, seen):
        """The CPUs in conflict, and by whom."""
        request, instance = self.request, self.state.find(offer["instance"])
        judgement = self.state.judge(instance, request, self.claims)
        need(judgement[0] == "Busy", "Busy instead of", judgement)
        offered(offer, instance, judgement, request)
        mode, cpus = request["mode"], judgement[1]
        profiled = self.state.profiled(mode, instance, cpus, request["threads"])
        leased = self.state.conflicts(mode, cpus, [])
        claimed = [c for m, c in self.claims if clash(mode, m) and c & cpus]
        need(refusal["bySession"] == bool(profiled), "bySession", refusal, "sessions on", profiled)
        need(refusal["byClaim"] == bool(claimed), "byClaim", refusal, "claims", claimed)
        right = (profiled | leased).union(*claimed) & cpus
        need(sizes.cpus(refusal["cpus"]) == right, "Busy on", refusal, "instead of", right)
        if profiled and not leased and not claimed:
            seen["by a session alone"] += 1
            seen["by what is not seen"] += profiled <= self.unseen
            for session in self.sessions:
                if session["kind"] != "cpu" and sizes.cpus(session["cpus"]) & cpus:
                    seen["by its own session"] += session["task"] in request["threads"]
                    seen["by an exclusive lease's right"] += mode == "exclusive"
                    seen["by an assignment"] += mode == "guest" and session["task"] not in request["threads"]

    def check_counter_offer(self, counter, seen):
        """It would be granted, there is one wherever anything is left, and protection is given up last."""
        request, claims, mode = self.request, self.claims, self.request["mode"]
        milder = MODES[MODES.index(mode) :]
        left = self.state.could_have(request, claims, milder)
        need((counter is not None) == left, "a counter-offer", counter, "but there is something:", left)
        if not counter:
            seen["nothing instead"] += 1
            return
        seen[f"{counter['mode']} instead"] += mode != "shared"
        need(counter["mode"] in milder, "a stricter mode", counter)
        instead = request | {
            "instance": counter["instance"],
            "cpus": sizes.cpus(counter["cpus"]),
            "size": counter["bufferSize"],
            "exact": True,
            "mode": counter["mode"],
        }
        errors, instance, judgement = self.state.decide(instead, claims)
        need(not errors, "a counter-offer that is refused:", counter, errors)
        offered({**counter, "limitedBy": None}, instance, judgement, instead)
        if mode != "shared" and counter["mode"] == "shared":
            need(not self.state.could_have(request, claims, milder[:-1]), "protection is given up", counter)


class TestDecisions(harness.TestCase):
    def test_generated(self):
        seen, cases = collections.Counter(), [Case(seed) for seed in SEEDS]
        done = subprocess.run(
            [os.environ["SPE_DECIDE"]],
            input="".join(case.line() + "\n" for case in cases),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        answers = done.stdout.splitlines()
        self.assertEqual(len(answers), len(cases))
        for case, answer in zip(cases, answers):
            try:
                case.check(json.loads(answer), seen)
            except Fault as fault:
                raise AssertionError(f"SPE_SEED={case.seed}: {fault}\n{case.line()}\n{answer}") from fault
        print(dict(sorted(seen.items())))
        if len(SEEDS) > 1:
            self.assertEqual([word for word in EXPECTED if not seen[word]], [], "never happened")


class TestBugs(harness.TestCase):
    def test_applicable(self):
        """Label seeded takes minutes and is run seldom: that its bugs can still be put in is seen here."""
        bugs = [seeded.Bug(path) for path in sorted(seeded.SOURCE.glob("tests/*/bugs/*.bug"))]
        self.assertEqual([bug.name for bug in bugs if not bug.applies(seeded.SOURCE)], [])


if __name__ == "__main__":
    harness.main()
