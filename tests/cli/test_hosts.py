# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm check on the fixture hosts of tests/daemon/hosts.py: what the operator of each of them reads, whole, as a
file in golden/hosts/; SPE_GOLDEN_UPDATE=1 writes those of new hosts too. Hosts that differ in one thing differ in few
lines: that is what to look at."""

import json

import cli
from cli import DONE, FAILED, HOST_CANNOT
from hosts import HOSTS

DIRECTORY = cli.HERE / "golden/hosts"
# Those whose JSON is held to a file too: one of each kind of failure, and one that works.
JSON = ["acpi-not-homogeneous", "acpi-silent", "altra-kpti", "big-little-one-missing", "device-tree-disabled",
        "graviton2", "half-registered", "kvm-protected", "log-hostile", "lsm-debian", "lsm-fedora", "lsm-ubuntu",
        "module-not-loaded", "module-not-built", "probe-higher-level", "probe-no-interrupt", "probe-spi",
        "vm-without-spe"]


def status(checks):
    """How it is to exit, told from the list as a program would."""
    for check in checks:
        if check["status"] == "failed":
            return FAILED if check["advice"] else HOST_CANNOT
    return DONE


class TestHosts(cli.TestCase):
    def one(self, name):
        broker = self.broker(tree=HOSTS[name])
        checks = broker.call("CheckHost")["checks"]
        expected = status(checks)
        text = self.speadm("check", socket=broker.socket_path, expect=expected)
        self.assertEqual(text.err, "")
        self.golden(f"hosts/{name}.txt", f"$ speadm check\n{text.out}$ echo $?\n{expected}\n")

        if name in JSON:
            printed = self.speadm("check", "--json", socket=broker.socket_path, expect=expected).out
            self.assertEqual(json.loads(printed), checks)
            self.golden(f"hosts/{name}.json", printed)
        return expected

    def test_hosts(self):
        names = HOSTS if cli.UPDATE else [path.stem for path in DIRECTORY.glob("*.txt")]
        self.assertGreaterEqual(len(names), 50)
        statuses = set()
        for name in sorted(names):
            with self.subTest(name):
                statuses.add(self.one(name))
        self.assertEqual(statuses, {DONE, FAILED, HOST_CANNOT})

    def test_json(self):
        self.assertEqual({path.stem for path in DIRECTORY.glob("*.json")}, set(JSON))


if __name__ == "__main__":
    cli.main(needs_broker=True)
