# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon as a service: its command line, its socket file, systemd's protocol, and running out of
descriptors."""

import fcntl
import os
import re
import resource
import signal
import socket
import subprocess
import time

import harness
import pid1
import tree
from wire import ADMIN, Closed, Late


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": 4096} | kwargs


class TestCommandLine(harness.TestCase):
    def run_daemon(self, *arguments):
        return subprocess.run(
            [harness.PROGRAM, *arguments], capture_output=True, text=True, timeout=harness.DEADLINE
        )

    def test_help(self):
        done = self.run_daemon("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--config", "--root", "--socket", "--simulate", "neoverse-v1", "biglittle", "partial"):
            self.assertIn(word, done.stdout)

    def test_version(self):
        done = self.run_daemon("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^spe-broker \d+\.\d+")

    def test_usage(self):
        for arguments in (
            ["--nope"],
            ["--root"],
            ["word"],
            ["--root", "/", "word"],
            ["--simulate", "nowhere"],
        ):
            with self.subTest(arguments):
                done = self.run_daemon(*arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn("--help", done.stderr)

    def test_no_such_root(self):
        done = self.run_daemon("--root", "/nonexistent/here")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/here", done.stderr)


class TestSocketFile(harness.TestCase):
    def test_second_daemon(self):
        """It does not take the place of one that runs."""
        first = self.broker()
        second = harness.Broker(first.root, tree=None)
        (first.root / "notify").rename(first.root / "notify.first")
        second.spawn()
        self.assertNotEqual(second.reap(harness.DEADLINE), 0)
        self.assertTrue(second.log)
        first.call("Describe")

    def test_not_a_socket(self):
        """What is no socket is somebody's file: it is left alone."""
        broker = self.new_broker()
        precious = broker.root / "precious"
        precious.write_text("data")
        broker.arguments += ["--socket", str(precious)]
        broker.spawn()
        self.assertNotEqual(broker.reap(harness.DEADLINE), 0)
        self.assertIn("precious", broker.log)
        self.assertEqual(precious.read_text(), "data")

    def test_long_path(self):
        """Longer than a socket's address can be."""
        broker = self.new_broker()
        directory = broker.root / ("d" * 100) / ("e" * 100)
        directory.mkdir(parents=True)
        broker.arguments += ["--socket", str(directory / "socket")]
        broker.start()
        here = os.open(directory, os.O_RDONLY)
        self.addCleanup(os.close, here)
        broker.socket_path = f"/proc/self/fd/{here}/socket"
        broker.call("Describe")


