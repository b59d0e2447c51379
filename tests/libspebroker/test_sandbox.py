# SPDX-License-Identifier: LGPL-2.1-or-later
"""The man page's list of system calls is enough for a VMM in a sandbox, and none of it can be left out."""

import os
import pathlib
import re
import signal
import socket
import subprocess

import harness

PAGE = pathlib.Path(os.environ["SPE_SOURCE_DIR"]) / "man/libspebroker.3.scd"
# What the test program itself needs.
OWN = ["write", "exit_group"]
# What every run needs; the others depend on the allocator, and on who is faster.
ALWAYS = ["sendto", "recvfrom", "close"]


def documented():
    """Between the heading and the next one: the names in the row of calls and streams."""
    section = PAGE.read_text().split("# SYSTEM CALLS", 1)[1].split("\n# ", 1)[0]
    row = re.search(r"Calls and streams:(.*?)\n\n", section, re.DOTALL)
    return re.findall(r"\*(\w+)\*\(2\)", row[1])


class TestSandbox(harness.TestCase):
    def run_allowed(self, names):
        if os.environ["SPE_SANITIZE"]:
            self.skipTest("a sanitizer makes system calls of its own")
        if harness.EMULATED:
            self.skipTest("the user emulation takes no seccomp filters")
        broker = self.broker(simulate="biglittle")
        connections = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
        for connection in connections:
            self.addCleanup(connection.close)
            connection.connect(str(broker.socket_path))
        fds = [connection.fileno() for connection in connections]
        return subprocess.run([os.environ["SPE_SANDBOX"], *map(str, fds), ",".join(names)], pass_fds=fds,
                              capture_output=True, text=True, timeout=harness.DEADLINE, check=False)

    def test_documented_calls_suffice(self):
        names = documented()
        self.assertTrue({"ppoll", *ALWAYS} <= set(names), names)
        result = self.run_allowed(names + OWN)
        self.assertEqual((result.returncode, result.stdout), (0, "done\n"), result.stderr)

    def test_sandbox_kills(self):
        for missing in ALWAYS:
            with self.subTest(missing):
                result = self.run_allowed([name for name in documented() + OWN if name != missing])
                self.assertEqual(result.returncode, -signal.SIGSYS)


if __name__ == "__main__":
    harness.main()
