# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the real spe-broker below a directory of its own, and processes that stand for VMMs. Waits for events
with a deadline, never for time to pass."""

import ctypes
import mmap
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import tree
import uevents
from wire import ADMIN, BROKER, DEADLINE, SERVICE, Client, VarlinkError

PROGRAM = os.environ.get("SPE_BROKER", "")
EMULATED = "SPE_EMULATED" in os.environ  # the programs are another machine's, run by QEMU's user emulation
SANITIZER = re.compile(
    r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|Assertion .* failed"
)
NOBODY = 65534


def wait_for(predicate, what, timeout=DEADLINE):
    """Polls what can only be polled (/proc, a counter); everything else has an event to wait for."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s")
        ready([], 0.005)
    return value


def ready(fds, timeout):
    """Those of fds that have something to read, at the latest after timeout."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    events = {fd for fd, _ in poll.poll(max(timeout, 0) * 1000)}
    return [fd for fd in fds if fd in events]


def revoked(reason, cpus, then="'speadm revoke --kill' ends it", away=False):
    """What a lease says that is revoked for that reason, and may go on on these CPUs."""
    what = (f"once CPUs {cpus} are back, its VM may profile there again" if away
            else f"its VM may go on profiling on CPUs {cpus}")
    return f"{reason}; {what} until it ends, since KVM cannot switch a guest's SPE off: {then}"


class Broker:
    """One daemon. config is the text of spe-broker.conf, dropins maps names to texts, tree is a function that
    writes the host's tree below a root, simulate names a built-in host instead."""

    def __init__(self, root, tree=None, simulate=None, config="", dropins=None, args=(), env=None):
        self.root = pathlib.Path(root)
        self.socket_path = self.root / "run/spe-broker/io.spebroker.Broker"
        self.config_path = self.root / "etc/spe-broker/spe-broker.conf"
        self.arguments = (
            ["--root", str(self.root)] + (["--simulate", simulate] if simulate else []) + list(args)
        )
        self.env = env or {}
        self.process = None
        self.listener = None  # a listening socket to pass, as systemd does
        self.wrapper = []  # a command that runs the daemon
        self.log = ""
        self.tree = tree(self.root) if tree else None
        self.configure(config)
        for name, text in (dropins or {}).items():
            self.drop_in(name, text)

    def configure(self, text):
        self.config_path.parent.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(text)

    def drop_in(self, name, text):
        directory = self.config_path.with_name(self.config_path.name + ".d")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)

    def spawn(self):
        """Starts the daemon without waiting for it to be ready."""
        path = self.root / "notify"
        path.unlink(missing_ok=True)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notify.bind(str(path))
        path.chmod(0o666)
        self.stderr = open(self.root / "stderr", "a+b")
        environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": str(path), "LC_ALL": "C.UTF-8"}
        environment["FDSTORE"] = "0"  # no store: the socket is read for as long as somebody waits, and no longer
        environment |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")} | self.env
        if EMULATED and "LD_PRELOAD" in environment:  # for the program, not for the emulator
            environment["QEMU_SET_ENV"] = "LD_PRELOAD=" + environment.pop("LD_PRELOAD")
        command, passed = self.wrapper + [PROGRAM] + self.arguments, ()
        if self.listener:
            passed = (self.listener.fileno(),)
            script = (
                f'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=varlink; exec "$0" "$@" 3<&{passed[0]}'
            )
            command = ["/bin/sh", "-c", script] + command
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.stderr,
            stderr=self.stderr,
            env=environment,
            pass_fds=passed,
        )
        return self

    def start(self):
        self.spawn()
        try:
            self.wait_notify("READY=1")
        except BaseException:
            self.kill()
            raise
        return self

    def wait_notify(self, line, timeout=DEADLINE):
        """Waits for a notification that has this line; fails at once if the daemon exits instead."""
        deadline = time.monotonic() + timeout
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while True:
                events = ready([self.notify.fileno(), pidfd], deadline - time.monotonic())
                if self.notify.fileno() in events:
                    if line in self.notify.recv(65536).decode().split("\n"):
                        return
                elif events:
                    raise AssertionError(f"the daemon exited with {self.process.wait()}\n{self.read_log()}")
                else:
                    raise AssertionError(f"no {line} within {timeout} s\n{self.read_log()}")
        finally:
            os.close(pidfd)

    def hangup(self):
        """Reloads by SIGHUP, as systemd does, and waits until that is done."""
        self.process.send_signal(signal.SIGHUP)
        self.wait_notify("RELOADING=1")
        self.wait_notify("READY=1")

    def read_log(self):
        self.stderr.seek(0)
        self.log = self.stderr.read().decode(errors="replace")
        return self.log

    def reap(self, timeout):
        code = self.process.wait(timeout)
        self.read_log()
        self.stderr.close()
        self.notify.close()
        self.process = None
        if SANITIZER.search(self.log):
            raise AssertionError(f"a sanitizer spoke:\n{self.log}")
        return code

    def stop(self):
        """Ends the daemon as systemd does; it must leave cleanly."""
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.reap(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon does not end on SIGTERM\n{self.log}") from None
        if code:
            raise AssertionError(f"the daemon exited with {code}\n{self.log}")

    def kill(self):
        """As a crash would."""
        if self.process:
            self.process.kill()
            self.reap(DEADLINE)

    def restart(self):
        self.stop()
        return self.start()

    def connect(self, **kwargs):
        return Client(self.socket_path, **kwargs)

    def call(self, method, parameters=None, **kwargs):
        """One call as an administrator, on a connection of its own."""
        with self.connect() as client:
            return client.call(method, parameters, **kwargs)

    def lease(self, lease_id):
        """The lease as listed now, or None."""
        return next((l for l in self.call("ListLeases")["leases"] if l["leaseId"] == lease_id), None)

    def instance(self, name="arm_spe_0"):
        return next((i for i in self.call("ListInstances")["instances"] if i["name"] == name), None)

    def resident_kib(self):
        """Its memory; nothing that can be compared to a bound under a sanitizer or an emulator."""
        if EMULATED or "__asan_init" in subprocess.run(["nm", "-D", PROGRAM], capture_output=True, text=True).stdout:
            return 0
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def counters(self):
        return {c["name"]: c["value"] for c in self.call("Describe")["host"]["counters"]}


def lock_memory(size):
    """Locks so many bytes more, as KVM charges a VMM that enables SPE; as long as what it returns is kept."""
    if size == 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.c_char.from_buffer(mmap.mmap(-1, size))
    if libc.mlock(ctypes.c_void_p(ctypes.addressof(memory)), ctypes.c_size_t(size)):
        raise OSError(ctypes.get_errno(), "mlock")
    return memory


class Process:
    """A VMM: a process of its own, of any user, that opens connections for the test. The kernel tells the
    broker the peer that called connect(), so what the test sends over them comes from this process. acts: what
    else it can be told to do, functions of integers by their names."""

    def __init__(self, uid=0, gid=None, groups=(), ignore=(), locked=0, acts=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                _held = lock_memory(locked)
                self.serve(theirs, uid, uid if gid is None else gid, groups, ignore, acts or {})
            finally:
                os._exit(0)
        theirs.close()
        self.control = ours
        ours.settimeout(DEADLINE)
        if not ours.recv(1):  # it is who it shall be
            raise AssertionError("the process could not become what it shall be")
        self.uid = uid

    @staticmethod
    def serve(control, uid, gid, groups, ignore, acts):
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, 4096)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        control.send(b"0")
        while path := control.recv(4096):
            if path.decode().split()[0] in acts:
                name, *arguments = path.decode().split()
                control.send(str(acts[name](*map(int, arguments))).encode())
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                try:
                    connection.connect(path.decode())
                    socket.send_fds(control, [b"0"], [connection.fileno()])
                except OSError as error:
                    control.send(str(error.errno).encode())

    def act(self, name, *arguments):
        """What acts[name] returns in the process, as text."""
        self.control.send(" ".join(map(str, (name, *arguments))).encode())
        return self.control.recv(64).decode()

    def connect(self, broker, **kwargs):
        self.control.send(str(broker.socket_path).encode())
        data, fds, _, _ = socket.recv_fds(self.control, 64, 1)
        if not fds:
            raise OSError(int(data), os.strerror(int(data)))
        return Client(socket.socket(fileno=fds[0]), **kwargs)

    def call(self, broker, method, parameters=None, **kwargs):
        with self.connect(broker) as client:
            return client.call(method, parameters, **kwargs)

    def kill(self):
        """Ends it. The broker learns of it through its pidfd, like everybody."""
        if self.pid:
            self.control.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def wait(self, timeout=DEADLINE):
        """Waits until it has ended by itself (or by a signal); its wait status."""
        pidfd = os.pidfd_open(self.pid)
        try:
            if not ready([pidfd], timeout):
                raise AssertionError(f"process {self.pid} still runs")
        finally:
            os.close(pidfd)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.control.close()
        return status


class TestCase(unittest.TestCase):
    """Cleans up after itself, and shows what its daemons said if it fails."""

    def run(self, result=None):
        result = result or self.defaultTestResult()
        self.brokers = []
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            for broker in self.brokers:
                sys.stderr.write(f"--- {self.id()}: the daemon said:\n{broker.log}---\n")
        return result

    def directory(self):
        path = tempfile.mkdtemp(prefix="spe-")
        os.chmod(path, 0o755)
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return pathlib.Path(path)

    def new_broker(self, **kwargs):
        """A daemon that has not been started."""
        if not kwargs.get("simulate"):
            kwargs.setdefault("tree", tree.big_little)
        broker = Broker(self.directory(), **kwargs)
        self.brokers.append(broker)
        self.addCleanup(broker.stop)
        return broker

    def broker(self, **kwargs):
        return self.new_broker(**kwargs).start()

    def vmm(self, broker=None, **kwargs):
        """A process of another user, or of root; with a broker, also a connection from it."""
        if EMULATED and len(kwargs.get("groups", ())) > 1:
            self.skipTest("the user emulation tells of one supplementary group only (SO_PEERGROUPS)")
        process = Process(**kwargs)
        self.addCleanup(process.kill)
        if broker is None:
            return process
        client = process.connect(broker)
        self.addCleanup(client.close)
        return process, client

    def client(self, broker, **kwargs):
        client = broker.connect(**kwargs)
        self.addCleanup(client.close)
        return client

    def refused(self, error, client, method, parameters=None, **kwargs):
        """Requires that the call is answered with this error; returns the error's parameters."""
        if "." not in error:
            prefix = SERVICE if error in ("InvalidParameter", "PermissionDenied", "ExpectedMore") else BROKER
            error = prefix + error
        with self.assertRaises(VarlinkError) as caught:
            client.call(method, parameters, **kwargs)
        self.assertEqual(caught.exception.name, error, caught.exception)
        return caught.exception.parameters

    def invalid(self, field, client, method, parameters=None, **kwargs):
        """Requires InvalidParameter that names this field."""
        answer = self.refused("InvalidParameter", client, method, parameters, **kwargs)
        self.assertEqual(answer["parameter"], field, f"{method} {parameters or kwargs}")

    def assert_idle(self, broker):
        """Nothing is leased and nothing is charged, by every account there is."""
        self.assertEqual(broker.call("ListLeases")["leases"], [])
        host = broker.call("Describe")["host"]
        self.assertEqual((host["charge"], host["counts"]["leases"], host["counts"]["waiting"]), (0, 0, 0))
        for instance in broker.call("ListInstances")["instances"]:
            self.assertEqual(
                (instance["charge"], instance["leases"], instance["leasedCpus"]), (0, 0, ""), instance["name"]
            )


def main(needs_uevents=False):
    """Runs the calling file's tests; skips where there is no daemon or no right to be other users."""
    if not PROGRAM or not os.access(PROGRAM, os.X_OK):
        print("SPE_BROKER names no program")
        sys.exit(77)
    if os.geteuid() != 0:
        print("needs root: the tests act as several users")
        sys.exit(77)
    if not needs_uevents:
        uevents.enter_quiet_network()
    unittest.main(verbosity=2)
