# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs that host sessions are watched and refused, in a virtual machine (tests/bench/sessions.py): ratios, as its
clock says nothing about real machines. Each figure is measured beside its peer, in turn."""

import json
import os
import pathlib
import select
import statistics
import subprocess
import time
import unittest

import machine
import sessions

PROGRAM = str(pathlib.Path(os.environ.get("SPE_BUILD_DIR", "."), "tests/bench/sessions"))
ROUNDS, CLOSES, MSEC = 5, 50, "200"


def measure(what):
    return json.loads(subprocess.run([PROGRAM, what, MSEC], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                     check=True).stdout)


def quantiles(times):
    ordered = sorted(times)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}


def bare_usec():
    """From closing a pipe's end to the answer of a process that slept until then."""
    reader, writer = os.pipe()
    answer, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            poll = select.epoll()
            poll.register(reader, select.EPOLLIN)
            os.write(told, b"0")
            poll.poll()
            os.write(told, b"1")
        finally:
            os._exit(0)
    os.read(answer, 1)
    begin = time.monotonic_ns()
    os.close(writer)
    os.read(answer, 1)
    usec = (time.monotonic_ns() - begin) / 1000
    os.waitpid(pid, 0)
    for fd in reader, answer, told:
        os.close(fd)
    return usec


class TestCost(sessions.Case):
    def test_open(self):
        """A software event, opened and closed: what every user of perf pays."""
        ratios = []
        for _ in range(ROUNDS):
            without = measure("open")
            self.start("auto")
            ratios.append(measure("open") / without)
            self.daemon.stop()
        print(f"open and close of a software event, {self.level}: ratio {statistics.median(ratios):.3f} to without")

    def test_close_to_grant(self):
        """From a session's close to the lease that has waited for it, as its owner is told."""
        self.start("auto")
        ours, bare = [], []
        for _ in range(CLOSES):
            event = self.event(self.first, cpu=0)
            stream = self.client(self.daemon).stream("Acquire", request={"vm": "vm", "vcpus": 1, "cpus": "0"},
                                                     waitUSec=sessions.LONG)
            stream.next()
            begin = time.monotonic_ns()
            event.close()
            reply = stream.next()
            ours.append((time.monotonic_ns() - begin) / 1000)
            self.assertEqual(reply["change"], "granted")
            self.admin.call("Release", leaseId=reply["lease"]["leaseId"])
            stream.close()
            bare.append(bare_usec())
        ours, bare = quantiles(ours), quantiles(bare)
        for key in ours:
            print(f"close to grant, {self.level}: {key} {ours[key]:.0f} us, a pipe's close {bare[key]:.0f} us: "
                  f"ratio {ours[key] / bare[key]:.2f}")

    def test_swap(self):
        found = [measure("swap") for _ in range(ROUNDS)]
        for peer in "copy", "update":
            ratio = statistics.median(figures["swap"] / figures[peer] for figures in found)
            print(f"another policy for 1024 CPUs: ratio {ratio:.2f} to {peer}")


if __name__ == "__main__":
    unittest.main(verbosity=0)
