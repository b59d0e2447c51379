# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each system call in the life of leases fails once, in each way in which it can, and so does each allocation: the
daemon goes on, says what failed, has done all or nothing, and keeps nothing of what it did not do."""

import errno
import os

import faults
import harness
from wire import Closed, VarlinkError

ASSIGN, UNASSIGN, RELOAD, RESCAN = (f"io.spebroker.Admin.{m}" for m in ("Assign", "Unassign", "Reload", "Rescan"))
OURS = "spe-broker/"  # files of the broker's own; those of the kernel's do not fail in every way
# What the kernel can say to each call; close() has closed whatever it says, so it is not here.
WAYS = {
    "accept4": {"": ["ECONNABORTED", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]},
    "epoll_ctl": {"": ["ENOMEM", "ENOSPC"]},
    "epoll_wait": {"": ["EINTR"]},
    "fchmod": {"": ["EIO", "EROFS"]},
    "fcntl": {"": ["EMFILE", "ENFILE"]},
    "fsync": {"": ["EDQUOT", "EIO"]},
    "getsockopt": {"option 77": ["EMFILE", "ENOMEM"]},  # the peer's pidfd
    # Not of libini_config, nor of the C library's search for groups: they would not survive it.
    "malloc": {"/spe-broker": ["ENOMEM"], "/libjson-c": ["ENOMEM"], "/libsystemd": ["ENOMEM"]},
    "mkdirat": {"": ["ENOSPC", "EROFS"]},
    "openat": {"": ["EMFILE", "ENFILE", "ENOMEM"], OURS: ["EACCES", "EINTR", "EIO", "ENOSPC", "EROFS"]},
    "pidfd_open": {"": ["EMFILE", "ENFILE", "ENOMEM"]},
    "poll": {"": ["EINTR", "ENOMEM"]},
    "read": {"": ["EINTR", "ENOMEM", "short"], OURS: ["EIO"]},
    "recvmsg": {"": ["ECONNRESET", "EINTR", "ENOMEM", "short"]},
    "renameat": {"": ["EDQUOT", "EIO", "ENOSPC", "EROFS"]},
    "send": {"": ["EINTR", "ENOBUFS", "ENOMEM", "short"]},
    "write": {"": ["EDQUOT", "EINTR", "EIO", "ENOSPC", "short"]},
}
# Whatever else fails is answered.
MAY_CLOSE = {"accept4", "epoll_ctl", "malloc", "recvmsg", "send"}
LONG = "SPE_LONG" in os.environ
SAMPLE = 6 if harness.EMULATED else 20  # of the calls of one kind; all of them if there is time


class Life:
    """Of two leases and some assignments; each step may fail."""

    def __init__(self, broker, vmm):
        self.broker, self.vmm = broker, vmm
        self.client, self.errors = None, []

    def call(self, method, **parameters):
        try:
            if not self.client:
                self.client = self.broker.connect()
            return self.client.call(method, parameters)
        except VarlinkError as error:
            self.errors.append((method, error))
        except Closed:
            self.errors.append((method, None))
            self.client.close()
            self.client = None
        return None

    def live(self):
        request = {"vm": "a", "vcpus": 1, "cpus": "0-1", "pid": self.vmm.pid}
        self.call("Describe")
        granted = self.call("Acquire", request=request)
        self.call("Acquire", request={"vm": "b", "vcpus": 1, "cpus": "4"})
        self.call(ASSIGN, cpus="2", owner="guest", runtime=True)
        self.call(ASSIGN, cpus="5-6", owner="host")
        if granted:
            lease = granted["lease"]["leaseId"]
            self.call("Update", leaseId=lease, cpus="1")
            self.call("Release", leaseId=lease)
        self.call("ListLeases")
        self.call(UNASSIGN, cpus="5-6")
        self.call(RESCAN)
        self.call(RELOAD)
        if self.client:
            self.client.close()


class SweepTest(harness.TestCase):
    def setUp(self):
        self.daemon = self.new_broker()
        self.faults = faults.Faults(self.daemon)
        self.daemon.start()
        self.owner, self.admin = self.vmm(), self.client(self.daemon)
        self.admin.call("Query", request={"vm": "a", "vcpus": 1})  # for which it gets the pidfd of its peer
        self.before = faults.descriptors(self.daemon)
        Life(self.daemon, self.owner).live()
        self.clean()
        self.files_before = self.files()

    def files(self):
        return sorted(str(path.relative_to(self.daemon.root)) for top in ("run", "var")
                      for path in (self.daemon.root / top).rglob("*"))

    def clean(self):
        for lease in self.admin.call("ListLeases")["leases"]:
            self.admin.call("Release", leaseId=lease["leaseId"])
        self.admin.call(RESCAN)
        self.admin.call(UNASSIGN, cpus="0-11")
        self.assert_idle(self.daemon)

    def once(self, call, text, which, way):
        """A life in which this call fails, and what is left of it."""
        life = Life(self.daemon, self.owner)
        self.faults.set(f"{call}:{text}:{which}:{way}")
        life.live()
        self.faults.clear()
        self.assertIsNone(self.daemon.process.poll(), "the daemon has gone")
        self.clean()
        faults.wait_for_descriptors(self.daemon, self.before)
        self.assertEqual(self.files(), self.files_before)
        for method, error in life.errors:
            what = f"{method}: {error or 'closed'} {self.faults.fired()}"
            if error:
                if method == RELOAD and error.name.endswith(".InvalidConfiguration"):
                    continue  # it names the file
                self.assertEqual(error.name, "io.systemd.System", what)
                self.assertEqual(errno.errorcode[error.parameters["errno"]], way, what)
            else:
                self.assertIn(call, MAY_CLOSE, what)

    def count(self, call, text):
        life = Life(self.daemon, self.owner)
        with self.faults.injected(f"{call}:{text}:*:pass"):
            life.live()
        self.clean()
        return len(self.faults.fired())

    def sweep(self, call, text, way):
        n = self.count(call, text)
        for which in range(1, n + 1, 1 if LONG else -(-n // SAMPLE)):
            with self.subTest(call=call, which=which, way=way):
                self.once(call, text, which, way)


def add(call, text, way):
    def test(self):
        self.sweep(call, text, way)

    where = "".join(c for c in text if c.isalpha())
    setattr(SweepTest, f"test_{call}_{where}_{way}", test)


for each_call, texts in WAYS.items():
    for each_text, each_ways in texts.items():
        for each_way in each_ways:
            add(each_call, each_text, each_way)

if __name__ == "__main__":
    harness.main()
