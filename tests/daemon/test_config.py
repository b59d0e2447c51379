# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: drop-ins, faults with file and line, warnings, reload."""

import harness
from sizes import GIB, MIB


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestFiles(harness.TestCase):
    def limits(self, broker):
        return broker.call("Describe")["host"]["limits"]

    def test_no_file(self):
        broker = self.new_broker()
        broker.config_path.unlink()
        broker.start()
        self.assertEqual(self.limits(broker)["maxLeases"], 4096)

    def test_drop_ins(self):
        """Read in the order of their names, each over the one before; other files are none."""
        broker = self.new_broker(config="[Limits]\nMaxLeases=1\nMaxLeasesPerUser=1\nMaxBufferSize=1M\n")
        broker.drop_in("20-b.conf", "[Limits]\nMaxLeases=20\n")
        broker.drop_in("10-a.conf", "[Limits]\nMaxLeases=10\nMaxLeasesPerUser=10\n")
        broker.drop_in("30-c.conf.bak", "[Limits]\nMaxLeases=30\n")
        broker.start()
        limits = self.limits(broker)
        self.assertEqual(
            (limits["maxLeases"], limits["maxLeasesPerUser"], limits["maxBufferSize"]), (20, 10, MIB)
        )

    def test_drop_in_without_file(self):
        broker = self.new_broker()
        broker.config_path.unlink()
        broker.drop_in("a.conf", "[Limits]\nMaxLeases=5\n")
        broker.start()
        self.assertEqual(self.limits(broker)["maxLeases"], 5)

    def test_other_place(self):
        broker = self.new_broker(config="[Limits]\nMaxLeases=1\n")
        other = broker.root / "other.conf"
        other.write_text("[Limits]\nMaxLeases=2\n")
        broker.arguments += ["--config", str(other)]
        broker.start()
        self.assertEqual(self.limits(broker)["maxLeases"], 2)

    def test_other_place_must_exist(self):
        broker = self.new_broker()
        broker.arguments += ["--config", str(broker.root / "missing.conf")]
        broker.spawn()
        self.assertNotEqual(broker.reap(harness.DEADLINE), 0)
        self.assertIn("missing.conf: not there", broker.log)

    def test_other_socket(self):
        broker = self.new_broker()
        broker.socket_path = broker.root / "elsewhere"
        broker.arguments += ["--socket", str(broker.socket_path)]
        broker.start()
        broker.call("Describe")

    def test_percent(self):
        for text, expected in (("10%", 1.6 * GIB), ("3G", 3 * GIB), ("512M", 512 * MIB)):
            with self.subTest(text):
                broker = self.broker(config=f"[Limits]\nMaxMemory={text}\n")
                self.assertAlmostEqual(self.limits(broker)["maxMemory"], expected, delta=MIB)
                broker.stop()

    def test_unknown_is_a_warning(self):
        broker = self.broker(
            config="[Limits]\nMaxLeases=9\nMaxLeaves=8\n[Wishes]\nMore=yes\n"
            "[Assignment a]\nInstance=arm_spe_7\nOwner=host\n"
        )
        self.assertEqual(self.limits(broker)["maxLeases"], 9)
        broker.stop()
        self.assertIn("spe-broker.conf:3", broker.log)
        self.assertIn("MaxLeaves", broker.log)
        self.assertIn("Wishes", broker.log)
        self.assertIn("[Assignment a] matches nothing", broker.log)

    def test_cpus_of_another_instance(self):
        """They are left out, which is said; those of the instance's own are not."""
        broker = self.broker(
            config="[Assignment a]\nInstance=arm_spe_0\nCpus=2-4\nOwner=host\n"
            "[Assignment b]\nInstance=arm_spe_1\nCpus=4-5\nOwner=host\n"
        )
        broker.stop()
        self.assertIn("spe-broker.conf:1: [Assignment a]: not all of Cpus= are CPUs of arm_spe_0", broker.log)
        self.assertNotIn("[Assignment b]", broker.log)


FAULTS = (
    ("[Limits]\nMaxLeases=many\n", 2),
    ("[Limits]\n\nMaxLeases=-1\n", 3),
    ("[Limits]\nMaxBufferSize=4X\n", 2),
    ("[Limits]\nMaxMemory=200%\n", 2),
    ("[Limits]\nMaxMemory=99999999999G\n", 2),
    ("[Policy]\nDefaultOwner=me\n", 2),
    ("[Policy]\nDefaultMode=alone\n", 2),
    ("[Arbitration]\nLevel=high\n", 2),
    ("[Policy]\nRevokeGraceSec=soon\n", 2),
    ("[Assignment a]\nCpus=1-\nOwner=host\n", 2),
    ("[Assignment a]\nCpus=4096\nOwner=host\n", 2),
    ("[Assignment a]\nCpus=1\nOwner=host\nVm=a\n", None),
    ("[Assignment a]\nCpus=1\n", None),
    ("[Assignment a]\nOwner=host\n", None),
    ("[Limits\nMaxLeases=1\n", 1),
)


