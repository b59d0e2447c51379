# SPDX-License-Identifier: LGPL-2.1-or-later
"""That faults can be injected at all: each kind of rule of fault-shim.c, seen to fire where it is said to."""

import faults
import harness
import pid1
import tree
from wire import Closed, VarlinkError

STATE = "spe-broker/assignments.json"


class ShimTest(harness.TestCase):
    def faulty(self, **kwargs):
        broker = self.new_broker(**kwargs)
        return broker, faults.Faults(broker)

    def assign(self, broker, owner="host"):
        return broker.call("io.spebroker.Admin.Assign", {"cpus": "0", "owner": owner, "runtime": True})

    def test_nothing_without_rules(self):
        broker, injected = self.faulty()
        broker.start()
        self.assign(broker)
        self.assertEqual(injected.fired(), [])
        injected.set("renameat:no such file:*:EIO")
        self.assign(broker)
        with self.assertRaisesRegex(AssertionError, "never fired"):
            injected.require()

    def test_errno(self):
        """It fails, and with nothing done; the twin is done."""
        broker, injected = self.faulty()
        broker.start()
        with injected.injected(f"renameat:{STATE}:1:EDQUOT"):
            with self.assertRaises(VarlinkError) as caught:
                self.assign(broker)
        self.assertEqual(caught.exception.parameters["errno"], 122)
        self.assertEqual([(f.rule, f.call) for f in injected.fired()], [(0, "renameat")])
        self.assertIn(STATE, injected.fired()[0].subject)
        self.assertFalse((broker.root / "run" / STATE).exists())
        self.assign(broker)
        self.assertTrue((broker.root / "run" / STATE).exists())

    def test_which(self):
        """The second one; from the second on; every other."""
        broker, injected = self.faulty()
        broker.start()
        for which, expected in (("2", "yny"), ("2+", "ynn"), ("odd", "nyn"), ("*", "nnn"), ("1-2", "nny")):
            with injected.injected(f"renameat:{STATE}:{which}:EIO"):
                answers = ""
                for _ in range(3):
                    try:
                        self.assign(broker)
                        answers += "y"
                    except VarlinkError:
                        answers += "n"
            self.assertEqual(answers, expected, which)

    def test_kill(self):
        for action, there in (("kill-before", False), ("kill-after", True)):
            broker, injected = self.faulty()
            broker.start()
            injected.set(f"renameat:{STATE}:1:{action}")
            with self.assertRaises(Closed):
                self.assign(broker)
            self.assertEqual(injected.killed().call, "renameat")
            self.assertEqual((broker.root / "run" / STATE).exists(), there, action)

    def test_torn(self):
        broker, injected = self.faulty()
        broker.start()
        injected.set("write:spe-broker/.assignments.json:1:torn")
        with self.assertRaises(Closed):
            self.assign(broker)
        injected.killed()
        [left] = (broker.root / "run/spe-broker").glob(".assignments.json.*")
        text = left.read_text()
        self.assertTrue(text.startswith('{"version"') and not text.endswith("}\n"), text)

    def test_stop(self):
        """What is there between two steps can be looked at."""
        for action, there in (("stop-before", False), ("stop-after", True)):
            broker, injected = self.faulty()
            broker.start()
            injected.set(f"renameat:{STATE}:1:{action}")
            with broker.connect() as client:
                client.send("io.spebroker.Admin.Assign", {"cpus": "0", "owner": "host", "runtime": True})
                injected.stopped()
                self.assertEqual((broker.root / "run" / STATE).exists(), there, action)
                injected.proceed()
                self.assertNotIn("error", client.receive())
            self.assertTrue((broker.root / "run" / STATE).exists())

    def test_start(self):
        """From the first call on, and in the daemon alone, whatever starts it."""
        broker, injected = self.faulty()
        injected.set("accept4::1:kill-before", "*::1+:pass")
        broker.start()
        first = injected.fired()[0]
        self.assertEqual(first.rule, 1)
        with self.assertRaises(Closed):
            broker.call("Describe")
        self.assertEqual(injected.killed().call, "accept4")

    def test_notify(self):
        """Notifications, libsystemd's own calls, are known by their text; and the store's, by what is stored."""
        broker = pid1.Service(self.directory(), tree=tree.big_little)
        self.addCleanup(broker.dismiss)
        injected = faults.Faults(broker)
        injected.set("sendmsg:READY=1:1:ENOBUFS", "epoll_wait::odd:EINTR")
        broker.start()  # which is over when READY=1 is said: the second time
        broker.call("Describe")
        injected.require()

    def test_calls(self):
        """Each call that a rule can name, and that the daemon makes, is seen."""
        broker, injected = self.faulty()
        injected.set("*::*:pass")
        broker.start()
        broker.call("io.spebroker.Admin.Assign", {"cpus": "0", "owner": "host", "forUSec": 60000000})
        broker.call("Acquire", request={"vm": "a", "vcpus": 1, "pid": self.vmm().pid})
        broker.stop()
        seen = {fired.call for fired in injected.fired()}
        self.assertLessEqual(
            {"openat", "read", "write", "close", "fsync", "fchmod", "renameat", "unlinkat", "mkdirat", "readdir",
             "getrandom", "socket", "bind", "listen", "accept4", "recvmsg", "send", "sendmsg", "getsockopt",
             "epoll_ctl", "epoll_wait", "poll", "timerfd_settime", "fcntl", "pidfd_open"}, seen)

    def test_memory(self):
        """An allocation among those of a connection."""
        broker, injected = self.faulty()
        broker.start()
        with injected.injected("malloc::2:ENOMEM"):
            with self.assertRaises(Closed):
                broker.call("Describe")
        broker.call("Describe")


if __name__ == "__main__":
    harness.main()
