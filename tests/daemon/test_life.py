# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a lease: whose it is, what ends it, what does not; Release, Update, Follow, Acquire with
more."""

import select

import harness
from sizes import MIB
from wire import encode

MEMBER = "[Policy]\nAcquireGroup=4321\n"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


def lease_change(word, lease_id=None):
    """For Stream.until() on Watch: this change of this lease."""

    def match(reply):
        change = reply["event"].get("lease")
        return bool(change) and change["change"] == word and lease_id in (None, change["lease"]["leaseId"])

    return match


class TestEnd(harness.TestCase):
    def test_owner_death(self):
        """However it dies, its leases end and nothing stays charged."""
        broker = self.broker(config=MEMBER)
        watch = self.client(broker).stream("Watch")
        watch.next()
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        ids = {client.call("Acquire", request=request())["lease"]["leaseId"] for _ in range(3)}
        self.assertEqual(broker.call("Describe")["host"]["counts"]["leases"], 3)
        process.kill()
        ended = {watch.until(lease_change("ended"))["event"]["lease"]["lease"]["leaseId"] for _ in ids}
        self.assertEqual(ended, ids)
        self.assert_idle(broker)

    def test_owner_death_without_connection(self):
        broker = self.broker()
        watch = self.client(broker).stream("Watch")
        watch.next()
        process = self.vmm(uid=1000)
        lease = broker.call("Acquire", request=request(pid=process.pid))["lease"]
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        process.kill()
        watch.until(lease_change("ended", lease["leaseId"]))
        self.assert_idle(broker)

    def test_zombie(self):
        """A process that is dead but not yet waited for holds nothing any more."""
        broker = self.broker()
        watch = self.client(broker).stream("Watch")
        watch.next()
        process, client = self.vmm(broker)
        lease = client.call("Acquire", request=request())["lease"]
        process.control.close()  # its main loop ends; nobody has waited for it yet
        watch.until(lease_change("ended", lease["leaseId"]))
        process.wait()

    def test_survives_its_connection(self):
        broker = self.broker(config=MEMBER)
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        lease = client.call("Acquire", request=request())["lease"]
        client.close()
        harness.wait_for(
            lambda: broker.call("Describe")["host"]["counts"]["connections"] == 1, "the connection is gone"
        )
        self.assertEqual(broker.lease(lease["leaseId"]), lease)
        process.call(broker, "Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_granted_stream_drops(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        lease = client.stream("Acquire", request=request()).next()["lease"]
        client.close()
        harness.wait_for(
            lambda: broker.call("Describe")["host"]["counts"]["connections"] == 1, "the connection is gone"
        )
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")


class TestPeers(harness.TestCase):
    """A connection says who opened it, and nothing about who holds it now."""

    def reborn(self, pid, **kwargs):
        """A new process with the pid of one that is gone."""
        for _ in range(200):
            try:
                with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                    last.write(str(pid - 1))
            except OSError as error:
                self.skipTest(f"pids cannot be chosen: {error}")
            process = self.vmm(**kwargs)
            if process.pid == pid:
                return process
            process.kill()
        self.skipTest("others take the pid")

    def test_dead_peer(self):
        """The process is gone, somebody else still has its connection: there is nobody to own a lease."""
        broker = self.broker(config=MEMBER)
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        client.call("Acquire", request=request())
        pid = process.pid
        process.kill()
        harness.wait_for(lambda: not broker.call("ListLeases")["leases"], "its lease has ended")
        self.assertEqual(self.refused("NoSuchProcess", client, "Acquire", request=request()), {"pid": pid})
        client.call("Describe")
        self.assert_idle(broker)

    def test_reused_pid(self):
        """Another process gets the pid: the old connection is not its."""
        broker = self.broker(config=MEMBER)
        process, old = self.vmm(broker, uid=1000, groups=[4321])
        old.call("Describe")
        pid = process.pid
        process.kill()
        process = self.reborn(pid, uid=1001, groups=[4321])
        self.assertEqual(self.refused("NoSuchProcess", old, "Acquire", request=request()), {"pid": pid})
        lease = process.call(broker, "Acquire", request=request())["lease"]
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["uid"]), (pid, 1001))
        self.refused("PermissionDenied", old, "Release", leaseId=lease["leaseId"])
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        self.refused("NoSuchProcess", old, "Acquire", request=request())
        self.assertEqual(len(broker.call("ListLeases")["leases"]), 1)

    def test_reused_pid_of_an_owner(self):
        """The owner of a lease is gone, and its pid is somebody else's at once: the lease is not."""
        broker = self.broker(config=MEMBER)
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        lease = client.call("Acquire", request=request(requestId="r"))["lease"]
        pid = process.pid
        process.kill()
        process = self.reborn(pid, uid=1000, groups=[4321])
        again = process.call(broker, "Acquire", request=request(requestId="r"))["lease"]
        self.assertNotEqual(again["leaseId"], lease["leaseId"])
        self.assertEqual([l["leaseId"] for l in broker.call("ListLeases")["leases"]], [again["leaseId"]])


