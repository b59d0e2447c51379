# SPDX-License-Identifier: LGPL-2.1-or-later
"""The broker follows the host: uevents make it look again, whoever else sends something does not; nothing that it finds
half done stays unnoticed, and nobody who floods it keeps it from its work."""

import errno
import fcntl
import math
import os
import platform
import resource
import shutil
import signal
import sys
import threading
import time

import faults
import harness
import tree
import uevents

RESCAN_INTERVAL = 0.01  # at most one rescan in so many seconds
LOOK = 0.05  # seconds: several times the interval
CALLS = 100
BATCH = 10
BURST = 100  # the socket holds them, also where net.core.rmem_max is small
KVM_CREATE_VM = 0xAE01


# A classic BPF program for seccomp(): socket() of AF_NETLINK is refused, everything else allowed.
NO_NETLINK = """
import ctypes, os, socket, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 3, {nr}), (0x20, 0, 0, 16), (0x15, 0, 1, 16), (0x06, 0, 0, 0x50000 | {errno}),
        (0x06, 0, 0, 0x7fff0000)]
filters = b"".join(struct.pack("=HBBI", *c) for c in code)
buffer = ctypes.create_string_buffer(filters, len(filters))
program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""
SOCKET_CALLS = {"x86_64": 41, "aarch64": 198}


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1} | kwargs


class TestCase(harness.TestCase):
    def setUp(self):
        self.forger = uevents.Forger()
        self.addCleanup(self.forger.close)

    def watch(self, broker):
        stream = self.client(broker).stream("Watch")
        stream.next()
        return stream

    def told(self, stream, name, **facts):
        """Waits until the stream tells that the instance is as described."""
        return stream.until(
            lambda reply: (instance := reply["event"].get("instance"))
            and instance["name"] == name
            and all(instance.get(key) == value for key, value in facts.items())
        )

    def counted(self, broker, name, least):
        """Waits until the counter is at least that; all counters then."""
        found = {}

        def enough():
            found.update(broker.counters())
            return found[name] >= least

        harness.wait_for(enough, f"{name} >= {least}")
        return found

    def no_rescan(self, broker, action):
        """Requires that the action makes nobody look at the host. Other tests have the kernel send uevents at any time,
        so it has several tries; what does lead to a rescan, does so in each of them."""
        deadline, n = time.monotonic() + harness.DEADLINE, 0
        while time.monotonic() < deadline:
            before = broker.counters()
            action()
            after = broker.counters()
            if after["rescans"] == before["rescans"]:
                return before, after
            n += 1
        self.fail(f"each of {n} times it led to a rescan")

    def repeat(self, action, seconds=10 * RESCAN_INTERVAL):
        """Does it again and again for some time, in which a rescan would have come."""
        n, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            action()
            n += 1
        return n


class TestFollow(TestCase):
    """What changes is told without Rescan."""

    def test_cpus(self):
        broker = self.broker()
        stream = self.watch(broker)
        for action, online, expected in (
            ("offline", "0-3,8-11", "8-11"),
            ("online", "0-11", "4-11"),
            ("remove", "0-7", "4-7"),
            ("add", "0-11", "4-11"),
        ):
            with self.subTest(action):
                broker.tree.online(online)
                uevents.trigger(action=action)
                self.told(stream, "arm_spe_1", onlineCpus=expected)

    def test_instances(self):
        """Gone, back, and with each other's types. The uevent is another device's: it is only a hint."""
        broker = self.broker()
        stream = self.watch(broker)
        broker.tree.remove_instance(1)
        uevents.trigger()
        self.told(stream, "arm_spe_1", state="gone")
        broker.tree.instance(1, "4-11", type=8).instance(0, "0-3", type=9)
        uevents.trigger()
        self.told(stream, "arm_spe_0", pmuType=9, state="ready")
        self.assertEqual((broker.instance("arm_spe_1")["state"], broker.instance("arm_spe_1")["pmuType"]), ("ready", 8))

    def test_lease(self):
        """A waiter gets what a new instance has room for."""
        broker = self.broker(tree=lambda root: tree.Tree(root, "0-11").instance(0, "0-3", type=8))
        holder = self.client(broker)
        holder.call("Acquire", request=request(cpus="0-3", mode="exclusive"))
        waiter = self.client(broker).stream("Acquire", request=request(mode="exclusive"), waitUSec=10**9)
        waiter.next()
        broker.tree.instance(1, "4-11", type=9)
        uevents.trigger()
        self.assertEqual(waiter.change("granted")["lease"]["instance"], "arm_spe_1")

    def test_simulated(self):
        broker = self.broker(simulate="biglittle")
        stream = self.watch(broker)
        online = broker.root / "run/spe-broker/simulated/sys/devices/system/cpu/online"
        online.write_text("0-9\n")
        uevents.trigger()
        self.told(stream, "arm_spe_1", onlineCpus="4-9")

    def test_kvm(self):
        """The device of KVM is a reason to look; a VM that is created and destroyed is none."""
        if not uevents.KVM.exists():
            self.skipTest("no KVM here")
        broker = self.broker()
        before = broker.counters()
        uevents.trigger(uevents.KVM, "change")
        self.counted(broker, "uevents", before["uevents"] + 1)
        self.counted(broker, "rescans", before["rescans"] + 1)
        try:
            kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            self.skipTest(f"/dev/kvm: {error.strerror}")
        self.addCleanup(os.close, kvm)

        def vm():
            os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))

        def vms():
            seen = broker.counters()["uevents-of-vms"]
            self.counted(broker, "uevents-of-vms", seen + 2 * self.repeat(vm))

        self.no_rescan(broker, vms)

    def test_silent_completion_in_two_steps(self):
        """What a uevent has found half done is looked at again, too."""
        broker = self.broker()
        stream = self.watch(broker)
        broker.tree.instance(1, "4-11", type=None)
        uevents.trigger()
        self.told(stream, "arm_spe_1", state="partial")
        broker.tree.instance(1, None, type=9)
        broker.tree.write(broker.tree.path(1, "cpumask"), "4-11")
        self.told(stream, "arm_spe_1", state="ready", cpus="4-11")

    def test_subscribes_first(self):
        """Else what changes between the first look and the subscription would go unnoticed."""
        if not shutil.which("strace"):
            self.skipTest("no strace")
        broker = self.new_broker(env={"ASAN_OPTIONS": "detect_leaks=0"})
        trace = broker.root / "trace"
        broker.wrapper = ["strace", "-D", "-o", str(trace), "-e", "trace=setsockopt,openat,exit_group"]
        broker.start()
        broker.stop()
        text = harness.wait_for(lambda: "exit_group" in (text := trace.read_text()) and text, "the trace")
        self.assertLess(text.index("NETLINK_ADD_MEMBERSHIP"), text.index("sys/bus/event_source/devices"))

    def test_failing_scan(self):
        """The daemon has no descriptors left: what it knew stays, and it tries again by itself."""
        broker = self.broker()
        stream = self.watch(broker)
        client = self.client(broker)
        client.call("ListInstances")
        fds = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
        limits = resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (fds, limits[1]))
        broker.tree.remove_instance(1)
        uevents.trigger()
        harness.wait_for(lambda: "cannot look at the host" in broker.read_log(), "a warning")
        names = [i["name"] for i in client.call("ListInstances")["instances"] if i["state"] == "ready"]
        self.assertEqual(names, ["arm_spe_0", "arm_spe_1"])
        resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, limits)
        self.told(stream, "arm_spe_1", state="gone")


class TestFloods(TestCase):
    def test_burst(self):
        """Many uevents at once are one rescan, or as many as the time that they take allows for."""
        broker = self.broker()
        before = broker.counters()
        broker.process.send_signal(signal.SIGSTOP)
        for _ in range(BURST):
            uevents.trigger()
        begin = time.monotonic()
        broker.process.send_signal(signal.SIGCONT)
        after = self.counted(broker, "uevents", before["uevents"] + BURST)
        rescans = after["rescans"] - before["rescans"]
        self.assertLessEqual(rescans, 2 + (time.monotonic() - begin) / RESCAN_INTERVAL)
        self.assertLess(rescans, BURST / 2)
        self.counted(broker, "rescans", before["rescans"] + 1)

    def flood(self, path, action):
        """Has the kernel send uevents without end, until the returned function is called."""
        done = threading.Event()

        def run():
            while not done.is_set():
                uevents.trigger(path, action)

        thread = threading.Thread(target=run)
        thread.start()

        def stop():
            done.set()
            thread.join()

        self.addCleanup(stop)
        return stop

    def test_endless(self):
        """An endless stream holds up neither calls nor the following, and costs rescans at a bounded rate."""
        broker = self.broker()
        stream = self.watch(broker)
        client = self.client(broker)
        begin, before = time.monotonic(), broker.counters()["rescans"]
        stop = self.flood(uevents.CPU, "online")
        for _ in range(CALLS):
            client.call("ListInstances")
        broker.tree.online("0-7")
        self.told(stream, "arm_spe_1", onlineCpus="4-7")
        rescans = self.counted(broker, "rescans", before + 6)["rescans"] - before
        elapsed = time.monotonic() - begin
        stop()
        self.assertLessEqual(rescans, 2 + elapsed / RESCAN_INTERVAL)

    def test_endless_slow_looks(self):
        """However long a look takes, nine times as long is for others. The daemon is stopped in each of them."""
        broker = self.new_broker()
        injected = faults.Faults(broker)
        broker.start()
        rule = "openat:sys/devices/system/cpu/online:1:stop-after"
        injected.set(rule)
        self.addCleanup(injected.proceed)
        self.flood(uevents.CPU, "online")
        injected.stopped()
        for _ in range(3):
            begin = time.monotonic()
            time.sleep(LOOK)  # is what takes long
            injected.set(rule)
            end = time.monotonic()
            broker.process.send_signal(signal.SIGCONT)
            injected.stopped()
            self.assertGreaterEqual(time.monotonic() - end, 9 * (end - begin))

    def test_irrelevant(self):
        """Other devices' uevents, however many, are no reason to look."""
        broker = self.broker()

        def batch():
            for _ in range(BATCH):
                uevents.trigger(uevents.IRRELEVANT, "change")
            broker.counters()  # it has had its turn: the socket does not fill up

        self.no_rescan(broker, lambda: self.repeat(batch))

    def overflow(self, broker, send):
        """The daemon is stopped while its socket's buffer overflows, and while the host changes."""
        stream = self.watch(broker)
        before = broker.counters()
        broker.process.send_signal(signal.SIGSTOP)
        send()
        broker.tree.online("0-7")
        uevents.trigger()
        broker.process.send_signal(signal.SIGCONT)
        self.told(stream, "arm_spe_1", onlineCpus="4-7")
        after = self.counted(broker, "uevent-losses", before["uevent-losses"] + 1)
        self.assertGreater(after["rescans"], before["rescans"])
        return before, after

    def test_overflow(self):
        """The kernel's own uevents, which are none of the broker's business: but what was lost, nobody knows."""
        def send():
            for _ in range(20000):
                uevents.trigger(uevents.IRRELEVANT, "change")

        self.overflow(self.broker(), send)

    def test_overflow_by_others(self):
        """Even root cannot hide a change behind messages of its own."""
        n = 2000

        def send():
            for _ in range(n):
                self.forger.multicast(uevents.FORGED + b"X" * 7000)

        before, after = self.overflow(self.broker(), send)
        spoofed = after["uevents-spoofed"] - before["uevents-spoofed"]
        self.assertTrue(0 < spoofed < n, spoofed)


