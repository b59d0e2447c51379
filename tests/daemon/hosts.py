# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixture hosts for the checks of CheckHost: whole machines as the files that an unprivileged user sees of them.

Each function writes one host below a directory and returns its Tree; HOSTS has them all by name. Machines that work
are as published logs and listings show them; what is wrong with the others is one thing each.
"""

import inspect
import os

from host_tree import (ACPI, BOOT, CORTEX_A520, CORTEX_A72, CORTEX_A720, NEOVERSE_N1, NEOVERSE_V1, Host, dmesg, kmsg)
from tree import Tree

LSM_UBUNTU = "lockdown,capability,landlock,yama,apparmor,ima,evm"
LSM_FEDORA = "lockdown,capability,yama,selinux,bpf,landlock,ipe,ima,evm"


def graviton2(root):
    """m6g.metal, a kernel with the driver built in."""
    host = Host(root, "0-63", NEOVERSE_N1, "6.1.155-176.282.amzn2023.aarch64")
    host.machine("Amazon EC2", "m6g.metal")
    amazon(host)
    host.acpi()
    host.kvm()
    host.driver(builtin=True)
    host.instance(0, "0-63", type=8)
    host.say(f"arm_spe_pmu {ACPI}: probed for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]")
    return host


def amazon(host):
    """What is particular to Amazon Linux 2023."""
    host.config(ARM_SPE_PMU="y", KVM="y", BPF_LSM="y")
    host.modules("builtin")
    host.remove("usr/sbin/update-grub")
    host.write("usr/sbin/grubby", "#!/bin/sh")
    host.write("etc/os-release", 'ID="amzn"\nVERSION_ID="2023"')
    host.lsm("lockdown,capability,yama,safesetid,selinux,bpf,landlock,ima")


def neoverse_v1(root, **kwargs):
    """A Graviton3 machine up to the driver: firmware and KVM are good, the driver is a module that is not loaded."""
    host = Host(root, "0-63", NEOVERSE_V1, "6.17.0-1005-aws", **kwargs)
    host.machine("Amazon EC2", "c7g.metal")
    host.acpi()
    host.kvm()
    return host


def ubuntu(host):
    host.write("etc/os-release", 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"')
    host.lsm(LSM_UBUNTU)


def graviton3(root):
    """c7g.metal, a module, a new kernel: the driver's new words, in the form of /dev/kmsg."""
    host = neoverse_v1(root, form=kmsg)
    host.driver()
    host.instance(0, "0-63", type=11)
    host.say(f"arm_spe_pmu {ACPI}: probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]")
    return host


def module_not_loaded(root):
    return neoverse_v1(root)


def module_not_built(root):
    """The kernel then does not look for SPE in the ACPI tables either."""
    host = neoverse_v1(root)
    host.config(ARM_SPE_PMU=None, KVM="y", BPF_LSM="y")
    host.modules("none")
    host.remove("sys/bus/platform/devices/" + ACPI)
    return host


def modules_extra_missing(root):
    """Ubuntu packs the driver apart."""
    host = neoverse_v1(root)
    ubuntu(host)
    host.modules("none")
    return host


def lsm_debian(root):
    return graviton3(root)


def lsm_ubuntu(root):
    host = graviton3(root)
    ubuntu(host)
    return host


def lsm_fedora(root):
    host = graviton3(root)
    host.remove("usr/sbin/update-grub")
    host.write("usr/sbin/grubby", "#!/bin/sh")
    host.write("etc/os-release", "NAME=\"Fedora Linux\"\nID=fedora")
    host.lsm(LSM_FEDORA)
    return host


