# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm/libvirt-qemu under AppArmor, in enforce mode: the parser and libvirt's profiles of Debian's releases, and the
lines of docs/RECIPES.md in the files that it names. Each of them is needed, and all of them are enough. It is started as
libvirt starts QEMU: the user, the CPUs, the profile, and then one program. What it becomes is a script in QEMU's place."""

import functools
import os
import pathlib
import re
import resource
import shutil
import subprocess
import unittest

import harness
import machine

SOURCE = pathlib.Path(os.environ.get("SPE_SOURCE_DIR", "."))
APPARMOR = pathlib.Path(os.environ.get("SPE_VM_APPARMOR", "/nonexistent"))
ENABLED = pathlib.Path("/sys/module/apparmor/parameters/enabled")
PROFILES = pathlib.Path("/sys/kernel/security/apparmor/profiles")
SOCKETS = PROFILES.with_name("features") / "network_v9/af_unix"
REMOVE = PROFILES.with_name(".remove")
RELEASES = ("bookworm", "trixie", "sid")
WRAPPER = pathlib.Path("/usr/share/spe-broker/libvirt-qemu")
PROGRAMS = {WRAPPER: SOURCE / "speadm/libvirt-qemu", pathlib.Path("/usr/bin/speadm"): pathlib.Path(machine.SPEADM)}
QEMU = pathlib.Path("/usr/bin/qemu-system-aarch64")
SCRIPT = """#!/bin/sh
echo "lease ${SPE_BROKER_LEASE-none}, $#"
read -r line
"""
VM = ["-name", "guest=web1,debug-threads=on", "-machine", "virt", "-smp", "2,sockets=2"]
PROBE = ["-S", "-no-user-config", "-nodefaults", "-machine", "none,accel=kvm:tcg", "-daemonize"]
LIBVIRT_QEMU, KVM = 64055, 994  # any but root's, and the broker's AcquireGroup=
CONFIG = f"[Policy]\nAcquireGroup={KVM}\n"


def document():
    """The section on AppArmor: {file: its lines}, each file named in the paragraph before."""
    text = (SOURCE / "docs/RECIPES.md").read_text()
    section = re.search(r"^### AppArmor\n(.*?)^##", text, re.M | re.S).group(1)
    found = {}
    for before, block in re.findall(r"(.*?)^```\n(.*?)^```$", section, re.M | re.S):
        for file in re.findall(r"`/etc/apparmor\.d/(\S+)`", before):
            found[file] = block.splitlines()
    return found


LINES = document()
LIBVIRTD = "local/usr.sbin.libvirtd"
VMS, OLDER_VMS = "abstractions/libvirt-qemu.d/spe-broker", "local/abstractions/libvirt-qemu"


class Confinement:
    """AppArmor's parser and the profiles of a release, and what is added to them."""

    def __init__(self, release, directory):
        self.release, self.directory = APPARMOR / release, directory
        for name in (LIBVIRTD, OLDER_VMS):  # as Debian's packages leave them
            self.add(name, [])

    def add(self, name, lines):
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))

    def found(self, pattern):
        return next(self.release.glob(pattern))

    def load(self, profile):
        loader = self.found("**/*-linux-gnu/ld-linux-*.so.*")
        subprocess.run([loader, "--library-path", loader.parent, self.found("**/apparmor_parser"),
                        "--config-file", "/dev/null", "--replace", "--skip-cache",
                        "--policy-features", self.release / "usr/share/apparmor-features/features",
                        "--base", self.directory, f"--Include={self.release / 'etc/apparmor.d'}"],
                       input=profile, text=True, check=True, timeout=harness.DEADLINE)

    def source(self, name):
        return (self.release / "etc/apparmor.d" / name).read_text()

    def mediates_sockets(self):
        """This kernel can, and this release has it do so."""
        features = self.release / "usr/share/apparmor-features/features"
        return SOCKETS.exists() and "af_unix {" in features.read_text()


def start(command, profile, user=0, groups=(), cpus=None):
    """As libvirt does: between fork and exec, the last of which is the first that is confined."""

    def confine():
        if cpus:
            os.sched_setaffinity(0, cpus)
        with open("/proc/self/attr/apparmor/current", "w", encoding="ascii") as file:
            file.write(f"changeprofile {profile}")

    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            user=user, group=user, extra_groups=groups, preexec_fn=confine)


def label(process):
    return pathlib.Path(f"/proc/{process.pid}/attr/apparmor/current").read_text()


