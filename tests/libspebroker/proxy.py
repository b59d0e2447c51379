# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands between a client and the broker, and loses connections at chosen moments. Both ends are this process's, so
the broker takes the client for the one that connects."""

import socket
import threading

BEFORE, SENT, ANSWERED = "before", "sent", "answered"


class Proxy:
    """Listens at path for the broker at target. plan has one entry for each call, in order, over all connections: None
    lets it pass; else (moment, hook): the connection is lost BEFORE the call is passed on, when it has been SENT, or
    when it has been ANSWERED but the answer not passed back, after hook() was called. Calls beyond the plan pass."""

    def __init__(self, path, target, plan=()):
        self.path, self.target, self.plan = path, target, list(plan)
        self.calls = []  # as bytes
        self.lock = threading.Lock()
        self.threads, self.faults, self.ends = [], [], []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        with connection, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as upstream:
            try:
                upstream.connect(str(self.target))
                with self.lock:
                    self.ends.append(connection)
                back = threading.Thread(target=self.pass_back, args=(upstream, connection))
                self.run(connection, upstream, back)
            except OSError:  # the broker is away: so is the connection
                pass
            except Exception as fault:
                self.faults.append(fault)

    def run(self, connection, upstream, back):
        """Calls of one connection until it ends, or is lost as planned. Answers are passed back by a thread from the
        first call on that is let pass, so only such calls stand before it."""
        data = b""
        try:
            while chunk := connection.recv(65536):
                data += chunk
                while b"\0" in data:
                    call, _, data = data.partition(b"\0")
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
        finally:
            with self.lock:
                if connection in self.ends:
                    self.ends.remove(connection)
            for end in (upstream, connection):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            if back.is_alive():
                back.join()

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

    def hang_up(self):
        """Loses the connections that there are."""
        with self.lock:
            ends, self.ends = self.ends, []
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for thread in self.threads:
            thread.join()
        if self.faults:
            raise self.faults[0]