class TestRelease(harness.TestCase):
    def test_who(self):
        """The same process or an administrator; never just the same user."""
        broker = self.broker(config=MEMBER + "AdminGroup=4322\n")
        owner, client = self.vmm(broker, uid=1000, groups=[4321])
        for uid, groups in ((1000, [4321]), (1001, [4321]), (harness.NOBODY, [])):
            with self.subTest(uid):
                lease = client.call("Acquire", request=request())["lease"]
                _, other = self.vmm(broker, uid=uid, groups=groups)
                self.refused("PermissionDenied", other, "Release", leaseId=lease["leaseId"])
                self.refused("PermissionDenied", other, "Update", leaseId=lease["leaseId"], cpus="0")
                other.send("Follow", {"leaseId": lease["leaseId"]}, more=True)
                with self.assertRaises(harness.VarlinkError) as caught:
                    other.receive()
                self.assertEqual(caught.exception.name, "org.varlink.service.PermissionDenied")
                self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
                client.call("Release", leaseId=lease["leaseId"])
        lease = client.call("Acquire", request=request())["lease"]
        _, admin = self.vmm(broker, uid=1002, groups=[4322])
        admin.call("Release", leaseId=lease["leaseId"])
        lease = client.call("Acquire", request=request())["lease"]
        broker.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_on_behalf(self):
        """A lease that was taken for another process is that process's."""
        broker = self.broker(config=MEMBER)
        owner = self.vmm(uid=1000, groups=[4321])
        _, helper = self.vmm(broker, uid=1000, groups=[4321])
        lease = helper.call("Acquire", request=request(pid=owner.pid))["lease"]
        self.refused("PermissionDenied", helper, "Release", leaseId=lease["leaseId"])
        owner.call(broker, "Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_unknown(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        client.call("Release", leaseId=lease["leaseId"])
        for lease_id in (
            lease["leaseId"],
            "0" * 32,
            "",
            "x",
            "a" * 10000,
            lease["leaseId"].upper(),
            "../" * 10,
        ):
            with self.subTest(lease_id[:40]):
                answer = self.refused("NoSuchLease", client, "Release", leaseId=lease_id)
                self.assertEqual(answer, {"leaseId": lease_id})


class TestUpdate(harness.TestCase):
    def test_moves(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        lease = client.call("Acquire", request=request(cpus="4-5", mode="exclusive"))["lease"]
        follow = process.connect(broker).stream("Follow", leaseId=lease["leaseId"])
        self.addCleanup(follow.close)
        follow.next()
        moved = client.call("Update", leaseId=lease["leaseId"], cpus="5-7")["lease"]
        self.assertEqual(moved, lease | {"cpus": "5-7"})
        self.assertEqual(follow.change("updated")["lease"], moved)
        self.assertEqual(broker.instance("arm_spe_1")["leasedCpus"], "5-7")
        client.call("Acquire", request=request(cpus="4", mode="exclusive"))
        self.refused("Busy", client, "Acquire", request=request(cpus="7"))

    def test_refused(self):
        broker = self.broker(config="[Assignment a]\nCpus=11\nOwner=host\n")
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="4-5"))["lease"]
        other = client.call("Acquire", request=request(cpus="8", mode="exclusive"))["lease"]
        for cpus, error in (
            ("0", "NoInstanceForCpus"),
            ("3-4", "NoInstanceForCpus"),
            ("99", "NoInstanceForCpus"),
            ("10-11", "NotAssigned"),
            ("7-9", "Busy"),
        ):
            with self.subTest(cpus):
                self.refused(error, client, "Update", leaseId=lease["leaseId"], cpus=cpus)
                self.assertEqual(broker.lease(lease["leaseId"]), lease)
        for cpus in ("", "x", "5-4", "4096", "4,", " 4"):
            with self.subTest(cpus):
                self.invalid("cpus", client, "Update", leaseId=lease["leaseId"], cpus=cpus)
        self.refused("NoSuchLease", client, "Update", leaseId="0" * 32, cpus="4")
        client.call("Release", leaseId=other["leaseId"])
        client.call("Update", leaseId=lease["leaseId"], cpus="7-9")

    def test_exclusive_stays_the_administrators_word(self):
        """An administrator gave the lease these CPUs; its owner alone cannot take others exclusively."""
        broker = self.broker(config=MEMBER)
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        lease = broker.call("Acquire", request=request(pid=process.pid, cpus="4-5", mode="exclusive"))[
            "lease"
        ]
        self.refused("NotAssigned", client, "Update", leaseId=lease["leaseId"], cpus="5-6")
        self.assertEqual(client.call("Update", leaseId=lease["leaseId"], cpus="5")["lease"]["cpus"], "5")
        self.assertEqual(broker.call("Update", leaseId=lease["leaseId"], cpus="6")["lease"]["cpus"], "6")
        guest = client.call("Acquire", request=request(cpus="7"))["lease"]
        client.call("Update", leaseId=guest["leaseId"], cpus="8")

    def test_nothing(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="4-5"))["lease"]
        self.assertEqual(client.call("Update", leaseId=lease["leaseId"])["lease"], lease)
        self.assertEqual(client.call("Update", leaseId=lease["leaseId"], cpus="4-5")["lease"]["cpus"], "4-5")

    def test_lets_waiters_in(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="4-5", mode="exclusive"))["lease"]
        waiter = self.client(broker).stream("Acquire", request=request(cpus="4"), waitUSec=10**9)
        self.assertEqual(waiter.next()["change"], "queued")
        client.call("Update", leaseId=lease["leaseId"], cpus="5-6")
        self.assertEqual(waiter.change("granted")["lease"]["cpus"], "4")


