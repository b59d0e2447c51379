# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules once more, on the daemon's own JSON: given what ListInstances, ListLeases and Describe say, what
must be true, and what a request must be answered. Written from the rules, not from policy/."""

import sizes

MEMORY_LIMITS = ("MaxMemoryPerVM", "MaxMemoryPerUser", "MaxMemory")
MODES = ("exclusive", "guest", "shared")
PROTECTING = ("granted", "revoking")


class Fault(AssertionError):
    """The daemon broke a rule."""


def need(truth, *what):
    if not truth:
        raise Fault(" ".join(str(w) for w in what))


def unforgeable(origin):
    return origin in ("administrator", "machine", "unit")


def clash(mode, other):
    """Two leases on one CPU, at most one of which is exclusive, unless ..."""
    return mode == "exclusive" or other == "exclusive"


def offered(offer, instance, judgement, request):
    """An offer is the one that the rules lead to."""
    _, cpus, size, names = judgement
    need(offer["instance"] == instance.name, "instance", offer, "instead of", instance.name)
    need(sizes.cpus(offer["cpus"]) == cpus, "cpus", offer, "instead of", sizes.cpulist(cpus))
    need(offer["bufferSize"] == size, "size", offer, "instead of", size)
    need(offer.get("limitedBy") in names, "limitedBy", offer, "instead of", names)
    need(offer["charge"] == sizes.charge(request["vcpus"], size), "charge", offer)
    need(offer["mode"] == request["mode"], "mode", offer)


class Settings:
    """What the test wrote into spe-broker.conf, as values."""

    def __init__(self, limits, default_owner="any", default_mode="guest", vms=None, users=None):
        self.limits, self.default_owner, self.default_mode = limits, default_owner, default_mode
        self.vms, self.users = vms or {}, users or {}

    def view(self, uid, vm, origin):
        """The limits that hold for one VM of one user."""
        of_vm = self.vms.get(vm, {}) if unforgeable(origin) else {}
        of_user = self.users.get(uid, {})
        return {
            "MaxBufferSize": of_vm.get(
                "MaxBufferSize", of_user.get("MaxBufferSize", self.limits["MaxBufferSize"])
            ),
            "MaxMemoryPerVM": of_vm.get("MaxMemory", self.limits["MaxMemoryPerVM"]),
            "MaxMemoryPerUser": of_user.get("MaxMemory", self.limits["MaxMemoryPerUser"]),
            "MaxMemory": self.limits["MaxMemory"],
        }


class Instance:
    def __init__(self, json):
        self.json = json
        self.name, self.state, self.charge = json["name"], json["state"], json["charge"]
        self.index = int(json["name"].rpartition("_")[2])
        self.cpus, self.online = sizes.cpus(json["cpus"]), sizes.cpus(json["onlineCpus"])
        self.max = json.get("maxBufferSize")
        self.deciding = {}  # CPU: the assignment that decides there
        for assignment in json["assignments"]:
            cpus = sizes.cpus(assignment["cpus"])
            need(cpus and cpus <= self.cpus, self.name, "an assignment beyond it", assignment)
            need(not cpus & set(self.deciding), self.name, "two assignments decide on one CPU", assignment)
            self.deciding |= {cpu: assignment for cpu in cpus}


class Held:
    """What a lease holds and what its VM was given, which is more than is told: CPUs that are off line, and the
    PMU type from before the SPU became another one."""

    def __init__(self, lease, locked=0):
        self.cpus, self.type, self.locked = sizes.cpus(lease["cpus"]), lease["pmuType"], locked
        self.instance, self.state, self.restart = lease["instance"], lease["state"], False


class State:
    """Everything at one instant. held: Held by lease id, where it may be more than is told."""

    def __init__(
        self, settings, instances, leases, host, held=None, decided=None, sessions=(), unseen=(), unprotected=None
    ):
        self.settings, self.host = settings, host
        self.sessions = sessions
        self.unseen = set(unseen)  # CPUs that cannot be kept for a lease, whatever sessions are seen
        self.unprotected = unprotected  # why leases cannot be protected as the configuration wants
        self.holds, self.elsewhere = held or {}, decided or {}
        self.instances = [Instance(i) for i in instances]
        self.leases = leases
        self.charged = [l for l in leases if l["state"] in ("granted", "revoking", "revoked")]
        self.protecting = [l for l in leases if l["state"] in PROTECTING]
        self.queued = [l for l in leases if l["state"] == "queued"]

    def held(self, lease):
        """The CPUs that a lease holds, on line or not."""
        held = self.holds.get(lease["leaseId"])
        return held.cpus if held else sizes.cpus(lease["cpus"])

    # What is always true

    def check(self):
        self.check_books()
        self.check_limits()
        self.check_sharing()
        self.check_contention()
        self.check_sessions()
        self.check_draining()
        for lease in self.charged:
            self.check_lease(lease)

    def check_books(self):
        for instance in self.instances:
            mine = [l for l in self.charged if l["instance"] == instance.name]
            need(instance.charge == sum(l["charge"] for l in mine), instance.name, "charge", instance.charge)
            need(instance.json["leases"] == len(mine), instance.name, "leases", instance.json["leases"])
            held = set().union(*(self.held(l) for l in self.protecting)) & instance.cpus
            need(sizes.cpus(instance.json["leasedCpus"]) == held, instance.name, "leasedCpus")
        need(
            self.host["charge"] == sum(l["charge"] for l in self.charged),
            "the host's charge",
            self.host["charge"],
        )
        counts = self.host["counts"]
        need(counts["leases"] == len(self.charged), "counts.leases", counts)
        need(counts["waiting"] == len(self.queued), "counts.waiting", counts)
        need(counts["instances"] == len(self.instances), "counts.instances", counts)
        need(len({l["leaseId"] for l in self.leases}) == len(self.leases), "a lease id stands twice")

    def sum(self, **match):
        """Charge and number of leases of a user, or of a VM of a user."""
        mine = [
            l
            for l in self.charged
            if match.get("uid") in (None, l["owner"]["uid"]) and match.get("vm") in (None, l["vm"])
        ]
        return sum(l["charge"] for l in mine), len(mine)

    def check_limits(self):
        limits = self.settings.limits
        need(self.sum()[0] <= limits["MaxMemory"], "MaxMemory is exceeded")
        need(self.sum()[1] <= limits["MaxLeases"], "MaxLeases is exceeded")
        for uid in {l["owner"]["uid"] for l in self.charged}:
            charge, number = self.sum(uid=uid)
            need(
                charge <= self.settings.view(uid, "", "caller")["MaxMemoryPerUser"],
                "MaxMemoryPerUser",
                uid,
                charge,
            )
            need(number <= limits["MaxLeasesPerUser"], "MaxLeasesPerUser", uid, number)
        for uid, vm in {(l["owner"]["uid"], l["vm"]) for l in self.charged}:
            # The limit that held for the one who could have most
            most = max(
                self.settings.view(uid, vm, l["vmOrigin"])["MaxMemoryPerVM"]
                for l in self.charged
                if (l["owner"]["uid"], l["vm"]) == (uid, vm)
            )
            need(self.sum(uid=uid, vm=vm)[0] <= most, "MaxMemoryPerVM", uid, vm)

    def check_sharing(self):
        holders = {}
        for lease in self.protecting:
            for cpu in self.held(lease):
                for other in holders.setdefault(cpu, []):
                    need(
                        not clash(lease["mode"], other["mode"]),
                        "CPU",
                        cpu,
                        "is held against",
                        lease["leaseId"],
                        "and",
                        other["leaseId"],
                    )
                holders[cpu].append(lease)

    def check_contention(self):
        """A revoked lease and an exclusive one on the same CPU, and a host session and a lease that it stands
        against: both are told."""

        def cpus(state, mode):
            return set().union(
                *(self.held(l) for l in self.charged if l["state"] in state and l["mode"] in mode)
            )

        revoked, exclusive = cpus(("revoked",), MODES), cpus(PROTECTING, ("exclusive",))
        for lease in self.charged:
            if lease["state"] == "revoked":
                against = exclusive
            else:
                against = revoked if lease["mode"] == "exclusive" else set()
            contended = bool(self.held(lease) & against) or any(self.meet(s, lease) for s in self.sessions)
            need(lease["contended"] == contended, "contended", lease, self.sessions)

    def meet(self, session, lease):
        """Where a session and a lease that protects stand against each other."""
        if lease["state"] == "revoked":  # what its guest does there still makes holes
            cpu_wide = session["kind"] == "cpu" and lease["mode"] != "shared"
            return sizes.cpus(session["cpus"]) & self.held(lease) if cpu_wide else set()
        instance, threads = self.find(lease["instance"]), {lease["owner"].get("pid")}
        return self.stands_against(session, lease["mode"], instance, self.held(lease), threads)

    def check_sessions(self):
        for instance in self.instances:
            reach = set().union(*(sizes.cpus(s["cpus"]) for s in self.sessions)) & instance.cpus
            need(sizes.cpus(instance.json.get("sessionCpus", "")) == reach, instance.name, "sessionCpus", reach)
        for session in self.sessions:
            contended = any(self.meet(session, lease) for lease in self.charged)
            need(session["contended"] == contended, "contended", session)

    def check_draining(self):
        """An assignment drains as long as a lease or a session is there that it does not allow."""
        for instance in self.instances:
            for assignment in instance.json["assignments"]:
                barred = any(
                    lease["state"] in ("revoking", "revoked")
                    and any(
                        not self.allowed(instance, cpu, lease["vm"], lease["vmOrigin"])
                        for cpu in self.held(lease) & sizes.cpus(assignment["cpus"])
                    )
                    for lease in self.charged
                ) or any(
                    assignment["owner"] in ("guest", "none")
                    and sizes.cpus(session["cpus"]) & sizes.cpus(assignment["cpus"])
                    for session in self.sessions
                )
                need(assignment["state"] == ("draining" if barred else "active"), instance.name, assignment)

    def check_lease(self, lease):
        instance = self.find(lease["instance"])
        need(instance is not None, "a lease on an instance that is not there", lease)
        size = lease["bufferSize"]
        need(sizes.representable(size) == size, "not representable", lease)
        need(size <= lease["requestedBufferSize"], "more than was asked for", lease)
        there = lease["pmuType"] is not None
        need(not there or not instance.max or size <= instance.max, "above the instance's limit", lease)
        need(lease["charge"] == sizes.charge(lease["vcpus"], size), "charge", lease)
        need(lease["memlock"] == {"bytes": lease["charge"], "state": "unmanaged"}, "memlock", lease)
        view = self.settings.view(lease["owner"]["uid"], lease["vm"], lease["vmOrigin"])
        need(size <= view["MaxBufferSize"], "above MaxBufferSize", lease)
        runs = lease["state"] == "revoking" or (lease["state"] == "granted" and not there)
        need((lease.get("remainingUSec") is not None) == runs, "remainingUSec", lease)
        self.check_cpus(lease, instance, there)

    def check_cpus(self, lease, instance, there):
        """What it is told: what it holds and can use, or all while that is nothing; and if so, why."""
        cpus, held = sizes.cpus(lease["cpus"]), self.held(lease)
        usable = held & instance.online if instance.state == "ready" else set()
        need(cpus and there == bool(usable), "pmuType", lease, "usable", usable)
        if lease["state"] == "revoked" or not there:
            usable = held
        need(cpus == usable, "told", lease, "instead of", usable)
        if there:
            need(lease["pmuType"] == instance.json["pmuType"], "pmuType", lease)
        if lease["state"] == "granted":
            odd = lease["restartRequired"] or cpus != held or not there
            odd = odd or lease["contended"]
            need((lease["reason"] is not None) == odd, "reason", lease)
            need(
                all(self.allowed(instance, cpu, lease["vm"], lease["vmOrigin"]) for cpu in held),
                "CPUs against their assignment",
                lease,
            )

    # Where leases are, when the SPUs have changed

    def follow(self, lease, held):
        """Has held follow its SPU, and what assignments leave it, as it must. True if it can use nothing then."""
        revoked = held.state == "revoked"
        spus = [i for i in self.instances if i.state == "ready" and i.cpus & held.cpus]
        spu = max(
            spus, key=lambda i: (len(i.cpus & held.cpus), i.name == held.instance, -i.index), default=None
        )
        if spu:
            held.instance = spu.name
            same = held.cpus <= spu.cpus and spu.json["pmuType"] == held.type
            enabled = held.locked >= lease["bufferSize"]
            if revoked:
                held.restart = held.restart or not same
            elif same or enabled:
                held.restart = not same
            else:
                held.restart, held.cpus, held.type = False, held.cpus & spu.cpus, spu.json["pmuType"]
        kept = {
            cpu
            for cpu in held.cpus
            if self.allowed(self.find(held.instance), cpu, lease["vm"], lease["vmOrigin"])
        }
        if kept and not revoked:
            held.cpus = kept
        return not (spu and held.cpus & spu.online)

    def find(self, name):
        return next((i for i in self.instances if i.name == name), None)

    # Assignments

    def decided(self, instance, cpu):
        """(owner, vm) of a CPU."""
        assignment = instance.deciding.get(cpu)
        if assignment:
            return assignment["owner"], assignment.get("vm")
        return self.elsewhere.get(cpu, (self.settings.default_owner, None))

    def allowed(self, instance, cpu, vm, origin):
        owner, only = self.decided(instance, cpu)
        return owner in ("guest", "any") and (only is None or (only == vm and unforgeable(origin)))

    def own(self, instance, cpu, vm, origin):
        _, only = self.decided(instance, cpu)
        return self.allowed(instance, cpu, vm, origin) and only is not None

    # Decisions

    def conflicts(self, mode, cpus, claims, without=None):
        out = set()
        for lease in self.protecting:
            if lease["leaseId"] != without and clash(mode, lease["mode"]):
                out |= cpus & self.held(lease)
        for claimed_mode, claimed in claims:
            if clash(mode, claimed_mode):
                out |= cpus & claimed
        return out

    def stands_against(self, session, mode, instance, cpus, threads):
        """Where a host session conflicts with a lease on CPUs of an instance; its owner has these threads."""
        reach = sizes.cpus(session["cpus"]) & cpus
        if mode == "shared":
            return set()
        if mode == "exclusive" or session["kind"] == "cpu" or session["task"] in threads:
            return reach
        return {cpu for cpu in reach if self.decided(instance, cpu)[0] == "guest"}

    def profiled(self, mode, instance, cpus, threads):
        """Where any does."""
        out = set() if mode == "shared" else self.unseen & cpus
        for session in self.sessions:
            out |= self.stands_against(session, mode, instance, cpus, threads)
        return out

    def size(self, instance, request):
        """(size or None, the names of which one must be told as the limit)."""
        view = self.settings.view(request["uid"], request["vm"], request["origin"])
        left = {
            "MaxMemoryPerVM": view["MaxMemoryPerVM"] - self.sum(uid=request["uid"], vm=request["vm"])[0],
            "MaxMemoryPerUser": view["MaxMemoryPerUser"] - self.sum(uid=request["uid"])[0],
            "MaxMemory": view["MaxMemory"] - self.sum()[0],
        }
        caps = {"MaxBufferSize": view["MaxBufferSize"]} | (
            {"maxBufferSize": instance.max} if instance.max else {}
        )
        asked = sizes.representable(request["size"])

        def fits(name, size):
            if name in caps:
                return size <= caps[name]
            return sizes.charge(request["vcpus"], size) <= left[name]

        in_the_way = [name for name in (*caps, *left) if not fits(name, asked)]
        if not in_the_way:
            return asked, [None]
        if request["exact"]:
            return None, in_the_way
        best = {
            name: max((1 << k for k in range(12, 52) if fits(name, 1 << k)), default=0) for name in in_the_way
        }
        lowest = min(best.values())
        return lowest or None, [name for name in best if best[name] == lowest]

    def judge(self, instance, request, claims):
        """What one instance answers: (first refusal or None, CPUs, size, limits that may be named)."""
        if instance.state != "ready":
            return "InstanceNotReady", None, None, None
        vm, origin = request["vm"], request["origin"]
        cpus = request["cpus"]
        if not instance.online or (cpus is not None and not cpus <= instance.online):
            return "NoInstanceForCpus", None, None, None

        def may(cpu):
            if request["mode"] == "exclusive" and not request["administrator"]:
                return self.own(instance, cpu, vm, origin)
            return self.allowed(instance, cpu, vm, origin)

        if cpus is None:
            cpus = {cpu for cpu in instance.online if may(cpu)}
        if not cpus or not all(map(may, cpus)):
            return "NotAssigned", cpus, None, None
        asked = sizes.representable(request["size"])
        if asked is None or (request["exact"] and asked != request["size"]):
            return "BufferSizeNotRepresentable", cpus, None, None
        limits = self.settings.limits
        if (
            self.sum()[1] >= limits["MaxLeases"]
            or self.sum(uid=request["uid"])[1] >= limits["MaxLeasesPerUser"]
        ):
            return "LimitExceeded", cpus, None, ["MaxLeases", "MaxLeasesPerUser"]
        size, names = self.size(instance, request)
        if size is None:
            return "LimitExceeded", cpus, None, names
        if self.unprotected and request["mode"] != "shared":
            return "ArbitrationUnavailable", cpus, size, names
        profiled = self.profiled(request["mode"], instance, cpus, request["threads"])
        if profiled or self.conflicts(request["mode"], cpus, claims):
            return "Busy", cpus, size, names
        return None, cpus, size, names

    def judge_move(self, instance, lease, request, claims):
        """What a lease that is there is answered that wants to have other CPUs: the refusal, or None."""
        cpus, gained = request["cpus"], request["cpus"] - self.held(lease)
        if instance.state != "ready":
            return "InstanceNotReady"
        if not cpus <= instance.online:
            return "NoInstanceForCpus"
        may = self.own if request["mode"] == "exclusive" and not request["administrator"] else self.allowed
        if not all(may(instance, cpu, request["vm"], request["origin"]) for cpu in cpus):
            return "NotAssigned"
        if self.unprotected and gained and request["mode"] != "shared":
            return "ArbitrationUnavailable"
        if (
            self.conflicts(request["mode"], cpus, [], without=lease["leaseId"])
            or self.conflicts(request["mode"], gained, claims, without=lease["leaseId"])
            or self.profiled(request["mode"], instance, gained, request["threads"])
        ):
            return "Busy"
        return None

    def could_have(self, request, claims, modes):
        """Could the VM have anything, anywhere, of any size, in one of these modes?"""
        return any(
            self.judge(
                instance, request | {"cpus": {cpu}, "mode": mode, "size": 4096, "exact": False}, claims
            )[0]
            is None
            for instance in self.instances
            if instance.state == "ready"
            for cpu in instance.online
            for mode in modes
        )

    def decide(self, request, claims):
        """(set of first refusals that are right, or empty; the Instance and the judgement if granted)."""
        if request["instance"] is not None:
            instance = self.find(request["instance"])
            if instance is None:
                return {"NoSuchInstance"}, None, None
            candidates = [instance]
        elif request["cpus"] is not None:
            candidates = [i for i in self.instances if i.state == "ready" and request["cpus"] <= i.online]
            if not candidates:
                partial = [i for i in self.instances if i.state != "ready" and request["cpus"] <= i.cpus]
                return {"NoInstanceForCpus"} | ({"InstanceNotReady"} if partial else set()), None, None
        else:
            candidates = [i for i in self.instances if i.state == "ready"]
            if not candidates:
                return {"InstanceNotReady", "NoSuchInstance"}, None, None
        judged = [(i, self.judge(i, request, claims)) for i in candidates]
        granted = [(i, j) for i, j in judged if j[0] is None]
        if granted:
            return set(), *min(granted, key=lambda pair: (pair[0].charge, pair[0].index))
        return {j[0] for _, j in judged}, None, None
