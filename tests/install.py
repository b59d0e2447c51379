#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `cmake --install --prefix DIR` puts where, and that it is true for DIR.

    install.py build SOURCE WORK    builds preset release in WORK/build, installs it to "WORK/a prefix"
    install.py layout SOURCE WORK   the files are those of tests/install.list, and none names where it was built
    install.py destdir SOURCE WORK  DESTDIR holds: the units say /usr, the files are the same
"""

import os
import shutil
import subprocess
import sys

PREFIX = "a prefix"  # with a blank: a unit file must quote it

# Those outside of the directories for them.
PROGRAMS = ("share/spe-broker/libvirt-qemu",)


def run(*command, **kwargs):
    print("+", *command, flush=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **kwargs)


def tree(root):
    found = []
    for directory, names, files in os.walk(root):
        links = [n for n in names if os.path.islink(os.path.join(directory, n))]
        for name in files + links:
            path = os.path.join(directory, name)
            arrow = " -> " + os.readlink(path) if os.path.islink(path) else ""
            found.append(os.path.relpath(path, root) + arrow)
    return sorted(found)


def expected(source):
    with open(os.path.join(source, "tests/install.list"), encoding="utf-8") as f:
        return sorted(line.strip() for line in f if line.strip() and not line.startswith("#"))


def compare(source, root):
    want, have = set(expected(source)), set(tree(root))
    for path in sorted(want - have):
        print("missing:", path)
    for path in sorted(have - want):
        print("not in tests/install.list:", path)
    return want == have


def build(source, work):
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    directory = os.path.join(work, "build")
    # The optimiser warns of what the debug build does not see.
    run("cmake", "--preset", "release", "-S", source, "-B", directory, "-DSPE_WERROR=ON", cwd=source)
    run("cmake", "--build", directory, "-j", str(os.cpu_count()))
    run("cmake", "--install", directory, "--prefix", os.path.join(work, PREFIX))
    return True


def layout(source, work):
    root = os.path.join(work, PREFIX)
    good = compare(source, root)
    for path in tree(root):
        if " -> " in path:
            continue
        with open(os.path.join(root, path), "rb") as f:
            data = f.read().replace(root.encode(), b"")  # which it may name, and which may lie in one of them
        for place in (source, os.path.join(work, "build")):
            if place.encode() in data:
                print(f"{path} names {place}")
                good = False
        mode = os.stat(os.path.join(root, path)).st_mode & 0o7777
        if mode != (0o755 if path.split("/")[0] in ("bin", "sbin") or path in PROGRAMS else 0o644):
            print(f"{path} has mode {mode:o}")
            good = False
    for program in ("sbin/spe-broker", "bin/speadm"):
        run(os.path.join(root, program), "--help", stdout=subprocess.DEVNULL)
    return good


def destdir(source, work):
    root = os.path.join(work, "destdir")
    shutil.rmtree(root, ignore_errors=True)
    run("cmake", "--install", os.path.join(work, "build"), "--prefix", "/usr", env={**os.environ, "DESTDIR": root},
        stdout=subprocess.DEVNULL)
    good = compare(source, os.path.join(root, "usr"))
    if tree(root) != ["usr/" + path for path in tree(os.path.join(root, "usr"))]:
        print("something is outside of the prefix")
        good = False
    unit = "usr/lib/systemd/system/spe-broker.service"
    with open(os.path.join(root, unit), encoding="utf-8") as f, \
            open(os.path.join(source, "systemd/spe-broker.service"), encoding="utf-8") as g:
        if f.read() != g.read():
            print(f"{unit} is not the unit as it is written")
            good = False
    shutil.rmtree(root)
    return good


if __name__ == "__main__":
    verb, SOURCE, WORK = sys.argv[1], *map(os.path.abspath, sys.argv[2:4])
    sys.exit(0 if {"build": build, "layout": layout, "destdir": destdir}[verb](SOURCE, WORK) else 1)