class TestFollow(harness.TestCase):
    def test_stream(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        lease = client.call("Acquire", request=request())["lease"]
        follow = process.connect(broker).stream("Follow", leaseId=lease["leaseId"])
        self.addCleanup(follow.close)
        first = follow.next()
        self.assertEqual((first["lease"], first.get("change"), follow.done), (lease, None, False))
        client.call("Release", leaseId=lease["leaseId"])
        last = follow.next()
        self.assertEqual((last["change"], last["lease"]["state"], follow.done), ("ended", "ended", True))
        # The connection is free for the next call
        self.assertEqual(follow.client.call("ListLeases")["leases"], [])

    def test_needs_more(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        self.refused("ExpectedMore", client, "Follow", leaseId=lease["leaseId"])
        self.refused("ExpectedMore", client, "Watch")

    def test_unknown(self):
        broker = self.broker()
        client = self.client(broker)
        client.send("Follow", {"leaseId": "0" * 32}, more=True)
        with self.assertRaises(harness.VarlinkError) as caught:
            client.receive()
        self.assertEqual(caught.exception.name, harness.BROKER + "NoSuchLease")

    def test_many_followers(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=request())["lease"]
        streams = [self.client(broker).stream("Follow", leaseId=lease["leaseId"]) for _ in range(20)]
        for stream in streams:
            stream.next()
        for stream in streams[:10]:
            stream.close()
        client.call("Release", leaseId=lease["leaseId"])
        for stream in streams[10:]:
            self.assertEqual(stream.next()["change"], "ended")

    def test_slow_follower(self):
        """One that does not read misses changes, but neither the state after them nor the end."""
        broker = self.broker()
        process, client = self.vmm(broker)
        lease_id = client.call("Acquire", request=request(cpus="4"))["lease"]["leaseId"]
        follow = process.connect(broker).stream("Follow", leaseId=lease_id)
        self.addCleanup(follow.close)
        follow.next()
        batch, rounds = 100, 50
        moves = b"".join(
            encode("Update", {"leaseId": lease_id, "cpus": str(4 + i % 4)}) for i in range(batch)
        )
        for _ in range(rounds):
            client.send_bytes(moves)
            for _ in range(batch):
                self.assertIn("parameters", client.receive_message())
        client.call("Update", leaseId=lease_id, cpus="9")
        told = 1
        while follow.next()["lease"]["cpus"] != "9":
            told += 1
        self.assertLess(told, batch * rounds, "changes were kept without bound")
        client.call("Release", leaseId=lease_id)
        follow.change("ended")
        self.assertTrue(follow.done)

    def test_acquire_with_more(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        stream = client.stream("Acquire", request=request())
        first = stream.next()
        self.assertEqual(
            (first["change"], first["lease"]["state"], stream.done), ("granted", "granted", False)
        )
        lease_id = first["lease"]["leaseId"]
        process.call(broker, "Update", leaseId=lease_id, cpus="1")
        self.assertEqual(stream.next()["lease"]["cpus"], "1")
        process.call(broker, "Release", leaseId=lease_id)
        self.assertEqual(stream.next()["change"], "ended")
        self.assertTrue(stream.done)

    def test_calls_behind_a_stream_wait(self):
        broker = self.broker()
        process, client = self.vmm(broker)
        stream = client.stream("Acquire", request=request())
        lease_id = stream.next()["lease"]["leaseId"]
        client.send("Describe")
        broker.call("Describe")
        self.assertFalse(select.select([client.socket], [], [], 0)[0], "answered while the stream lasts")
        process.call(broker, "Release", leaseId=lease_id)
        self.assertEqual(stream.next()["change"], "ended")
        self.assertIn("host", client.receive()[0])

    def test_refused_with_more(self):
        broker = self.broker()
        client = self.client(broker)
        stream = client.stream("Acquire", request=request(instance="arm_spe_9"))
        with self.assertRaises(harness.VarlinkError) as caught:
            stream.next()
        self.assertEqual(caught.exception.name, harness.BROKER + "NoSuchInstance")
        client.call("Describe")


if __name__ == "__main__":
    harness.main()
