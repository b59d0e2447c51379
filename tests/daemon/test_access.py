# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what: ReadGroup, AcquireGroup, OrchestratorGroup, AdminGroup."""

import grp

import harness
from sizes import MIB

READER, USER, ORCHESTRATOR, ADMIN = 4320, 4321, 4322, 4323
CONFIG = f"[Policy]\nAcquireGroup={USER}\nOrchestratorGroup={ORCHESTRATOR}\nAdminGroup={ADMIN}\n"
READING = ("Describe", "CheckHost", "ListInstances", "ListLeases", "ListRefusals")


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestAccess(harness.TestCase):
    def test_stranger(self):
        """Everybody reads; nothing else."""
        broker = self.broker(config=CONFIG)
        lease = broker.call("Acquire", request=request(pid=self.vmm().pid))["lease"]
        _, client = self.vmm(broker, uid=harness.NOBODY)
        for method in READING:
            client.call(method)
        client.stream("Watch").next()
        _, client = self.vmm(broker, uid=harness.NOBODY)
        client.call("org.varlink.service.GetInfo")
        for method, parameters in (
            ("Query", {"request": request()}),
            ("Acquire", {"request": request()}),
            ("Release", {"leaseId": lease["leaseId"]}),
            ("Update", {"leaseId": lease["leaseId"]}),
            ("Assign", {"cpus": "0", "owner": "none"}),
            ("Unassign", {"cpus": "0"}),
            ("Revoke", {"leaseId": lease["leaseId"]}),
            ("Reload", {}),
            ("Rescan", {}),
        ):
            with self.subTest(method):
                self.refused("PermissionDenied", client, method, parameters)
        self.assertEqual(broker.lease(lease["leaseId"])["state"], "granted")

    def test_read_group(self):
        broker = self.broker(config=CONFIG + f"ReadGroup={READER}\n")
        _, stranger = self.vmm(broker, uid=1000)
        _, reader = self.vmm(broker, uid=1001, groups=[READER])
        for method in READING:
            self.refused("PermissionDenied", stranger, method)
            reader.call(method)
            broker.call(method)
        stranger.call("org.varlink.service.GetInfo")
        self.refused("PermissionDenied", reader, "Acquire", request=request())

    def test_groups(self):
        """By primary and by supplementary group alike."""
        broker = self.broker(config=CONFIG)
        for kwargs in ({"gid": USER}, {"groups": [7, USER, 9]}):
            _, client = self.vmm(broker, uid=1000, **kwargs)
            client.call("Acquire", request=request())
            self.refused("PermissionDenied", client, "Assign", cpus="0", owner="none")
        for kwargs in ({"gid": ADMIN}, {"groups": [ADMIN]}):
            _, client = self.vmm(broker, uid=1001, **kwargs)
            client.call("Assign", cpus="11", owner="none")
            client.call("Unassign", cpus="11")
        _, client = self.vmm(broker, uid=0, groups=[])
        client.call("Acquire", request=request())
        client.call("Reload")

    def test_no_groups(self):
        """Empty lists: root alone."""
        broker = self.broker(config="[Policy]\nAcquireGroup=\n")
        _, client = self.vmm(broker, uid=1000, groups=[0, USER])
        self.refused("PermissionDenied", client, "Acquire", request=request())
        self.refused("PermissionDenied", client, "Assign", cpus="0", owner="none")
        broker.call("Acquire", request=request())

    def test_list_of_groups(self):
        broker = self.broker(config=f"[Policy]\nAcquireGroup={READER} {USER}\n")
        for gid in (READER, USER):
            _, client = self.vmm(broker, uid=1000, groups=[gid])
            client.call("Acquire", request=request())

    def test_group_by_name(self):
        group = grp.getgrnam("daemon")
        broker = self.broker(config="[Policy]\nAcquireGroup=daemon\n")
        _, member = self.vmm(broker, uid=1000, groups=[group.gr_gid])
        _, other = self.vmm(broker, uid=1000, groups=[group.gr_gid + 4000])
        member.call("Acquire", request=request())
        self.refused("PermissionDenied", other, "Acquire", request=request())

    def test_unknown_group(self):
        """The default group does not exist everywhere, and a name may be mistyped: nobody is let in by it."""
        broker = self.broker(config="[Policy]\nAcquireGroup=no-such-group-here\n")
        _, client = self.vmm(broker, uid=1000)
        self.refused("PermissionDenied", client, "Acquire", request=request())
        broker.stop()
        self.assertIn("no-such-group-here", broker.log)

    def test_orchestrator(self):
        broker = self.broker(config=CONFIG)
        target = self.vmm(uid=1002)
        _, user = self.vmm(broker, uid=1000, groups=[USER])
        _, orchestrator = self.vmm(broker, uid=1001, groups=[USER, ORCHESTRATOR])
        _, admin = self.vmm(broker, uid=1003, groups=[USER, ADMIN])
        self.refused("PermissionDenied", user, "Acquire", request=request(pid=target.pid))
        lease = orchestrator.call("Acquire", request=request(pid=target.pid))["lease"]
        self.assertEqual((lease["owner"]["uid"], lease["owner"]["pid"]), (1002, target.pid))
        # Not an administrator: the name is a claim, and the lease is not his to release
        self.assertEqual(lease["vmOrigin"], "caller")
        self.refused("PermissionDenied", orchestrator, "Release", leaseId=lease["leaseId"])
        self.refused("PermissionDenied", orchestrator, "Revoke", leaseId=lease["leaseId"])
        lease = admin.call("Acquire", request=request(pid=target.pid))["lease"]
        self.assertEqual(lease["vmOrigin"], "administrator")

    def test_permission_before_parameters(self):
        """Who may not call learns nothing from the answer, whatever it asks about."""
        broker = self.broker(config=CONFIG)
        _, client = self.vmm(broker, uid=1000)
        self.refused("PermissionDenied", client, "Acquire", request={"vm": "", "vcpus": 0})
        self.refused("PermissionDenied", client, "Revoke", leaseId="0" * 32)
        self.refused("PermissionDenied", client, "Assign", cpus="x", owner="none")


if __name__ == "__main__":
    harness.main()
