# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests' own interface checker: what it lets through, and that it can say no."""

import unittest

import idl
from wire import CATALOGUE

TEXT = """# comment
interface a.b
type E (x, y)
type T (
  # a field
  i: int,
  s: ?string,
  e: E,
  l: []T,
  m: [string]int
)
method M(t: ?T) -> (f: float, n: ?[](q: bool))
error Gone ()
"""


class TestChecker(unittest.TestCase):
    def setUp(self):
        self.catalogue = idl.Catalogue([TEXT])
        self.type = self.catalogue.interfaces["a.b"].types["T"]

    def test_accepts(self):
        good = {"i": 1, "e": "y", "l": [], "m": {"k": 5}}
        for value in (good, good | {"s": None}, good | {"s": "x", "l": [good]}):
            self.type.check(value, "T")
        self.catalogue.check_reply("a.b.M", {"f": 1.5, "n": [{"q": True}]})
        self.catalogue.check_error("a.b.Gone", {})

    def test_refuses(self):
        good = {"i": 1, "e": "y", "l": [], "m": {}}
        for name, value in (
            ("i", True),
            ("i", 1.0),
            ("i", 2**63),
            ("i", None),
            ("s", 5),
            ("e", "z"),
            ("e", 1),
            ("l", {}),
            ("l", [{}]),
            ("l", None),
            ("m", []),
            ("m", {"k": "v"}),
            ("new", 1),
        ):
            with self.subTest(f"{name}={value!r}"), self.assertRaises(idl.Mismatch):
                self.type.check(good | {name: value}, "T")
        with self.assertRaises(idl.Mismatch):
            self.type.check({k: v for k, v in good.items() if k != "i"}, "T")

    def test_refuses_errors(self):
        for name, parameters in (("a.b.Other", {}), ("c.d.Gone", {}), ("a.b.Gone", {"x": 1})):
            with self.subTest(name), self.assertRaises(idl.Mismatch):
                self.catalogue.check_error(name, parameters)

    def test_syntax(self):
        for bad in (
            "interface",
            "interface a.b type",
            "interface a.b type T (a: Missing)",
            "interface a.b type T (a",
            "interface a.b type T (a) type T (b)",
            "interface a.b method M() ()",
            "interface a.b thing X ()",
            "interface a.b type T (a, b: int)",
            "interface a.b type T (a: int, a: int)",
            "interface a.b ;",
        ):
            with self.subTest(bad), self.assertRaises(idl.SyntaxFault):
                idl.Interface(bad)

    def test_own_interfaces(self):
        """The product's descriptions are there, and whatever both declare is the same in both."""
        broker = CATALOGUE.interfaces["io.spebroker.Broker"]
        admin = CATALOGUE.interfaces["io.spebroker.Admin"]
        self.assertIn("Acquire", broker.methods)
        self.assertIn("Assign", admin.methods)
        for name in set(broker.types) & set(admin.types):
            self.assertEqual(list(broker.types[name].fields), list(admin.types[name].fields), name)


if __name__ == "__main__":
    unittest.main()
