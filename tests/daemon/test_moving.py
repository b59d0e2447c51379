# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tree that changes while it is read: what is said of an instance was true of it at one time, and what belongs
together stays together. And a large host."""

import os
import shutil
import sys
import threading

import harness
import tree
import uevents
from sizes import MIB, cpus

ROUNDS = 150
# (PMU type, CPUs, caps/max_buff_size): the driver is reloaded, and finds the two SPUs in the other order.
ONE, OTHER = (8, "0-3", 1 * MIB), (9, "4-11", 2 * MIB)


class Driver:
    """Adds and removes devices in the kernel's order: the attributes, then the link; first cpumask, then the rest."""

    def __init__(self, host):
        self.host, self.generation, self.directories = host, 0, {}

    def add(self, name, type_, cpumask, max_buff_size):
        self.generation += 1
        path = f"sys/devices/platform/{name}-{self.generation}/{name}"
        self.host.write(f"{path}/cpumask", cpumask)
        self.host.write(f"{path}/caps/max_buff_size", max_buff_size)
        for key, value in tree.FORMATS.items():
            self.host.write(f"{path}/format/{key}", value)
        self.host.write(f"{path}/type", type_)
        (self.host.devices / name).symlink_to(os.path.relpath(self.host.root / path, self.host.devices))
        self.directories[name] = self.host.root / path

    def remove(self, name):
        directory = self.directories.pop(name)
        (directory / "cpumask").unlink()
        shutil.rmtree(directory / "caps")
        shutil.rmtree(directory / "format")
        (self.host.devices / name).unlink()
        shutil.rmtree(directory.parent)

    def swap(self):
        for name in sorted(self.directories):
            self.remove(name)
        first, second = (ONE, OTHER) if self.generation % 4 == 0 else (OTHER, ONE)
        self.add("arm_spe_0", *first)
        self.add("arm_spe_1", *second)


class TestMoving(harness.TestCase):
    def check(self, instances):
        for instance in instances:
            if instance["state"] == "ready":
                facts = (instance["pmuType"], instance["cpus"], instance.get("maxBufferSize"))
                self.assertIn(facts, (ONE, OTHER), instance["name"])
                self.assertIsNone(instance.get("problem"))

    def check_all(self, instances):
        """Of one moment: no SPU shows twice."""
        self.check(instances)
        types = [i["pmuType"] for i in instances if i["state"] == "ready"]
        self.assertEqual(len(types), len(set(types)), instances)

    def test_driver_in_a_loop(self):
        broker = self.new_broker(tree=lambda root: tree.Tree(root, "0-11"))
        driver = Driver(broker.tree)
        driver.swap()
        broker.start()
        stream = self.client(broker).stream("Watch")
        stream.next()
        done, rescans = threading.Event(), [0]

        def rescan():
            with broker.connect() as client:
                while not done.is_set():
                    client.call("Rescan")
                    rescans[0] += 1

        def watch():
            try:
                while not done.is_set():
                    if instance := stream.next()["event"].get("instance"):
                        seen.append(instance)
            except Exception as error:  # whatever it is: it fails the test, and not just this thread
                failed.append(error)

        seen, failed = [], []
        threads = [threading.Thread(target=rescan), threading.Thread(target=watch)]
        for thread in threads:
            thread.start()
        try:
            with broker.connect() as client:
                for _ in range(ROUNDS):
                    driver.swap()
                    uevents.trigger()
                    self.check_all(client.call("ListInstances")["instances"])
        finally:
            done.set()
            broker.tree.online("0-10")  # something to tell, so that whoever watches sees that it is over
            uevents.trigger()
            for thread in threads:
                thread.join()
        self.assertEqual(failed, [])
        self.check(seen)
        self.assertGreater(len(seen), 10)
        self.assertGreater(rescans[0], ROUNDS / 10)
        harness.wait_for(lambda: self.both_ready(broker), "both instances ready")
        self.assertEqual(broker.call("Acquire", request={"vm": "vm", "vcpus": 1, "cpus": "0-3"})["lease"]["pmuType"], 8)

    def both_ready(self, broker):
        instances = broker.call("ListInstances")["instances"]
        self.check_all(instances)
        return [i["state"] for i in instances] == ["ready", "ready"]

    def test_text_in_pieces(self):
        """A file that is written in place, which sysfs never does: half a value is told as what it says or as none, and
        the next look finds the whole one."""
        broker = self.broker()
        mask = broker.tree.root / broker.tree.path(1, "cpumask")
        client = self.client(broker)
        for _ in range(ROUNDS):
            for text in ("", "4-", "4-11\n"):
                mask.write_text(text)
                client.call("Rescan")
                instance = broker.instance("arm_spe_1")
                expected = ("ready", "4-11") if text.endswith("\n") else ("partial", "")
                self.assertEqual((instance["state"], instance["cpus"]), expected)
                self.assertEqual(broker.instance("arm_spe_0")["state"], "ready")


class TestLarge(harness.TestCase):
    def test_all_cpus(self):
        """4,096 CPUs on 32 SPUs, half of which go off line one at a time."""
        n, width = 32, 4096 // 32

        def write(root):
            host = tree.Tree(root, "0-4095")
            for i in range(n):
                host.instance(i, f"{i * width}-{(i + 1) * width - 1}", type=8 + i)
            return host

        broker = self.broker(tree=write)
        instances = broker.call("ListInstances")["instances"]
        self.assertEqual([(i["name"], i["state"], len(cpus(i["onlineCpus"]))) for i in instances],
                         [(f"arm_spe_{i}", "ready", width) for i in range(n)])
        stream = self.client(broker).stream("Watch")
        self.assertEqual(stream.next()["event"]["snapshot"]["instances"], instances)
        broker.tree.online(",".join(str(cpu) for cpu in range(0, 4096, 2)))
        uevents.trigger(action="offline")
        told = {}
        while len(told) < n:
            instance = stream.until(lambda reply: reply["event"]["kind"] == "instance")["event"]["instance"]
            told[instance["name"]] = instance
        for i in range(n):
            self.assertEqual(set(cpus(told[f"arm_spe_{i}"]["onlineCpus"])), set(range(i * width, (i + 1) * width, 2)))
        lease = broker.call("Acquire", request={"vm": "vm", "vcpus": 1, "cpus": "4094"})["lease"]
        self.assertEqual((lease["instance"], lease["cpus"]), ("arm_spe_31", "4094"))


if __name__ == "__main__":
    if os.geteuid() == 0 and not os.access(uevents.CPU, os.W_OK):
        print(f"{uevents.CPU} cannot be written")
        sys.exit(77)
    harness.main(needs_uevents=True)
