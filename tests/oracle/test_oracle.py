# SPDX-License-Identifier: LGPL-2.1-or-later
"""Generated hosts, configurations and sequences of calls against the daemon; after every step its state is
recomputed by judge.py. SPE_SEED=N runs one seed (which every failure names), SPE_LONG=1 many more."""

import collections
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "daemon"))

import harness  # noqa: E402
import sizes  # noqa: E402
from cases import GROUP, SIZES, VMS, Host  # noqa: E402
from judge import Fault, Held, Settings, State, clash, need, offered  # noqa: E402
from profilers import OBSERVE, PMU, SESSIONS_MAX, Pmu, Profilers, usable  # noqa: E402
from sizes import KIB, MIB  # noqa: E402

LONG = os.environ.get("SPE_LONG") == "1"
SEEDS = [int(os.environ["SPE_SEED"])] if "SPE_SEED" in os.environ else range(1, 101 if LONG else 17)
STEPS = int(os.environ.get("SPE_STEPS", "400" if LONG else "120"))
UNPROFILED_EVERY = 4  # of the seeds: without host sessions, as where none can be seen
FOREVER = 10**12
# Users, and what they have locked: by that the broker tells who may have enabled SPE.
OWNERS = ((0, 0), (0, 0), (0, MIB), (1000, 0), (1001, 64 * KIB))
REFUSALS = (
    "NoSuchInstance InstanceNotReady NoInstanceForCpus NotAssigned BufferSizeNotRepresentable LimitExceeded"
)
EXPECTED = [
    "Acquire granted",
    "Update granted",
    "Update Busy",
    "Update NotAssigned",
    "Release PermissionDenied",
    "counter-offer",
    "wait queued",
    "wait granted",
    "kept",
    "shrunk",
    "assigned away",
    "SPUs toggle",
    "SPUs back",
    "SPUs partial",
    "SPUs type",
    "SPUs names",
    "SPUs reload",
    "SPUs cut",
    "away",
    "gone too long",
    "restart",
    "moved",
    "retyped",
    "partly off line",
]
EXPECTED_OF_SESSIONS = [f"session {word}" for word in ("cpu", "task", "taskcpu", "contends", "lets in")]
EXPECTED += [f"Acquire {word}" for word in REFUSALS.split() + ["Busy"]]


