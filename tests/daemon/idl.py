# SPDX-License-Identifier: LGPL-2.1-or-later
"""Varlink interface descriptions, a second time: parses the .varlink files and checks what the daemon sends
against them. It shares nothing with varlink/idl.c, so that a fault there is seen here and not repeated."""

import re

TOKEN = re.compile(r"\s+|#[^\n]*|(->|\[\]|\[string\]|[():,?]|[A-Za-z][A-Za-z0-9_.\-]*)")
BUILTIN = {
    "bool": lambda v: isinstance(v, bool),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool) and -(2**63) <= v < 2**63,
    "float": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str) and "\0" not in v,
    "object": lambda v: v is not None,
}


class Mismatch(Exception):
    """A message is not what the interface says."""


class SyntaxFault(Exception):
    """The text is not an interface description."""


def tokens(text):
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise SyntaxFault(f"at {text[at:at + 20]!r}")
        at = match.end()
        if match.group(1):
            yield match.group(1)


class Struct:
    def __init__(self, fields):
        self.fields = fields

    def check(self, value, where):
        if not isinstance(value, dict):
            raise Mismatch(f"{where}: {value!r} is not an object")
        for name in value:
            if name not in self.fields:
                raise Mismatch(f"{where}: member {name!r} is not declared")
        for name, kind in self.fields.items():
            kind.check(value.get(name), f"{where}.{name}")


class Enum:
    def __init__(self, words):
        self.words = words

    def check(self, value, where):
        if not isinstance(value, str) or value not in self.words:
            raise Mismatch(f"{where}: {value!r} is none of {self.words}")


class Named:
    def __init__(self, interface, name):
        self.interface, self.name = interface, name

    def check(self, value, where):
        if self.name in BUILTIN:
            if not BUILTIN[self.name](value):
                raise Mismatch(f"{where}: {value!r} is not {self.name}")
        else:
            self.interface.types[self.name].check(value, where)


class Nullable:
    def __init__(self, inner):
        self.inner = inner

    def check(self, value, where):
        if value is not None:
            self.inner.check(value, where)


class Array:
    def __init__(self, inner):
        self.inner = inner

    def check(self, value, where):
        if not isinstance(value, list):
            raise Mismatch(f"{where}: {value!r} is not an array")
        for i, element in enumerate(value):
            self.inner.check(element, f"{where}[{i}]")


class Map:
    def __init__(self, inner):
        self.inner = inner

    def check(self, value, where):
        if not isinstance(value, dict):
            raise Mismatch(f"{where}: {value!r} is not a map")
        for key, element in value.items():
            self.inner.check(element, f"{where}[{key!r}]")


class Interface:
    """One parsed description: types, methods as (input, output), errors."""

    def __init__(self, text):
        self.types, self.methods, self.errors, self.names = {}, {}, {}, []
        self.input = list(tokens(text))
        self.expect("interface")
        self.name = self.take()
        while self.input:
            self.member()
        for name in self.names:
            if name not in BUILTIN and name not in self.types:
                raise SyntaxFault(f"{self.name} names type {name}, which it does not declare")

    def take(self):
        if not self.input:
            raise SyntaxFault("unexpected end")
        return self.input.pop(0)

    def expect(self, token):
        got = self.take()
        if got != token:
            raise SyntaxFault(f"{token!r} expected, not {got!r}")

    def member(self):
        keyword, name = self.take(), self.take()
        if name in self.types or name in self.methods or name in self.errors:
            raise SyntaxFault(f"{name} is declared twice")
        if keyword == "type":
            self.types[name] = self.composite()
        elif keyword == "error":
            self.errors[name] = self.composite()
        elif keyword == "method":
            given = self.composite()
            self.expect("->")
            self.methods[name] = (given, self.composite())
        else:
            raise SyntaxFault(f"{keyword!r} is no member")

    def composite(self):
        self.expect("(")
        fields, words = {}, []
        while self.input and self.input[0] != ")":
            name = self.take()
            if name in fields or name in words:
                raise SyntaxFault(f"field {name} is declared twice")
            if self.input and self.input[0] == ":":
                self.take()
                fields[name] = self.type()
            else:
                words.append(name)
            if self.input and self.input[0] == ",":
                self.take()
        self.expect(")")
        if fields and words:
            raise SyntaxFault("neither struct nor enum")
        return Enum(words) if words else Struct(fields)

    def type(self):
        token = self.take()
        if token == "?":
            return Nullable(self.type())
        if token == "[]":
            return Array(self.type())
        if token == "[string]":
            return Map(self.type())
        if token == "(":
            self.input.insert(0, token)
            return self.composite()
        self.names.append(token)
        return Named(self, token)


SERVICE = Interface(
    """
interface org.varlink.service
method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)
error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""
)

# What the machine said no to; of no interface here, as with systemd's services.
SYSTEM = Interface(
    """
interface io.systemd
error System (errno: int)
"""
)


class Catalogue:
    """Several interfaces, and the question whether a reply or an error is as declared."""

    def __init__(self, texts):
        self.interfaces = {i.name: i for i in [SERVICE, SYSTEM] + [Interface(t) for t in texts]}

    def check_reply(self, method, parameters):
        interface, _, name = method.rpartition(".")
        self.interfaces[interface].methods[name][1].check(parameters or {}, method)

    def check_error(self, error, parameters):
        interface, _, name = error.rpartition(".")
        if interface not in self.interfaces or name not in self.interfaces[interface].errors:
            raise Mismatch(f"error {error} is not declared")
        self.interfaces[interface].errors[name].check(parameters or {}, error)
