# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit tests of an arm64 build, on the kernel and the processor that they are for: user emulation, in which ctest
runs them elsewhere, has neither bpf(), nor perf, nor an arm64 kernel's /proc."""

import os
import pathlib
import platform
import subprocess
import sys

PROGRAMS = sorted(pathlib.Path(os.environ.get("SPE_BUILD_DIR", ".")).glob("tests/unit/test-*"))
SECONDS = 100
# Some tests are about time, which an emulated machine with little of it may need to try again.
TRIES = 3


def run(program):
    """What is wrong with it; empty if nothing is."""
    try:
        result = subprocess.run([program], capture_output=True, text=True, errors="replace", timeout=SECONDS,
                                check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"not done within {SECONDS} s"
    if result.returncode in (0, 77):
        return ""
    return f"exit status {result.returncode}\n{result.stdout}{result.stderr}"


def main():
    if platform.machine() != "aarch64":
        print("only for arm64: this machine's unit tests run on this machine")
        return 77
    programs = [program for program in PROGRAMS if program.is_file() and os.access(program, os.X_OK)]
    if not programs:
        print("no unit test is built")
        return 1
    failures = 0
    for program in programs:
        for _ in range(TRIES):
            problem = run(program)
            print(f"{program.name}: {problem or 'ok'}", flush=True)
            if not problem:
                break
        failures += bool(problem)
    print(f"{len(programs)} programs, {failures} failed")
    return 1 if failures else 0


sys.exit(main())