class Run:
    """One seed: a host, some VMMs of three users, and random steps."""

    def __init__(self, case, seed, pmu):
        self.case, self.seed, self.rng = case, seed, random.Random(seed)
        self.host = Host(self.rng)
        self.profilers = Profilers(pmu, self.host.parts) if pmu else None
        config = self.host.text + (OBSERVE if pmu else "")
        self.broker = case.broker(tree=self.host.write, config=config)
        self.admin = case.client(self.broker)
        self.held = {}  # lease id: Held
        self.owners = [self.owner(uid, locked) for uid, locked in OWNERS]
        self.waiters = {}  # lease id: (request, stream), in the order of the queue
        self.what = "start"
        self.seen = collections.Counter()  # what has happened, to know that the cases are worth something
        self.read()

    def owner(self, uid, locked):
        process, client = self.case.vmm(self.broker, uid=uid, groups=[GROUP], locked=locked)
        return {"process": process, "client": client, "uid": uid, "locked": locked}

    def look(self):
        methods = ["ListInstances", "ListLeases", "Describe"] + ["ListSessions"] * bool(self.profilers)
        for method in methods:
            self.admin.send(method)
        instances, leases, host, *sessions = (self.admin.receive()[0] for _ in methods)
        decided = {
            cpu: a for origin in ("config", "persistent", "runtime")
            for cpu, a in self.host.assigned.get(origin, {}).items()
        }
        self.state = State(
            self.host.settings,
            instances["instances"],
            leases["leases"],
            host["host"],
            self.held,
            decided,
            sessions[0]["sessions"] if sessions else (),
        )
        return not self.profilers or self.profilers.agrees(self.state)

    def read(self):
        """The daemon's state, checked by itself and against what was assigned."""
        self.look()
        if self.profilers:
            self.profilers.follow(self.state)
        try:
            harness.wait_for(self.look, "what sessions there are, it hears by itself")
        except AssertionError as error:
            raise Fault(self.state.sessions, self.profilers.expected(self.state)) from error
        if self.profilers:
            self.look()  # all of it after that, and not the leases before and the sessions after
        self.check_followed()
        self.state.check()
        self.seen["session contends"] += any(session["contended"] for session in self.state.sessions)
        self.check_assignments()
        self.check_waiters()

    def check_followed(self):
        """Every lease is where its SPU is, with what the rules leave it."""
        locked = {owner["process"].pid: owner["locked"] for owner in self.owners}
        for lease in self.state.charged:
            held = self.held.setdefault(
                lease["leaseId"], Held(lease, locked.get(lease["owner"]["pid"], 0))
            )
            before = (held.instance, held.type, held.restart)
            away = self.state.follow(lease, held)
            if away and held.state != "revoked":
                self.seen["away"] += 1
                if self.host.gone_grace == 0:
                    self.seen["gone too long"] += 1
                    held.restart = True
                    need(lease["state"] == "revoked", "gone for too long, but", lease)
            need(lease["instance"] == held.instance, "instance", lease, "instead of", held.instance)
            need(lease["restartRequired"] == held.restart, "restartRequired", lease, held.__dict__)
            self.seen["moved"] += held.instance != before[0]
            self.seen["retyped"] += held.type != before[1]
            self.seen["restart"] += held.restart and not before[2]
            self.seen["partly off line"] += not away and sizes.cpus(lease["cpus"]) != held.cpus
            held.state = lease["state"]

    def check_assignments(self):
        """For every CPU the assignment that must decide, from what was configured and assigned."""
        decided = {}
        for origin in ("config", "persistent", "runtime"):
            decided |= {cpu: a + (origin,) for cpu, a in self.host.assigned.get(origin, {}).items()}
        for instance in self.state.instances:
            told = {cpu: (a["owner"], a.get("vm"), a["origin"]) for cpu, a in instance.deciding.items()}
            expected = {cpu: a for cpu, a in decided.items() if cpu in instance.cpus}
            need(told == expected, f"assignments {told} instead of {expected}")

    def check_waiters(self):
        """Whoever is queued is rightly so: it would not be granted, after those ahead of it."""
        queued = [l["leaseId"] for l in self.state.queued]
        for lease_id in [i for i in self.waiters if i not in queued]:
            _, stream = self.waiters.pop(lease_id)
            try:
                change = stream.next()["change"]
                need(change in ("granted", "ended"), "a waiter was told something odd", change)
                let_in = change == "granted" and self.what.startswith("profile no more")
                self.seen["session lets in"] += let_in
            except harness.VarlinkError as error:
                need(not error.name.endswith(".Busy"), "a waiter gave up")
            stream.close()
        claims = []
        for lease_id, (request, _) in self.waiters.items():
            errors, _, _ = self.state.decide(request, claims)
            # A limit may have come in its way since: it is told when its turn comes
            need(errors in ({"Busy"}, {"LimitExceeded"}), "a waiter that must not wait:", lease_id, errors)
            claims.append((request["mode"], request["cpus"]))
        return claims

    def claims(self):
        return [(request["mode"], request["cpus"]) for request, _ in self.waiters.values()]

    # Requests

    def request(self, owner, with_cpus=False):
        """A random request: (the JSON, the same with its defaults filled in)."""
        rng, json = self.rng, {"vm": self.rng.choice(VMS), "vcpus": self.rng.choice((1, 1, 2, 4, 17))}
        if with_cpus or rng.random() < 0.5:
            json["cpus"] = sizes.cpulist(self.host.some_cpus(rng))
        if rng.random() < 0.3:
            json["instance"] = f"arm_spe_{rng.randrange(len(self.host.parts) + (rng.random() < 0.1))}"
        if rng.random() < 0.7:
            json["bufferSize"] = rng.choice(SIZES)
        if rng.random() < 0.3:
            json["exact"] = True
        if rng.random() < 0.7:
            often = 3 if owner["uid"] == 0 else 0  # others are refused
            json["mode"] = rng.choice(("exclusive", "guest", "guest", "shared") + ("exclusive",) * often)
        uid = owner["uid"]
        if owner["uid"] == 0 and rng.random() < 0.3:  # root takes it for somebody else
            other = rng.choice(self.owners)
            json["pid"], uid = other["process"].pid, other["uid"]
        settings = self.host.settings
        full = {
            "uid": uid,
            "administrator": owner["uid"] == 0,
            "vm": json["vm"],
            "vcpus": json["vcpus"],
            "origin": "administrator" if owner["uid"] == 0 else "caller",
            "cpus": sizes.cpus(json["cpus"]) if "cpus" in json else None,
            "instance": json.get("instance"),
            "size": json.get("bufferSize", settings.limits["DefaultBufferSize"]),
            "exact": json.get("exact", False),
            "mode": json.get("mode", settings.default_mode),
            "threads": {json.get("pid", owner["process"].pid)},
        }
        return json, full

    def same(self, lease, offer):
        for field in ("instance", "pmuType", "cpus", "bufferSize", "charge", "mode"):
            need(lease[field] == offer[field], field, lease, "is not what was offered:", offer)

    def attempt(self, client, method, **parameters):
        """(reply, None) or (None, the error's last component)."""
        try:
            reply, error = client.call(method, parameters), None
        except harness.VarlinkError as caught:
            reply, error = None, caught.name.rpartition(".")[2]
        self.seen[f"{method} {error or 'granted'}"] += 1
        return reply, error

    # Steps

    def step_acquire(self):
        owner = self.rng.choice(self.owners)
        json, request = self.request(owner)
        self.what = f"acquire as {owner['uid']}: {json}"
        decision = owner["client"].call("Query", request=json)["decision"]
        errors, instance, judgement = self.state.decide(request, self.claims())
        told = [r["error"].rpartition(".")[2] for r in decision["refusals"]]
        need(decision["granted"] == (not errors), "granted:", decision, "but:", errors)
        need(decision["granted"] == (not told), "refusals", told)
        reply, error = self.attempt(owner["client"], "Acquire", request=json)
        if decision["granted"]:
            offered(decision["offer"], instance, judgement, request)
            need(reply is not None, "offered, then refused:", error)
            self.same(reply["lease"], decision["offer"])
            return
        need(told[0] in errors, "refused with", told, "instead of", errors)
        need(error == told[0], "Acquire says", error, "and Query", told)
        counter = decision.get("counterOffer")
        if counter:
            self.take(owner, json, counter)

    def take(self, owner, json, counter):
        """A counter-offer, acquired, succeeds; mostly given back, to keep room."""
        self.seen["counter-offer"] += 1
        json = json | {k: counter[k] for k in ("instance", "cpus", "bufferSize", "mode")} | {"exact": True}
        reply, error = self.attempt(owner["client"], "Acquire", request=json)
        need(reply is not None, "the counter-offer was refused:", error, counter)
        self.same(reply["lease"], counter)
        if self.rng.random() < 0.8:
            self.read()
            self.admin.call("Release", leaseId=reply["lease"]["leaseId"])

    def step_wait(self):
        owner = self.rng.choice(self.owners)
        json, request = self.request(owner, with_cpus=True)
        if self.profilers and self.profilers.open and self.rng.random() < 0.5:
            cpu = self.rng.choice([s["cpu"] for s in self.profilers.open]) or 0
            json["cpus"], request["cpus"] = str(cpu), {cpu}
        self.what = f"wait as {owner['uid']}: {json}"
        errors, _, _ = self.state.decide(request, self.claims())
        client = owner["process"].connect(self.broker)
        self.case.addCleanup(client.close)
        stream = client.stream("Acquire", request=json, waitUSec=FOREVER)
        try:
            reply = stream.next()
        except harness.VarlinkError as error:
            name = error.name.rpartition(".")[2]
            need(name in errors and name != "Busy", "refused with", name, "instead of", errors)
            return
        self.seen[f"wait {reply['change']}"] += 1
        if reply["change"] == "granted":
            need(not errors, "granted against", errors)
            client.close()
        else:
            need((reply["change"], errors) == ("queued", {"Busy"}), reply["change"], "but", errors)
            self.waiters[reply["lease"]["leaseId"]] = (request, stream)

    def step_leave(self):
        if self.waiters:
            lease_id = self.rng.choice(list(self.waiters))
            self.what = f"waiter {lease_id} leaves"
            _, stream = self.waiters.pop(lease_id)
            stream.close()
            harness.wait_for(lambda: self.broker.lease(lease_id) is None, "the waiter is gone")

    def some_lease(self, *states):
        leases = [l for l in self.state.leases if l["state"] in states]
        return self.rng.choice(leases) if leases else None

    def step_release(self):
        lease = self.some_lease("granted", "revoking", "revoked")
        if lease:
            owner = self.rng.choice(self.owners)
            self.what = f"release {lease['leaseId']} as {owner['uid']}"
            allowed = owner["uid"] == 0 or owner["process"].pid == lease["owner"]["pid"]
            _, error = self.attempt(owner["client"], "Release", leaseId=lease["leaseId"])
            need(error == (None if allowed else "PermissionDenied"), "Release says", error)

    def step_update(self):
        lease = self.some_lease("granted")
        if not lease:
            return
        cpus, own = self.host.some_cpus(self.rng), sorted(self.state.find(lease["instance"]).online)
        if own and self.rng.random() < 0.85:
            cpus = set(self.rng.sample(own, self.rng.randint(1, min(len(own), 6))))
        self.what = f"update {lease['leaseId']} from {lease['cpus']} to {sizes.cpulist(cpus)}"
        instance = self.state.find(lease["instance"])
        held = self.held[lease["leaseId"]].cpus
        if instance.state == "ready" and not held & instance.cpus:
            right = {"InvalidParameter"}  # the name is another SPU's
        elif instance.state != "ready":
            right = {"InstanceNotReady"}
        elif not cpus <= instance.online:
            right = {"NoInstanceForCpus"}
        elif not all(self.state.allowed(instance, cpu, lease["vm"], lease["vmOrigin"]) for cpu in cpus):
            right = {"NotAssigned"}
        elif self.state.conflicts(lease["mode"], cpus, [], without=lease["leaseId"]):
            right = {"Busy"}
        elif self.state.conflicts(lease["mode"], cpus - held, self.claims(), without=lease["leaseId"]):
            right = {"Busy"}
        elif self.state.profiled(lease["mode"], instance, cpus - held, {lease["owner"]["pid"]}):
            right = {"Busy"}
        elif self.state.conflicts(lease["mode"], cpus, self.claims(), without=lease["leaseId"]):
            right = {"Busy", None}  # a waiter wants what this lease already has
        else:
            right = {None}
        reply, error = self.attempt(self.admin, "Update", leaseId=lease["leaseId"], cpus=sizes.cpulist(cpus))
        need(error in right, "Update says", error, "instead of", right)
        if reply:
            self.held[lease["leaseId"]].cpus = cpus
            # Whether it is away, or needs a restart, may depend on its CPUs
            place = {k: reply["lease"][k] for k in ("pmuType", "reason", "restartRequired", "remainingUSec")}
            need(
                reply["lease"] == lease | {"cpus": sizes.cpulist(cpus)} | place,
                "Update changed more:",
                reply["lease"],
            )

    def known_cpus(self):
        return set().union(*(i.cpus for i in self.state.instances))

    def step_assign(self):
        cpus, owner, vm = self.host.some_assignment(self.rng)
        cpus = cpus & self.known_cpus()
        if not cpus:
            return
        runtime = self.rng.random() < 0.4
        self.what = f"assign {sizes.cpulist(cpus)} to {owner} {vm} runtime={runtime}"
        before = self.leases_held()
        self.admin.call("Assign", cpus=sizes.cpulist(cpus), owner=owner, vm=vm, runtime=runtime)
        self.host.assign("runtime" if runtime else "persistent", cpus, owner, vm)
        self.after_assignment(before)

    def step_unassign(self):
        cpus = self.host.some_cpus(self.rng) if self.rng.random() < 0.5 else self.host.cpus
        cpus = cpus & self.known_cpus()
        if cpus:
            self.what = f"unassign {sizes.cpulist(cpus)}"
            before = self.leases_held()
            self.admin.call("Unassign", cpus=sizes.cpulist(cpus))
            self.host.unassign(cpus)
            self.after_assignment(before)

    def leases_held(self):
        return [(lease, self.held[lease["leaseId"]].cpus) for lease in self.state.charged]

    def after_assignment(self, before):
        """Leases kept what they may keep, no more and no less."""
        self.read()
        after = {l["leaseId"]: l for l in self.state.leases}
        for lease, held in before:
            now = after.get(lease["leaseId"])
            if lease["state"] != "granted":
                continue
            instance = self.state.find(lease["instance"])
            kept = {c for c in held if self.state.allowed(instance, c, lease["vm"], lease["vmOrigin"])}
            need(now is not None, "a lease is lost", lease)
            self.seen["assigned away" if not kept else "shrunk" if kept != held else "kept"] += 1
            if kept and now["pmuType"] is None and self.host.gone_grace == 0:
                continue  # only CPUs that are off line are left, which read() has looked at
            need(now["state"] == ("granted" if kept else "revoking"), "state", now, "CPUs left", kept)
            need(not kept or self.held[lease["leaseId"]].cpus == kept, "CPUs", now, "instead of", kept)

    def step_revoke(self):
        lease = self.some_lease("granted", "revoking")
        if lease:
            grace = self.rng.choice((0, FOREVER))
            self.what = f"revoke {lease['leaseId']} with {grace}"
            self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=grace)
            if grace == 0:
                need(self.broker.lease(lease["leaseId"])["state"] == "revoked", "not revoked at once")

    def step_die(self):
        at = self.rng.randrange(len(self.owners))
        owner = self.owners[at]
        pid = owner["process"].pid
        self.what = f"process {pid} dies"
        if self.profilers:
            self.profilers.stop_all(pid)
        owner["process"].kill()
        owner["client"].close()
        self.owners[at] = self.owner(owner["uid"], owner["locked"])
        harness.wait_for(
            lambda: not any(l["owner"].get("pid") == pid for l in self.admin.call("ListLeases")["leases"]),
            "its leases have ended",
        )
        for lease_id in list(self.waiters):
            if self.broker.lease(lease_id) is None:
                self.waiters.pop(lease_id)[1].close()

    def step_online(self):
        self.host.online = self.host.some_online(self.rng)
        self.what = f"online {sizes.cpulist(self.host.online)}"
        self.broker.tree.online(sizes.cpulist(self.host.online))
        self.admin.call("Rescan")

    def step_driver(self):
        """Instances go, with whatever leases are on them, come back, or are other ones now."""
        what = self.host.change(self.rng)
        self.what = f"SPUs {what}: {self.host.parts}"
        if self.profilers and not self.profilers.has_spu(self.host.parts):
            self.profilers.stop_all()  # events of a PMU that is no SPU's are none of the broker's business
        self.host.write_parts(self.broker.tree)
        self.admin.call("Rescan")
        self.seen[f"SPUs {what}"] += 1

    def step_profile(self):
        known = self.profilers and self.profilers.spu(self.state)
        if known and len(self.profilers.open) < SESSIONS_MAX:
            targets = [owner["process"].pid for owner in self.owners] + [os.getpid()]
            kind = self.profilers.start(self.rng, targets)
            self.what = f"profile {self.profilers.open[-1]}"
            self.seen[f"session {kind}"] += 1

    def step_profile_no_more(self):
        if self.profilers and self.profilers.open:
            session = self.rng.choice(self.profilers.open)
            self.what = f"profile no more {session}"
            self.profilers.stop(session)

    STEPS = [
        (step_profile, 6),
        (step_profile_no_more, 7),
        (step_acquire, 55),
        (step_release, 14),
        (step_update, 8),
        (step_wait, 14),
        (step_leave, 2),
        (step_assign, 4),
        (step_unassign, 5),
        (step_revoke, 4),
        (step_die, 2),
        (step_online, 4),
        (step_driver, 5),
    ]

    def go(self, steps):
        functions, weights = zip(*self.STEPS)
        for number in range(steps):
            self.what = "nothing"
            try:
                self.rng.choices(functions, weights)[0](self)
                self.read()
            except (Fault, harness.VarlinkError, KeyError, TypeError) as error:
                raise AssertionError(f"seed {self.seed}, step {number}, {self.what}: {error!r}") from error
        self.end()

    def end(self):
        """All released: every charge is zero."""
        if self.profilers:
            self.profilers.stop_all()
        for _, stream in self.waiters.values():
            stream.close()
        half = self.state.charged[::2]
        for lease in half:
            self.admin.call("Release", leaseId=lease["leaseId"])
        for owner in self.owners:
            owner["process"].kill()
            owner["client"].close()
        harness.wait_for(lambda: not self.admin.call("ListLeases")["leases"], "every lease has ended")
        self.case.assert_idle(self.broker)


