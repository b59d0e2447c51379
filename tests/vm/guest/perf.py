# SPDX-License-Identifier: LGPL-2.1-or-later
"""perf_event_open(2) for the tests, and processes that open events: what perf would do on the host."""

import ctypes
import errno
import mmap
import os
import pathlib
import platform
import struct

SYSCALL = {"x86_64": 298, "aarch64": 241}[platform.machine()]
PIDFD_GETFD = 438
ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5: as far as the members that are used
SOFTWARE, DUMMY = 1, 9  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY
DISABLED, INHERIT, EXCLUDE_IDLE, FREQ = 1 << 0, 1 << 1, 1 << 7, 1 << 10
PERIOD = 4096
CLOEXEC = 8
AUX_OFFSET, AUX_SIZE = 1072, 1080  # in struct perf_event_mmap_page

# Linux has one number for what Python has two names for.
NAMES = errno.errorcode | {errno.EOPNOTSUPP: "EOPNOTSUPP"}

libc = ctypes.CDLL(None, use_errno=True)


def event(pmu_type, pid=-1, cpu=-1, config=0, flags=0, group=-1, period=PERIOD):
    """The descriptor of a new event, or OSError. group: the descriptor of its leader."""
    attr = struct.pack("=IIQQQQQ", pmu_type, ATTR_SIZE, config, period, 0, 0, DISABLED | flags)
    buffer = ctypes.create_string_buffer(attr.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    fd = libc.syscall(SYSCALL, buffer, pid, cpu, group, CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def outcome(*arguments, **kwargs):
    """'' if it can be opened, else the error's name; nothing stays open."""
    try:
        os.close(event(*arguments, **kwargs))
    except OSError as error:
        return NAMES[error.errno]
    return ""


def copies(pid):
    """Descriptors of all events that a process has."""
    descriptors = pathlib.Path(f"/proc/{pid}/fd")
    events = [int(fd.name) for fd in descriptors.iterdir() if os.readlink(fd) == "anon_inode:[perf_event]"]
    pidfd = os.pidfd_open(pid)
    try:
        return [libc.syscall(PIDFD_GETFD, pidfd, fd, 0) for fd in events]
    finally:
        os.close(pidfd)


def map_alone(fd):
    """Maps the event's first data pages, without a descriptor of it (Python's mmap has one of its own); returns what
    takes them away."""
    size = 2 * mmap.PAGESIZE
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd,
                        ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return lambda: libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


def map_aux(fd, size):
    """Maps the event's data pages and an AUX buffer of that size; '' or the error's name."""
    try:
        with mmap.mmap(fd, 2 * mmap.PAGESIZE) as page:
            struct.pack_into("=QQ", page, AUX_OFFSET, 2 * mmap.PAGESIZE, size)
            mmap.mmap(fd, size, offset=2 * mmap.PAGESIZE).close()
    except OSError as error:
        return NAMES[error.errno]
    return ""


class Mapping:
    """An event's data pages, mapped; unlike Python's own, it keeps no descriptor."""

    def __init__(self, fd, size=2 * mmap.PAGESIZE):
        libc.mmap.restype = ctypes.c_void_p
        self.size = size
        self.address = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd,
                                 ctypes.c_long(0))
        if self.address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size))
