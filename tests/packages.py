#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages that debian/ makes of the tree: packages.py CHECK SOURCE WORK [arm64].

    build      makes them from a copy of the tree, for this machine or for arm64; they lie in WORK
    lintian    has nothing to say that debian/*.lintian-overrides does not answer (and has, about one that was broken)
    contents   they hold what is installed (tests/install.list), each file in the package where it belongs
    control    versions and the packages for the build are those of CMakeLists.txt and tools/packages.bash
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import install

PACKAGES = ("spe-broker", "libspebroker0", "libspebroker-dev")
TREE = "tree"
SKIP = 77
# What every Debian package is built with: not to be named.
BUILD_ESSENTIAL = {"gcc", "libc6-dev"}
PACKAGING = {"debhelper-compat"}
# What only Debian has, for its kernels.
DROP_IN = "lib/systemd/system/spe-broker.service.d/10-perf-event-paranoid.conf"


def skip(reason):
    print("skipped:", reason)
    sys.exit(SKIP)


def output(*command, **kwargs):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          **kwargs).stdout


def package(work, name):
    (path,) = glob.glob(os.path.join(glob.escape(work), f"{name}_*.deb"))
    return path


def copy_tree(source, target):
    """Without what other builds left in it."""
    def ignore(directory, names):
        top = os.path.samefile(directory, source)
        return [n for n in names if n == "__pycache__" or (top and (n in ("build", ".git") or n.startswith("obj-")))]

    shutil.copytree(source, target, symlinks=True, ignore=ignore)


def cross(source, tree):
    """Prepares the tree for arm64, with the libraries that tools/fetch-arm64 has unpacked: what dpkg-buildpackage is to
    be told, and with which environment."""
    sysroot = os.path.realpath(os.path.join(source, "build/arm64-sysroot"))
    if not shutil.which("aarch64-linux-gnu-gcc") or not os.path.isdir(sysroot):
        skip("no cross compiler, or no libraries for arm64 (tools/fetch-arm64)")
    # Nothing is installed that would say which package a library is in. These have their names and versions on every
    # architecture, but for the loader.
    here = output("dpkg", "--print-architecture").strip()
    with open(os.path.join(tree, "debian/shlibs.local"), "w", encoding="utf-8") as f:
        for path in glob.glob(f"/var/lib/dpkg/info/*:{here}.shlibs"):
            with open(path, encoding="utf-8") as shlibs:
                f.writelines(line.replace("ld-linux-x86-64 2 ", "ld-linux-aarch64 1 ") for line in shlibs
                             if re.match(r"\S+ \S+ \S", line) and not line.startswith("udeb:"))
    toolchain = os.path.join(tree, "cmake/toolchain-arm64.cmake")
    libraries = [os.path.join(sysroot, directory, "aarch64-linux-gnu") for directory in ("lib", "usr/lib")]
    return ["-d", "-aarm64"], {
        "SPE_CMAKE_OPTIONS": f"-DCMAKE_TOOLCHAIN_FILE={toolchain} -DCMAKE_SYSROOT={sysroot}"
                             " -DPKG_CONFIG_EXECUTABLE=/usr/bin/pkg-config",
        "LD_LIBRARY_PATH": ":".join(libraries),  # where dpkg-shlibdeps looks; the loader here passes by
    }


def build(source, work, architecture=None):
    if not shutil.which("dpkg-buildpackage") or not shutil.which("dh"):
        skip("no dpkg-dev and debhelper here")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    tree = os.path.join(work, TREE)
    copy_tree(source, tree)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEB_", "CMAKE_", "MAKE"))}
    environment["DEB_BUILD_OPTIONS"] = f"parallel={os.cpu_count()} terse"
    environment["DEB_CFLAGS_APPEND"] = "-Werror"  # hardening warns of what the debug build does not see
    options, more = cross(source, tree) if architecture else ([], {})
    install.run("dpkg-buildpackage", "-b", "-us", "-uc", *options, cwd=tree, env=environment | more)
    for name in PACKAGES:
        print(package(work, name))
    return True


def complaints(path):
    """What lintian says of a package or of all in a .changes file: its exit status, and the lines."""
    done = subprocess.run(["lintian", "--allow-root", "--display-info", "--fail-on", "error,warning,info", path],
                          check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    return done.returncode, done.stdout


def lintian(_source, work):
    if not shutil.which("lintian"):
        skip("no lintian here")
    (changes,) = glob.glob(os.path.join(glob.escape(work), "*.changes"))
    status, text = complaints(changes)
    good = status == 0 and not re.search(r"^[EWI]:", text, re.M)

    with tempfile.TemporaryDirectory() as directory:
        unpacked, broken = os.path.join(directory, "unpacked"), os.path.join(directory, "broken.deb")
        output("dpkg-deb", "-R", package(work, "spe-broker"), unpacked)
        os.unlink(os.path.join(unpacked, "usr/share/doc/spe-broker/copyright"))
        output("dpkg-deb", "--root-owner-group", "-b", unpacked, broken)
        status, text = complaints(broken)
        if status == 0 or "no-copyright-file" not in text:
            print("a package without its copyright file was not noticed")
            good = False
    return good


def files_of(path):
    """{path: (mode as dpkg prints it, owner)}, directories left out, links with their arrow."""
    found = {}
    for line in output("dpkg-deb", "-c", path).splitlines():
        mode, owner, _size, _date, _time, name = line.split(None, 5)
        if not mode.startswith("d"):
            found[name.removeprefix("./")] = mode, owner
    return found


def place(path, libraries):
    """Where a line of tests/install.list lies in Debian, and in which package."""
    name = path.split(" -> ")[0]
    if path.startswith("lib/systemd/system/"):
        return path, "spe-broker"
    if re.match(r"lib/(libspebroker|cmake|pkgconfig)", path):
        runtime = name.startswith("lib/libspebroker.so.")
        return libraries + path.removeprefix("lib/"), "libspebroker0" if runtime else "libspebroker-dev"
    if path.startswith("share/man/"):
        return f"usr/{path}.gz", "libspebroker-dev" if "/man3/" in path else "spe-broker"
    return f"usr/{path}", "libspebroker-dev" if path.startswith("include/") else "spe-broker"


def contents(source, work):
    libraries = f"usr/lib/{output('dpkg-architecture', '-qDEB_HOST_MULTIARCH').strip()}/"
    want = {name: set() for name in PACKAGES}
    for path in install.expected(source):
        where, name = place(path, libraries)
        want[name].add(where)

    want["spe-broker"].add(DROP_IN)

    good = True
    for name in PACKAGES:
        have = files_of(package(work, name))
        document = f"usr/share/doc/{name}/"
        lint = f"usr/share/lintian/overrides/{name}"
        files = {path for path in have if not path.startswith(document) and path != lint}
        for path in sorted(want[name] - files):
            print(f"{name} lacks {path}")
        for path in sorted(files - want[name]):
            print(f"{name} has {path}, which is not in tests/install.list")
        good = good and files == want[name] and document + "copyright" in have
        for path, (mode, owner) in have.items():
            program = re.match(r"usr/s?bin/", path) or path.endswith(("/examples/vmm.py", "/spe-broker/libvirt-qemu"))
            right = "l" if " -> " in path else "-rwxr-xr-x" if program else "-rw-r--r--"
            if not mode.startswith(right) or owner != "root/root":
                print(f"{name}: {path} is {mode} {owner}")
                good = False
    return good


def control(source, work):
    with open(os.path.join(source, "CMakeLists.txt"), encoding="utf-8") as f:
        version = re.search(r"^project\(spe-broker VERSION (\S+)", f.read(), re.M).group(1)
    good = True
    for name in PACKAGES:
        made = output("dpkg-deb", "-f", package(work, name), "Version").strip()
        if made.rsplit("-", 1)[0] != version:
            print(f"{name} has version {made}, CMakeLists.txt {version}")
            good = False

    with open(os.path.join(source, "debian/control"), encoding="utf-8") as f:
        field = re.search(r"^Build-Depends:((?:\n .*)+)", f.read(), re.M).group(1)
    # ":native": it runs where the package is built, for whatever machine.
    named = {line.split()[0].rstrip(",").removesuffix(":native") for line in field.strip().splitlines()} - PACKAGING
    listed = set(output("bash", "-c", '. "$1" && printf "%s\\n" "${packages_build[@]}"', "bash",
                        os.path.join(source, "tools/packages.bash")).split()) - BUILD_ESSENTIAL
    for word in sorted(named ^ listed):
        print(f"{word}: only in", "debian/control" if word in named else "tools/packages.bash")
        good = False
    return good


if __name__ == "__main__":
    check, SOURCE, WORK = sys.argv[1], *map(os.path.abspath, sys.argv[2:4])
    CHECKS = {f.__name__: f for f in (build, lintian, contents, control)}
    sys.exit(0 if CHECKS[check](SOURCE, WORK, *sys.argv[4:]) else 1)
