#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests in virtual machines, as ctest runs them: one boot for all tests of a machine, then one ctest test for each,
which says what it had to say.

    suite.py boot ARCH KERNEL BUILD RESULTS NAME...
                                               boots, runs guest/test_NAME.py or guest/ARCH/test_NAME.py of each, and
                                               leaves what they said in RESULTS
    suite.py result RESULTS NAME               prints what test_NAME.py said, and exits as it did
    suite.py fetch ARCH KERNEL                 only fetches and makes what the boot needs

'boot' fails if the machine did not run all of them, not if one of them failed. 77: no such machine can be had here."""

import os
import pathlib
import shutil
import sys
import time

sys.dont_write_bytecode = True

import boot  # noqa: E402
import fetch  # noqa: E402
import kernel  # noqa: E402
import module  # noqa: E402
import rootfs  # noqa: E402
from debian_packages import Unavailable  # noqa: E402 (fetch.py has made it known)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
TEST_SECONDS = 900
GUEST_DEADLINE = "120"  # everything is slow in there
REASON = "skipped"
APPARMOR = "/run/vm/apparmor"


def test_of(architecture, name):
    """One of every machine, or of this architecture alone."""
    test = boot.GUEST / f"test_{name}.py"
    return test if test.exists() else boot.GUEST / architecture / test.name


def job_of(architecture, kernel_name, build, results, names):
    job = boot.Job(architecture, kernel_name)
    job.share(str(SOURCE), SOURCE)
    if SOURCE not in build.parents:
        job.share(str(build), build)
    job.environment = {
        "SPE_BROKER": str(build / "broker/spe-broker"), "SPEADM": str(build / "speadm/speadm"),
        "SPE_SOURCE_DIR": str(SOURCE), "SPE_BUILD_DIR": str(build), "SPE_DEADLINE": GUEST_DEADLINE,
        "SPE_VM_MODULE": f"{rootfs.JOB}/{module.NAME}", "SPE_VM_KERNEL": kernel_name,
        "PYTHONPATH": f"{SOURCE}/tests/daemon:{boot.GUEST}",
    }
    if "SPE_LONG" in os.environ:
        job.environment["SPE_LONG"] = os.environ["SPE_LONG"]
    shutil.copy(module.build(architecture, kernel_name), results / module.NAME)
    if "apparmor" in names:
        share_apparmor(job)
    for name in names:
        job.add(name, ["python3", "-B", str(test_of(architecture, name))], TEST_SECONDS)
    return job


def share_apparmor(job):
    """A machine without it is a machine all the same."""
    try:
        job.share(APPARMOR, fetch.apparmor(job.architecture))
        job.environment["SPE_VM_APPARMOR"] = APPARMOR
    except Unavailable as error:
        fetch.say(f"no AppArmor: {error}")


def run(architecture, kernel_name, build, results, names):
    build, results = pathlib.Path(build).resolve(), pathlib.Path(results)
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    begin = time.monotonic()
    try:
        job = job_of(architecture, kernel_name, build, results, names)
        made = time.monotonic()
        boot.run(job, results, lambda data: None)
    except Unavailable as error:
        (results / REASON).write_text(f"{error}\n")
        print(f"no virtual machine: {error}")
        return SKIPPED
    except (module.Broken, boot.Failed) as error:
        print(error)
        return 1
    version = kernel.modules_of(kernel.fetch.kernel(architecture, kernel_name))[1]
    print(f"{version}: made ready in {made - begin:.0f} s, ran {time.monotonic() - made:.0f} s")
    missing = [name for name in names if not (results / f"{name}.status").exists()]
    if missing:
        print(f"it ended before: {' '.join(missing)}; the end of its console:\n{boot.tail(results / 'console.log')}")
    return 1 if missing else 0


def result(results, name):
    results = pathlib.Path(results)
    if (results / REASON).exists():
        print(f"no virtual machine: {(results / REASON).read_text().strip()}")
        return SKIPPED
    try:
        status = boot.status(results, name)
    except boot.Failed as error:
        print(error)
        return 1
    finally:
        log = results / f"{name}.log"
        if log.exists():
            print(log.read_text(errors="replace"), end="")
    return status


def fetch_all(architecture, kernel_name):
    try:
        kernel.initramfs(architecture, kernel_name)
        kernel.fetch.qemu()
        fetch.apparmor(architecture)
        module.build(architecture, kernel_name)
    except Unavailable as error:
        print(f"no virtual machine: {error}")
        return SKIPPED
    except module.Broken as error:
        print(error)
        return 1
    return 0


def main(arguments):
    match arguments:
        case ["boot", architecture, kernel_name, build, results, *names]:
            return run(architecture, kernel_name, build, results, names)
        case ["result", results, name]:
            return result(results, name)
        case ["fetch", architecture, kernel_name]:
            return fetch_all(architecture, kernel_name)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