class TestSpoofed(TestCase):
    """Whatever is not the kernel's is dropped, counted, and leads to nothing."""

    def spoof(self, send):
        broker = self.broker()
        port = uevents.port_of(broker.process.pid)

        def batch():
            """No more than the socket holds, however slow the broker is: none of them is lost."""
            seen = broker.counters()["uevents-spoofed"]
            for _ in range(BATCH):
                send(port)
            after = self.counted(broker, "uevents-spoofed", seen + BATCH)
            self.assertEqual(after["uevents-spoofed"], seen + BATCH)

        before, after = self.no_rescan(broker, lambda: self.repeat(batch))
        self.assertEqual(after["uevent-losses"], before["uevent-losses"])
        broker.tree.online("0-7")
        uevents.trigger()  # the kernel's word is believed all the same
        harness.wait_for(lambda: broker.instance("arm_spe_1")["onlineCpus"] == "4-7", "a rescan")

    def test_unicast(self):
        self.spoof(self.forger.unicast)

    def test_multicast(self):
        self.spoof(lambda port: self.forger.multicast())

    def test_injected(self):
        """What root of the network namespace has the kernel pass on."""
        self.spoof(lambda port: self.forger.inject())

    def test_oversized(self):
        self.spoof(lambda port: self.forger.unicast(port, uevents.FORGED + b"x" * 100000))
        self.spoof(lambda port: self.forger.multicast(uevents.FORGED + b"x" * 10000))

    def test_rubbish(self):
        for message in (b"\0", b"x", b"libudev\0\xfe\xed\xca\xfe", uevents.FORGED[:-1], uevents.FORGED[:40]):
            with self.subTest(message):
                self.spoof(lambda port, message=message: self.forger.unicast(port, message))

    def test_unprivileged(self):
        """Others cannot even send."""
        broker = self.broker()
        port = uevents.port_of(broker.process.pid)
        pid = os.fork()
        if pid == 0:
            os.setresuid(harness.NOBODY, harness.NOBODY, harness.NOBODY)
            forger, refused = uevents.Forger(), 0
            for send in (lambda: forger.unicast(port), forger.multicast):
                try:
                    send()
                except PermissionError:
                    refused += 1
            os._exit(refused)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 2)
        self.assertEqual(broker.counters()["uevents-spoofed"], 0)


