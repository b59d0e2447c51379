# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the examples of the manual pages, as people see them, and of the README, on a simulated host. (Those of
speadm(1) are run by tests/cli/test_man.py.) The pieces of C in docs/VMM.md are one program.

A literal block whose first line begins with "$ " is a session: a command after each "$ ", then what it prints,
where "..." stands for anything. A command without output shown must only succeed. Literal blocks with a main()
are programs: they are compiled and run."""

import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["SPE_SOURCE_DIR"])
PAGES = pathlib.Path(os.environ["SPE_MAN_DIR"])
LIBRARY = os.environ["SPE_LIBRARY_DIR"]
SANITIZE = os.environ.get("SPE_SANITIZE", "")
sys.path.insert(0, str(SOURCE / "tests/daemon"))

import harness  # noqa: E402

SOCKET = "/run/spe-broker/io.spebroker.Broker"


def blocks_of_page(path):
    """The literal blocks of a page, from its roff: what scdoc put between .nf and .fi."""
    text = pathlib.Path(path).read_text()
    for block in re.findall(r"^\.nf\n(.*?)^\.fi$", text, flags=re.M | re.S):
        lines = [line for line in block.splitlines() if not line.startswith(".RS") and not line.startswith(".RE")]
        lines = [line.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\") for line in lines]
        yield re.sub(r"\\\((\w\w)", lambda m: {"dq": '"', "aq": "'", "ti": "~", "ha": "^"}[m.group(1)],
                     "\n".join(lines))


def blocks_of_markdown(path):
    yield from re.findall(r"^```console\n(.*?)^```$", path.read_text(), flags=re.M | re.S)


def program_of_markdown(path):
    """The pieces of C, which are one program."""
    return "".join(re.findall(r"^```c\n(.*?)^```$", path.read_text(), flags=re.M | re.S))


def parse_session(block):
    """[(command, expected output)]; a here-document belongs to its command."""
    found, lines = [], block.rstrip("\n").split("\n")
    while lines:
        line = lines.pop(0)
        if not line.startswith("$ "):
            found[-1][1].append(line)
            continue
        command = line[2:]
        here = re.search(r"<<'?(\w+)'?", command)
        while lines and (command.endswith("\\") or (here and not command.endswith("\n" + here.group(1)))):
            command += "\n" + lines.pop(0)
        found.append((command, []))
    return [(command, "\n".join(expected)) for command, expected in found]


def matches(expected, got):
    pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*").replace("…", ".*")
    pattern = re.sub(r"(\\ )+", r" +", pattern)
    return re.fullmatch(pattern, got.strip(), flags=re.S) is not None


class Examples(harness.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spe-"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.daemon = self.broker(simulate="biglittle")
        self.children = []
        self.addCleanup(self.stop_children)
        bin_dir = self.work / "bin"
        bin_dir.mkdir()
        self.wrapper(bin_dir / "speadm", os.environ["SPEADM"], ["--socket", str(self.daemon.socket_path)])
        os.symlink(os.environ["SPE_BROKER"], bin_dir / "spe-broker")
        self.env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "HOME": str(self.work)}

    def wrapper(self, path, program, arguments):
        """A program as it is called on a host where the broker runs at its usual place."""
        words = " ".join(f"'{word}'" for word in [program, *arguments])
        path.write_text(f'#!/bin/sh\ncase "$*" in *--socket*) exec \'{program}\' "$@" ;; esac\nexec {words} "$@"\n')
        path.chmod(0o755)

    def stop_children(self):
        for child in self.children:
            child.terminate()
            child.wait(harness.DEADLINE)
            child.stdout.close()

    def run_command(self, command, expected):
        if not shutil.which(command.split()[0], path=self.env["PATH"]):
            print(f"    not here: {command.split()[0]}")
            return False
        command = re.sub(rf"(?<![\w.-]){SOCKET}", str(self.daemon.socket_path), command)
        if command.startswith("spe-broker "):
            self.start_in_background(command)
            return True
        done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, cwd=self.work, env=self.env, check=False,
                              timeout=harness.DEADLINE)
        text = f"{command}\nexit status {done.returncode}, printed:\n{done.stdout}"
        if expected:
            printed = re.sub("speadm: RLIMIT_MEMLOCK is left .*\n", "", done.stdout)  # that depends on who runs it
            self.assertTrue(matches(expected, printed), f"{text}\nexpected:\n{expected}")
        else:
            self.assertEqual(done.returncode, 0, text)
        return True

    def start_in_background(self, command):
        """A daemon of the example's own: it is up once it says so."""
        path = self.work / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            child = subprocess.Popen(["sh", "-c", "exec " + command], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.work,
                                     env={**self.env, "NOTIFY_SOCKET": str(path)})
            self.children.append(child)
            pidfd = os.pidfd_open(child.pid)
            try:
                message = b""
                while b"READY=1" not in message:
                    ready, _, _ = select.select([notify, pidfd], [], [], harness.DEADLINE)
                    self.assertTrue(ready, f"{command}: not ready in time")
                    self.assertIn(notify, ready, f"{command}: has ended")
                    message = notify.recv(4096)
            finally:
                os.close(pidfd)
        path.unlink()

    def run_program(self, block):
        source, program = self.work / "example.c", self.work / "example"
        source.write_text(block)
        subprocess.run(["cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/include", str(source),
                        *([f"-fsanitize={SANITIZE}"] if SANITIZE else []), "-o", str(program), f"-L{LIBRARY}", f"-Wl,-rpath,{LIBRARY}", "-lspebroker"], check=True)
        done = subprocess.run([str(program), str(self.daemon.socket_path)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              timeout=harness.DEADLINE)
        self.assertEqual(done.returncode, 0, f"{block}\nprinted:\n{done.stdout}")

    def run_blocks(self, blocks):
        """How many commands and programs ran."""
        n = 0
        for block in blocks:
            if block.startswith("$ "):
                n += sum(self.run_command(*step) for step in parse_session(block))
            elif re.search(r"^int main\(", block, flags=re.M):
                self.run_program(block)
                n += 1
        return n

    def test_pages(self):
        for name, at_least in (("spe-broker.8", 2), ("io.spebroker.Broker.7", 1), ("libspebroker.3", 1)):
            with self.subTest(name):
                self.assertGreaterEqual(self.run_blocks(blocks_of_page(PAGES / name)), at_least)

    def test_readme(self):
        blocks = list(blocks_of_markdown(SOURCE / "README.md"))
        self.assertGreaterEqual(self.run_blocks(blocks), 1)

    def test_afternoon(self):
        """What docs/VMM.md puts together piece by piece."""
        self.run_program(program_of_markdown(SOURCE / "docs/VMM.md"))
        self.assertEqual(self.daemon.call("ListLeases")["leases"], [])

    def test_configuration(self):
        """The example of spe-broker.conf(5) is taken, and does what it says."""
        (block,) = [b for b in blocks_of_page(PAGES / "spe-broker.conf.5") if b.startswith("[")]
        daemon = self.broker(simulate="biglittle", config=block + "\n")
        self.assertNotIn("warning", daemon.read_log().lower())
        instance = {i["name"]: i for i in daemon.call("ListInstances")["instances"]}
        owners = {a["cpus"]: (a["owner"], a.get("vm")) for i in instance.values() for a in i["assignments"]}
        self.assertEqual(owners, {"0-3": ("host", None), "4-7": ("guest", "web1")})

    def test_the_runner_notices(self):
        with self.assertRaises(AssertionError):
            self.run_command("speadm nonesuch", "")
        with self.assertRaises(AssertionError):
            self.run_command("echo one", "two")
        self.assertTrue(self.run_command("echo one 2 three", "one ... three"))


if __name__ == "__main__":
    harness.main()
