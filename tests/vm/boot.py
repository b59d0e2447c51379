# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots a VM that does one job and ends.

The job is a directory of the host's, shared with the VM: agent.py in it runs the commands of job.json, one after the
other, and leaves NAME.log and NAME.status for each. What a command prints comes here too, while it runs. The root
file system is never written to: each VM has a copy of its own, which is gone with it."""

import ctypes
import json
import pathlib
import shutil
import signal
import subprocess
import threading

import fetch
import kernel
import machines
import rootfs

GUEST = pathlib.Path(__file__).resolve().parent / "guest"
PR_SET_PDEATHSIG = 1
# Beside the deadlines of its commands, a VM gets this to boot and to end.
BOOT_SECONDS = 180
LOG_LINES = 40


class Failed(Exception):
    """The VM did not do its job; the message says what is known."""


class Job:
    """Commands for one VM, the host's directories that it sees, and what it is. One that is counted has a processor of
    which each instruction takes a nanosecond: what is measured there are instructions, each time as many."""

    def __init__(self, architecture, kernel, systemd=True, append="", counted=False):
        self.architecture, self.kernel, self.systemd, self.append = architecture, kernel, systemd, append
        self.counted = counted
        self.commands, self.shares, self.environment = [], {}, {}

    def add(self, name, command, timeout):
        self.commands.append({"name": name, "command": command, "timeout": timeout})

    def share(self, guest, host, writable=False):
        """Makes the host's directory a directory of the VM; every user there can read it."""
        self.shares[guest] = (pathlib.Path(host).resolve(), writable)

    def describe(self):
        mounts = [{"tag": f"share{i}", "path": guest, "writable": writable}
                  for i, (guest, (_, writable)) in enumerate(self.shares.items())]
        return json.dumps({"mounts": mounts, "commands": self.commands, "environment": self.environment}, indent=1)

    def deadline(self):
        return BOOT_SECONDS + sum(command["timeout"] for command in self.commands)


def share_arguments(tag, path, writable):
    escaped = str(path).replace(",", ",,")
    rights = "" if writable else ",readonly=on"
    # 'none': a file belongs to who runs QEMU, if that is not root, whoever wrote it in the VM.
    return ["-virtfs", f"local,path={escaped},mount_tag={tag},security_model=none,multidevs=remap{rights}"]


def command_line(job, directory):
    machine = machines.ARCHITECTURES[job.architecture]
    initramfs = kernel.initramfs(job.architecture, job.kernel)
    append = [f"console={machine['console']}", "loglevel=4", "panic=-1", "audit=0"]
    append.append("systemd.show_status=0" if job.systemd else "vm.init=/usr/local/sbin/vm-agent")
    root = str(rootfs.make_root(job.architecture) / "root.ext4").replace(",", ",,")
    arguments = [
        *fetch.qemu()(job.architecture), *machine["machine"],
        *(machines.COUNTED if job.counted else machines.UNCOUNTED),
        "-m", str(machines.MEMORY_MIB), "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot",
        "-kernel", str(kernel.bootable(job.architecture, job.kernel)), "-initrd", str(initramfs),
        "-append", " ".join([*append, *job.append.split()]),
        "-drive", f"file={root},format=raw,if=virtio,snapshot=on",
        "-serial", f"file:{str(directory / 'console.log').replace(',', ',,')}",
        "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        # A file can always be written to; stdio would be closed at the end of its input.
        "-chardev", "file,id=output,path=/dev/stdout", "-device", "virtserialport,chardev=output,name=output",
        *share_arguments("job", directory, True),
    ]
    for i, (path, writable) in enumerate(job.shares.values()):
        arguments += share_arguments(f"share{i}", path, writable)
    return arguments


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tail(path):
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(lines[-LOG_LINES:])


def run(job, directory, output):
    """Boots the VM and waits until it has ended. The directory has the job's files afterwards; output(bytes) gets
    what the commands print. Failed: the VM could not be started, or did not end in time."""
    directory = pathlib.Path(directory).resolve()
    shutil.copy(GUEST / "agent.py", directory / "agent.py")
    (directory / "job.json").write_text(job.describe())
    command = command_line(job, directory)
    with open(directory / "qemu.log", "wb") as log:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                preexec_fn=die_with_parent)
        overdue = threading.Timer(job.deadline(), qemu.kill)
        overdue.start()
        try:
            while data := qemu.stdout.read1():
                output(data)
            qemu.wait()
        finally:
            in_time = overdue.is_alive()
            overdue.cancel()
            qemu.kill()
            qemu.wait()
            qemu.stdout.close()
    if not in_time:
        raise Failed(f"the VM did not end within {job.deadline()} s; the end of its console:\n"
                     + tail(directory / "console.log"))
    if qemu.returncode:
        raise Failed(f"QEMU ended with {qemu.returncode}:\n" + tail(directory / "qemu.log"))


def status(directory, name):
    """The exit status of a command of the job that has run. Failed: it never ended."""
    try:
        return int((pathlib.Path(directory) / f"{name}.status").read_text())
    except FileNotFoundError as error:
        raise Failed(f"{name} did not end, as the VM did before; the end of its console:\n"
                     + tail(pathlib.Path(directory) / "console.log")) from error