def altra(root, old, form):
    """Ampere Altra: KASLR turns KPTI on, although the core is safe from Meltdown and sysfs says so."""
    host = Host(root, "0-79", NEOVERSE_N1, "5.4.0-216-generic" if old else "6.12.48+deb13-arm64", form=form)
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected")
    host.acpi()
    host.say("CPU features: kernel page table isolation forced ON by KASLR",
             "CPU features: detected: Kernel page table isolation (KPTI)")
    host.kvm()
    host.driver(bound=())
    host.say(f'arm_spe_pmu {ACPI}: profiling buffer inaccessible. Try passing "kpti=off" on the kernel command line',
             f"arm_spe_pmu: probe of {ACPI} failed with error -1" if old else
             f"arm_spe_pmu {ACPI}: probe with driver arm_spe_pmu failed with error -1")
    return host


def altra_kpti(root):
    return altra(root, old=False, form=kmsg)


def altra_kpti_old(root):
    return altra(root, old=True, form=dmesg)


def altra_kpti_reloaded(root):
    """The driver's own words are printed once for a boot, and have been overwritten."""
    host = altra(root, old=False, form=kmsg)
    host.lines = [f"arm_spe_pmu {ACPI}: probe with driver arm_spe_pmu failed with error -1"]
    host.say()
    return host


def altra_kpti_not_loaded(root):
    """Nobody has tried yet, and it is known that it would fail."""
    host = Host(root, "0-79", NEOVERSE_N1)
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected")
    host.acpi()
    host.say("CPU features: kernel page table isolation forced ON by KASLR",
             "CPU features: detected: Kernel page table isolation (KPTI)")
    host.kvm()
    return host


def kpti_for_meltdown(root):
    """The log's beginning is lost, and sysfs has it."""
    host = neoverse_v1(root)
    host.lines = ["kvm [1]: VHE mode initialized successfully"]
    host.say()
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI")
    return host


def kpti_vulnerable(root):
    host = kpti_for_meltdown(root)
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Vulnerable")
    return host


def kpti_unknown(root):
    """The log begins in the midst of the CPU features, after KPTI's line or not."""
    host = kpti_for_meltdown(root)
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected")
    host.lines.insert(0, "CPU features: detected: Virtualization Host Extensions")
    host.say()
    return host


def altra_kpti_off(root):
    """The cure, with the driver not loaded yet."""
    host = Host(root, "0-79", NEOVERSE_N1)
    host.cmdline("kpti=off")
    host.acpi()
    host.kvm()
    return host


def acpi_refused(root, *lines):
    """The kernel made no device of what ACPI says."""
    host = Host(root, "0-127", NEOVERSE_N1)
    host.acpi(device=False)
    host.say(*lines)
    host.kvm()
    host.driver(bound=())
    return host


def acpi_not_homogeneous(root):
    return acpi_refused(root, "ACPI: arm,spe-v1: must be homogeneous", "ACPI: SPE: Unable to register device")


def acpi_not_homogeneous_old(root):
    return acpi_refused(root, "ACPI PPTT: PPTT table found, but unable to locate core 63 (63)",
                        "ACPI: SPE must be homogeneous")


def acpi_short_table(root):
    return acpi_refused(root, "ACPI: SPE: Unable to register device")


def acpi_gsi(root):
    return acpi_refused(root, "ACPI: arm,spe-v1 Unable to register interrupt: 21", "ACPI: SPE: Unable to register device")


def acpi_silent(root):
    """No CPU's entry in the MADT names the interrupt: no device, and no word of it."""
    return acpi_refused(root)


def probe_failed(root, *words, core=None, device=ACPI, before=None):
    """A module that is loaded, and whose probe failed with these words."""
    host = neoverse_v1(root)
    host.driver(bound=())
    host.say(*(f"arm_spe_pmu {device}: {line}" for line in words))
    if core is not None:
        host.say(f"arm_spe_pmu {device}: probe with driver arm_spe_pmu failed with error -{core}")
    return host


def probe_no_memory(root):
    return probe_failed(root, core=12)


def probe_no_memory_builtin(root):
    """A driver that is built in cannot be loaded again."""
    host = probe_failed(root, core=12)
    host.remove("sys/module/arm_spe_pmu")
    host.modules("builtin")
    return host


