# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host's tree says, as ListInstances tells it: ready, partial, hostile, changing."""

import os

import harness
import tree
from sizes import MIB, cpus


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1} | kwargs


class TestReady(harness.TestCase):
    def test_simulated(self):
        for name, expected in (
            ("neoverse-v1", {"arm_spe_0": "0-63"}),
            ("biglittle", {"arm_spe_0": "0-3", "arm_spe_1": "4-11"}),
        ):
            with self.subTest(name):
                broker = self.broker(simulate=name)
                instances = broker.call("ListInstances")["instances"]
                self.assertEqual({i["name"]: i["cpus"] for i in instances}, expected)
                self.assertEqual({i["state"] for i in instances}, {"ready"})
                self.assertEqual(len({i["pmuType"] for i in instances}), len(instances))
                broker.stop()
                self.assertIn(name, broker.log, "a simulated host must be said loudly")

    def test_unknown_simulation(self):
        broker = self.new_broker(simulate="no-such-host").spawn()
        self.assertNotEqual(broker.reap(harness.DEADLINE), 0)
        self.assertIn("no-such-host", broker.log)

    def test_attributes(self):
        broker = self.broker(
            tree=lambda root: tree.Tree(root, "0-7").instance(
                0,
                "0-7",
                type=10,
                caps={"arch_inst": 1, "ernd": 0, "count_size": 16, "min_interval": 256},
                formats={"ts_enable": "config:0", "discard": "config:35"},
            )
        )
        instance = broker.instance()
        self.assertEqual(instance["pmuType"], 10)
        self.assertEqual(
            (instance["state"], instance["guest"], instance.get("problem")), ("ready", "unknown", None)
        )
        self.assertTrue(instance["guestReason"])
        self.assertEqual(
            instance["capabilities"],
            {
                "archInst": 1,
                "ernd": 0,
                "countSize": 16,
                "minInterval": 256,
                "formats": ["discard", "ts_enable"],
            },
        )
        self.assertIsNone(instance.get("maxBufferSize"))
        self.assertEqual((instance["leasedCpus"], instance["sessionCpus"]), ("", ""))
        self.assertEqual((instance["charge"], instance["leases"], instance["assignments"]), (0, 0, []))

    def test_no_caps(self):
        broker = self.broker(tree=lambda root: tree.one_spu(root, caps={}))
        instance = broker.instance()
        self.assertEqual(instance["state"], "ready")
        caps = instance["capabilities"]
        self.assertEqual([caps.get(k) for k in ("archInst", "ernd", "countSize", "minInterval")], [None] * 4)
        broker.call("Acquire", request=request())

    def test_bad_cap_is_unknown(self):
        broker = self.broker(tree=lambda root: tree.one_spu(root, caps={"arch_inst": "yes", "ernd": 1}))
        instance = broker.instance()
        self.assertEqual(instance["state"], "ready")
        self.assertIsNone(instance["capabilities"].get("archInst"))
        self.assertEqual(instance["capabilities"]["ernd"], 1)

    def test_max_buffer_size(self):
        """Two names are in use for the file; 0 is no limit."""
        for caps, expected in (
            ({"max_buff_size": 2 * MIB}, 2 * MIB),
            ({"max_buffer_size": MIB}, MIB),
            ({"max_buff_size": 0}, None),
            ({}, None),
        ):
            with self.subTest(caps):
                broker = self.broker(tree=lambda root, caps=caps: tree.one_spu(root, caps=caps))
                self.assertEqual(broker.instance().get("maxBufferSize"), expected)
                broker.stop()

    def test_offline(self):
        broker = self.broker(tree=lambda root: tree.Tree(root, "0-7", online="0-2,5").instance(0, "0-7"))
        instance = broker.instance()
        self.assertEqual((instance["cpus"], instance["onlineCpus"]), ("0-7", "0-2,5"))
        client = self.client(broker)
        self.assertEqual(client.call("Acquire", request=request())["lease"]["cpus"], "0-2,5")
        answer = self.refused("NoInstanceForCpus", client, "Acquire", request=request(cpus="2-3"))
        self.assertEqual(answer["cpus"], "2-3")
        self.assertEqual([i["name"] for i in answer["instances"]], ["arm_spe_0"])
        client.call("Acquire", request=request(cpus="1-2"))

    def test_order_and_number(self):
        """Sorted by index, not by text; and many of them, up to the last CPU there can be."""

        def write(root):
            host = tree.Tree(root, "0-4095")
            for i in range(64):
                host.instance(i, f"{i * 64}-{i * 64 + 63}", type=8 + i)

        broker = self.broker(tree=write)
        instances = broker.call("ListInstances")["instances"]
        self.assertEqual([i["name"] for i in instances], [f"arm_spe_{i}" for i in range(64)])
        self.assertEqual(instances[63]["cpus"], "4032-4095")
        lease = broker.call("Acquire", request=request(cpus="4090-4095"))["lease"]
        self.assertEqual((lease["instance"], lease["pmuType"]), ("arm_spe_63", 71))

    def test_none(self):
        broker = self.broker(tree=lambda root: tree.Tree(root, "0-7"))
        self.assertEqual(broker.call("ListInstances")["instances"], [])
        decision = broker.call("Query", request=request())["decision"]
        self.assertFalse(decision["granted"])
        self.assertTrue(decision["refusals"])

    def test_no_sysfs_at_all(self):
        broker = self.broker(tree=lambda root: None)
        self.assertEqual(broker.call("ListInstances")["instances"], [])

    def test_driver(self):
        def module(root):
            tree.one_spu(root).module()

        def builtin(root):
            tree.one_spu(root).write("sys/bus/platform/drivers/arm_spe_pmu/uevent", "")

        for write, expected in ((module, "module"), (builtin, "builtin"), (tree.one_spu, "unknown")):
            with self.subTest(expected):
                broker = self.broker(tree=write)
                self.assertEqual(broker.instance()["driver"], expected)
                broker.stop()


