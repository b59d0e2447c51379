#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/quickstart: shows what it promises, ends by itself, and leaves nothing behind, also when it is stopped."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[1]
DEADLINE = 180

# What a newcomer sees, in this order.
STEPS = [
    r"\$ speadm list\nNAME .*\narm_spe_\d+ .* ready ",
    r"\$ speadm query .*\ngranted: arm_spe_\d+ ",
    r"SPE_BROKER_LEASE=[0-9a-f]{32}",
    r"of VM web1: granted",
    r"\$ speadm leases\nLEASE .*\n.* web1 .* granted",
    r"refused: Busy: .* web1 .*\ninstead: ",
    r"refused: LimitExceeded: .*MaxBufferSize.*\ninstead: ",
    r"of VM web1: ended",
    r"\$ speadm leases\nNo leases\.",
]


def processes_of(session):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(path.with_name("cmdline").read_bytes())
    return found


class Quickstart(unittest.TestCase):
    def start(self):
        directory = tempfile.TemporaryDirectory(prefix="spe-quickstart ")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        child = subprocess.Popen(["bash", str(SOURCE / "tools/quickstart")], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
                                 env={**os.environ, "TMPDIR": str(self.directory)}, start_new_session=True)
        self.addCleanup(child.stdout.close)
        return child

    def check_nothing_left(self, child):
        self.assertEqual(processes_of(child.pid), [])
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_the_whole(self):
        child = self.start()
        output, _ = child.communicate(timeout=DEADLINE)
        print(output)
        self.assertEqual(child.returncode, 0)
        self.assertRegex(" ".join(output.split()), "This host has (SPUs: |no SPU .* on the simulated host 'biglittle')")
        at = 0
        for step in STEPS:
            match = re.compile(step).search(output, at)
            self.assertTrue(match, f"{step} is missing, or in another place")
            at = match.end()
        self.check_nothing_left(child)

    def test_stopped(self):
        child = self.start()
        for line in child.stdout:
            if "granted, arm_spe" in line:
                break
        child.send_signal(signal.SIGTERM)
        child.stdout.read()
        self.assertEqual(child.wait(DEADLINE), 128 + signal.SIGTERM)
        self.check_nothing_left(child)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
