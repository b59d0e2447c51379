# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that has a VM with one VCPU, from the real KVM, and sets device attributes as it is told: what a VMM would
do."""

import ctypes
import errno
import fcntl
import json
import os
import pathlib
import platform
import signal
import struct
import subprocess
import threading

ARM64 = platform.machine() == "aarch64"
CREATE_VM, CREATE_VCPU, SET_DEVICE_ATTR = 0xAE01, 0xAE41, 0x4018AEE1
PREFERRED_TARGET, VCPU_INIT = 0x8020AEAF, 0x4020AEAE
NOWHERE = 8  # an address where nothing is
DEVICE = pathlib.Path("/dev/kvm")

libc = ctypes.CDLL(None, use_errno=True)


def load():
    """Whether there is a KVM, a module on x86."""
    if not DEVICE.exists():
        subprocess.run(["modprobe", "kvm_amd"], check=False, capture_output=True)
    return DEVICE.exists()


class Vcpu:
    """It, from the outside."""

    def __init__(self, feature=None):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(orders, 0)
                os.dup2(answers, 1)
                os.closerange(3, 4096)
                serve(feature)
            finally:
                os._exit(1)
        os.close(orders)
        os.close(answers)
        self.read()

    def read(self):
        answer = os.read(self.answers, 64)
        if not answer:
            raise AssertionError(f"the VMM ended with {os.waitpid(self.pid, 0)[1]}")
        return answer.decode().rstrip("\n")

    def set(self, group, attribute, value=None, **how):
        """'' or the error's name. how: of what (a vcpu, vm, eventfd, or a file's path), at which address the value or
        the attribute is, by a thread or a child of it, or how many times."""
        order = {"group": group, "attribute": attribute, "value": value, **how}
        os.write(self.orders, json.dumps(order).encode() + b"\n")
        return self.read()

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            os.close(self.orders)
            os.close(self.answers)


class Machine:
    def __init__(self, feature):
        self.kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self.vm = fcntl.ioctl(self.kvm, CREATE_VM, 0)
        self.vcpu = fcntl.ioctl(self.vm, CREATE_VCPU, 0)
        self.eventfd = os.eventfd(0)
        if ARM64:
            target = bytearray(fcntl.ioctl(self.vm, PREFERRED_TARGET, bytes(32)))
            if feature is not None:
                target[4 + feature // 8] |= 1 << feature % 8
            fcntl.ioctl(self.vcpu, VCPU_INIT, bytes(target))

    def set(self, group, attribute, value, of="vcpu", value_at=None, attribute_at=None):
        fd = getattr(self, of, -1)
        if fd < 0:
            fd = os.open(of, os.O_RDONLY | os.O_CLOEXEC)
        buffer = ctypes.create_string_buffer(struct.pack("=Q", 0 if value is None else value))
        address = ctypes.addressof(buffer) if value_at is None else value_at
        attributes = ctypes.create_string_buffer(struct.pack("=IIQQ", 0, group, attribute, address))
        argument = ctypes.addressof(attributes) if attribute_at is None else attribute_at
        if libc.ioctl(fd, ctypes.c_ulong(SET_DEVICE_ATTR), ctypes.c_ulong(argument)) == 0:
            return ""
        return errno.errorcode[ctypes.get_errno()]

    def in_thread(self, **order):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.set(**order)))
        thread.start()
        thread.join()
        return answers[0]

    def in_child(self, **order):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, self.set(**order).encode() + b"\n")
            os._exit(0)
        os.close(writer)
        with open(reader, encoding="ascii") as answer:
            line = answer.readline().rstrip("\n")
        os.waitpid(child, 0)
        return line

    def often(self, times, **order):
        """What all answered, if they answered the same."""
        answers = {self.set(**order) for _ in range(times)}
        return answers.pop() if len(answers) == 1 else repr(answers)

    def obey(self, by="set", **order):
        return getattr(self, by)(**order)


def serve(feature):
    machine = Machine(feature)
    os.write(1, b"\n")
    with open(0, encoding="ascii") as orders:
        for line in orders:
            os.write(1, machine.obey(**json.loads(line)).encode() + b"\n")
