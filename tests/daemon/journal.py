# SPDX-License-Identifier: LGPL-2.1-or-later
"""What journald reads (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), for a daemon that takes its standard error for
the journal's: the fields of its messages."""

import os
import shutil
import socket
import struct
import subprocess
import unittest

import harness

# Has the socket where libsystemd looks for it, for one command.
NAMESPACE = ["unshare", "--mount", "--propagation", "private"]
SCRIPT = 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'


def parse(data):
    """The fields of one message; each has one value here."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8:8 + size], data[8 + size + 1:]
        if name.decode() in fields:
            raise AssertionError(f"{name} twice")
        fields[name.decode()] = value.decode()
    return fields


class Journal:
    def __init__(self, broker):
        """Of a daemon that has not been started."""
        directory = broker.root / "journal"
        directory.mkdir()
        if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
            raise unittest.SkipTest("no mount namespaces here")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(str(directory / "socket"))
        self.entries = []
        stderr = broker.root / "stderr"
        stderr.touch()
        stat = stderr.stat()
        broker.env["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
        broker.wrapper = [*NAMESPACE, "sh", "-c", SCRIPT, str(directory)]

    def close(self):
        self.socket.close()

    def read(self):
        """All that has come so far."""
        while harness.ready([self.socket.fileno()], 0):
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
            for fd in fds:  # too long for a datagram
                data = os.pread(fd, 1 << 24, 0)
                os.close(fd)
            self.entries.append(parse(data))
        return self.entries

    def of(self, message_id):
        return [entry for entry in self.read() if entry.get("MESSAGE_ID") == message_id]

    def wait(self, message_id, n=1):
        """The last of n messages with this id."""
        harness.wait_for(lambda: len(self.of(message_id)) >= n, f"{n} of {message_id} in the journal")
        found = self.of(message_id)
        if len(found) != n:
            raise AssertionError(f"{len(found)} of them, not {n}: {found}")
        return found[-1]
