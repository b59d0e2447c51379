#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs that leases have files, in memory as below /run: Acquire and Release beside making, renaming and
removing a file of that size, and a restart with thousands of leases beside reading their files. Processor times, and
medians of the ratios within each round; judges nothing.

    files.py [ROUNDS]         time per figure and round: BENCH_TIME=250ms"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "daemon")]

import harness  # noqa: E402
import lease_file  # noqa: E402

READ_FILES, REPLACE_FILES = os.environ["READ_FILES"], os.environ["REPLACE_FILES"]
TIME = os.environ.get("BENCH_TIME", "250ms")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
MEMORY = pathlib.Path("/dev/shm")
PAIRS = 1000
LEASES = 4096
ROOMY = """[Limits]
MaxLeases=8192
MaxLeasesPerUser=8192
MaxMemory=1T
MaxMemoryPerUser=1T
MaxMemoryPerVM=1T
"""


def cpu_usec(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def acquire(client, vm):
    return client.call("Acquire", request={"vm": vm, "vcpus": 1, "bufferSize": 4096})["lease"]["leaseId"]


def pair_usec(broker, client):
    """The daemon's own time for Acquire and Release of one lease."""
    begin = cpu_usec(broker.process.pid)
    for _ in range(PAIRS):
        client.call("Release", leaseId=acquire(client, "pair"))
    return (cpu_usec(broker.process.pid) - begin) / PAIRS


def run(*command, **arguments):
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **arguments).stdout)


def compare_pairs(broker):
    with broker.connect() as client:
        lease_id = acquire(client, "pair")
        size = lease_file.paths(broker.root)[lease_id].stat().st_size
        client.call("Release", leaseId=lease_id)
        times = [(run(REPLACE_FILES, TIME, str(size), str(broker.root)), pair_usec(broker, client))
                 for _ in range(ROUNDS)]
    bare, ours = (statistics.median(column) for column in zip(*times))
    print(f"Acquire and Release: {ours:.1f} us, a file of their {size} bytes {bare:.1f} us: "
          f"ratio {statistics.median(b / a for a, b in times):.2f}")


def restart_msec(broker):
    """From a death that nobody has foreseen until the next one serves, and the time of it that the new one computed."""
    broker.kill()
    begin = time.monotonic()
    broker.start()
    return (time.monotonic() - begin) * 1000, cpu_usec(broker.process.pid) / 1000


def compare_restarts(broker):
    empty = [restart_msec(broker) for _ in range(ROUNDS)]
    with broker.connect() as client:
        ids = {acquire(client, f"vm-{i}") for i in range(LEASES)}
    names = "".join(f"{path}\n" for path in lease_file.paths(broker.root).values())
    times = []
    for _ in range(ROUNDS):
        bare = run(READ_FILES, TIME, input=names) / 1000
        times.append((bare, *restart_msec(broker)))
    if {lease["leaseId"] for lease in broker.call("ListLeases")["leases"]} != ids:
        raise AssertionError("these are other leases")

    bare, wall, cpu = (statistics.median(column) for column in zip(*times))
    print(f"start with {LEASES} leases: {wall:.0f} ms ({cpu:.0f} ms of processor time), "
          f"with none {statistics.median(w for w, _ in empty):.0f} ms, "
          f"reading the files {bare:.0f} ms: ratio {statistics.median(w / b for b, w, _ in times):.2f}")


def main():
    if not os.access(MEMORY, os.W_OK):
        print(f"{MEMORY} cannot be written")
        sys.exit(77)
    directory = tempfile.mkdtemp(prefix="spe-bench-", dir=MEMORY)
    try:
        broker = harness.Broker(pathlib.Path(directory), simulate="biglittle", config=ROOMY).start()
        try:
            compare_pairs(broker)
            compare_restarts(broker)
        finally:
            broker.stop()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
