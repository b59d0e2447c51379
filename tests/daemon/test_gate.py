# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Describe says of the gate. Where the kernel has such programs, what they do is tested in virtual machines
(tests/vm/guest/test_gate.py)."""

import harness
import kvm


class TestGate(harness.TestCase):
    def told(self, broker):
        host = broker.call("Describe")["host"]
        return host["gate"], host["gateReason"]

    def test_not_this_host(self):
        """Off, unless the configuration there names a level."""
        for config in ("", "[Arbitration]\nGate=auto\n"):
            broker = self.broker(config=config + kvm.NUMBERS)
            self.assertEqual(self.told(broker), ("off", "this is another host's tree (--root), and its configuration names "
                                                 "no level"))
            broker.stop()
        broker = self.broker(simulate="biglittle", config=kvm.NUMBERS)
        self.assertEqual(self.told(broker), ("off", "this host is simulated: nothing here is real hardware"))

    def test_off(self):
        broker = self.broker(config="[Arbitration]\nGate=off\n" + kvm.NUMBERS)
        self.assertEqual(self.told(broker), ("off", "the configuration says Gate=off"))

    def test_guesses(self):
        """Nothing is done on guessed numbers, whatever is asked for; the journal says so where it was asked for."""
        for level in ("log", "enforce"):
            broker = self.broker(config=f"[Arbitration]\nGate={level}\n")
            gate, reason = self.told(broker)
            self.assertEqual(gate, "off")
            self.assertIn("the numbers of KVM's attributes for SPE are guesses", reason)
            broker.stop()
            self.assertIn(f"gate: {reason}\n", broker.log)

    def test_named(self):
        """The level that is named, or why it cannot be had; leases are granted all the same."""
        for level in ("log", "enforce"):
            broker = self.broker(config=f"[Arbitration]\nGate={level}\n" + kvm.NUMBERS)
            gate, reason = self.told(broker)
            if gate == "off":
                self.assertTrue(reason.startswith(f"level {level} cannot be had: "), reason)
            else:
                self.assertEqual((gate, reason), (level, "the configuration says Gate=log" if level == "log" else None))
            broker.call("Acquire", request={"vm": "vm", "vcpus": 1})
            counters = broker.counters()
            self.assertEqual([counters[f"gate-{name}"] for name in ("refused", "reported", "refusals-lost")], [0, 0, 0])
            broker.stop()
            self.assertEqual("gate: level" in broker.log, gate == "off", broker.log)

    def test_reload(self):
        broker = self.broker(config=kvm.NUMBERS)
        broker.configure("[Arbitration]\nGate=off\n" + kvm.NUMBERS)
        broker.hangup()
        self.assertEqual(self.told(broker), ("off", "the configuration says Gate=off"))
        broker.configure("[Arbitration]\nGate=closed\n")
        broker.hangup()
        self.assertEqual(self.told(broker), ("off", "the configuration says Gate=off"))
        self.assertIn("not a level of the gate (auto, enforce, log, off)", broker.read_log())


if __name__ == "__main__":
    harness.main()
