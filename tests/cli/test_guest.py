# SPDX-License-Identifier: LGPL-2.1-or-later
"""speadm where KVM gives one SPU to guests, and refuses the other; a model of KVM says so (tests/daemon/kvm-model.c)."""

import cli
import kvm  # of tests/daemon, which cli makes known
from cli import DONE, HOST_CANNOT


class TestGuest(cli.TestCase):
    def start(self, types):
        broker = self.new_broker(config=kvm.NUMBERS, env=kvm.environment())
        kvm.write(broker.tree, types)
        self.socket = broker.start().socket_path

    def ask(self, line, expect):
        return self.speadm(*line.split(), socket=self.socket, expect=expect)

    def test_refused(self):
        self.start([9])
        self.golden("guest-list.txt", self.ask("list", DONE).out)
        for verb in ("query", "run"):
            command = " -- true" if verb == "run" else ""
            refused = self.ask(f"{verb} --vm web --vcpus 1 --instance arm_spe_0{command}", HOST_CANNOT)
            self.assertRegex(refused.out + refused.err, "arm_spe_0 .*to a guest: KVM knows no SPU of this PMU type")
            self.ask(f"{verb} --vm web --vcpus 1{command}", DONE)  # the other one
        self.assertIn("arm_spe_0: KVM knows no SPU of this PMU type", self.ask("check", DONE).out)

    def test_all_refused(self):
        self.start([])
        for line in ("query --vm web --vcpus 1", "query --vm web --vcpus 1 --cpus 5", "run --vm web --vcpus 1 -- true"):
            self.ask(line, HOST_CANNOT)

    def test_granted(self):
        self.start([8, 9])
        self.ask("run --vm web --vcpus 1 --instance arm_spe_0 -- true", DONE)
        self.assertNotIn("KVM knows no SPU", self.ask("list", DONE).out + self.ask("check", DONE).out)


if __name__ == "__main__":
    cli.main(needs_broker=True)
