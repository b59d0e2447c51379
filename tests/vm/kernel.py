# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes an initramfs for a kernel: it loads what it takes to find the root file system, which is the same for all
kernels, and gives it this kernel's modules."""

import hashlib
import itertools
import lzma
import pathlib
import shutil
import stat

import fetch
import machines
import rootfs
from debian_packages import Unavailable

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do /bin/busybox insmod "$module"; done </modules
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do /bin/busybox sleep 0.1; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox cp -a /lib/modules /root/usr/lib/
init=/sbin/init
for word in $(/bin/busybox cat /proc/cmdline); do
        case $word in vm.init=*) init=${word#vm.init=} ;; esac
done
/bin/busybox umount /proc
exec /bin/busybox switch_root /root "$init"
"""


def modules_of(kernel):
    """The directory of its modules, and its version."""
    path = next(iter([*kernel.glob("lib/modules/*"), *kernel.glob("usr/lib/modules/*")]), None)
    if not path:
        raise Unavailable(f"no modules in {kernel}")
    return path, path.name


def dependencies(tree, version, names):
    """The files of modules in the order in which they can be loaded."""
    depends = {}
    for line in (tree / "lib/modules" / version / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        depends[pathlib.Path(file).stem.replace("-", "_")] = [file, *needs.split()]
    order = []
    for name in names:
        # modules.dep names what is needed first last; what is not there is built in
        for file in reversed(depends.get(name.replace("-", "_"), [])):
            if file not in order:
                order.append(file)
    return [f"/lib/modules/{version}/{file}" for file in order]


def cpio(tree, output):
    """An archive as the kernel unpacks it (newc): every file is root's."""
    with open(output, "wb") as archive:
        def add(name, mode, data):
            encoded = name.encode() + b"\0"
            fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
            archive.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
            archive.write(b"\0" * (-archive.tell() % 4) + data)
            archive.write(b"\0" * (-archive.tell() % 4))

        for file in sorted(tree.rglob("*")):
            mode = file.lstat().st_mode
            if stat.S_ISDIR(mode):
                add(str(file.relative_to(tree)), mode, b"")
            elif stat.S_ISREG(mode):
                add(str(file.relative_to(tree)), mode, file.read_bytes())
        add("TRAILER!!!", 0, b"")


def initramfs(architecture, name):
    """The initramfs for a kernel: it mounts the root file system, and gives it the kernel's modules."""
    base = rootfs.make_root(architecture)
    source, version = modules_of(fetch.kernel(architecture, name))

    def make(path):
        tree = path / "tree"
        modules = tree / "lib/modules" / version
        for file in (file for file in source.rglob("*") if file.is_file() and file.name != "vmlinuz"):
            target = modules / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".xz":
                target.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
            else:
                shutil.copy(file, target)
        rootfs.run("depmod", "-b", str(tree), version)
        rootfs.write(tree, "/modules", "".join(f"{module}\n" for module in
                                        dependencies(tree, version, machines.INITRAMFS_MODULES)))
        (tree / "bin").mkdir()
        shutil.copy(next(base.rglob("busybox")), tree / "bin/busybox")
        rootfs.write(tree, "/init", INIT, 0o755)
        cpio(tree, path / "initramfs.cpio")
        fetch.remove(tree)

    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    return fetch.entry(f"initramfs-{architecture}-{name}", "\n".join((key, version, *machines.MODULES)),
                       make) / "initramfs.cpio"


def bootable(architecture, name):
    """What QEMU is to boot."""
    tree = fetch.kernel(architecture, name)
    path = next(itertools.chain(tree.glob("boot/vmlinuz-*"), tree.glob("usr/lib/modules/*/vmlinuz")), None)
    if not path:
        raise Unavailable(f"no kernel in the packages of {name} for {architecture}")
    return path
