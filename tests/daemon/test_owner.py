# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a lease is where that is not plain: of processes that fork, pass their connection on, live in another pid
namespace, or have just died. It is the process that connected, by the kernel's word."""

import ctypes
import json
import os
import signal
import socket

import harness
from harness import VarlinkError, wait_for
from sizes import MIB
from wire import Client

USER, GROUP = 1000, 4321
CONFIG = f"[Policy]\nAcquireGroup={GROUP}\n"
CLONE_NEWPID = 0x20000000


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


def outcome(client, method, parameters=None, **kwargs):
    """The reply, or the error's name and what it says."""
    try:
        return client.call(method, parameters, **kwargs)
    except VarlinkError as error:
        return [error.name.rpartition(".")[2], error.parameters]


class Family:
    """A process that runs a function with a means to tell the test something, and then waits to be killed; what it
    starts is killed with it at the end."""

    def __init__(self, test, function, flags=0):
        """flags: of unshare(), before it starts others and while it is root."""
        self.said, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                ctypes.CDLL(None).unshare(flags)
                os.setgroups([])
                os.setresgid(GROUP, GROUP, GROUP)
                os.setresuid(USER, USER, USER)
                function(lambda what: theirs.send(json.dumps(what).encode()))
                signal.pause()
            finally:
                os._exit(1)
        theirs.close()
        self.said.settimeout(harness.DEADLINE)
        test.addCleanup(self.said.close)
        test.addCleanup(self.end)

    def hear(self):
        return json.loads(self.said.recv(65536))

    def kill(self):
        """The first one alone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def end(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


class TestOwner(harness.TestCase):
    def test_forked(self):
        """A child is a stranger that connects by itself; by the connection that it has of its parent it speaks for that.
        The lease ends with the parent."""
        broker = self.broker(config=CONFIG)

        def vmm(tell):
            client = Client(broker.socket_path)
            lease = client.call("Acquire", request=request())["lease"]["leaseId"]
            if os.fork() == 0:
                with Client(broker.socket_path) as own:
                    tell([outcome(own, method, leaseId=lease) for method in ("Update", "Release")])
                tell(outcome(client, "Update", leaseId=lease))
                signal.pause()

        family = Family(self, vmm)
        self.assertEqual(family.hear(), [["PermissionDenied", {}]] * 2)
        lease = family.hear()["lease"]
        self.assertEqual(lease["owner"]["pid"], family.pid)
        family.kill()
        wait_for(lambda: broker.lease(lease["leaseId"]) is None, "the end of the lease")
        self.assert_idle(broker)

    def test_connection_passed_on(self):
        """Who has it speaks for the process that connected; once that is gone, for nobody."""
        broker = self.broker(config=CONFIG)
        process, client = self.vmm(broker, uid=USER, gid=GROUP)
        lease = client.call("Acquire", request=request())["lease"]  # by the test, which is another process
        self.assertEqual((lease["owner"]["pid"], lease["owner"]["uid"]), (process.pid, USER))
        pid = process.pid
        process.kill()
        wait_for(lambda: broker.lease(lease["leaseId"]) is None, "the end of the lease")
        self.assertEqual(self.refused("NoSuchProcess", client, "Acquire", request=request()), {"pid": pid})
        self.assertEqual(self.refused("NoSuchProcess", client, "Query", request=request()), {"pid": pid})
        self.refused("NoSuchLease", client, "Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_just_died(self):
        """As long as nobody has waited for it, and after that."""
        broker = self.broker(config=CONFIG)
        process = self.vmm()
        os.kill(process.pid, signal.SIGKILL)
        pidfd = os.pidfd_open(process.pid)
        self.assertEqual(harness.ready([pidfd], harness.DEADLINE), [pidfd])
        os.close(pidfd)
        client = self.client(broker)
        pid = process.pid
        self.assertEqual(self.refused("NoSuchProcess", client, "Acquire", request=request(pid=pid)), {"pid": pid})
        process.kill()
        self.assertEqual(self.refused("NoSuchProcess", client, "Acquire", request=request(pid=pid)), {"pid": pid})
        self.assert_idle(broker)

    def test_pid_namespace(self):
        """It is known by its number where the broker is, and speaks of others by theirs there: its own is none."""
        broker = self.broker(config=CONFIG)

        def vmm(tell):
            if os.fork() == 0:  # process 1 of its namespace
                pid = int(os.readlink("/proc/self"))
                client = Client(broker.socket_path)
                lease = client.call("Acquire", request=request())["lease"]
                tell([pid, os.getpid(), lease["owner"]["pid"]])
                tell(outcome(client, "Acquire", request=request(pid=os.getpid())))
                tell(outcome(client, "Update", leaseId=lease["leaseId"]))
                signal.pause()

        family = Family(self, vmm, CLONE_NEWPID)
        outer, inner, owner = family.hear()
        self.assertEqual((inner, owner), (1, outer), "in a pid namespace of its own")
        self.assertEqual(family.hear(), ["PermissionDenied", {}])
        lease = family.hear()["lease"]
        self.assertEqual(lease["owner"]["pid"], outer)
        os.kill(outer, signal.SIGKILL)
        wait_for(lambda: broker.lease(lease["leaseId"]) is None, "the end of the lease")
        self.assert_idle(broker)


if __name__ == "__main__":
    harness.main()
