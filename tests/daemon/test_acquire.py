# SPDX-License-Identifier: LGPL-2.1-or-later
"""Acquire: what a lease says, sizes, limits, request ids, and which process it belongs to."""

import os
import subprocess
import threading
import time

import harness
import tree
from sizes import GIB, HOST_PAGE, KIB, MIB, charge, cpulist

MEMBER = "[Policy]\nAcquireGroup=4321\n"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1} | kwargs


class TestLease(harness.TestCase):
    def test_defaults(self):
        broker = self.broker()
        process, client = self.vmm(broker, uid=0)
        before = int(time.time() * 1e6)
        lease = client.call("Acquire", request=request(vcpus=2))["lease"]
        after = int(time.time() * 1e6)
        self.assertRegex(lease["leaseId"], "^[0-9a-f]{32}$")
        expected = {
            "vm": "vm",
            "vmOrigin": "administrator",
            "instance": "arm_spe_0",
            "pmuType": 8,
            "cpus": "0-3",
            "vcpus": 2,
            "bufferSize": 4 * MIB,
            "requestedBufferSize": 4 * MIB,
            "charge": charge(2, 4 * MIB),
            "memlock": {"bytes": charge(2, 4 * MIB), "state": "unmanaged"},
            "interrupt": 21,
            "mode": "guest",
            "state": "granted",
            "contended": False,
            "misplaced": False,
            "restartRequired": False,
        }
        self.assertEqual({k: lease[k] for k in expected}, expected)
        self.assertEqual([lease.get(k) for k in ("limitedBy", "remainingUSec")], [None, None])
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["uid"]), (process.pid, 0))
        self.assertEqual(lease["owner"]["command"], open(f"/proc/{process.pid}/comm").read().strip())
        self.assertTrue(before <= lease["sinceUSec"] <= after)
        self.assertEqual(broker.lease(lease["leaseId"]), lease)
        instance = broker.instance()
        self.assertEqual(
            (instance["leasedCpus"], instance["charge"], instance["leases"]), ("0-3", lease["charge"], 1)
        )

    def test_charge(self):
        """The table of the design's formula, written out."""
        broker = self.broker(config="[Limits]\nMaxMemory=64G\nMaxMemoryPerVM=64G\nMaxBufferSize=1G\n")
        client = self.client(broker)
        for size, tables in ((MIB, 320), (4 * MIB, 320), (64 * MIB, 320), (256 * MIB, 536), (GIB, 2072)):
            lease = client.call("Acquire", request=request(bufferSize=size, vcpus=3, exact=True))["lease"]
            if HOST_PAGE == 4096:
                self.assertEqual(lease["charge"], 3 * (size + tables * KIB + 2 * 4096), size)
            self.assertEqual(lease["charge"], charge(3, size))
            client.call("Release", leaseId=lease["leaseId"])

    def test_least_charged_instance(self):
        broker = self.broker()
        client = self.client(broker)
        names = [
            client.call("Acquire", request=request(**kwargs))["lease"]["instance"]
            for kwargs in ({}, {"bufferSize": MIB}, {"bufferSize": MIB}, {"vcpus": 4}, {})
        ]
        self.assertEqual(names, ["arm_spe_0", "arm_spe_1", "arm_spe_1", "arm_spe_1", "arm_spe_0"])

    def test_configured_defaults(self):
        broker = self.broker(config="[Policy]\nDefaultMode=shared\n[Limits]\nDefaultBufferSize=1M\n")
        lease = broker.call("Acquire", request=request())["lease"]
        self.assertEqual((lease["mode"], lease["bufferSize"]), ("shared", MIB))

    def test_ids_differ(self):
        broker = self.broker()
        client = self.client(broker)
        ids = {
            client.call("Acquire", request=request(bufferSize=4096))["lease"]["leaseId"] for _ in range(64)
        }
        self.assertEqual(len(ids), 64)

    def test_list_by_vm(self):
        broker = self.broker()
        client = self.client(broker)
        for vm in ("a", "b", "a"):
            client.call("Acquire", request=request(vm=vm))
        self.assertEqual([l["vm"] for l in client.call("ListLeases", vm="a")["leases"]], ["a", "a"])
        self.assertEqual(len(client.call("ListLeases")["leases"]), 3)
        self.assertEqual(len(client.call("ListLeases", {"vm": None})["leases"]), 3)
        self.assertEqual(client.call("ListLeases", vm="c")["leases"], [])


