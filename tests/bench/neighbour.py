#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one user at every limit does to another one's latency: the ratio of what the other waits beside that user to
what it waits alone, interleaved in one run, for several ways of being at the limits. Prints medians of the rounds'
ratios; judges nothing.

    neighbour.py [ROUNDS [WORD...]]     only those that have one of the words in their names

Calls per figure and round: BENCH_CALLS=2000. With BENCH_REALTIME=1 nobody else on the machine has the CPUs, and of the
three the other user before the broker before the crowd: then what is measured is what the broker makes that user
wait for."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "daemon")]

import harness  # noqa: E402

CROWD, NEIGHBOUR = os.environ["CROWD"], os.environ["NEIGHBOUR"]
REALTIME = os.environ.get("BENCH_REALTIME")
CALLS = os.environ.get("BENCH_CALLS", "2000")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
ONLY = sys.argv[2:]
GROUP, CROWD_UID, NEIGHBOUR_UID = 60001, 60002, 60003
CONFIG = f"""[Policy]
AcquireGroup={GROUP}
"""
# What the crowd does while the other one is measured.
CROWDS = {
    "idle connections": ["silent:4000"],
    "full input, nobody reads": ["full:2000"],
    "half messages": ["half:2000"],
    "all leases": ["hold:1024"],
    "all waiters": ["wait:2000"],
    "all watchers, reading": ["watch:2000"],
    "all watchers, deaf": ["deaf:2000"],
    "everything at rest": ["wait:256", "hold:1024", "deaf:64", "half:100", "full:4000"],
    "everything, watchers reading": ["wait:256", "hold:1024", "watch:64", "half:100", "full:4000"],
    "calls on 1 connection": ["call:1"],
    "calls on 100 connections": ["call:100"],
    "calls on all connections": ["call:4000"],
    "long answers": ["hold:1024", "leases:100"],
    "long lists of refusals": ["refused:1", "refusals:100"],
    "refusals with many holders": ["hold:1024", "busy:16"],
    "checks of the host": ["check:100"],
    "everything, and calls": ["wait:256", "hold:1024", "watch:64", "call:4000"],
    "10,000 connections a second": ["flood:10000"],
    "short connections": ["flood:0"],
}


def hurry(pid, priority):
    if REALTIME:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(priority))


def become(uid, priority):
    def change():
        hurry(0, priority)
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(uid, uid, uid)
    return change


def neighbour(broker):
    result = subprocess.run([NEIGHBOUR, str(broker.socket_path), CALLS], stdout=subprocess.PIPE, check=True,
                            preexec_fn=become(NEIGHBOUR_UID, 3))
    return json.loads(result.stdout)


@contextlib.contextmanager
def crowd(broker, arguments):
    process = subprocess.Popen([CROWD, str(broker.socket_path), *arguments], stdout=subprocess.PIPE,
                               preexec_fn=become(CROWD_UID, 1))
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_alone(broker):
    harness.wait_for(lambda: broker.call("Describe")["host"]["counts"]["connections"] == 2, "the crowd is gone")


def measure(broker, name, arguments):
    alone, beside, there = [], [], {}
    for _ in range(ROUNDS):
        alone.append(neighbour(broker))
        with crowd(broker, arguments) as there:
            beside.append(neighbour(broker))
        wait_alone(broker)
    there = " ".join(f"{k}:{v}" for k, v in there.items() if v)
    print(f"{name:<30}" + "".join(
        f"{statistics.median(a[step][key] for a in alone):>8.0f}"
        f"{statistics.median(b[step][key] / a[step][key] for a, b in zip(alone, beside)):>7.2f}"
        for step in ("list", "pair", "connect") for key in ("p50", "p99")) + f"  {there}", flush=True)


def main():
    if os.geteuid() != 0:
        print("needs root: two users are measured")
        sys.exit(77)
    directory = tempfile.mkdtemp(prefix="spe-bench-", dir="/dev/shm")
    os.chmod(directory, 0o755)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        broker = harness.Broker(pathlib.Path(directory) / "broker", simulate="biglittle", config=CONFIG).start()
        try:
            hurry(broker.process.pid, 2)
            with broker.connect() as root:  # what the crowd waits for
                root.call("Acquire", request={"vm": "root", "vcpus": 1, "instance": "arm_spe_0", "mode": "exclusive"})
                print(f"{'':<30}" + "".join(f"{s + ' ' + k:>15}" for s in ("list", "pair", "connect")
                                            for k in ("p50", "p99")) + "   usec alone, times that beside")
                for name, arguments in CROWDS.items():
                    if not ONLY or any(word in name for word in ONLY):
                        measure(broker, name, arguments)
        finally:
            broker.stop()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
