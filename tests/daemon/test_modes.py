# SPDX-License-Identifier: LGPL-2.1-or-later
"""How leases share CPUs: exclusive, guest, shared; and who may be exclusive."""


import os
import subprocess

import harness

MEMBER = "[Policy]\nAcquireGroup=4321\n"
MODES = ("exclusive", "guest", "shared")


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": 4096} | kwargs


class TestModes(harness.TestCase):
    def test_matrix(self):
        broker = self.broker()
        client = self.client(broker)
        for held in MODES:
            for asked in MODES:
                with self.subTest(f"{held} then {asked}"):
                    first = client.call("Acquire", request=request(cpus="4-6", mode=held))["lease"]
                    if "exclusive" in (held, asked):
                        answer = self.refused(
                            "Busy", client, "Acquire", request=request(cpus="6-8", mode=asked)
                        )
                        self.assertEqual(
                            [(h["leaseId"], h["cpus"]) for h in answer["holders"]], [(first["leaseId"], "6")]
                        )
                        second = client.call("Acquire", request=request(cpus="7-8", mode=asked))["lease"]
                    else:
                        second = client.call("Acquire", request=request(cpus="6-8", mode=asked))["lease"]
                        self.assertEqual(broker.instance("arm_spe_1")["leasedCpus"], "4-8")
                    for lease in (first, second):
                        client.call("Release", leaseId=lease["leaseId"])
                    self.assert_idle(broker)

    def test_every_holder_is_named(self):
        broker = self.broker()
        client = self.client(broker)
        held = {
            client.call("Acquire", request=request(vm=f"vm{i}", cpus=cpus))["lease"]["leaseId"]: cpus
            for i, cpus in enumerate(("0", "1-2", "3", "2-3"))
        }
        answer = self.refused("Busy", client, "Acquire", request=request(cpus="0-2", mode="exclusive"))
        self.assertEqual(
            {h["leaseId"]: h["cpus"] for h in answer["holders"]},
            {i: {"2-3": "2"}.get(c, c) for i, c in held.items() if c != "3"},
        )

    def test_exclusive_without_cpus(self):
        """Nothing named: it goes where nobody is."""
        broker = self.broker()
        client = self.client(broker)
        client.call("Acquire", request=request(cpus="0"))
        lease = client.call("Acquire", request=request(mode="exclusive"))["lease"]
        self.assertEqual((lease["instance"], lease["cpus"]), ("arm_spe_1", "4-11"))
        self.refused("Busy", client, "Acquire", request=request(mode="exclusive"))

    def test_exclusive_needs_an_administrator(self):
        broker = self.broker(
            config=MEMBER + "AdminGroup=4322\n[Assignment a]\nCpus=4-5\nOwner=guest\nVm=vm\n"
        )
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        _, admin = self.vmm(broker, uid=1001, groups=[4322, 4321])
        answer = self.refused("NotAssigned", member, "Acquire", request=request(cpus="0", mode="exclusive"))
        self.assertEqual(answer["cpus"], "0")
        # The name is just claimed: what is assigned to it does not count
        self.refused("NotAssigned", member, "Acquire", request=request(cpus="4", mode="exclusive"))
        member.call("Acquire", request=request(cpus="0", mode="guest"))
        admin.call("Acquire", request=request(cpus="1", mode="exclusive"))
        self.client(broker).call("Acquire", request=request(cpus="2", mode="exclusive"))

    def test_exclusive_on_own_cpus(self):
        """A VM whose name comes from its system unit, on CPUs that are assigned to it. The process is put
        into a control group as systemd would, in a hierarchy that only this test and its daemon see."""
        unit = f"spe-test-{os.getpid()}.service"
        groups = self.directory() / "groups"
        groups.mkdir()
        if subprocess.run(["mount", "-t", "cgroup2", "none", groups], capture_output=True).returncode:
            self.skipTest("no control groups here")
        self.addCleanup(subprocess.run, ["umount", "-l", groups], check=True)
        if subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "true"], capture_output=True
        ).returncode:
            self.skipTest("no mount namespaces here")
        group = groups / f"spe-test-{os.getpid()}.slice" / unit
        for directory in (group.parent, group):
            directory.mkdir()
            self.addCleanup(directory.rmdir)
        broker = self.new_broker(
            config=MEMBER + f"[Assignment a]\nCpus=4-5\nOwner=guest\nVm={unit}\n"
            "[Assignment b]\nCpus=6\nOwner=guest\nVm=other\n"
        )
        script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@"'
        broker.wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
        broker.start()
        process = self.vmm(uid=1000, groups=[4321])
        self.addCleanup(
            harness.wait_for, lambda: "populated 0" in (group / "cgroup.events").read_text(), "it is empty"
        )
        self.addCleanup(process.kill)
        (group / "cgroup.procs").write_text(str(process.pid))
        client = process.connect(broker)
        self.addCleanup(client.close)
        asked = {"vcpus": 1, "bufferSize": 4096, "mode": "exclusive"}
        lease = client.call("Acquire", request=asked | {"cpus": "4"})["lease"]
        self.assertEqual((lease["vm"], lease["vmOrigin"], lease["owner"]["unit"]), (unit, "unit", unit))
        # Saying the name oneself loses nothing
        lease = client.call("Acquire", request=asked | {"cpus": "5", "vm": unit})["lease"]
        self.assertEqual(lease["vmOrigin"], "unit")
        self.refused("NotAssigned", client, "Acquire", request=asked | {"cpus": "7"})
        self.refused("NotAssigned", client, "Acquire", request=asked | {"cpus": "6", "mode": "guest"})


class TestNames(harness.TestCase):
    def test_derived_or_refused(self):
        broker = self.broker(config=MEMBER)
        _, client = self.vmm(broker, uid=1000, groups=[4321])
        self.invalid("vm", client, "Acquire", request={"vcpus": 1})
        self.invalid("vm", client, "Query", request={"vcpus": 1, "vm": None})

    def test_origin(self):
        broker = self.broker(config=MEMBER)
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        self.assertEqual(member.call("Acquire", request=request())["lease"]["vmOrigin"], "caller")
        self.assertEqual(
            self.client(broker).call("Acquire", request=request())["lease"]["vmOrigin"], "administrator"
        )

    def test_good(self):
        broker = self.broker()
        client = self.client(broker)
        for name in (
            "a",
            " ",
            "web-1",
            "Wéb ☃",
            "../../etc/passwd",
            "%s%n",
            '"',
            "\\",
            "\\u0000",
            "a" * 255,
            "é" * 127 + "a",
            "\U0001f600" * 63,
            "<script>",
            "$(reboot)",
            "-rf",
            "\u202e",
        ):
            with self.subTest(name):
                lease = client.call("Acquire", request=request(vm=name))["lease"]
                self.assertEqual(lease["vm"], name)
                self.assertEqual([l["vm"] for l in client.call("ListLeases", vm=name)["leases"]], [name])
                client.call("Release", leaseId=lease["leaseId"])

    def test_bad(self):
        broker = self.broker()
        client = self.client(broker)
        controls = [chr(c) for c in range(1, 32)]
        for name in ["", "a" * 256, "é" * 128, "a" * 100000, "\x7f", "a\nb"] + controls:
            with self.subTest(repr(name[:10])):
                self.invalid("vm", client, "Acquire", request=request(vm=name))
        self.assert_idle(broker)


if __name__ == "__main__":
    harness.main()
