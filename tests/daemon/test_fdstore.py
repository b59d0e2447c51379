# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd kept of an earlier daemon: sorted, taken over, or dropped. The daemons here are services of a scripted
systemd (pid1.py)."""

import os
import pathlib
import socket
import sys

import harness
import pid1
import tree

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "vm/guest"))
import perf  # noqa: E402 (found through the line above)

TOO_MANY = 4200  # more than are looked at
DUMMY = 9  # PERF_COUNT_SW_DUMMY: of a PMU that every machine has
CLOCKS_APART_USEC = 10_000  # less than a new daemon takes
OBSERVE = "[Arbitration]\nLevel=observe\n"


class TestCase(harness.TestCase):
    def service(self, **kwargs):
        kwargs.setdefault("tree", tree.big_little)
        service = pid1.Service(self.directory(), **kwargs)
        self.brokers.append(service)
        self.addCleanup(service.dismiss)
        return service

    def garbage(self):
        """Something open, and whether it is so."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        return reader, writer

    def assert_hung_up(self, reader, what):
        """Nobody has the other end any more."""
        self.assertTrue(harness.ready([reader], harness.DEADLINE), what)
        self.assertEqual(os.read(reader, 1), b"", what)


class TestHandedOver(TestCase):
    def test_unknown(self):
        """What no module here knows is closed, and not kept any longer; one line says so."""
        service, readers = self.service(), []
        for name in ("stray", "stored", "arbiter-0000000000000000-links", "stray"):
            reader, writer = self.garbage()
            readers.append(reader)
            service.put(name, writer)
        service.start()
        service.until(lambda: not service.store, "all removed")
        for reader in readers:
            self.assert_hung_up(reader, "closed by the broker and by systemd")
        log = service.read_log()
        self.assertEqual(log.count("file descriptor '"), 1, log)
        self.assertIn("file descriptor 'stray' from systemd", log)
        self.assertIn("and so are 3 others", log)
        service.call("Describe")

    def test_garbage_of_known_names(self):
        """A name is no proof."""
        service, readers = self.service(config="[Arbitration]\nLevel=reserve\n"), []
        for name in ("reserve-8-0", "reserve-8-1", "reserve-8-1", "reserve-99999999999-1", "reserve-8-4096"):
            reader, writer = self.garbage()
            readers.append(reader)
            service.put(name, writer)
        service.start()
        for reader in readers:
            self.assert_hung_up(reader, "closed by the broker and by systemd")
        self.assertEqual([name for name in service.names() if name.startswith("reserve-")], [])

    def test_socket_among_them(self):
        """Sockets that listen are told from what was kept by what they are, wherever they stand."""
        service = self.service()
        service.socket_path = service.root / "socket"
        service.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(service.listener.close)
        service.listener.bind(str(service.socket_path))
        service.listener.listen()
        for name in ("first", "varlink"):
            service.put(name, self.garbage()[1])
        service.start()
        service.until(lambda: not service.store, "all removed")
        self.assertFalse((service.root / "run/spe-broker/io.spebroker.Broker").exists())
        service.call("Describe")

    def test_too_many(self):
        service = self.service()
        reader, writer = self.garbage()
        for i in range(TOO_MANY):
            service.put(f"stray-{i}", os.dup(writer))
        os.close(writer)
        service.start()
        service.until(lambda: not service.store, "all removed")
        self.assert_hung_up(reader, "closed by the broker and by systemd")
        self.assertLess(len(os.listdir(f"/proc/{service.process.pid}/fd")), 64)
        self.assertLess(len(service.read_log().splitlines()), 20)
        service.call("Describe")

    def test_names_missing(self):
        """A systemd that gives no names."""
        service = self.service(env={"LISTEN_FDNAMES": ""})
        reader, writer = self.garbage()
        service.put("stray", writer)
        service.start()
        self.assertIn("file descriptor '", service.read_log())
        service.call("Describe")