@unittest.skipUnless(ENABLED.exists() and ENABLED.read_text().strip() == "Y", "this kernel has no AppArmor")
@unittest.skipUnless(APPARMOR.exists(), "libvirt's profiles could not be fetched")
class TestAppArmor(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.driver.load("0-1", "2-3")
        self.daemon = self.broker(config=CONFIG)
        for target, source in PROGRAMS.items():
            self.place(target, source.read_bytes())
        self.place(QEMU, SCRIPT.encode())

    def place(self, target, content):
        if not target.parent.exists():
            target.parent.mkdir()
            self.addCleanup(target.parent.rmdir)
        self.assertFalse(target.exists(), target)
        self.addCleanup(target.unlink)
        target.write_bytes(content)
        target.chmod(0o755)

    def confinement(self, release):
        return Confinement(release, self.directory())

    def vm(self, confinement, n):
        """A profile as libvirt makes one for each VM."""
        name = f"libvirt-{n:08x}-0000-4000-8000-000000000000"
        confinement.load(confinement.source("libvirt/TEMPLATE.qemu").replace("LIBVIRT_TEMPLATE", name))
        self.addCleanup(REMOVE.write_text, name)
        self.assertIn(f"{name} (enforce)\n", PROFILES.read_text())
        return functools.partial(start, [WRAPPER, *VM], name, LIBVIRT_QEMU, [KVM], {2, 3}), name

    def assert_not_executed(self, begin):
        with self.assertRaises(PermissionError) as raised:
            begin()
        self.assertEqual(raised.exception.filename, WRAPPER)

    def refused(self, begin, said, status):
        with begin() as process:
            output, _ = process.communicate(timeout=harness.DEADLINE)
            self.assertRegex(output, said)
            self.assertEqual(process.returncode, status, output)
        self.assertEqual(self.daemon.call("ListLeases")["leases"], [])

    def assert_works(self, begin, profile):
        """It is QEMU, confined as before, and it has a lease; whom the broker knows, whose limit it has raised."""
        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        with begin() as process:
            line = process.stdout.readline()
            lease, = self.daemon.call("ListLeases")["leases"]
            self.assertEqual(line, f"lease {lease['leaseId']}, {len(VM)}\n")
            self.assertEqual(label(process), f"{profile} (enforce)\n")
            owner = lease["owner"]
            self.assertEqual((owner["pid"], owner["uid"], owner["command"]),
                             (process.pid, LIBVIRT_QEMU, QEMU.name[:15]))
            self.assertEqual((lease["vm"], lease["vcpus"], lease["cpus"], lease["instance"]),
                             ("web1", 2, "2-3", "arm_spe_1"))
            self.assertEqual(lease["memlock"]["state"], "applied")
            self.assertEqual(resource.prlimit(process.pid, resource.RLIMIT_MEMLOCK)[0], before + lease["charge"])
            process.communicate("\n", timeout=harness.DEADLINE)
            self.assertEqual(process.returncode, 0)
        machine.wait_for(lambda: not self.daemon.call("ListLeases")["leases"], "the lease's end")

    def check_vm(self, release, place):
        """All lines but one are not enough, all of them are."""
        confinement = self.confinement(release)
        wrapper, speadm, broker = LINES[place]

        confinement.add(place, [speadm, broker])
        self.assert_not_executed(self.vm(confinement, 0)[0])
        confinement.add(place, [wrapper, broker])
        self.refused(self.vm(confinement, 1)[0], "speadm: Permission denied", 126)
        if confinement.mediates_sockets():
            confinement.add(place, [wrapper, speadm])
            self.refused(self.vm(confinement, 2)[0], "permission denied to connect to the broker", 3)
        confinement.add(place, LINES[place])
        self.assert_works(*self.vm(confinement, 3))

    def test_bookworm(self):
        self.check_vm("bookworm", OLDER_VMS)

    def test_trixie(self):
        self.check_vm("trixie", VMS)

    def test_sid(self):
        self.check_vm("sid", VMS)

    def test_libvirt_asks(self):
        """libvirtd, confined itself, starts it to learn of QEMU."""
        for release in RELEASES:
            with self.subTest(release):
                confinement = self.confinement(release)
                profile = confinement.source("usr.sbin.libvirtd")
                confinement.load(profile)
                self.assertIn("libvirtd (enforce)\n", PROFILES.read_text())
                begin = functools.partial(start, [WRAPPER, *PROBE], "libvirtd")
                self.assert_not_executed(begin)
                confinement.add(LIBVIRTD, LINES[LIBVIRTD])
                confinement.load(profile)
                with begin() as process:
                    self.assertEqual(process.stdout.readline(), f"lease none, {len(PROBE)}\n")
                    self.assertEqual(label(process), "unconfined\n")
                    process.communicate("\n", timeout=harness.DEADLINE)
                    self.assertEqual(process.returncode, 0)
                REMOVE.write_text("libvirtd")


if __name__ == "__main__":
    machine.main()