class TestPartial(harness.TestCase):
    def test_simulated(self):
        broker = self.broker(simulate="partial")
        instances = {i["state"]: i for i in broker.call("ListInstances")["instances"]}
        self.assertEqual(set(instances), {"ready", "partial"})
        bad = instances["partial"]
        self.assertTrue(bad["problem"])
        self.assertIsNone(bad.get("pmuType"))
        client = self.client(broker)
        answer = self.refused("InstanceNotReady", client, "Acquire", request=request(instance=bad["name"]))
        self.assertEqual((answer["instance"], answer["state"]), (bad["name"], "partial"))
        self.assertTrue(answer["reason"])
        lease = client.call("Acquire", request=request(instance=instances["ready"]["name"]))["lease"]
        self.assertEqual(lease["state"], "granted")

    def test_becomes_ready(self):
        broker = self.new_broker()
        host = broker.tree
        host.instance(1, "4-11", type=None)
        broker.start()
        self.assertEqual(broker.instance("arm_spe_1")["state"], "partial")
        host.instance(1, "4-11", type=9)
        broker.call("Rescan")
        self.assertEqual(broker.instance("arm_spe_1")["state"], "ready")
        broker.call("Acquire", request=request(instance="arm_spe_1"))


class TestHostile(harness.TestCase):
    """arm_spe_1 is broken in every way; arm_spe_0 beside it must not suffer."""

    def spoil_attribute(self, host, attribute, how):
        path = host.root / host.path(1, attribute)
        directory = path.parent.resolve()
        path = directory / path.name
        host.remove(os.path.relpath(path, host.root))
        if how == "fifo":
            os.mkfifo(path)
        elif how == "directory":
            path.mkdir()
        elif how == "dangling":
            path.symlink_to("nowhere")
        elif how == "loop":
            path.symlink_to(path.name)
        elif how == "endless":
            path.symlink_to("/dev/zero")
        elif how == "blocking":
            path.symlink_to("/dev/tty")
        elif how == "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        elif how != "missing":
            path.write_bytes(how)

    def check(self, broker, what, never=("ready",)):
        instances = {i["name"]: i for i in broker.call("ListInstances")["instances"]}
        self.assertEqual(instances["arm_spe_0"]["state"], "ready", what)
        self.assertIsNone(instances["arm_spe_0"].get("problem"), what)
        bad = instances.get("arm_spe_1")
        if bad is not None:
            self.assertNotIn(bad["state"], never, what)
            self.assertTrue(bad["problem"], what)
            self.assertIsNone(bad.get("pmuType"), what)
        return bad

    def test_attributes(self):
        broker = self.new_broker()
        host = broker.tree
        broker.start()
        common = [
            "missing",
            "fifo",
            "directory",
            "dangling",
            "loop",
            "endless",
            "blocking",
            "socket",
            b"",
            b"\n",
            b"\0",
            b"9\0",
            bytes(range(256)),
            b"x" * (1 << 20),
            b"-1\n",
            b"9 9\n",
            b"0x9\n",
            b"9" * 40,
            "\u0661\n".encode(),
        ]
        for attribute, values in (
            ("type", common + [b"4294967296\n", b"99999999999999999999\n", b"+9\n"]),
            (
                "cpumask",
                common[:12]
                + [
                    b"4-\n",
                    b"11-4\n",
                    b"4,,5\n",
                    b"4-11,4096\n",
                    b"4-11,5000\n",
                    b"4-99\n",
                    b"4-11,\n",
                    b"4 5\n",
                    b"ff0\n",
                    b"4-4294967299\n",
                ],
            ),
        ):
            for how in values:
                label = f"{attribute}: {how[:20]!r}"
                with self.subTest(label):
                    host.instance(1, "4-11", type=9)
                    self.spoil_attribute(host, attribute, how)
                    broker.call("Rescan")
                    bad = self.check(broker, label)
                    self.assertIsNotNone(bad)
                    client = self.client(broker)
                    self.refused("InstanceNotReady", client, "Acquire", request=request(instance="arm_spe_1"))
                    lease = client.call("Acquire", request=request())["lease"]
                    self.assertEqual(lease["instance"], "arm_spe_0")
                    client.call("Release", leaseId=lease["leaseId"])
        host.instance(1, "4-11", type=9)
        broker.call("Rescan")
        self.assertEqual(broker.instance("arm_spe_1")["state"], "ready")

    def test_format(self):
        broker = self.new_broker()
        host = broker.tree
        broker.start()
        for how in ("missing", "fifo", "dangling", "loop", b"text"):
            with self.subTest(how):
                host.instance(1, "4-11", type=9)
                self.spoil_attribute(host, "format", how)
                broker.call("Rescan")
                self.check(broker, f"format: {how}")

    def test_entries(self):
        """The entry itself is no device directory."""
        broker = self.new_broker(tree=lambda root: tree.one_spu(root, "0-3"))
        host = broker.tree
        broker.start()
        entry = host.devices / "arm_spe_1"
        for how in ("file", "fifo", "dangling", "loop", "empty"):
            with self.subTest(how):
                if how == "file":
                    entry.write_text("text")
                elif how == "fifo":
                    os.mkfifo(entry)
                elif how == "dangling":
                    entry.symlink_to("../nowhere")
                elif how == "loop":
                    entry.symlink_to("arm_spe_1")
                else:
                    entry.mkdir()
                broker.call("Rescan")
                self.check(broker, how)
                entry.rmdir() if how == "empty" else entry.unlink()

    def test_names(self):
        """What only looks like an instance is none."""
        broker = self.new_broker(tree=lambda root: tree.one_spu(root, "0-3"))
        host = broker.tree
        for name in (
            "arm_spe_",
            "arm_spe_x",
            "arm_spe_1x",
            "arm_spe_-1",
            "arm_spe_+1",
            "arm_spe_99999999999999999999",
            "arm_spe_" + "1" * 200,
            "Arm_spe_1",
            "arm_spe_ 1",
            "arm_spe_01",
            "armv8_pmuv3_0",
            "arm_spe_1\n",
        ):
            host.instance(name, "4-7", type=9, link=False)
        broker.start()
        instances = broker.call("ListInstances")["instances"]
        self.assertEqual([i["name"] for i in instances], ["arm_spe_0"])

    def test_overlap(self):
        """A CPU has at most one SPU: two that claim the same CPU are not both believed."""
        broker = self.broker(
            tree=lambda root: tree.Tree(root, "0-7").instance(0, "0-3").instance(1, "3-7", type=9)
        )
        ready = [i for i in broker.call("ListInstances")["instances"] if i["state"] == "ready"]
        self.assertLessEqual(len(ready), 1)

    def test_cpu_files(self):
        """Unreadable facts about the CPUs must not make CPUs up, nor stop the daemon."""
        for path in ("online", "possible"):
            for how in (b"", b"garbage\n", b"0-99999\n", b"\xff" * 100, "missing"):
                with self.subTest(f"{path}: {how[:10]!r}"):
                    broker = self.new_broker(tree=tree.one_spu)
                    target = broker.root / "sys/devices/system/cpu" / path
                    target.unlink() if how == "missing" else target.write_bytes(how)
                    broker.start()
                    instance = broker.instance()
                    self.assertLessEqual(set(cpus(instance["onlineCpus"])), set(range(8)))
                    broker.stop()