class TestSizes(harness.TestCase):
    def check(self, client, asked, got, limited_by=None, **kwargs):
        lease = client.call("Acquire", request=request(bufferSize=asked, **kwargs))["lease"]
        self.assertEqual(
            (lease["bufferSize"], lease.get("limitedBy"), lease["requestedBufferSize"]),
            (got, limited_by, asked),
        )
        client.call("Release", leaseId=lease["leaseId"])

    def test_instance_limit(self):
        for cap, asked, got in (
            (2 * MIB, 4 * MIB, 2 * MIB),
            (3 * MIB, 4 * MIB, 2 * MIB),
            (3 * MIB, 3 * MIB, 3 * MIB),
        ):
            with self.subTest(f"{cap} {asked}"):
                broker = self.broker(tree=lambda root, cap=cap: tree.one_spu(root, max_buff_size=cap))
                client = self.client(broker)
                self.check(client, asked, got, "maxBufferSize" if got < asked else None)
                answer = self.refused(
                    "LimitExceeded", client, "Acquire", request=request(bufferSize=4 * MIB, exact=True)
                )
                self.assertEqual(answer, {"limit": "maxBufferSize", "requested": 4 * MIB, "available": cap})
                self.check(client, 2 * MIB, 2 * MIB, exact=True)
                broker.stop()

    def test_configured_limit(self):
        broker = self.broker(config="[Limits]\nMaxMemory=8G\nMaxBufferSize=48M\n")
        client = self.client(broker)
        self.check(client, 64 * MIB, 32 * MIB, "MaxBufferSize")
        self.check(client, 48 * MIB, 48 * MIB)
        self.check(client, 40 * MIB, 40 * MIB, exact=True)
        self.check(client, 2**62, 32 * MIB, "MaxBufferSize")

    def test_smallest_limit_is_named(self):
        broker = self.broker(config="[Limits]\nMaxMemory=8G\nMaxBufferSize=8M\nMaxMemoryPerVM=5M\n")
        client = self.client(broker)
        self.check(client, 64 * MIB, 4 * MIB, "MaxMemoryPerVM")
        self.check(client, 64 * MIB, 2 * MIB, "MaxMemoryPerVM", vcpus=2)

    def test_overrides(self):
        """[User] and [VM] sections; those of a VM count only for names that cannot be forged."""
        broker = self.broker(
            config=MEMBER + "[Limits]\nMaxMemory=8G\n[User 1000]\nMaxBufferSize=2M\nMaxMemory=16M\n"
            "[VM big]\nMaxBufferSize=16M\nMaxMemory=32M\n"
        )
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        root = self.client(broker)
        self.check(root, 64 * MIB, 64 * MIB)
        self.check(root, 64 * MIB, 16 * MIB, "MaxBufferSize", vm="big")
        self.check(member, 64 * MIB, 2 * MIB, "MaxBufferSize")
        self.check(member, 64 * MIB, 2 * MIB, "MaxBufferSize", vm="big")


