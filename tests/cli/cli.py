# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs speadm and compares what it prints with the files in golden/. SPE_GOLDEN_UPDATE=1 writes them anew:
then read the difference."""

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import termios
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "daemon"))

import harness  # noqa: E402 (found through the line above)
from fake import Fake  # noqa: E402

SPEADM = os.environ.get("SPEADM", "")
UPDATE = os.environ.get("SPE_GOLDEN_UPDATE") == "1"
DEADLINE = harness.DEADLINE

DONE, FAILED, USAGE, REFUSED, NO_BROKER, HOST_CANNOT = 0, 1, 2, 3, 4, 77
HINT = "Try 'speadm --help' or 'speadm VERB --help'."

# What differs from run to run, and the word that stands for it in golden files.
VOLATILE = [
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r'"(nowUSec|whenUSec|sinceUSec|remainingUSec)":( ?)[0-9]+'), r'"\1":\2USEC'),
    (re.compile(r'"pid":( ?)[0-9]+'), r'"pid":\1PID'),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\b"), "YYYY-MM-DD HH:MM:SS"),
]


def normalise(text, *more):
    """more: (what, word) pairs of the test's own."""
    for what, word in more:
        text = text.replace(str(what), word)
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}---"


class TestCase(harness.TestCase):
    maxDiff = None

    def environment(self, **extra):
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return environment | {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")} | extra

    def command(self, *arguments, socket=None):
        return [SPEADM] + (["--socket", str(socket)] if socket else []) + [str(a) for a in arguments]

    def speadm(self, *arguments, socket=None, expect=DONE, stdout=subprocess.PIPE, **kwargs):
        """Runs it to its end and requires this exit status."""
        done = subprocess.run(self.command(*arguments, socket=socket), stdin=subprocess.DEVNULL, stdout=stdout,
                              stderr=subprocess.PIPE, timeout=DEADLINE, env=self.environment(), **kwargs)
        result = Result(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())
        self.assertEqual(result.code, expect, result)
        return result

    def on_terminal(self, broker, columns, *arguments, **kwargs):
        """What it prints to a terminal of so many columns."""
        try:
            controller, terminal = pty.openpty()
        except OSError as error:
            self.skipTest(str(error))
        termios.tcsetwinsize(terminal, (24, columns))
        attributes = termios.tcgetattr(terminal)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        try:
            self.speadm(*arguments, socket=broker.path, stdout=terminal, **kwargs)
            output = b""
            while select.select([controller], [], [], 0)[0]:
                output += os.read(controller, 65536)
            return output.decode()
        finally:
            os.close(controller)
            os.close(terminal)

    def spawn(self, *arguments, socket, **kwargs):
        """Starts it; whatever becomes of the test, it is not left behind."""
        process = subprocess.Popen(self.command(*arguments, socket=socket), bufsize=0, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.environment(), **kwargs)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def line(self, stream):
        """The next line of a raw file, within the deadline."""
        deadline = time.monotonic() + DEADLINE
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stream], [], [], max(deadline - time.monotonic(), 0))
            self.assertTrue(ready, f"no whole line within {DEADLINE} s, but {line}")
            byte = os.read(stream if isinstance(stream, int) else stream.fileno(), 1)
            self.assertTrue(byte, f"the end of the file after {line}")
            line += byte
        return line.decode()

    def finish(self, process, expect=DONE):
        """Waits for its end; what else it printed."""
        out, errors = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, expect, errors)
        return out.decode(), errors.decode()

    def fifo(self):
        """A FIFO for another process to write a line to: its path, and a descriptor to read that from."""
        path = self.directory() / "fifo"
        os.mkfifo(path)
        descriptor = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        return path, descriptor

    def sentence(self, result):
        """All that it said: one sentence on stderr, after the program's name. For a wrong command line, a second
        line says where help is."""
        self.assertEqual(result.out, "", result)
        lines = result.err.splitlines()
        if result.code == USAGE and len(lines) == 2:
            self.assertEqual(lines.pop(), HINT, result)
        self.assertEqual(len(lines), 1, result)
        self.assertTrue(lines[0].startswith("speadm: "), result)
        return lines[0].removeprefix("speadm: ")

    def fake(self, check=True, **script):
        fake = Fake(self.directory() / "socket", script, check)
        self.addCleanup(fake.close)
        return fake

    def golden(self, name, text):
        path = HERE / "golden" / name
        if UPDATE:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.assertEqual(text, path.read_text(), name)


def main(needs_broker=False):
    if not SPEADM or not os.access(SPEADM, os.X_OK):
        print("SPEADM names no program")
        sys.exit(77)
    if needs_broker:
        harness.main()
    unittest.main(verbosity=2)
