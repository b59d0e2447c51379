# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a process may do: probe.py ACTION..., each in a process of its own. Prints a line "ACTION OUTCOME" for each,
where an outcome is "allowed", an error's name, or the number of the signal that it ended by.

Runs under the lines of a unit (sandbox.py), and without them, where each of these succeeds. It is started dozens of
times, on an emulated processor: it imports no more than it must."""

import ctypes
import errno
import os
import resource
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
SYSTEM_CALLS = {
    "x86_64": {"delete_module": 176, "keyctl": 250, "perf_event_open": 298, "bpf": 321},
    "aarch64": {"delete_module": 106, "keyctl": 219, "perf_event_open": 241, "bpf": 280},
}
NETLINK_KOBJECT_UEVENT, KERNEL_GROUP = 15, 1
CLONE_NEWUTS = 0x04000000
BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_KPROBE = 0, 5, 2, 2
PERF_TYPE_SOFTWARE, PERF_ATTR_SIZE, PERF_DISABLED = 1, 64, 1
KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING = 6, -3
MAP_PRIVATE_ANONYMOUS = 0x22
MAP_FAILED = ctypes.c_void_p(-1).value
PROT_READ_WRITE_EXECUTE = 7
SYSLOG_ACTION_CLEAR = 5
PTRACE_SEIZE = 0x4206
UNAME26 = 0x0020000
IPC_PRIVATE, IPC_CREAT_0600 = 0, 0o1600

LIBRARY = os.path.dirname(os.path.abspath(__file__))  # where the test has put what these look for


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def system_call(name, *arguments):
    number = SYSTEM_CALLS[os.uname().machine][name]
    return check(LIBC.syscall(ctypes.c_long(number), *arguments))


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    os.unlink(path)


def overwrite(path):
    os.close(os.open(path, os.O_WRONLY))


def read(path):
    with open(path, "rb") as file:
        return file.read(4096)


def run(*command):
    """Its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)[1])


def temporary():
    """An empty file of one's own, created without a mode."""
    path = f"/tmp/spe-broker-probe-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return path


def refuse():
    raise PermissionError(errno.EPERM, "")


def make_setuid():
    path = temporary()
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)


def run_setuid():
    """A program of root's with the set-user-id bit becomes root: this one fails otherwise."""
    if run(f"{LIBRARY}/setuid-read", f"{LIBRARY}/secret") != 0:
        refuse()


def map_writable_and_executable():
    LIBC.mmap.restype = ctypes.c_void_p
    if LIBC.mmap(None, ctypes.c_size_t(4096), PROT_READ_WRITE_EXECUTE, MAP_PRIVATE_ANONYMOUS, -1,
                 ctypes.c_long(0)) == MAP_FAILED:
        raise OSError(ctypes.get_errno(), "")


def connect_abstract():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect("\0spe-broker-probe")


def send_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"", ("127.0.0.1", 9))


def bind_port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))


def open_socket(family):
    socket.socket(family, socket.SOCK_STREAM).close()


def hear_uevents():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as uevents:
        uevents.bind((0, KERNEL_GROUP))


def realtime():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def read_clock_adjustment():
    check(LIBC.adjtimex(ctypes.create_string_buffer(512)))


def foreign_architecture():
    """A program for 32 bits, which exits with its first system call."""
    status = run(f"{LIBRARY}/exit32")
    if status < 0:
        os.kill(os.getpid(), -status)


def share_memory():
    """Leaves a System V segment of the unit's user behind."""
    check(LIBC.shmget(IPC_PRIVATE, 4096, IPC_CREAT_0600))


def session_keyring():
    """Allowed where it is the session keyring of those who came before, and not one of its own."""
    description = ctypes.create_string_buffer(256)
    system_call("keyctl", KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, description, len(description))
    if description.value.endswith(b";_ses"):
        refuse()


def delete_module():
    """There is no such module, which only those learn who may ask."""
    try:
        system_call("delete_module", b"spe_broker_no_such_module", os.O_NONBLOCK)
    except FileNotFoundError:
        pass


def open_files():
    """What is created without a mode is for others, too."""
    path = temporary()
    mode = os.stat(path).st_mode
    os.unlink(path)
    if not mode & 0o077:
        refuse()


def mount_seen_outside():
    """Whether init's mounts are its own."""
    if os.readlink("/proc/self/ns/mnt") != read(f"{LIBRARY}/mount-namespace").decode():
        refuse()


def victim():
    """A process of another user."""
    return int(read(f"{LIBRARY}/victim"))


def raise_memlock():
    soft, hard = resource.prlimit(victim(), resource.RLIMIT_MEMLOCK)
    resource.prlimit(victim(), resource.RLIMIT_MEMLOCK, (soft, hard if hard == resource.RLIM_INFINITY else hard + 1))


def bpf(command, attributes):
    os.close(system_call("bpf", command, attributes, len(attributes)))


def numbers(size, *values):
    return b"".join(value.to_bytes(size, sys.byteorder) for value in values)


def make_bpf_map():
    """An array of one number; without CAP_BPF, Debian's kernels refuse it."""
    bpf(BPF_MAP_CREATE, numbers(4, BPF_MAP_TYPE_ARRAY, 4, 4, 1))


