# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases of control groups: whose they are, when they end, and that they outlive the daemon."""

import os
import signal
import sys
import time

import cgroups
import harness
import lease_file
import pid1
import tree
from sizes import MIB

GROUP, ORCHESTRATOR = 4321, 4322
CONFIG = f"[Policy]\nAcquireGroup={GROUP}\nOrchestratorGroup={ORCHESTRATOR}\nRevokeGraceSec=600\n"
UNCLAIMED_USEC = 30_000_000
UNCLAIMED = "no process is in its control group yet: it ends unless one comes in time"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class CgroupCase(harness.TestCase):
    def setUp(self):
        if not cgroups.mount():
            self.skipTest("no control groups (cgroup2) can be made here")

    def group(self, **kwargs):
        group = cgroups.Group(**kwargs)
        self.addCleanup(group.remove)
        return group

    def member(self, group, **kwargs):
        """A VMM that is in the group."""
        process = self.vmm(**kwargs)
        group.add(process)
        return process

    def acquire(self, broker, group, **kwargs):
        return broker.call("Acquire", request=request(cgroup=group.path, **kwargs))["lease"]

    def claimed(self, broker, lease):
        """Waits until the broker has seen somebody in the group. The kernel tells how it is, some time later, and not
        each change: who comes and goes at once was never there."""
        harness.wait_for(lambda: UNCLAIMED not in (broker.lease(lease["leaseId"])["reason"] or ""), "it to be claimed")

    def ended(self, broker, lease):
        """Before it would end as nobody has come."""
        harness.wait_for(lambda: broker.lease(lease["leaseId"]) is None, "the end of the lease",
                         UNCLAIMED_USEC / 1_000_000 - 5)


