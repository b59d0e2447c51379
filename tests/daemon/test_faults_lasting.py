# SPDX-License-Identifier: LGPL-2.1-or-later
"""Something is missing for a while, as a whole: descriptors, memory, whoever reads notifications. The daemon stays,
serves what it can, does not spin meanwhile, and is itself again when that is over."""

import resource
import signal
import time

import faults
import harness
import pid1
import tree
from wire import Closed, VarlinkError

DESCRIBE = "Describe"


def ticks(broker):
    """CPU time, in hundredths of a second."""
    with open(f"/proc/{broker.process.pid}/stat") as stat:
        return sum(int(n) for n in stat.read().rpartition(")")[2].split()[11:13])


class LastingTest(harness.TestCase):
    def setUp(self):
        self.daemon = self.new_broker()
        self.faults = faults.Faults(self.daemon)
        self.daemon.start()
        self.inside = self.client(self.daemon)
        self.inside.call("Query", request={"vm": "a", "vcpus": 1})  # for which it gets the pidfd of its peer
        self.before = faults.descriptors(self.daemon)

    def request(self, vmm, **kwargs):
        return {"vm": "a", "vcpus": 1, "pid": vmm.pid} | kwargs

    def require_calm(self):
        """It does not try again and again, which would take all of the time."""
        begin, used = time.monotonic(), ticks(self.daemon)
        harness.ready([], 0.5)
        self.assertLessEqual(ticks(self.daemon) - used, 2 + (time.monotonic() - begin) * 50)

    def require_health(self):
        """All is as before, without anybody's doing."""
        self.assertIsNone(self.daemon.process.poll())
        harness.wait_for(self.is_answered, "it answers")
        vmm = self.vmm()
        lease = self.daemon.call("Acquire", request=self.request(vmm))["lease"]
        self.daemon.call("Release", leaseId=lease["leaseId"])
        vmm.kill()
        self.assert_idle(self.daemon)
        faults.wait_for_descriptors(self.daemon, self.before)

    def is_answered(self):
        try:
            return self.daemon.call(DESCRIBE)
        except (Closed, BlockingIOError):
            return None

    def errors(self, n, call):
        """What n calls are answered with."""
        names = set()
        for _ in range(n):
            try:
                call()
                names.add("fine")
            except VarlinkError as error:
                names.add(f"{error.name} {error.parameters.get('errno', '')}")
            except Closed:
                names.add("closed")
        return names

    def test_no_descriptor_to_accept(self):
        """Whoever comes is told at once; whoever is there is served."""
        for error in ("EMFILE", "ENFILE"):
            with self.subTest(error), self.faults.injected(f"accept4::odd:{error}"):
                self.assertEqual(self.errors(3, lambda: self.daemon.call(DESCRIBE)), {"closed"})
                self.inside.call(DESCRIBE)
            self.require_health()

    def test_nothing_to_accept_with(self):
        """Not even to refuse: they wait, and are served when it is over."""
        for error in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"):
            with self.subTest(error):
                with self.faults.injected(f"accept4::*:{error}"):
                    waiting = [self.client(self.daemon) for _ in range(3)]
                    for client in waiting:
                        client.send(DESCRIBE)
                    harness.wait_for(self.faults.fired, "it tries")
                    self.require_calm()
                    self.inside.call(DESCRIBE)
                for client in waiting:
                    client.receive()
                    client.close()
                self.require_health()

    def test_no_room_in_epoll(self):
        """The limit of watches (fs.epoll.max_user_watches): a connection that cannot be watched is closed."""
        with self.faults.injected("epoll_ctl:add:*:ENOSPC"):
            self.assertEqual(self.errors(3, lambda: self.daemon.call(DESCRIBE)), {"closed"})
            vmm = self.vmm()
            self.assertEqual(self.errors(1, lambda: self.inside.call("Acquire", request=self.request(vmm))),
                             {"io.systemd.System 28"})
            self.inside.call(DESCRIBE)
        self.require_health()

    def test_no_pidfd(self):
        vmm = self.vmm()
        for error, number in (("EMFILE", 24), ("ENFILE", 23), ("ENOMEM", 12)):
            with self.faults.injected(f"pidfd_open::*:{error}"):
                self.assertEqual(self.errors(2, lambda: self.inside.call("Acquire", request=self.request(vmm))),
                                 {f"io.systemd.System {number}"})
        self.require_health()

    def test_no_descriptor_at_all(self):
        """Really none: the limit is lowered to what there is."""
        pid, vmm = self.daemon.process.pid, self.vmm()
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self.inside.call(DESCRIBE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, hard[1]))
        self.assertEqual(self.errors(2, lambda: self.inside.call("Acquire", request=self.request(vmm))),
                         {"io.systemd.System 24"})
        self.assertEqual(self.errors(2, lambda: self.inside.call("io.spebroker.Admin.Rescan")),
                         {"io.systemd.System 24"})
        self.inside.call("ListLeases")
        waiting = self.client(self.daemon)
        waiting.send(DESCRIBE)
        self.require_calm()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, hard)
        waiting.receive()
        waiting.close()
        self.require_health()

    def test_no_look_at_the_host(self):
        """It is looked at again until that works, and the journal says so once."""
        with self.faults.injected("openat:bus/event_source/devices:*:EMFILE"):
            self.assertEqual(self.errors(1, lambda: self.inside.call("io.spebroker.Admin.Rescan")),
                             {"io.systemd.System 24"})
            self.daemon.tree.instance(2, "12-15", type=10)
            harness.wait_for(lambda: len(self.faults.fired()) >= 4, "it tries again")
            self.assertEqual(len(self.inside.call("ListInstances")["instances"]), 2)
        harness.wait_for(lambda: len(self.inside.call("ListInstances")["instances"]) == 3, "it sees the new one")
        self.assertEqual(self.daemon.read_log().count("cannot look at the host again"), 1)
        self.require_health()

    def test_no_memory(self):
        """None at all: no call can be answered, and the daemon stands still rather than end or spin."""
        with self.faults.injected("malloc::*:ENOMEM"):
            for _ in range(5):
                with self.assertRaises((Closed, VarlinkError, TimeoutError)):
                    self.daemon.call(DESCRIBE)
            self.require_calm()
        self.require_health()
        self.assertLessEqual(self.daemon.read_log().count("memory"), 5)

    def test_no_memory_for_a_turn(self):
        """The loop's own memory, which it wants in its first turn."""
        broker = self.new_broker()
        injected = faults.Faults(broker)
        injected.set("sendmsg:READY=1:1:stop-after")
        broker.start()
        injected.stopped()
        injected.set("malloc::1-3:ENOMEM")
        broker.process.send_signal(signal.SIGCONT)
        broker.call(DESCRIBE)
        self.assertEqual(len(injected.fired()), 3)
        injected.clear()
        self.assertEqual(broker.read_log().count("out of memory"), 1)

    def test_little_memory(self):
        """Every other allocation fails: what is done is done whole."""
        vmm = self.vmm()
        with self.faults.injected("malloc::odd:ENOMEM"):
            for _ in range(50):
                try:
                    self.daemon.call("Acquire", request=self.request(vmm))
                except (Closed, VarlinkError):
                    continue
        vmm.kill()
        harness.wait_for(lambda: not self.daemon.call("ListLeases")["leases"], "its leases end")
        self.require_health()

    def test_interrupted(self):
        """Every other call of every kind is interrupted, or does half."""
        vmm = self.vmm()
        calls = ("read", "write", "recvmsg", "send", "poll", "epoll_wait", "accept4")
        with self.faults.injected(*(f"{call}::odd:EINTR" for call in calls)):
            lease = self.daemon.call("Acquire", request=self.request(vmm))["lease"]
            self.daemon.call("io.spebroker.Admin.Assign", {"cpus": "5", "owner": "host"})
            self.daemon.call("io.spebroker.Admin.Rescan")
            self.daemon.call("io.spebroker.Admin.Unassign", {"cpus": "5"})
            self.daemon.call("Release", leaseId=lease["leaseId"])
        with self.faults.injected(*(f"{call}::*:short" for call in ("read", "write", "recvmsg", "send"))):
            lease = self.daemon.call("Acquire", request=self.request(vmm))["lease"]
            self.daemon.call("io.spebroker.Admin.Assign", {"cpus": "5", "owner": "host"})
            self.daemon.call("io.spebroker.Admin.Rescan")
            self.assertEqual(self.daemon.instance("arm_spe_1")["state"], "ready")
            self.daemon.call("io.spebroker.Admin.Unassign", {"cpus": "5"})
            self.daemon.call("Release", leaseId=lease["leaseId"])
        with self.faults.injected(*(f"send::{n}:EINTR" for n in range(1, 4))):  # nothing of it has gone, nothing is read
            self.inside.call(DESCRIBE)
        vmm.kill()
        self.require_health()


