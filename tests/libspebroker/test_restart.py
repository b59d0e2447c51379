# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon is killed and started again below virtual machine monitors that use libspebroker: at chosen moments of a
call and at random ones, while they wait and while they follow a lease. Each acquire gives one lease, whatever comes."""

import os
import random
import socket
import sys
import threading

import harness
import pid1
import wire

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

import library  # noqa: E402  (loads the library)
from library import Context, request  # noqa: E402
from proxy import ANSWERED, BEFORE, SENT, Proxy  # noqa: E402

HOUR = 3600 * 1000 * 1000
ROUNDS = 30
SEED = int(os.environ.get("SPE_SEED", "5"))


class TestCase(harness.TestCase):
    def setUp(self):
        self.daemon = pid1.Service(self.directory(), simulate="biglittle")
        self.brokers.append(self.daemon)
        self.addCleanup(self.daemon.dismiss)
        self.activate(self.daemon)
        self.daemon.start()

    def activate(self, daemon):
        pass

    def crash(self):
        self.daemon.kill()
        self.daemon.start()

    def context(self, path=None):
        context = Context(path=path or self.daemon.socket_path)
        self.assertEqual((context.result, context.set_reconnect(True)), (0, 0))
        context.set_timeout(int(harness.DEADLINE * 1000000))
        return context

    def leases(self):
        """Those of this process: {id: lease}"""
        return {l["leaseId"]: l for l in self.daemon.call("ListLeases")["leases"]}

    def meanwhile(self, function, *arguments):
        """Calls it on a thread of its own; returns what gets its result."""
        results = []

        def run():
            results.append(function(*arguments))

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

        def get():
            thread.join(harness.DEADLINE)
            self.assertFalse(thread.is_alive(), f"{function} has not returned")
            return results[0]

        return get


class TestCalls(TestCase):
    PLANS = [[BEFORE], [SENT], [ANSWERED], [ANSWERED, SENT, ANSWERED]]

    def each(self):
        for moments in self.PLANS:
            with self.subTest(moments):
                proxy = Proxy(self.directory() / "socket", self.daemon.socket_path, [(m, self.crash) for m in moments])
                self.addCleanup(proxy.close)
                yield self.context(proxy.path)
                self.assertEqual(proxy.plan, [])

    def test_acquire(self):
        for context in self.each():
            r, lease = context.acquire(request(1, vm="a", mode=library.EXCLUSIVE))
            self.assertEqual((r, list(self.leases())), (0, [lease.id]))
            self.assertEqual(self.leases()[lease.id]["cpus"], lease.cpus)
            self.assertEqual(context.release(lease.id), 0)
            self.assert_idle(self.daemon)

    def test_release(self):
        for context in self.each():
            _, lease = self.context().acquire(request(1, vm="a"))
            self.assertEqual(context.release(lease.id), 0)
            self.assert_idle(self.daemon)

    def test_update(self):
        _, lease = self.context().acquire(request(1, vm="a", cpus="4-5"))
        for i, context in enumerate(self.each()):
            cpus = ("6-7", "4-5")[i % 2]
            r, moved = context.update_cpus(lease.id, cpus)
            self.assertEqual((r, moved.cpus, self.leases()[lease.id]["cpus"]), (0, cpus, cpus))

    def test_random_moments(self):
        """Acquired, moved and released by three at once, while the daemon is killed over and over."""
        dice = random.Random(SEED)
        over = threading.Event()
        done = []

        def vmm(name):
            context = self.context()
            n = 0
            while not over.is_set():
                r, lease = context.acquire(request(1, vm=name, cpus="4-5"))
                assert r == 0, (name, n, r)
                mine = [l["leaseId"] for l in self.listed(name)]
                assert mine == [lease.id], (name, n, mine, lease.id)
                r, moved = context.update_cpus(lease.id, "6-7")
                assert (r, moved.cpus) == (0, "6-7"), (name, n, r)
                r = context.release(lease.id)
                assert r == 0, (name, n, r)
                n += 1
            done.append(name)

        threads = [threading.Thread(target=vmm, args=(f"vm{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(ROUNDS):
                harness.ready([], dice.random() * 0.01)  # a moment of theirs
                self.crash()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(sorted(done), ["vm0", "vm1", "vm2"], f"SPE_SEED={SEED}")
        self.assert_idle(self.daemon)

    def listed(self, vm):
        """What the daemon lists, asked until there is one."""
        while True:
            try:
                return self.daemon.call("ListLeases", vm=vm)["leases"]
            except (OSError, wire.Closed):
                continue


class TestWait(TestCase):
    def test_wait(self):
        """A waiter waits on through restarts, and is granted when it is its turn."""
        holder = self.context()
        _, held = holder.acquire(request(1, vm="a", cpus="0-3", mode=library.EXCLUSIVE))
        result = self.meanwhile(self.context().acquire, request(1, vm="b", cpus="0-3", mode=library.EXCLUSIVE), HOUR)
        for _ in range(3):
            harness.wait_for(lambda: "queued" in {l["state"] for l in self.leases().values()}, "a waiter")
            self.crash()
        self.assertEqual(holder.release(held.id), 0)
        r, lease = result()
        self.assertEqual((r, list(self.leases())), (0, [lease.id]))

    def test_stream(self):
        holder, stream = self.context(), self.context()
        _, held = holder.acquire(request(1, vm="a", cpus="0-3", mode=library.EXCLUSIVE))
        self.assertEqual(
            stream.acquire_and_follow(request(1, vm="b", cpus="0-3", mode=library.EXCLUSIVE), HOUR), 0)
        self.assertEqual(stream.process()[1].change, "queued")
        self.crash()
        self.assertEqual([stream.process()[0] for _ in range(2)], [library.DISCONNECTED, library.RECONNECTED])
        self.assertEqual(stream.process()[1].change, "queued")
        self.assertEqual(holder.release(held.id), 0)
        r, lease = stream.process()
        self.assertEqual((lease.change, list(self.leases())), ("granted", [lease.id]))



class TestNotBack(TestCase):
    """A call does not wait longer for the broker than for its answer, and then the same again does no harm."""

    def test_acquire(self):
        proxy = Proxy(self.directory() / "socket", self.daemon.socket_path, [(ANSWERED, self.daemon.kill)])
        self.addCleanup(proxy.close)
        context = self.context(proxy.path)
        context.set_timeout(200000)
        wanted = request(1, vm="a", cpus="0-3", mode=library.EXCLUSIVE)
        # The proxy still takes connections, and then has none to the daemon.
        self.assertIn(context.acquire(wanted)[0], (library.OUTCOME_UNKNOWN, library.TIMEOUT))
        self.daemon.start()
        listed = list(self.leases())
        context.set_timeout(int(harness.DEADLINE * 1000000))
        r, lease = context.acquire(wanted)
        self.assertEqual((r, [lease.id], list(self.leases())), (0, listed, listed))

    def test_others(self):
        context, waiter = self.context(), self.context()
        _, held = context.acquire(request(1, vm="a", cpus="0-3", mode=library.EXCLUSIVE))
        context.set_timeout(50000)
        waiter.set_timeout(50000)
        result = self.meanwhile(waiter.acquire, request(1, vm="b", cpus="0-3", mode=library.EXCLUSIVE), HOUR)
        harness.wait_for(lambda: "queued" in {l["state"] for l in self.leases().values()}, "a waiter")
        self.daemon.kill()
        self.assertEqual(result()[0], library.OUTCOME_UNKNOWN)
        self.assertEqual(context.release(held.id), library.NO_BROKER)
        self.assertEqual(context.query(request(1, vm="a"))[0], library.NO_BROKER)
        self.daemon.start()
        context.set_timeout(int(harness.DEADLINE * 1000000))
        self.assertEqual(context.release(held.id), 0)
        self.assert_idle(self.daemon)


class TestFollow(TestCase):
    def follow(self):
        """A lease of CPUs 0-3 that is followed: its id, and the stream."""
        _, lease = self.context().acquire(request(1, vm="a", cpus="0-3"))
        stream = self.context()
        self.fd = stream.fd
        self.assertEqual((stream.follow(lease.id), stream.process()[0]), (0, 0))
        return lease.id, stream

    def changes(self, stream):
        """What is told after a restart, over the same descriptor."""
        self.assertEqual([stream.process()[0] for _ in range(2)], [library.DISCONNECTED, library.RECONNECTED])
        self.assertEqual(stream.fd, self.fd)
        told = []
        while True:
            r, lease = stream.process(timeout=0)
            if r:
                return told, r
            told.append((lease.change, lease.state, lease.cpus))

    def test_nothing(self):
        lease_id, stream = self.follow()
        for way in (self.daemon.kill, self.daemon.stop):
            way()
            self.daemon.start()
            self.assertEqual(self.changes(stream), ([], library.AGAIN))
        self.assertEqual(self.context().release(lease_id), 0)
        self.assertEqual(stream.process()[1].change, "ended")

    def test_cpus(self):
        _, stream = self.follow()
        self.daemon.kill()
        self.daemon.configure("[Assignment host]\nCpus=3\nOwner=host\n")
        self.daemon.start()
        self.assertEqual(self.changes(stream), ([("cpus", "granted", "0-2")], library.AGAIN))

    def test_revoking(self):
        _, stream = self.follow()
        self.daemon.kill()
        self.daemon.configure("[Assignment host]\nCpus=0-3\nOwner=host\n")
        self.daemon.start()
        self.assertEqual(self.changes(stream), ([("revoking", "revoking", "0-3")], library.AGAIN))

    def test_ended(self):
        """A lease that the broker knows no more."""
        lease_id, stream = self.follow()
        self.daemon.kill()
        (self.daemon.root / "run/spe-broker/leases" / lease_id).unlink()
        self.daemon.start()
        self.assertEqual(self.changes(stream), ([("ended", "ended", "0-3")], library.ENDED))


class Activated:
    """The socket is systemd's: connecting works while the daemon is away, and then one waits."""

    not_back = (library.TIMEOUT, library.TIMEOUT)

    def activate(self, daemon):
        daemon.socket_path.parent.mkdir(parents=True)
        daemon.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(daemon.listener.close)
        daemon.listener.bind(str(daemon.socket_path))
        daemon.listener.listen()


class TestActivatedCalls(Activated, TestCalls):
    pass


class TestActivatedWait(Activated, TestWait):
    pass


class TestActivatedFollow(Activated, TestFollow):
    pass


if __name__ == "__main__":
    harness.main()
