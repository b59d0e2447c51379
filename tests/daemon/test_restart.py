# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases outlive the daemon: killed, stopped and started again, with a systemd that keeps descriptors and without."""

import os
import signal
import subprocess
import sys

import harness
import lease_file
import pid1
import tree
import wire
from sizes import MIB

HOUR_USEC = 3_600_000_000
GROUP = 4321
GONE = "its SPU is gone: the lease is revoked unless it is back in time"
OTHERS = "all its CPUs are assigned to others now"
ROOM_FOR_OTHERS = 64 + os.sysconf("SC_NPROCESSORS_CONF")  # what keeps host sessions off comes first in the store

# A VMM that takes another user for good, once it is told to, as QEMU does.
CHANGES_USER = """
import os, sys
print(0, flush=True)
sys.stdin.readline()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(0, flush=True)
sys.stdin.readline()
"""
CONFIG = f"[Policy]\nAcquireGroup={GROUP}\nGoneGraceSec=600\nRevokeGraceSec=600\n"


def start_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return int(stat.read().rpartition(") ")[2].split()[19])


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestCase(harness.TestCase):
    """Both kinds of host run each test, but for those that say otherwise."""

    def make(self, **kwargs):
        kwargs.setdefault("tree", tree.big_little)
        kwargs.setdefault("config", CONFIG)
        service = (pid1.Service if self.stored else harness.Broker)(self.directory(), **kwargs)
        self.brokers.append(service)
        self.addCleanup(service.dismiss if self.stored else service.stop)
        return service

    def owners(self, broker):
        """Processes whose pidfds systemd keeps: {pid: name}"""
        names = [name for name in broker.names() if name.startswith("owner-")]
        return {int(name.split("-")[1]): name for name in names}

    def assert_stored(self, broker, *processes):
        if self.stored:
            broker.until(lambda: set(self.owners(broker)) == {p.pid for p in processes}, "owners in the store")

    def leases(self, broker):
        """{id: lease}, without what is left of a grace"""
        leases = broker.call("ListLeases")["leases"]
        return {lease["leaseId"]: lease | {"remainingUSec": None} for lease in leases}

    def acquire(self, broker, process=None, **kwargs):
        if process:
            kwargs["pid"] = process.pid
        return broker.call("Acquire", request=request(**kwargs))["lease"]

    def between(self, broker, change):
        """Kills it, changes something, and starts it again."""
        broker.kill()
        change()
        broker.start()

    def edit(self, broker, lease, member=None, **changes):
        """Another hand writes into the lease's file; it is believed."""
        path = lease_file.paths(broker.root)[lease["leaseId"]]
        record = lease_file.read(path)
        (record[member] if member else record).update(changes)
        lease_file.write(path, record)

    def revoke(self, broker, lease, **kwargs):
        broker.call(harness.ADMIN + "Revoke", {"leaseId": lease["leaseId"]} | kwargs)

    def assert_taken_over(self, broker, taken, orphans=0):
        said = f"took over {taken} lease{'s' * (taken != 1)}" if taken else ""
        lost = f"{orphans} had lost {'its owner' if orphans == 1 else 'their owners'}" if orphans else ""
        self.assertIn(f"spe-broker: {'; '.join(filter(None, (said, lost)))}\n", broker.read_log())

    def assert_no_files(self, broker):
        self.assertEqual(lease_file.paths(broker.root), {})

    def end_all(self, broker, *processes):
        """Everything comes to nothing: no lease, no charge, no file, no descriptor."""
        for process in processes:
            process.kill()
        harness.wait_for(lambda: not self.leases(broker), "no leases")
        self.assert_idle(broker)
        self.assert_no_files(broker)
        self.assert_stored(broker)


