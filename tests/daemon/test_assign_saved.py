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


class BothTest(TestCase):
    """An Unassign takes CPUs from two files: from both, or from none."""
    OVER = {"cpus": "1-2", "owner": "none", "runtime": True}  # than what BEFORE says of CPU 1

    def make_both(self):
        broker, injected = self.make(False)
        broker.call(ASSIGN, self.OVER)
        return broker, injected

    def told(self, broker, *, after):
        """What decides: runtime ones where there are some."""
        self.assertEqual(self.assigned(broker), {"0": ("guest", "web", "persistent"),
                                                 "2" if after else "1-2": ("none", None, "runtime")})

    def underneath(self, broker, *, after):
        """And the persistent ones, without the others. It is another boot, then."""
        broker.kill()
        path = broker.root / FILES[True]
        saved = path.read_bytes()
        path.unlink()
        broker.start()
        self.assertEqual(self.assigned(broker), {"0" if after else "0-1": ("guest", "web", "persistent")})
        broker.kill()
        path.write_bytes(saved)
        broker.start()
        self.told(broker, after=after)

    @staticmethod
    def rules(ways):
        """(rule, which of the two files it is about, call, way)"""
        for n in (1, 2):
            for call, text, error in STEPS:
                which = 2 * n if (call, text) == ("fsync", "spe-broker") else n  # each file, then its directory
                yield from ((f"{call}:{text}:{which}:{way or error}", n, call, way) for way in ways)

    def test_deaths(self):
        done = False
        for rule, n, call, way in self.rules(("kill-before", "kill-after")):
            done = done or (call, way) == ("renameat", "kill-after")
            with self.subTest(rule=rule):
                broker, injected = self.make_both()
                injected.set(rule)
                with broker.connect() as client:
                    client.send(UNASSIGN, {"cpus": "1"})
                    injected.killed()
                broker.start()
                self.assertNotIn("do not count", broker.read_log())
                self.told(broker, after=done)
                self.underneath(broker, after=done)
                for runtime in FILES:
                    self.assertEqual(self.leftovers(broker, runtime), ["assignments.json"])
                # What is left of it is in nobody's way.
                broker.call(ASSIGN, self.OVER)
                self.crash(broker)
                self.assertEqual(self.assigned(broker)["1-2"], ("none", None, "runtime"))
                broker.kill()
        self.assertTrue(done)

    def test_torn(self):
        for n in (1, 2):
            broker, injected = self.make_both()
            injected.set(f"write:/.assignments.json.:{n}:torn")
            with broker.connect() as client:
                client.send(UNASSIGN, {"cpus": "1"})
                injected.killed()
            broker.start()
            self.told(broker, after=n == 2)
            self.underneath(broker, after=n == 2)

    def test_failures(self):
        """Of the first file: nothing has happened. Of the second: that says nothing new."""
        for rule, n, *_ in self.rules((None,)):
            with self.subTest(rule=rule):
                broker, injected = self.make_both()
                with injected.injected(rule):
                    if n == 1:
                        with self.assertRaises(VarlinkError):
                            broker.call(UNASSIGN, {"cpus": "1"})
                        self.assertIn("assignments cannot be saved", broker.read_log())
                    else:
                        broker.call(UNASSIGN, {"cpus": "1"})
                self.told(broker, after=n == 2)
                self.crash(broker)
                self.told(broker, after=n == 2)
                self.underneath(broker, after=n == 2)
                broker.call(UNASSIGN, {"cpus": "0-2"})
                self.crash(broker)
                self.assertEqual(self.assigned(broker), {})
                broker.kill()

    def test_full(self):
        """No file of the one directory can be written, or none of the other."""
        for text, fails in (("var/lib/spe-broker", True), ("run/spe-broker/.assignments", False)):
            broker, injected = self.make_both()
            with injected.injected(f"openat:{text}:*:ENOSPC"):
                if fails:
                    with self.assertRaises(VarlinkError):
                        broker.call(UNASSIGN, {"cpus": "1"})
                else:
                    broker.call(UNASSIGN, {"cpus": "1"})
                    with self.assertRaises(VarlinkError):  # of one file alone
                        broker.call(UNASSIGN, {"cpus": "2"})
                self.told(broker, after=not fails)
            self.crash(broker)
            self.told(broker, after=not fails)


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
