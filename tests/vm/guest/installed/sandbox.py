# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each line of the units is exercised. A line of the sandbox: what it refuses is tried by probe.py under the whole
unit (refused), under that line alone (refused by it), and without any (which must work, or the trial proves nothing).
A line without an entry here fails."""

import grp
import importlib
import os
import pathlib
import shutil
import signal
import socket
import stat
import struct
import subprocess
import unittest

import system
from system import SERVICE, SOCKET, run, show, systemctl

GUEST = pathlib.Path(__file__).resolve().parent
LIBRARY = pathlib.Path("/usr/local/lib/spe-broker-probe")
OUTPUT = pathlib.Path("/run/spe-broker-probe")
UNITS = pathlib.Path("/run/systemd/system")
DEBIAN_CAPABILITIES = {"CAP_SYS_ADMIN": 21}
# linux/capability.h
CAPABILITIES = {"CAP_KILL": 5, "CAP_SYS_RESOURCE": 24, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39}
KEYRINGS = "KeyringMode=inherit"  # as nothing else would be allowed what KeyringMode=private refuses
KVM_DEVICE = (10, 232)  # MISC_MAJOR, KVM_MINOR
KILLED = str(signal.SIGSYS.value)
ERRNO = "SystemCallErrorNumber=EPERM"
# Lines that say what is run, and not what it may; a probe has its own.
RUNS = {"Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec", "WatchdogSec"}
LISTS = {"CapabilityBoundingSet", "AmbientCapabilities", "RestrictAddressFamilies", "SystemCallFilter", "Symlinks"}
# Without these, whoever is root would be allowed more than the broker ever is.
IDENTITY = ("User", "Group", "SupplementaryGroups", "CapabilityBoundingSet", "AmbientCapabilities")
KIN = {"DeviceAllow": ("DevicePolicy",), "SystemCallFilter": ("SystemCallErrorNumber",)}
# What no line alone keeps from a broker with its user and capabilities, and must be kept from it nevertheless.
REFUSED = ("delete-module", "clear-kernel-log", "trace-another")


class Refuses:
    """Under the line alone (beside others that it needs), the action ends like this, if systemd has that feature."""

    def __init__(self, action, how, beside=(), feature=""):
        self.action, self.how, self.beside, self.feature = action, how, beside, feature


class Permits:
    """Under the whole unit, the action is allowed."""

    def __init__(self, action):
        self.action = action


class Needs:
    """Under the whole unit, the action is allowed; without the line it ends like this, even where all but its kin are
    missing, too."""

    def __init__(self, action, how):
        self.action, self.how = action, how


class Seen:
    """A test of its own: MODULE.CLASS.METHOD."""

    def __init__(self, test):
        self.test = test


def by_service(name):
    return Seen(f"service.{name}")


def by_process(name):
    return Seen(f"sandbox.TestProcess.{name}")


LINES = {
    SERVICE: {
        "Requires=spe-broker.socket": [by_service("TestActivation.test_socket_stops_both")],
        "After=spe-broker.socket": [by_service("TestActivation.test_socket_stops_both")],
        "Type=notify": [by_service("TestStart.test_started_is_ready")],
        "NotifyAccess=main": [by_service("TestStart.test_a_stranger_cannot_notify")],
        "ExecStart=/usr/sbin/spe-broker": [by_service("TestStart.test_state")],
        "ExecReload=/bin/kill -HUP $MAINPID": [by_service("TestReload.test_good"), by_service("TestReload.test_bad")],
        "StartLimitIntervalSec=0": [by_service("TestEnd.test_never_given_up")],
        "Restart=always": [by_service("TestEnd.test_killed"), by_service("TestEnd.test_ended_by_somebody")],
        "RestartSec=500ms": [by_service("TestEnd.test_never_given_up")],
        "OOMScoreAdjust=-900": [by_process("test_mask_and_limits")],
        "WatchdogSec=30s": [by_service("TestEnd.test_hung")],
        "RuntimeDirectory=spe-broker": [Permits("write-runtime"), by_service("TestStart.test_directories")],
        "RuntimeDirectoryPreserve=yes": [by_service("TestEnd.test_crashed_keeps_assignments")],
        "StateDirectory=spe-broker": [Permits("write-state"), by_service("TestEnd.test_crashed_keeps_assignments")],
        "StateDirectoryMode=0750": [by_service("TestStart.test_directories")],
        "UMask=0077": [Refuses("open-files", "EPERM"), by_process("test_mask_and_limits")],
        "FileDescriptorStoreMax=8256": [Seen("outlive.TestOutlive.test_dead_and_back")],
        "LimitNOFILE=32768": [by_service("TestStart.test_more_descriptors_than_usual"),
                              by_process("test_mask_and_limits")],
        "User=spe-broker": [Refuses("be-root", "EPERM"), by_process("test_identity")],
        "Group=spe-broker": [by_process("test_identity")],
        **{f"CapabilityBoundingSet={name}": [Refuses("set-owner", "EPERM"), by_process("test_capabilities")]
           for name in CAPABILITIES},
        "AmbientCapabilities=CAP_KILL": [Needs("kill-another-users", "EPERM"),
                                         by_service("TestAccess.test_kill_the_owner")],
        "AmbientCapabilities=CAP_SYS_RESOURCE": [Needs("raise-anothers-memlock", "EPERM"),
                                                 by_service("TestAccess.test_raise_the_limit")],
        "AmbientCapabilities=CAP_SYSLOG": [Needs("read-kernel-log", "EPERM")],
        "AmbientCapabilities=CAP_BPF": [Needs("make-bpf-map", "EPERM")],
        "AmbientCapabilities=CAP_PERFMON": [Needs("load-bpf-program", "EPERM"), Needs("open-event", "EACCES")],
        "SupplementaryGroups=kvm": [Needs("open-kvm", "EACCES"), by_process("test_identity")],
        "NoNewPrivileges=yes": [Refuses("run-setuid", "EPERM", ["User=nobody"]), by_process("test_no_new_privileges")],
        "ProtectSystem=strict": [Refuses("write-usr", "EROFS"), Refuses("write-etc", "EROFS"),
                                 Refuses("write-var", "EROFS"), Refuses("write-configuration", "EROFS")],
        "ProtectHome=yes": [Refuses("read-home", "ENOENT"), Refuses("read-root-home", "ENOENT")],
        "PrivateTmp=yes": [Refuses("read-others-tmp", "ENOENT"), Permits("write-tmp")],
        "PrivateMounts=yes": [Refuses("mount-namespace", "EPERM"), by_process("test_namespaces")],
        "RemoveIPC=yes": [Seen("sandbox.TestSandbox.test_nothing_stays_in_memory")],
        "ProtectKernelTunables=yes": [Refuses("write-sysctl", "EROFS"), Permits("read-meminfo"), Permits("read-spus"),
                                      Permits("read-kernel-types"), Permits("read-security-modules")],
        "ProtectControlGroups=yes": [Refuses("make-cgroup", "EROFS"), Permits("read-cgroup"),
                                     by_service("TestAccess.test_control_group")],
        "ProtectClock=yes": [Refuses("adjust-clock", "EPERM")],
        "ProtectHostname=yes": [Refuses("set-hostname", "EPERM"), by_process("test_namespaces")],
        "DevicePolicy=closed": [Refuses("read-disk", "EPERM"), Permits("read-null-device")],
        "DeviceAllow=/dev/kmsg r": [Needs("read-kernel-log", "EPERM"), Refuses("write-kernel-log", "EPERM")],
        "DeviceAllow=/dev/kvm rw": [Needs("open-kvm", "EPERM")],
        "PrivateNetwork=yes": [Refuses("abstract-socket", "ECONNREFUSED"), by_process("test_namespaces")],
        "RestrictAddressFamilies=AF_UNIX": [Refuses("inet-socket", "EAFNOSUPPORT"),
                                            Needs("unix-socket", "EAFNOSUPPORT")],
        "RestrictAddressFamilies=AF_NETLINK": [Refuses("inet-socket", "EAFNOSUPPORT"),
                                               Needs("hear-uevents", "EAFNOSUPPORT")],
        "IPAddressDeny=any": [Refuses("send-loopback", "EPERM")],
        "SocketBindDeny=any": [Refuses("bind-port", "EPERM", feature="+BPF_FRAMEWORK")],
        "RestrictNamespaces=yes": [Refuses("unshare", "EPERM")],
        "RestrictRealtime=yes": [Refuses("realtime", "EPERM")],
        "RestrictSUIDSGID=yes": [Refuses("make-setuid", "EPERM")],
        "LockPersonality=yes": [Refuses("personality", "EPERM")],
        "MemoryDenyWriteExecute=yes": [Refuses("write-execute", "EPERM")],
        "KeyringMode=private": [Refuses("keyring", "EPERM")],
        "SystemCallArchitectures=native": [Refuses("32-bit", KILLED)],
        "SystemCallFilter=@system-service": [Refuses("trace", "EPERM", [ERRNO]), Permits("read-process"),
                                             Permits("open-pidfd"), by_process("test_filter")],
        "SystemCallFilter=~@privileged": [Refuses("chroot", "EPERM", [ERRNO]), Refuses("set-user", "EPERM", [ERRNO])],
        "SystemCallFilter=~@resources": [Refuses("priority", "EPERM", [ERRNO])],
        "SystemCallFilter=bpf": [Needs("make-bpf-map", "EPERM")],
        "SystemCallFilter=perf_event_open": [Needs("open-event", "EPERM")],
        "SystemCallErrorNumber=EPERM": [Seen("sandbox.TestSandbox.test_refused_calls_fail")],
        "WantedBy=multi-user.target": [by_service("TestStart.test_state")],
        "Also=spe-broker.socket": [by_service("TestStart.test_state")],
    },
    SOCKET: {
        "ListenStream=/run/spe-broker/io.spebroker.Broker": [by_service("TestActivation.test_first_client_starts_it")],
        "Symlinks=/run/varlink/registry/io.spebroker.Broker": [by_service("TestStart.test_directories")],
        "Symlinks=/run/varlink/registry/io.spebroker.Admin": [by_service("TestStart.test_directories")],
        "FileDescriptorName=varlink": [by_process("test_socket_name")],
        "RemoveOnStop=yes": [by_service("TestActivation.test_socket_stops_both")],
        "SocketMode=0666": [by_service("TestAccess.test_everybody_may_read")],
        "WantedBy=sockets.target": [by_service("TestStart.test_state")],
    },
}


def words(key, value):
    """The lines that one of a list stands for: a '~' in front holds for each."""
    if key not in LISTS:
        return [f"{key}={value}"]
    sign = "~" if value.startswith("~") else ""
    return [f"{key}={sign}{word}" for word in value.removeprefix("~").split()]


def lines_of(unit):
    """Of what read_unit() found, all that does something, and is to have an entry."""
    lines = [(key, value) for _, key, value in unit if key not in ("Description", "Documentation")]
    return [word for key, value in lines for word in words(key, value)]


def exit32():
    """A program of the 32-bit sister of this architecture: ELF header, one segment, exit(0)."""
    kind, code = {
        "x86_64": (3, bytes.fromhex("b801000000 31db cd80")),  # mov $1,%eax; xor %ebx,%ebx; int $0x80
        "aarch64": (40, bytes.fromhex("0170a0e3 0000a0e3 000000ef")),  # mov r7, #1; mov r0, #0; svc #0
    }[os.uname().machine]
    at, base, header = 84, 0x10000, 52
    flags = 0x05000000 if kind == 40 else 0
    elf = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, kind, 1, base + at, header, 0, flags, header, 32, 1, 0, 0, 0)
    size = at + len(code)
    return elf + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000) + code


class Probes:
    """The units that try: 'whole', 'none', and one for each line and what it needs beside it."""

    def __init__(self):
        self.units = []

    def add(self, name, lines, actions):
        text = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\n" + "".join(f"{line}\n" for line in lines)
        text += f"ExecStart=/usr/bin/python3 -ISB {LIBRARY}/probe.py {' '.join(actions)}\n"
        text += f"StandardOutput=truncate:{OUTPUT}/{name}\nStandardError=journal\n"
        (UNITS / f"spe-broker-probe-{name}.service").write_text(text)
        self.units.append(name)

    def run(self):
        """{name: {action: outcome}}; all at once, as each has to start an interpreter."""
        systemctl("daemon-reload")
        systemctl("start", *(f"spe-broker-probe-{name}.service" for name in self.units), status=None)
        if any(not (OUTPUT / name).read_text() for name in self.units):
            raise system.Failed(run("journalctl", "--lines=40", "--unit=spe-broker-probe-*"))
        return {name: dict(line.split(" ", 1) for line in (OUTPUT / name).read_text().splitlines())
                for name in self.units}

    def remove(self):
        for name in self.units:
            (UNITS / f"spe-broker-probe-{name}.service").unlink(missing_ok=True)
        systemctl("daemon-reload")


def drop_ins():
    """The lines that the package adds to the unit, on this distribution."""
    paths = [path for path in show("DropInPaths").split() if not path.startswith("/run/")]
    return [f"{key}={value}" for path in paths for _, key, value in system.read_unit(path)]


def whole_unit(without=None):
    """The lines of [Service] as installed, but for what is run, and one line, or one word of a list."""
    lines = []
    for section, key, value in system.unit_lines(SERVICE):
        if section != "Service" or key in RUNS:
            continue
        found = words(key, value)
        kept = [word for word in found if word != without]
        sign = "~" if key in LISTS and value.startswith("~") else ""
        if kept == found:
            lines.append(f"{key}={value}")
        elif kept:
            lines.append(f"{key}={sign}" + " ".join(word.partition("=")[2].removeprefix("~") for word in kept))
    return lines


def kin(line):
    """The lines that one belongs to, without it."""
    key = line.partition("=")[0]
    keys = {key, *IDENTITY, *KIN.get(key, ())}
    return [other for other in whole_unit(without=line) if other.partition("=")[0] in keys]


class TestLines(unittest.TestCase):
    def test_each_has_an_entry(self):
        for unit, entries in LINES.items():
            self.assertEqual(sorted(lines_of(system.unit_lines(unit))), sorted(entries), unit)

    def test_entries_name_tests(self):
        for entries in LINES.values():
            for line, exercises in entries.items():
                self.assertTrue(exercises, line)
                for exercise in exercises:
                    if isinstance(exercise, Seen):
                        module, kind, method = exercise.test.split(".")
                        self.assertTrue(hasattr(getattr(importlib.import_module(module), kind), method), line)


class TestSandbox(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """What the probes look for, where every one of them can find it."""
        for directory in (LIBRARY, OUTPUT):
            directory.mkdir(mode=0o755, parents=True)
            cls.addClassCleanup(shutil.rmtree, directory)
        shutil.copy(GUEST / "probe.py", LIBRARY)
        shutil.copy("/usr/bin/cat", LIBRARY / "setuid-read")
        (LIBRARY / "setuid-read").chmod(0o4755)
        (LIBRARY / "secret").touch(0o600)
        (LIBRARY / "exit32").write_bytes(exit32())
        (LIBRARY / "exit32").chmod(0o755)
        (LIBRARY / "owned").touch()
        cls.make_kvm_node()
        pathlib.Path("/proc/sys/kernel/dmesg_restrict").write_text("1")  # as Debian has it
        system.set_paranoid(2)  # as others than Debian have it
        cls.addClassCleanup(system.set_paranoid, 3)
        (LIBRARY / "mount-namespace").write_text(system.namespace(1, "mnt"))
        victim = subprocess.Popen(system.as_user("tail", "-f", "/dev/null"))
        cls.addClassCleanup(victim.wait)
        cls.addClassCleanup(victim.kill)
        (LIBRARY / "victim").write_text(str(victim.pid))
        for path in ("/home/spe-broker-probe", "/root/spe-broker-probe", "/tmp/spe-broker-probe-file"):
            pathlib.Path(path).touch()
            cls.addClassCleanup(os.unlink, path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0spe-broker-probe")
        listener.listen(64)
        cls.addClassCleanup(listener.close)

    @classmethod
    def make_kvm_node(cls):
        """Where nothing has made one yet: opening it finds no device, if it is allowed at all."""
        path = pathlib.Path("/dev/kvm")
        if not path.exists():
            os.mknod(path, stat.S_IFCHR | 0o660, os.makedev(*KVM_DEVICE))
            os.chown(path, 0, grp.getgrnam("kvm").gr_gid)
            path.chmod(0o660)
            cls.addClassCleanup(path.unlink)

    def probe(self, units):
        """units: {name: (lines, actions)}"""
        probes = Probes()
        self.addCleanup(probes.remove)
        for name, (lines, actions) in units.items():
            probes.add(name, lines, actions)
        return probes.run()

    def exercises(self, kind):
        return [(line, e) for line, exercises in LINES[SERVICE].items() for e in exercises if isinstance(e, kind)]

    def test_lines(self):
        refusals, needs = self.exercises(Refuses), self.exercises(Needs)
        features = ["", *systemctl("--version").split()]
        permitted = {e.action for _, e in self.exercises(Permits) + needs}
        refused = {e.action for _, e in refusals}
        outcomes = self.probe({
            "whole": (whole_unit() + drop_ins(), {*refused, *REFUSED, *permitted}),
            "none": ([KEYRINGS], {*refused, *REFUSED} - {"run-setuid"}),
            "user": ([KEYRINGS, "User=nobody"], ["run-setuid"]),
            **{f"alone{i}": ([KEYRINGS, *e.beside, line], [e.action]) for i, (line, e) in enumerate(refusals)},
            **{f"without{i}": (kin(line), [e.action]) for i, (line, e) in enumerate(needs)},
        })

        def check(unit, action, expected, what):
            with self.subTest(f"{action} {what}"):
                (self.assertEqual if expected else self.assertNotEqual)(outcomes[unit][action], expected or "allowed")

        for action in {*refused, *REFUSED}:
            check("user" if action == "run-setuid" else "none", action, "allowed", "without any line")
            check("whole", action, None, "under the whole unit")
        for action in permitted:
            check("whole", action, "allowed", "under the whole unit")
        for i, (line, exercise) in enumerate(refusals):
            how = exercise.how if exercise.feature in features else "allowed"
            check(f"alone{i}", exercise.action, how, f"under {line} alone")
        for i, (line, exercise) in enumerate(needs):
            check(f"without{i}", exercise.action, exercise.how, f"without {line}")

    def test_refused_calls_fail(self):
        """SystemCallErrorNumber: without it, whoever makes such a call is killed."""
        outcomes = self.probe({"killed": (["SystemCallFilter=~chroot"], ["chroot"]),
                               "refused": (["SystemCallFilter=~chroot", ERRNO], ["chroot"])})
        self.assertEqual({name: found["chroot"] for name, found in outcomes.items()},
                         {"killed": KILLED, "refused": "EPERM"})

    def segments(self):
        lines = pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return [line.split()[1] for line in lines if int(line.split()[7]) == system.user().pw_uid]

    def test_nothing_stays_in_memory(self):
        """RemoveIPC: when nothing of the user runs any more, its segments are gone."""
        systemctl("stop", SOCKET)
        self.addCleanup(systemctl, "start", SERVICE)
        for lines, left in ((whole_unit(), 0), (whole_unit(without="RemoveIPC=yes"), 1)):
            outcomes = self.probe({"memory": (lines, ["share-memory"])})
            self.assertEqual(outcomes["memory"]["share-memory"], "allowed")
            system.wait_until(lambda n=left: len(self.segments()) == n, f"{left} segments left")
        for segment in self.segments():
            run("ipcrm", "--shmem-id", segment)


class TestProcess(unittest.TestCase):
    """The daemon itself, as the kernel has it."""

    def setUp(self):
        systemctl("reset-failed", SERVICE, status=None)
        systemctl("start", SERVICE)
        self.pid = system.main_pid()
        self.status = system.process_status(self.pid)

    def test_identity(self):
        user = system.user()
        self.assertEqual(self.status["Uid"].split(), [str(user.pw_uid)] * 4)
        self.assertEqual(self.status["Gid"].split(), [str(user.pw_gid)] * 4)
        self.assertEqual({int(group) for group in self.status["Groups"].split()},
                         {user.pw_gid, grp.getgrnam("kvm").gr_gid})
        self.assertNotEqual(user.pw_uid, 0)

    def test_capabilities(self):
        lines = lines_of(system.unit_lines(SERVICE)) + drop_ins()
        named = {line.partition("=")[2] for line in lines if line.startswith("CapabilityBoundingSet=")}
        mask = sum(1 << number for name, number in (CAPABILITIES | DEBIAN_CAPABILITIES).items() if name in named)
        self.assertLessEqual(named, {*CAPABILITIES, *DEBIAN_CAPABILITIES})
        for field in ("CapBnd", "CapPrm", "CapEff", "CapAmb", "CapInh"):
            self.assertEqual(int(self.status[field], 16), mask, field)

    def test_no_new_privileges(self):
        self.assertEqual(self.status["NoNewPrivs"], "1")

    def test_filter(self):
        self.assertEqual(self.status["Seccomp"], "2")
        self.assertGreater(int(self.status["Seccomp_filters"]), 5)

    def test_mask_and_limits(self):
        self.assertEqual(self.status["Umask"], "0077")
        limits = pathlib.Path(f"/proc/{self.pid}/limits").read_text().splitlines()
        files = next(line.split()[3:5] for line in limits if line.startswith("Max open files"))
        self.assertEqual(files, ["32768", "32768"])
        self.assertEqual(pathlib.Path(f"/proc/{self.pid}/oom_score_adj").read_text(), "-900\n")

    def test_namespaces(self):
        """Its own: the mounts, the network, the host's name. Not its own: users and processes, which are others'."""
        for kind in ("mnt", "net", "uts"):
            self.assertNotEqual(system.namespace(self.pid, kind), system.namespace(1, kind), kind)
        for kind in ("user", "pid", "cgroup"):
            self.assertEqual(system.namespace(self.pid, kind), system.namespace(1, kind), kind)

    def test_socket_name(self):
        """The socket's; of the others, which a broker before has kept, each has its own."""
        lines = pathlib.Path(f"/proc/{self.pid}/environ").read_bytes().decode().split("\0")
        environment = dict(line.split("=", 1) for line in lines if line)
        names = environment["LISTEN_FDNAMES"].split(":")
        self.assertEqual(environment["LISTEN_FDS"], str(len(names)))
        self.assertEqual([name for name in names if not name.startswith(("arbiter-", "reserve-", "owner-"))], ["varlink"])


