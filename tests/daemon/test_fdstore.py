# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd kept of an earlier daemon: sorted, taken over, or dropped. The daemons here are services of a scripted
systemd (pid1.py)."""

import os
import socket

import harness
import pid1
import tree

TOO_MANY = 4200  # more than are looked at


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
        service.until(lambda: not service.store, "all removed")
        for reader in readers:
            self.assert_hung_up(reader, "closed by the broker and by systemd")

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


if __name__ == "__main__":
    harness.main()