class TestOracle(harness.TestCase):
    def test_generated(self):
        seen, pmu = collections.Counter(), None
        if PMU.exists() and "SPE_UNPROFILED" not in os.environ:
            pmu = Pmu()
            self.addClassCleanup(pmu.close)
        profiled = pmu and usable(self, Host(random.Random(0)).write)
        print(f"oracle: host sessions {'of PMU msr' if profiled else 'cannot be seen here'}")
        for seed in SEEDS:
            print(f"oracle: SPE_SEED={seed} SPE_STEPS={STEPS}", flush=True)
            run = Run(self, seed, pmu.type if profiled and seed % UNPROFILED_EVERY else None)
            run.go(STEPS)
            run.broker.stop()
            self.doCleanups()
            seen += run.seen
        print(dict(sorted(seen.items())))
        if len(SEEDS) > 1:
            expected = EXPECTED + (EXPECTED_OF_SESSIONS if profiled else [])
            self.assertEqual([word for word in expected if not seen[word]], [], "never happened")


class TestJudge(harness.TestCase):
    """The oracle itself can say no."""

    def test_sharing(self):
        for modes, bad in (
            (("guest", "guest"), False),
            (("exclusive", "guest"), True),
            (("shared", "exclusive"), True),
        ):
            self.assertEqual(clash(*modes), bad)

    def test_books(self):
        settings = Settings(
            {
                "MaxMemory": 10**9,
                "MaxLeases": 9,
                "MaxLeasesPerUser": 9,
                "MaxBufferSize": MIB,
                "MaxMemoryPerVM": 10**9,
                "MaxMemoryPerUser": 10**9,
            }
        )
        charge = sizes.charge(1, 4096)
        lease = {
            "leaseId": "1",
            "vm": "a",
            "vmOrigin": "caller",
            "instance": "arm_spe_0",
            "cpus": "0",
            "vcpus": 1,
            "bufferSize": 4096,
            "requestedBufferSize": 4096,
            "charge": charge,
            "mode": "guest",
            "state": "granted",
            "memlock": {"bytes": charge, "state": "unmanaged"},
            "contended": False,
            "misplaced": False,
            "pmuType": 8,
            "restartRequired": False,
            "reason": None,
            "owner": {"uid": 0},
        }
        instance = {
            "name": "arm_spe_0",
            "state": "ready",
            "pmuType": 8,
            "cpus": "0-3",
            "onlineCpus": "0-3",
            "charge": charge,
            "leases": 1,
            "leasedCpus": "0",
            "assignments": [],
        }
        host = {"charge": charge, "counts": {"leases": 1, "waiting": 0, "instances": 1}}
        State(settings, [instance], [lease], host).check()
        forbidden = [{"cpus": "0", "owner": "host", "origin": "config", "state": "active"}]
        exclusive = [lease | {"mode": "exclusive"}, lease | {"leaseId": "2"}]
        for instances, leases, told in (
            ([instance | {"charge": 0}], [lease], host),
            ([instance | {"leases": 2}], [lease], host),
            ([instance | {"leasedCpus": "0-1"}], [lease], host),
            ([instance], [lease], host | {"charge": 1}),
            ([instance], [lease | {"charge": 5}], host),
            ([instance], [lease | {"bufferSize": 5000}], host),
            ([instance], [lease | {"cpus": "4"}], host),
            ([instance], [lease | {"pmuType": None}], host),
            ([instance], [lease | {"pmuType": 9}], host),
            ([instance], [lease | {"restartRequired": True}], host),
            ([instance | {"onlineCpus": "1-3"}], [lease], host),
            ([instance | {"assignments": forbidden}], [lease], host),
            (
                [instance | {"leases": 2, "charge": 2 * charge}],
                exclusive,
                {"charge": 2 * charge, "counts": host["counts"] | {"leases": 2}},
            ),
        ):
            with self.assertRaises(Fault):
                State(settings, instances, leases, told).check()


if __name__ == "__main__":
    harness.main()
