# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm(1): it knows every verb and option, and its examples work as they stand there."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

import cli

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "man/speadm.1.scd").read_text()


def examples():
    section = PAGE.partition("\n# EXAMPLES\n")[2].partition("\n# ")[0]
    return re.findall(r"(?m)^\$ (.*)$", section)


class TestPage(cli.TestCase):
    def test_verbs_and_options(self):
        for verb in self.speadm("--list-verbs").out.split():
            self.assertRegex(PAGE, rf"(?m)^\*{verb}\*")
            for option in self.speadm(verb, "--list-options").out.split():
                self.assertIn(f"*{option}*", PAGE, verb)

    def test_nothing_else(self):
        """No option that there is not."""
        known = {"--version"} | {option for verb in self.speadm("--list-verbs").out.split()
                                 for option in self.speadm(verb, "--list-options").out.split()}
        self.assertEqual(set(re.findall(r"\*(--[a-z-]+)\*", PAGE)) - known, set())

    def test_exit_status(self):
        section = PAGE.partition("\n# EXIT STATUS\n")[2].partition("\n# ")[0]
        self.assertEqual([int(n) for n in re.findall(r"(?m)^\*([0-9]+)\*$", section)],
                         [cli.DONE, cli.FAILED, cli.USAGE, cli.REFUSED, cli.NO_BROKER, cli.HOST_CANNOT])


@unittest.skipUnless(os.access(cli.harness.PROGRAM, os.X_OK) and os.geteuid() == 0, "needs spe-broker, and root")
class TestExamples(cli.TestCase):
    def test_examples(self):
        """In the order of the page, in one shell: each is done, and leaves nothing in the way of the next."""
        broker = self.broker(simulate="biglittle")
        wrapper = self.directory() / "speadm"
        wrapper.write_text('#!/bin/sh\nexec "$SPEADM" --socket "$SOCKET" "$@"\n')
        wrapper.chmod(0o755)
        environment = self.environment(SPEADM=cli.SPEADM, SOCKET=str(broker.socket_path))
        environment["PATH"] = f"{wrapper.parent}:{environment['PATH']}"
        self.assertGreater(len(examples()), 8)
        for line in examples():
            if "jq" in line and not shutil.which("jq"):
                continue
            with self.subTest(line):
                done = subprocess.run(["bash", "-o", "pipefail", "-c", line], env=environment, capture_output=True,
                                      timeout=cli.DEADLINE)
                self.assertEqual(done.returncode, 0, done.stderr.decode())


if __name__ == "__main__":
    cli.main()
