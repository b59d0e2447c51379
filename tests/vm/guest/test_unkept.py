# SPDX-License-Identifier: LGPL-2.1-or-later
"""Without a systemd that keeps descriptors: what refuses host sessions ends with the broker's process, however that
ends, and is said to."""

import contextlib
import pathlib
import re

import bpf
import machine
import perf
from wire import ADMIN

HELD = 1  # the CPU that is assigned to guests


def objects(pid):
    """Of BPF, by the descriptors of a process; some it has for a moment only."""
    found = set()
    for path in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.update(re.findall(r"^(link_id|prog_id|map_id):\s+(\d+)$", path.read_text(), re.M))
    return found


def existing_objects(pid):
    """Those, if all are in the kernel still: none is told twice, or wrongly."""
    ours = objects(pid)
    return bpf.existing(ours) == ours and ours


class TestUnkept(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.type = self.driver.type(0)

    def open(self):
        return [perf.outcome(self.type, cpu=cpu) for cpu in (0, HELD)]

    def refusing(self, **kwargs):
        """A broker that keeps sessions off, and what it has of BPF."""
        broker = self.new_broker(**kwargs).start()
        broker.call(f"{ADMIN}Assign", {"cpus": str(HELD), "owner": "guest", "runtime": True})
        self.addCleanup(pathlib.Path("/run/spe-broker/assignments.json").unlink, missing_ok=True)
        host = broker.call("Describe")["host"]
        self.assertEqual((host["level"], host["levelReason"] is None, host["levelKept"]), (*bpf.LEVEL, False), host)
        self.assertEqual(self.open(), ["", "EBUSY"])
        ours = machine.wait_for(lambda: existing_objects(broker.process.pid), "what it has is told as the kernel has it")
        self.assertIn("map_id", {kind for kind, _ in ours})
        return broker, ours

    def gone(self, ours):
        self.assertEqual(self.open(), ["", ""])
        # The kernel takes programs and maps apart when nothing can run in them any more.
        machine.wait_for(lambda: not bpf.existing(ours), "nothing of it is left in the kernel")

    def test_stopped(self):
        broker, ours = self.refusing()
        broker.stop()
        self.gone(ours)

    def test_killed(self):
        broker, ours = self.refusing()
        broker.kill()
        self.gone(ours)


if __name__ == "__main__":
    machine.main()
