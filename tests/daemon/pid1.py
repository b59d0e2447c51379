# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd does for a service that keeps file descriptors with it (sd_notify(3), FDSTORE=1), so that a daemon can
be killed and started again with what it had stored. It reads notifications for as long as the test runs."""

import ctypes
import os
import platform
import select
import socket
import subprocess
import sys
import threading

import harness

SYS_KCMP = {"x86_64": 312, "aarch64": 272}[platform.machine()]
KCMP_FILE = 0
MESSAGE_FDS = 253  # SCM_MAX_FD
LIBC = ctypes.CDLL(None, use_errno=True)

# Becomes the daemon, with the descriptors that are its first arguments from 3 on.
LAUNCHER = """
import os, sys
n = int(sys.argv[1])
fds = [os.dup(int(fd)) for fd in sys.argv[2:2 + n]]
high = [os.dup2(fd, 1000 + n + i, inheritable=False) for i, fd in enumerate(fds)]
for i in range(n):
    os.dup2(high[i], 3 + i)
os.closerange(3 + n, 1000 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2 + n], sys.argv[2 + n:])
"""


def is_same_file(a, b):
    me = os.getpid()
    return LIBC.syscall(ctypes.c_long(SYS_KCMP), me, me, KCMP_FILE, ctypes.c_ulong(a), ctypes.c_ulong(b)) == 0


class Stored:
    def __init__(self, name, fd, polled=False):
        self.name, self.fd, self.polled = name, fd, polled


class Service(harness.Broker):
    """A daemon as a service of this systemd. size: FileDescriptorStoreMax=, told: as newer ones tell it."""

    def __init__(self, root, size=8192, told=True, **kwargs):
        super().__init__(root, **kwargs)
        self.size, self.told = size, told
        self.store, self.messages = [], []
        self.news = threading.Condition()
        self.manager = None
        self.pipe = os.pipe2(os.O_CLOEXEC)
        self.held_back = None  # a list: barriers wait in it

    # What systemd reads.

    def listen(self):
        path = self.root / "notify"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.notify.bind(str(path))
        path.chmod(0o666)
        self.manager = threading.Thread(target=self.manage, daemon=True)
        self.manager.start()

    def manage(self):
        while True:
            poll = select.epoll()
            poll.register(self.pipe[0], select.EPOLLIN)
            poll.register(self.notify.fileno(), select.EPOLLIN)
            with self.news:
                polled = {stored.fd: stored for stored in self.store if stored.polled}
            for fd in polled:
                try:
                    poll.register(fd, 0)
                except PermissionError:  # not a file that can be waited for
                    pass
            found = [fd for fd, _ in poll.poll()]
            poll.close()
            if self.pipe[0] in found:
                return
            with self.news:
                for fd in found:
                    if fd in polled and polled[fd] in self.store:
                        self.drop(polled[fd])
                self.take_notifications()
                self.news.notify_all()

    def take_notifications(self):
        """All that are there; by whoever holds the lock."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.notify, 65536, MESSAGE_FDS)
            except BlockingIOError:
                return
            self.obey(data.decode(), fds)

    def drop(self, stored):
        self.store.remove(stored)
        os.close(stored.fd)

    def obey(self, text, fds):
        fields = dict(line.split("=", 1) for line in text.split("\n") if line)
        self.messages.append(fields)
        if fields.get("FDSTOREREMOVE") == "1":
            for stored in [s for s in self.store if s.name == fields["FDNAME"]]:
                self.drop(stored)
        elif fields.get("FDSTORE") == "1":
            while fds and len(self.store) < self.size:
                fd = fds.pop(0)
                if any(is_same_file(fd, stored.fd) for stored in self.store):
                    os.close(fd)
                else:
                    self.store.append(Stored(fields.get("FDNAME", "stored"), fd, fields.get("FDPOLL") != "0"))
        elif fields.get("BARRIER") == "1" and self.held_back is not None:
            self.held_back += fds
            fds = []
        for fd in fds:
            os.close(fd)

    # What a test asks.

    def until(self, condition, what):
        """Waits for a notification that makes it true."""
        with self.news:
            if not self.news.wait_for(condition, harness.DEADLINE):
                raise AssertionError(f"{what}: not within {harness.DEADLINE} s\n{self.read_log()}")

    def names(self):
        with self.news:
            return sorted(stored.name for stored in self.store)

    def put(self, name, fd):
        """As if a process before had stored it; the descriptor is the store's."""
        with self.news:
            self.store.append(Stored(name, fd))

    def let_pass(self):
        """Barriers that were held back."""
        with self.news:
            for fd in self.held_back:
                os.close(fd)
            self.held_back = None

    # What systemd starts.

    def spawn(self):
        if not self.manager:
            self.listen()
        self.stderr = open(self.root / "stderr", "a+b")
        with self.news:
            self.messages = []
            passed = [(stored.name, stored.fd) for stored in self.store]
        if self.listener:
            passed.insert(len(passed) // 2, ("varlink", self.listener.fileno()))
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self.root / "notify"), "LC_ALL": "C.UTF-8"}
        if self.told:
            environment["FDSTORE"] = str(self.size)
        if passed:
            environment |= {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(name for name, _ in passed)}
        environment |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")} | self.env
        fds = [fd for _, fd in passed]
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", LAUNCHER, str(len(fds)), *map(str, fds), *self.wrapper, harness.PROGRAM,
             *self.arguments],
            stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr, env=environment, pass_fds=fds)
        return self

    def wait_notify(self, line, timeout=harness.DEADLINE):
        key, _, value = line.partition("=")

        def told():
            return any(fields.get(key) == value for fields in self.messages) or self.process.poll() is not None

        self.until(told, line)
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon exited with {self.process.returncode}\n{self.read_log()}")

    def reap(self, timeout):
        code = self.process.wait(timeout)
        with self.news:  # as systemd, which reads what a process has sent before it learns of its end
            self.take_notifications()
        self.read_log()
        self.stderr.close()
        self.process = None
        if harness.SANITIZER.search(self.log):
            raise AssertionError(f"a sanitizer spoke:\n{self.log}")
        return code

    def dismiss(self):
        """Ends the daemon; the store goes with the unit."""
        self.stop()
        if self.manager:
            os.write(self.pipe[1], b"0")
            self.manager.join()
            self.notify.close()
        for fd in self.pipe:
            os.close(fd)
        while self.store:
            self.drop(self.store[0])
