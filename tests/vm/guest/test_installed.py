# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages in a system that systemd has booted: installed, used, upgraded, purged. What is done with them is
in installed/; they lie in the build (tests/packages.py)."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "installed"))

import packages  # noqa: E402 (found through the line above)
import system  # noqa: E402

ORDER = ("packages.TestInstalled", "service", "sandbox", "outlive", "packages.TestUpgraded", "packages.TestRemoved")


def main(order=ORDER):
    if not pathlib.Path("/run/systemd/system").exists():
        print("only where systemd runs: tests/vm/suite.py")
        return 77
    if not packages.files():
        print("there are no packages for this architecture in the build")
        return 77
    packages.install()
    system.simulate()
    tests = unittest.defaultTestLoader.loadTestsFromNames(order)
    return 0 if unittest.TextTestRunner(sys.stdout, verbosity=2).run(tests).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
