#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same as vmm.c without libspebroker: plain varlink, which is one JSON object and a NUL byte for each message.

    vmm.py [SOCKET [VM [CPUS]]]

Exit status: 0 done, 1 failed, 3 refused, 4 no broker."""

import json
import os
import select
import signal
import socket
import sys

BROKER = "io.spebroker.Broker."
VCPUS = 2


class Refused(Exception):
    """An error reply: its name and its fields."""


class Connection:
    """Calls in order, or one stream."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.input = b""

    def fileno(self):
        return self.socket.fileno()

    def send(self, method, more=False, **parameters):
        message = {"method": BROKER + method, "parameters": parameters}
        if more:
            message["more"] = True
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        """The next reply's parameters, and whether more will follow."""
        while b"\0" not in self.input:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self.input += data
        message, self.input = self.input.split(b"\0", 1)
        reply = json.loads(message)
        if reply.get("error"):
            raise Refused(reply["error"], reply.get("parameters") or {})
        return reply.get("parameters") or {}, reply.get("continues", False)

    def call(self, method, **parameters):
        self.send(method, **parameters)
        return self.receive()[0]


def enable_spe(lease):
    """A real one sets its VCPU threads' affinity, and calls KVM_SET_DEVICE_ATTR."""
    print(f"lease {lease['leaseId']}: {lease['instance']}")
    print(f"VCPU threads on CPUs {lease['cpus']}")
    print(f"KVM_ARM_VCPU_SPE_IRQ {lease['interrupt']}")
    print(f"KVM_ARM_VCPU_SPE_SPU {lease['pmuType']}")
    print(f"KVM_ARM_VCPU_MAX_BUFFER_SIZE {lease['bufferSize']}")
    print(f"RLIMIT_MEMLOCK +{lease['memlock']['bytes']} {lease['memlock']['state']}")


def follow(stream, lease, signals):
    """Looks at the lease after each change: until it must be given back (True) or has ended (False)."""
    cpus, pmu_type, more = lease["cpus"], lease["pmuType"], True
    while more:
        if b"\0" not in stream.input and signals in select.select([stream, signals], [], [])[0]:
            return True
        reply, more = stream.receive()
        lease = reply["lease"]
        if lease["state"] != "granted":
            print(lease["state"])
        if lease["state"] in ("revoking", "revoked"):
            return True
        if lease["restartRequired"]:  # A real one starts its VM again, with a new lease.
            print(f"restart: {lease['reason']}")
            return True
        if lease["pmuType"] != pmu_type:  # The driver is loaded again.
            pmu_type = lease["pmuType"]
            print(f"no SPU: {lease['reason']}" if pmu_type is None else f"KVM_ARM_VCPU_SPE_SPU {pmu_type}")
        if lease["cpus"] != cpus:
            cpus = lease["cpus"]
            print(f"VCPU threads on CPUs {cpus}")
    return False


def adopt(broker):
    """The lease that 'speadm run' took for this process, or with --scope for all that are in its scope; else None."""
    lease_id, pid = os.environ.get("SPE_BROKER_LEASE"), os.environ.get("SPE_BROKER_PID")
    if not lease_id or (pid or str(os.getpid())) != str(os.getpid()):
        return None  # inherited from whoever started this process, and has that lease
    leases = [lease for lease in broker.call("ListLeases")["leases"] if lease["leaseId"] == lease_id]
    return leases[0] if leases and leases[0]["owner"]["pid"] in (None, os.getpid()) else None


def run(path, request, signals):
    # A stream has a connection of its own: calls behind it would wait.
    broker, stream = Connection(path), Connection(path)
    try:
        lease = adopt(broker) or broker.call("Acquire", request=request)["lease"]
    except Refused as refusal:
        print(*refusal.args, file=sys.stderr)
        offer = broker.call("Query", request=request)["decision"].get("counterOffer")
        if offer:
            print(f"There would be {offer['instance']}, CPUs {offer['cpus']}, {offer['bufferSize']} bytes for each "
                  "VCPU.", file=sys.stderr)
        return 3
    enable_spe(lease)
    stream.send("Follow", more=True, leaseId=lease["leaseId"])
    if follow(stream, lease, signals):
        # Only after no VCPU has SPE enabled any more: this is the VMM's word for it.
        broker.call("Release", leaseId=lease["leaseId"])
        print("released")
    return 0


def main():
    sys.stdout.reconfigure(line_buffering=True)
    path, vm, cpus = (sys.argv[1:] + [None] * 3)[:3]
    request = {"vcpus": VCPUS, "vm": vm or "example"}
    if cpus:
        request["cpus"] = cpus

    # So that select() returns for SIGINT and SIGTERM.
    signals, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    try:
        return run(path or "/run/spe-broker/io.spebroker.Broker", request, signals)
    except (FileNotFoundError, ConnectionRefusedError):
        print("no broker is running", file=sys.stderr)
        return 4
    except (OSError, Refused) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
