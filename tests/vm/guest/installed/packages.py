# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages: installed, upgraded under clients, removed without a trace."""

import ctypes
import os
import pathlib
import socket
import stat
import subprocess
import unittest

import service
import system
from system import ADDRESS, CONFIGURATION, SERVICE, SOCKET, STATE, run, show, systemctl

NAMES = ("libspebroker0", "libspebroker-dev", "spe-broker")
# Where something of an installed package, or of what it has done, could be left.
PLACES = ("/etc", "/run", "/usr", "/var")


def files():
    """Of this machine's architecture, in the build that the VM was started with."""
    directory, architecture = pathlib.Path(os.environ["SPE_BUILD_DIR"]), run("dpkg", "--print-architecture").strip()
    return [str(path) for name in NAMES for path in (directory / "tests/packages").glob(f"{name}_*_{architecture}.deb")]


def install():
    """The broker is enabled and started by its package."""
    print(run("dpkg", "--install", *files()))
    assert show("ActiveState") == "active" and show("ActiveState", SOCKET) == "active"


def left():
    """What is there now that is the packages', but for this machine's own records of them."""
    found = run("find", *PLACES, "-xdev", "(", "-iname", "*spe-broker*", "-o", "-iname", "*spebroker*", "-o", "-iname",
                "*speadm*", ")", "-not", "-path", "/var/lib/dpkg/info/*.list").split()
    return [path for path in found if not path.startswith(str(system.DROP_INS))]


class TestInstalled(unittest.TestCase):
    def test_state(self):
        for name in NAMES:
            self.assertEqual(run("dpkg-query", "-W", "-f=${Status}", name), "install ok installed")
        self.assertEqual(run("dpkg", "--verify", *NAMES), "", "nothing has been changed since it was unpacked")
        for unit in (SERVICE, SOCKET):
            self.assertEqual(systemctl("is-enabled", unit), "enabled\n")

    def test_library(self):
        """Found by its name, and works."""
        library = ctypes.CDLL("libspebroker.so.0")
        broker = ctypes.c_void_p()
        self.assertEqual(library.spebroker_new(ctypes.byref(broker)), 0)
        library.spebroker_unref(broker)


class TestUpgraded(service.TestCase):
    def test_nobody_loses_anything(self):
        """The daemon is another one, the socket the same, and so is the lease. Nobody was turned away meanwhile; who
        was in hears that it is over."""
        vmm, before = self.vmm(), service.leases()
        self.assertEqual([lease["leaseId"] for lease in before], [vmm.lease])
        pid, invocation, inode = system.main_pid(), show("InvocationID", SOCKET), ADDRESS.stat().st_ino
        with service.Clients() as clients, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
            connected.settimeout(system.DEADLINE)
            connected.connect(str(ADDRESS))
            run("dpkg", "--install", *files())
            self.assertEqual(connected.recv(1), b"")
        clients.check(self)
        self.assertEqual(service.leases(), before)
        self.assertNotIn(system.main_pid(), (0, pid))
        self.assertEqual((show("InvocationID", SOCKET), ADDRESS.stat().st_ino), (invocation, inode))

    def test_stays_disabled(self):
        """What the operator has switched off an upgrade does not switch on."""
        systemctl("disable", "--now", SERVICE, SOCKET)
        run("dpkg", "--install", *files())
        for unit in (SERVICE, SOCKET):
            self.assertEqual(systemctl("is-enabled", unit, status=1), "disabled\n")
            self.assertEqual(show("ActiveState", unit), "inactive")
        systemctl("enable", "--now", SERVICE)
        self.assertEqual(systemctl("is-enabled", SOCKET), "enabled\n", "Also=")
        self.assertEqual(show("ActiveState", SOCKET), "active")


class TestRemoved(unittest.TestCase):
    def test_removed_then_purged(self):
        systemctl("start", SERVICE)
        run("speadm", "assign", "host", "--cpus", "0")
        (CONFIGURATION / "spe-broker.conf").write_text("[Policy]\nDefaultMode=shared\n")
        pid = system.main_pid()

        run("dpkg", "--remove", "spe-broker")
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "stopped")
        self.assertEqual(show("LoadState", SOCKET), "not-found")
        self.assertFalse(ADDRESS.exists())
        self.assertTrue((CONFIGURATION / "spe-broker.conf").exists(), "configuration stays until it is purged")
        self.assertTrue((STATE / "assignments.json").exists())

        run("dpkg", "--install", *files())
        self.assertEqual(show("ActiveState"), "active", "and serves who comes back")
        self.assertEqual(stat.S_IMODE(STATE.stat().st_mode), 0o750)

        run("dpkg", "--purge", *NAMES)
        self.assertEqual(left(), [])
        self.assertEqual(subprocess.run(["dpkg-query", "-W", *NAMES], capture_output=True, check=False).stdout, b"")