class TestOwner(CgroupCase):
    def test_life(self):
        """Empty at first, it has a deadline; then it lasts as long as any process is in it or below it."""
        broker, group = self.broker(config=CONFIG), self.group()
        watch = self.client(broker).stream("Watch")
        watch.next()
        begin = time.monotonic()
        lease = self.acquire(broker, group, cpus="0-1")
        elapsed = time.monotonic() - begin
        self.assertEqual(lease["owner"], {"pid": None, "cgroup": group.path, "uid": 0, "command": None, "unit": None})
        self.assertEqual((lease["state"], lease["reason"]), ("granted", UNCLAIMED))
        self.assertLessEqual(lease["remainingUSec"], UNCLAIMED_USEC)
        self.assertGreaterEqual(lease["remainingUSec"], UNCLAIMED_USEC - 1_000_000 * elapsed)
        self.assertEqual(watch.next()["event"]["lease"]["change"], "granted")

        first, second = self.member(group.below("vcpus")), self.vmm()
        event = watch.next()["event"]["lease"]
        self.assertEqual((event["change"], event["lease"]["remainingUSec"], event["lease"]["reason"]),
                         ("updated", None, None))
        group.add(second)
        first.kill()
        # What the first one's end would have made has been done once this is answered.
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        second.kill()
        event = watch.next()["event"]["lease"]
        self.assertEqual((event["change"], event["lease"]["state"], event["lease"]["reason"]),
                         ("ended", "ended", "its owner is gone"))
        self.assert_idle(broker)
        self.assertEqual(lease_file.paths(broker.root), {})

    def test_anew(self):
        """Of the same path: one that is empty again, and one that is another group."""
        broker, group = self.broker(config=CONFIG), self.group()
        process = self.member(group)
        lease = self.acquire(broker, group)
        process.kill()
        self.ended(broker, lease)
        old = self.acquire(broker, group, requestId="r")
        self.assertEqual(old["reason"], UNCLAIMED)
        group.remove()
        self.invalid("cgroup", self.client(broker), "Acquire", request=request(cgroup=group.path))
        group.make()
        process, client = self.vmm(broker, uid=1000, groups=[GROUP])
        group.add(process)
        self.refused("PermissionDenied", client, "Release", leaseId=old["leaseId"])
        new = self.acquire(broker, group, requestId="r")
        self.assertNotEqual(new["leaseId"], old["leaseId"])
        self.assertIsNone(new["reason"])
        # Nobody is told that an empty group is removed: it has its deadline.
        self.assertEqual(broker.lease(old["leaseId"])["reason"], UNCLAIMED)
        client.call("Release", leaseId=new["leaseId"])

    def test_emptied_just_now(self):
        """The kernel tells of it up to 10 ms later; who asks meanwhile does not join an owner that has ended."""
        broker, group = self.broker(config=CONFIG), self.group()
        process = self.member(group)
        old = self.acquire(broker, group, cpus="0", mode="exclusive", requestId="r")
        self.assertIsNone(old["reason"])
        for _ in range(5):
            process.kill()
            harness.wait_for(lambda: not group.populated(), "the group to be empty")
            lease = self.acquire(broker, group, cpus="0", mode="exclusive", requestId="r")
            self.assertNotEqual(lease["leaseId"], old["leaseId"])
            self.assertEqual(lease["reason"], UNCLAIMED)
            self.assertIsNone(broker.lease(old["leaseId"]))
            process = self.member(group)
            harness.wait_for(lambda held=lease: not broker.lease(held["leaseId"])["reason"], "it to be claimed")
            old = lease
        process.kill()
        self.ended(broker, lease)
        self.assert_idle(broker)

    def test_claimed_before(self):
        broker, group = self.broker(config=CONFIG), self.group()
        process = self.member(group)
        leases = [self.acquire(broker, group, requestId=name) for name in ("a", "b")]
        self.assertEqual([(lease["remainingUSec"], lease["reason"]) for lease in leases], [(None, None)] * 2)
        process.kill()
        for lease in leases:
            self.ended(broker, lease)
        self.assert_idle(broker)

    def test_same_request(self):
        broker, group, other = self.broker(config=CONFIG), self.group(), self.group()
        lease = self.acquire(broker, group, requestId="r")
        self.assertEqual(self.acquire(broker, group, requestId="r")["leaseId"], lease["leaseId"])
        self.assertNotEqual(self.acquire(broker, other, requestId="r")["leaseId"], lease["leaseId"])
        self.invalid("requestId", self.client(broker), "Acquire",
                     request=request(cgroup=group.path, requestId="r", vcpus=2))

    def test_broker_s_own(self):
        """Whoever kills the owner of a lease would kill the broker, and whatever else keeps the host going."""
        broker, group, other = self.broker(config=CONFIG), self.group(), self.group()
        inner = group.below("broker")
        inner.add(broker.process)
        self.addCleanup(inner.leave)
        for around in (inner, group):
            self.invalid("cgroup", self.client(broker), "Acquire", request=request(cgroup=around.path))
        self.acquire(broker, other)
        self.acquire(broker, group.below("beside"))

    def test_parameters(self):
        broker, group = self.broker(config=CONFIG), self.group()
        client = self.client(broker)
        for path in ("", "/", "a", group.path[1:], group.path + "/", group.path + "/.", group.path + "/../x", "//a",
                     group.path + "-none", group.path + "/cgroup.procs", group.path + "\n", "/\x85", "/" + "a" * 4095):
            for method in ("Query", "Acquire"):
                self.invalid("cgroup", client, method, request=request(cgroup=path))
        self.invalid("cgroup", client, "Acquire", request=request(cgroup=group.path, pid=os.getpid()))
        self.invalid("cgroup", client, "Acquire", request=request(cgroup=group.path, pid=2**22 + 1))
        self.invalid("vm", client, "Acquire", request={"vcpus": 1, "cgroup": group.path})
        (threaded := group.below("threaded")).directory.joinpath("cgroup.type").write_text("threaded")
        self.invalid("cgroup", client, "Acquire", request=request(cgroup=threaded.path))
        self.assertTrue(client.call("Query", request=request(cgroup=group.path))["decision"]["granted"])
        self.assertIn("Request.cgroup", client.call("Describe")["host"]["features"])
        self.assert_idle(broker)

    def test_permission(self):
        """One's own, as it was delegated; for orchestrators anybody's; being in it is not enough."""
        broker = self.broker(config=CONFIG)
        own, roots = self.group(uid=1000), self.group()
        user, caller = self.vmm(broker, uid=1000, groups=[GROUP])
        _, other = self.vmm(broker, uid=1001, groups=[GROUP])
        _, orchestrator = self.vmm(broker, uid=1002, groups=[ORCHESTRATOR])
        _, stranger = self.vmm(broker, uid=1000)
        roots.add(user)
        for client, group in ((caller, roots), (other, own), (other, roots), (stranger, own)):
            for method in ("Query", "Acquire"):
                self.refused("PermissionDenied", client, method, request=request(cgroup=group.path))
        for client, group, uid in ((caller, own, 1000), (orchestrator, own, 1000), (orchestrator, roots, 0)):
            lease = client.call("Acquire", request=request(cgroup=group.path))["lease"]
            self.assertEqual((lease["owner"]["uid"], lease["vmOrigin"]), (uid, "caller"))

    def test_members(self):
        """Who is in it, or below it, is the owner, of whatever user; who has left or asked for it is not."""
        broker, group = self.broker(config=CONFIG), self.group()
        inner = group.below("inner")
        lease = self.acquire(broker, group, cpus="0-3")
        parameters = {"leaseId": lease["leaseId"]}
        for method in ("Update", "Release"):
            _, stranger = self.vmm(broker, uid=1000, groups=[GROUP, ORCHESTRATOR])
            self.refused("PermissionDenied", stranger, method, parameters)
        process, client = self.vmm(broker, uid=1000, groups=[GROUP])
        inner.add(process)
        self.assertEqual(client.call("Update", parameters | {"cpus": "0-1"})["lease"]["cpus"], "0-1")
        stream = process.connect(broker).stream("Follow", **parameters)
        self.addCleanup(stream.client.close)
        self.assertEqual(stream.next()["lease"]["owner"]["cgroup"], group.path)
        keeper = self.member(group)
        cgroups.Group.leave(inner)
        self.refused("PermissionDenied", client, "Release", parameters)
        # One whose name only begins as this one's.
        beside = cgroups.Group(group.path + "-beside")
        self.addCleanup(beside.remove)
        beside.add(process)
        self.refused("PermissionDenied", client, "Release", parameters)
        group.add(process)
        client.call("Release", parameters)
        self.assertEqual(stream.next()["lease"]["state"], "ended")
        self.assert_idle(broker)
        keeper.kill()

    def test_waiting(self):
        """Waits without a deadline of its group's, which begins with the grant; and ends with the group."""
        broker, group = self.broker(config=CONFIG), self.group()
        _, holder = self.vmm(broker)
        held = holder.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        stream = self.client(broker).stream("Acquire", waitUSec=3_600_000_000,
                                            request=request(cgroup=group.path, cpus="0"))
        queued = stream.next()["lease"]
        self.assertEqual(queued["state"], "queued")
        self.assertGreater(queued["remainingUSec"], 60_000_000)
        holder.call("Release", leaseId=held["leaseId"])
        granted = stream.next()["lease"]
        self.assertEqual((granted["state"], granted["reason"]), ("granted", UNCLAIMED))
        self.assertLessEqual(granted["remainingUSec"], UNCLAIMED_USEC)
        broker.call("Release", leaseId=granted["leaseId"])

        held = holder.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        stream = self.client(broker).stream("Acquire", waitUSec=3_600_000_000,
                                            request=request(cgroup=group.path, cpus="0"))
        stream.next()
        shown = self.acquire(broker, group, cpus="4")
        process = self.member(group)
        self.claimed(broker, shown)
        process.kill()
        last = stream.next()
        self.assertEqual((last["lease"]["state"], last["lease"]["reason"]), ("ended", "its owner is gone"))

    def test_refusals(self):
        """Where a process would be named."""
        broker, group, other = self.broker(config=CONFIG), self.group(), self.group()
        lease = self.acquire(broker, group, cpus="0", mode="exclusive")
        answer = self.refused("Busy", self.client(broker), "Acquire", request=request(cgroup=other.path, cpus="0"))
        self.assertEqual(answer["holders"], [{"kind": "lease", "leaseId": lease["leaseId"], "vm": "vm", "pid": None,
                                              "uid": 0, "command": None, "cpus": "0"}])
        refusal = broker.call("ListRefusals")["refusals"][0]
        self.assertEqual((refusal["pid"], refusal["uid"]), (None, 0))
        self.assertEqual(refusal["message"], f"CPUs 0 are held by VM vm (lease {lease['leaseId']})")

    def test_kill(self):
        """All of its processes: SIGTERM, and those that ignore it SIGKILL."""
        broker, group = self.broker(config=CONFIG), self.group()
        polite = self.member(group)
        rude = self.member(group.below("a"), ignore=[signal.SIGTERM])
        bystander = self.vmm()
        lease = self.acquire(broker, group)
        broker.call(harness.ADMIN + "Revoke", leaseId=lease["leaseId"], graceUSec=1, kill=True)
        self.assertEqual(os.WTERMSIG(polite.wait()), signal.SIGTERM)
        self.assertEqual(os.WTERMSIG(rude.wait()), signal.SIGKILL)
        self.ended(broker, lease)
        self.assertEqual(os.waitpid(bystander.pid, os.WNOHANG), (0, 0))
        self.assert_idle(broker)
        log = broker.read_log()
        self.assertIn(f"is revoked: cgroup {group.path}, which has it, was sent SIGTERM", log)
        self.assertIn(f"is revoked: cgroup {group.path}, which has it, was sent SIGKILL", log)

    def test_kill_unclaimed(self):
        """There was nobody to be killed: it stays revoked, for who comes in time, and ends with them."""
        broker, group = self.broker(config=CONFIG), self.group()
        lease = self.acquire(broker, group)
        broker.call(harness.ADMIN + "Revoke", leaseId=lease["leaseId"], graceUSec=0, kill=True)
        harness.wait_for(lambda: "has been sent SIGKILL" in broker.lease(lease["leaseId"])["reason"], "the second grace")
        revoked = broker.lease(lease["leaseId"])
        self.assertEqual(revoked["state"], "revoked")
        self.assertIn(UNCLAIMED, revoked["reason"])
        process = self.member(group)
        self.claimed(broker, lease)
        self.assertEqual(os.waitpid(process.pid, os.WNOHANG), (0, 0))
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "revoked")
        process.kill()
        self.ended(broker, lease)
        self.assert_idle(broker)

    def test_unit(self):
        """The VM's name, of the unit that is the group's."""
        broker = self.broker(config=CONFIG)
        unit = cgroups.Group(f"/spe-broker-{os.getpid()}.service")
        self.addCleanup(unit.remove)
        lease = broker.call("Acquire", request={"vcpus": 1, "cgroup": unit.below("payload").path})["lease"]
        name = unit.path[1:]
        self.assertEqual((lease["vm"], lease["vmOrigin"], lease["owner"]["unit"]), (name, "unit", name))


