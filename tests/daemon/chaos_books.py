# SPDX-License-Identifier: LGPL-2.1-or-later
"""The books of the chaos test, kept from outside: which calls were sent, what was answered, who died. From that alone
they say which leases there must be, may be, and must never be again. Nothing of the broker's is used to judge it.

What is fed is a history: sent(), replied(), failed(), closed() of calls, died() of processes, down() and up() of the
daemon, and everything it shows: snapshot() and a Watch per stream. A call whose connection broke before the answer may
have been carried out or not: the first snapshot after that decides, once. A Fault is a lease lost, one that came back,
two that exclude each other, or a sum that is wrong; what may still be on its way is returned instead."""

import itertools

import sizes

HOLDING = ("granted", "revoking")
CHARGED = ("granted", "revoking", "revoked")
FIXED = ("leaseId", "vm", "vmOrigin", "vcpus", "bufferSize", "requestedBufferSize", "limitedBy", "charge", "memlock",
         "interrupt", "mode", "owner", "sinceUSec")
USEC = 1_000_000


class Fault(AssertionError):
    """The broker broke its word."""


def need(truth, *what):
    if not truth:
        raise Fault(" ".join(map(str, what)))


def word(lease):
    return f"{lease['leaseId'][:8]} of {lease['vm']} (pid {lease['owner']['pid']}, {lease['mode']} {lease['cpus']})"


def check_conflicts(leases):
    """At most one lease on a CPU, if one of them is exclusive."""
    holders = {}
    for lease in leases:
        if lease["state"] not in HOLDING:
            continue
        for cpu in sizes.cpus(lease["cpus"]):
            for other in holders.setdefault(cpu, []):
                need("exclusive" not in (lease["mode"], other["mode"]),
                     f"conflict: CPU {cpu} is held by {word(lease)} and by {word(other)}")
            holders[cpu].append(lease)


class Call:
    """One call, from the moment its bytes are sent."""

    def __init__(self, method, parameters, pid, serial):
        self.method, self.parameters, self.pid, self.serial = method, parameters, pid, serial
        self.state = "pending"  # then answered, or unknown
        self.lease_id = parameters.get("leaseId")
        self.cpus = frozenset(sizes.cpus(parameters["cpus"])) if parameters.get("cpus") else None
        self.held = None  # what was there for certain when it was sent

    @property
    def chain(self):
        """Acquires with the same key are for the same lease: names of VMs are used for nothing else."""
        return self.pid, self.parameters["request"]["vm"]

    def __repr__(self):
        return f"{self.method} {self.parameters} of {self.pid} ({self.state})"


class Held:
    """A lease that a client, or a snapshot, has told of."""

    def __init__(self, lease):
        self.told = lease  # as it was told last
        self.cpus = {frozenset(sizes.cpus(lease["cpus"]))}  # one of these, be they off line or not
        self.partly = False  # it may have others that are off line, and was not heard of before they were
        self.state = lease["state"]
        self.releases = set()  # Release calls that are under way, or whose answers are lost
        self.revokes = set()
        self.revoked = False  # that is certain: it is never granted again
        self.barred = False  # assignments may have left it nothing
        self.deadline = None  # CLOCK_MONOTONIC, µs: the grace of that revocation ends then, if not before
        self.overdue = False  # none of its CPUs may have been there for as long as it is waited for
        self.away_deadline = None  # it is revoked by then, as they are not there

    @property
    def pid(self):
        return self.told["owner"]["pid"]


