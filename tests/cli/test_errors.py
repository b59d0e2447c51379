# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong between speadm and a broker: one clear sentence, and an exit status that scripts rely on."""

import errno
import os
import socket

import cli
import fake
from cli import DONE, FAILED, HOST_CANNOT, NO_BROKER, REFUSED, USAGE
from fake import Error

INSTANCES = [{"name": "arm_spe_0", "cpus": "0-3"}, {"name": "arm_spe_1", "cpus": "4-11"}]
SERVICE = "org.varlink.service."
DRIVER = "this host has no SPU (see 'speadm check')"
HOLDERS = [fake.holder(), fake.holder(kind="session", leaseId=None, vm=None, pid=77, command=None, cpus="2")]

# (what the broker answers to Acquire, exit status, sentence)
ACQUIRE = [
    (Error("NoSuchInstance", instance="arm_spe_7", instances=["arm_spe_0", "arm_spe_1"]), FAILED,
     "there is no SPU arm_spe_7: this host has arm_spe_0, arm_spe_1"),
    (Error("NoSuchInstance", instance="arm_spe_7", instances=[]), HOST_CANNOT, DRIVER),
    (Error("InstanceNotReady", instance="arm_spe_0", state="partial", reason="no type"), HOST_CANNOT,
     "arm_spe_0 cannot be leased now, it is partial: no type (see 'speadm check')"),
    (Error("GuestUnsupported", instance="arm_spe_0", reason="KPTI is on"), HOST_CANNOT,
     "KVM cannot give arm_spe_0 to a guest: KPTI is on (see 'speadm check')"),
    (Error("NoInstanceForCpus", cpus="2-5", instances=INSTANCES), FAILED,
     "no one SPU has CPUs 2-5 on line: arm_spe_0 has 0-3, arm_spe_1 has 4-11"),
    (Error("NoInstanceForCpus", cpus="2-5", instances=[]), HOST_CANNOT, DRIVER),
    (Error("NotAssigned", cpus="0-1", owner="host", vm=None), REFUSED,
     "CPUs 0-1 are assigned to the host (see 'speadm list', 'speadm assign')"),
    (Error("NotAssigned", cpus="0-1", owner="guest", vm="db"), REFUSED,
     "CPUs 0-1 are assigned to VM db alone (see 'speadm list', 'speadm assign')"),
    (Error("NotAssigned", cpus="0-1", owner="any", vm=None), REFUSED,
     "an exclusive lease takes root, AdminGroup, or CPUs assigned to its VM: CPUs 0-1 are not (see 'speadm list',"
     " 'speadm assign')"),
    (Error("NotAssigned", cpus="0-1", owner="none", vm=None), REFUSED,
     "CPUs 0-1 are drained: neither host nor guests may have them (see 'speadm list', 'speadm assign')"),
    (Error("Busy", holders=HOLDERS), REFUSED,
     "busy: lease 0123456789ab of VM web (pid 1234, qemu-system-aar) on CPUs 0-3; session (pid 77) on CPUs 2"),
    (Error("Busy", holders=[]), REFUSED, "busy: an earlier request waits for these CPUs"),
    (Error("LimitExceeded", limit="MaxBufferSize", requested=128 << 20, available=64 << 20), REFUSED,
     "MaxBufferSize would be exceeded: 128M asked for, 64M left"),
    (Error("LimitExceeded", limit="MaxMemory", requested=8454144, available=0), REFUSED,
     "MaxMemory would be exceeded: 8.1M asked for, 0B left"),
    (Error("LimitExceeded", limit="MaxLeasesPerUser", requested=1, available=0), REFUSED,
     "MaxLeasesPerUser is reached: 1 asked for, 0 left"),
    (Error("BufferSizeNotRepresentable", requested=4198401, nearest=4198400), REFUSED,
     "the hardware cannot represent a buffer limit of 4198401 bytes; the nearest is 4198400"),
    (Error("ArbitrationUnavailable", reason="no BPF LSM"), HOST_CANNOT,
     "host sessions cannot be kept off: no BPF LSM"),
    (Error("NoSuchProcess", pid=4711), FAILED, "there is no process 4711"),
    (Error(SERVICE + "InvalidParameter", parameter="vm"), USAGE,
     "the VM's name cannot be derived from its process: give --vm NAME"),
    (Error(SERVICE + "InvalidParameter", parameter="bufferSize"), USAGE,
     "the broker does not accept this --buffer: see io.spebroker.Broker(7)"),
    (Error(SERVICE + "InvalidParameter", parameter="vcpus"), USAGE,
     "the broker does not accept this --vcpus: see io.spebroker.Broker(7)"),
    (Error(SERVICE + "InvalidParameter", parameter="colour"), USAGE,
     "the broker does not accept the parameter 'colour' of io.spebroker.Broker.Acquire"),
    (Error(SERVICE + "PermissionDenied"), REFUSED,
     "permission denied: this takes root or a member of AcquireGroup, and OrchestratorGroup for processes of other"
     " users (see spe-broker.conf(5))"),
    (Error(SERVICE + "MethodNotFound", method="io.spebroker.Broker.Acquire"), FAILED,
     "this broker does not know io.spebroker.Broker.Acquire: it is of another version than speadm"),
]


