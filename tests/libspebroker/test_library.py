# SPDX-License-Identifier: LGPL-2.1-or-later
"""Virtual machine monitors that use libspebroker, against the real daemon: they contend, wait and follow."""

import ctypes
import os
import sys

import harness

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

import library  # noqa: E402  (loads the library)
from library import Context, request  # noqa: E402

SPU = {"instance": "arm_spe_0"}
HOUR = 3600 * 1000 * 1000


class TestLibrary(harness.TestCase):
    def context(self, broker):
        context = Context(path=broker.socket_path)
        self.assertEqual(context.result, 0)
        return context

    def passed(self, process, broker):
        """A context on a descriptor that another process has connected."""
        client = process.connect(broker)
        context = Context(fd=client.socket.detach())
        self.assertEqual(context.result, 0)
        return context

    def test_lease_is_what_is_listed(self):
        broker = self.broker(simulate="biglittle")
        context = self.context(broker)
        wanted = request(3, vm="web", cpus="5-7", buffer_size=5 << 20)
        _, decision = context.query(wanted)
        r, lease = context.acquire(wanted)
        self.assertEqual((r, context.refusal), (0, None))
        listed = broker.lease(lease.id)
        for ours, theirs in (("vm", "vm"), ("vm_origin", "vmOrigin"), ("instance", "instance"),
                             ("pmu_type", "pmuType"), ("cpus", "cpus"), ("vcpus", "vcpus"),
                             ("buffer_size", "bufferSize"), ("requested_buffer_size", "requestedBufferSize"),
                             ("limited_by", "limitedBy"), ("charge", "charge"), ("interrupt", "interrupt"),
                             ("mode", "mode"), ("state", "state"), ("reason", "reason"),
                             ("is_contended", "contended"), ("is_restart_required", "restartRequired"),
                             ("since_usec", "sinceUSec")):
            self.assertEqual(getattr(lease, ours), listed.get(theirs), ours)
        self.assertEqual((lease.memlock_bytes, lease.memlock_state),
                         (listed["memlock"]["bytes"], listed["memlock"]["state"]))
        self.assertEqual((lease.owner_pid, lease.owner_uid), (os.getpid(), os.getuid()))
        self.assertEqual((listed["owner"]["pid"], listed["owner"]["uid"]), (os.getpid(), os.getuid()))
        self.assertEqual(lease.remaining_usec, -1)
        self.assertEqual((lease.vm, lease.cpus, lease.vcpus), ("web", "5-7", 3))

        # And what the query had offered.
        offer = decision.part("offer", "offer")
        self.assertTrue(decision.is_granted)
        for name in ("instance", "pmu_type", "cpus", "buffer_size", "charge", "mode"):
            self.assertEqual(getattr(offer, name), getattr(lease, name), name)
        self.assertEqual(context.release(lease.id), 0)
        self.assertEqual(context.release(lease.id), library.REFUSED)
        self.assertEqual(context.refusal.name, "NoSuchLease")
        self.assert_idle(broker)

    def test_check_host(self):
        broker = self.broker(simulate="biglittle")
        r, checks = self.context(broker).check_host()
        self.assertEqual(r, 0)
        said = broker.call("CheckHost")["checks"]
        self.assertGreater(len(said), 10)
        for i, expected in enumerate(said):
            check = checks.part("check", "check", i)
            self.assertEqual({k: getattr(check, k) for k in ("name", "status", "reason", "advice")}, expected)
        self.assertIsNone(checks.part("check", "check", len(said)))
        failed = checks.part("check", "first_failed")
        self.assertEqual(failed and failed.name, next((c["name"] for c in said if c["status"] == "failed"), None))

    def test_exclusive(self):
        """The second one is refused with the first as the holder, and is told what it could have."""
        broker = self.broker(simulate="biglittle")
        first, second = self.vmm(), self.vmm()
        a, b = self.passed(first, broker), self.passed(second, broker)
        r, lease = a.acquire(request(1, vm="a", cpus="0-1", mode=library.EXCLUSIVE))
        self.assertEqual(r, 0)
        wanted = request(1, vm="b", mode=library.EXCLUSIVE, cpus="1-3")
        self.assertEqual(b.acquire(wanted)[0], library.REFUSED)

        refusal = b.refusal
        self.assertEqual(refusal.name, "Busy")
        self.assertIn("VM a", refusal.message)
        holder = refusal.part("holder", "holder", 0)
        self.assertEqual((holder.kind, holder.lease_id, holder.vm, holder.pid, holder.uid, holder.cpus),
                         ("lease", lease.id, "a", first.pid, 0, "1"))
        self.assertIsNone(refusal.part("holder", "holder", 1))

        r, decision = b.query(wanted)
        self.assertEqual((r, decision.is_granted), (0, False))
        self.assertEqual(decision.part("refusal", "refusal", 0).name, "Busy")
        self.assertIsNone(decision.part("refusal", "refusal", 1))
        offer = decision.part("offer", "counter_offer")
        r, other = b.acquire(request(1, vm="b", mode=library.EXCLUSIVE, cpus=offer.cpus,
                                     buffer_size=offer.buffer_size))
        self.assertEqual((r, other.cpus), (0, offer.cpus))

        # A lease ends with its process.
        first.kill()
        harness.wait_for(lambda: not broker.lease(lease.id), "the lease's end")
        self.assertEqual(b.release(other.id), 0)
        self.assertEqual(b.acquire(wanted)[0], 0)

    def test_wait(self):
        """A waiter is granted when the holder releases; a wait that runs out says what stood in the way."""
        broker = self.broker(simulate="biglittle")
        a, b = self.passed(self.vmm(), broker), self.passed(self.vmm(), broker)
        wanted = request(1, vm="b", mode=library.EXCLUSIVE, **SPU)
        _, lease = a.acquire(request(1, vm="a", mode=library.EXCLUSIVE, **SPU))
        self.assertEqual(b.acquire(wanted, wait_usec=1000)[0], library.REFUSED)
        self.assertEqual(b.refusal.name, "Busy")

        self.assertEqual(b.acquire_and_follow(wanted, HOUR), 0)
        r, queued = b.process()
        self.assertEqual((r, queued.change, queued.state), (0, "queued", "queued"))
        self.assertGreater(queued.remaining_usec, 0)
        self.assertEqual(a.release(lease.id), 0)
        r, granted = b.process()
        self.assertEqual((r, granted.change, granted.state, granted.cpus), (0, "granted", "granted", "0-3"))

    def test_revoked(self):
        broker = self.broker(simulate="biglittle")
        vmm = self.vmm()
        calls, stream = self.passed(vmm, broker), self.passed(vmm, broker)
        _, lease = calls.acquire(request(1, vm="a"))
        self.assertEqual(stream.follow(lease.id), 0)
        r, present = stream.process()
        self.assertEqual((r, present.change, present.state, present.id), (0, None, "granted", lease.id))
        self.assertEqual(stream.process(timeout=0)[0], library.AGAIN)
        self.assertEqual(stream.release(lease.id), -16, "EBUSY: it streams")

        broker.call("Revoke", leaseId=lease.id, graceUSec=HOUR, reason="maintenance")
        r, revoking = stream.process()
        self.assertEqual((r, revoking.change, revoking.state), (0, "revoking", "revoking"))
        self.assertIn("maintenance", revoking.reason)
        self.assertTrue(0 < revoking.remaining_usec <= HOUR)

        self.assertEqual(calls.release(lease.id), 0)
        r, ended = stream.process()
        self.assertEqual((r, ended.change, ended.state), (0, "ended", "ended"))
        self.assertEqual(stream.process()[0], library.ENDED)
        self.assertEqual(stream.release(lease.id), library.REFUSED, "it takes calls again")
        self.assert_idle(broker)

    def test_update(self):
        broker = self.broker(simulate="biglittle")
        context = self.context(broker)
        _, lease = context.acquire(request(1, vm="a", cpus="4-5"))
        r, moved = context.update_cpus(lease.id, "6-7")
        self.assertEqual((r, moved.cpus, broker.lease(lease.id)["cpus"]), (0, "6-7", "6-7"))
        mask = (ctypes.c_ulong * 16)()
        get = library.LIBRARY.spebroker_lease_get_cpu_set
        self.assertEqual(get(moved.pointer, ctypes.c_size_t(128), ctypes.byref(mask)), 0)
        self.assertEqual(list(mask), [0b11000000] + [0] * 15)
        self.assertEqual(context.update_cpus(lease.id, "0-1")[0], library.REFUSED)
        self.assertEqual(broker.lease(lease.id)["cpus"], "6-7")

    def test_update_memlock(self):
        broker = self.broker(simulate="biglittle", config="[Limits]\nMaxMemoryPerVM=16M\n")
        context = self.context(broker)
        _, lease = context.acquire(request(1, vm="a", buffer_size=4 << 20))
        r, grown = context.update_memlock(lease.id, 1 << 20)
        self.assertEqual((r, grown.charge, grown.memlock_bytes), (0, lease.charge + (1 << 20), grown.charge))
        self.assertEqual(context.update_memlock(lease.id, 1 << 30)[0], library.REFUSED)
        self.assertEqual(context.refusal.name, "LimitExceeded")
        self.assertEqual(broker.lease(lease.id)["charge"], grown.charge)

    def test_request_id(self):
        """The same lease again, also over another connection; another request is not the same."""
        broker = self.broker(simulate="biglittle")
        wanted = request(1, vm="a", request_id="boot-1")
        _, first = self.context(broker).acquire(wanted)
        _, again = self.context(broker).acquire(wanted)
        self.assertEqual(first.id, again.id)
        context = self.context(broker)
        self.assertEqual(context.acquire(request(2, vm="a", request_id="boot-1"))[0], library.REFUSED)
        self.assertEqual(context.refusal.name, "InvalidParameter")
        self.assertEqual(len(broker.call("ListLeases")["leases"]), 1)

    def test_refused_requests(self):
        broker = self.broker(simulate="biglittle")
        context = self.context(broker)
        for wanted, name, field in ((request(0, vm="a"), "InvalidParameter", "vcpus"),
                                    (request(1, vm="a", cpus="x"), "InvalidParameter", "cpus"),
                                    (request(1, vm="a", instance="arm_spe_7"), "NoSuchInstance", None),
                                    (request(1, vm="a", pid=2 ** 31 - 1), "NoSuchProcess", None),
                                    (request(1, vm="a", buffer_size=4097, exact=True), "BufferSizeNotRepresentable",
                                     None),
                                    (request(4096, vm="a", buffer_size=64 << 20, exact=True), "LimitExceeded", None)):
            with self.subTest(name, field=field):
                self.assertEqual(context.acquire(wanted)[0], library.REFUSED)
                refusal = context.refusal
                self.assertEqual(refusal.name, name, refusal.message)
                get = library.function("refusal_get_string")
                self.assertEqual(get(refusal.pointer, b"parameter"), field and field.encode())
        self.assertEqual(context.acquire(request(1, vm="a"))[0], 0)

    def test_permission(self):
        broker = self.broker(simulate="biglittle")
        context = self.passed(self.vmm(uid=harness.NOBODY), broker)
        self.assertEqual(context.acquire(request(1, vm="a"))[0], library.REFUSED)
        self.assertEqual(context.refusal.name, "PermissionDenied")


if __name__ == "__main__":
    harness.main()
