# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the root file system of a VM, an ext4 image.

Its packages are unpacked and not configured, so that none of their scripts has to run, which would need an
emulator for another architecture. What the scripts would have done, and something here needs, is done by hand:
accounts, a few links, and dpkg's own records, so that other packages can be installed in the VM."""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import fetch
import machines
from debian_packages import TIMEOUT, Unavailable

FREE_MIB = 400
MACHINE_ID = "5be0b10c5be0b10c5be0b10c5be0b10c\n"
JOB = "/run/vm/job"

# Waits for the host's files, and runs what they say.
AGENT = f"""#!/bin/sh
# The job of this VM: the host's files with what is to be run.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs -o mode=755 tmpfs /run
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/pts /dev/shm {JOB}
mountpoint -q /dev/shm || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mountpoint -q /dev/pts || mount -t devpts devpts /dev/pts
hostname vm
ip link set lo up
modprobe -a {' '.join(machines.ROOT_MODULES)}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 job {JOB} && python3 -B {JOB}/agent.py
sync
poweroff -ff
"""

UNIT = """[Unit]
Description=The job of this VM
After=multi-user.target
[Service]
Type=exec
ExecStart=/usr/local/sbin/vm-agent
StandardInput=null
StandardOutput=journal+console
KillMode=process
"""

# multi-user.target is up, and nothing waits, before the job starts.
TARGET = """[Unit]
Description=This VM, with its job
Requires=multi-user.target
Wants=vm-agent.service
After=multi-user.target
AllowIsolate=yes
"""



def run(*command, **options):
    """A program of this machine. Without root's rights it believes to have them, and so does what it makes."""
    try:
        if os.geteuid() != 0:
            command = ("fakeroot", *command)
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT, **options).stdout
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{command[0]}: {error.stderr.strip()}") from error


def write(tree, path, text, mode=0o644):
    file = tree / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def link(tree, path, target):
    file = tree / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
    file.symlink_to(target)


def record(tree, packages):
    """dpkg's records of what is unpacked: as if it were installed."""
    info = tree / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    status = []
    for package in packages:
        fields = run("dpkg-deb", "-f", str(package))
        name = re.search(r"^Package: (.+)$", fields, re.M).group(1)
        same = re.search(r"^Multi-Arch: same$", fields, re.M)
        architecture = re.search(r"^Architecture: (.+)$", fields, re.M).group(1)
        files = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, check=True)
        listed = subprocess.run(["tar", "-t"], input=files.stdout, stdout=subprocess.PIPE, check=True).stdout.decode()
        paths = [line.removeprefix(".").rstrip("/") or "/." for line in listed.splitlines()]
        (info / f"{name}{':' + architecture if same else ''}.list").write_text("\n".join(paths) + "\n")
        status.append(re.sub(r"^(Package: .+)$", r"\1\nStatus: install ok installed", fields, count=1, flags=re.M))
    (tree / "var/lib/dpkg/status").write_text("\n".join(status))
    write(tree, "/var/lib/dpkg/available", "")
    for name in ("updates", "triggers", "alternatives"):
        (tree / "var/lib/dpkg" / name).mkdir(exist_ok=True)


def accounts(tree):
    for name in ("passwd", "group"):
        shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
    groups = "".join(f"g {group} - -\n" for group in ("input", "kvm", "render", "sgx"))  # that udev's rules name
    write(tree, "/etc/sysusers.d/vm.conf", f"u messagebus - - /nonexistent\n{groups}")
    run("systemd-sysusers", f"--root={tree}")


def configure(tree):
    """What the packages' scripts would have done."""
    accounts(tree)
    shutil.copy(tree / "usr/share/libc-bin/nsswitch.conf", tree / "etc/nsswitch.conf")
    write(tree, "/etc/machine-id", MACHINE_ID, 0o444)
    write(tree, "/etc/hostname", "vm\n")
    write(tree, "/etc/hosts", "127.0.0.1 localhost vm\n")
    write(tree, "/etc/fstab", "")
    link(tree, "/usr/bin/awk", "mawk")
    link(tree, "/etc/mtab", "../proc/self/mounts")
    for name in ("getty", "fstab", "gpt-auto", "hibernate-resume", "cryptsetup", "veritysetup", "integritysetup"):
        link(tree, f"/etc/systemd/system-generators/systemd-{name}-generator", "/dev/null")
    for name in ("systemd-hwdb-update.service", "systemd-timesyncd.service", "systemd-networkd.service"):
        link(tree, f"/etc/systemd/system/{name}", "/dev/null")
    write(tree, "/etc/systemd/system/vm-agent.service", UNIT)
    write(tree, "/etc/systemd/system/vm.target", TARGET)
    link(tree, "/etc/systemd/system/default.target", "vm.target")
    write(tree, "/usr/local/sbin/vm-agent", AGENT, 0o755)
    for directory in ("root", "run", "proc", "sys", "dev", "tmp", "var/lib/systemd", "usr/lib/modules"):
        (tree / directory).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    for name in ("etc", "var"):  # nothing has to be brought up to date at boot
        write(tree, f"/{name}/.updated", "")


def merge_usr(tree):
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")


def prune(tree):
    for path in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n",
                 "usr/lib/udev/hwdb.d", "usr/lib/binfmt.d"):
        fetch.remove(tree / path)


def make_root(architecture):
    """The directory with the image, and busybox for an initramfs."""

    def make(path):
        tree = path / "tree"
        with fetch.archive(machines.ROOT_SUITE, architecture) as debian:
            packages = debian.download(*machines.ROOT_PACKAGES, depends=True)
            merge_usr(tree)
            for package in packages:
                fetch.unpack(package, tree)
            record(tree, packages)
            (path / "packages").write_text("".join(f"{package.name}\n" for package in packages))
            debian.get("download", machines.INITRAMFS_PACKAGE)
            fetch.unpack(next((debian.path / "archives").glob("busybox-static_*.deb")), path, "./bin/busybox",
                         "./usr/bin/busybox")
        configure(tree)
        prune(tree)
        size = sum(file.lstat().st_size + 4096 for file in tree.rglob("*") if not file.is_symlink()) >> 20
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(path / "root.ext4"),
            f"{size * 6 // 5 + FREE_MIB}M")
        fetch.remove(tree)

    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    return fetch.entry(f"root-{architecture}", "\n".join((key, *machines.ROOT_PACKAGES)), make)