class TestErrors(cli.TestCase):
    def test_acquire(self):
        for error, code, sentence in ACQUIRE:
            with self.subTest(error.name, **error.parameters):
                broker = self.fake(Acquire=error)
                result = self.speadm("run", "--vcpus", "1", "--", "true", socket=broker.path, expect=code)
                self.assertEqual(self.sentence(result), sentence)

    def test_granted_twin(self):
        broker = self.fake(Acquire={"lease": fake.lease(cpus="0"), "change": None})
        self.speadm("run", "--vcpus", "1", "--", "true", socket=broker.path, expect=DONE)

    def test_admin(self):
        self.assertEqual(
            self.sentence(self.speadm("rescan", expect=REFUSED,
                                      socket=self.fake(Rescan=Error(SERVICE + "PermissionDenied")).path)),
            "permission denied: this takes root or a member of AdminGroup (see spe-broker.conf(5))")
        broken = Error("io.spebroker.Admin.InvalidConfiguration", file="/etc/spe-broker/spe-broker.conf", line=7,
                       message="MaxMemory= is no size")
        self.assertEqual(
            self.sentence(self.speadm("reload", socket=self.fake(Reload=broken).path, expect=FAILED)),
            "/etc/spe-broker/spe-broker.conf:7: MaxMemory= is no size; the running configuration stays in force")
        broken.parameters["line"] = 0
        self.assertIn("spe-broker.conf: MaxMemory",
                      self.sentence(self.speadm("reload", socket=self.fake(Reload=broken).path, expect=FAILED)))
        full = Error("io.systemd.System", errno=errno.ENOSPC)
        self.assertEqual(
            self.sentence(self.speadm("drain", "--cpus", "0", socket=self.fake(check=False, Assign=full).path,
                                      expect=FAILED)),
            "io.spebroker.Admin.Assign failed at the broker's side: No space left on device; its journal may say more"
            " (journalctl -u spe-broker)")
        gone = Error("io.spebroker.Admin.NoSuchLease", leaseId="a" * 32)
        self.assertEqual(
            self.sentence(self.speadm("revoke", "a" * 32, socket=self.fake(Revoke=gone).path, expect=FAILED)),
            f"there is no lease {'a' * 32} (any more); see 'speadm leases'")

    def test_permission(self):
        denied = Error(SERVICE + "PermissionDenied")
        for line, group in (("list", "ReadGroup"), ("query --vcpus 1", "AcquireGroup"),
                            ("release " + "a" * 32, "the lease's owner"), ("drain --cpus 0", "AdminGroup")):
            broker = self.fake(ListInstances=denied, Query=denied, Release=denied, Assign=denied)
            self.assertIn(group, self.sentence(self.speadm(*line.split(), socket=broker.path, expect=REFUSED)))

    def test_errors_are_text_with_json_too(self):
        """Nothing on stdout: a reader of JSON sees the exit status first."""
        broker = self.fake(ListInstances=Error(SERVICE + "PermissionDenied"))
        self.sentence(self.speadm("list", "-j", socket=broker.path, expect=REFUSED))

    def test_unknown_error(self):
        broker = self.fake(check=False, Rescan=Error("TooHot", degrees=90), Reload=Error("Too\x1b[31mHot"))
        self.assertEqual(self.sentence(self.speadm("rescan", socket=broker.path, expect=FAILED)),
                         "io.spebroker.Admin.Rescan failed: the broker answers TooHot")
        self.assertEqual(self.sentence(self.speadm("reload", socket=broker.path, expect=FAILED)),
                         "io.spebroker.Admin.Reload failed: the broker answers an error of no proper name")

    def test_fields_missing(self):
        """A broker that forgets its error's fields is survived."""
        for name in ("NoSuchInstance", "InstanceNotReady", "GuestUnsupported", "NoInstanceForCpus", "NotAssigned",
                     "Busy", "LimitExceeded", "BufferSizeNotRepresentable", "ArbitrationUnavailable", "NoSuchProcess",
                     "NoSuchLease", SERVICE + "InvalidParameter"):
            broker = self.fake(check=False, Rescan=Error(name))
            result = self.speadm("rescan", socket=broker.path, expect=self.expected_status(name))
            self.assertTrue(self.sentence(result))

    @staticmethod
    def expected_status(name):
        if name in ("NoSuchLease", "NoSuchProcess"):
            return FAILED
        if name in ("NotAssigned", "Busy", "LimitExceeded", "BufferSizeNotRepresentable"):
            return REFUSED
        return USAGE if name.startswith(SERVICE) else HOST_CANNOT