def module_coming(root):
    """It is just being loaded."""
    host = neoverse_v1(root)
    host.driver(bound=())
    host.write("sys/module/arm_spe_pmu/initstate", "coming")
    return host


def probe_no_interrupt(root):
    return probe_failed(root, "error -ENXIO: IRQ index 0 not found")


def probe_no_interrupt_old(root):
    return probe_failed(root, "IRQ index 0 not found")


def probe_spi(root):
    return probe_failed(root, "expected PPI but got SPI (37)", core=22)


def probe_no_partition(root):
    return probe_failed(root, "failed to get PPI partition (21)", core=22)


def probe_silent(root):
    """No CPU of the device was on line: ENXIO, of which nobody says a word."""
    return probe_failed(root)


def probe_no_spe(root):
    return probe_failed(root, "unsupported ID_AA64DFR0_EL1.PMSVer [0] on CPU 12")


def probe_higher_level(root):
    return probe_failed(root, "profiling buffer owned by higher exception level")


def probe_alignment(root):
    return probe_failed(root, "unsupported PMBIDR.Align [12] on CPU 3")


def probe_record_size(root):
    return probe_failed(root, "unsupported PMSIDR_EL1.MaxSize [12] on CPU 3")


def probe_not_registered(root):
    return probe_failed(root, "probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]", core=16)


def probe_no_name(root):
    return probe_failed(root, "probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]",
                        "failed to allocate name for pmu 0", core=12)


def probe_failed_then_good(root):
    """Loaded again, with success: the last message counts."""
    host = probe_failed(root, core=12)
    host.instance(0, "0-63", type=12)
    host.say(f"arm_spe_pmu {ACPI}: probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]")
    return host


def half_registered(root):
    """A directory without type, cpumask and format/."""
    host = neoverse_v1(root)
    host.driver()
    host.say(f"arm_spe_pmu {ACPI}: probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]")
    (host.devices / "arm_spe_0").mkdir()
    return host


def virtual(root, vendor, product, midr=NEOVERSE_V1):
    host = Host(root, "0-3", midr, el=1)
    host.machine(vendor, product)
    host.say("kvm [1]: HYP mode not available")
    return host


def vm_without_spe(root):
    """An EC2 instance: the core type has SPE, and the hypervisor keeps it."""
    host = virtual(root, "Amazon EC2", "c7g.xlarge")
    host.acpi(device=False)
    host.driver(bound=())
    return host


def vm_device_tree(root):
    """The same under kvmtool, which has no ACPI and no DMI."""
    host = virtual(root, "", "")
    host.remove("sys/class")
    host.node("", b"linux,dummy-virt\0")
    host.node("pmu", b"arm,armv8-pmuv3\0")
    return host


def vm_driver_not_built(root):
    """Nothing has looked for SPE in this one: that its core type has it says nothing."""
    host = virtual(root, "QEMU", "KVM Virtual Machine")
    host.acpi(device=False)
    host.config(ARM_SPE_PMU=None, KVM="y", BPF_LSM="y")
    host.modules("none")
    return host


def vm_hidden(root):
    """The virtual firmware describes the interrupt, and the hypervisor hides SPE."""
    host = virtual(root, "QEMU", "QEMU Virtual Machine")
    host.acpi()
    host.driver(bound=())
    host.say(f"arm_spe_pmu {ACPI}: unsupported ID_AA64DFR0_EL1.PMSVer [0] on CPU 0")
    return host


def vm_higher_level(root):
    host = virtual(root, "QEMU", "QEMU Virtual Machine")
    host.acpi()
    host.driver(bound=())
    host.say(f"arm_spe_pmu {ACPI}: profiling buffer owned by higher exception level")
    return host


