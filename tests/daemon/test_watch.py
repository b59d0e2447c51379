# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watch: a snapshot, then every change without a gap; and what a reader is told that was too slow."""

import harness
from sizes import MIB
from wire import encode


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestWatch(harness.TestCase):
    def watch(self, broker, **kwargs):
        stream = self.client(broker, **kwargs).stream("Watch")
        self.sequence = -1
        return stream

    def event(self, stream, kind=None):
        """The next event; its sequence must follow the last one's, and the one member that its kind names is
        set."""
        while True:
            event = stream.next()["event"]
            self.sequence += 1
            self.assertEqual(event["sequence"], self.sequence)
            members = [k for k in ("snapshot", "lease", "instance", "refusal", "session") if event.get(k) is not None]
            self.assertEqual(members, [event["kind"]])
            self.assertFalse(stream.done)
            if kind in (None, event["kind"]):
                return event

    def lease_event(self, stream):
        change = self.event(stream, "lease")["lease"]
        return change["change"], change["lease"]

    def test_snapshot(self):
        broker = self.broker()
        client = self.client(broker)
        client.call("Acquire", request=request(cpus="0", mode="exclusive"))
        waiter = self.client(broker).stream("Acquire", request=request(cpus="0"), waitUSec=10**9)
        waiter.next()
        event = self.event(self.watch(broker))
        self.assertEqual((event["kind"], event["lost"], event["sequence"]), ("snapshot", False, 0))
        listed = client.call("ListLeases")["leases"]
        for lease in listed + event["snapshot"]["leases"]:
            lease["remainingUSec"] = lease.get("remainingUSec") is not None
        self.assertEqual(event["snapshot"]["leases"], listed)
        self.assertEqual(event["snapshot"]["instances"], client.call("ListInstances")["instances"])

    def test_lease_changes(self):
        broker = self.broker()
        stream = self.watch(broker)
        self.event(stream)
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
        self.assertEqual(self.lease_event(stream), ("granted", lease))
        waiter = self.client(broker).stream("Acquire", request=request(cpus="0"), waitUSec=10**9)
        queued = waiter.next()["lease"]
        word, told = self.lease_event(stream)
        self.assertEqual((word, told["leaseId"]), ("queued", queued["leaseId"]))
        moved = client.call("Update", leaseId=lease["leaseId"], cpus="1")["lease"]
        self.assertEqual(self.lease_event(stream), ("updated", moved))
        word, told = self.lease_event(stream)
        self.assertEqual((word, told["leaseId"]), ("granted", queued["leaseId"]))
        client.call("Revoke", leaseId=lease["leaseId"], graceUSec=0)
        words = []
        while "revoked" not in words:
            words.append(self.lease_event(stream)[0])
        self.assertTrue(set(words) <= {"revoking", "revoked", "contended"}, words)
        client.call("Release", leaseId=lease["leaseId"])
        words = []
        while "ended" not in words:
            word, told = self.lease_event(stream)
            words.append(word)
            self.assertEqual(told["leaseId"], lease["leaseId"])
        self.assertEqual(told["state"], "ended")

    def test_leaving_waiter(self):
        broker = self.broker()
        client = self.client(broker)
        client.call("Acquire", request=request(cpus="0", mode="exclusive"))
        stream = self.watch(broker)
        self.event(stream)
        waiter = self.client(broker).stream("Acquire", request=request(cpus="0"), waitUSec=10**9)
        lease = waiter.next()["lease"]
        self.assertEqual(self.lease_event(stream)[0], "queued")
        waiter.close()
        word, told = self.lease_event(stream)
        self.assertEqual((word, told["leaseId"]), ("ended", lease["leaseId"]))

    def test_refusal(self):
        broker = self.broker()
        stream = self.watch(broker)
        self.event(stream)
        client = self.client(broker)
        self.refused("NoSuchInstance", client, "Acquire", request=request(instance="arm_spe_9"))
        refusal = self.event(stream, "refusal")["refusal"]
        self.assertEqual(refusal, client.call("ListRefusals")["refusals"][0])

    def test_instance(self):
        """Leases change an instance's figures, but are events of their own; an assignment is the
        instance's."""
        broker = self.broker()
        stream = self.watch(broker)
        self.event(stream)
        broker.call("Assign", cpus="4-5", owner="host", runtime=True)
        instance = self.event(stream, "instance")["instance"]
        self.assertEqual(
            (instance["name"], [a["cpus"] for a in instance["assignments"]]), ("arm_spe_1", ["4-5"])
        )
        broker.call("Unassign", cpus="4-5")
        self.assertEqual(self.event(stream, "instance")["instance"]["assignments"], [])

    def fill(self, client, n):
        """So many leases, that those of a snapshot are written in many parts."""
        client.send_bytes(encode("Acquire", {"request": request(vm="f" * 200, bufferSize=4096, cpus="4-11")}) * n)
        return [client.receive_message()["parameters"]["lease"]["leaseId"] for _ in range(n)]

    def one_moment(self, broker, client, ends, fill):
        """A snapshot that is begun in the midst of many changes: whether it has some of them and not others. The two
        leases are the first one and the last one of it, and never on the same CPU."""
        cpus = [next(lease["cpus"] for lease in client.call("ListLeases")["leases"] if lease["leaseId"] == i)
                for i in ends]
        calls, states = b"", [(*cpus, 0, 0)]
        for i, released in enumerate(fill):
            free = sorted({"0", "1", "2", "3"} - set(cpus))[0]
            for step in (0, 1):
                free, cpus[step] = cpus[step], free
                calls += encode("Update", {"leaseId": ends[step], "cpus": cpus[step]})
                states.append((*cpus, i, i))
            calls += encode("Release", {"leaseId": released})
            states.append((*cpus, i + 1, i))
            calls += encode("Acquire", {"request": request(vm=f"new-{released}", bufferSize=4096, cpus="4-11")})
            states.append((*cpus, i + 1, i + 1))
        process = self.vmm(uid=harness.NOBODY)
        watcher = process.connect(broker)
        self.addCleanup(watcher.close)
        half = calls.index(b"\0", len(calls) // 2) + 1
        client.send_bytes(calls[:half])
        stream = watcher.stream("Watch")
        client.send_bytes(calls[half:])
        self.sequence = -1
        listed = self.event(stream, "snapshot")["snapshot"]["leases"]
        for _ in range(4 * len(fill)):
            self.assertNotIn("error", client.receive_message())
        leases = {lease["leaseId"]: lease for lease in listed}
        self.assertEqual(len(leases), len(listed))
        state = (leases[ends[0]]["cpus"], leases[ends[1]]["cpus"], len(set(fill) - set(leases)),
                 sum(lease["vm"] in [f"new-{i}" for i in fill] for lease in listed))
        self.assertIn(state, states)
        # and all that followed is told
        client.call("Release", leaseId=client.call("Acquire", request=request(cpus="4", vm="end"))["lease"]["leaseId"])
        while True:
            word, told = self.lease_event(stream)
            leases[told["leaseId"]] = told
            if word == "ended":
                del leases[told["leaseId"]]
                if told["vm"] == "end":
                    break
        self.assertEqual(leases, {lease["leaseId"]: lease for lease in client.call("ListLeases")["leases"]})
        watcher.close()
        return 0 < states.index(state) < len(states) - 1

    def test_snapshot_is_of_one_moment(self):
        """With another user's calls between any two parts of it."""
        broker = self.broker()
        client = self.client(broker, timeout=60)
        first = client.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]["leaseId"]
        fill = self.fill(client, 400)
        last = client.call("Acquire", request=request(cpus="1", mode="exclusive"))["lease"]["leaseId"]
        midst = 0
        for i in range(20):
            midst += self.one_moment(broker, client, (first, last), fill[i::20])
        self.assertGreater(midst, 0, "nothing has changed while any of the snapshots was written")

    def test_leaving_in_the_midst(self):
        """A watcher that is gone before its snapshot is whole leaves nothing behind, and disturbs nobody."""
        broker = self.broker()
        client = self.client(broker, timeout=60)
        fill = self.fill(client, 400)
        process = self.vmm(uid=harness.NOBODY)
        for i in range(0, 400, 2):
            watcher = process.connect(broker)
            watcher.send("Watch", more=True)
            client.send_bytes(encode("Release", {"leaseId": fill[i]}) + encode("Release", {"leaseId": fill[i + 1]}))
            watcher.close()
            for _ in range(2):
                self.assertNotIn("error", client.receive_message())
        harness.wait_for(lambda: client.call("Describe")["host"]["counts"]["watchers"] == 0, "no watcher is left")
        self.assertEqual(self.event(self.watch(broker))["snapshot"]["leases"], [])

    def test_several_watchers(self):
        broker = self.broker()
        streams = [self.client(broker).stream("Watch") for _ in range(8)]
        for stream in streams:
            self.assertEqual(stream.next()["event"]["sequence"], 0)
        lease = broker.call("Acquire", request=request(pid=self.vmm().pid))["lease"]
        for stream in streams:
            event = stream.next()["event"]
            self.assertEqual((event["sequence"], event["lease"]["lease"]["leaseId"]), (1, lease["leaseId"]))

    def test_who(self):
        broker = self.broker(config="[Policy]\nReadGroup=4321\n")
        _, stranger = self.vmm(broker, uid=1000)
        with self.assertRaises(harness.VarlinkError) as caught:
            stranger.stream("Watch").next()
        self.assertEqual(caught.exception.name, harness.SERVICE + "PermissionDenied")

    def test_slow_reader(self):
        """A reader that does not read costs the others nothing; when it reads again it is told that it has
        lost something, with a new snapshot, and its numbers go on without a gap."""
        broker = self.broker()
        stream = self.watch(broker, timeout=60)
        self.event(stream)
        client = self.client(broker, timeout=60)
        batch = 200
        for _ in range(60):
            client.send_bytes(encode("Acquire", {"request": request(vm="v" * 255, bufferSize=4096)}) * batch)
            leases = [client.receive_message()["parameters"]["lease"]["leaseId"] for _ in range(batch)]
            client.send_bytes(b"".join(encode("Release", {"leaseId": i}) for i in leases))
            for _ in leases:
                self.assertNotIn("error", client.receive_message())
        lease = client.call("Acquire", request=request(vm="last"))["lease"]
        lost, seen = 0, False
        while not seen:
            event = self.event(stream)
            lost += event["lost"]
            if event["lost"]:
                self.assertEqual(event["kind"], "snapshot")
                seen = lease["leaseId"] in [l["leaseId"] for l in event["snapshot"]["leases"]]
            elif event["kind"] == "lease":
                seen = event["lease"]["lease"]["leaseId"] == lease["leaseId"]
        self.assertGreaterEqual(lost, 1)
        self.assertLess(self.sequence, 60 * batch * 2, "events were kept without bound")
        # and it is back
        client.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(self.lease_event(stream)[0], "ended")

    def test_many_slow_readers(self):
        """Anybody may watch, so what a reader that does not read can cost is small."""
        broker = self.broker()
        process = self.vmm(uid=harness.NOBODY)
        for _ in range(64):
            stranger = process.connect(broker)
            self.addCleanup(stranger.close)
            stranger.send("Watch", more=True)
        client = self.client(broker, timeout=60)
        for _ in range(10):
            client.send_bytes(encode("Acquire", {"request": request(vm="v" * 255, bufferSize=4096)}) * 100)
            leases = [client.receive_message()["parameters"]["lease"]["leaseId"] for _ in range(100)]
            client.send_bytes(b"".join(encode("Release", {"leaseId": i}) for i in leases))
            for _ in leases:
                client.receive_message()
        self.assertEqual(client.call("Describe")["host"]["counts"]["watchers"], 64)
        self.assertLess(broker.resident_kib(), 40 * 1024)


if __name__ == "__main__":
    harness.main()