class Restarts:
    def make(self):
        kwargs = {"tree": tree.big_little, "config": CONFIG}
        service = (pid1.Service if self.stored else harness.Broker)(self.directory(), **kwargs)
        self.brokers.append(service)
        self.addCleanup(service.dismiss if self.stored else service.stop)
        return service.start()

    def between(self, broker, change):
        broker.kill()
        change()
        broker.start()

    def record(self, broker, lease):
        path = lease_file.paths(broker.root)[lease["leaseId"]]
        return path, lease_file.read(path)

    def test_taken_over(self):
        broker, group = self.make(), self.group()
        process = self.member(group)
        lease = self.acquire(broker, group, requestId="r")
        _, record = self.record(broker, lease)
        self.assertEqual(record["version"], 2)
        self.assertEqual(record["owner"], {"cgroup": group.path, "cgroupId": group.directory.stat().st_ino,
                                           "unclaimedUSec": None, "uid": 0})
        self.between(broker, lambda: None)
        self.assertEqual(broker.lease(lease["leaseId"]), lease)
        self.assertEqual(self.acquire(broker, group, requestId="r"), lease)
        process.kill()
        self.ended(broker, lease)
        self.assert_idle(broker)

    def test_stopped(self):
        broker, group = self.make(), self.group()
        self.member(group)
        lease = self.acquire(broker, group)
        broker.restart()
        self.assertEqual(broker.lease(lease["leaseId"]), lease)

    def test_claimed_between(self):
        """While nobody looked: then it has been claimed; and what was claimed and is empty has ended."""
        broker, group = self.make(), self.group()
        lease = self.acquire(broker, group)
        self.assertIsNotNone(self.record(broker, lease)[1]["owner"]["unclaimedUSec"])
        processes = []
        self.between(broker, lambda: processes.append(self.member(group)))
        self.assertEqual(broker.lease(lease["leaseId"]), lease | {"remainingUSec": None, "reason": None})
        self.assertIsNone(self.record(broker, lease)[1]["owner"]["unclaimedUSec"])
        self.between(broker, processes[0].kill)
        self.assertIsNone(broker.lease(lease["leaseId"]))
        self.assertIn("1 lease had lost its owner", broker.read_log())
        self.assert_idle(broker)

    def test_deadline(self):
        """It does not begin anew; and it does come."""
        broker, group = self.make(), self.group()
        lease = self.acquire(broker, group)
        path, record = self.record(broker, lease)

        def sooner():
            record["owner"]["unclaimedUSec"] = time.monotonic_ns() // 1000 + 200_000
            lease_file.write(path, record)

        self.between(broker, lambda: None)
        self.assertLess(broker.lease(lease["leaseId"])["remainingUSec"], lease["remainingUSec"])
        self.between(broker, sooner)
        self.ended(broker, lease)
        self.assert_idle(broker)

    def test_removed(self):
        broker, group = self.make(), self.group()
        lease = self.acquire(broker, group)
        self.between(broker, group.remove)
        self.assertIsNone(broker.lease(lease["leaseId"]))
        self.assertEqual(lease_file.paths(broker.root), {})
        self.assert_idle(broker)

    def test_made_anew(self):
        """A path that is another group's by now, with a process in it: the lease is not that one's."""
        broker, group = self.make(), self.group()
        self.member(group).kill()
        keeper = self.member(group)
        lease = self.acquire(broker, group)

        def replace():
            keeper.kill()
            group.remove()
            group.make()
            self.member(group)

        self.between(broker, replace)
        self.assertIsNone(broker.lease(lease["leaseId"]))
        self.assert_idle(broker)

    def test_damaged(self):
        """What no build would have written is set aside."""
        broker, group = self.make(), self.group()
        self.member(group)
        leases = [self.acquire(broker, group) for _ in range(3)]
        records = [self.record(broker, lease) for lease in leases]

        def damage():
            records[0][1]["owner"]["cgroup"] = "/"
            records[1][1]["version"] = 1
            records[2][1]["version"] = 3
            for path, record in records:
                lease_file.write(path, record)

        self.between(broker, damage)
        log = broker.read_log()
        for lease, reason in zip(leases, ("owner.cgroup is missing, or not what it can be",
                                          "owner.pid is missing, or not what it can be", "of another version")):
            self.assertIsNone(broker.lease(lease["leaseId"]))
            self.assertRegex(log, f"{lease['leaseId']}.*{reason}")
        self.assert_idle(broker)


class TestStored(Restarts, CgroupCase):
    stored = True

    def test_store(self):
        """Its path and id are enough: systemd is given nothing."""
        broker, group = self.make(), self.group()
        self.member(group)
        self.acquire(broker, group)
        process, client = self.vmm(broker)
        client.call("Acquire", request=request())
        broker.until(lambda: [n for n in broker.names() if n.startswith("owner-")], "the process's")
        self.assertEqual(len([n for n in broker.names() if n.startswith("owner-")]), 1)
        process.kill()


class TestUnstored(Restarts, CgroupCase):
    stored = False


if __name__ == "__main__":
    if not cgroups.mount():
        print("no control groups (cgroup2) can be made here")
        sys.exit(77)
    harness.main()
