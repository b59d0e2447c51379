#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs that host sessions are watched and refused: boots a virtual machine at level enforce, in which
tests/vm/guest/cost.py measures. And what it costs that the gate sees every ioctl(), in instructions, in one that counts
them. Prints ratios; judges nothing.

    sessions.py BUILD"""

import json
import pathlib
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests"), str(SOURCE / "tests/vm")]

import boot  # noqa: E402
import machines  # noqa: E402
import module  # noqa: E402
import suite  # noqa: E402
from debian_packages import Unavailable  # noqa: E402

KERNEL, SECONDS = "6.12", 300
IOCTL_MSEC = "20"  # always the same instructions


def count_ioctl(build):
    """FIONREAD of a pipe: what every ioctl pays for the gate."""
    with tempfile.TemporaryDirectory(prefix="spe-bench-") as name:
        directory = pathlib.Path(name)
        job = boot.Job(machines.HOST, KERNEL, systemd=False, counted=True)
        job.share(str(build), build)
        job.add("ioctl", [str(build / "tests/bench/sessions"), "ioctl", IOCTL_MSEC], SECONDS)
        boot.run(job, directory, lambda data: None)
        log, status = (directory / "ioctl.log").read_text(errors="replace"), boot.status(directory, "ioctl")
    if status == 0:
        figures = json.loads(log)
        print(f"a cheap ioctl with the gate: {figures['with']:.0f} instructions, {figures['without']:.0f} without: "
              f"ratio {figures['with'] / figures['without']:.3f}")
    else:
        print(log)
    return status


def main(build):
    build = pathlib.Path(build).resolve()
    with tempfile.TemporaryDirectory(prefix="spe-bench-") as name:
        directory = pathlib.Path(name)
        try:
            job = suite.job_of(machines.HOST, KERNEL, build, directory, [])
            job.add("cost", ["python3", "-B", str(boot.GUEST / "cost.py")], SECONDS)
            boot.run(job, directory, lambda data: None)
            counted = count_ioctl(build)
        except Unavailable as error:
            print(f"no virtual machine: {error}")
            return suite.SKIPPED
        except (module.Broken, boot.Failed) as error:
            print(error)
            return 1
        print((directory / "cost.log").read_text(errors="replace"))
        return boot.status(directory, "cost") or counted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
