# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed unit, restarted dozens of times under leases and under whoever would use a gap. It takes minutes."""

import sys

import test_installed

if __name__ == "__main__":
    sys.exit(test_installed.main(("restarts", "packages.TestRemoved")))