def clusters(root):
    """A phone-like board: two core types, an SPE node each, device tree."""
    host = Host(root, "0-11", None, "6.18.3-board")
    host.cores("0-3", CORTEX_A520)
    host.cores("4-11", CORTEX_A720)
    host.say(*BOOT.format(midr=CORTEX_A520, release=host.release, el=2).splitlines())
    host.remove("usr/sbin/update-grub")
    host.write("etc/os-release", "ID=buildroot")
    host.node("", b"vendor,board\0vendor,soc\0")
    host.node("soc/uart@1000", b"arm,pl011\0arm,primecell\0")
    host.node("spe-little")
    host.node("spe-big")
    host.kvm()
    return host


def big_little(root):
    host = clusters(root)
    host.driver(bound=("spe-little", "spe-big"))
    host.say("arm_spe_pmu spe-little: probed SPEv1.2 for CPUs 0-3 [max_record_sz 64, align 64, features 0x17]",
             "arm_spe_pmu spe-big: probed SPEv1.2 for CPUs 4-11 [max_record_sz 64, align 64, features 0x17]")
    host.instance(0, "0-3", type=9)
    host.instance(1, "4-11", type=10)
    return host


def big_little_one_missing(root):
    """The little cores have no SPE, and their SPU is missing."""
    host = clusters(root)
    host.driver(bound=("spe-big",))
    host.say("arm_spe_pmu spe-little: unsupported ID_AA64DFR0_EL1.PMSVer [0] on CPU 0",
             "arm_spe_pmu spe-big: probed SPEv1.2 for CPUs 4-11 [max_record_sz 64, align 64, features 0x17]")
    host.instance(0, "4-11", type=9)
    return host


def big_little_one_partial(root):
    host = clusters(root)
    host.driver(bound=("spe-little", "spe-big"))
    host.instance(0, "0-3", type=9)
    (host.devices / "arm_spe_1").mkdir()
    return host


def device_tree_disabled(root):
    host = clusters(root)
    host.node("spe-little", status=b"disabled\0")
    host.node("spe-big", status=b"disabled\0")
    host.driver(bound=())
    return host


def device_tree_no_interrupt(root):
    """New kernels say nothing of it."""
    host = clusters(root)
    host.remove("sys/firmware/devicetree/base/spe-little/interrupts")
    host.remove("sys/firmware/devicetree/base/spe-big/interrupts")
    host.driver(bound=())
    return host


def device_tree_missing(root):
    host = clusters(root)
    host.remove("sys/firmware/devicetree/base/spe-little")
    host.remove("sys/firmware/devicetree/base/spe-big")
    host.driver(bound=())
    return host


