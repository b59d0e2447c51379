# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is of BPF in the kernel, asked with bpf(2), and the level that it gives the broker."""

import ctypes
import errno
import os
import pathlib
import platform
import struct

SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
NEXT_ID = {"prog_id": 11, "map_id": 12, "link_id": 31}  # BPF_PROG_GET_NEXT_ID and so on
RELEASE = tuple(int(number) for number in platform.release().split("-")[0].split("+")[0].split(".")[:2])
MODULES = pathlib.Path("/sys/kernel/security/lsm")

libc = ctypes.CDLL(None, use_errno=True)

# A function of the kernel can call a program, and security modules are asked.
ENFORCES = (platform.machine() != "aarch64" or RELEASE >= (6, 4)) and "bpf" in MODULES.read_text().split(",")
# The level with the test PMU, and whether that is without a reason.
LEVEL = ("enforce", True) if ENFORCES else ("reserve", False)


def exists(kind, number):
    attributes = ctypes.create_string_buffer(struct.pack("=III", number - 1, 0, 0), 12)
    if libc.syscall(SYSCALL, NEXT_ID[kind], attributes, 12) == 0:
        return struct.unpack("=III", attributes.raw)[1] == number
    code = ctypes.get_errno()
    if code == errno.ENOENT:  # none from there on
        return False
    raise OSError(code, os.strerror(code))


def existing(objects):
    """Those of (kind, number) that still are in the kernel."""
    return {(kind, number) for kind, number in objects if exists(kind, int(number))}