class TestReload(harness.TestCase):
    def test_faults(self):
        """Each fault: the file and the line in the error, and the running configuration stays in force."""
        broker = self.broker(config="[Limits]\nMaxLeases=77\n")
        client = self.client(broker)
        for text, line in FAULTS:
            with self.subTest(text):
                broker.configure(text)
                answer = self.refused(harness.ADMIN + "InvalidConfiguration", client, "Reload")
                self.assertTrue(answer["file"].endswith("/spe-broker.conf"), answer)
                if line is not None:
                    self.assertEqual(answer["line"], line)
                self.assertTrue(answer["message"])
                self.assertEqual(client.call("Describe")["host"]["limits"]["maxLeases"], 77)
                broker.read_log()
                self.assertIn(f"spe-broker.conf:{answer['line']}", broker.log)
        broker.configure("[Limits]\nMaxLeases=78\n")
        client.call("Reload")
        self.assertEqual(client.call("Describe")["host"]["limits"]["maxLeases"], 78)

    def test_fault_in_a_drop_in(self):
        broker = self.broker(config="[Limits]\nMaxLeases=77\n")
        broker.drop_in("x.conf", "[Limits]\n# fine\nMaxLeases=0x10\n")
        answer = self.refused(harness.ADMIN + "InvalidConfiguration", self.client(broker), "Reload")
        self.assertTrue(answer["file"].endswith("spe-broker.conf.d/x.conf"))
        self.assertEqual(answer["line"], 3)

    def test_fault_at_start(self):
        """There is no running configuration to keep: it does not start, and says why."""
        for text, line in FAULTS:
            if line is not None:
                with self.subTest(text):
                    broker = self.new_broker(config=text).spawn()
                    self.assertNotEqual(broker.reap(harness.DEADLINE), 0)
                    self.assertIn(f"spe-broker.conf:{line}", broker.log)

    def test_hostile_files(self):
        """No content of the file hurts a running daemon."""
        broker = self.broker(config="[Limits]\nMaxLeases=77\n")
        client = self.client(broker)
        for data in (
            b"\0" * 100,
            bytes(range(256)) * 10,
            b"[" * 100000,
            b"[Limits]\n" * 10000,
            b"a" * (1 << 20),
            b"[Limits]\nMaxLeases=" + b"9" * 100000 + b"\n",
            b"[Limits]\n" + b"MaxLeases=1\n" * 1000,
            b"\xff\xfe[\0L\0",
            b"[Assignment " + b"x" * 5000 + b"]\nCpus=0\nOwner=host\n",
            b"[Assignment a]\nOwner=host\nCpus=" + b"0," * 50000 + b"0\n",
            b"=\n",
            b"[]\n",
            b"[ ]\n=\n",
            b"\\\n" * 100,
        ):
            with self.subTest(data[:20]):
                before = client.call("Describe")["host"]["limits"]
                broker.config_path.write_bytes(data)
                client.send("Reload")
                try:
                    client.receive()
                except harness.VarlinkError as error:
                    self.assertEqual(error.name, harness.ADMIN + "InvalidConfiguration")
                    self.assertEqual(client.call("Describe")["host"]["limits"], before)
        broker.configure("")
        client.call("Reload")

    def test_long_values(self):
        """Whole section names and values are read, however long."""
        name = "v" * 255
        cpus = ",".join(str(c) for c in range(4, 12))
        broker = self.broker(
            config=f"[VM {name}]\nMaxBufferSize=1M\n[Assignment {'n' * 300}]\nCpus={cpus}\nOwner=guest\n"
            f"Vm={name}\n"
        )
        lease = broker.call("Acquire", request=request(vm=name, bufferSize=4 * MIB, cpus="11"))["lease"]
        self.assertEqual(lease["bufferSize"], MIB)
        self.assertEqual(broker.instance("arm_spe_1")["assignments"][0]["cpus"], "4-11")

    def test_hangup(self):
        broker = self.broker(config="[Limits]\nMaxLeases=1\n")
        client = self.client(broker)
        client.call("Acquire", request=request())
        self.refused("LimitExceeded", client, "Acquire", request=request())
        broker.configure("[Limits]\nMaxLeases=2\n")
        broker.hangup()
        client.call("Acquire", request=request())
        broker.configure("[Limits]\nMaxLeases=zwei\n")
        broker.hangup()
        self.assertEqual(client.call("Describe")["host"]["limits"]["maxLeases"], 2)

    def test_lower_limits(self):
        """What is granted stays; what is asked for anew meets the new limits."""
        broker = self.broker()
        client = self.client(broker)
        leases = [client.call("Acquire", request=request())["lease"] for _ in range(4)]
        broker.configure("[Limits]\nMaxLeases=2\nMaxBufferSize=512K\nMaxMemory=1M\n")
        client.call("Reload")
        self.assertEqual(client.call("ListLeases")["leases"], leases)
        self.refused("LimitExceeded", client, "Acquire", request=request(bufferSize=4096))
        for lease in leases:
            client.call("Release", leaseId=lease["leaseId"])
        self.assertEqual(client.call("Acquire", request=request())["lease"]["bufferSize"], 512 * 1024)

    def test_groups(self):
        broker = self.broker()
        _, client = self.vmm(broker, uid=1000, groups=[4321])
        self.refused("PermissionDenied", client, "Acquire", request=request())
        broker.configure("[Policy]\nAcquireGroup=4321\n")
        broker.call("Reload")
        client.call("Acquire", request=request())

    def test_who(self):
        broker = self.broker()
        _, client = self.vmm(broker, uid=1000)
        self.refused("PermissionDenied", client, "Reload")


if __name__ == "__main__":
    harness.main()