class TestLimits(harness.TestCase):
    def test_per_vm(self):
        """Keyed by user and name: the same name of another user has its own account."""
        broker = self.broker(config=MEMBER + "[Limits]\nMaxMemory=8G\nMaxMemoryPerVM=10M\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        root = self.client(broker)
        first = root.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))["lease"]
        left = 10 * MIB - first["charge"]
        answer = self.refused(
            "LimitExceeded", root, "Acquire", request=request(bufferSize=4 * MIB, exact=True)
        )
        self.assertEqual(
            answer, {"limit": "MaxMemoryPerVM", "requested": charge(1, 4 * MIB), "available": left}
        )
        lease = root.call("Acquire", request=request(bufferSize=4 * MIB))["lease"]
        self.assertEqual((lease["bufferSize"], lease["limitedBy"]), (MIB, "MaxMemoryPerVM"))
        root.call("Acquire", request=request(vm="second", bufferSize=8 * MIB, exact=True))
        member.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))
        root.call("Release", leaseId=first["leaseId"])
        root.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))

    def test_per_user(self):
        broker = self.broker(config=MEMBER + "[Limits]\nMaxMemory=8G\nMaxMemoryPerUser=10M\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        _, other = self.vmm(broker, uid=1001, groups=[4321])
        lease = member.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))["lease"]
        answer = self.refused(
            "LimitExceeded", member, "Acquire", request=request(vm="second", bufferSize=4 * MIB, exact=True)
        )
        self.assertEqual(
            (answer["limit"], answer["available"]), ("MaxMemoryPerUser", 10 * MIB - lease["charge"])
        )
        other.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))
        member.call("Release", leaseId=lease["leaseId"])
        member.call("Acquire", request=request(vm="second", bufferSize=8 * MIB, exact=True))

    def test_host(self):
        broker = self.broker(config=MEMBER + "[Limits]\nMaxMemory=10M\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        lease = member.call("Acquire", request=request(bufferSize=8 * MIB, exact=True))["lease"]
        root = self.client(broker)
        answer = self.refused(
            "LimitExceeded", root, "Acquire", request=request(bufferSize=4 * MIB, exact=True)
        )
        self.assertEqual((answer["limit"], answer["available"]), ("MaxMemory", 10 * MIB - lease["charge"]))
        # Not even the smallest buffer fits: refused without exact, too
        answer = self.refused("LimitExceeded", root, "Acquire", request=request(vcpus=64, bufferSize=4 * MIB))
        self.assertEqual(answer["limit"], "MaxMemory")

    def test_exactly_full(self):
        """Equal passes, one byte less does not."""
        for slack, passes in ((0, True), (-1, False)):
            broker = self.broker(config=f"[Limits]\nMaxMemory={2 * charge(1, MIB) + slack}\n")
            client = self.client(broker)
            client.call("Acquire", request=request(bufferSize=MIB, exact=True))
            if passes:
                client.call("Acquire", request=request(bufferSize=MIB, exact=True))
            else:
                answer = self.refused(
                    "LimitExceeded", client, "Acquire", request=request(bufferSize=MIB, exact=True)
                )
                self.assertEqual(answer["available"], charge(1, MIB) - 1)
            broker.stop()

    def test_leases(self):
        broker = self.broker(config=MEMBER + "[Limits]\nMaxLeases=3\nMaxLeasesPerUser=2\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        _, other = self.vmm(broker, uid=1001, groups=[4321])
        first = member.call("Acquire", request=request(bufferSize=4096))["lease"]
        member.call("Acquire", request=request(bufferSize=4096))
        answer = self.refused("LimitExceeded", member, "Acquire", request=request(bufferSize=4096))
        self.assertEqual(answer, {"limit": "MaxLeasesPerUser", "requested": 1, "available": 0})
        other.call("Acquire", request=request(bufferSize=4096))
        answer = self.refused("LimitExceeded", other, "Acquire", request=request(bufferSize=4096))
        self.assertEqual(answer, {"limit": "MaxLeases", "requested": 1, "available": 0})
        member.call("Release", leaseId=first["leaseId"])
        other.call("Acquire", request=request(bufferSize=4096))


class TestRequestId(harness.TestCase):
    def test_repeated(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        asked = request(requestId="r1", cpus="0-1", bufferSize=MIB)
        lease = client.call("Acquire", request=asked)["lease"]
        with process.connect(broker) as again:
            self.assertEqual(again.call("Acquire", request=asked)["lease"], lease)
            self.assertEqual(again.call("Acquire", request=asked, waitUSec=1000)["lease"], lease)
        self.assertEqual(broker.call("Describe")["host"]["charge"], lease["charge"])
        for change in (
            {"vcpus": 2},
            {"cpus": "0"},
            {"cpus": None},
            {"bufferSize": 2 * MIB},
            {"mode": "shared"},
            {"vm": "other"},
            {"exact": True},
            {"instance": "arm_spe_0"},
        ):
            with self.subTest(change):
                self.invalid("requestId", client, "Acquire", request=asked | change)
        self.assertEqual(len(broker.call("ListLeases")["leases"]), 1)
        other = client.call("Acquire", request=asked | {"requestId": "r2"})["lease"]
        self.assertNotEqual(other["leaseId"], lease["leaseId"])
        client.call("Release", leaseId=lease["leaseId"])
        self.assertNotEqual(client.call("Acquire", request=asked)["lease"]["leaseId"], lease["leaseId"])

    def test_belongs_to_its_owner(self):
        broker = self.broker()
        _, first = self.vmm(broker)
        _, second = self.vmm(broker)
        asked = request(requestId="same")
        self.assertNotEqual(
            first.call("Acquire", request=asked)["lease"]["leaseId"],
            second.call("Acquire", request=asked)["lease"]["leaseId"],
        )

    def test_stream(self):
        """A VMM that lost its connection finds its lease again, and follows it."""
        broker = self.broker()
        process, client = self.vmm(broker)
        asked = request(requestId="r")
        lease = client.call("Acquire", request=asked)["lease"]
        client.close()
        stream = process.connect(broker).stream("Acquire", request=asked)
        self.addCleanup(stream.close)
        self.assertEqual(stream.next()["lease"], lease)
        process.call(broker, "Release", leaseId=lease["leaseId"])
        self.assertEqual(stream.change("ended")["lease"]["leaseId"], lease["leaseId"])
        self.assertTrue(stream.done)


class TestOwner(harness.TestCase):
    def test_another_process(self):
        broker = self.broker(config=MEMBER)
        mine = self.vmm(uid=1000)
        foreign = self.vmm(uid=1001)
        _, client = self.vmm(broker, uid=1000, groups=[4321])
        lease = client.call("Acquire", request=request(pid=mine.pid))["lease"]
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["uid"]), (mine.pid, 1000))
        self.refused("PermissionDenied", client, "Acquire", request=request(pid=foreign.pid))
        self.refused("PermissionDenied", client, "Query", request=request(pid=foreign.pid))
        self.refused("PermissionDenied", client, "Acquire", request=request(pid=1))
        lease = broker.call("Acquire", request=request(pid=foreign.pid))["lease"]
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["uid"]), (foreign.pid, 1001))

    def test_charged_to_the_owner(self):
        broker = self.broker(config=MEMBER + "[Limits]\nMaxLeasesPerUser=1\n")
        owner = self.vmm(uid=1001, groups=[4321])
        broker.call("Acquire", request=request(pid=owner.pid))
        with owner.connect(broker) as client:
            answer = self.refused("LimitExceeded", client, "Acquire", request=request())
            self.assertEqual(answer["limit"], "MaxLeasesPerUser")
        broker.call("Acquire", request=request())

    def test_nobody_there(self):
        broker = self.broker()
        gone = self.vmm()
        pid = gone.pid
        gone.kill()
        client = self.client(broker)
        self.assertEqual(
            self.refused("NoSuchProcess", client, "Acquire", request=request(pid=pid)), {"pid": pid}
        )
        self.assert_idle(broker)

    def test_thread(self):
        """A lease belongs to a process; a thread's id names none."""
        broker = self.broker()
        started, done = threading.Event(), threading.Event()
        ids = []

        def run():
            ids.append(threading.get_native_id())
            started.set()
            done.wait()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            self.assertTrue(started.wait(harness.DEADLINE))
            self.assertNotEqual(ids[0], os.getpid())
            self.refused("NoSuchProcess", self.client(broker), "Acquire", request=request(pid=ids[0]))
        finally:
            done.set()
            thread.join()

    def test_kernel_thread(self):
        """No user, no memory, never gone: whatever is answered, the daemon survives it."""
        broker = self.broker()
        kthread = next(
            (
                int(p)
                for p in os.listdir("/proc")
                if p.isdigit() and os.stat(f"/proc/{p}").st_uid == 0 and not os.path.exists(f"/proc/{p}/exe")
            ),
            None,
        )
        if kthread is None:
            self.skipTest("no kernel thread in sight")
        with self.client(broker) as client:
            client.send("Acquire", {"request": request(pid=kthread)})
            try:
                client.receive()
            except harness.VarlinkError as error:
                self.assertTrue(error.name)
        broker.call("Describe")