def cores_too_old(root):
    """A board from before SPE."""
    host = Host(root, "0-3", CORTEX_A72, "6.12.48+deb13-arm64")
    host.node("", b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    host.kvm("Hyp nVHE")
    return host


def with_kvm(root, mode, *arguments):
    host = graviton3(root)
    host.lines = [line for line in host.lines if not line.startswith("kvm ")]
    host.cmdline(*arguments)
    if mode:
        host.kvm(mode)
    else:
        host.remove("sys/devices/virtual/misc/kvm")
        host.say()
    return host


def kvm_nvhe(root):
    return with_kvm(root, "Hyp nVHE", "kvm-arm.mode=nvhe")


def kvm_nvhe_old_words(root):
    return with_kvm(root, "Hyp")


def kvm_protected(root):
    return with_kvm(root, "Protected hVHE", "kvm-arm.mode=protected")


def kvm_nvhe_log_lost(root):
    """The mode stands on the command line too, where '_' is as good as '-'."""
    host = with_kvm(root, "VHE", "kvm_arm.mode=protected", "kvm_arm.mode=nvhe")
    host.lines = ["eth0: link up"]
    host.say()
    return host


def kvm_protected_log_lost(root):
    host = with_kvm(root, "VHE", "kvm-arm.mode=protected")
    host.lines = ["eth0: link up"]
    host.say()
    return host


def kvm_mode_log_lost(root):
    host = with_kvm(root, "VHE")
    host.lines = ["eth0: link up"]
    host.say()
    return host


def kvm_error(root):
    host = with_kvm(root, None)
    host.say("kvm [1]: error initializing Hyp mode: -12")
    return host


def kvm_disabled(root):
    host = with_kvm(root, None, "kvm-arm.mode=none")
    host.say("kvm [1]: KVM disabled from command line")
    return host


def kvm_not_built(root):
    host = with_kvm(root, None)
    host.config(ARM_SPE_PMU="m", KVM=None, BPF_LSM="y")
    return host


def kvm_missing(root):
    return with_kvm(root, None)


def kvm_no_hyp(root):
    """The boot loader starts the kernel at EL1."""
    host = with_kvm(root, None)
    host.say("kvm [1]: HYP mode not available")
    return host


def mem_sampling(root):
    """openEuler, whose kernel samples memory with SPE."""
    host = graviton3(root)
    host.write("proc/sys/kernel/mem_sampling_enable", "1")
    return host


def perf_for_everybody(root):
    host = graviton3(root)
    host.write("proc/sys/kernel/perf_event_paranoid", "-1")
    return host


def no_btf_no_bpf(root):
    host = graviton3(root)
    host.remove("sys/kernel/btf/vmlinux")
    host.config(ARM_SPE_PMU="m", KVM="y", BPF_LSM=None)
    host.lsm("lockdown,capability,yama,apparmor")
    return host


def x86(root):
    """A machine that this is not for."""
    host = Host(root, "0-15", None, "6.12.48+deb13-amd64", arch="x86_64")
    host.config(KVM="m", BPF_LSM="y")
    host.modules("none")
    host.acpi(device=False)
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI")
    (host.root / "sys/devices/virtual/misc/kvm").mkdir(parents=True)
    host.say("Linux version 6.12.48+deb13-amd64", "kvm: Nested Virtualization enabled")
    return host


def log_empty(root):
    """The log's beginning has been overwritten, and nothing of interest is left."""
    host = probe_failed(root)
    host.remove("sys/bus/platform/devices/" + ACPI)
    host.acpi()
    host.lines = ["eth0: link up"]
    host.say()
    return host


def log_missing(root):
    host = neoverse_v1(root)
    host.driver(bound=())
    host.remove("var/log/kmsg")
    return host


def log_hostile(root):
    """Text that others have brought into the log says nothing; nor does a user who may write to it."""
    host = graviton3(root)
    host.lines = []
    host.say('usb 1-1: Product: arm_spe_pmu arm,spe-v1: profiling buffer inaccessible',
             'audit: comm="x\narm_spe_pmu arm,spe-v1: profiling buffer inaccessible"',
             "x" * 8000 + "arm_spe_pmu arm,spe-v1: profiling buffer inaccessible",
             "process 'kvm [1]: Protected nVHE mode initialized successfully' started")
    text = (host.root / "var/log/kmsg").read_bytes()
    host.write("var/log/kmsg", text + b"12,90,91,-;kvm [1]: Protected nVHE mode initialized successfully\n"
               + b"6,91,92,-;kvm [1]: VHE mode initialized successfully\n\xff\xfe\x00\x1b[31m\n")
    host.remove_instance(0)
    return host


def nothing(root):
    """A directory with the little that Tree writes."""
    return Tree(root)


# Parts of others, not hosts.
PARTS = {"amazon", "neoverse_v1", "ubuntu", "altra", "acpi_refused", "probe_failed", "virtual", "clusters", "with_kvm",
         "dmesg", "kmsg"}
HOSTS = {name.replace("_", "-"): value for name, value in sorted(globals().items())
         if inspect.isfunction(value) and name not in PARTS}


if __name__ == "__main__":
    import sys

    os.makedirs(sys.argv[2])
    HOSTS[sys.argv[1]](sys.argv[2])
