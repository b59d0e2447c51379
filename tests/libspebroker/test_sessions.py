# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a virtual machine monitor is told of the host's own perf sessions, where the kernel lets the broker see them."""

import os
import pathlib
import sys

import harness
import tree

if os.environ["SPE_SANITIZE"]:
    print("a sanitized library cannot be loaded into Python")
    sys.exit(77)

if harness.EMULATED:
    print("another machine's library cannot be loaded into Python")
    sys.exit(77)

import library  # noqa: E402  (loads the library)
from library import Context, request  # noqa: E402

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "vm/guest"))
import perf  # noqa: E402 (found through the line above)

DUMMY = 9  # PERF_COUNT_SW_DUMMY
HOUR = 3600 * 1000 * 1000


class TestSessions(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker(tree=tree.software, config="[Arbitration]\nLevel=observe\n")
        host = self.daemon.call("Describe")["host"]
        if host["level"] != "observe":
            self.skipTest(host["levelReason"])
        others = self.daemon.call("ListSessions")["sessions"]
        if others:
            self.skipTest(f"{others[0]['command']} (pid {others[0]['pid']}) uses this PMU, and would be in the way")

    def context(self):
        context = Context(path=self.daemon.socket_path)
        self.assertEqual(context.result, 0)
        return context

    def seen(self, n):
        """This process has so many sessions."""
        mine = [s for s in self.daemon.call("ListSessions")["sessions"] if s["pid"] == os.getpid()]
        return len(mine) == n

    def open(self):
        fd = perf.event(tree.PERF_TYPE_SOFTWARE, cpu=0, config=DUMMY)
        harness.wait_for(lambda: self.seen(1), "the session")
        return fd

    def test_in_the_way(self):
        """Who is in the way has fields and words; and waiting is all that it takes."""
        fd = self.open()
        calls, stream = self.context(), self.context()
        wanted = request(1, vm="web", cpus="0", mode=library.GUEST)
        self.assertEqual(calls.acquire(wanted)[0], library.REFUSED)
        holders, i = [], 0
        while holder := calls.refusal.part("holder", "holder", i):
            holders.append((holder.kind, holder.lease_id, holder.vm, holder.pid, holder.uid, holder.cpus))
            i += 1
        self.assertIn(("session", None, None, os.getpid(), os.getuid(), "0"), holders)
        self.assertIn(f" (pid {os.getpid()}) on CPUs 0", calls.refusal.message)
        self.assertIn("a host session of ", calls.refusal.message)

        self.assertEqual(stream.acquire_and_follow(wanted, HOUR), 0)
        self.assertEqual(stream.process()[1].change, "queued")
        os.close(fd)
        r, lease = stream.process()
        self.assertEqual((r, lease.change, lease.is_contended), (0, "granted", False))

    def test_contended(self):
        """A lease that cannot be protected says so, why, and when that is over."""
        calls, stream = self.context(), self.context()
        r, lease = calls.acquire(request(1, vm="web", cpus="0", mode=library.GUEST))
        self.assertEqual((r, lease.is_contended), (0, False))
        self.assertEqual(stream.follow(lease.id), 0)
        self.assertEqual(stream.process()[1].change, None)
        fd = self.open()
        _, lease = stream.process()
        self.assertEqual((lease.change, lease.state, lease.is_contended), ("contended", "granted", True))
        self.assertIn(f"(pid {os.getpid()})", lease.reason)
        os.close(fd)
        _, lease = stream.process()
        self.assertEqual((lease.change, lease.is_contended, lease.reason), ("uncontended", False, None))


if __name__ == "__main__":
    harness.main()
