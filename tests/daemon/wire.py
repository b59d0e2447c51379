# SPDX-License-Identifier: LGPL-2.1-or-later
"""A varlink client for tests: plain calls, streams, and raw bytes. Everything that arrives is held to the
framing rules and to the interface descriptions."""

import collections
import json
import os
import pathlib
import socket
import time

import idl

SOURCE = pathlib.Path(os.environ.get("SPE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
CATALOGUE = idl.Catalogue([p.read_text() for p in sorted((SOURCE / "idl").glob("*.varlink"))])
BROKER = "io.spebroker.Broker."
ADMIN = "io.spebroker.Admin."
SERVICE = "org.varlink.service."
DEADLINE = float(os.environ.get("SPE_DEADLINE", "60"))


class VarlinkError(Exception):
    """The service answered with an error."""

    def __init__(self, name, parameters):
        super().__init__(f"{name} {json.dumps(parameters)}")
        self.name, self.parameters = name, parameters

    def __getattr__(self, field):
        if field.startswith("__"):
            raise AttributeError(field)
        return self.parameters[field]


class Closed(Exception):
    """The service closed the connection."""


class Late(Exception):
    """Nothing arrived before the deadline."""


def full_name(method):
    """'Acquire' is io.spebroker.Broker.Acquire: whichever interface declares it."""
    if "." in method:
        return method
    for name, interface in CATALOGUE.interfaces.items():
        if method in interface.methods:
            return f"{name}.{method}"
    raise KeyError(method)


def unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise idl.Mismatch(f"duplicate member in {pairs!r}")
    return members


def no_constant(word):
    raise idl.Mismatch(f"{word} on the wire")


def encode(method, parameters=None, **flags):
    message = {"method": full_name(method)}
    if parameters is not None:
        message["parameters"] = parameters
    message.update(flags)
    return json.dumps(message, ensure_ascii=False).encode() + b"\0"


class Client:
    """One connection. Calls that are in flight are remembered, so that each reply is checked as the answer of
    its method."""

    def __init__(self, where, timeout=DEADLINE):
        if isinstance(where, socket.socket):
            self.socket = where
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.socket.connect(str(where))
            except OSError:
                self.socket.close()
                raise
        self.timeout = timeout
        self.input = bytearray()
        self.expected = collections.deque()  # (method, more) of calls without a final reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # Bytes

    def send_bytes(self, data):
        self.socket.settimeout(self.timeout)
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed() from error

    def receive_bytes(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Late()
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError as error:
            raise Late() from error
        except ConnectionResetError as error:
            raise Closed() from error
        if not data:
            raise Closed()
        self.input += data

    def receive_message(self, timeout=None):
        """The next message as an object, checked for nothing but its framing."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        scanned = 0
        while (end := self.input.find(b"\0", scanned)) < 0:
            scanned = len(self.input)
            self.receive_bytes(deadline)
        raw = bytes(self.input[:end])
        del self.input[: end + 1]
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)

    def is_closed(self, timeout=None):
        """True once the service has hung up; False if a message comes instead. Late if neither."""
        try:
            self.receive_message(timeout)
            return False
        except Closed:
            return True

    # Calls

    def send(self, method, parameters=None, **flags):
        self.send_bytes(encode(method, parameters, **flags))
        if not flags.get("oneway"):
            self.expected.append((full_name(method), flags.get("more", False)))

    def receive(self, timeout=None):
        """The next reply as (parameters, continues); an error is raised."""
        method, more = self.expected[0]
        message = self.receive_message(timeout)
        extra = set(message) - {"parameters", "continues", "error"}
        if extra:
            raise idl.Mismatch(f"{method}: members {extra} do not belong into a reply")
        continues = message.get("continues", False)
        if continues is not True and continues is not False:
            raise idl.Mismatch(f"{method}: continues is {continues!r}")
        if continues and (not more or "error" in message):
            raise idl.Mismatch(f"{method}: continues in {message}")
        if not continues:
            self.expected.popleft()
        parameters = message.get("parameters") or {}
        if "error" in message:
            CATALOGUE.check_error(message["error"], parameters)
            raise VarlinkError(message["error"], parameters)
        CATALOGUE.check_reply(method, parameters)
        return parameters, continues

    def call(self, method, parameters=None, **kwargs):
        """One plain call: call("Query", request={...}) or call("Query", {"request": {...}})."""
        self.send(method, kwargs if parameters is None else parameters)
        reply, _ = self.receive()
        return reply

    def oneway(self, method, **parameters):
        self.send(method, parameters, oneway=True)

    def stream(self, method, **parameters):
        self.send(method, parameters, more=True)
        return Stream(self)

    def call_more(self, method, **parameters):
        """Every reply of a call with 'more', until the final one."""
        yield from self.stream(method, **parameters)


class Stream:
    """The replies of one call with 'more'."""

    def __init__(self, client):
        self.client, self.done = client, False

    def next(self, timeout=None):
        reply, continues = self.client.receive(timeout)
        self.done = not continues
        return reply

    def __iter__(self):
        while not self.done:
            yield self.next()

    def until(self, predicate, timeout=None):
        """Reads on until a reply satisfies the predicate; returns that reply."""
        deadline = time.monotonic() + (self.client.timeout if timeout is None else timeout)
        while True:
            reply = self.next(max(deadline - time.monotonic(), 0.001))
            if predicate(reply):
                return reply
            if self.done:
                raise Closed("the stream ended before")

    def change(self, word, timeout=None):
        return self.until(lambda reply: reply.get("change") == word, timeout)

    def close(self):
        self.client.close()
