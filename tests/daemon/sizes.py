# SPDX-License-Identifier: LGPL-2.1-or-later
"""Buffer sizes, charges and CPU lists, computed again from their definitions for the tests to compare
with."""

import bisect
import os

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
# PMBIDR_EL1.MaxBuffSize: 9 bits of mantissa, 5 of exponent
REPRESENTABLE = sorted(
    {m << 12 if e == 0 else (m | 0x200) << (e + 11) for e in range(32) for m in range(512)} - {0}
)
# Bytes that one table maps, by level, up to the level below the root; and what the upper levels add
GRANULES = (
    (4 * KIB, 2 * MIB, GIB, 3),
    (16 * KIB, 32 * MIB, 64 * GIB, 3),
    (64 * KIB, 512 * MIB, 4096 * GIB, 1),
)


def representable(size):
    """The largest size that the field can hold and that is not above size, or None."""
    n = bisect.bisect_right(REPRESENTABLE, size)
    return REPRESENTABLE[n - 1] if n else None


def power_of_two(size):
    """The largest power of two not above size that the field can hold, or None."""
    return next((1 << k for k in range(51, 11, -1) if 1 << k <= size), None)


def tables(size):
    def up(a, b):
        return -(-a // b)

    return max(
        max(granule, HOST_PAGE) * (up(size, c3) + 1 + up(size, c2) + 1 + top)
        for granule, c3, c2, top in GRANULES
    )


def charge(vcpus, size):
    return vcpus * (size + tables(size) + 2 * HOST_PAGE)


def cpus(text):
    """The set that a cpulist names."""
    out = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        out.update(range(int(first), int(last or first) + 1))
    return out


def cpulist(cpus):
    """The canonical text of a set of CPUs."""
    parts, run = [], []
    for cpu in sorted(cpus) + [None]:
        if run and cpu != run[-1] + 1 if cpu is not None else run:
            parts.append(str(run[0]) if run[0] == run[-1] else f"{run[0]}-{run[-1]}")
            run = []
        if cpu is not None:
            run.append(cpu)
    return ",".join(parts)
