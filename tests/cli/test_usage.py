# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: help, and every way to get it wrong. None of this needs a broker, or asks one."""

import cli
from cli import NO_BROKER, USAGE

VERBS = ["list", "leases", "sessions", "refusals", "status", "check", "query", "assign", "unassign", "drain", "release",
         "revoke", "run", "monitor", "rescan", "reload"]


class TestHelp(cli.TestCase):
    def test_program(self):
        result = self.speadm("--help")
        self.golden("help.txt", result.out)
        self.assertEqual(self.speadm("-h").out, result.out)
        self.assertEqual(result.err, "")

    def test_verbs(self):
        text = ""
        for verb in VERBS:
            result = self.speadm(verb, "--help")
            self.assertEqual(self.speadm(verb, "-h").out, result.out)
            text += f"$ speadm {verb} --help\n{result.out}\n"
        self.golden("help-verbs.txt", text)

    def test_version(self):
        self.assertRegex(self.speadm("--version").out, r"\Aspeadm [0-9]+\.[0-9]+\.[0-9]+\n\Z")

    def test_completion(self):
        self.assertEqual(self.speadm("--list-verbs").out.split(), VERBS)
        self.assertEqual(set(self.speadm("revoke", "--list-options").out.split()),
                         {"--grace", "--reason", "--kill", "--socket", "--json", "--no-legend", "--help"})

    def test_help_asks_nobody(self):
        self.speadm("list", "--help", socket="/nonexistent")


class TestWrong(cli.TestCase):
    # (command line, what the sentence says)
    WRONG = [
        ("lst", "there is no verb 'lst'; did you mean 'list'?"),
        ("relaod", "did you mean 'reload'?"),
        ("asign host", "did you mean 'assign'?"),
        ("leses", "did you mean 'leases'?"),
        ("zebra", "there is no verb 'zebra'"),
        ("a", "there is no verb 'a'"),
        ("x" * 100, "there is no verb"),
        ("--bogus", "there is no option '--bogus' here"),
        ("-x", "there is no option '-x' here"),
        ("list --vm web", "there is no option '--vm' here"),
        ("leases --vm", "option '--vm' takes an argument"),
        ("list --json=yes", "option '--json=yes' takes no argument"),
        ("list arm_spe_0", "'arm_spe_0' is too much: speadm list"),
        ("release", "something is missing: speadm release LEASE"),
        ("assign", "something is missing: speadm assign host|guest|any|none"),
        ("run --vcpus 1", "something is missing: speadm run"),
        ("query", "--vcpus N is needed"),
        ("run -- true", "--vcpus N is needed"),
        ("query --vcpus 0", "--vcpus takes a number above 0, not '0'"),
        ("query --vcpus two", "--vcpus takes a number above 0, not 'two'"),
        ("query --vcpus -1", "--vcpus takes a number above 0, not '-1'"),
        ("query --vcpus 99999999999999999999", "--vcpus takes a number above 0"),
        ("query --vcpus 1 --cpus 3-1", "--cpus takes a list of CPUs such as 0-3,8, not '3-1'"),
        ("query --vcpus 1 --cpus 4096", "--cpus: CPUs are numbered below 4096, not as in '4096'"),
        ("query --vcpus 1 --cpus=", "--cpus takes a list of CPUs such as 0-3,8, not ''"),
        ("query --vcpus 1 --vm=", "--vm takes no empty NAME"),
        ("query --vcpus 1 --buffer 4X", "--buffer takes a size such as 512K or 4M, not '4X'"),
        ("query --vcpus 1 --buffer 0", "--buffer takes a size such as 512K or 4M, not '0'"),
        ("query --vcpus 1 --mode greedy", "--mode is exclusive, guest or shared, not 'greedy'"),
        ("query --vcpus 1 --pid self", "--pid takes a number above 0, not 'self'"),
        ("run --vcpus 1 --wait soon -- true", "--wait takes a time such as 250ms, 30s or '1h 30m', not 'soon'"),
        ("check --require", "option '--require' takes an argument"),
        ("check --require most", "--require is enforce, reserve, observe or none, not 'most'"),
        ("check --require ENFORCE", "--require is enforce, reserve, observe or none, not 'ENFORCE'"),
        ("check --require=", "--require is enforce, reserve, observe or none, not ''"),
        ("check cpu", "'cpu' is too much: speadm check"),
        ("status --require none", "there is no option '--require' here"),
        ("refusals --limit 0", "--limit takes a number above 0, not '0'"),
        ("assign king --cpus 0", "CPUs are assigned to host, guest, any or none, not to 'king'"),
        ("assign host", "which CPUs? Give --cpus LIST, --instance NAME, or both"),
        ("unassign", "which CPUs?"),
        ("drain", "which CPUs?"),
        ("assign host --cpus 0 --vm web", "--vm goes with guest and any: host leaves no VM anything"),
        ("assign none --cpus 0 --vm web", "--vm goes with guest and any: none leaves no VM anything"),
        ("assign guest --cpus 0 --for never", "--for takes a time"),
        ("drain --cpus 0 --vm web", "there is no option '--vm' here"),
        ("release XYZ", "a lease's id has 32 lowercase hexadecimal digits, or the first of them: 'XYZ' is none"),
        ("release " + "a" * 33, "a lease's id has 32"),
        ("revoke abc --grace x", "--grace takes a time"),
        ("revoke abc --kill=now", "option '--kill=now' takes no argument"),
    ]

    def test_wrong(self):
        for line, expected in self.WRONG:
            with self.subTest(line):
                result = self.speadm(*line.split(), socket="/nonexistent", expect=USAGE)
                sentence = self.sentence(result)
                self.assertIn(expected, sentence)
                self.assertEqual("did you mean" in sentence, "did you mean" in expected, sentence)

    def test_not_utf8(self):
        """The wire has no word for it: it would reach the broker as another VM's name."""
        result = self.speadm("query", "--vcpus", "1", "--vm", "web\udcff", socket="/nonexistent", expect=USAGE)
        self.assertIn("--vm takes UTF-8 text", self.sentence(result))
        self.speadm("query", "--vcpus", "1", "--vm", "w\u00e9b", socket="/nonexistent", expect=NO_BROKER)

    def test_empty_words(self):
        self.assertIn("there is no verb ''", self.sentence(self.speadm("", expect=USAGE)))
        result = self.speadm("release", "", socket="/nonexistent", expect=USAGE)
        self.assertIn("a lease's id has", self.sentence(result))
        self.assertIn("--socket takes no empty PATH", self.sentence(self.speadm("--socket=", "list", expect=USAGE)))


if __name__ == "__main__":
    cli.main()
