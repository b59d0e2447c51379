# SPDX-License-Identifier: LGPL-2.1-or-later
"""RLIMIT_MEMLOCK of the processes that own leases: what its tests share. Most of them take CAP_SYS_RESOURCE, which root of
a container may lack: then they are run in a VM alone (tests/vm/guest/test_memlock.py)."""

import errno
import resource
import threading

import harness
from sizes import KIB, MIB

MANAGED = "[Memlock]\nManage=yes\n"
MEMLOCK = resource.RLIMIT_MEMLOCK
UNLIMITED = resource.RLIM_INFINITY
CAP_SYS_RESOURCE = 24  # linux/capability.h
BASE = 64 * KIB
locked = []


def lock(size):
    """Locks so many bytes more; the error's number, or 0. As for others than root, limits count."""
    try:
        locked.append(harness.lock_memory(size))
    except OSError as error:
        return error.errno
    return 0


def limit(soft, hard):
    """Changes the process's own limit, as far as it may."""
    try:
        resource.setrlimit(MEMLOCK, (soft, hard))
    except (OSError, ValueError):
        return errno.EPERM
    return 0


def waver(soft, lower, hard):
    """From now on, changes its own limit all the time; between these two, and below what it may have."""
    def run():
        while True:
            for value in (soft, lower):
                limit(value, hard)

    threading.Thread(target=run, daemon=True).start()
    return 0


ACTS = {"lock": lock, "limit": limit, "waver": waver}


def request(**kwargs):
    return {"vm": "web", "vcpus": 1, "cpus": "4-5", "bufferSize": 4 * MIB} | kwargs


def is_able():
    """This process has CAP_SYS_RESOURCE."""
    with open("/proc/self/status", encoding="ascii") as status:
        mask = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(mask, 16) >> CAP_SYS_RESOURCE & 1)


class MemlockCase(harness.TestCase):
    """A VMM of another user, with so little as is usual; an administrator takes leases for it."""

    def setUp(self):
        if not is_able():
            self.skipTest("takes CAP_SYS_RESOURCE, which root has not got here")

    def start(self, config=MANAGED, base=(BASE, BASE), uid=1000, wrapper=()):
        self.daemon = self.new_broker(config=config)
        self.daemon.wrapper = list(wrapper)
        self.daemon.start()
        self.process = self.owner(base, uid)

    def owner(self, base=(BASE, BASE), uid=1000):
        process = self.vmm(uid=uid, acts=ACTS)
        resource.prlimit(process.pid, MEMLOCK, base)
        return process

    def limit(self, process=None):
        return resource.prlimit((process or self.process).pid, MEMLOCK)

    def acquire(self, state="applied", process=None, **kwargs):
        lease = self.daemon.call("Acquire", request=request(pid=(process or self.process).pid, **kwargs))["lease"]
        self.assertEqual(lease["memlock"], {"bytes": lease["charge"], "state": state})
        self.assertEqual(self.daemon.lease(lease["leaseId"]), lease)
        return lease

    def state(self, lease):
        return self.daemon.lease(lease["leaseId"])["memlock"]["state"]

    def release(self, *leases):
        for lease in leases:
            self.daemon.call("Release", leaseId=lease["leaseId"])

    def file(self, lease):
        return self.daemon.root / "run/spe-broker/leases" / lease["leaseId"]