class Restarts:
    def test_all_kinds(self):
        """Of several states and modes: each is what it was."""
        broker = self.make().start()
        one, two = self.vmm(uid=1000, groups=[GROUP]), self.vmm(uid=1001, groups=[GROUP])
        own = one.call(broker, "Acquire", request=request(vm="own", cpus="0-1", requestId="first"))["lease"]
        self.acquire(broker, one, vm="shared", cpus="0-1", mode="shared", vcpus=3)
        self.acquire(broker, two, vm="exclusive", cpus="4-5", mode="exclusive", instance="arm_spe_1")
        revoking = self.acquire(broker, two, vm="revoking", cpus="6")
        revoked = self.acquire(broker, two, vm="revoked", cpus="7")
        moved = self.acquire(broker, two, vm="moved", cpus="6-7")
        admin = harness.ADMIN
        broker.call(admin + "Revoke", {"leaseId": revoking["leaseId"], "graceUSec": HOUR_USEC, "reason": "later"})
        broker.call(admin + "Revoke", {"leaseId": revoked["leaseId"], "graceUSec": 0, "reason": "now"})
        broker.call("Update", {"leaseId": moved["leaseId"], "cpus": "6"})
        harness.wait_for(lambda: broker.lease(revoked["leaseId"])["state"] == "revoked", "revoked")
        before, instances = self.leases(broker), broker.call("ListInstances")
        host = broker.call("Describe")["host"]
        remaining = broker.lease(revoking["leaseId"])["remainingUSec"]
        self.assertEqual(len(before), 6)
        self.assertEqual(sorted(lease_file.paths(broker.root)), sorted(before))
        self.assert_stored(broker, one, two)

        for way in (broker.kill, broker.stop):
            files = {name: path.read_bytes() for name, path in lease_file.paths(broker.root).items()}
            way()
            self.assertEqual({n: p.read_bytes() for n, p in lease_file.paths(broker.root).items()}, files)
            broker.start()
            self.assertEqual(self.leases(broker), before)
            self.assertEqual(broker.call("ListInstances"), instances)
            after = broker.call("Describe")["host"]
            self.assertEqual((after["charge"], after["counts"] | {"connections": 0}),
                             (host["charge"], host["counts"] | {"connections": 0}))
            left = broker.lease(revoking["leaseId"])["remainingUSec"]
            self.assertLess(left, remaining)
            self.assertGreater(left, remaining - 60_000_000)
            remaining = left
            self.assertIn("took over 6 leases", broker.read_log())
            self.assert_stored(broker, one, two)
            self.assertEqual(
                one.call(broker, "Acquire", request=request(vm="own", cpus="0-1", requestId="first"))["lease"], own)
            self.assertEqual(broker.counters()["leases-granted"], 0)
        self.end_all(broker, one, two)


    def test_owner_dies(self):
        """While the daemon is dead: its leases end, those of others do not."""
        broker = self.make().start()
        one, two = self.vmm(uid=1000), self.vmm(uid=1000)
        for _ in range(2):
            self.acquire(broker, one, cpus="0")
        stays = self.acquire(broker, two, cpus="0")
        self.assert_stored(broker, one, two)
        self.between(broker, one.kill)
        self.assertEqual(self.leases(broker), {stays["leaseId"]: stays})
        self.assertEqual(list(lease_file.paths(broker.root)), [stays["leaseId"]])
        self.assert_stored(broker, two)
        self.assert_taken_over(broker, 1, 2)
        host = broker.call("Describe")["host"]
        self.assertEqual((host["charge"], host["counts"]["leases"]), (stays["charge"], 1))
        self.end_all(broker, two)

    def test_all_owners_die(self):
        broker = self.make().start()
        process = self.vmm(uid=1000)
        self.acquire(broker, process)
        self.between(broker, process.kill)
        self.assertIn("spe-broker: 1 lease had lost its owner\n", broker.read_log())
        self.end_all(broker)

    def test_nothing_to_say(self):
        broker = self.make().start()
        said = broker.read_log()
        broker.stop()
        broker.start()
        self.assertEqual(broker.read_log(), said + "spe-broker: stops\n" + said)

    def test_zombie(self):
        broker = self.make().start()
        process = self.vmm(uid=1000)
        self.acquire(broker, process)

        def die():
            os.kill(process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        self.between(broker, die)
        self.end_all(broker)
        process.wait()

    def test_recycled(self):
        """Another process has the pid: who was started at another time is not the owner."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        other, own = self.acquire(broker, process, cpus="0"), self.acquire(broker, process, cpus="0")
        start = lease_file.read(lease_file.paths(broker.root)[own["leaseId"]])["owner"]["startTime"]

        def edit():
            self.edit(broker, other, "owner", startTime=start - 1)
            self.edit(broker, own, "owner", startTime=start)

        self.between(broker, edit)
        self.assertEqual(self.leases(broker), {own["leaseId"]: own})
        self.assertEqual(list(lease_file.paths(broker.root)), [own["leaseId"]])
        self.assertIsNone(process.pid and os.kill(process.pid, 0))
        self.end_all(broker, process)

    def test_changes_user(self):
        """An owner that drops its privileges stays the owner, and its leases are still charged as they were."""
        broker = self.make().start()
        vmm = subprocess.Popen([sys.executable, "-ISc", CHANGES_USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(vmm.communicate)
        vmm.stdout.readline()
        lease = broker.call("Acquire", request=request(pid=vmm.pid))["lease"]
        self.assertEqual(lease["owner"]["uid"], 0)
        vmm.stdin.write(b"\n")
        vmm.stdin.flush()
        vmm.stdout.readline()
        self.between(broker, lambda: None)
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
        vmm.kill()
        vmm.wait()
        self.end_all(broker)

    def test_spu_gone(self):
        """Meanwhile, and before: as if it had gone now, and with what was left of the grace."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process, cpus="4-5")
        path = "sys/bus/event_source/devices/arm_spe_1"
        self.between(broker, lambda: broker.tree.remove(path))
        away = lease | {"pmuType": None, "reason": GONE}
        self.assertEqual(self.leases(broker), {lease["leaseId"]: away})
        left = broker.lease(lease["leaseId"])["remainingUSec"]
        self.assertTrue(0 < left <= 600_000_000)
        gone = broker.instance("arm_spe_1")
        self.assertEqual((gone["state"], gone["cpus"], gone["leases"], gone["leasedCpus"]), ("gone", "4-5", 1, "4-5"))

        self.between(broker, lambda: None)
        self.assertEqual(self.leases(broker), {lease["leaseId"]: away})
        self.assertLess(broker.lease(lease["leaseId"])["remainingUSec"], left)
        self.assertEqual(broker.instance("arm_spe_1"), gone)

        # Its grace runs out while nobody is there to see it.
        self.between(broker, lambda: self.edit(broker, lease, "state", awayDeadlineUSec=1))
        self.assertEqual((broker.lease(lease["leaseId"])["state"], broker.counters()["leases-revoked"]), ("revoked", 1))
        self.end_all(broker, process)
        self.assertIsNone(broker.instance("arm_spe_1"))

    def test_spu_back(self):
        """Under another name, with the PMU type that it had: its CPUs say that it is the same."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process, cpus="4-5")

        def rename():
            broker.tree.remove("sys/bus/event_source/devices/arm_spe_1")
            broker.tree.instance(7, "4-11", type=9)

        self.between(broker, rename)
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease | {"instance": "arm_spe_7"}})
        self.assertEqual([i["name"] for i in broker.call("ListInstances")["instances"]], ["arm_spe_0", "arm_spe_7"])
        self.assertEqual(broker.instance("arm_spe_7")["charge"], lease["charge"])
        self.end_all(broker, process)

    def test_off_line(self):
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process, cpus="4-5")
        self.between(broker, lambda: broker.tree.online("0-4,6-11"))
        told = lease | {"cpus": "4", "reason": "of its CPUs, 5 is off line"}
        self.assertEqual(self.leases(broker), {lease["leaseId"]: told})
        self.between(broker, lambda: broker.tree.online("0-11"))
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
        self.end_all(broker, process)

    def test_assigned_to_others(self):
        """By the configuration, meanwhile: it shrinks, or is on its way out, and may stay if that is taken back."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        shrinks, goes = self.acquire(broker, process, cpus="0-1"), self.acquire(broker, process, cpus="1")
        self.between(broker, lambda: broker.configure(CONFIG + "[Assignment a]\nCpus=1\nOwner=host\n"))
        self.assertEqual(self.leases(broker), {
            shrinks["leaseId"]: shrinks | {"cpus": "0"},
            goes["leaseId"]: goes | {"state": "revoking", "reason": OTHERS},
        })
        left = broker.lease(goes["leaseId"])["remainingUSec"]
        self.assertTrue(0 < left <= 600_000_000)
        self.between(broker, lambda: broker.configure(CONFIG))
        self.assertEqual(self.leases(broker)[goes["leaseId"]], goes)
        self.end_all(broker, process)

    def test_limits(self):
        """They are for new leases."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        leases = [self.acquire(broker, process, cpus="0") for _ in range(3)]
        self.between(broker, lambda: broker.configure(CONFIG + "[Limits]\nMaxLeases=2\nMaxMemory=1M\n"))
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease for lease in leases})
        self.refused("LimitExceeded", self.client(broker), "Acquire", request=request(pid=process.pid))
        self.end_all(broker, process)

    def test_grace_over(self):
        """The time goes on without the daemon."""
        broker = self.make().start()
        process = self.vmm(uid=1000, ignore=[signal.SIGTERM])
        plain, kill = self.acquire(broker, process, cpus="0"), self.acquire(broker, process, cpus="1")
        self.revoke(broker, plain, graceUSec=HOUR_USEC)
        self.revoke(broker, kill, graceUSec=HOUR_USEC, kill=True)
        self.between(broker, lambda: self.edit(broker, plain, "state", deadlineUSec=1))
        leases = self.leases(broker)
        self.assertEqual([leases[x["leaseId"]]["state"] for x in (plain, kill)], ["revoked", "revoking"])
        self.assertEqual(broker.instance()["leasedCpus"], "1")
        self.assertEqual(broker.instance()["leases"], 2)
        # SIGTERM, which it ignores, then SIGKILL, each by another daemon.
        self.between(broker, lambda: self.edit(broker, kill, "state", deadlineUSec=1))
        self.assertEqual(broker.lease(kill["leaseId"])["state"], "revoked")
        state = lease_file.read(lease_file.paths(broker.root)[kill["leaseId"]])["state"]
        self.assertEqual((state["kill"], state["terminated"]), (True, True))
        self.between(broker, lambda: self.edit(broker, kill, "state", deadlineUSec=1))
        self.assertEqual(os.WTERMSIG(process.wait()), signal.SIGKILL)
        self.end_all(broker)

    def test_other_boot(self):
        broker = self.make().start()
        process = self.vmm(uid=1000)
        old, own = self.acquire(broker, process, cpus="0"), self.acquire(broker, process, cpus="0")
        self.between(broker, lambda: self.edit(broker, old, bootId="0" * 32))
        self.assertEqual(self.leases(broker), {own["leaseId"]: own})
        self.assertEqual(sorted(os.listdir(broker.root / lease_file.DIRECTORY)), [own["leaseId"]])
        self.assertIn("removed 1 lease of another boot\n", broker.read_log())
        self.end_all(broker, process)

    def test_torn(self):
        """Set aside, and told; the others are as they were."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        torn, own = self.acquire(broker, process, cpus="0"), self.acquire(broker, process, cpus="0")
        path = lease_file.paths(broker.root)[torn["leaseId"]]
        text = path.read_bytes()[:-100]
        self.between(broker, lambda: path.write_bytes(text))
        self.assertEqual(self.leases(broker), {own["leaseId"]: own})
        self.assertEqual(path.with_name(path.name + ".bad").read_bytes(), text)
        self.assertIn(f"/run/spe-broker/leases/{torn['leaseId']}: ", broker.read_log())
        self.end_all(broker, process)

    def test_request_id_twice(self):
        """What cannot be is not taken over, however good the file is."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        first, second = (self.acquire(broker, process, cpus="0", requestId=name) for name in "ab")
        self.between(broker, lambda: self.edit(broker, second, "request", requestId="a"))
        self.assertEqual(self.leases(broker), {first["leaseId"]: first})
        self.assertIn(f"{second['leaseId']}: its owner has a lease with its request id already", broker.read_log())
        self.end_all(broker, process)

    def test_unknown_members(self):
        """What a newer daemon has written is there when it comes again."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process, cpus="0-1")
        self.between(broker, lambda: self.edit(broker, lease, future={"a": [1, None]}))
        broker.call("Update", {"leaseId": lease["leaseId"], "cpus": "1"})
        record = lease_file.read(lease_file.paths(broker.root)[lease["leaseId"]])
        self.assertEqual((record["future"], record["state"]["cpus"]), ({"a": [1, None]}, "1"))
        self.end_all(broker, process)

    def test_streams(self):
        """They are closed, and nothing is told to have ended; who waited waits no longer."""
        broker = self.make().start()
        process, client = self.vmm(broker)
        held = client.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        follow = process.connect(broker).stream("Follow", leaseId=held["leaseId"])
        watch = self.client(broker).stream("Watch")
        waits = process.connect(broker).stream("Acquire", request=request(cpus="0"), waitUSec=HOUR_USEC)
        for stream in (follow, watch, waits):
            self.addCleanup(stream.close)
        self.assertEqual([s.next() and 0 for s in (follow, watch)], [0, 0])
        queued = waits.next()["lease"]
        self.assertEqual(queued["state"], "queued")
        broker.stop()
        for stream in (follow, waits):
            with self.assertRaises(wire.Closed):
                stream.next()
        broker.start()
        self.assertEqual(self.leases(broker), {held["leaseId"]: held})
        again = process.connect(broker)
        self.addCleanup(again.close)
        with self.assertRaises(wire.VarlinkError) as caught:
            again.stream("Follow", leaseId=queued["leaseId"]).next()
        self.assertEqual(caught.exception.name, harness.BROKER + "NoSuchLease")
        self.assertEqual(again.stream("Follow", leaseId=held["leaseId"]).next()["lease"], held)
        self.end_all(broker, process)

    def test_many(self):
        broker = self.make(config=CONFIG + "[Limits]\nMaxMemory=15G\n").start()
        processes = [self.vmm(uid=1000 + i) for i in range(20)]
        for i in range(400):
            self.acquire(broker, processes[i % 20], vm=f"vm{i}", cpus=f"{i % 12}", mode=("guest", "shared")[i % 2])
        before, host = self.leases(broker), broker.call("Describe")["host"]
        for _ in range(2):
            self.between(broker, lambda: None)
            self.assertEqual(self.leases(broker), before)
            self.assertEqual(broker.call("Describe")["host"]["charge"], host["charge"])
        self.assert_stored(broker, *processes)
        self.end_all(broker, *processes)


class TestStored(Restarts, TestCase):
    stored = True

    @staticmethod
    def is_process(fd, process):
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
            return f"\nPid:\t{process.pid}\n" in info.read()

    def test_nothing_told_anew(self):
        """Who is known is not told of again."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        self.acquire(broker, process)
        self.assert_stored(broker, process)
        self.between(broker, lambda: None)
        self.assertEqual([m for m in broker.messages if "FDSTORE" in m or "FDSTOREREMOVE" in m], [])
        self.end_all(broker, process)

    def test_store_lost(self):
        """As 'systemctl stop' does: owners are found by pid and start time, and systemd has them again."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process)
        self.assert_stored(broker, process)
        broker.stop()
        while broker.store:
            broker.drop(broker.store[0])
        broker.start()
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
        self.assert_stored(broker, process)
        self.end_all(broker, process)

    def test_store_lies(self):
        """Under the owner's name is another process, or none: it is found by pid and start time, and stored again."""
        for make in (lambda other: os.pidfd_open(other.pid), lambda _: os.open("/dev/null", os.O_RDONLY)):
            broker = self.make().start()
            process, other = self.vmm(uid=1000), self.vmm(uid=1000)
            lease = self.acquire(broker, process)
            self.assert_stored(broker, process)
            broker.kill()
            name = self.owners(broker)[process.pid]
            while broker.store:
                broker.drop(broker.store[0])
            broker.put(name, make(other))
            broker.start()
            self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
            broker.until(lambda: [self.is_process(stored.fd, process) for stored in broker.store] == [True], "its own")
            other.kill()
            self.between(broker, lambda: None)
            self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
            self.end_all(broker, process, other)

    def test_twice_in_store(self):
        broker = self.make().start()
        process = self.vmm(uid=1000)
        lease = self.acquire(broker, process)
        self.assert_stored(broker, process)
        broker.kill()
        broker.put(self.owners(broker)[process.pid], os.pidfd_open(process.pid))
        broker.start()
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease})
        broker.until(lambda: len(broker.store) == 1, "once")
        self.assert_stored(broker, process)
        self.end_all(broker, process)

    def test_no_lease_left(self):
        """Of owners without leases nothing is said."""
        broker = self.make().start()
        process = self.vmm(uid=1000)
        said = broker.read_log()
        broker.kill()
        start = start_time(process.pid)
        broker.put(f"owner-{process.pid}-{start}", os.pidfd_open(process.pid))
        broker.start()
        self.assert_stored(broker)
        self.assertEqual(broker.read_log(), said * 2)

    def test_little_room(self):
        """What does not fit is found otherwise. It is said once."""
        broker = self.make(size=ROOM_FOR_OTHERS + 1).start()
        one, two = self.vmm(uid=1000), self.vmm(uid=1000)
        leases = [self.acquire(broker, process) for process in (one, two)]
        self.assert_stored(broker, one)
        self.between(broker, lambda: None)
        self.assertEqual(self.leases(broker), {lease["leaseId"]: lease for lease in leases})
        self.assert_stored(broker, one)
        self.assertEqual(broker.read_log().count("too few file descriptors for the owners"), 2, "once for each daemon")
        self.end_all(broker, one, two)


class TestAlone(Restarts, TestCase):
    stored = False


if __name__ == "__main__":
    harness.main()
