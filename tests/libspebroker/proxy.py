# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands between a client and the broker, and loses connections at chosen moments. Both ends are this process's, so
the broker takes the client for the one that connects."""

import contextlib
import socket
import threading

import listener

BEFORE, SENT, ANSWERED = "before", "sent", "answered"


class Proxy(listener.Listener):
    """Listens at path for the broker at target. plan has one entry for each call, in order, over all connections: None
    lets it pass; else (moment, hook): the connection is lost BEFORE the call is passed on, when it has been SENT, or
    when it has been ANSWERED but the answer not passed back, after hook() was called. Calls beyond the plan pass."""

    def __init__(self, path, target, plan=()):
        self.target, self.plan = target, list(plan)
        self.calls = []  # as bytes
        self.lock = threading.Lock()
        super().__init__(path)

    def converse(self, connection):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as upstream, contextlib.suppress(OSError):
            upstream.connect(str(self.target))  # if the broker is away, so is the connection
            back = threading.Thread(target=self.pass_back, args=(upstream, connection))
            try:
                self.run(connection, upstream, back)
            finally:
                for end in (upstream, connection):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                if back.is_alive():
                    back.join()

    def run(self, connection, upstream, back):
        """Calls of one connection until it ends, or is lost as planned. Answers are passed back by a thread from the
        first call on that is let pass, so only such calls stand before it."""
        for call in self.messages(connection):
            with self.lock:
                self.calls.append(call)
                entry = self.plan.pop(0) if self.plan else None
            if not entry:
                if not back.is_alive():
                    back.start()
                upstream.sendall(call + b"\0")
                continue
            moment, hook = entry
            if moment != BEFORE:
                upstream.sendall(call + b"\0")
            if moment == ANSWERED:
                self.await_answer(upstream)
            hook()
            return

    @staticmethod
    def await_answer(upstream):
        data = b""
        while b"\0" not in data:
            chunk = upstream.recv(65536)
            if not chunk:
                raise AssertionError("the broker has not answered")
            data += chunk

    @staticmethod
    def pass_back(upstream, connection):
        try:
            while chunk := upstream.recv(65536):
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
