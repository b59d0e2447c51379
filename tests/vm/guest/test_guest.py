# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a guest can have an SPU, asked of a real KVM. None has SPE here. But a VCPU's PMU (KVM_ARM_VCPU_PMU_V3) is set
up by the same steps: a feature bit, and attributes for its interrupt, for the PMU's type as perf has it, and for the
end. With its numbers in SPE's place the probe goes all the way, and a real PMU type is what KVM takes or refuses."""

import pathlib
import platform
import unittest

import harness
import kvm
import tree
import uevents

ARM64 = platform.machine() == "aarch64"
TRIES, RESCANS = 10, 3
PMU_TYPE = pathlib.Path("/sys/bus/event_source/devices/armv8_pmuv3/type")
NUMBERS = {  # KVM_CAP_ARM_PMU_V3, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL with _IRQ, _SET_PMU, _FILTER, _INIT
    "Capability": 126,
    "Feature": 3,
    "Group": 0,
    "AttributeIrq": 0,
    "AttributeSpu": 3,
    "AttributeMaxBufferSize": 2,
    "AttributeInit": 1,
}
# What no kernel has: a capability, a feature, a group, an attribute; and what the probe says of each.
WRONG = (
    ({"Capability": 65535}, "KVM has no SPE for guests"),
    ({"Feature": 223}, "KVM makes no VCPU with SPE (KVM_ARM_VCPU_INIT with SPE: "),
    ({"Group": 65535}, "(KVM_HAS_DEVICE_ATTR of IRQ: No such device or address)"),
    ({"AttributeSpu": 65535}, "(KVM_HAS_DEVICE_ATTR of SPU: No such device or address)"),
    ({"AttributeInit": 65535}, "(KVM_HAS_DEVICE_ATTR of INIT: No such device or address)"),
)


def numbers(**changes):
    return "[KVM]\n" + "".join(f"{key}={value}\n" for key, value in (NUMBERS | changes).items())


class TestGuest(harness.TestCase):
    def asked(self, config, device="/dev/kvm", other=9):
        """A daemon on a tree whose arm_spe_0 has the type of this machine's CPUs' PMU, and that brings this machine's
        KVM. It says what its KVM says, in the order of the instances."""

        def write(root):
            host = tree.Tree(root, "0-7")
            host.instance(0, "0-3", type=int(PMU_TYPE.read_text()) if ARM64 else 8)
            host.instance(1, "4-7", type=other)
            (host.root / "dev").mkdir()
            (host.root / "dev/kvm").symlink_to(device)
            return host

        return self.broker(tree=write, config=config)

    def answers(self, broker):
        return [(i["guest"], i["guestReason"]) for i in broker.call("ListInstances")["instances"]]

    def test_other_architecture(self):
        if ARM64:
            self.skipTest("this is arm64")
        if not pathlib.Path("/dev/kvm").exists():
            self.skipTest("no /dev/kvm")
        answer = ("unknown", "only KVM on arm64 can be asked")
        self.assertEqual(self.answers(self.asked(numbers())), [answer, answer])

    @unittest.skipUnless(ARM64, "not arm64")
    def test_guesses(self):
        """Without numbers KVM's refusal is no fact."""
        broker = self.asked("")
        for guest, reason in self.answers(broker):
            self.assertEqual(guest, "unknown")
            self.assertIn("with guesses: KVM makes no VCPU with SPE", reason)
        broker.call("Acquire", request={"vm": "vm", "vcpus": 1})

    @unittest.skipUnless(ARM64, "not arm64")
    def test_types(self):
        """One PMU type is taken, and another not."""
        broker = self.asked(numbers())
        (guest, _), (other, reason) = self.answers(broker)
        self.assertEqual((guest, other), ("yes", "no"))
        self.assertEqual(
            reason,
            "KVM knows no SPU of this PMU type (KVM_SET_DEVICE_ATTR of SPU: No such device or address)",
        )
        client = self.client(broker)
        client.call("Acquire", request={"vm": "vm", "vcpus": 1, "instance": "arm_spe_0"})
        self.refused(
            "GuestUnsupported", client, "Acquire", request={"vm": "vm", "vcpus": 1, "instance": "arm_spe_1"}
        )

    @unittest.skipUnless(ARM64, "not arm64")
    def test_numbers(self):
        for changes, expected in WRONG:
            with self.subTest(changes):
                broker = self.asked(numbers(**changes))
                for guest, reason in self.answers(broker):
                    self.assertEqual(guest, "no")
                    self.assertIn(expected, reason)
                broker.stop()

    @unittest.skipUnless(ARM64, "not arm64")
    def test_no_maximum(self):
        """An attribute that KVM may do without."""
        guest, reason = self.answers(self.asked(numbers(AttributeMaxBufferSize=65535)))[0]
        self.assertEqual(guest, "yes")
        self.assertIn("knows no maximum buffer size", reason)

    @unittest.skipUnless(ARM64, "not arm64")
    def test_no_loop(self):
        """The kernel tells of the probe's own VMs, which is no reason to probe again; and they are all gone."""
        broker = self.asked(numbers())
        for _ in range(TRIES):  # something else on this machine may be a reason to look at it, now and then
            before = broker.counters()
            for _ in range(RESCANS):
                broker.call("Rescan")
            # If the VMs' uevents were a reason to ask again, the next rescan would; and uevents come in order, so by the
            # one after that it would show.
            for n in (1, 2):
                uevents.trigger()
                rescans = before["rescans"] + RESCANS + n
                harness.wait_for(lambda least=rescans: broker.counters()["rescans"] >= least, "a rescan")
            after = broker.counters()
            # Two SPUs, each asked for with a VM that is created and destroyed.
            if after["uevents-of-vms"] - before["uevents-of-vms"] == RESCANS * 2 * 2:
                break
        else:
            self.fail(f"each of {TRIES} times a probe led to another: {before} {after}")
        self.assertEqual(kvm.held(broker.process.pid), [])

    def test_no_kvm(self):
        answer = ("unknown", "the host looked at is not this machine")
        self.assertEqual(self.answers(self.asked(numbers(), device="/dev/no-such-kvm")), [answer, answer])


if __name__ == "__main__":
    harness.main(needs_uevents=True)