class TestNotify(harness.TestCase):
    def test_stop(self):
        """With leases, streams and waiters open it ends at once, cleanly, and says so."""
        broker = self.broker()
        client = self.client(broker)
        client.call("Acquire", request=request(cpus="0", mode="exclusive"))
        streams = [
            self.client(broker).stream("Acquire", request=request(cpus="0"), waitUSec=10**9),
            self.client(broker).stream("Acquire", request=request(cpus="1")),
            self.client(broker).stream("Watch"),
        ]
        for stream in streams:
            stream.next()
        broker.process.send_signal(signal.SIGTERM)
        broker.wait_notify("STOPPING=1")
        broker.stop()
        for stream in streams:
            with self.assertRaises((Closed, harness.VarlinkError)):
                while True:
                    stream.next()

    def test_interrupt(self):
        broker = self.broker()
        broker.process.send_signal(signal.SIGINT)
        self.assertEqual(broker.reap(harness.DEADLINE), 0)

    def test_watchdog(self):
        """It says that it is alive as often as systemd wants to hear it."""
        broker = self.broker(env={"WATCHDOG_USEC": "200000"})
        for _ in range(3):
            broker.wait_notify("WATCHDOG=1")

    def test_watchdog_of_one_that_hangs(self):
        """Stuck in a handler, as nobody reads its log any more, it does not say that it is alive; then it does."""
        broker = self.new_broker(env={"WATCHDOG_USEC": "200000"})
        path = broker.root / "log"
        os.mkfifo(path)
        log = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self.addCleanup(os.close, log)
        size = fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)
        broker.wrapper = ["/bin/sh", "-c", 'exec "$@" 2>"$0"', str(path)]
        broker.start()
        broker.configure("[Nonsense\n")
        client = self.client(broker)
        for _ in range(size // 32):
            client.send(ADMIN + "Reload")
            try:
                client.receive(timeout=6)
            except harness.VarlinkError:
                continue
            except Late:
                break
        else:
            self.fail("it wrote all that")
        while harness.ready([broker.notify.fileno()], 0):
            broker.notify.recv(4096)
        self.assertEqual(harness.ready([broker.notify.fileno()], 1), [], "it says that all is well")
        while broker.process.poll() is None and harness.ready([log], 0.1):
            os.read(log, 65536)
        broker.wait_notify("WATCHDOG=1")
        client.close()
        broker.call("Describe")

    def test_without_systemd(self):
        broker = self.new_broker(env={"NOTIFY_SOCKET": ""}).spawn()
        harness.wait_for(broker.socket_path.exists, "its socket")
        harness.wait_for(lambda: self.answers(broker), "an answer")

    @staticmethod
    def answers(broker):
        try:
            return broker.call("Describe")
        except ConnectionRefusedError:
            return None

    def test_bad_activation(self):
        """What systemd hands over is no listening socket: it listens where it does without systemd."""
        broker = self.new_broker()
        broker.listener, other = socket.socketpair()
        self.addCleanup(other.close)
        self.addCleanup(broker.listener.close)
        broker.start()
        self.assertIn("file descriptor 'varlink' from systemd", broker.read_log())
        broker.call("Describe")

    def test_restart(self):
        """Stop and start again in one place: nothing is in the way."""
        broker = self.broker()
        for _ in range(3):
            broker.call("Acquire", request=request())
            broker.restart()
            broker.call("Describe")


class TestDescriptors(harness.TestCase):
    """Limits that take more descriptors than there are: it says so, and what to set."""

    CONFIG = "[Limits]\nMaxConnections={}\nMaxLeases={}\n"
    NEEDED = re.compile(r"set LimitNOFILE=(\d+) in section \[Service\] of a drop-in")
    STORED = re.compile(r"set FileDescriptorStoreMax=(\d+) in section \[Service\] of a drop-in")

    def start(self, connections, leases, limit, **kwargs):
        broker = self.new_broker(config=self.CONFIG.format(connections, leases), **kwargs)
        broker.wrapper = ["prlimit", f"--nofile={limit}"]
        return broker.start()

    def test_fit_or_not(self):
        """What it asks for is enough, and one less is not."""
        log = self.start(100, 50, "200:200").read_log()
        self.assertIn("MaxConnections=100 and MaxLeases=50 can take", log)
        self.assertIn("this process may have 200", log)
        needed = int(self.NEEDED.search(log).group(1))
        self.assertGreater(needed, 3 * 100 + 50)
        self.assertNotRegex(self.start(100, 50, f"{needed}:{needed}").read_log(), self.NEEDED)
        self.assertRegex(self.start(100, 50, f"{needed - 1}:{needed - 1}").read_log(), self.NEEDED)

    def test_hard_limit_counts(self):
        """It takes what it may have."""
        broker = self.start(100, 50, "100:2000")
        self.assertNotRegex(broker.read_log(), self.NEEDED)
        self.assertEqual(resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE), (2000, 2000))

    def test_reload(self):
        broker = self.start(100, 50, "2000:2000")
        broker.configure(self.CONFIG.format(1000, 50))
        broker.hangup()
        self.assertIn("MaxConnections=1000 and MaxLeases=50 can take", broker.read_log())

    def store(self, size, told=True):
        directory = self.directory()
        service = pid1.Service(directory, size=size, told=told, tree=tree.big_little,
                               config=self.CONFIG.format(100, 50))
        self.addCleanup(service.dismiss)
        return service.start().read_log()

    def test_store(self):
        log = self.store(64)
        self.assertIn("MaxLeases=50 can have systemd keep", log)
        needed = int(self.STORED.search(log).group(1))
        self.assertNotRegex(self.store(needed), self.STORED)
        self.assertRegex(self.store(needed - 1), self.STORED)
        self.assertNotRegex(self.store(64, told=False), self.STORED, "before systemd 254 it is not known")
        self.assertNotRegex(self.store(0), self.STORED, "there is no store: nothing is to be kept")


class TestExhaustion(harness.TestCase):
    def test_descriptors(self):
        """More connections than descriptors: those that are in are served, the loop does not spin, and when
        there is room again others come in."""
        broker = self.new_broker()
        broker.wrapper = ["prlimit", "--nofile=40:40"]
        broker.start()
        clients = [self.client(broker) for _ in range(60)]
        served, deadline = [], time.monotonic() + 1
        for client in clients:
            try:
                client.send("ListLeases")
                client.receive(harness.DEADLINE if len(served) <= 10 else max(deadline - time.monotonic(), 0.01))
                served.append(client)
            except (Late, Closed):
                pass
        self.assertGreater(len(served), 10)
        before = self.cpu_ticks(broker)
        harness.ready([], 0.5)
        self.assertLess(self.cpu_ticks(broker) - before, 20, "it spins")
        for client in served:
            client.call("Describe")
        for client in clients:
            client.close()
        harness.wait_for(lambda: self.works(broker), "there is room again")

    @staticmethod
    def cpu_ticks(broker):
        with open(f"/proc/{broker.process.pid}/stat") as stat:
            return sum(int(ticks) for ticks in stat.read().rpartition(")")[2].split()[11:13])

    @staticmethod
    def works(broker):
        try:
            return broker.call("Describe")
        except (Closed, Late):
            return None

    def test_owners(self):
        """Each owner costs a descriptor; without one, Acquire is answered with an error, and nothing is left
        over."""
        broker = self.new_broker(tree=tree.big_little)
        broker.wrapper = ["prlimit", "--nofile=40:40"]
        broker.start()
        client = self.client(broker)
        processes = [self.vmm() for _ in range(60)]
        granted = 0
        for process in processes:
            client.send("Acquire", {"request": request(pid=process.pid)})
            message = client.receive_message()
            client.expected.clear()
            granted += "error" not in message
        self.assertGreater(granted, 5)
        self.assertLess(granted, 40)
        self.assertEqual(len(client.call("ListLeases")["leases"]), granted)
        for process in processes:
            process.kill()
        harness.wait_for(lambda: not client.call("ListLeases")["leases"], "all have ended")
        self.assert_idle(broker)


if __name__ == "__main__":
    harness.main()