class TestChanges(harness.TestCase):
    def test_new_and_gone(self):
        broker = self.new_broker(tree=lambda root: tree.one_spu(root, "0-3"))
        host = broker.tree
        host.write("sys/devices/system/cpu/possible", "0-11")
        host.online("0-11")
        broker.start()
        watch = self.client(broker).stream("Watch")
        watch.next()
        host.instance(1, "4-11", type=9)
        broker.call("Rescan")
        event = watch.until(lambda r: r["event"]["kind"] == "instance")["event"]["instance"]
        self.assertEqual((event["name"], event["state"], event["cpus"]), ("arm_spe_1", "ready", "4-11"))
        host.remove_instance(1)
        broker.call("Rescan")
        event = watch.until(lambda r: r["event"]["kind"] == "instance")["event"]["instance"]
        self.assertEqual((event["name"], event["state"], event["leases"]), ("arm_spe_1", "gone", 0))
        self.assertIsNone(broker.instance("arm_spe_1"))

    def test_watched(self):
        """What an instance can do, what is wrong with it, and how its driver is there are told like the rest."""
        broker = self.broker(tree=lambda root: tree.one_spu(root, "0-3"))
        admin, watch = self.client(broker), self.client(broker).stream("Watch")
        before = watch.next()["event"]["snapshot"]["instances"][0]
        for cap, text, expected in (
            ("min_interval", "256", {"minInterval": 256}),
            ("ernd", "x", {"minInterval": 256, "ernd": None}),
        ):
            broker.tree.write(broker.tree.path(0, "caps", cap), text)
            for _ in range(2):  # the second time it is no news
                admin.call("Rescan")
            told = watch.next()["event"]["instance"]
            self.assertEqual(told["capabilities"], before["capabilities"] | expected)
            self.assertEqual(told, broker.instance())
        before = told
        self.assertIn("ernd", before["problem"])
        broker.tree.module()
        admin.call("Rescan")
        self.assertEqual(watch.next()["event"]["instance"], before | {"driver": "module"})

    def test_gone_with_lease(self):
        """An instance with leases stays, as gone; test_lifecycle_gone.py has what becomes of them."""
        broker = self.new_broker()
        host = broker.tree
        broker.start()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(instance="arm_spe_1"))["lease"]
        host.remove_instance(1)
        broker.call("Rescan")
        instance = broker.instance("arm_spe_1")
        self.assertEqual((instance["state"], instance["leases"]), ("gone", 1))
        self.assertIsNone(instance.get("pmuType"))
        held = broker.lease(lease["leaseId"])
        self.assertIsNone(held.get("pmuType"))
        self.assertEqual(held["charge"], lease["charge"])
        answer = self.refused("InstanceNotReady", client, "Acquire", request=request(instance="arm_spe_1"))
        self.assertEqual(answer["state"], "gone")
        host.instance(1, "4-11", type=9)
        broker.call("Rescan")
        held = broker.lease(lease["leaseId"])
        self.assertEqual((held["pmuType"], held["restartRequired"]), (9, False))
        host.instance(1, "4-11", type=33)
        broker.call("Rescan")
        held = broker.lease(lease["leaseId"])
        self.assertEqual((held["pmuType"], held["restartRequired"]), (33, False))
        client.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_names_move(self):
        """The driver is loaded again and finds the SPUs in another order: names and types are used again, for
        other CPUs. A lease stays with its CPUs; CPUs and charges add up."""
        broker = self.broker()
        client = self.client(broker)
        moved = client.call("Acquire", request=request(cpus="4-7"))["lease"]
        exclusive = client.call("Acquire", request=request(cpus="0-1", mode="exclusive"))["lease"]
        with broker.tree.at_once():
            broker.tree.instance(0, "4-11", type=8).instance(1, "0-3", type=9)
        client.call("Rescan")
        for lease, name in ((moved, "arm_spe_0"), (exclusive, "arm_spe_1")):
            self.assertEqual(broker.lease(lease["leaseId"])["instance"], name)
        self.assertEqual(broker.instance("arm_spe_0")["leasedCpus"], "4-7")
        self.refused("Busy", client, "Acquire", request=request(cpus="1"))
        self.refused("NoInstanceForCpus", client, "Update", leaseId=moved["leaseId"], cpus="2")
        again = client.call("Acquire", request=request(cpus="4-7"))["lease"]
        self.assertEqual((again["instance"], again["restartRequired"]), ("arm_spe_0", False))
        for lease in (moved, exclusive, again):
            client.call("Release", leaseId=lease["leaseId"])
        self.assert_idle(broker)

    def test_gone_then_released(self):
        broker = self.new_broker()
        host = broker.tree
        broker.start()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(instance="arm_spe_1"))["lease"]
        host.remove_instance(1)
        broker.call("Rescan")
        client.call("Release", leaseId=lease["leaseId"])
        self.assertIsNone(broker.instance("arm_spe_1"))
        self.assert_idle(broker)

    def test_cpu_offline_under_lease(self):
        broker = self.new_broker()
        host = broker.tree
        broker.start()
        client = self.client(broker)
        client.call("Acquire", request=request(cpus="4-7"))
        host.online("0-5")
        broker.call("Rescan")
        instance = broker.instance("arm_spe_1")
        self.assertEqual((instance["onlineCpus"], instance["state"]), ("4-5", "ready"))
        self.assertEqual(
            client.call("Acquire", request=request(instance="arm_spe_1"))["lease"]["cpus"], "4-5"
        )

    def test_rescan_needs_an_administrator(self):
        broker = self.broker()
        _, client = self.vmm(broker, uid=harness.NOBODY)
        self.refused("PermissionDenied", client, "Rescan")
        broker.call("Rescan")


if __name__ == "__main__":
    harness.main()
