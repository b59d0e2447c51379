# SPDX-License-Identifier: LGPL-2.1-or-later
"""A healthy day has a line when the daemon starts and one when it stops, whatever it does in between."""

import os

import harness
import pid1
import tree
import uevents
from sizes import MIB

GROUP = 4321
STARTS = "brokering 2 SPUs, host sessions: none"
LONG = 10**9
# Limits for which this machine has descriptors, or that would be told.
CONFIG = f"[Policy]\nAcquireGroup={GROUP}\n[Limits]\nMaxConnections=100\nMaxLeases=100\n"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestQuiet(harness.TestCase):
    def lines(self):
        self.daemon.read_log()
        return [line.removeprefix("spe-broker: ") for line in self.daemon.log.splitlines()]

    def service(self):
        service = pid1.Service(self.directory(), tree=tree.big_little, config=CONFIG)
        self.brokers.append(service)
        self.addCleanup(service.dismiss)
        return service.start()

    def work(self):
        """Leases come and go, and somebody waits for one; two VMMs have one each at the end."""
        vmms = [self.vmm(self.daemon, uid=1000 + i, groups=[GROUP]) for i in range(3)]
        leases = [client.call("Acquire", request=request(cpus=f"{i}", requestId="r"))["lease"]
                  for i, (_, client) in enumerate(vmms)]
        follower = vmms[0][0].connect(self.daemon).stream("Follow", leaseId=leases[0]["leaseId"])
        self.addCleanup(follower.close)
        follower.next()
        vmms[0][1].call("Query", request=request(cpus="1", mode="exclusive"))
        vmms[0][1].call("Acquire", request=request(cpus="0", requestId="r"))
        vmms[0][1].call("Update", leaseId=leases[0]["leaseId"], cpus="3")
        follower.change("updated")
        held = self.admin.call("Acquire", request=request(cpus="4", mode="exclusive"))["lease"]
        waiter = vmms[1][0].connect(self.daemon).stream("Acquire", request=request(cpus="4"), waitUSec=LONG)
        self.addCleanup(waiter.close)
        self.assertEqual(waiter.next()["change"], "queued")
        self.admin.call("Release", leaseId=held["leaseId"])
        waited = waiter.change("granted")["lease"]
        vmms[1][1].call("Release", leaseId=waited["leaseId"])
        vmms[2][0].kill()
        harness.wait_for(lambda: self.daemon.lease(leases[2]["leaseId"]) is None, "the lease has ended with its owner")
        return vmms[:2]

    def administrate(self):
        """Assignments that are in nobody's way, a reload, and a host that changes."""
        self.admin.call("Assign", cpus="8-9", owner="guest", vm="vm")
        self.admin.call("Assign", cpus="10-11", owner="none", forUSec=LONG)
        self.admin.call("Unassign", cpus="8-11")
        self.daemon.configure(CONFIG + "[Policy]\nRevokeGraceSec=20\n")
        self.daemon.hangup()
        self.admin.call("Reload")
        for online in ("0-10", "0-11"):
            self.daemon.tree.online(online)
            self.admin.call("Rescan")
        if os.access(uevents.CPU, os.W_OK):
            before = self.daemon.counters()["rescans"]
            uevents.trigger()
            harness.wait_for(lambda: self.daemon.counters()["rescans"] > before, "it looked")
        self.admin.call("CheckHost")
        self.admin.call("ListRefusals")

    def test_day(self):
        self.daemon = self.service()
        self.admin = self.client(self.daemon)
        self.client(self.daemon).stream("Watch").next()
        vmms = self.work()
        self.administrate()
        self.assertEqual(self.lines(), [STARTS])

        self.daemon.restart()
        stopped, taken = "stops; 2 leases stay with their owners", "took over 2 leases"
        self.assertEqual(self.lines(), [STARTS, stopped, taken, STARTS])
        for process, _ in vmms:
            process.kill()
        self.admin = self.client(self.daemon)
        harness.wait_for(lambda: not self.admin.call("ListLeases")["leases"], "all leases have ended")
        self.administrate()
        self.daemon.stop()
        self.assertEqual([line.removeprefix("spe-broker: ") for line in self.daemon.log.splitlines()],
                         [STARTS, stopped, taken, STARTS, "stops"])


if __name__ == "__main__":
    harness.main(needs_uevents=True)
