# SPDX-License-Identifier: LGPL-2.1-or-later
"""What VMMs and administrators do in the chaos test: one thing at a time, which follows from the random numbers and
from what is in the books."""

import os
import pathlib

import chaos_books
import harness
import sizes
from chaos_daemon import CPUS, SPUS
from chaos_vmm import Line, usec

LEASES_PER_VMM = 4
FEW_CPUS = 20  # of CPUS
OFF_AT_MOST = 4
LAST_PID = pathlib.Path("/proc/sys/kernel/ns_last_pid")


class Acts:
    """Of a world: each returns the line on which something was sent, or None."""

    def choose(self, rng, what):
        """A VMM with leases, and one of them."""
        owners = [vmm for vmm in self.vmms if vmm.leases()]
        if not owners:
            self.say(f"nobody to {what}")
            return None, None
        vmm = rng.choice(owners)
        return vmm, rng.choice(vmm.leases())

    def acquire(self, rng, vmm=None):
        vmm = vmm or rng.choice(self.vmms)
        if len(vmm.leases()) >= LEASES_PER_VMM:
            return self.release(rng)
        self.names += 1
        request = {"vm": f"vm{self.names}", "vcpus": rng.randint(1, 4),
                   "bufferSize": rng.choice((4096, 1 << 20, 3 << 20, 5_000_000)),
                   "mode": rng.choice(("guest", "guest", "shared", "exclusive" if vmm.uid == 0 else "guest"))}
        where = rng.randrange(4)
        if where < 3 or request["mode"] == "exclusive":
            cpus = sizes.cpus(SPUS[rng.choice(list(SPUS))])
            if where and cpus & self.open_cpus():
                cpus &= self.open_cpus()
            request["cpus"] = sizes.cpulist(rng.sample(sorted(cpus), min(rng.randint(1, 2), len(cpus))))
        elif rng.random() < 0.5:
            request["instance"] = f"arm_spe_{rng.choice(list(SPUS))}"
        if rng.random() < 0.8:
            request["requestId"] = f"request-{self.names}"
            vmm.requests[request["vm"]] = request
        wait = {"waitUSec": rng.choice((1000, 50_000, 5_000_000))} if rng.random() < 0.4 else {}
        more = rng.random() < 0.4
        line = vmm.get_stream() if more or wait else vmm.get_line()
        return line and line.post("Acquire", more=more, request=request, **wait) and line

    def acquire_as_newcomer(self, rng):
        """An owner that had no lease before."""
        i = rng.randrange(len(self.vmms))
        self.vmms[i].hang_up()
        self.vmms[i].bury()
        self.books.died(self.vmms[i].number)
        self.vmms[i] = self.new_vmm(i)
        return self.acquire(rng, self.vmms[i])

    def open_cpus(self):
        """Those on line of SPUs that are there, and that no assignment keeps from anybody."""
        kept = {cpu for world in self.books.assigned.worlds for cpu, (owner, vm, _) in
                chaos_books.Assigned.deciding(world).items() if vm or owner in ("host", "none")}
        there = set().union(*(sizes.cpus(SPUS[number]) for number in SPUS.keys() - self.out))
        return there - self.off - kept

    def queue_up(self, rng):
        """Somebody waits for what another has."""
        one, other = rng.sample([vmm for vmm in self.vmms if vmm.uid == 0], 2)
        taken = {cpu for held in self.books.leases.values() for cpu in sizes.cpus(held.told["cpus"])}
        free = sorted(self.open_cpus() - taken)
        if not free:
            return self.unassign(rng) if rng.random() < 0.5 else self.release(rng)
        cpus = str(rng.choice(free))
        for vmm, wait in ((one, {}), (other, {"waitUSec": 5_000_000})):
            self.names += 1
            request = {"vm": f"vm{self.names}", "vcpus": 1, "bufferSize": 4096, "mode": "exclusive", "cpus": cpus,
                       "requestId": f"request-{self.names}"}
            vmm.requests[request["vm"]] = request
            line = vmm.get_stream()
            if not line:
                return None
            line.post("Acquire", more=True, request=request, **wait)
            self.pump(0.05, lambda: line.replies > 0)
        self.first = one, f"vm{self.names - 1}"
        return line

    def hand_over(self, _):
        """And gets it."""
        if not self.first:
            return None
        vmm, name = self.first
        held, line = self.books.find((vmm.number, name)), vmm.get_line()
        return held and line and line.post("Release", leaseId=held.told["leaseId"]) and line

    def ask_again(self, rng):
        """The same once more: it is the same lease, or there was none."""
        askers = [vmm for vmm in self.vmms if vmm.requests]
        if not askers:
            return self.acquire(rng)
        vmm = rng.choice(askers)
        request = vmm.requests[rng.choice(list(vmm.requests)[-6:])]
        if rng.random() < 0.1:
            request = request | {"vcpus": 7}  # and this is refused, if there is the other
            if not any(held.told["vm"] == request["vm"] for held in self.books.leases.values()):
                return None
        more = rng.random() < 0.3
        line = vmm.get_stream() if more else vmm.get_line()
        return line and line.post("Acquire", more=more, request=request) and line

    def release(self, rng):
        vmm, lease_id = self.choose(rng, "release")
        if not vmm:
            return None
        line = self.get_admin() if rng.random() < 0.15 else vmm.get_line()
        return line and line.post("Release", leaseId=lease_id) and line

    def update(self, rng):
        vmm, lease_id = self.choose(rng, "update")
        if not vmm:
            return None
        held = self.books.leases[lease_id]
        cpus = next(sizes.cpus(c) for c in SPUS.values() if sizes.cpus(c) & sizes.cpus(held.told["cpus"]))
        line = vmm.get_line()
        return line and line.post("Update", leaseId=lease_id, cpus=sizes.cpulist(
            rng.sample(sorted(cpus), rng.randint(1, 3)))) and line

    def be_refused(self, n):
        """So often that the broker has all refusals that it keeps, each with as many holders as can be."""
        for vmm in self.vmms:
            self.names += 1
            vmm.get_line().post("Acquire", request={"vm": f"vm{self.names}", "vcpus": 1, "mode": "guest", "cpus": "2"})
        line = self.vmms[1].get_line()  # of an administrator
        for i in range(n):
            line.post("Acquire", request={"vm": f"none{i}", "vcpus": 1, "mode": "exclusive", "cpus": "2"})
            self.pump(harness.DEADLINE, lambda: not line.calls)

    def follow(self, rng):
        vmm, lease_id = self.choose(rng, "follow")
        line = vmm and vmm.get_stream()
        return line and line.post("Follow", more=True, leaseId=lease_id) and line

    def die(self, rng, i=None):
        """A VMM is killed; its connections stay open half the time, as those of a child that has them."""
        i = rng.randrange(len(self.vmms)) if i is None else i
        vmm = self.vmms[i]
        keep = rng.random() < 0.5
        self.say(f"{vmm.number} is killed")
        vmm.bury()
        self.books.died(vmm.number)
        if not keep:
            vmm.hang_up()
        self.vmms[i] = self.new_vmm(i)

    def die_with_leases(self, rng):
        vmm, _ = self.choose(rng, "die")
        if vmm:
            self.die(rng, self.vmms.index(vmm))

    def be_reborn(self, rng):
        """While the daemon is dead: another process gets the pid of one that had leases."""
        vmm, _ = self.choose(rng, "be reborn")
        if not vmm:
            return
        i = self.vmms.index(vmm)
        vmm.hang_up()
        vmm.bury()
        self.books.died(vmm.number)
        try:
            last = LAST_PID.read_text()
            LAST_PID.write_text(f"{vmm.number - 1}")
            self.vmms[i] = self.new_vmm(i)
            LAST_PID.write_text(last)
        except OSError:  # not allowed here
            self.vmms[i] = self.new_vmm(i)
        self.say(f"{vmm.number} is dead, and {self.vmms[i].number} is born")
        self.reborn += self.vmms[i].number == vmm.number

    def get_admin(self):
        if not self.admin or not self.admin.is_open():
            try:
                self.admin = Line(self, self.daemon.socket_path, os.getpid())
            except ConnectionRefusedError:
                self.admin = None
        return self.admin

    def revoke(self, rng, grace=None):
        _, lease_id = self.choose(rng, "revoke")
        line = lease_id and self.get_admin()
        if not line:
            return None
        kill = {"kill": True} if grace is None and rng.random() < 0.2 else {}
        grace = grace or rng.choice((0, 1000, 30_000, 10_000_000))
        return line.post("Revoke", leaseId=lease_id, graceUSec=grace, **kill) and line

    def revoke_soon(self, rng):
        return self.revoke(rng, 2000)

    def assign(self, rng):
        cpus = sizes.cpus(SPUS[rng.choice(list(SPUS))])
        some = rng.sample(sorted(cpus), rng.randint(1, len(cpus) // 2))
        if rng.random() < 0.75:
            return self.unassign(rng)
        owner = rng.choice(("host", "guest", "any", "none", "guest"))
        vm = {"vm": f"vm{rng.randint(1, self.names + 1)}"} if owner == "guest" and rng.random() < 0.5 else {}
        return self.ask_admin("Assign", cpus=sizes.cpulist(some), owner=owner, runtime=rng.random() < 0.5, **vm)

    def assign_to_host(self, rng):
        """CPUs of a lease."""
        _, lease_id = self.choose(rng, "lose CPUs")
        cpus = lease_id and sorted(sizes.cpus(self.books.leases[lease_id].told["cpus"]))
        return cpus and self.ask_admin("Assign", cpus=sizes.cpulist(rng.sample(cpus, rng.randint(1, len(cpus)))),
                                       owner="host", runtime=rng.random() < 0.5)

    def unassign(self, rng):
        return self.ask_admin("Unassign", cpus=SPUS[rng.choice(list(SPUS))])

    def assign_both(self, rng):
        """Some CPUs have a persistent assignment, and a runtime one above it."""
        self.both = str(rng.choice(sorted(sizes.cpus(SPUS[rng.choice(list(SPUS))]))))
        for runtime in (False, True):
            line = self.ask_admin("Assign", cpus=self.both, owner="any", runtime=runtime)
            self.pump(0.05, lambda: not line or not line.calls)
        return line

    def unassign_both(self, _):
        return self.ask_admin("Unassign", cpus=self.both)

    def tidy_up(self, rng):
        """Before there is nothing left to lease."""
        if len(self.open_cpus()) < FEW_CPUS:
            for cpus in SPUS.values():
                line = self.ask_admin("Unassign", cpus=cpus)
                self.pump(0.05, lambda: not line or not line.calls)
        if self.out and rng.random() < 0.5:
            self.plug(rng)

    def ask_admin(self, method, **parameters):
        """One at a time, so that there are two possibilities at most of what assignments there are."""
        line = self.get_admin()
        if not line or any(c.method in ("Assign", "Unassign") for c in self.books.calls):
            return None
        return line.post(method, **parameters) and line

    def reload(self, _):
        line = self.get_admin()
        return line and line.post("Reload") and line

    def plug(self, rng):
        """An SPU goes, or comes back; as another PMU type half the time."""
        number = rng.choice(list(self.out or SPUS))
        if number in self.out:
            self.out.remove(number)
            self.books.returns(sizes.cpus(SPUS[number]))
            self.types[number] += 100 * (rng.random() < 0.5)
            self.daemon.tree.instance(number, SPUS[number], type=self.types[number])
        elif not self.out and rng.random() < 0.5:
            self.out.add(number)
            self.books.goes(sizes.cpus(SPUS[number]), usec())
            self.daemon.tree.remove_instance(number)
        self.say(f"SPUs that are out: {list(self.out)}")
        line = self.get_admin()
        return line and line.post("Rescan") and line

    def switch(self, rng):
        """CPUs go off line, or are back."""
        if self.off and rng.random() < 0.6:
            back = set(rng.sample(sorted(self.off), rng.randint(1, len(self.off))))
            self.off -= back
            self.books.returns(back)
        elif len(self.off) < OFF_AT_MOST:
            _, lease_id = self.choose(rng, "lose CPUs")
            cpus = sizes.cpus(self.books.leases[lease_id].told["cpus"] if lease_id else SPUS[1])
            some = set(rng.sample(sorted(cpus), min(rng.randint(1, 2), len(cpus))))
            self.off |= some
            self.books.goes(some, usec())
        self.daemon.tree.online(sizes.cpulist(set(range(CPUS)) - self.off))
        self.say(f"CPUs off line: {sizes.cpulist(self.off)}")
        line = self.get_admin()
        return line and line.post("Rescan") and line

    ACTIONS = ((acquire, 36), (release, 14), (update, 8), (ask_again, 10), (follow, 5), (die, 4), (revoke, 4),
               (assign, 5), (assign_to_host, 1), (reload, 1), (plug, 3), (queue_up, 3),
               (switch, 4))
    PREPARATIONS = {"hand_over": queue_up, "unassign_both": assign_both}
    IN_THE_DARK = ((acquire, 4), (release, 3), (die, 3), (be_reborn, 2), (ask_again, 3), (assign, 2), (plug, 1),
                   (update, 2), (switch, 1))

    def act(self, rng, actions=ACTIONS):
        action = rng.choices([a for a, _ in actions], [w for _, w in actions])[0]
        self.replace_dead()
        return action(self, rng)

    def replace_dead(self):
        """Of those that the broker has killed."""
        self.look_for_dead()
        for i, vmm in enumerate(self.vmms):
            if not vmm.pid:
                self.vmms[i] = self.new_vmm(i)