class TestAffinity(harness.TestCase):
    """On this very machine, whose /sys is replaced for the daemon's eyes only, affinity counts."""

    def machine(self):
        broker = self.new_broker(
            tree=lambda root: tree.Tree(root, "0-7").instance(0, "0-3").instance(1, "4-7", type=9)
        )
        broker.socket_path = broker.root / "socket"
        broker.arguments = ["--config", str(broker.config_path), "--socket", str(broker.socket_path)]
        script = f'mount --bind {broker.root}/sys /sys && exec "$0" "$@"'
        broker.wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
        if subprocess.run(broker.wrapper[:-2] + ["-c", f"mount --bind {broker.root}/sys /sys"]).returncode:
            self.skipTest("no name space of its own for the daemon")
        return broker.start()

    def test_affinity(self):
        broker = self.machine()
        process, client = self.vmm(broker)
        allowed = sorted(os.sched_getaffinity(process.pid) & set(range(4)))
        os.sched_setaffinity(process.pid, allowed[-1:])
        lease = client.call("Acquire", request=request())["lease"]
        self.assertEqual((lease["instance"], lease["cpus"]), ("arm_spe_0", str(allowed[-1])))
        # Where it may not run there is nothing for it, unless it asks for the CPUs by name
        self.refused("NoInstanceForCpus", client, "Acquire", request=request(instance="arm_spe_1"))
        self.assertEqual(client.call("Acquire", request=request(cpus="4-5"))["lease"]["cpus"], "4-5")
        # A new process, another affinity: it is read when the lease is asked for
        other = self.vmm()
        self.assertEqual(
            broker.call("Query", request=request(pid=other.pid))["decision"]["offer"]["cpus"],
            cpulist(os.sched_getaffinity(other.pid) & set(range(4))),
        )


if __name__ == "__main__":
    harness.main()
