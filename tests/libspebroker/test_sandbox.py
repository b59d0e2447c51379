# SPDX-License-Identifier: LGPL-2.1-or-later
"""The man page's lists of system calls are enough for a VMM in a sandbox, phase by phase, and none of it can be left
out. A VMM that may not connect lives on when the broker dies."""

import os
import pathlib
import re
import signal
import socket
import subprocess

import harness

PAGE = pathlib.Path(os.environ["SPE_SOURCE_DIR"]) / "man/libspebroker.3.scd"
# What the test program itself needs.
OWN = ["write", "read", "exit_group"]


def documented():
    """Phase: names. What a phase may do beyond another includes the other; memory may be asked for in each."""
    section = PAGE.read_text().split("# SYSTEM CALLS", 1)[1].split("\n# ", 1)[0]

    def row(beginning):
        paragraphs = [p for p in section.split("\n\n") if p.startswith(beginning)]
        return re.findall(r"\*(\w+)\*\(2\)", paragraphs[0].split("That is all", 1)[0])

    calls = row("Calls and streams:")
    memory = calls[calls.index("brk"):]
    return {
        "connect": row("Connecting,") + memory,
        "descriptor": row("A descriptor that was passed,") + memory,
        "calls": calls,
        "lost": calls,
        "switch": row("Switching reconnecting on,") + memory,
        "reconnect": calls + row("Calls and streams with reconnecting on,"),
    }


# What every run of a phase needs; the others depend on the allocator, and on who is faster.
ALWAYS = {
    "connect": ["getpid", "socket", "setsockopt", "connect", "close", "getrandom", "fcntl"],
    "descriptor": ["getpid", "getsockopt", "fcntl", "getrandom"],
    "calls": ["sendto", "recvfrom", "close"],
    "lost": ["sendto", "recvfrom", "close"],
    "switch": ["epoll_create1", "timerfd_create", "epoll_ctl"],
    "reconnect": ["sendto", "recvfrom", "close", "socket", "setsockopt", "connect", "epoll_ctl", "timerfd_settime",
                  "getrandom", "fcntl"],
}


class TestSandbox(harness.TestCase):
    def setUp(self):
        if os.environ["SPE_SANITIZE"]:
            self.skipTest("a sanitizer makes system calls of its own")
        if harness.EMULATED:
            self.skipTest("the user emulation takes no seccomp filters")

    def run_phase(self, phase, names):
        """Its exit status, and what it said. While it pauses the broker dies; to reconnect to, it comes back."""
        broker = self.broker(simulate="biglittle")
        fds, arguments = [], [broker.socket_path]
        if phase in ("descriptor", "calls", "lost"):
            connections = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(1 + (phase != "descriptor"))]
            for connection in connections:
                self.addCleanup(connection.close)
                connection.connect(str(broker.socket_path))
            fds = arguments = [connection.fileno() for connection in connections]
        process = subprocess.Popen([os.environ["SPE_SANDBOX"], phase, ",".join(names), *map(str, arguments)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   pass_fds=fds)
        self.addCleanup(process.kill)
        said = ""
        if phase in ("lost", "reconnect"):
            said = process.stdout.readline()
            if said == "ready\n":
                broker.kill()
                process.stdin.write("\n")
                process.stdin.flush()
                if phase == "reconnect":
                    broker.start()
        out, errors = process.communicate(timeout=harness.DEADLINE)
        return process.returncode, said + out, errors

    def test_documented_calls_suffice(self):
        for phase, names in documented().items():
            with self.subTest(phase):
                self.assertLessEqual(set(ALWAYS[phase]), set(names))
                code, out, errors = self.run_phase(phase, names + OWN)
                self.assertEqual((code, out.replace("ready\n", "")), (0, "done\n"), errors)

    def test_sandbox_kills(self):
        for phase, names in documented().items():
            for missing in ALWAYS[phase]:
                with self.subTest(phase, missing=missing):
                    code, out, _ = self.run_phase(phase, [name for name in names + OWN if name != missing])
                    self.assertEqual((code, "done" in out), (-signal.SIGSYS, False))

    def test_reconnecting_needs_more(self):
        """Where connecting is not allowed, to have it switched on is deadly: so it is off at first."""
        code, _, _ = self.run_phase("reconnect", documented()["calls"] + OWN)
        self.assertEqual(code, -signal.SIGSYS)


if __name__ == "__main__":
    harness.main()