def load_bpf_program():
    """One for kprobes, which takes CAP_PERFMON, too: r0 = 0; exit."""
    code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000 9500000000000000"), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = numbers(8, ctypes.addressof(code), ctypes.addressof(licence))
    bpf(BPF_PROG_LOAD, numbers(4, BPF_PROG_TYPE_KPROBE, 2) + addresses)


def open_event():
    """A disabled one, on CPU 0, of the software PMU's clock."""
    attributes = ctypes.create_string_buffer(numbers(4, PERF_TYPE_SOFTWARE, PERF_ATTR_SIZE).ljust(40, b"\0") +
                                             numbers(8, PERF_DISABLED).ljust(24, b"\0"), PERF_ATTR_SIZE)
    os.close(system_call("perf_event_open", attributes, -1, 0, -1, 0))


def open_kvm():
    """There may be no KVM behind the node."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENXIO):
            raise


def be_root():
    if os.getuid() != 0:
        refuse()


def drop_identity():
    os.setuid(os.getuid())


ACTIONS = {
    "write-usr": lambda: create("/usr/spe-broker-probe"),
    "write-etc": lambda: create("/etc/spe-broker-probe"),
    "write-var": lambda: create("/var/lib/spe-broker-probe"),
    "write-configuration": lambda: create("/etc/spe-broker/probe"),
    "write-state": lambda: create("/var/lib/spe-broker/probe"),
    "write-runtime": lambda: create("/run/spe-broker/probe"),
    "write-tmp": lambda: create("/tmp/spe-broker-probe"),
    "write-sysctl": lambda: overwrite("/proc/sys/kernel/domainname"),
    "make-cgroup": lambda: os.mkdir("/sys/fs/cgroup/spe-broker-probe") or os.rmdir("/sys/fs/cgroup/spe-broker-probe"),
    "read-cgroup": lambda: read("/sys/fs/cgroup/init.scope/cgroup.events"),
    "read-home": lambda: read("/home/spe-broker-probe"),
    "read-root-home": lambda: read("/root/spe-broker-probe"),
    "read-others-tmp": lambda: read("/tmp/spe-broker-probe-file"),
    "read-kernel-log": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)),
    "write-kernel-log": lambda: overwrite("/dev/kmsg"),
    "open-kvm": open_kvm,
    "read-disk": lambda: read("/dev/vda"),
    "read-null-device": lambda: read("/dev/null"),
    "read-kernel-types": lambda: read("/sys/kernel/btf/vmlinux"),
    "read-security-modules": lambda: read("/sys/kernel/security/lsm"),
    "read-spus": lambda: os.listdir("/sys/bus/event_source/devices") and None,
    "read-meminfo": lambda: read("/proc/meminfo"),
    "read-process": lambda: read(f"/proc/{victim()}/stat"),
    "open-pidfd": lambda: os.close(os.pidfd_open(victim())),
    "clear-kernel-log": lambda: check(LIBC.klogctl(SYSLOG_ACTION_CLEAR, None, 0)),
    "delete-module": delete_module,
    "adjust-clock": read_clock_adjustment,
    "set-hostname": lambda: socket.sethostname(socket.gethostname()),
    "unshare": lambda: check(LIBC.unshare(CLONE_NEWUTS)),
    "realtime": realtime,
    "make-setuid": make_setuid,
    "run-setuid": run_setuid,
    "personality": lambda: check(LIBC.personality(ctypes.c_ulong(UNAME26))),
    "write-execute": map_writable_and_executable,
    "keyring": session_keyring,
    "32-bit": foreign_architecture,
    "trace-another": lambda: check(LIBC.ptrace(PTRACE_SEIZE, ctypes.c_long(victim()), None, None)),
    "make-bpf-map": make_bpf_map,
    "load-bpf-program": load_bpf_program,
    "open-event": open_event,
    "trace": lambda: check(LIBC.ptrace(0, 0, None, None)),
    "chroot": lambda: os.chroot("/"),
    "set-user": drop_identity,
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0)),
    "set-owner": lambda: os.chown(f"{LIBRARY}/owned", 1, 1),
    "unix-socket": lambda: open_socket(socket.AF_UNIX),
    "inet-socket": lambda: open_socket(socket.AF_INET),
    "hear-uevents": hear_uevents,
    "abstract-socket": connect_abstract,
    "send-loopback": send_loopback,
    "bind-port": bind_port,
    "share-memory": share_memory,
    "open-files": open_files,
    "mount-namespace": mount_seen_outside,
    "kill-another-users": lambda: os.kill(victim(), 0),
    "raise-anothers-memlock": raise_memlock,
    "be-root": be_root,
}


def outcome(name):
    """In a child: what an action changes is gone with it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = "allowed"
        try:
            ACTIONS[name]()
        except OSError as error:
            text = errno.errorcode.get(error.errno, str(error.errno))
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return str(-status) if status < 0 else text or f"exit status {status}"


if __name__ == "__main__":
    for action in sys.argv[1:]:
        print(action, outcome(action))
