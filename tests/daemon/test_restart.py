# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases outlive the daemon: killed, stopped and started again, with a systemd that keeps descriptors and without."""

import harness
import lease_file
import pid1
import tree
from sizes import MIB

HOUR_USEC = 3_600_000_000
GROUP = 4321
CONFIG = f"[Policy]\nAcquireGroup={GROUP}\nGoneGraceSec=600\nRevokeGraceSec=600\n"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestCase(harness.TestCase):
    """Both kinds of host run each test, but for those that say otherwise."""

    def make(self, **kwargs):
        kwargs.setdefault("tree", tree.big_little)
        kwargs.setdefault("config", CONFIG)
        service = pid1.Service(self.directory(), **kwargs) if self.stored else harness.Broker(self.directory(), **kwargs)
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

    def crash(self, broker):
        broker.kill()
        broker.start()

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


class TestStored(Restarts, TestCase):
    stored = True


class TestAlone(Restarts, TestCase):
    stored = False


if __name__ == "__main__":
    harness.main()
