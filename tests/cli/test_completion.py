# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bash offers after a part of a command line."""

import os
import pathlib
import shutil
import subprocess
import sys

import cli
import fake

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "speadm/completion.bash"


class TestCompletion(cli.TestCase):
    def complete(self, *words):
        """What is offered for the last of the words, which may be empty."""
        script = ('. "$1"; shift; COMP_WORDS=(speadm "$@"); COMP_CWORD=$#; _speadm;'
                  ' printf "%s\\n" "${COMPREPLY[@]}"')
        environment = self.environment()
        environment["PATH"] = f"{os.path.dirname(cli.SPEADM)}:{environment['PATH']}"
        done = subprocess.run(["bash", "-c", script, "bash", str(SCRIPT), *map(str, words)], env=environment,
                              capture_output=True, timeout=cli.DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().split()

    def test_verbs(self):
        self.assertEqual(self.complete("r"), ["refusals", "release", "revoke", "run", "rescan", "reload"])
        self.assertEqual(self.complete("-j", "st"), ["status"])
        self.assertEqual(len(self.complete("")), 16)

    def test_options(self):
        self.assertEqual(self.complete("--n"), ["--no-legend"])
        self.assertEqual(self.complete("revoke", "--k"), ["--kill"])
        self.assertEqual(self.complete("list", "--k"), [])

    def test_words(self):
        self.assertEqual(self.complete("assign", ""), ["host", "guest", "any", "none"])
        self.assertEqual(self.complete("query", "--mode", "s"), ["shared"])
        self.assertEqual(self.complete("check", "--require", "e"), ["enforce"])
        self.assertEqual(self.complete("query", "--vm", ""), [])

    def test_what_there_is(self):
        broker = self.fake(ListInstances={"instances": [fake.instance(), fake.instance("arm_spe_1")]},
                           ListLeases={"leases": [fake.lease()]})
        self.assertEqual(self.complete("--socket", broker.path, "drain", "--instance", ""), ["arm_spe_0", "arm_spe_1"])
        self.assertEqual(self.complete("--socket", broker.path, "revoke", "01"), ["0123456789ab"])
        self.assertEqual(self.complete("--socket", "/nonexistent", "revoke", ""), [])


if __name__ == "__main__":
    if not shutil.which("bash"):
        print("there is no bash")
        sys.exit(77)
    cli.main()
