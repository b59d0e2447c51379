# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels, their headers, QEMU and the packages of a root file system, from the Debian mirror that this machine's
apt uses, with an apt configuration of our own: other suites, other architectures, and nothing is installed.

All of it goes to $SPE_TEST_CACHE/vm (tests/debian_packages.py says where that is). An entry there is a directory
that appears whole or not at all, with a file 'packages' that says what is in it; a lock keeps a second run from
making the same one. Entries are used for MAX_AGE and then made again, if the mirror can be reached."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import debian_packages  # noqa: E402 (found through the line above)
import machines  # noqa: E402
from debian_packages import TIMEOUT, Unavailable  # noqa: E402

MAX_AGE = 30 * 24 * 3600
KERNEL_PACKAGE = re.compile(r"linux-(image|binary|modules|base|headers|kbuild)-[0-9]")


def say(text):
    print(text, file=sys.stderr, flush=True)


def directory():
    path = debian_packages.cache_directory() / "vm"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name):
    """One process at a time makes an entry of the cache; the others wait for it."""
    with open(directory() / f".{name.replace('/', '-')}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(name, key, make):
    """The directory of that name; make(path) fills a new one. Those made with another key, a text, by another state of
    this tree say, are left alone until nobody has used them for MAX_AGE; an old one is better than none."""
    path = directory() / f"{name}.{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    with locked(name):
        sweep(name)
        stamp = path / ".made"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < MAX_AGE:
            os.utime(path)
            return path
        new = path.with_name(path.name + ".new")
        remove(new)
        new.mkdir()
        begin = time.monotonic()
        try:
            make(new)
            (new / stamp.name).touch()
        except Unavailable as error:
            remove(new)
            if not stamp.exists():
                raise
            say(f"{name} stays as it is: {error}")
            return path
        except BaseException:
            remove(new)
            raise
        remove(path)
        new.rename(path)
        say(f"{name}: made in {time.monotonic() - begin:.0f} s")
        return path


def sweep(name):
    """Removes the entries of that name that nobody uses any more."""
    for path in directory().glob(f"{name}.*"):
        if time.time() - path.stat().st_mtime > MAX_AGE:
            remove(path)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


class Archive:
    """A suite of the Debian archive, for one architecture; the host's own packages can be had from it too."""

    def __init__(self, path, suite, architecture):
        self.path, self.suite = path, suite
        # What is in backports may depend on what is not.
        suites = {suite, suite.removesuffix("-backports")}
        for name in ("lists/partial", "archives/partial"):
            (path / name).mkdir(parents=True)
        (path / "sources.list").write_text("".join(
            f"deb [signed-by={debian_packages.KEYRING}] {debian_packages.mirror()} {name} main\n"
            for name in sorted(suites)))
        values = {
            "Dir::Etc::SourceList": path / "sources.list", "Dir::Etc::SourceParts": "-",
            "Dir::Etc::Preferences": "-", "Dir::Etc::PreferencesParts": "-",
            "Dir::State::Lists": path / "lists", "Dir::State::Status": "/dev/null",
            "Dir::Cache": path, "Dir::Cache::Archives": path / "archives",
            "APT::Default-Release": suite, "APT::Architecture": architecture, "Debug::NoLocking": "1",
            "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        }
        self.options = [f"-o{key}={value}" for key, value in values.items()]
        self.options += [f"-oAPT::Architectures::={name}" for name in sorted({architecture, machines.HOST})]
        self.get("update")

    def get(self, *arguments):
        return debian_packages.apt_get(*self.options, *arguments, directory=self.path / "archives")

    def resolve(self, *packages):
        """The names of the packages and of all that they depend on."""
        lines = self.get("install", "--print-uris", "--no-install-recommends", "--yes", *packages)
        return [line.split()[1].split("_")[0] for line in lines.splitlines()]

    def download(self, *packages, depends=False):
        """The files of the packages, with all that they depend on or alone."""
        if depends:
            self.get("install", "--download-only", "--no-install-recommends", "--yes", *packages)
        else:
            self.get("download", *packages)
        files = sorted((self.path / "archives").glob("*.deb"))
        size = sum(file.stat().st_size for file in files)
        say(f"downloaded {len(files)} packages of {self.suite}, {size / 1e6:.0f} MB")
        return files


@contextlib.contextmanager
def archive(suite, architecture):
    with tempfile.TemporaryDirectory(dir=directory(), prefix=".apt-") as path:
        yield Archive(pathlib.Path(path), suite, architecture)


def unpack(package, tree, *patterns):
    """Unpacks a package's files, or those that match. Links that are directories already (/bin) stay links."""
    command = ["tar", "-x", "-C", str(tree), "--keep-directory-symlink", "--no-same-owner"]
    if patterns:
        command += ["--wildcards", *patterns]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as source:
        # A pattern that matches nothing is tar's status 2; what is needed is looked for by those who need it.
        result = subprocess.run(command, stdin=source.stdout, timeout=TIMEOUT, capture_output=True, text=True,
                                check=False)
        source.stdout.close()
    errors = [line for line in result.stderr.splitlines()
              if "Not found in archive" not in line and "Exiting with failure" not in line]
    if errors or (result.returncode and not patterns):
        raise Unavailable(f"{package.name}: {' '.join(errors) or result.returncode}")


def kernel(architecture, name):
    """The directory with a kernel, the modules that the tests need, and the headers to build one against."""

    def make(tree):
        with archive(machines.KERNELS[name], architecture) as debian:
            names = [package for package in
                     debian.resolve(f"linux-image-{architecture}", f"linux-headers-{architecture}")
                     if KERNEL_PACKAGE.match(package)]
            # The programs that build a module run here, whatever it is built for.
            files = debian.download(*(f"{package}:{machines.HOST}" if "-kbuild-" in package else package
                                      for package in names))
            for file in files:
                if re.match("linux-(headers|kbuild)-", file.name):
                    unpack(file, tree)
                else:
                    unpack(file, tree, "./boot/vmlinuz-*", "./usr/lib/modules/*/vmlinuz",
                           "*/modules.builtin*", "*/modules.order",
                           *(f"./lib/modules/*/kernel/{pattern}" for pattern in machines.MODULES),
                           *(f"./usr/lib/modules/*/kernel/{pattern}" for pattern in machines.MODULES))
            if machines.KERNELS[name] in machines.NEWER_SUITES:
                bring_libraries(debian, tree, next(package for package in names if "-kbuild-" in package))
            (tree / "packages").write_text("".join(f"{file.name}\n" for file in files))

    key = "\n".join((machines.KERNELS[name], machines.HOST, *machines.MODULES, *machines.NEWER_SUITES))
    return entry(f"kernel-{architecture}-{name}", key, make)


def bring_libraries(debian, tree, kbuild):
    """Has the programs that build a module run with the libraries of their own release, by its loader."""
    remove(debian.path / "archives")
    (debian.path / "archives/partial").mkdir(parents=True)
    place = tree / "host"
    place.mkdir()
    for file in debian.download(f"{kbuild}:{machines.HOST}", depends=True):
        unpack(file, place, "./usr/lib/*-linux-gnu/*", "./usr/lib64/*", "./lib/*", "./lib64/*")
    for program in tree.glob("usr/lib/linux-kbuild-*/**/*"):
        if program.is_symlink() or not program.is_file() or program.read_bytes()[:4] != b"\x7fELF":
            continue
        binary = program.rename(program.with_name(program.name + ".elf"))
        # The tree is not yet where it will be: the place is found from the program's own.
        up = "/".join([".."] * len(program.parent.relative_to(tree).parts))
        program.write_text(
            '#!/bin/sh\n'
            f'here=$(dirname "$(readlink -f "$0")"); libraries=$here/{up}/host/usr/lib/{platform.machine()}-linux-gnu\n'
            f'exec "$libraries"/ld-linux-*.so.* --library-path "$libraries" "$here/{binary.name}" "$@"\n')
        program.chmod(0o755)
        # objtool is one that starts the one for an architecture, by its own name and ".real-ARCHITECTURE".
        base, real, suffix = program.name.partition(".real-")
        if real:
            program.with_name(f"{base}.elf{real}{suffix}").symlink_to(program.name)


def apparmor(architecture):
    """The directory with AppArmor's parser, its libraries, and libvirt's profiles, below the name of each release."""

    def make(tree):
        for suite, packages in machines.APPARMOR_PACKAGES.items():
            (tree / suite).mkdir()
            with archive(suite, architecture) as debian:
                debian.download("apparmor", depends=True)
                for file in debian.download(*packages):
                    unpack(file, tree / suite, "./etc/apparmor.d/*", "*/apparmor_parser", "./lib/*-linux-gnu/*",
                           "./usr/lib/*-linux-gnu/*", "./usr/share/apparmor-features/*")

    return entry(f"apparmor-{architecture}", repr(machines.APPARMOR_PACKAGES), make)


def qemu():
    """How to run a QEMU program: its command, and where it finds its own files."""
    with locked("qemu"):
        tree = debian_packages.fetch(machines.QEMU_SUITE, *machines.QEMU_PACKAGES)

    def command(architecture):
        program = tree / "usr/bin" / machines.ARCHITECTURES[architecture]["qemu"]
        return [*debian_packages.with_loader(tree, program), "-L", str(tree / "usr/share/qemu"),
                "-L", str(tree / "usr/share/seabios")]

    return command
