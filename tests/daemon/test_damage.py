# SPDX-License-Identifier: LGPL-2.1-or-later
"""State files damaged at every byte: as many leases as a file has bytes, each with another byte of it damaged, and one
restart. Each lease is as it was, or its file is set aside, and told; the others do not care."""

import os
import re

import harness
import lease_file

ROOMY = """[Limits]
MaxLeases=16384
MaxLeasesPerUser=16384
"""
SPARE = 16  # leases whose files nobody touches
OF_SIZE = 8  # bytes: the text grows by no more when a number in it does
TOLD = re.compile(r"spe-broker: /run/spe-broker/leases/([0-9a-f]{32}): (.+); the lease does not count, "
                  r"the file is now called \1\.bad\n")


def flip(text, i):
    return text[:i] + bytes([text[i] ^ 1 << i % 8]) + text[i + 1:]


def digit(text, i):
    """The next digit; what is none becomes one."""
    return text[:i] + (b"%d" % ((text[i] - ord("0") + 1) % 10)) + text[i + 1:]


def cut(text, i):
    return text[:i]


def drop(text, i):
    return text[:i] + text[i + 1:]


def insert(text, i):
    return text[:i] + b'"' + text[i:]


def end(text, i):
    """As a file whose last blocks were never written."""
    return text[:i] + bytes(len(text) - i)


class DamageTest(harness.TestCase):
    def leases(self, broker):
        return {lease["leaseId"]: lease for lease in broker.call("ListLeases")["leases"]}

    def acquire(self, broker, client, i):
        request = {"vm": f"vm-{i:05}", "vcpus": 1, "bufferSize": 4096, "cpus": "0-3", "requestId": f"{i:05}"}
        return client.call("Acquire", request=request)["lease"]["leaseId"]

    def damage(self, broker, how):
        """Damages the n-th of the files at its n-th byte; {id: text}"""
        texts = {}
        for i, (lease_id, path) in enumerate(sorted(lease_file.paths(broker.root).items())):
            text = path.read_bytes()
            if i < len(text):
                texts[lease_id] = how(text, i)
                path.write_bytes(texts[lease_id])
        return texts

    def check(self, broker, before, texts):
        """What is listed is what was; the rest is set aside, with a reason."""
        after, told = self.leases(broker), dict(TOLD.findall(broker.read_log()))
        self.assertEqual({i: before[i] for i in after}, after)
        lost = set(before) - set(after)
        self.assertEqual(set(told), lost)
        self.assertLessEqual(lost, set(texts))
        directory = broker.root / lease_file.DIRECTORY
        self.assertEqual(set(os.listdir(directory)), set(after) | {f"{i}.bad" for i in lost})
        for lease_id in lost:
            self.assertEqual((directory / f"{lease_id}.bad").read_bytes(), texts[lease_id], lease_id)
        host = broker.call("Describe")["host"]
        self.assertEqual(host["charge"], sum(lease["charge"] for lease in after.values()))
        self.assertEqual(host["counts"]["leases"], len(after))
        return lost, after

    def run_damage(self, how, least_lost):
        broker = self.broker(simulate="biglittle", config=ROOMY)
        with broker.connect() as client:
            first = self.acquire(broker, client, 0)
            size = lease_file.paths(broker.root)[first].stat().st_size
            for i in range(1, size + OF_SIZE + SPARE):
                self.acquire(broker, client, i)
        before = self.leases(broker)
        broker.kill()
        texts = self.damage(broker, how)
        broker.start()
        lost, after = self.check(broker, before, texts)
        self.assertGreaterEqual(len(lost), least_lost(size))

        # What is left can be used as ever, and what is lost comes back when it is asked for.
        with broker.connect() as client:
            for lease_id in after:
                client.call("Release", leaseId=lease_id)
            client.call("Release", leaseId=self.acquire(broker, client, 0))
        self.assert_idle(broker)
        self.assertEqual(lease_file.paths(broker.root), {})

    def test_flip(self):
        self.run_damage(flip, lambda size: size // 2)

    def test_digit(self):
        self.run_damage(digit, lambda size: size // 2)

    def test_cut(self):
        """Without its newline it still says all."""
        self.run_damage(cut, lambda size: size - 1)

    def test_drop(self):
        self.run_damage(drop, lambda size: size // 2)

    def test_insert(self):
        self.run_damage(insert, lambda size: size // 2)

    def test_end(self):
        self.run_damage(end, lambda size: size)


class AssignmentsTest(harness.TestCase):
    """A digit of a list of CPUs makes another good one: what says so is not believed."""

    def test_digit(self):
        for runtime, name in ((False, "var/lib/spe-broker/assignments.json"),
                              (True, "run/spe-broker/assignments.json")):
            with self.subTest(name):
                broker = self.broker(simulate="biglittle")
                broker.call(harness.ADMIN + "Assign", {"cpus": "0-2", "owner": "host", "runtime": runtime})
                broker.kill()
                path = broker.root / name
                text = path.read_bytes()
                path.write_bytes(text.replace(b"0-2", b"0-3"))
                broker.start()
                self.assertEqual(broker.instance("arm_spe_0")["assignments"], [])
                self.assertIn(f"/{name}: damaged: its sum is another; its assignments do not count, "
                              f"it is now /{name}.bad\n", broker.read_log())

                # As it was, and as a version wrote it that knew no sums.
                for good in (text, text[:text.index(b',"sum"')] + b"}\n"):
                    broker.kill()
                    path.write_bytes(good)
                    broker.start()
                    self.assertEqual([a["cpus"] for a in broker.instance("arm_spe_0")["assignments"]], ["0-2"])


if __name__ == "__main__":
    harness.main()
