# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is booted: the architectures, the kernels and where Debian has them, what is in the root file system, and
how QEMU is told of each. Everything that has to be looked up or could change is written here, once."""

import platform

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

# What a test names -> the Debian suite that has it. The tests' root file system is Debian 12 under all of them.
KERNELS = {"6.1": "bookworm", "6.12": "bookworm-backports", "newest": "sid"}
ROOT_SUITE = "bookworm"
# Whose programs that build modules need newer libraries than Debian 12 has.
NEWER_SUITES = ("sid",)

# QEMU is newer than the machine's own: 10.0 hangs now and then with several processors.
QEMU_SUITE = "sid"
QEMU_PACKAGES = ("qemu-system-x86", "qemu-system-arm")

MEMORY_MIB = 1024
UNCOUNTED = ("-accel", "tcg,thread=multi", "-smp", "4")
COUNTED = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off")

ARCHITECTURES = {
    "amd64": {
        "qemu": "qemu-system-x86_64", "machine": ["-machine", "q35", "-cpu", "max"], "console": "ttyS0",
        "kernel_name": "x86", "cross": "x86_64-linux-gnu-",
    },
    # With EL2, so that the guest's kernel has KVM (VHE), and the quick kind of pointer authentication.
    "arm64": {
        "qemu": "qemu-system-aarch64",
        "machine": ["-machine", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on"],
        "console": "ttyAMA0", "kernel_name": "arm64", "cross": "aarch64-linux-gnu-",
    },
}

# The root file system: these and what they depend on, unpacked, never configured (image.py does what is needed).
ROOT_PACKAGES = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "findutils",
    "grep", "gzip", "hostname", "init-system-helpers", "libc-bin", "login", "mawk", "mount", "passwd", "perl-base",
    "sed", "tar", "util-linux",
    "systemd", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "procps", "strace", "python3",
    "libsystemd0", "libjson-c5", "libini-config5", "libsmartcols1", "libnl-3-200", "libbpf1", "libcmocka0",
)
# What confines libvirt's QEMU, release by release; AppArmor itself, with all that it depends on, comes besides.
APPARMOR_PACKAGES = {
    "bookworm": ("libvirt-daemon-system",),
    "trixie": ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
    "sid": ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
}
# Runs alone in the initramfs, so that it needs no library there.
INITRAMFS_PACKAGE = "busybox-static"

# Of a kernel's modules those in these directories (or of these names) go into the root file system.
MODULES = (
    "arch/*/kvm/*", "arch/*/crypto/crc32*", "crypto/crc32*", "drivers/block/virtio_blk.*", "drivers/block/loop.*",
     "drivers/char/hw_random/virtio-rng.*", "drivers/char/virtio_console.*", "drivers/crypto/ccp/ccp.*", "drivers/perf/arm_spe_pmu.*",
    "drivers/virtio/*", "fs/9p/*", "fs/autofs/*", "fs/configfs/*", "fs/ext4/*", "fs/fscache/*", "fs/fuse/*",
    "fs/jbd2/*", "fs/mbcache.*", "fs/netfs/*", "lib/crc*", "lib/crc/*", "lib/*/crc*", "net/9p/*", "virt/lib/*",
)
# What it takes to mount the root, with whatever these depend on.
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "crc32c_intel", "ext4")
# And for the files and the output of the job.
ROOT_MODULES = ("9p", "9pnet_virtio", "virtio_console")
