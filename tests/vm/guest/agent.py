#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs inside the VM, as root: mounts what the job wants, then runs its commands one after the other. A command that
is not done in time is killed with all that it started in its session. Each leaves NAME.log and NAME.status here,
and prints through the port named 'output', too."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

JOB = pathlib.Path(__file__).resolve().parent
TIMED_OUT = 124  # as of timeout(1)


def port(name):
    """The virtio port of that name; its device may still be on the way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for file in pathlib.Path("/sys/class/virtio-ports").glob("*/name"):
            device = pathlib.Path("/dev") / file.parent.name
            if file.read_text().strip() == name and device.exists():
                return open(device, "wb", buffering=0)
        time.sleep(0.05)
    return open("/dev/null", "wb", buffering=0)


def mount(tag, path, writable):
    os.makedirs(path, exist_ok=True)
    options = "trans=virtio,version=9p2000.L,msize=262144," + ("rw" if writable else "ro,cache=loose")
    subprocess.run(["mount", "-t", "9p", "-o", options, tag, path], check=True)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)


def run(command, environment, output):
    """The exit status of a command, as a shell has it."""
    with open(JOB / f"{command['name']}.log", "wb", buffering=0) as log:
        try:
            process = subprocess.Popen(command["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, start_new_session=True,
                                       env={**os.environ, **environment})
        except OSError as error:
            log.write(f"{command['command'][0]}: {error.strerror}\n".encode())
            output.write(f"{command['command'][0]}: {error.strerror}\n".encode())
            return 127
        overdue = threading.Timer(command["timeout"], kill, [process])
        overdue.start()
        while data := process.stdout.read1():
            log.write(data)
            output.write(data)
        code = process.wait()
        in_time = overdue.is_alive()
        overdue.cancel()
        if not in_time:
            message = f"not done within {command['timeout']} s\n".encode()
            log.write(message)
            output.write(message)
            return TIMED_OUT
        return 128 - code if code < 0 else code


def main():
    job = json.loads((JOB / "job.json").read_text())
    with port("output") as output:
        for share in job["mounts"]:
            mount(share["tag"], share["path"], share["writable"])
        for command in job["commands"]:
            status = run(command, job["environment"], output)
            (JOB / f"{command['name']}.status").write_text(f"{status}\n")


main()