class Assigned:
    """What assignments there may be, per origin and CPU. Several, while it is unknown whether a call was carried
    out."""

    def __init__(self):
        self.worlds = [{}]  # (origin, cpu): (owner, vm)

    @staticmethod
    def apply(world, call):
        if call.method == "Unassign":
            return {k: v for k, v in world.items() if k[1] not in call.cpus}
        origin = "runtime" if call.parameters.get("runtime") else "persistent"
        value = call.parameters["owner"], call.parameters.get("vm")
        return world | {(origin, cpu): value for cpu in call.cpus}

    def done(self, call):
        self.worlds = [self.apply(world, call) for world in self.worlds]

    def maybe(self, call):
        self.worlds += [self.apply(world, call) for world in self.worlds]

    @staticmethod
    def deciding(world):
        out = {}
        for origin in ("persistent", "runtime"):
            out |= {cpu: (*value, origin) for (where, cpu), value in world.items() if where == origin}
        return out

    def all_deciding(self, calls=()):
        """What may decide, if some of these calls have been carried out."""
        return [self.deciding(w) for world in self.worlds for w in (world, *(self.apply(world, c) for c in calls))]

    def shown(self, instances, pending):
        """Keeps the worlds that look like this, or would after a pending call; returns which CPUs are decided on, and
        how."""
        told, visible = {}, set()
        for instance in instances:
            visible |= sizes.cpus(instance["cpus"])
            for a in instance["assignments"]:
                told |= {cpu: (a["owner"], a["vm"], a["origin"]) for cpu in sizes.cpus(a["cpus"])}

        def fits(world):
            return {cpu: v for cpu, v in self.deciding(world).items() if cpu in visible} == told

        possible = [w for w in self.worlds if fits(w) or any(fits(self.apply(w, call)) for call in pending)]
        need(possible, "assignments: shown are", told, "instead of one of", [self.deciding(w) for w in self.worlds])
        unique = []
        for world in possible:
            if world not in unique:
                unique.append(world)
        self.worlds = unique
        return told

    def saved(self, found):
        """Keeps the one world that the files say, while no call is under way: they tell of one origin what another
        hides."""
        need(found in self.worlds, "assignments: saved are", found, "instead of one of", self.worlds)
        self.worlds = [found]


def left_to(lease, cpus, deciding):
    """What assignments leave it of these CPUs."""
    def allows(owner="any", vm=None, _=None):
        return owner in ("guest", "any") and (vm is None or (vm == lease["vm"] and lease["vmOrigin"] != "caller"))

    return frozenset(cpu for cpu in cpus if allows(*deciding.get(cpu, ())))


