# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad parameters: for every field of every method an unknown one, a wrong type, null and values out of range
are answered with InvalidParameter that names the innermost field. Generated from the interface
descriptions."""

import harness
import idl
from sizes import MIB
from wire import CATALOGUE

REQUEST = {"vm": "vm", "vcpus": 1}
GOOD = {  # a call of each method that is right in its types
    "Describe": {},
    "ListInstances": {},
    "ListLeases": {},
    "ListSessions": {},
    "CheckHost": {},
    "ListRefusals": {},
    "Query": {"request": REQUEST},
    "Acquire": {"request": REQUEST},
    "Follow": {"leaseId": "0"},
    "Update": {"leaseId": "0"},
    "Release": {"leaseId": "0"},
    "Watch": {},
    "Assign": {"cpus": "0", "owner": "none"},
    "Unassign": {"cpus": "0"},
    "Revoke": {"leaseId": "0"},
    "Reload": {},
    "Rescan": {},
}
WRONG = {
    "string": [5, True, [], {}, 1.5],
    "int": ["5", True, [], {}, 1.5, "x"],
    "bool": [1, 0, "true", [], {}],
    "enum": [5, True, [], {}, "no-such-word", ""],
    "struct": [5, "x", True, []],
}


def shape(kind):
    """(nullable, one of WRONG's keys, the type behind it)."""
    nullable = isinstance(kind, idl.Nullable)
    kind = kind.inner if nullable else kind
    if isinstance(kind, idl.Named) and kind.name in idl.BUILTIN:
        return nullable, kind.name, kind
    if isinstance(kind, idl.Named):
        kind = kind.interface.types[kind.name]
    return nullable, "enum" if isinstance(kind, idl.Enum) else "struct", kind


def mutations(struct, good):
    """Yields (parameters, the field that must be named) for one struct."""
    yield good | {"cgroup": "x"}, "cgroup"
    yield good | {"": 1}, ""
    yield good | {"x" * 1000: None}, "x" * 1000
    for name, kind in struct.fields.items():
        nullable, word, inner = shape(kind)
        for value in WRONG[word]:
            yield good | {name: value}, name
        if not nullable:
            yield good | {name: None}, name
            yield {k: v for k, v in good.items() if k != name}, name
        if word == "struct":
            for value, field in mutations(inner, good[name]):
                yield good | {name: value}, field


class TestTypes(harness.TestCase):
    def test_every_field(self):
        broker = self.broker()
        client = self.client(broker)
        checked = 0
        for interface in ("io.spebroker.Broker", "io.spebroker.Admin"):
            for method, (given, _) in CATALOGUE.interfaces[interface].methods.items():
                for parameters, field in mutations(given, GOOD[method]):
                    with self.subTest(method=method, parameters=str(parameters)[:200]):
                        client.send(method, parameters, more=method in ("Watch", "Follow"))
                        with self.assertRaises(harness.VarlinkError) as caught:
                            client.receive()
                        self.assertEqual(caught.exception.name, "org.varlink.service.InvalidParameter")
                        self.assertEqual(caught.exception.parameter, field)
                    checked += 1
        self.assertGreater(checked, 200)
        self.assert_idle(broker)

    def test_null_is_absent(self):
        broker = self.broker()
        client = self.client(broker)
        fields = CATALOGUE.interfaces["io.spebroker.Broker"].types["Request"].fields
        lease = client.call("Acquire", request={k: None for k in fields} | REQUEST, waitUSec=None)["lease"]
        self.assertEqual((lease["vm"], lease["bufferSize"], lease["mode"]), ("vm", 4 * MIB, "guest"))


class TestRanges(harness.TestCase):
    def test_request(self):
        broker = self.broker()
        client = self.client(broker)
        cases = {
            "vm": ["", "x" * 256, "a\tb", "\x7f"],
            "vcpus": [0, -1, 4097, 2**31, 2**32 + 1, 2**63 - 1, -(2**63)],
            "cpus": [
                "",
                " ",
                "0 ",
                " 0",
                "0-",
                "-1",
                "1-0",
                "0,,1",
                ",",
                "0,",
                "a",
                "0x1",
                "0-1/2",
                "0-31:2/4",
                "4096",
                "0-4096",
                "99999999999999999999",
                "0\n",
                "\u0660",
                "1" * 100000,
            ],
            "bufferSize": [-1, -4096, -(2**63)],
            "mode": ["Guest", "guest ", "host"],
            "pid": [0, -1, 2**31, 2**32 + 1, 2**63 - 1],
            "requestId": ["", "x" * 65, "é" * 33],
        }
        for field, values in cases.items():
            for value in values:
                for method in ("Query", "Acquire"):
                    with self.subTest(method=method, field=field, value=str(value)[:40]):
                        client.send(method, {"request": REQUEST | {field: value}})
                        with self.assertRaises(harness.VarlinkError) as caught:
                            client.receive()
                        name = caught.exception.name.rpartition(".")[2]
                        self.assertEqual(name, "InvalidParameter")
                        self.assertEqual(caught.exception.parameter, field)
        self.assert_idle(broker)

    def test_allowed_twins(self):
        broker = self.broker()
        client = self.client(broker)
        for fields in (
            {"vcpus": 1},
            {"vcpus": 4096, "bufferSize": 4096, "exact": False},
            {"cpus": "0"},
            {"cpus": "3,2,0-1,1"},
            {"requestId": "x" * 64},
            {"requestId": "é" * 32},
            {"vm": "x" * 255},
            {"bufferSize": 4096},
            {"bufferSize": 2**63 - 1},
            {"mode": "shared"},
        ):
            with self.subTest(str(fields)[:60]):
                decision = client.call("Query", request=REQUEST | fields)["decision"]
                errors = {r["error"].rpartition(".")[2] for r in decision["refusals"]}
                self.assertLessEqual(errors, {"LimitExceeded"} if fields.get("vcpus", 1) > 1 else set())

    def test_never_no_limit(self):
        """0 means 'no limit' to the hardware: it is never granted."""
        client = self.client(self.broker())
        for exact in (False, True):
            client.send("Acquire", {"request": REQUEST | {"bufferSize": 0, "exact": exact}})
            with self.assertRaises(harness.VarlinkError) as caught:
                client.receive()
            self.assertIn(
                caught.exception.name.rpartition(".")[2], ("InvalidParameter", "BufferSizeNotRepresentable")
            )

    def test_wait(self):
        client = self.client(self.broker())
        for value in (-1, -(2**63)):
            self.invalid("waitUSec", client, "Acquire", request=REQUEST, waitUSec=value)
        client.call("Acquire", request=REQUEST, waitUSec=2**63 - 1)

    def test_grace(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=REQUEST)["lease"]
        self.invalid("graceUSec", client, "Revoke", leaseId=lease["leaseId"], graceUSec=-1)
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        client.call("Revoke", leaseId=lease["leaseId"], graceUSec=2**63 - 1)
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "revoking")

    def test_reason(self):
        broker = self.broker()
        client = self.client(broker)
        lease = client.call("Acquire", request=REQUEST)["lease"]
        for reason in ("", "x" * 256, "one\nline", "\x1b[2J"):
            self.invalid("reason", client, "Revoke", leaseId=lease["leaseId"], reason=reason)
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")
        client.call("Revoke", leaseId=lease["leaseId"], reason="x" * 255)
        self.assertEqual(broker.lease(lease["leaseId"])["reason"], "x" * 255)


if __name__ == "__main__":
    harness.main()
