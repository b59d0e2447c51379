# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions and leases that are opened, acquired and given back as fast as the machine can, on the same CPUs: by the books
that each side keeps for itself (tests/vm/stress.c), no session was ever there beside a lease that it stands against."""

import collections
import os
import pathlib
import subprocess
import unittest

import machine
import sessions

PROGRAM = pathlib.Path(os.environ.get("SPE_BUILD_DIR", "."), "tests/vm/stress")
SECONDS = 120 if "SPE_LONG" in os.environ else 6
ENOUGH = 10  # of each outcome: let in, by kind, or refused, by side
CPUS = 4
ROUNDS = 10  # in which there must be enough, or unprotected sides meet once: a machine may have much else to do
# The leases against which a session stands; they are other processes'.
AGAINST = {"cpu": ("guest", "exclusive"), "task": ("exclusive",)}

# Where the kernel cannot tell the broker of closes, it looks for them now and then, and sessions that are long closed
# are in the way of nearly all leases: they are not counted on there.
SEES_CLOSES = not machine.ARM64 or machine.RELEASE >= (6, 4)
LEASES = (("lease", "guest"), ("lease", "exclusive")) if SEES_CLOSES else ()
OUTCOMES = ("session", "cpu"), ("session", "task"), *LEASES, "session", "lease"

Entry = collections.namedtuple("Entry", "side kind cpus begin end")


def read_books(text):
    entries, refused = [], {}
    for line in text.splitlines():
        match line.split():
            case ["refused", side, count]:
                refused[side] = int(count)
            case [side, kind, cpus, begin, end]:
                entries.append(Entry(side, kind, int(cpus, 16), int(begin), int(end)))
    return entries, refused


def overlaps(entries):
    """Pairs of a session and a lease on one CPU that were there at the same time, and must not."""
    for kind, modes in AGAINST.items():
        for cpu in range(CPUS):
            last = {}  # per side, of those that have begun, the one that ends last
            for entry in sorted((e for e in entries if e.cpus & 1 << cpu and e.kind in (kind, *modes)),
                                key=lambda e: e.begin):
                other = last.get("lease" if entry.side == "session" else "session")
                if other and other.end > entry.begin:
                    yield other, entry
                if entry.side not in last or last[entry.side].end < entry.end:
                    last[entry.side] = entry


class TestChecker(machine.TestCase):
    def test_overlaps(self):
        """It sees what is there to see, and nothing else."""
        lease = Entry("lease", "guest", 0b01, 10, 20)
        for session, n in ((Entry("session", "cpu", 0b01, 19, 30), 1), (Entry("session", "cpu", 0b01, 0, 11), 1),
                           (Entry("session", "cpu", 0b01, 20, 30), 0), (Entry("session", "cpu", 0b10, 10, 20), 0),
                           (Entry("session", "task", 0b01, 12, 13), 0), (Entry("session", "cpu", 0b01, 12, 13), 1)):
            self.assertEqual(len(list(overlaps([lease, session]))), n, session)
        self.assertEqual(len(list(overlaps([lease._replace(kind="exclusive"), Entry("session", "task", 3, 12, 13)]))), 1)


class TestStress(sessions.Case):
    def hammer(self, seconds):
        types = [self.first, self.first, self.second, self.second]
        done = subprocess.run([PROGRAM, str(self.daemon.socket_path), str(seconds), *map(str, types)],
                              stdout=subprocess.PIPE, text=True, check=False, timeout=seconds + machine.harness.DEADLINE)
        self.assertEqual(done.returncode, 0)
        entries, refused = read_books(done.stdout)
        counts = collections.Counter((entry.side, entry.kind) for entry in entries)
        print(f"{dict(counts)}, refused {refused}")
        return entries, counts, refused

    def test_no_overlap(self):
        self.start("auto")
        counts = collections.Counter()
        for _ in range(ROUNDS):
            entries, some, refused = self.hammer(SECONDS)
            self.assertEqual(list(overlaps(entries))[:3], [])
            counts.update(some)
            counts.update(refused)
            if all(counts[outcome] > ENOUGH for outcome in OUTCOMES):
                break
        else:
            self.fail(f"too few of some: {counts}")
        self.assert_idle(self.daemon)
        machine.wait_for(lambda: not self.sessions(), "nothing is left")

    @unittest.skipUnless(SEES_CLOSES, "closes are not seen: there are too few leases to meet sessions")
    def test_unprotected(self):
        """Where nothing is refused, the same books show it."""
        self.start("observe")
        for _ in range(ROUNDS):
            entries, _, _ = self.hammer(2)
            if any(overlaps(entries)):
                return
        self.fail("no overlap was found")


if __name__ == "__main__":
    machine.main()
