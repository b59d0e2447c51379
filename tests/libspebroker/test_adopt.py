# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VMM that is started under a lease takes that one, and nobody else does."""

import errno
import json
import os
import subprocess
import sys

import harness

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

import library  # noqa: E402  (loads the library)
from library import Context, request  # noqa: E402

# A VMM with the library: what it gets, and what a child of it gets, which inherits the environment.
VMM = """
import json, os, sys, library
def adopt():
    context = library.Context(path=sys.argv[1])
    r, lease = context.adopt()
    return r, lease.id if lease else None, lease.cpus if lease else None, lease.owner_pid if lease else None
def child():
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, json.dumps(adopt()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(ours, 4096))
print(json.dumps({"pid": os.getpid(), "first": child(), "own": adopt(), "again": adopt(),
                  "lease": os.environ.get("SPE_BROKER_LEASE")}))
"""


class TestAdopt(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(simulate="biglittle")
        for name in ("SPE_BROKER_LEASE", "SPE_BROKER_PID"):
            self.assertNotIn(name, os.environ)
            self.addCleanup(os.environ.pop, name, None)
        self.context = Context(path=self.daemon.socket_path)

    def vmm(self, *words):
        command = [*words, sys.executable, "-B", "-c", VMM, str(self.daemon.socket_path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=harness.DEADLINE, check=True,
                              cwd=os.path.dirname(__file__))
        return json.loads(done.stdout)

    def leases(self):
        return self.daemon.call("ListLeases")["leases"]

    def test_run(self):
        """Under speadm run: one lease, and the child has none."""
        said = self.vmm(os.environ["SPEADM"], "--socket", str(self.daemon.socket_path), "run", "--vm", "web", "--vcpus",
                        "1", "--cpus", "0-3", "--")
        self.assertEqual(said["own"], [0, said["lease"], "0-3", said["pid"]])
        self.assertEqual(said["again"], said["own"])
        self.assertEqual(said["first"], [library.NO_LEASE, None, None, None])
        harness.wait_for(lambda: not self.leases(), "the end of the lease")

    def test_example(self):
        """The example is a VMM that asks first."""
        process = subprocess.Popen(
            [os.environ["SPEADM"], "--socket", str(self.daemon.socket_path), "run", "--vm", "web", "--vcpus", "1",
             "--cpus", "0-3", "--", os.environ["SPE_EXAMPLE"], str(self.daemon.socket_path)], stdout=subprocess.PIPE,
            text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        said = process.stdout.readline()
        self.assertEqual([(f"lease {l['leaseId']}: {l['instance']}\n", l["vm"]) for l in self.leases()], [(said, "web")])
        while "RLIMIT_MEMLOCK" not in said:
            said = process.stdout.readline()
        process.terminate()
        self.assertEqual((process.stdout.read().splitlines()[-1], process.wait(harness.DEADLINE)), ("released", 0))

    def test_without(self):
        said = self.vmm()
        self.assertEqual([said[who][0] for who in ("own", "first")], [library.NO_LEASE] * 2)
        self.assertEqual(self.context.adopt(), (library.NO_LEASE, None))
        self.assertIsNone(self.context.refusal)

    def test_whose(self):
        """Another launcher may say no pid; then the broker's word counts."""
        _, lease = self.context.acquire(request(1, vm="mine"))
        os.environ["SPE_BROKER_LEASE"] = lease.id
        r, adopted = self.context.adopt()
        self.assertEqual((r, adopted.id, adopted.vm), (0, lease.id, "mine"))
        for pid, expected in ((os.getpid(), 0), (os.getppid(), library.NO_LEASE), ("", library.NO_LEASE),
                              (f" {os.getpid()}", library.NO_LEASE)):
            os.environ["SPE_BROKER_PID"] = str(pid)
            self.assertEqual(self.context.adopt()[0], expected, pid)
        del os.environ["SPE_BROKER_PID"]

        process, client = super().vmm(self.daemon)
        theirs = client.call("Acquire", request={"vm": "theirs", "vcpus": 1})["lease"]
        self.assertNotEqual(process.pid, os.getpid())
        os.environ["SPE_BROKER_LEASE"] = theirs["leaseId"]
        self.assertEqual(self.context.adopt()[0], library.NO_LEASE)

    def test_ended(self):
        _, lease = self.context.acquire(request(1, vm="mine"))
        os.environ["SPE_BROKER_LEASE"] = lease.id
        self.assertEqual(self.context.release(lease.id), 0)
        self.assertEqual(self.context.adopt()[0], library.NO_LEASE)
        for text in ("", "no id"):
            os.environ["SPE_BROKER_LEASE"] = text
            self.assertEqual(self.context.adopt()[0], library.NO_LEASE)

    def test_stream(self):
        """A context that follows takes no calls."""
        _, lease = self.context.acquire(request(1, vm="mine"))
        os.environ["SPE_BROKER_LEASE"] = lease.id
        stream = Context(path=self.daemon.socket_path)
        self.assertEqual(stream.follow(lease.id), 0)
        self.assertEqual(stream.adopt()[0], -errno.EBUSY)
        self.assertEqual(self.context.adopt()[0], 0)

    def test_no_broker(self):
        os.environ["SPE_BROKER_LEASE"] = "0" * 32
        self.daemon.stop()
        self.assertEqual(self.context.adopt()[0], library.DISCONNECTED)


if __name__ == "__main__":
    harness.main()
