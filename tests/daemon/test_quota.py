#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one user, and all together, may have of the daemon: as many as the limit is, not one more, and again what was
given back; and that others are served whatever one user does."""

import contextlib
import json

import harness
from wire import Closed, encode

GROUP = 60000
USERS = range(60001, 60010)
WAITING_PER_USER, WAITING = 256, 1024
WATCHERS_PER_USER, WATCHERS = 64, 512
CONFIG = f"""[Policy]
AcquireGroup={GROUP}
"""
LONG = 3600 * 1000000
BUSY_CPUS = "0-3"


class QuotaTest(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(config=CONFIG + self.limits())
        self.administrator = self.client(self.daemon)

    def limits(self):
        return ""

    def user(self, n=0):
        """A process of that user, who may acquire."""
        return self.vmm(uid=USERS[n], gid=GROUP)

    def connect(self, process):
        client = process.connect(self.daemon)
        self.addCleanup(client.close)
        return client

    def count(self, what):
        return self.administrator.call("Describe")["host"]["counts"][what]

    def wait_count(self, what, n):
        harness.wait_for(lambda: self.count(what) == n, f"{what} are {n}")

    def limit_exceeded(self, limit, client, method, **kwargs):
        with self.assertRaises(harness.VarlinkError) as caught:
            client.stream(method, **kwargs).next()
        error = caught.exception
        self.assertEqual((error.name, error.parameters), (
            harness.BROKER + "LimitExceeded", {"limit": limit, "requested": 1, "available": 0}))


class ConnectionsTest(QuotaTest):
    def limits(self):
        return "[Limits]\nMaxConnections=12\nMaxConnectionsPerUser=5\n"

    def require_served(self, client):
        self.assertTrue(client.call("ListInstances")["instances"])

    def require_hung_up(self, process):
        with self.connect(process) as client, self.assertRaises(Closed):
            client.call("ListInstances")

    def test_user(self):
        one, other = self.user(0), self.user(1)
        clients = [self.connect(one) for _ in range(5)]
        for client in clients:
            self.require_served(client)
        self.require_hung_up(one)
        self.require_served(self.connect(other))
        clients[0].close()
        self.wait_count("connections", 6)
        clients[0] = self.connect(one)
        self.require_served(clients[0])
        self.require_hung_up(one)
        # another process of that user is no other user; one that has ended leaves its connections to it
        self.require_hung_up(self.user(0))
        for client in clients:
            client.close()
        self.wait_count("connections", 2)
        for _ in range(5):
            self.require_served(self.connect(one))

    def test_all(self):
        clients = [self.connect(self.user(n)) for n in (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2)]
        for client in clients:
            self.require_served(client)
        self.require_hung_up(self.user(2))
        clients[0].close()
        self.wait_count("connections", 11)
        self.require_served(self.connect(self.user(2)))


    def test_root(self):
        """Two users have all connections that there are, and the administrator can do something about it."""
        lease = self.connect(self.user(2)).call("Acquire", request={"vm": "a", "vcpus": 1, "cpus": "5"})["lease"]
        clients = [self.connect(self.user(n)) for n in (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)]
        for client in clients:
            self.require_served(client)
        self.require_hung_up(self.user(3))
        self.wait_count("connections", 12)
        # with the administrator's own there are as many as there may be in all
        with self.client(self.daemon) as one_more, self.assertRaises(Closed):
            one_more.call("ListInstances")

        self.administrator.close()
        late = self.user(3)
        for _ in range(20):
            self.require_hung_up(late)
        self.administrator = harness.wait_for(self.administrator_again, "there is one again")
        self.administrator.call("io.spebroker.Admin.Revoke", leaseId=lease["leaseId"], graceUSec=0)
        self.assertEqual([l["state"] for l in self.administrator.call("ListLeases")["leases"]], ["revoked"])

    def administrator_again(self):
        client = self.client(self.daemon)
        with contextlib.suppress(Closed):
            self.require_served(client)
            return client


class WaitersTest(QuotaTest):
    def setUp(self):
        super().setUp()
        self.held = self.administrator.call(
            "Acquire", request={"vm": "held", "vcpus": 1, "cpus": BUSY_CPUS, "mode": "exclusive"})["lease"]

    REQUEST = {"vm": "waits", "vcpus": 1, "cpus": BUSY_CPUS, "bufferSize": 4096}

    def wait(self, process):
        stream = self.connect(process).stream("Acquire", request=self.REQUEST, waitUSec=LONG)
        self.assertEqual(stream.next()["change"], "queued")
        return stream

    def refused_by(self, limit, process):
        self.limit_exceeded(limit, self.connect(process), "Acquire", request=self.REQUEST, waitUSec=LONG)

    def test_user(self):
        one, other = self.user(0), self.user(1)
        streams = [self.wait(one) for _ in range(WAITING_PER_USER)]
        self.refused_by("WaitingPerUser", one)
        self.refused_by("WaitingPerUser", self.user(0))
        refusal = self.administrator.call("ListRefusals", limit=1)["refusals"][0]
        self.assertEqual((refusal["limit"], refusal["uid"]), ("WaitingPerUser", USERS[0]))
        self.wait(other)

        # who does not wait is told who is in the way, as ever
        self.refused("Busy", self.connect(one), "Acquire", request=self.REQUEST)

        streams.pop().close()
        self.wait_count("waiting", WAITING_PER_USER)
        self.wait(one)
        self.refused_by("WaitingPerUser", one)

        one.kill()
        self.wait_count("waiting", 1)
        again = self.user(0)
        streams = [self.wait(again) for _ in range(WAITING_PER_USER)]
        self.refused_by("WaitingPerUser", again)

        # all of them are granted, and then wait no more
        self.administrator.call("Release", leaseId=self.held["leaseId"])
        for stream in streams:
            self.assertEqual(stream.next()["change"], "granted")
        self.assertEqual(self.count("waiting"), 0)
        again.kill()

    def test_all(self):
        users = [self.user(n) for n in range(WAITING // WAITING_PER_USER + 1)]
        for process in users[:-1]:
            for _ in range(WAITING_PER_USER):
                last = self.wait(process)
        self.refused_by("Waiting", users[-1])
        last.close()
        self.wait_count("waiting", WAITING - 1)
        self.wait(users[-1])
        self.refused_by("Waiting", users[-1])

        # all of them, though not in one turn
        self.assertEqual(self.count("waiting"), WAITING)
        self.administrator.call("Release", leaseId=self.held["leaseId"])
        self.wait_count("waiting", 0)
        self.assertEqual(self.count("leases"), WAITING)


class WatchersTest(QuotaTest):
    def watch(self, process):
        stream = self.connect(process).stream("Watch")
        self.assertEqual(stream.next()["event"]["kind"], "snapshot")
        return stream

    def test_user(self):
        one, other = self.user(0), self.user(1)
        streams = [self.watch(one) for _ in range(WATCHERS_PER_USER)]
        self.limit_exceeded("WatchersPerUser", self.connect(one), "Watch")
        self.watch(other)
        streams.pop().close()
        self.wait_count("watchers", WATCHERS_PER_USER)
        streams.append(self.watch(one))
        self.limit_exceeded("WatchersPerUser", self.connect(one), "Watch")

        # all of them are told the same
        lease = self.administrator.call("Acquire", request={"vm": "a", "vcpus": 1})["lease"]
        events = [stream.next()["event"] for stream in streams]
        self.assertEqual({(event["sequence"], event["kind"]) for event in events}, {(1, "lease")})
        self.assertEqual({event["lease"]["lease"]["leaseId"] for event in events}, {lease["leaseId"]})

        for stream in streams:
            stream.close()
        self.wait_count("watchers", 1)
        self.watch(one)

    def test_all(self):
        users = [self.user(n) for n in range(WATCHERS // WATCHERS_PER_USER + 1)]
        for process in users[:-1]:
            for _ in range(WATCHERS_PER_USER):
                last = self.watch(process)
        self.limit_exceeded("Watchers", self.connect(users[-1]), "Watch")
        last.close()
        self.wait_count("watchers", WATCHERS - 1)
        self.watch(users[-1])
        self.limit_exceeded("Watchers", self.connect(users[-1]), "Watch")


class OthersTest(QuotaTest):
    """One user has all that there is to have, and another one is served."""

    CONNECTIONS = 600

    def limits(self):
        return f"[Limits]\nMaxConnectionsPerUser={self.CONNECTIONS}\nMaxLeasesPerUser=300\n"

    def require_served(self, process):
        client = self.connect(process)
        self.assertEqual(len(client.call("ListInstances")["instances"]), 2)
        stream = self.connect(process).stream("Watch")
        self.assertEqual(stream.next()["event"]["kind"], "snapshot")
        lease = client.call("Acquire", request={"vm": "other", "vcpus": 1, "cpus": "4", "bufferSize": 4096})["lease"]
        waits = self.connect(process).stream(
            "Acquire", request={"vm": "other", "vcpus": 1, "cpus": "0", "bufferSize": 4096}, waitUSec=LONG)
        self.assertEqual(waits.next()["change"], "queued")
        stream.until(lambda reply: reply["event"]["kind"] == "lease" and
                     reply["event"]["lease"]["lease"]["leaseId"] == lease["leaseId"])
        client.call("Release", leaseId=lease["leaseId"])
        waits.close()
        stream.close()

    def test_everything(self):
        self.administrator.call("Acquire", request={"vm": "held", "vcpus": 1, "cpus": BUSY_CPUS, "mode": "exclusive"})
        greedy, other = self.user(0), self.user(1)
        for _ in range(WAITING_PER_USER):
            self.connect(greedy).send("Acquire", {"request": WaitersTest.REQUEST, "waitUSec": LONG}, more=True)
        first = self.connect(greedy)  # with the last lease that it may have, those that wait would be refused
        first.send_bytes(encode("Acquire", {"request": {"vm": "g", "vcpus": 1, "cpus": "5", "bufferSize": 4096}}) * 299)
        for _ in range(299):
            self.assertIn("lease", first.receive_message()["parameters"])
        for _ in range(WATCHERS_PER_USER):
            self.connect(greedy).send("Watch", more=True)
        for _ in range(100):
            self.connect(greedy).send_bytes(b'{"method":')
        for _ in range(100):
            client = self.connect(greedy)
            client.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while client.socket.send(encode("ListLeases") * 100):
                    pass
        for _ in range(self.CONNECTIONS - 1 - WAITING_PER_USER - WATCHERS_PER_USER - 200):
            self.connect(greedy)
        self.wait_count("connections", self.CONNECTIONS + 1)
        for what, n in ("waiting", WAITING_PER_USER), ("watchers", WATCHERS_PER_USER), ("leases", 300):
            self.wait_count(what, n)  # between two of its turns, which are long, it rests
        with self.connect(greedy) as one_more, self.assertRaises(Closed):
            one_more.call("ListInstances")
        for _ in range(5):
            self.require_served(other)
        greedy.kill()
        self.wait_count("leases", 1)
        self.require_served(other)

    def test_list_meanwhile(self):
        """While leases come and go, those that stay are in every list, once, and whole."""
        one, other, reader = self.user(0), self.user(1), self.user(2)
        request = {"vm": "stays", "vcpus": 1, "cpus": "5", "bufferSize": 4096}
        goes, stays = self.connect(one), self.connect(other)
        kept = {stays.call("Acquire", request=request)["lease"]["leaseId"] for _ in range(150)}
        going = [goes.call("Acquire", request=request | {"vm": "goes"})["lease"]["leaseId"] for _ in range(150)]
        lists = self.connect(reader)
        for n in range(15):
            ended, going = going[:10], going[10:]
            lists.send("ListLeases")
            goes.send_bytes(b"".join(encode("Release", {"leaseId": i}) for i in ended) +
                            encode("Acquire", {"request": request | {"vm": "comes"}}) * 10)
            for _ in range(20):
                self.assertNotIn("error", goes.receive_message())
            leases = lists.receive_message()["parameters"]["leases"]
            ids = [lease["leaseId"] for lease in leases]
            self.assertEqual(len(ids), len(set(ids)), "one is listed twice")
            self.assertEqual({lease["leaseId"] for lease in leases if lease["vm"] == "stays"}, kept)
            self.assertLessEqual(set(going), set(ids))
            self.assertEqual([lease for lease in leases if lease["state"] != "granted"], [])
            self.assertEqual([lease["sinceUSec"] for lease in leases], sorted(lease["sinceUSec"] for lease in leases))
        after = lists.call("ListLeases")["leases"]
        self.assertEqual([lease["vm"] for lease in after], ["stays"] * 150 + ["comes"] * 150)
        self.assertEqual(len(lists.call("ListLeases", vm="comes")["leases"]), 150)
        self.assertEqual(lists.call("ListLeases", vm="goes")["leases"], [])

    def test_flood(self):
        """Of short connections, whose calls nobody waits for: what has an effect is carried out, and when it is over
        nothing is left."""
        flooding, other = self.user(0), self.user(1)
        lease = self.connect(flooding).call("Acquire", request={"vm": "a", "vcpus": 1, "cpus": "5"})["lease"]
        self.administrator.call(
            "Acquire", request={"vm": "held", "vcpus": 1, "cpus": BUSY_CPUS, "mode": "exclusive", "pid": other.pid})
        for i in range(1000):
            with self.connect(flooding) as client, contextlib.suppress(Closed):
                if i == 500:
                    client.send("Release", {"leaseId": lease["leaseId"]})
                elif i % 3:
                    client.send("ListLeases")
            if i % 250 == 0:
                self.require_served(other)
        self.require_served(other)
        harness.wait_for(lambda: self.daemon.lease(lease["leaseId"]) is None, "the one that mattered is carried out")

    def test_large_messages(self):
        """What a call said is not kept while it is answered: it would be fifty times the memory."""
        process = self.user(0)
        numbers = json.dumps([0] * 300000).replace(" ", "")
        call = f'{{"method":"io.spebroker.Broker.Watch","more":true,"org.example.ignored":{numbers}}}'.encode() + b"\0"
        before = self.daemon.resident_kib()
        for _ in range(20):
            client = self.connect(process)
            client.send_bytes(call)
            self.assertEqual(client.receive_message()["parameters"]["event"]["kind"], "snapshot")
        self.assertLess(self.daemon.resident_kib() - before, 64 * 1024)




if __name__ == "__main__":
    harness.main()