class TestConnection(cli.TestCase):
    def assert_no_broker(self, path):
        sentence = self.sentence(self.speadm("list", socket=path, expect=NO_BROKER))
        self.assertEqual(sentence, f"no broker listens at {path}: is spe-broker running? (systemctl start spe-broker)")

    def test_nothing_there(self):
        self.assert_no_broker(self.directory() / "socket")

    def test_nobody_listens(self):
        path = self.directory() / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
        self.assert_no_broker(path)

    def test_every_verb(self):
        path = self.directory() / "socket"
        for line in ("list", "leases", "refusals", "status", "query --vcpus 1", "assign host --cpus 0",
                     "unassign --cpus 0", "drain --cpus 0", "release abc", "revoke abc", "run --vcpus 1 -- true",
                     "monitor", "rescan", "reload", "-j list"):
            with self.subTest(line):
                self.assertIn("no broker listens", self.sentence(
                    self.speadm(*line.split(), socket=path, expect=NO_BROKER)))

    def test_path_too_long(self):
        sentence = self.sentence(self.speadm("list", socket="/" + "x" * 200, expect=FAILED))
        self.assertIn(os.strerror(errno.ENAMETOOLONG), sentence)

    def test_no_permission(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        broker = self.fake(ListInstances={"instances": []})
        os.chmod(broker.path, 0o600)
        result = self.speadm("list", socket=broker.path, expect=REFUSED, user=65534, group=65534, extra_groups=[])
        self.assertEqual(self.sentence(result),
                         f"permission denied to connect to the broker at {broker.path}: ask as root")

    def test_hangs_up(self):
        broker = self.fake(ListInstances=fake.HANG_UP)
        self.assertRegex(self.sentence(self.speadm("list", socket=broker.path, expect=NO_BROKER)),
                         r"\Athe broker at .* closed the connection: ")

    def test_talks_nonsense(self):
        for nonsense in (b"{}}\0", b"\0", b"[]\0", b'{"parameters":[]}\0', b'{"parameters":{"instances":["\xff"]}}\0',
                         b'{"error":7}\0', b"HTTP/1.1 400 Bad Request\r\n\r\n\0"):
            with self.subTest(nonsense):
                broker = self.fake(ListInstances=fake.Raw(nonsense))
                self.assertRegex(self.sentence(self.speadm("list", socket=broker.path, expect=NO_BROKER)),
                                 r"\Athe broker at .* closed the connection: ")

    def test_output_fails(self):
        broker = self.fake(ListInstances={"instances": [fake.instance()]})
        for arguments in ((), ("-j",), ("--help",)):
            with open("/dev/full", "w") as full:
                result = self.speadm(*arguments, socket=broker.path, stdout=full, expect=FAILED)
            self.assertEqual(result.err, "speadm: cannot write to standard output: No space left on device\n")


if __name__ == "__main__":
    cli.main()
