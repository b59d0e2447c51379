#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs that host sessions are watched and refused: boots a virtual machine at level enforce, in which
tests/vm/guest/cost.py measures. Prints ratios; judges nothing.

    sessions.py BUILD"""

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


def main(build):
    with tempfile.TemporaryDirectory(prefix="spe-bench-") as name:
        directory = pathlib.Path(name)
        try:
            job = suite.job_of(machines.HOST, KERNEL, pathlib.Path(build).resolve(), directory, [])
            job.add("cost", ["python3", "-B", str(boot.GUEST / "cost.py")], SECONDS)
            boot.run(job, directory, lambda data: None)
        except Unavailable as error:
            print(f"no virtual machine: {error}")
            return suite.SKIPPED
        except (module.Broken, boot.Failed) as error:
            print(error)
            return 1
        print((directory / "cost.log").read_text(errors="replace"))
        return boot.status(directory, "cost")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
