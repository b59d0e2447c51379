# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where VCPU threads may run, compared to the lease: real processes with threads that are named as VMMs name them.
Owners are looked at in the order in which they came, so what is said of the last of them has been asked of all."""

import os
import re
import subprocess
import sys
import unittest

import cgroups
import harness

# Threads with these names; says their ids, and ends when it has nothing more to read.
PROGRAM = """
import sys, threading
ready, done = threading.Barrier(len(sys.argv)), threading.Event()
tids = {}
def serve(i, name):
    open(f"/proc/self/task/{threading.get_native_id()}/comm", "w").write(name)
    tids[i] = threading.get_native_id()
    ready.wait()
    done.wait()
for i, name in enumerate(sys.argv[1:]):
    threading.Thread(target=serve, args=(i, name), daemon=True).start()
ready.wait()
print(*(tids[i] for i in sorted(tids)), flush=True)
sys.stdin.read()
"""
HERE = sorted(os.sched_getaffinity(0))  # CPUs of this machine, which the host of the tests has, too
ONE, OTHER = (HERE + [0, 0])[:2]


class Vmm:
    def __init__(self, *names):
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, *names], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.tids = [int(tid) for tid in self.process.stdout.readline().split()]

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(harness.DEADLINE)

    def bind(self, *cpus):
        """Each thread to those of its own, given in order."""
        for tid, where in zip(self.tids, cpus):
            os.sched_setaffinity(tid, where)


def paste(reason):
    """Does what the reason says, as who pastes it into a shell."""
    subprocess.run(["sh", "-c", re.search("'(.*)'", reason).group(1)], check=True, stdout=subprocess.DEVNULL)


@unittest.skipIf(len(HERE) < 2 or OTHER > 3, "needs two of CPUs 0-3")
class TestMisplaced(harness.TestCase):
    def start(self, **kwargs):
        self.daemon = self.broker(**kwargs)
        self.admin = self.client(self.daemon)
        self.watch = self.client(self.daemon).stream("Watch")
        self.watch.next()
        return self.daemon

    def vmm(self, *names):
        vmm = Vmm(*names)
        self.addCleanup(vmm.stop)
        return vmm

    def lease(self, vmm, cpus=str(ONE), **kwargs):
        request = {"vm": "vm", "vcpus": 1, "pid": vmm.pid, "cpus": cpus} | kwargs
        return self.admin.call("Acquire", request=request)["lease"]["leaseId"]

    def told(self, change, lease_id):
        """The lease as it was said to be with that change."""
        while True:
            event = self.watch.next()["event"]
            if event["kind"] == "lease" and event["lease"]["lease"]["leaseId"] == lease_id:
                if event["lease"]["change"] in ("misplaced", "placed"):
                    self.assertEqual(event["lease"]["change"], change, event)
                if event["lease"]["change"] == change:
                    return event["lease"]["lease"]

    def test_one(self):
        """One thread of two: told on all ways, in order, and the line that is told moves that thread alone."""
        self.start()
        vmm = self.vmm("CPU 0/KVM", "IO mon_iothread", "CPU 1/KVM")
        vmm.bind({ONE}, {OTHER}, {ONE, OTHER})
        lease_id = self.lease(vmm)
        stream = self.client(self.daemon).stream("Follow", leaseId=lease_id)
        first = stream.next()["lease"]
        self.assertEqual((first["misplaced"], first["reason"]), (False, None))
        reason = (f"1 of its 2 VCPU threads may run on CPUs {OTHER}, outside of the lease: "
                  f"'taskset -cp {ONE} {vmm.tids[2]}' keeps them off")
        self.assertEqual(self.told("misplaced", lease_id)["reason"], reason)
        self.assertEqual([self.daemon.lease(lease_id)[key] for key in ("misplaced", "reason")], [True, reason])
        paste(reason)
        self.assertEqual([os.sched_getaffinity(tid) for tid in vmm.tids], [{ONE}, {OTHER}, {ONE}])
        lease = self.told("placed", lease_id)
        self.assertEqual((lease["misplaced"], lease["reason"], lease["state"]), (False, None, "granted"))
        self.assertEqual([(reply["change"], reply["lease"]["misplaced"]) for reply in (stream.next(), stream.next())],
                         [("misplaced", True), ("placed", False)])
        self.assertNotIn("placed", self.daemon.read_log())

    def test_names(self):
        """The threads of each VMM are known, and no others."""
        self.start()
        leases = {}
        for name in ("CPU 0/TCG", "vcpu", "kvm-nx-lpage-re", "CPU 0/KVM", "kvm-vcpu-0", "crosvm_vcpu12", "fc_vcpu 3",
                     "vcpu7"):
            vmm = self.vmm(name)
            vmm.bind({OTHER})
            leases[name] = self.lease(vmm)
        self.told("misplaced", leases["vcpu7"])
        listed = {lease["leaseId"]: lease["misplaced"] for lease in self.admin.call("ListLeases")["leases"]}
        self.assertEqual({name for name, lease_id in leases.items() if listed[lease_id]},
                         {"CPU 0/KVM", "kvm-vcpu-0", "crosvm_vcpu12", "fc_vcpu 3", "vcpu7"})

    def test_several(self):
        """Few threads are named one by one, and with many of them the process is."""
        self.start()
        for count in (16, 17):
            vmm = self.vmm(*(f"vcpu{i}" for i in range(count)), "io")
            vmm.bind(*[{ONE, OTHER}] * count, {OTHER})
            lease_id = self.lease(vmm)
            command = (f"taskset -acp {ONE} {vmm.pid}" if count > 16 else
                       f"for t in {' '.join(map(str, vmm.tids[:count]))}; do taskset -cp {ONE} $t; done")
            reason = self.told("misplaced", lease_id)["reason"]
            self.assertEqual(reason, f"{count} of its {count} VCPU threads may run on CPUs {OTHER}, outside of the "
                                     f"lease: '{command}' keeps them off")
            paste(reason)
            self.told("placed", lease_id)
            self.assertEqual(os.sched_getaffinity(vmm.tids[count]), {ONE if count > 16 else OTHER})

    def test_many(self):
        """More threads than are looked at in one turn: the last of them counts, too."""
        self.start()
        vmm = self.vmm(*["worker"] * 300, "vcpu0")
        vmm.bind(*[{ONE}] * 300, {ONE, OTHER})
        other = self.vmm("vcpu0")
        other.bind({OTHER})
        lease_id, other_id = self.lease(vmm), self.lease(other)
        self.assertIn(f"'taskset -cp {ONE} {vmm.tids[300]}'", self.told("misplaced", lease_id)["reason"])
        self.told("misplaced", other_id)

    def test_moves(self):
        """What the lease is compared to is what it has now, and it may be the other one that moves."""
        self.start()
        vmm = self.vmm("vcpu0")
        vmm.bind({ONE, OTHER})
        lease_id = self.lease(vmm)
        self.told("misplaced", lease_id)
        self.admin.call("Update", leaseId=lease_id, cpus=f"{ONE},{OTHER}")
        self.told("placed", lease_id)
        self.admin.call("Update", leaseId=lease_id, cpus=str(OTHER))
        self.assertIn(f"taskset -cp {OTHER} {vmm.tids[0]}'", self.told("misplaced", lease_id)["reason"])
        second = self.lease(vmm)  # nobody can tell to which of the two the VCPU belongs
        self.told("placed", lease_id)
        self.admin.call("Release", leaseId=second)
        self.told("misplaced", lease_id)

    def test_holding(self):
        """Only what holds CPUs is misplaced."""
        self.start()
        vmm = self.vmm("vcpu0")
        vmm.bind({OTHER})
        lease_id = self.lease(vmm)
        self.told("misplaced", lease_id)
        self.admin.call("io.spebroker.Admin.Revoke", leaseId=lease_id, graceUSec=0)
        lease = self.told("revoked", lease_id)
        self.assertFalse(lease["misplaced"])
        self.assertNotIn("taskset", lease["reason"])
        self.admin.call("Release", leaseId=lease_id)
        self.assertFalse(self.told("ended", lease_id)["misplaced"])

    def test_restart(self):
        """A broker that was started anew knows before anybody asks."""
        broker = self.start()
        vmm = self.vmm("vcpu0", "vcpu1")
        vmm.bind({ONE, OTHER}, {ONE})
        lease_id = self.lease(vmm)
        reason = self.told("misplaced", lease_id)["reason"]
        broker.kill()
        broker.start()
        lease = broker.lease(lease_id)
        self.assertEqual((lease["misplaced"], lease["reason"]), (True, reason))
        broker.stop()
        paste(reason)
        broker.start()
        lease = broker.lease(lease_id)
        self.assertEqual((lease["misplaced"], lease["reason"]), (False, None))

    def test_group(self):
        """A control group's threads are told one by one, so that nothing of its name is pasted."""
        if not cgroups.mount():
            self.skipTest("no control groups (cgroup2) can be made here")
        self.start()
        group = cgroups.Group()
        self.addCleanup(group.remove)
        first, second, many = self.vmm("vcpu0", "io"), self.vmm("vcpu1"), self.vmm(*["vcpu0"] * 17)
        for vmm in (first, second, many):
            group.add(vmm)
        first.bind({ONE}, {OTHER})
        second.bind({OTHER})
        many.bind(*[{ONE}] * 17)
        lease_id = self.admin.call("Acquire", request={"vm": "vm", "vcpus": 1, "cgroup": group.path,
                                                       "cpus": str(ONE)})["lease"]["leaseId"]
        reason = self.told("misplaced", lease_id)["reason"]
        self.assertIn(f"1 of its 19 VCPU threads may run on CPUs {OTHER}, outside of the lease: "
                      f"'taskset -cp {ONE} {second.tids[0]}' keeps them off", reason)
        many.bind(*[{OTHER}] * 17)
        reason = self.told("misplaced", lease_id)["reason"]
        self.assertRegex(reason, rf"18 of its 19 .*'for t in( [0-9]+){{16}}; do taskset -cp {ONE} \$t; done'")
        while reason:  # the others are told when these have been moved
            paste(reason)
            change = self.watch.until(lambda reply: reply["event"]["kind"] == "lease")["event"]["lease"]
            reason = change["lease"]["reason"]
        self.assertEqual(change["change"], "placed")

    def test_foreign(self):
        """A lease of CPUs that this machine does not have, as the broker looks at another one: where should they go?"""
        self.start()
        absent = next((cpu for cpu in range(4, 12) if not os.path.exists(f"/sys/devices/system/cpu/cpu{cpu}")), None)
        if absent is None:
            self.skipTest("this machine has all CPUs of the tree")
        first, last = self.vmm("vcpu0"), self.vmm("vcpu0")
        last.bind({OTHER})
        first_id, last_id = self.lease(first, cpus=str(absent)), self.lease(last)
        self.told("misplaced", last_id)
        self.assertFalse(self.daemon.lease(first_id)["misplaced"])


if __name__ == "__main__":
    harness.main()