class Books:
    def __init__(self, revoke_grace=10 * USEC, gone_grace=60 * USEC):
        self.serial = 0  # counts calls and snapshots
        self.last_snapshot = 0
        self.calls = []  # pending, and unknown until the next snapshot
        self.leases = {}  # id: Held
        self.ended = {}  # id: the serial as of which it must never be seen again
        self.dead = set()  # pids
        self.dead_at_start = set()  # of processes that were gone before this daemon was started
        self.assigned = Assigned()
        self.online, self.off = set(), set()  # CPUs of SPUs that are there
        self.takings = []  # what decided on CPUs since the last snapshot, for however short a time
        self.revoke_grace, self.gone_grace = revoke_grace, gone_grace
        self.gone = {}  # CPU: since when it may not have been there
        self.counts = dict.fromkeys(("granted", "again", "adopted", "undone", "ended", "orphaned", "snapshots"), 0)

    # What clients do, and are told

    def sent(self, method, parameters, pid):
        self.serial += 1
        call = Call(method, parameters, pid, self.serial)
        self.calls.append(call)
        held = self.find(call.chain) if method == "Acquire" else self.leases.get(call.lease_id)
        if held and not held.releases and held.pid not in self.dead:
            call.held = held
        if held and method == "Release":
            held.releases.add(call)
        elif held and method == "Revoke":
            held.revokes.add(call)
        return call

    def answered(self, call):
        if call.state == "pending":
            call.state = "answered"
            self.calls.remove(call)

    def replied(self, call, reply, final=True, now=0):
        """A reply without an error, read at now."""
        if final:
            self.answered(call)
        held = self.leases.get(call.lease_id)
        if "lease" in reply:
            self.told(call, reply["lease"], reply.get("change"))
        elif call.method == "Release":
            self.end(call.lease_id)
        elif call.method == "Revoke" and held:
            held.revoked = True
            deadline = now + call.parameters.get("graceUSec", self.revoke_grace)
            held.deadline = min(deadline, held.deadline or deadline)
        elif call.method in ("Assign", "Unassign"):
            self.assigned.done(call)
            self.takings += self.assigned.all_deciding()

    def failed(self, call, error, parameters=None):
        """Answered with an error: it was not carried out."""
        self.answered(call)
        name, held = error.rpartition(".")[2], call.held
        need(name not in ("System", "MethodNotFound", "ExpectedMore", "PermissionDenied")
             and (name != "NoSuchProcess" or call.pid in self.dead), call, "was answered with", error, parameters)
        if held and self.is_certain(held, but=call):
            need(name != "NoSuchLease", "lost:", call, "was answered with", error)
            need(call.method != "Acquire" or name == "InvalidParameter",
                 f"lost: {word(held.told)} was asked for again, and that was answered with", error, parameters)
        if name == "NoSuchLease" and call.lease_id in self.leases:
            self.end(call.lease_id)
        if held:
            held.releases.discard(call)
            held.revokes.discard(call)

    def closed(self, call, now=0):
        """The connection is gone, and the answer with it."""
        call.state = "unknown"
        held = self.leases.get(call.lease_id)
        if call.method == "Revoke" and held and held.deadline is None:
            held.deadline = now + call.parameters.get("graceUSec", self.revoke_grace)
        elif call.method in ("Assign", "Unassign"):
            self.assigned.maybe(call)
            self.takings += self.assigned.all_deciding()

    def is_certain(self, held, but=None):
        """Nobody has ended it, as far as is known."""
        return (held.told["leaseId"] in self.leases and held.pid not in self.dead
                and not held.releases - {but})

    def told(self, call, lease, change):
        """What a call or a stream says of a lease, perhaps some time ago."""
        need(lease["owner"]["pid"] == call.pid, "somebody else's lease:", call, lease)
        lease_id = lease["leaseId"]
        held = self.leases.get(lease_id)
        if lease["state"] == "queued":
            need(not held, f"granted, and waits again: {word(lease)}")
            return
        if lease["state"] == "ended":
            need(not held or not self.is_certain(held), f"lost: {word(lease)} has ended: {lease['reason']}")
            self.end(lease_id)
            return
        need(self.ended.get(lease_id, call.serial) >= call.serial, f"resurrected: {word(lease)}, told to {call}")
        if lease_id in self.ended:
            return  # it was told before that
        if held:
            self.check_fixed(held, lease)
            self.counts["again"] += call.method == "Acquire" and change is None
        if call.method == "Acquire":
            self.granted(call, lease, change)
        elif call.method == "Update" and held and call.cpus:
            need(sizes.cpus(lease["cpus"]) == call.cpus, "moved to other CPUs:", call, lease)
            held.cpus = {call.cpus} if self.last_snapshot < call.serial else held.cpus | {call.cpus}
            held.partly = False

    def granted(self, call, lease, change):
        request = call.parameters["request"]
        for field in ("vm", "vcpus", "mode"):
            need(lease[field] == request[field], "not as asked for:", call, lease)
        if call.held and self.is_certain(call.held):
            need(call.held.told["leaseId"] == lease["leaseId"], "granted twice:", call, call.held.told, lease)
        if change == "granted" and request.get("cpus"):
            need(sizes.cpus(lease["cpus"]) == sizes.cpus(request["cpus"]), "other CPUs than asked for:", call, lease)
        if lease["leaseId"] in self.leases:
            return
        other = self.find(call.chain)
        need(not other or not self.is_certain(other), "granted twice:", call, other and other.told, lease)
        if other:
            self.end(other.told["leaseId"])
        held = self.leases[lease["leaseId"]] = Held(lease)
        held.partly = change != "granted"
        self.counts["granted"] += 1

    def find(self, chain):
        for held in self.leases.values():
            if (held.pid, held.told["vm"]) == chain:
                return held
        return None

    def end(self, lease_id):
        held = self.leases.pop(lease_id, None)
        if held:
            self.counts["orphaned" if held.pid in self.dead else "ended"] += 1
        self.serial += 1
        self.ended.setdefault(lease_id, self.serial)

    # Processes, and the daemon

    def died(self, pid):
        self.dead.add(pid)

    def born(self, pid):
        """Another process has this pid; whatever the one before it had is not its."""
        for lease_id in [i for i, held in self.leases.items() if held.pid == pid]:
            self.end(lease_id)
        self.calls = [call for call in self.calls if call.pid != pid or call.method != "Acquire"]
        self.dead.discard(pid)
        self.dead_at_start.discard(pid)

    def up(self):
        """A daemon is about to be started."""
        self.dead_at_start = set(self.dead)

    # The host

    def goes(self, cpus, now):
        """CPUs go off line, or their SPU goes."""
        self.gone = dict.fromkeys(cpus, now) | self.gone

    def returns(self, cpus):
        """Perhaps; whether the daemon has seen it is shown later."""
        for held in self.leases.values():
            if any(cpus & some for some in held.cpus):
                held.away_deadline = None

    def note_overdue(self, now):
        late = {cpu for cpu, since in self.gone.items() if now >= since + self.gone_grace}
        for held in self.leases.values():
            held.overdue = held.overdue or any(some <= late for some in held.cpus)

    # What it shows

    def snapshot(self, leases, instances, now=0, after=0):
        """Everything at one instant, asked for at now (CLOCK_MONOTONIC, µs) after all that was fed before, and told
        before after. Returns what may still be on its way."""
        self.note_overdue(after)
        late = []
        self.serial += 1
        self.last_snapshot = self.serial
        self.look_at(instances)
        self.counts["snapshots"] += 1
        need(len({l["leaseId"] for l in leases}) == len(leases), "a lease id stands twice")
        deciding = self.assigned.shown(instances, self.pending_assigns())
        check_conflicts(leases)
        self.check_chains(leases)
        for lease in leases:
            self.listed(lease, instances, deciding, now, late)
            self.check_away(lease, now, after)
        self.gone = {cpu: since for cpu, since in self.gone.items() if cpu not in self.online}
        self.check_lost({l["leaseId"] for l in leases})
        self.check_sums([l for l in leases if l["state"] in CHARGED], instances)
        self.decide_unknown(leases)
        return late

    def look_at(self, instances):
        """Which CPUs of SPUs that are there are on line, and which are not."""
        ready = [i for i in instances if i["state"] == "ready"]
        self.online = set().union(*(sizes.cpus(i["onlineCpus"]) for i in ready))
        self.off = set().union(*(sizes.cpus(i["cpus"]) for i in ready)) - self.online

    def visible(self, lease, cpus):
        """What is said of a lease with these CPUs: those on line; all, if there are none."""
        return cpus if lease["state"] == "revoked" else frozenset(cpus & self.online) or cpus

    @staticmethod
    def check_chains(leases):
        chains = {}
        for lease in leases:
            chain = lease["owner"]["pid"], lease["vm"]
            need(chain not in chains, "carried out twice:", lease, chains.get(chain))
            chains[chain] = lease

    def listed(self, lease, instances, deciding, now, late):
        lease_id, pid = lease["leaseId"], lease["owner"]["pid"]
        need(lease_id not in self.ended, f"resurrected: {word(lease)}")
        if pid in self.dead:
            need(pid not in self.dead_at_start, f"resurrected: {word(lease)}: its owner was dead before the start")
            late.append(f"{word(lease)}: its owner is dead")
            return
        held = self.leases.get(lease_id)
        if not held:
            acquires = [c for c in self.calls if c.method == "Acquire" and c.chain == (pid, lease["vm"])]
            need(acquires, f"resurrected, or nobody's: {word(lease)}")
            if lease["state"] == "queued":
                if all(c.state == "unknown" for c in acquires):
                    late.append(f"{word(lease)}: waits without a connection")
                return
            held = self.leases[lease_id] = Held(lease)
            held.partly = held.overdue = True  # who knows what became of it before
            held.releases |= {c for c in self.calls if c.method == "Release" and c.lease_id == lease_id}
            self.counts["adopted"] += 1
        need(lease["state"] in CHARGED, f"{word(lease)}: was {held.state}, is {lease['state']}")
        self.check_fixed(held, lease)
        self.check_cpus(held, lease, instances)
        self.check_place(lease, instances)
        self.check_state(held, lease, deciding, now)
        held.told, held.state = lease, lease["state"]

    @staticmethod
    def check_fixed(held, lease):
        for field in FIXED:
            need(lease[field] == held.told[field], f"{word(lease)}: {field} was {held.told[field]}, is {lease[field]}")
        need(lease["charge"] == sizes.charge(lease["vcpus"], lease["bufferSize"]), "charge", lease)
        need(not lease["restartRequired"] or lease["state"] == "revoked", "restartRequired, and no VM ran:", lease)

    def check_cpus(self, held, lease, instances):
        """Those that it had, or was moved to, less what assignments may have taken since, in whatever order."""
        possible = set(held.cpus)
        possible |= {c.cpus for c in self.calls if c.method == "Update" and c.lease_id == lease["leaseId"] and c.cpus}
        for deciding in self.takings + self.assigned.all_deciding(self.pending_assigns()):
            for cpus in list(possible):
                kept = left_to(lease, cpus, deciding)
                if kept:
                    possible.add(kept)
                else:
                    held.barred = True
        now = frozenset(sizes.cpus(lease["cpus"]))
        if held.partly:
            off = self.off & set().union(*(sizes.cpus(i["cpus"]) for i in instances if i["name"] == lease["instance"]))
            held.cpus = {now.union(some) for n in range(len(off) + 1) for some in itertools.combinations(off, n)}
            held.partly = False
            return
        fitting = {cpus for cpus in possible if self.visible(lease, cpus) == now}
        need(fitting, f"{word(lease)}: instead of one of", [sizes.cpulist(c) for c in possible], "as far as on line")
        held.cpus = fitting

    def pending_assigns(self):
        return [c for c in self.calls if c.method in ("Assign", "Unassign") and c.state == "pending"]

    @staticmethod
    def check_place(lease, instances):
        cpus = sizes.cpus(lease["cpus"])
        ready = [i for i in instances if i["state"] == "ready" and sizes.cpus(i["cpus"]) & cpus]
        need(lease["instance"] in [i["name"] for i in instances], "on an instance that is not there:", lease)
        if lease["state"] == "revoked":
            return
        need(len(ready) <= 1, "CPUs of several instances:", lease)
        if ready and not cpus & sizes.cpus(ready[0]["onlineCpus"]):
            need(lease["pmuType"] is None, "a PMU type, and all CPUs are off line:", lease)
        elif ready:
            need((lease["instance"], lease["pmuType"]) == (ready[0]["name"], ready[0]["pmuType"]), lease, ready[0])
            need(cpus <= sizes.cpus(ready[0]["onlineCpus"]), "CPUs that are not the instance's:", lease, ready[0])
        else:
            need(lease["pmuType"] is None, "a PMU type of no instance:", lease)

    @staticmethod
    def check_state(held, lease, deciding, now):
        state, cpus = lease["state"], sizes.cpus(lease["cpus"])
        need(held.state != "revoked" or state == "revoked", f"{word(lease)} was revoked, is {state}")
        if state == "granted":
            need(left_to(lease, cpus, deciding) == cpus, f"{word(lease)} is against the assignments", deciding)
            need(not held.revoked, f"{word(lease)} was revoked, and is granted")
            return
        need(held.revoked or held.revokes or held.barred or held.overdue,
             f"{word(lease)} is {state}, and nobody revoked it: {lease['reason']}")
        if state == "revoking":
            need(lease["remainingUSec"] is not None, "revoking for ever:", lease)
            if held.deadline is not None and not held.barred:
                over = now + lease["remainingUSec"] - held.deadline
                need(over <= 0, f"{word(lease)}: its grace has become longer, by {over} µs")

    def check_away(self, lease, now, after):
        """Nothing of it is there: it has the grace, and no more with every restart."""
        held = self.leases.get(lease["leaseId"])
        if not held:
            return
        if lease["state"] != "granted" or lease["pmuType"] is not None:
            held.away_deadline = None
            held.overdue = held.overdue and lease["state"] != "granted"
            return
        need(lease["remainingUSec"] is not None, f"{word(lease)} is away for ever")
        ends = now + lease["remainingUSec"]
        if held.away_deadline is not None:
            need(ends <= held.away_deadline, f"{word(lease)}: it may be away for longer, by {ends - held.away_deadline} µs")
        held.away_deadline = held.away_deadline or after + lease["remainingUSec"]

    def check_lost(self, listed):
        for lease_id, held in list(self.leases.items()):
            if lease_id not in listed:
                need(not self.is_certain(held), f"lost: {word(held.told)}, was {held.state}")
                self.end(lease_id)

    def check_sums(self, charged, instances):
        for instance in instances:
            mine = [l for l in charged if l["instance"] == instance["name"]]
            need(instance["charge"] == sum(l["charge"] for l in mine), "charge:", instance, mine)
            need(instance["leases"] == len(mine), "leases:", instance, mine)
            holding = [l for l in mine if l["state"] in HOLDING]
            held = set().union(*(sizes.cpus(l["cpus"]) for l in holding)) & sizes.cpus(instance["cpus"])
            off_line = set().union(*(c for l in holding for c in self.possible(l))) & self.off
            need(held <= sizes.cpus(instance["leasedCpus"]) <= held | off_line, "leasedCpus:", instance, mine)

    def possible(self, lease):
        held = self.leases.get(lease["leaseId"])
        return held.cpus if held else [self.off]

    def decide_unknown(self, leases):
        """From here on it is known what became of the calls whose answers were lost; those under way are open."""
        listed = {(l["owner"]["pid"], l["vm"]) for l in leases if l["state"] != "queued"}
        for call in [c for c in self.calls if c.state == "unknown"]:
            if call.method == "Acquire" and call.pid not in self.dead:
                self.counts["undone"] += call.chain not in listed
            self.calls.remove(call)
        self.takings = []
        for held in self.leases.values():
            held.releases = {c for c in held.releases if c in self.calls}
            held.revokes = {c for c in held.revokes if c in self.calls}
            if held.state == "granted":
                held.barred, held.deadline = False, None
            else:
                held.barred = held.barred or not held.revoked

    @staticmethod
    def describe(host, leases):
        """What Describe says else than the leases that are listed around it."""
        charged = [l for l in leases if l["state"] in CHARGED]
        expected = {"charge": sum(l["charge"] for l in charged), "leases": len(charged),
                    "waiting": len(leases) - len(charged)}
        said = {"charge": host["charge"], "leases": host["counts"]["leases"], "waiting": host["counts"]["waiting"]}
        return [] if said == expected else [f"Describe says {said}, the leases say {expected}"]


class Watch:
    """One Watch stream: what it shows is without conflict after every single event."""

    def __init__(self, books):
        self.sequence, self.leases = 0, {}
        self.gone = set(books.ended)

    def event(self, event):
        need(event["sequence"] == self.sequence, "Watch: sequence", event["sequence"], "instead of", self.sequence)
        self.sequence += 1
        if event["kind"] == "snapshot":
            self.leases = {l["leaseId"]: l for l in event["snapshot"]["leases"]}
        elif event["kind"] == "lease":
            lease = event["lease"]["lease"]
            self.leases[lease["leaseId"]] = lease
        for lease_id in self.leases.keys() & self.gone:
            need(self.leases[lease_id]["state"] == "ended", f"resurrected: {word(self.leases[lease_id])} in Watch")
        for lease_id in [i for i, l in self.leases.items() if l["state"] == "ended"]:
            del self.leases[lease_id]
            self.gone.add(lease_id)
        check_conflicts(self.leases.values())
