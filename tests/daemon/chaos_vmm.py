# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who talks to the daemon in the chaos test: connections, whose calls are in the books, and the processes that they
are of."""

import collections
import os
import socket
import time

import chaos_books
import harness
import wire
from chaos_daemon import GROUP


def usec():
    return time.monotonic_ns() // 1000


class Reader(wire.Client):
    """A connection that is read when something has arrived."""

    def __init__(self, world, where, pid):
        super().__init__(where)
        self.world, self.pid = world, pid
        self.calls = collections.deque()

    def is_open(self):
        return self.socket.fileno() >= 0

    def listen(self):
        self.world.lines[self.socket.fileno()] = self

    def feed(self):
        """Takes what has arrived. False: nothing has."""
        self.socket.settimeout(0)
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        self.world.look_for_dead()  # whoever has died before this was sent
        if not data:
            self.hang_up()
            return False
        self.input += data
        while b"\0" in self.input:
            self.take()
        return True

    def hang_up(self):
        if self.world.lines.pop(self.socket.fileno(), None):
            for call in self.calls:
                self.world.books.closed(call, usec())
            self.calls.clear()
            self.close()


class Line(Reader):
    """A connection for calls."""

    def __init__(self, world, where, pid):
        super().__init__(world, where, pid)
        self.replies = 0
        self.listen()

    def post(self, method, more=False, **parameters):
        call = self.world.books.sent(method, parameters, self.pid)
        self.calls.append(call)
        self.world.say(f"{method} {parameters}")
        try:
            self.send(method, parameters, **({"more": True} if more else {}))
        except wire.Closed:
            self.hang_up()
        return call

    def take(self):
        call = self.calls[0]
        self.replies += 1
        try:
            reply, continues = self.receive(0)
        except wire.VarlinkError as error:
            self.calls.popleft()
            self.world.say(f"  {call.method} {call.lease_id or ''}: {error.name}")
            self.world.books.failed(call, error.name, error.parameters)
            return
        if not continues:
            self.calls.popleft()
        lease = reply.get("lease", {})
        self.world.say(f"  {call.method} {call.lease_id or ''}: {lease.get('leaseId', '')} {lease.get('state', '')} "
                       f"{reply.get('change', '')} {lease.get('cpus', '')}")
        self.world.books.replied(call, reply, final=not continues, now=usec())


class Watcher(Reader):
    """A Watch stream; the first event of it is everything."""

    def __init__(self, world):
        super().__init__(world, world.daemon.socket_path, os.getpid())
        self.watch = chaos_books.Watch(world.books)
        self.now = usec()
        self.send("Watch", {}, more=True)

    def first(self):
        event = self.receive()[0]["event"]
        self.world.look_for_dead()
        self.watch.event(event)
        return event["snapshot"]

    def take(self):
        self.watch.event(self.receive(0)[0]["event"])


class Vmm(harness.Process):
    """A process that asks for leases. Its connections are the world's, so they may outlive it."""

    def __init__(self, world, uid):
        super().__init__(uid=uid, gid=uid, groups=() if uid == 0 else (GROUP,))
        self.world, self.line, self.streams = world, None, []
        self.pidfd = os.pidfd_open(self.pid)
        self.requests = {}  # vm: what was asked for
        self.number = self.pid

    def dial(self):
        if not self.pid:
            return None
        try:
            self.control.send(str(self.world.daemon.socket_path).encode())
            data, fds, _, _ = socket.recv_fds(self.control, 64, 1)
        except (BrokenPipeError, ConnectionResetError):  # it is dead
            return None
        if not fds:
            self.world.say(f"{self.number} cannot connect: {data}")
            return None
        return Line(self.world, socket.socket(fileno=fds[0]), self.pid)

    def get_line(self):
        if not self.line or not self.line.is_open():
            self.line = self.dial()
        return self.line

    def get_stream(self):
        self.streams = [s for s in self.streams if s.is_open()]
        if len(self.streams) >= 2:
            self.streams.pop(0).hang_up()
        line = self.dial()
        if line:
            self.streams.append(line)
        return line

    def leases(self):
        return sorted(lease_id for lease_id, held in self.world.books.leases.items() if held.pid == self.number)

    def hang_up(self):
        for line in [self.line, *self.streams]:
            if line and line.is_open():
                line.hang_up()

    def bury(self):
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.kill()
