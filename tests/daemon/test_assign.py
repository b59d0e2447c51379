# SPDX-License-Identifier: LGPL-2.1-or-later
"""Assignments: owners, VMs, precedence, expiry, persistence; and what happens to leases in their way."""

import harness
from sizes import MIB

MEMBER = "[Policy]\nAcquireGroup=4321\nRevokeGraceSec=1000\n"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class AssignCase(harness.TestCase):
    def assignments(self, broker, name="arm_spe_1"):
        """As (cpus, owner, vm, origin), in the order told."""
        return [
            (a["cpus"], a["owner"], a.get("vm"), a["origin"]) for a in broker.instance(name)["assignments"]
        ]


class TestOwners(AssignCase):
    def test_each(self):
        broker = self.broker()
        client = self.client(broker)
        for owner, vm, granted in (
            ("host", None, False),
            ("none", None, False),
            ("guest", None, True),
            ("any", None, True),
            ("guest", "vm", True),
            ("any", "vm", True),
            ("guest", "other", False),
            ("any", "other", False),
        ):
            with self.subTest(f"{owner} {vm}"):
                answer = client.call("Assign", cpus="4-5", owner=owner, vm=vm)
                self.assertEqual(answer, {"affected": [], "draining": []})
                self.assertEqual(self.assignments(broker), [("4-5", owner, vm, "persistent")])
                if granted:
                    lease = client.call("Acquire", request=request(cpus="5"))["lease"]
                    client.call("Release", leaseId=lease["leaseId"])
                else:
                    answer = self.refused("NotAssigned", client, "Acquire", request=request(cpus="5"))
                    self.assertEqual((answer["cpus"], answer["owner"], answer.get("vm")), ("5", owner, vm))
                client.call("Unassign", cpus="4-5")
                self.assertEqual(self.assignments(broker), [])

    def test_default_owner(self):
        broker = self.broker(
            config="[Policy]\nDefaultOwner=none\n[Assignment a]\nInstance=arm_spe_1\nOwner=any\n"
        )
        client = self.client(broker)
        self.refused("NotAssigned", client, "Acquire", request=request(cpus="0"))
        client.call("Acquire", request=request(cpus="4"))
        client.call("Assign", instance="arm_spe_0", owner="guest")
        client.call("Acquire", request=request(cpus="0"))

    def test_claimed_names_do_not_count(self):
        broker = self.broker(config=MEMBER + "[Assignment a]\nCpus=4\nOwner=any\nVm=vm\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        self.refused("NotAssigned", member, "Acquire", request=request(cpus="4"))
        broker.call("Acquire", request=request(cpus="4"))

    def test_instance_and_cpus(self):
        broker = self.broker()
        client = self.client(broker)
        client.call("Assign", instance="arm_spe_1", owner="host")
        self.assertEqual(self.assignments(broker), [("4-11", "host", None, "persistent")])
        client.call("Assign", instance="arm_spe_1", cpus="6-7", owner="none")
        self.assertEqual(
            sorted(self.assignments(broker)),
            [("4-5,8-11", "host", None, "persistent"), ("6-7", "none", None, "persistent")],
        )
        client.call("Assign", cpus="2-5", owner="guest")
        self.assertEqual(self.assignments(broker, "arm_spe_0"), [("2-3", "guest", None, "persistent")])
        self.assertIn(("4-5", "guest", None, "persistent"), self.assignments(broker))

    def test_invalid(self):
        broker = self.broker()
        client = self.client(broker)
        for method, more in (("Assign", {"owner": "none"}), ("Unassign", {})):
            self.invalid("cpus", client, method, more)
            for cpus in ("", "x", "4096", "12", "3-12", "0,4000"):
                self.invalid("cpus", client, method, more | {"cpus": cpus})
            self.invalid("cpus", client, method, more | {"instance": "arm_spe_0", "cpus": "3-4"})
            answer = self.refused(
                harness.ADMIN + "NoSuchInstance", client, method, more | {"instance": "arm_spe_9"}
            )
            self.assertEqual(answer, {"instance": "arm_spe_9", "instances": ["arm_spe_0", "arm_spe_1"]})
        for owner in ("host", "none"):
            self.invalid("vm", client, "Assign", cpus="0", owner=owner, vm="vm")
        for vm in ("", "a\nb", "x" * 256):
            self.invalid("vm", client, "Assign", cpus="0", owner="guest", vm=vm)
        for usec in (0, -1):
            self.invalid("forUSec", client, "Assign", cpus="0", owner="none", forUSec=usec)
        self.invalid("owner", client, "Assign", cpus="0", owner="nobody")
        self.assertEqual(self.assignments(broker, "arm_spe_0"), [])

    def test_who(self):
        broker = self.broker(config=MEMBER)
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        self.refused("PermissionDenied", member, "Assign", cpus="0", owner="none")
        self.refused("PermissionDenied", member, "Unassign", cpus="0")
        self.assertEqual(self.assignments(broker, "arm_spe_0"), [])


class TestPrecedence(AssignCase):
    def test_order(self):
        """Runtime beats persistent beats configuration; Unassign removes the first two."""
        broker = self.broker(config="[Assignment a]\nCpus=4-5\nOwner=host\n")
        client = self.client(broker)

        def granted():
            return client.call("Query", request=request(cpus="5"))["decision"]["granted"]

        self.assertFalse(granted())
        client.call("Assign", cpus="5", owner="guest")
        self.assertTrue(granted())
        client.call("Assign", cpus="5-6", owner="none", runtime=True)
        self.assertFalse(granted())
        self.assertEqual(
            sorted(self.assignments(broker), key=lambda a: a[3]),
            [("4", "host", None, "config"), ("5-6", "none", None, "runtime")],
        )
        client.call("Assign", cpus="5", owner="any", runtime=True)
        self.assertTrue(granted())
        client.call("Unassign", cpus="5")
        self.assertFalse(granted())
        self.assertEqual(
            sorted(self.assignments(broker), key=lambda a: a[3]),
            [("4-5", "host", None, "config"), ("6", "none", None, "runtime")],
        )

    def test_config_replaces_config(self):
        """Later sections carve their CPUs out of earlier ones."""
        broker = self.broker(
            config="[Assignment a]\nInstance=arm_spe_1\nOwner=host\n[Assignment b]\nCpus=4\nOwner=any\n"
        )
        self.assertEqual(
            sorted(self.assignments(broker)), [("4", "any", None, "config"), ("5-11", "host", None, "config")]
        )

    def test_expiry(self):
        broker = self.broker()
        watch = self.client(broker).stream("Watch")
        watch.next()
        client = self.client(broker)
        client.call("Assign", cpus="4", owner="none", forUSec=10**9)
        assignment = broker.instance("arm_spe_1")["assignments"][0]
        self.assertEqual(assignment["origin"], "runtime")
        self.assertTrue(0 < assignment["remainingUSec"] <= 10**9)
        client.call("Assign", cpus="4", owner="none", forUSec=100_000)
        watch.until(lambda r: r["event"]["kind"] == "instance" and not r["event"]["instance"]["assignments"])
        client.call("Acquire", request=request(cpus="4"))

    def test_expiry_lets_the_waiter_in(self):
        """Nothing waits for an assignment, but what waits for CPUs is asked again when one ends."""
        broker = self.broker()
        client = self.client(broker)
        held = client.call("Acquire", request=request(cpus="4", mode="exclusive"))["lease"]
        waiter = self.client(broker).stream("Acquire", request=request(cpus="4"), waitUSec=10**9)
        waiter.next()
        client.call("Release", leaseId=held["leaseId"])
        waiter.change("granted")

    def test_restart(self):
        broker = self.broker()
        client = self.client(broker)
        client.call("Assign", cpus="4-5", owner="host")
        client.call("Assign", cpus="6", owner="guest", vm='"odd" \\name\u202e %s')
        client.call("Assign", cpus="7", owner="none", runtime=True)
        client.call("Assign", cpus="8", owner="none", forUSec=10**10)
        before = sorted(self.assignments(broker))
        broker.restart()
        self.assertEqual(sorted(self.assignments(broker)), before)
        client = self.client(broker)
        client.call("Unassign", instance="arm_spe_1")
        broker.restart()
        self.assertEqual(self.assignments(broker), [])

    def test_crash(self):
        """What was answered is on disk."""
        broker = self.broker()
        broker.call("Assign", cpus="4-5", owner="host")
        broker.kill()
        broker.start()
        self.assertEqual(self.assignments(broker), [("4-5", "host", None, "persistent")])

    def test_keyed_by_cpus(self):
        """Names move when the driver is loaded again; the decision stays with the CPUs."""
        broker = self.broker()
        broker.call("Assign", instance="arm_spe_1", owner="host")
        broker.stop()
        broker.tree.remove_instance(0)
        broker.tree.remove_instance(1)
        broker.tree.instance(0, "4-11", type=8).instance(1, "0-3", type=9)
        broker.start()
        self.assertEqual(self.assignments(broker, "arm_spe_0"), [("4-11", "host", None, "persistent")])
        self.assertEqual(self.assignments(broker, "arm_spe_1"), [])

    def test_cannot_be_saved(self):
        """What cannot be kept is not promised: an error, and everything as it was."""
        broker = self.new_broker()
        blocked = broker.root / "var/lib"
        blocked.parent.mkdir(parents=True, exist_ok=True)
        blocked.write_text("a file where a directory is needed")
        broker.start()
        client = self.client(broker)
        client.send("Assign", {"cpus": "4", "owner": "none"})
        self.assertIn("error", client.receive_message())
        client.expected.clear()
        self.assertEqual(self.assignments(broker), [])
        client.call("Acquire", request=request(cpus="4"))
        blocked.unlink()
        client.call("Assign", cpus="5", owner="none")
        self.assertEqual(self.assignments(broker), [("5", "none", None, "persistent")])
        broker.stop()
        self.assertEqual(broker.log.count("/var/lib/spe-broker/assignments.json: cannot be written: "), 1)

    def test_bad_state_files(self):
        """Whatever is found in the state directory, the daemon starts, and can save again."""
        broker = self.broker()
        broker.call("Assign", cpus="4", owner="host")
        broker.stop()
        files = [
            p
            for d in ("var/lib/spe-broker", "run/spe-broker")
            for p in (broker.root / d).rglob("*")
            if p.is_file()
        ]
        self.assertTrue(files, "nothing was saved")
        good = {p: p.read_bytes() for p in files}
        for garbage in (
            b"",
            b"\0" * 1000,
            b"{",
            b"[" * 100000,
            b'{"assignments": 5}',
            bytes(range(256)),
            b"x" * (1 << 22),
        ):
            with self.subTest(garbage[:10]):
                for path in files:
                    path.write_bytes(garbage)
                broker.start()
                broker.call("Assign", cpus="4", owner="none")
                broker.restart()
                self.assertIn(("4", "none", None, "persistent"), self.assignments(broker))
                broker.stop()
        for path, data in good.items():
            path.write_bytes(data)
        broker.start()
        self.assertEqual(self.assignments(broker), [("4", "host", None, "persistent")])


class TestLeasesInTheWay(AssignCase):
    def setUp(self):
        self.daemon = self.broker(config=MEMBER)
        self.admin = self.client(self.daemon)
        self.process, self.owner = self.vmm(self.daemon, uid=1000, groups=[4321])

    def acquire(self, **kwargs):
        stream = self.process.connect(self.daemon).stream("Acquire", request=request(**kwargs))
        self.addCleanup(stream.close)
        return stream.next()["lease"], stream

    def test_shrinks(self):
        lease, stream = self.acquire(cpus="4-7")
        affected = self.admin.call("Assign", cpus="6-9", owner="host")["affected"]
        self.assertEqual(
            [(l["leaseId"], l["cpus"], l["state"]) for l in affected], [(lease["leaseId"], "4-5", "granted")]
        )
        told = stream.next()
        self.assertEqual((told["change"], told["lease"]["cpus"]), ("cpus", "4-5"))
        self.assertEqual(told["lease"]["charge"], lease["charge"])
        self.assertEqual(self.daemon.instance("arm_spe_1")["leasedCpus"], "4-5")
        self.assertEqual(self.daemon.instance("arm_spe_1")["assignments"][0]["state"], "active")

    def test_revoked_when_none_is_left(self):
        lease, stream = self.acquire(cpus="4-5")
        affected = self.admin.call("Assign", cpus="4-9", owner="host")["affected"]
        self.assertEqual([(l["leaseId"], l["state"]) for l in affected], [(lease["leaseId"], "revoking")])
        told = stream.change("revoking")["lease"]
        self.assertTrue(900 * 10**6 < told["remainingUSec"] <= 10**9)
        self.assertEqual(self.daemon.instance("arm_spe_1")["assignments"][0]["state"], "draining")
        self.owner.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(self.daemon.instance("arm_spe_1")["assignments"][0]["state"], "active")
        self.assert_idle(self.daemon)

    def test_for_another_vm(self):
        mine = self.admin.call("Acquire", request=request(cpus="4", vm="mine"))["lease"]
        other = self.admin.call("Acquire", request=request(cpus="4", vm="other"))["lease"]
        claimed, _ = self.acquire(cpus="4", vm="mine")
        affected = self.admin.call("Assign", cpus="4", owner="guest", vm="mine")["affected"]
        self.assertEqual({l["leaseId"] for l in affected}, {other["leaseId"], claimed["leaseId"]})
        self.assertEqual(self.daemon.lease(mine["leaseId"])["state"], "granted")

    def test_untouched(self):
        lease, _ = self.acquire(cpus="4-5")
        self.assertEqual(self.admin.call("Assign", cpus="6", owner="none")["affected"], [])
        self.assertEqual(self.admin.call("Assign", cpus="4-5", owner="guest")["affected"], [])
        self.assertEqual(self.daemon.lease(lease["leaseId"]), lease)

    def test_until_nothing_is_in_the_way(self):
        lease, _ = self.acquire(cpus="4")
        second, _ = self.acquire(cpus="5")
        stream = self.client(self.daemon).stream("Assign", cpus="4-5", owner="host")
        first = stream.next()
        self.assertEqual({l["leaseId"] for l in first["affected"]}, {lease["leaseId"], second["leaseId"]})
        self.assertFalse(stream.done)
        self.owner.call("Release", leaseId=lease["leaseId"])
        reply = stream.until(
            lambda r: lease["leaseId"] not in [l["leaseId"] for l in r["affected"] if l["state"] != "ended"]
        )
        self.assertFalse(stream.done)
        self.process.kill()
        for reply in stream:
            pass
        self.assertEqual([l for l in reply["affected"] if l["state"] != "ended"], [])
        self.assertTrue(stream.done)
        stream.client.call("Describe")

    def test_nothing_in_the_way_with_more(self):
        stream = self.client(self.daemon).stream("Assign", cpus="4-5", owner="host")
        self.assertEqual(stream.next(), {"affected": [], "draining": []})
        self.assertTrue(stream.done)

    def test_unassign_restores_choice(self):
        self.admin.call("Assign", instance="arm_spe_0", owner="none")
        self.assertEqual(self.owner.call("Acquire", request=request())["lease"]["instance"], "arm_spe_1")
        self.admin.call("Unassign", instance="arm_spe_0")
        self.assertEqual(self.owner.call("Acquire", request=request())["lease"]["instance"], "arm_spe_0")

    def test_restored(self):
        """What assignments alone revoked is granted again if they let it, within the grace."""
        lease, stream = self.acquire(cpus="4-5")
        self.admin.call("Assign", cpus="4-5", owner="host")
        self.assertEqual(stream.change("revoking")["lease"]["state"], "revoking")
        self.admin.call("Unassign", cpus="5")
        self.assertEqual(stream.change("cpus")["lease"]["cpus"], "5")
        told = stream.change("restored")["lease"]
        self.assertEqual((told["state"], told["remainingUSec"], told["reason"]), ("granted", None, None))
        self.admin.call("Unassign", cpus="4")
        self.assertEqual(self.daemon.lease(lease["leaseId"])["cpus"], "5")

    def test_restored_by_move(self):
        lease, stream = self.acquire(cpus="4-5")
        self.admin.call("Assign", cpus="4-5", owner="none")
        stream.change("revoking")
        self.owner.call("Update", leaseId=lease["leaseId"], cpus="6-7")
        self.assertEqual(stream.change("restored")["lease"]["cpus"], "6-7")

    def test_not_restored(self):
        """An administrator's word stands, whatever becomes of the assignments."""
        lease, stream = self.acquire(cpus="4-5")
        self.admin.call("Assign", cpus="4-5", owner="host")
        stream.change("revoking")
        self.admin.call("Revoke", leaseId=lease["leaseId"], graceUSec=3600 * 10**6, reason="maintenance")
        self.admin.call("Unassign", cpus="4-5")
        held = self.daemon.lease(lease["leaseId"])
        self.assertEqual((held["state"], held["reason"]), ("revoking", "maintenance"))

    def test_unassign_vanished(self):
        """Of an instance that is not there any more, the assignment can still be taken back, and nothing else."""
        self.admin.call("Assign", instance="arm_spe_1", owner="host")
        self.daemon.tree.remove_instance(1)
        self.admin.call("Rescan")
        self.invalid("cpus", self.admin, "Assign", cpus="4-11", owner="none")
        self.invalid("cpus", self.admin, "Unassign", cpus="4-12")
        self.admin.call("Unassign", cpus="4-11")
        self.invalid("cpus", self.admin, "Unassign", cpus="4-11")

    def test_config_change(self):
        """A reload that takes CPUs away is like an assignment."""
        lease, stream = self.acquire(cpus="4-5")
        self.daemon.configure(MEMBER + "[Assignment a]\nCpus=5\nOwner=host\n")
        self.admin.call("Reload")
        self.assertEqual(stream.change("cpus")["lease"]["cpus"], "4")


if __name__ == "__main__":
    harness.main()
