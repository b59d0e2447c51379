# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts that fail: the daemon says why and exits with 1, and loses nothing of what an earlier one has left; or it does
without."""

import errno
import os
import pathlib
import shutil
import subprocess

import faults
import harness
import lease_file
import pid1
import tree
from wire import Closed

RUN, STATE = "run/spe-broker", "var/lib/spe-broker"
SAMPLE = 100 if "SPE_LONG" in os.environ else 4 if harness.EMULATED else 10
# What a start can meet, by call; and where, if not everywhere. Memory: libini_config, and the C library's search for
# groups, would not survive the lack of it.
WAYS = [
    ("malloc", "/spe-broker", "ENOMEM"),
    ("malloc", "/libjson-c", "ENOMEM"),
    ("malloc", "/libsystemd", "ENOMEM"),
    ("openat", "", "EMFILE"),
    ("openat", "/leases/", "ENFILE"),
    ("read", "/leases/", "ENOMEM"),
    ("read", "", "short"),
    ("read", "", "EINTR"),
    ("readdir", "/leases", "EIO"),
    ("mkdirat", "", "ENOSPC"),
    ("epoll_ctl", "", "ENOSPC"),
    ("fcntl", "dup", "EMFILE"),
    ("socket", "", "EMFILE"),
    ("bind", "", "ENOSPC"),
    ("listen", "", "EADDRINUSE"),
    ("sendmsg", "READY", "ENOBUFS"),
    ("poll", "", "ENOMEM"),
]
# And without a systemd that has the owners' pidfds.
WAYS_ALONE = [
    ("malloc", "/spe-broker", "ENOMEM"),
    ("openat", "/proc/", "ENFILE"),
    ("pidfd_open", "", "EMFILE"),
    ("poll", "", "ENOMEM"),
    ("read", "/proc/", "ENOMEM"),
]


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": 65536} | kwargs


class TestDamage(harness.TestCase):
    """Something is in the place of a directory, or may not be written."""

    def fails(self, broker, *words):
        broker.spawn()
        code = broker.reap(harness.DEADLINE)
        self.assertEqual(code, 1, broker.log)
        for word in words:
            self.assertIn(word, broker.log)
        self.assertLessEqual(len(broker.log.splitlines()), 3, broker.log)
        (broker.root / "stderr").unlink()

    def recovers(self, broker):
        broker.start()
        broker.call("Describe")

    def test_something_else_there(self):
        """A file, or a link that leads nowhere, where a directory is to be."""
        for path, words in (("run", ["/run/spe-broker"]), (RUN, ["/run/spe-broker"]),
                            (f"{RUN}/leases", ["/run/spe-broker/leases"])):
            for make in (pathlib.Path.touch, lambda at: at.symlink_to("/nonexistent/place")):
                with self.subTest(path):
                    broker = self.new_broker()
                    place = broker.root / path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    make(place)
                    self.fails(broker, *words)
                    place.unlink()
                    self.recovers(broker)

    def test_link_elsewhere(self):
        """Leases are not read through a link."""
        broker = self.new_broker()
        (broker.root / RUN).mkdir(parents=True)
        elsewhere = self.directory()
        (broker.root / RUN / "leases").symlink_to(elsewhere)
        self.fails(broker, "/run/spe-broker/leases")

    def test_read_only(self):
        broker = self.new_broker()
        run = broker.root / "run"
        run.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(run)], capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f"nothing can be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(run)], check=True)
        self.addCleanup(broker.stop)
        self.fails(broker, "/run/spe-broker", "Read-only file system")
        subprocess.run(["mount", "-o", "remount,rw", str(run)], check=True)
        self.recovers(broker)

    def test_no_state_directory(self):
        """Without one there are no assignments of old; one is made for the first that is to be kept."""
        broker = self.new_broker()
        broker.start()
        self.assertFalse((broker.root / "var").exists())
        broker.call(harness.ADMIN + "Assign", {"cpus": "0", "owner": "host"})
        self.assertTrue((broker.root / STATE / "assignments.json").exists())

    def test_bad_state_directory(self):
        """It serves all the same, and says what cannot be kept."""
        broker = self.new_broker()
        (broker.root / "var").touch()
        broker.start()
        with self.assertRaises(harness.VarlinkError) as caught:
            broker.call(harness.ADMIN + "Assign", {"cpus": "0", "owner": "host"})
        self.assertEqual(caught.exception.parameters, {"errno": errno.ENOTDIR})
        self.assertIn("/var/lib/spe-broker/assignments.json: cannot be written", broker.read_log())
        broker.call(harness.ADMIN + "Assign", {"cpus": "0", "owner": "host", "runtime": True})

    def test_no_config_readable(self):
        broker = self.new_broker()
        broker.config_path.unlink()
        broker.config_path.mkdir()
        self.fails(broker, "etc/spe-broker/spe-broker.conf")


class SweepTest(harness.TestCase):
    """Each call of a start that has leases to take over fails once."""

    def prepare(self, stored):
        if stored:
            self.service = pid1.Service(self.directory(), tree=tree.big_little)
            self.brokers.append(self.service)
            self.addCleanup(self.service.dismiss)
        else:
            self.service = self.new_broker()
        self.stored = stored
        self.faults = faults.Faults(self.service)
        self.service.start()
        self.owners = [self.vmm() for _ in range(3)]
        for i, owner in enumerate(self.owners):
            self.service.call("Acquire", request=request(vm=f"vm{i}", pid=owner.pid, cpus=str(i), mode="exclusive"))
        self.service.call(harness.ADMIN + "Assign", {"cpus": "8", "owner": "host"})
        self.wait_until_stored()
        self.leases = self.service.call("ListLeases")["leases"]
        self.files = self.read_files()
        self.service.kill()

    def wait_until_stored(self):
        if self.stored:
            self.service.until(lambda: len(self.service.names()) == 3, "owners in the store")

    def read_files(self):
        return {name: path.read_bytes() for name, path in lease_file.paths(self.service.root).items()}

    def count(self, call, text):
        with self.faults.injected(f"{call}:{text}:*:pass"):
            self.service.start()
            self.service.kill()
        return len(self.faults.fired())

    def is_up(self):
        return self.service.process.poll() is not None or self.service.socket_path.exists() and self.is_answered()

    def is_answered(self):
        try:
            return self.service.call("Describe")
        except (OSError, Closed):
            return None

    def once(self, rule):
        """A start with it, which may fail; then one without, which may not."""
        (self.service.root / "stderr").unlink(missing_ok=True)
        self.faults.set(rule)
        self.service.spawn()
        harness.wait_for(self.is_up, "it serves, or ends")
        self.faults.clear()
        if self.service.process.poll() is None:
            self.service.wait_notify("READY=1")  # sooner or later; else it is taken for the next one's
            self.service.kill()
        else:
            self.assertEqual(self.service.reap(harness.DEADLINE), 1, self.service.log)
            self.assertIn("spe-broker ends: ", self.service.log)
        self.assertEqual(list(pathlib.Path(self.service.root, lease_file.DIRECTORY).glob("*.bad")), [])
        self.assertEqual(set(self.read_files()), set(self.files))
        self.service.start()
        harness.wait_for(self.is_answered, "it answers")
        self.assertEqual(self.service.call("ListLeases")["leases"], self.leases)
        self.assertEqual([a["cpus"] for a in self.service.instance("arm_spe_1")["assignments"]
                          if a["owner"] == "host"], ["8"])
        self.assertEqual(self.read_files(), self.files)
        self.service.kill()
        self.wait_until_stored()

    def sweep(self, call, text, way):
        n = self.count(call, text)
        for which in range(1, n + 1, -(-n // SAMPLE)):
            rule = f"{call}:{text}:{which}:{way}"
            with self.subTest(rule):
                self.once(rule)


def add(stored, call, text, way):
    def test(self):
        self.prepare(stored)
        self.sweep(call, text, way)

    where = "".join(c for c in text if c.isalpha())
    setattr(SweepTest, f"test_{'' if stored else 'alone_'}{call}_{where}_{way}", test)


for each in WAYS:
    add(True, *each)
for each in WAYS_ALONE:
    add(False, *each)

if __name__ == "__main__":
    harness.main()
