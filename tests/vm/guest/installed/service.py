# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units at work: started, found by name, asked, told to reload, stopped, killed, hung, and back again."""

import json
import os
import pathlib
import resource
import signal
import socket
import stat
import subprocess
import threading
import unittest

import system
from system import ADDRESS, CONFIGURATION, NOBODY, SERVICE, SOCKET, STATE, Journal, run, show, systemctl


def speadm(*arguments, status=0):
    return run("speadm", *arguments, status=status)


def query(*groups, status=0):
    """What nobody is told, as a member of these groups."""
    return run(*system.as_user("speadm", "query", "--vm", "guest", "--vcpus", "2", groups=groups), status=status)


def leases():
    return json.loads(speadm("--json", "leases"))


class Vmm:
    """speadm run as nobody, in group kvm; the VMM is a shell that waits for a line, and keeps its name."""

    def __init__(self, *arguments, groups=("kvm",)):
        self.process = subprocess.Popen(
            system.as_user("speadm", "run", "--vm", "guest", "--vcpus", "2", *arguments, "--", "/bin/sh", "-c",
                            'echo "$SPE_BROKER_LEASE"; read line', groups=groups),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lease = self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(system.DEADLINE)


class Clients:
    """One after the other asks while something is done, and none finds the door closed. (Whom the old daemon has let in
    and not answered yet is cut off.)"""

    def __init__(self):
        self.answered, self.refused, self.done = [], [], threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        while not self.done.is_set():
            text = run("speadm", "--no-legend", "list", status=None)
            (self.answered if "arm_spe_0" in text else self.refused).append(text)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def check(self, test):
        test.assertEqual([text for text in self.refused if "closed the connection" not in text], [])
        test.assertGreater(len(self.answered), len(self.refused))


class TestCase(unittest.TestCase):
    """Each test finds the broker running, however the one before has left it."""

    def setUp(self):
        systemctl("reset-failed", SERVICE, SOCKET, status=None)  # and the count of starts that are too many at once
        systemctl("start", SERVICE)
        self.addCleanup(self.tell)

    def tell(self):
        if not self._outcome.success:
            print(systemctl("status", "--lines=30", SERVICE, SOCKET, status=None))

    def vmm(self, *arguments, **options):
        vmm = Vmm(*arguments, **options)
        self.addCleanup(vmm.end)
        return vmm

    def configure(self, text):
        path = CONFIGURATION / "spe-broker.conf.d/50-test.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.addCleanup(speadm, "reload")
        self.addCleanup(path.unlink)
        return path


class TestStart(TestCase):
    def test_state(self):
        expected = {"ActiveState": "active", "SubState": "running", "Type": "notify", "NotifyAccess": "main",
                    "Result": "success", "ExecMainStatus": "0", "User": "spe-broker", "UnitFileState": "enabled",
                    "NeedDaemonReload": "no", "StatusText": "brokering 2 SPUs of the simulated host biglittle, host sessions: none"}
        self.assertEqual(system.properties(*expected), expected)
        expected = {"SubState": "running", "UnitFileState": "enabled"}
        self.assertEqual(system.properties(*expected, unit=SOCKET), expected)
        self.assertEqual(system.control_group_processes().read_text().split(), [str(system.main_pid())])

    def test_started_is_ready(self):
        """systemctl returns when the daemon has said READY=1: its answer does not wait for anything any more."""
        systemctl("restart", SERVICE)
        self.assertEqual(show("ActiveState"), "active")
        self.assertNotEqual(system.main_pid(), 0)
        self.assertIn("arm_spe_0", speadm("list"))

    def test_a_stranger_cannot_notify(self):
        """NotifyAccess=main: what another process says is not believed, even one of the same unit."""
        text, journal = show("StatusText"), Journal(_PID="1")
        with open(system.control_group_processes(), "w", encoding="utf-8") as group, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            child = os.fork()
            if child == 0:
                try:
                    group.write(str(os.getpid()))
                    group.flush()
                    notify.sendto(b"STATUS=forged", "/run/systemd/notify")
                finally:
                    signal.pause()  # so that PID 1 still finds it in the unit
            try:
                journal.wait("reception only permitted for main PID")
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        self.assertEqual(show("StatusText"), text)

    def test_directories(self):
        own = system.user()
        for path, mode in {system.RUNTIME: 0o755, STATE: 0o750, CONFIGURATION: 0o755}.items():
            found = path.stat()
            self.assertEqual(stat.S_IMODE(found.st_mode), mode, path)
            self.assertEqual(found.st_uid, 0 if path == CONFIGURATION else own.pw_uid, path)
        self.assertTrue(own.pw_shell.endswith("/nologin"))
        self.assertEqual(stat.S_IMODE(ADDRESS.stat().st_mode), 0o666)
        for interface in ("Broker", "Admin"):
            self.assertEqual(os.readlink(system.REGISTRY / f"io.spebroker.{interface}"), str(ADDRESS))

    def test_more_descriptors_than_usual(self):
        """LimitNOFILE: more clients at once than the usual 1,024 descriptors would hold, and all are answered."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        clients = []
        self.addCleanup(lambda: [client.close() for client in clients])
        for _ in range(1100):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.settimeout(system.DEADLINE)
            client.connect(str(ADDRESS))
            client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
            clients.append(client)
        for client in clients:
            self.assertIn(b"io.spebroker.Broker", client.recv(4096))


class TestActivation(TestCase):
    def test_first_client_starts_it(self):
        systemctl("stop", SERVICE)
        expected = {"ActiveState": "inactive", "Result": "success"}
        self.assertEqual(system.properties(*expected), expected)
        self.assertEqual(show("SubState", SOCKET), "listening")
        self.assertIn("arm_spe_0", run(*system.as_user("speadm", "list")))
        self.assertEqual(show("ActiveState"), "active")

    def test_many_first_clients(self):
        systemctl("stop", SERVICE)
        journal = Journal()
        clients = [subprocess.Popen(["speadm", "--json", "list"], stdout=subprocess.PIPE, text=True) for _ in range(8)]
        answers = {client.communicate(timeout=system.DEADLINE)[0] for client in clients}
        self.assertEqual({client.returncode for client in clients}, {0})
        self.assertEqual(len(answers), 1)
        self.assertEqual(len([m for m in journal.messages() if m.startswith("brokering")]), 1, "one start")

    def test_socket_stops_both(self):
        systemctl("stop", SOCKET)
        expected = {"ActiveState": "inactive", "Result": "success"}
        self.assertEqual(system.properties(*expected), expected)
        self.assertFalse(ADDRESS.exists())
        self.assertEqual(list(system.REGISTRY.glob("io.spebroker.*")), [])
        speadm("list", status=4)
        self.assertEqual(show("ActiveState"), "inactive", "nobody listens")
        systemctl("start", SERVICE)  # brings the socket with it
        self.assertEqual(show("ActiveState", SOCKET), "active")
        speadm("list")


class TestAccess(TestCase):
    def test_everybody_may_read(self):
        for verb in ("list", "leases", "refusals"):
            self.assertEqual(run(*system.as_user("speadm", verb)), speadm(verb), verb)

    def test_group_kvm_may_acquire(self):
        self.assertIn("permission denied", query(status=3))
        self.assertIn("granted", query("kvm"))
        self.assertEqual(self.vmm(groups=()).lease, "")

        vmm = self.vmm()
        (lease,) = leases()
        self.assertEqual(lease["leaseId"], vmm.lease)
        self.assertEqual((lease["owner"]["uid"], lease["owner"]["pid"]), (NOBODY, vmm.process.pid))
        self.assertNotEqual(lease["owner"]["command"], "", "as is told of a process of another user")
        vmm.end()
        system.wait_until(lambda: not leases(), "the lease ends with its owner")

    def test_only_root_administers(self):
        for command in (("assign", "host", "--cpus", "0"), ("reload",), ("rescan",)):
            self.assertIn("permission denied",
                          run(*system.as_user("speadm", *command, groups=("kvm",)), status=3), command)
            speadm(*command)
        speadm("unassign", "--cpus", "0")

    def test_kill_the_owner(self):
        """CAP_KILL: the VMM is another user's."""
        vmm = self.vmm()
        speadm("revoke", "--kill", "--grace", "0", vmm.lease)
        self.assertIn(vmm.process.wait(system.DEADLINE), (-signal.SIGTERM, -signal.SIGKILL))

    def test_control_group(self):
        """It is read where nothing is writable: who is in it, and when the last one has left; and all of it is killed."""
        scope = f"spe-broker-test-{os.getpid()}"
        sleeper = subprocess.Popen(["systemd-run", "--quiet", "--scope", "--unit", scope, "sleep", "infinity"])
        self.addCleanup(sleeper.wait)
        self.addCleanup(sleeper.kill)
        group = f"/system.slice/{scope}.scope"
        processes = pathlib.Path(f"/sys/fs/cgroup{group}/cgroup.procs")
        system.wait_until(lambda: processes.exists() and str(sleeper.pid) in processes.read_text().split(), "the scope")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(system.DEADLINE)
            client.connect(str(ADDRESS))
            request = {"vcpus": 1, "cgroup": group}
            client.sendall(json.dumps({"method": "io.spebroker.Broker.Acquire",
                                       "parameters": {"request": request}}).encode() + b"\0")
            lease = json.loads(client.recv(65536)[:-1])["parameters"]["lease"]
        self.assertEqual((lease["vm"], lease["vmOrigin"], lease["owner"]["cgroup"], lease["reason"]),
                         (f"{scope}.scope", "unit", group, None))
        speadm("revoke", "--kill", "--grace", "0", lease["leaseId"])
        self.assertEqual(sleeper.wait(system.DEADLINE), -signal.SIGTERM)
        system.wait_until(lambda: not leases(), "the lease ends with the last process")


    def test_raise_the_limit(self):
        """CAP_SYS_RESOURCE: so is the limit that follows its lease."""
        self.configure("[Memlock]\nManage=yes\n")
        speadm("reload")
        vmm = self.vmm()
        lease = next(lease for lease in leases() if lease["leaseId"] == vmm.lease)
        pid = lease["owner"]["pid"]
        self.assertEqual(lease["memlock"], {"bytes": lease["charge"], "state": "applied"})
        raised, _ = resource.prlimit(pid, resource.RLIMIT_MEMLOCK)
        speadm("release", vmm.lease)
        self.assertEqual(resource.prlimit(pid, resource.RLIMIT_MEMLOCK)[0], raised - lease["charge"])


class TestReload(TestCase):
    def test_good(self):
        pid, invocation = system.main_pid(), show("InvocationID")
        self.assertIn("granted", query("kvm"))
        self.configure("[Policy]\nAcquireGroup=\n")
        systemctl("reload", SERVICE)
        system.wait_until(lambda: "permission denied" in query("kvm", status=None), "the new configuration")
        self.assertEqual((system.main_pid(), show("InvocationID")), (pid, invocation))
        self.assertEqual(show("ActiveState"), "active")

    def test_bad(self):
        """It stays as it was, and the journal says where to look: for people in the message, for programs as fields."""
        pid, journal = system.main_pid(), Journal()
        path = self.configure("[Limits]\nMaxLeases=1\nMaxBufferSize=large\n")
        systemctl("reload", SERVICE)
        entry = journal.wait("the running configuration stays in force")
        self.assertTrue(entry["MESSAGE"].startswith(f"{entry['CONFIG_FILE']}:3: "), entry["MESSAGE"])
        self.assertEqual(pathlib.Path("/") / entry["CONFIG_FILE"], path)
        self.assertEqual((entry["CONFIG_LINE"], entry["PRIORITY"]), ("3", "3"))
        self.assertEqual(entry["MESSAGE_ID"], "c772d24e9a884cbeb9ea12625c306c01", "systemd's, of an invalid file")
        self.assertEqual(system.main_pid(), pid)
        self.assertIn("4096", json.dumps(json.loads(speadm("--json", "status"))), "MaxLeases as before")
        self.assertIn(path.name, speadm("reload", status=1))

        path.write_text("[Limits]\nMaxLeases=7\nNoSuchKey=1\n")
        speadm("reload")
        (entry,) = journal.entries(PRIORITY="4")
        self.assertEqual((entry["CONFIG_LINE"], pathlib.Path("/") / entry["CONFIG_FILE"]), ("3", path))

    def test_bad_at_start(self):
        """There is nothing to fall back to: it does not start, and says why; it does once the file is right."""
        path, journal = self.configure("[Policy]\nDefaultOwner=nobody\n"), Journal()
        systemctl("stop", SERVICE)
        self.assertNotEqual(systemctl("start", SERVICE, status=None), "")
        self.assertIn(show("ActiveState"), ("failed", "activating"))
        self.assertEqual(journal.wait("DefaultOwner")["CONFIG_LINE"], "2")
        path.write_text("")
        systemctl("reset-failed", SERVICE, SOCKET, status=None)
        systemctl("start", SERVICE)


class TestJournal(TestCase):
    def test_fields(self):
        journal = Journal()
        systemctl("restart", SERVICE)
        entry = journal.wait("brokering")
        self.assertEqual(entry["MESSAGE"], show("StatusText"))
        self.assertEqual((entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"], entry["_TRANSPORT"]),
                         ("spe-broker", "6", "journal"))
        self.assertEqual(entry["_UID"], str(system.user().pw_uid))
        self.assertNotIn("CONFIG_FILE", entry)

    def test_silent_while_all_is_well(self):
        """Of a start, work, a reload and a stop: what it serves, nothing to worry about."""
        journal = Journal()
        systemctl("restart", SERVICE)
        self.vmm().end()
        speadm("query", "--vm", "guest", "--vcpus", "2", "--cpus", "4095", status=None)  # a client's mistake is no news
        systemctl("reload", SERVICE)
        systemctl("stop", SERVICE)
        own = journal.entries(SYSLOG_IDENTIFIER="spe-broker")
        words = [entry["MESSAGE"].split()[0] for entry in own]  # the first may be the stop of the one before
        self.assertEqual(words[words.index("SIMULATED"):], ["SIMULATED", "brokering", "stops"])


class TestEnd(TestCase):
    def test_stop(self):
        vmm = self.vmm()
        systemctl("stop", SERVICE)
        expected = {"Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}
        self.assertEqual(system.properties(*expected), expected)
        self.assertIsNone(vmm.process.poll(), "a VMM runs on")

    def test_ended_by_somebody(self):
        """SIGTERM from whoever is not 'systemctl stop': it is started again."""
        self.crash(signal.SIGTERM)

    def test_never_given_up(self):
        """More starts that fail than systemd lets others have (5 in 10 s), and clients that want it meanwhile: socket
        and service go on, and it is there as soon as it can be."""
        path = CONFIGURATION / "spe-broker.conf.d/50-test.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[Policy]\nDefaultOwner=nobody\n")
        self.addCleanup(path.unlink, missing_ok=True)
        before = int(show("NRestarts"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(system.DEADLINE)
            os.kill(system.main_pid(), signal.SIGKILL)
            client.connect(str(ADDRESS))
            client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
            system.wait_until(lambda: int(show("NRestarts")) - before > 5, "more starts than usual")
            path.unlink()
            self.assertIn(b"io.spebroker.Broker", client.recv(4096))
        self.assertEqual(show("ActiveState"), "active")

    def crash(self, send):
        before = system.properties("MainPID", "NRestarts")
        os.kill(int(before["MainPID"]), send)

        def restarted():
            now = system.properties("MainPID", "NRestarts", "ActiveState")
            return int(now["NRestarts"]) > int(before["NRestarts"]) and now["ActiveState"] == "active" and now

        self.assertNotIn(system.wait_until(restarted, "a restart")["MainPID"], ("0", before["MainPID"]))
        self.assertIn("arm_spe_0", speadm("list"))

    def test_killed(self):
        self.crash(signal.SIGKILL)

    def test_crashed_keeps_assignments(self):
        speadm("assign", "host", "--cpus", "0")
        speadm("assign", "guest", "--runtime", "--cpus", "1")
        self.addCleanup(speadm, "unassign", "--cpus", "0-1")
        for path in (STATE / "assignments.json", system.RUNTIME / "assignments.json"):
            found = path.stat()
            self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid), (0o644, system.user().pw_uid), path)
        before = json.loads(speadm("--json", "list"))[0]["assignments"]
        self.assertEqual([(a["cpus"], a["origin"]) for a in before],
                         [("1", "runtime"), ("0", "persistent")])
        self.crash(signal.SIGSEGV)
        self.assertEqual(json.loads(speadm("--json", "list"))[0]["assignments"], before)

    def test_hung(self):
        """WatchdogSec: it says that it is well in time, and is started anew when it does not."""
        system.drop_in("50-watchdog", "WatchdogSec=3s")
        self.addCleanup(system.remove_drop_in, "50-watchdog")
        systemctl("restart", SERVICE)
        first = show("WatchdogTimestampMonotonic")
        system.wait_until(lambda: show("WatchdogTimestampMonotonic") != first, "WATCHDOG=1")
        vmm, before = self.vmm(), leases()
        self.assertEqual([lease["leaseId"] for lease in before], [vmm.lease])
        journal = Journal(UNIT=SERVICE)
        self.crash(signal.SIGSTOP)
        self.assertEqual(leases(), before)
        self.assertTrue(any("'watchdog'" in message for message in journal.messages()), journal.messages())

    def test_clients_wait_through_a_restart(self):
        with Clients() as clients:
            systemctl("restart", SERVICE)
        clients.check(self)


@unittest.skipUnless(os.environ.get("SPE_VM_MODULE"), "no module with test PMUs")
class TestSpus(TestCase):
    """The unit as it is installed, on the kernel's own PMUs and uevents."""

    def instances(self):
        return {instance["name"]: instance for instance in json.loads(run(*system.as_user("speadm", "--json", "list")))}

    def test_followed(self):
        system.remove_drop_in("10-host")
        self.addCleanup(system.simulate)
        systemctl("restart", SERVICE)
        self.assertEqual(self.instances(), {})
        run("insmod", os.environ["SPE_VM_MODULE"], "cpus=0-1;2-3")
        try:
            found = system.wait_until(lambda: len(self.instances()) == 2 and self.instances(), "two SPUs")
            self.assertEqual({name: (i["state"], i["cpus"], i["driver"]) for name, i in found.items()},
                             {"arm_spe_0": ("ready", "0-1", "module"), "arm_spe_1": ("ready", "2-3", "module")})
            for name, instance in found.items():
                device = pathlib.Path("/sys/bus/event_source/devices") / name
                self.assertEqual(instance["pmuType"], int((device / "type").read_text()))
            self.acquire(found["arm_spe_0"])
        finally:
            run("rmmod", "arm_spe_pmu")
        system.wait_until(lambda: not self.instances(), "none")

    def acquire(self, instance):
        """As KVM says of this machine; where it says nothing, a lease is given."""
        vmm = self.vmm("--instance", instance["name"])
        if instance["guest"] == "no":
            self.assertEqual(vmm.lease, "")
            self.assertIn("GuestUnsupported", speadm("refusals"))
            return
        (lease,) = leases()
        self.assertEqual((lease["leaseId"], lease["pmuType"]), (vmm.lease, instance["pmuType"]))
        speadm("release", vmm.lease)
        self.assertEqual(leases(), [])
