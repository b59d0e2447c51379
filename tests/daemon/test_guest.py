# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a guest can have an SPU, as KVM says: kvm-model.c, preloaded, answers for a file dev/kvm in the
host's tree. It is a model of KVM's interface for SPE, and no evidence of what a kernel does."""

import os
import platform
import re
import unittest

import harness
import kvm
import uevents
from kvm import NUMBERS
from sizes import MIB
from wire import BROKER, VarlinkError

LONG = 10**9
NO_HOST = "the host looked at is not this machine"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestGuest(harness.TestCase):
    def model(self, types=(8, 9), more="", config=NUMBERS):
        """A daemon on a host with CPUs 0-3 (type 8) and 4-11 (type 9), and a KVM that knows these types."""
        broker = self.new_broker(config=config, env=kvm.environment())
        kvm.write(broker.tree, types, more)
        return broker.start()

    def guests(self, broker):
        return [i["guest"] for i in broker.call("ListInstances")["instances"]]

    def reason(self, broker, name="arm_spe_0"):
        return broker.instance(name)["guestReason"]

    def test_each_spu(self):
        """KVM is asked for each; one that it refuses is not leased, and is not chosen."""
        broker = self.model(types=(9,))
        self.assertEqual(self.guests(broker), ["no", "yes"])
        reason = self.reason(broker)
        self.assertIn("KVM knows no SPU of this PMU type", reason)
        self.assertIn("KVM_SET_DEVICE_ATTR of SPU: No such device or address", reason)
        client = self.client(broker)
        answer = self.refused("GuestUnsupported", client, "Acquire", request=request(instance="arm_spe_0"))
        self.assertEqual(answer, {"instance": "arm_spe_0", "reason": reason})
        answer = self.refused("GuestUnsupported", client, "Acquire", request=request(cpus="0-1"))
        self.assertEqual(answer, {"instance": "arm_spe_0", "reason": reason})
        decision = client.call("Query", request=request(instance="arm_spe_0"))["decision"]
        self.assertFalse(decision["granted"])
        self.assertEqual(
            [(r["error"], r["instance"], r["reason"]) for r in decision["refusals"]],
            [(BROKER + "GuestUnsupported", "arm_spe_0", reason)],
        )
        self.assertEqual(decision["counterOffer"]["instance"], "arm_spe_1")
        lease = client.call("Acquire", request=request())["lease"]
        self.assertEqual((lease["instance"], lease["pmuType"]), ("arm_spe_1", 9))
        self.assertIn("arm_spe_0 cannot be given to a guest: KVM knows no SPU", broker.read_log())

    def test_yes(self):
        """The twin: the same requests, where KVM takes them."""
        broker = self.model()
        self.assertEqual(self.guests(broker), ["yes", "yes"])
        self.assertEqual(self.reason(broker), "KVM takes it for a guest")
        client = self.client(broker)
        for kwargs in ({"instance": "arm_spe_0"}, {"cpus": "0-1"}):
            lease = client.call("Acquire", request=request(**kwargs))["lease"]
            self.assertEqual(lease["instance"], "arm_spe_0")
        self.assertNotIn("cannot be given", broker.read_log())

    def test_nothing_stays_open(self):
        broker = self.model()
        for _ in range(3):
            broker.call("Rescan")
        self.assertEqual(kvm.held(broker.process.pid), [])
        self.assertGreaterEqual((broker.root / "dev/kvm.vms").stat().st_size, 4 * 2)

    def test_guessed_numbers(self):
        """What KVM says to a guess refuses nothing, and grants nothing."""
        broker = self.model(config="")
        self.assertEqual(self.guests(broker), ["unknown", "unknown"])
        self.assertIn("KVM's numbers for SPE are known neither", self.reason(broker))
        broker.call("Acquire", request=request())
        kvm.write(broker.tree, ())
        broker.call("Rescan")
        self.assertEqual(self.guests(broker), ["unknown", "unknown"])
        broker.call("Acquire", request=request())

    def test_reload(self):
        broker = self.model(config="[KVM]\nCapability=300\n")
        self.assertEqual(self.guests(broker), ["unknown", "unknown"])
        broker.configure(NUMBERS)
        broker.call("Reload")
        self.assertEqual(self.guests(broker), ["yes", "yes"])
        broker.configure(NUMBERS.replace("300", "301"))
        broker.hangup()
        self.assertEqual(self.guests(broker), ["no", "no"])
        self.assertIn("KVM has no SPE for guests", self.reason(broker))
        broker.configure(NUMBERS.replace("300", "many"))
        self.refused("io.spebroker.Admin.InvalidConfiguration", self.client(broker), "Reload")
        self.assertEqual(self.guests(broker), ["no", "no"])

    def test_becomes_no(self):
        """A lease that is there stays; who waits is refused; Watch tells."""
        broker = self.model()
        client = self.client(broker)
        held = client.call("Acquire", request=request(cpus="0-1", mode="exclusive"))["lease"]
        waiter = self.client(broker).stream("Acquire", request=request(cpus="1", vm="next"), waitUSec=LONG)
        self.assertEqual(waiter.next()["change"], "queued")
        watch = self.client(broker).stream("Watch")
        self.assertEqual(watch.next()["event"]["kind"], "snapshot")

        kvm.write(broker.tree, (9,))
        broker.call("Rescan")
        with self.assertRaises(VarlinkError) as caught:
            waiter.next()
        self.assertEqual(caught.exception.name, BROKER + "GuestUnsupported")
        self.assertEqual(caught.exception.parameters["instance"], "arm_spe_0")
        told = watch.next()["event"]["instance"]
        self.assertEqual((told["name"], told["guest"]), ("arm_spe_0", "no"))
        self.assertIn("KVM knows no SPU", told["guestReason"])
        self.assertEqual(broker.lease(held["leaseId"])["state"], "granted")
        self.refused("GuestUnsupported", client, "Acquire", request=request(cpus="2"))
        moved = client.call("Update", leaseId=held["leaseId"], cpus="0,3")["lease"]
        self.assertEqual((moved["state"], moved["cpus"]), ("granted", "0,3"))

        kvm.write(broker.tree, (8, 9))
        broker.call("Rescan")
        self.assertEqual(self.guests(broker), ["yes", "yes"])
        client.call("Acquire", request=request(cpus="2"))

    def test_event(self):
        """KVM itself came, went or changed."""
        if not uevents.KVM.exists():
            self.skipTest("no KVM here")
        broker = self.model()
        watch = self.client(broker).stream("Watch")
        watch.next()
        kvm.write(broker.tree, (8,))
        uevents.trigger(uevents.KVM, "change")
        told = watch.next()["event"]["instance"]
        self.assertEqual((told["name"], told["guest"]), ("arm_spe_1", "no"))

    def test_no_kvm(self):
        """A tree of another host says nothing about KVM unless it brings one."""
        broker = self.broker()
        self.assertEqual(self.guests(broker), ["unknown", "unknown"])
        self.assertEqual(self.reason(broker), NO_HOST)
        broker.call("Acquire", request=request())

    def test_facts(self):
        """What KVM says without being asked for a number needs none."""
        for more, config, guest, reason in (
            ("fail-vm 19\n", "", "no", "KVM makes no VMs on this machine (KVM_CREATE_VM: No such device)"),
            ("fail-vm 16\n", NUMBERS, "unknown", "KVM_CREATE_VM: Device or resource busy"),
            ("psci 0\n", NUMBERS, "unknown", "only KVM on arm64 can be asked"),
            ("vgic 0\n", NUMBERS, "no", "KVM has no vGIC on this machine, which SPE needs"),
        ):
            with self.subTest(more):
                broker = self.model(more=more, config=config)
                self.assertEqual(self.guests(broker), [guest, guest])
                self.assertIn(reason, self.reason(broker))
                broker.stop()

    def test_hostile(self):
        """Whatever lies there as dev/kvm, the broker runs, and knows nothing."""
        for make in (
            lambda path: os.mkfifo(path),
            lambda path: path.mkdir(),
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: path.symlink_to("/dev/tty"),
            lambda path: path.symlink_to("kvm"),
            lambda path: path.write_bytes(bytes(range(256)) * 64),
        ):
            broker = self.new_broker()
            (broker.root / "dev").mkdir()
            make(broker.root / "dev/kvm")
            broker.start()
            self.assertEqual(self.guests(broker), ["unknown", "unknown"])
            self.assertTrue(re.search(f"/dev/kvm: |KVM_GET_API_VERSION: |{NO_HOST}", self.reason(broker)), self.reason(broker))
            broker.stop()

    def test_real(self):
        """This machine's own KVM, without numbers or with some that no kernel has: never a yes."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise unittest.SkipTest("no /dev/kvm")
        for config in ("", NUMBERS.replace("300", "65535")):
            broker = self.new_broker(config=config)
            (broker.root / "dev").mkdir()
            (broker.root / "dev/kvm").symlink_to("/dev/kvm")
            broker.start()
            self.assertNotIn("yes", self.guests(broker))
            if platform.machine() != "aarch64" and not os.environ.get("SPE_EMULATED"):
                self.assertEqual(self.reason(broker), "only KVM on arm64 can be asked")
            broker.stop()


if __name__ == "__main__":
    harness.main(needs_uevents=True)
