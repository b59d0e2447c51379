# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libspebroker needs of an arm64 kernel in a VMM's sandbox (tests/libspebroker/test_sandbox.py): the system calls of
this machine and of its C library are not another's, and user emulation, in which ctest runs the others, takes no filter."""

import os
import pathlib
import platform
import sys

TEST = pathlib.Path(os.environ.get("SPE_SOURCE_DIR", ".")) / "tests/libspebroker/test_sandbox.py"
PROGRAM = pathlib.Path(os.environ.get("SPE_BUILD_DIR", ".")) / "tests/libspebroker/libspebroker-sandbox"


def main():
    if platform.machine() != "aarch64":
        print("only for arm64: ctest runs it on this machine")
        return 77
    environment = os.environ | {"SPE_SANDBOX": str(PROGRAM), "SPE_SANITIZE": ""}
    os.execve(sys.executable, [sys.executable, "-B", str(TEST)], environment)


sys.exit(main())
