# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds the test PMU for a kernel, against the headers that Debian has for it and with this machine's compiler.
The headers come with the programs that build a module as of this machine, also those of another architecture."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import fetch
import kernel
import machines
from debian_packages import TIMEOUT, Unavailable

SOURCE = pathlib.Path(__file__).resolve().parent / "spe-test-pmu"
FILES = ("Kbuild", "spe-test-pmu.c")
NAME = "arm_spe_pmu.ko"


class Broken(Exception):
    """The module does not build; the message has what the compiler said."""


def headers(tree):
    """The directory to build in. What Debian's files name by the place that they are installed to is here."""
    build = next(path for path in tree.glob("usr/src/linux-headers-*") if not path.name.endswith("-common"))
    common = next(tree.glob("usr/src/linux-headers-*-common"))
    return build, common


def compiler(architecture):
    cross = "" if architecture == machines.HOST else machines.ARCHITECTURES[architecture]["cross"]
    gcc = shutil.which(f"{cross}gcc")
    if not gcc:
        raise Unavailable(f"no {cross}gcc to build the test PMU with")
    return cross, subprocess.run([gcc, "--version"], check=True, capture_output=True, text=True).stdout


def build(architecture, name):
    """The module's file."""
    tree = fetch.kernel(architecture, name)
    version = kernel.modules_of(tree)[1]
    cross, described = compiler(architecture)

    def make(path):
        where, common = headers(tree)
        for file in FILES:
            shutil.copy(SOURCE / file, path / file)
        command = ["make", "-C", str(where), "-f", str(common / "Makefile"), f"O={where}", f"M={path}", "modules",
                   f"ARCH={machines.ARCHITECTURES[architecture]['kernel_name']}", f"CROSS_COMPILE={cross}",
                   f"CC={cross}gcc",
                   # Nobody looks at its types; and what only a newer compiler than ours has.
                   "CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT="]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False,
                                env={**os.environ, "MAKEFLAGS": ""})
        if result.returncode:
            raise Broken(f"the test PMU does not build for {version}:\n{result.stdout}{result.stderr}")

    digest = hashlib.sha256(b"".join((SOURCE / file).read_bytes() for file in FILES)).hexdigest()
    return fetch.entry(f"module-{architecture}-{name}", "\n".join((version, described, digest)), make) / NAME
