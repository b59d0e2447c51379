# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's uevents, and messages that only look like them. The kernel sends a uevent when somebody writes into a
device's uevent file; it goes to all network namespaces, so other tests' uevents arrive, too."""

import ctypes
import errno
import os
import pathlib
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
REQUEST = 1
FIRST_TYPE = 16

CPU = pathlib.Path("/sys/devices/system/cpu/cpu0/uevent")
KVM = pathlib.Path("/sys/devices/virtual/misc/kvm/uevent")
IRRELEVANT = pathlib.Path("/sys/bus/event_source/devices/software/uevent")
FORGED = b"\0".join((b"offline@/devices/system/cpu/cpu0", b"ACTION=offline", b"DEVPATH=/devices/system/cpu/cpu0",
                     b"SUBSYSTEM=cpu", b"SEQNUM=1", b""))


def enter_private_network():
    """From now on this process, and all that it starts, have a network namespace of their own: what they send to the
    group of the kernel's uevents reaches nobody else."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) < 0:
        print("no network namespace of our own:", os.strerror(ctypes.get_errno()))
        sys.exit(77)


def enter_quiet_network():
    """From now on what this process starts hears no uevents, which other tests cause at any time: the kernel sends them
    only to network namespaces of its own first user namespace, and this one belongs to another. Where that cannot be
    had, they are heard."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        theirs.send(b"y" if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 else b"n")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    if ours.recv(1) == b"y":
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(namespace, CLONE_NEWNET)
        os.close(namespace)
    ours.close()
    os.waitpid(pid, 0)


def trigger(path=CPU, action="online"):
    """Has the kernel send a uevent."""
    with open(path, "w", encoding="ascii") as f:
        f.write(action)


def port_of(pid):
    """The port of the process's uevent socket."""
    inodes = {os.stat(entry).st_ino for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir() if is_socket(entry)}
    with open(f"/proc/{pid}/net/netlink", encoding="ascii") as f:
        for line in list(f)[1:]:
            fields = line.split()
            if int(fields[1]) == NETLINK_KOBJECT_UEVENT and int(fields[9]) in inodes:
                return int(fields[2])
    raise AssertionError(f"process {pid} has no uevent socket")


def is_socket(entry):
    try:
        return os.readlink(entry).startswith("socket:")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False


class Forger:
    """Sends what only looks like the kernel's."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
        self.socket.bind((0, 0))

    def close(self):
        self.socket.close()

    def unicast(self, port, message=FORGED):
        self.socket.sendto(message, (port, 0))

    def multicast(self, message=FORGED):
        self.socket.sendto(message, (0, KERNEL_GROUP))

    def inject(self, message=FORGED):
        """The kernel itself passes such a message on: from its own port, to its group."""
        header = struct.pack("=IHHII", 16 + len(message), FIRST_TYPE, REQUEST, 0, 0)
        self.socket.sendto(header + message, (0, 0))
