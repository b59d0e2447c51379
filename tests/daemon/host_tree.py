# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree of a whole machine, as the files that an unprivileged user sees of it: what hosts.py makes its hosts of."""

from tree import Tree

# MIDR_EL1 of the cores used here.
NEOVERSE_N1 = 0x413fd0c1
NEOVERSE_V1 = 0x411fd401
CORTEX_A72 = 0x410fd083
CORTEX_A520 = 0x410fd801
CORTEX_A720 = 0x410fd811

COMPATIBLE = b"arm,statistical-profiling-extension-v1\0"
ACPI = "arm,spe-v1"  # the platform device that the kernel makes of the MADT

LSM_DEBIAN = "lockdown,capability,landlock,yama,apparmor,tomoyo,bpf,ipe,ima,evm"

BOOT = """\
Booting Linux on physical CPU 0x0000000000 [{midr:#010x}]
Linux version {release} (build@host) #1 SMP
CPU features: detected: GIC system register CPU interface
CPU features: detected: Virtualization Host Extensions
CPU: All CPU(s) started at EL{el}
alternatives: applying system-wide alternatives
"""


def dmesg(*lines, start=0.0):
    """The lines as dmesg prints them."""
    return "\n".join(f"[{start + i / 10:12.6f}] {line}" for i, line in enumerate(lines))


def kmsg(*lines, sequence=0):
    """The lines as /dev/kmsg gives them, with the device that the driver core adds to its drivers' messages."""
    text = ""
    for i, line in enumerate(lines):
        line = "".join(c if " " <= c <= "~" and c != "\\" else "".join(f"\\x{b:02x}" for b in c.encode()) for c in line)
        text += f"6,{sequence + i},{(sequence + i) * 100000},-;{line}\n"
        if line.startswith("arm_spe_pmu "):
            text += " SUBSYSTEM=platform\n DEVICE=+platform:" + line.split()[1].rstrip(":") + "\n"
    return text.rstrip("\n")


class Host(Tree):
    """A Tree with the rest of a machine."""

    def __init__(self, root, cpus="0-63", midr=NEOVERSE_N1, release="6.12.48+deb13-arm64", el=2, form=dmesg,
                 arch="aarch64", **kwargs):
        super().__init__(root, cpus, **kwargs)
        self.release = release
        self.form = form
        self.lines = []
        self.write("proc/sys/kernel/arch", arch)
        self.write("proc/sys/kernel/osrelease", release)
        self.write("proc/sys/kernel/perf_event_paranoid", "2")
        self.cmdline()
        self.config(ARM_SPE_PMU="m", KVM="y", BPF_LSM="y")
        self.modules()
        for directory in ("sys/bus/platform/devices", "sys/bus/platform/drivers", "sys/devices/virtual/misc",
                          "sys/kernel/btf", "sys/module"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        self.write("sys/kernel/btf/vmlinux", b"\x9f\xeb\x01\x00")
        self.lsm(LSM_DEBIAN)
        self.write("usr/sbin/update-grub", "#!/bin/sh")
        self.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 13"\nID=debian')
        if midr is not None:
            self.cores(cpus, midr)
            self.say(*BOOT.format(midr=midr, release=release, el=el).splitlines())

    def cores(self, cpus, midr):
        """The type of these CPUs; all are one directory, which is quicker written than many."""
        first, _, last = cpus.partition("-")
        directory = self.root / "sys/devices/system/cpu"
        self.write(f"sys/devices/system/cpu/cpu{first}/regs/identification/midr_el1", f"0x{midr:016x}")
        for cpu in range(int(first) + 1, int(last or first) + 1):
            (directory / f"cpu{cpu}").symlink_to(f"cpu{first}")

    def say(self, *lines):
        """What the kernel says next."""
        self.lines += lines
        self.write("var/log/kmsg", self.form(*self.lines))

    def cmdline(self, *arguments):
        self.write("proc/cmdline", " ".join(("BOOT_IMAGE=/boot/vmlinuz", "root=/dev/sda1", "ro") + arguments))

    def config(self, **options):
        """The kernel's configuration: y or m; None is 'not set'."""
        self.write(f"boot/config-{self.release}", "\n".join(
            f"CONFIG_{name}={value}" if value else f"# CONFIG_{name} is not set" for name, value in options.items()))

    def modules(self, spe="module"):
        """depmod's lists: the driver is a module, built in, or in neither."""
        directory = f"lib/modules/{self.release}"
        other = "kernel/drivers/perf/arm-cmn.ko"
        spe_file = "kernel/drivers/perf/arm_spe_pmu.ko"
        self.write(f"{directory}/modules.dep", f"{other}.xz:" + (f"\n{spe_file}.xz:" if spe == "module" else ""))
        self.write(f"{directory}/modules.builtin",
                   "kernel/drivers/clk/clk.ko" + (f"\n{spe_file}" if spe == "builtin" else ""))

    def lsm(self, names):
        self.write("sys/kernel/security/lsm", names.encode())

    def machine(self, vendor, product):
        self.write("sys/class/dmi/id/sys_vendor", vendor)
        self.write("sys/class/dmi/id/product_name", product)

    def acpi(self, device=True):
        """ACPI tables are for root alone; what the kernel made of them is for everybody."""
        (self.root / "sys/firmware/acpi/tables").mkdir(parents=True, exist_ok=True)
        if device:
            (self.root / "sys/bus/platform/devices" / ACPI).mkdir(parents=True, exist_ok=True)

    def node(self, path, compatible=COMPATIBLE, status=None):
        """A node of the device tree."""
        directory = f"sys/firmware/devicetree/base/{path}".rstrip("/")
        self.write(f"{directory}/compatible", compatible)
        if status:
            self.write(f"{directory}/status", status)
        if compatible == COMPATIBLE:
            self.write(f"{directory}/interrupts", bytes((0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 4)))  # PPI 5, level, high

    def driver(self, builtin=False, bound=(ACPI,)):
        """The driver is there, and has taken these devices."""
        directory = self.root / "sys/bus/platform/drivers/arm_spe_pmu"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "uevent").write_bytes(b"")
        if not builtin:
            self.module()
            (directory / "module").symlink_to("../../../../module/arm_spe_pmu")
        for device in bound:
            (self.root / "sys/bus/platform/devices" / device).mkdir(parents=True, exist_ok=True)
            (directory / device).symlink_to(f"../../devices/{device}")

    def kvm(self, mode="VHE"):
        (self.root / "sys/devices/virtual/misc/kvm").mkdir(parents=True, exist_ok=True)
        self.say("kvm [1]: IPA Size Limit: 48 bits", "kvm [1]: GICv4 support disabled", "kvm [1]: vgic interrupt IRQ9",
                 f"kvm [1]: {mode} mode initialized successfully")