class TestKept(TestCase):
    """What this machine's kernel can: programs that see sessions, and refuse none."""

    def setUp(self):
        self.service = self.observer()
        self.service.start()
        host = self.service.call("Describe")["host"]
        if host["level"] != "observe":
            self.skipTest(host["levelReason"])
        self.names = self.service.names()
        self.assertNotEqual(self.names, [])
        self.assertFalse(host["levelKept"], "nothing is kept off")

    def observer(self, **kwargs):
        return self.service_of(tree=tree.software, config=OBSERVE, **kwargs)

    service_of = TestCase.service

    def event(self, cpu):
        fd = perf.event(tree.PERF_TYPE_SOFTWARE, cpu=cpu, config=DUMMY)
        self.addCleanup(os.close, fd)
        return fd

    def sessions(self, n):
        """Those of this process, when there are so many: {CPU: session}"""
        def found():
            sessions = [s for s in self.service.call("ListSessions")["sessions"] if s["pid"] == os.getpid()]
            return len(sessions) == n and {session["cpu"]: session for session in sessions}

        return harness.wait_for(found, f"{n} sessions")

    def assert_same(self, session, before):
        """The table has the kernel's clock; to turn it into the time of day costs some microseconds."""
        self.assertAlmostEqual(session["sinceUSec"], before["sinceUSec"], delta=CLOCKS_APART_USEC)
        self.assertEqual(session | {"sinceUSec": 0}, before | {"sinceUSec": 0})

    def stored(self):
        return [fields for fields in self.service.messages if "FDSTORE" in fields or "FDSTOREREMOVE" in fields]

    def test_killed(self):
        """The next one goes on with the table, in which is also what was opened while there was no broker."""
        self.event(0)
        before = self.sessions(1)
        self.assertIsNotNone(before[0]["sinceUSec"])
        self.service.kill()
        self.assertEqual(self.service.names(), self.names)
        self.event(1)
        self.service.start()
        after = self.sessions(2)
        self.assert_same(after[0], before[0])
        self.assertGreater(after[1]["sinceUSec"], before[0]["sinceUSec"])
        self.assertEqual((self.service.names(), self.stored()), (self.names, []), "all taken over, none anew")

    def test_stopped(self):
        """What is to be dropped with a stop is systemd's affair: there is none in a restart."""
        self.event(0)
        before = self.sessions(1)
        self.service.stop()
        self.assertEqual(self.service.names(), self.names)
        self.service.start()
        self.assert_same(self.sessions(1)[0], before[0])

    def test_store_lost(self):
        """What was open is found; since when is not known."""
        self.event(0)
        self.sessions(1)
        self.service.kill()
        while self.service.store:
            self.service.drop(self.service.store[0])
        self.service.start()
        self.assertIsNone(self.sessions(1)[0]["sinceUSec"])
        self.assertEqual(self.service.names(), self.names)

    def test_garbage(self):
        """A name is no proof: of what is kept under these, nothing is what it says."""
        self.service.kill()
        readers = []
        for stored in self.service.store:
            reader, writer = self.garbage()
            readers.append(reader)
            os.dup2(writer, stored.fd)
            os.close(writer)
        self.service.start()
        for reader in readers:
            self.assert_hung_up(reader, "closed by the broker and by systemd")
        self.assertEqual(self.service.call("Describe")["host"]["level"], "observe")
        self.event(0)
        self.sessions(1)
        self.service.until(lambda: sorted(s.name for s in self.service.store) == self.names, "its own are kept")

    def test_some_garbage(self):
        """Each of them, alone."""
        for name in self.names:
            with self.subTest(name):
                self.service.kill()
                (stored,) = [stored for stored in self.service.store if stored.name == name]
                reader, writer = self.garbage()
                os.dup2(writer, stored.fd)
                os.close(writer)
                self.service.start()
                self.assert_hung_up(reader, "closed by the broker and by systemd")
                self.assertEqual(self.service.call("Describe")["host"]["level"], "observe")
                self.service.until(lambda: sorted(s.name for s in self.service.store) == self.names, "all are kept")
                fd = perf.event(tree.PERF_TYPE_SOFTWARE, cpu=0, config=DUMMY)
                self.sessions(1)
                os.close(fd)

    def test_level_none(self):
        """What nobody needs any more is not kept."""
        self.service.configure("[Arbitration]\nLevel=none\n")
        self.service.call(harness.ADMIN + "Reload")
        self.service.until(lambda: not self.service.store, "all removed")
        self.service.configure(OBSERVE)
        self.service.call(harness.ADMIN + "Reload")
        self.service.until(lambda: len(self.service.store) == len(self.names), "and kept again")

    def test_full(self):
        small = self.observer(size=2)
        small.start()
        self.assertEqual(len(small.names()), 2)
        self.assertIn("systemd keeps 2 file descriptors", small.read_log())
        for _ in range(2):
            small.kill()
            small.start()
            self.assertEqual((small.call("Describe")["host"]["level"], len(small.names())), ("observe", 2))

    def test_older_systemd(self):
        """It does not say how much it keeps."""
        old = self.observer(told=False)
        old.start()
        self.assertEqual(old.names(), self.names)


if __name__ == "__main__":
    harness.main()
