# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/daemon/test_memlock*.py have, by a root that has CAP_SYS_RESOURCE, as it is of a machine of its own."""

import pathlib
import subprocess
import sys

import harness

if __name__ == "__main__":
    tests = sorted(pathlib.Path(harness.__file__).parent.glob("test_memlock*.py"))
    sys.exit(max(subprocess.run([sys.executable, "-B", test], check=False).returncode for test in tests))