class NotifyTest(harness.TestCase):
    """Nobody hears what is told to systemd."""

    def test_refused(self):
        for error in ("ECONNREFUSED", "ENOBUFS", "EAGAIN"):
            with self.subTest(error):
                broker = pid1.Service(self.directory(), tree=tree.big_little)
                self.addCleanup(broker.dismiss)
                injected = faults.Faults(broker)
                broker.start()
                with injected.injected(f"sendmsg:=1:*:{error}"):
                    vmm, client = self.vmm(broker)
                    lease = client.call("Acquire", request={"vm": "a", "vcpus": 1})["lease"]
                    self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
                    client.call("Release", leaseId=lease["leaseId"])
                self.assert_idle(broker)
                lease = client.call("Acquire", request={"vm": "a", "vcpus": 1})["lease"]
                vmm.kill()
                harness.wait_for(lambda: broker.lease(lease["leaseId"]) is None, "it ends")
                self.assert_idle(broker)

    def test_ready(self):
        """systemd waits for it, so that is told until it gets through."""
        for rule in ("sendmsg:READY=1:1-3:ENOBUFS", "sendmsg:READY=1:1-3:EAGAIN"):
            with self.subTest(rule):
                broker = pid1.Service(self.directory(), tree=tree.big_little)
                self.addCleanup(broker.dismiss)
                injected = faults.Faults(broker)
                with injected.injected(rule):
                    broker.start()
                self.assertEqual(len(injected.fired()), 3)
                self.assertEqual([m["STATUS"] for m in broker.messages if "READY" in m],
                                 ["brokering 2 SPUs, host sessions: none"])
                self.assertEqual(broker.read_log().count("cannot tell systemd that all is ready: "), 1)

    def test_reloaded(self):
        """No descriptor for it: the first socket is for saying that it reloads."""
        broker = pid1.Service(self.directory(), tree=tree.big_little)
        self.addCleanup(broker.dismiss)
        injected = faults.Faults(broker)
        broker.start()
        broker.messages.clear()
        with injected.injected("socket::2-4:EMFILE"):
            broker.process.send_signal(signal.SIGHUP)
            broker.wait_notify("RELOADING=1")
            broker.wait_notify("READY=1")
            self.assertEqual(len(injected.fired()), 3)
        self.assertIn("cannot tell systemd that all is ready: Too many open files; it is told later", broker.read_log())


if __name__ == "__main__":
    harness.main()