class TestWithout(TestCase):
    """No uevents: neither those of other tests."""

    def deaf(self, **kwargs):
        """A daemon that may have no netlink sockets."""
        nr = SOCKET_CALLS.get(platform.machine())
        if nr is None:
            self.skipTest("the number of socket() is not known here")
        broker = self.new_broker(**kwargs)
        broker.wrapper = [sys.executable, "-c", NO_NETLINK.format(nr=nr, errno=errno.EAFNOSUPPORT)]
        return broker.start()

    def test_no_socket(self):
        """The broker does what it can, and says what it cannot."""
        broker = self.deaf()
        self.assertIn("no uevents", broker.read_log())
        self.assertIn("speadm rescan", broker.log)
        self.assertEqual(broker.log.count("no uevents"), 1)
        broker.tree.remove_instance(1)
        broker.call("Rescan")
        self.assertIsNone(broker.instance("arm_spe_1"))
        self.assertEqual(broker.counters()["uevents"], 0)

    def test_silent_completion(self):
        """A driver completes its instance without a uevent."""
        broker = self.deaf(tree=lambda root: tree.big_little(root).instance(1, "4-11", type=None))
        stream = self.watch(broker)
        self.assertEqual(broker.instance("arm_spe_1")["state"], "partial")
        broker.tree.write(broker.tree.path(1, "type"), 9)
        self.told(stream, "arm_spe_1", state="ready", pmuType=9)

    def test_settled(self):
        """A host without anything half done is left alone."""
        broker = self.deaf()
        self.repeat(broker.counters, seconds=0.5)
        self.assertEqual(broker.counters()["rescans"], 1)

    def test_stays_partial(self):
        """One that nobody completes is looked at less and less: in its first second about five times, not twenty."""
        broker = self.deaf(tree=lambda root: tree.big_little(root).instance(1, "4-11", type=None))
        begin = time.monotonic()
        self.counted(broker, "rescans", 4)
        self.repeat(broker.counters, seconds=1 - (time.monotonic() - begin))
        self.assertLessEqual(broker.counters()["rescans"], 2 + math.log2(1 + (time.monotonic() - begin) / 0.05))

    def test_nothing_to_say(self):
        """Where they can be had, not a word about them."""
        broker = self.broker()
        broker.stop()
        self.assertNotIn("uevent", broker.log)
        self.assertNotIn("look at the host", broker.log)


if __name__ == "__main__":
    if os.geteuid() == 0:
        uevents.enter_private_network()
        if not os.access(uevents.CPU, os.W_OK):
            print(f"{uevents.CPU} cannot be written")
            sys.exit(77)
    harness.main(needs_uevents=True)
