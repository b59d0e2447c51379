# SPDX-License-Identifier: LGPL-2.1-or-later
"""Assignments on their way into a file: a call that fails has changed nothing, now or after a restart, and a daemon that
dies on the way has changed all of it or nothing. Members that another build has written stay."""

import json

import faults
import harness
from wire import VarlinkError

ASSIGN, UNASSIGN = harness.ADMIN + "Assign", harness.ADMIN + "Unassign"
FILES = {False: "var/lib/spe-broker/assignments.json", True: "run/spe-broker/assignments.json"}
# The steps of a file that is written. The text of the last is the directory's alone: nothing else there is synced.
STEPS = [
    ("openat", "/.assignments.json.", "ENOSPC"),
    ("write", "/.assignments.json.", "ENOSPC"),
    ("fchmod", "/.assignments.json.", "EROFS"),
    ("fsync", "/.assignments.json.", "EIO"),
    ("renameat", "/.assignments.json.", "EIO"),
    ("fsync", "spe-broker", "EIO"),
]
BEFORE = {"cpus": "0-1", "owner": "guest", "vm": "web"}
AFTER = {"cpus": "1-2", "owner": "host"}


class TestCase(harness.TestCase):
    def assigned(self, broker):
        """{cpus: (owner, vm, origin)}"""
        return {a["cpus"]: (a["owner"], a["vm"], a["origin"]) for i in broker.call("ListInstances")["instances"]
                for a in i["assignments"]}

    def make(self, runtime):
        broker = self.new_broker()
        injected = faults.Faults(broker)
        broker.start()
        broker.call(ASSIGN, BEFORE | {"runtime": runtime})
        return broker, injected

    def expected(self, runtime, after):
        origin = "runtime" if runtime else "persistent"
        if after:
            return {"0": ("guest", "web", origin), "1-2": ("host", None, origin)}
        return {"0-1": ("guest", "web", origin)}

    def leftovers(self, broker, runtime):
        return [p.name for p in (broker.root / FILES[runtime]).parent.iterdir() if "assignments" in p.name]

    def crash(self, broker):
        broker.kill()
        broker.start()
        self.assertNotIn("do not count", broker.read_log())


class FailureTest(TestCase):
    def check(self, runtime, method, parameters):
        broker, injected = self.make(runtime)
        for call, text, error in STEPS:
            which = 2 if (call, text) == ("fsync", "spe-broker") else 1  # the first is the file's own
            with self.subTest(call=call, text=text, runtime=runtime), injected.injected(
                    f"{call}:{text}:{which}:{error}"):
                with self.assertRaises(VarlinkError) as caught:
                    broker.call(method, parameters)
                self.assertEqual(caught.exception.parameters, {"errno": faults.number(error)})
            self.assertEqual(self.assigned(broker), self.expected(runtime, False))
            self.crash(broker)
            self.assertEqual(self.assigned(broker), self.expected(runtime, False), f"{call} {text}")
            self.assertEqual(self.leftovers(broker, runtime), ["assignments.json"])

        broker.call(ASSIGN, AFTER | {"runtime": runtime})
        self.crash(broker)
        self.assertEqual(self.assigned(broker), self.expected(runtime, True))

    def test_assign(self):
        self.check(False, ASSIGN, AFTER)

    def test_assign_runtime(self):
        self.check(True, ASSIGN, AFTER | {"runtime": True})

    def test_unassign(self):
        self.check(False, UNASSIGN, {"cpus": "0-1"})


class DeathTest(TestCase):
    def die(self, runtime, call, text, way):
        """Whether it is as it was to be after a death at this step."""
        broker, injected = self.make(runtime)
        injected.set(f"{call}:{text}:1:{way}")
        with broker.connect() as client:
            client.send(ASSIGN, AFTER | {"runtime": runtime})
            injected.killed()
        broker.start()
        self.assertNotIn("do not count", broker.read_log())
        found = self.assigned(broker)
        self.assertIn(found, [self.expected(runtime, after) for after in (False, True)])
        self.assertEqual(self.leftovers(broker, runtime), ["assignments.json"])
        return found == self.expected(runtime, True)

    def test_deaths(self):
        renamed = False
        for call, text, _ in STEPS[:-1]:
            for way in ("kill-before", "kill-after"):
                renamed = renamed or (call, way) == ("renameat", "kill-after")
                with self.subTest(call=call, way=way):
                    self.assertEqual(self.die(False, call, text, way), renamed)

    def test_torn(self):
        self.assertFalse(self.die(True, "write", "/.assignments.json.", "torn"))


class UnknownTest(TestCase):
    def test_members(self):
        for runtime, name in FILES.items():
            broker, _ = self.make(runtime)
            path = broker.root / name
            text = json.loads(path.read_bytes())
            text["later"] = {"a": [1, None]}
            text["assignments"][0]["why"] = "audit"
            path.write_text(json.dumps(text, indent=1))
            self.crash(broker)
            broker.call(ASSIGN, {"cpus": "3", "owner": "none", "runtime": runtime})
            self.crash(broker)
            now = json.loads(path.read_bytes())
            self.assertEqual((now["later"], now["assignments"][0]), (text["later"], text["assignments"][0]))
            self.assertEqual(len(now["assignments"]), 2)


if __name__ == "__main__":
    harness.main()
