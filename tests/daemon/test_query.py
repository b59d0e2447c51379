# SPDX-License-Identifier: LGPL-2.1-or-later
"""Query: every refusal with its facts, its allowed twin, the order of the rules, and counter-offers that
hold."""

import harness
import tree
from sizes import KIB, MIB, charge, cpus

LIMITS = "[Limits]\nMaxMemory=8G\n"


def short(error):
    return error.rpartition(".")[2]


class TestQuery(harness.TestCase):
    def request(self, **kwargs):
        return {"vm": "vm", "vcpus": 1} | kwargs

    def query(self, broker, **kwargs):
        return broker.call("Query", request=self.request(**kwargs))["decision"]

    def granted(self, broker, **kwargs):
        """Query says yes, and Acquire then grants exactly the offer. Returns the lease."""
        decision = self.query(broker, **kwargs)
        self.assertTrue(decision["granted"], decision)
        self.assertEqual(decision["refusals"], [])
        self.assertIsNone(decision.get("counterOffer"))
        lease = self.acquired(broker, decision["offer"], **kwargs)
        self.assertEqual(lease.get("limitedBy"), decision["offer"].get("limitedBy"))
        return lease

    def acquired(self, broker, offer, **kwargs):
        lease = broker.call("Acquire", request=self.request(**kwargs))["lease"]
        for field in ("instance", "pmuType", "cpus", "bufferSize", "charge", "mode"):
            self.assertEqual(lease[field], offer[field], field)
        return lease

    def denied(self, broker, *errors, **kwargs):
        """Query says no for exactly these reasons, in this order, and Acquire answers the first with the same
        facts. If there is a counter-offer, taking it succeeds. Returns the decision and Acquire's error."""
        decision = self.query(broker, **kwargs)
        self.assertFalse(decision["granted"])
        self.assertIsNone(decision.get("offer"))
        self.assertEqual([short(r["error"]) for r in decision["refusals"]], list(errors))
        self.assertTrue(all(r["message"] for r in decision["refusals"]))
        client = self.client(broker)
        answer = self.refused(errors[0], client, "Acquire", request=self.request(**kwargs))
        for field, value in answer.items():
            named = {"vm": "assignedVm", "instances": None}.get(field, field)
            if named:
                self.assertEqual(decision["refusals"][0].get(named), value, field)
        counter = decision.get("counterOffer")
        if counter:
            fields = {k: counter[k] for k in ("instance", "cpus", "bufferSize", "mode")}
            lease = self.acquired(broker, counter, **(kwargs | fields | {"exact": True}))
            client.call("Release", leaseId=lease["leaseId"])
        return decision, answer

    def test_granted(self):
        broker = self.broker()
        lease = self.granted(broker)
        self.assertEqual(
            (lease["instance"], lease["cpus"], lease["bufferSize"]), ("arm_spe_0", "0-3", 4 * MIB)
        )
        lease = self.granted(broker, cpus="5-6", bufferSize=MIB, mode="shared", vcpus=3)
        self.assertEqual((lease["instance"], lease["charge"]), ("arm_spe_1", charge(3, MIB)))

    def test_no_trace(self):
        """Query takes nothing, and its 'no' is not in the list of refusals."""
        broker = self.broker()
        self.query(broker)
        self.query(broker, instance="arm_spe_9")
        self.assert_idle(broker)
        self.assertEqual(broker.call("ListRefusals")["refusals"], [])

    def test_no_such_instance(self):
        broker = self.broker()
        decision, answer = self.denied(broker, "NoSuchInstance", instance="arm_spe_7")
        self.assertEqual(answer, {"instance": "arm_spe_7", "instances": ["arm_spe_0", "arm_spe_1"]})
        self.assertEqual(
            [i["name"] for i in decision["refusals"][0]["instances"]], ["arm_spe_0", "arm_spe_1"]
        )
        self.granted(broker, instance="arm_spe_1")

    def test_not_ready(self):
        broker = self.broker(tree=lambda root: tree.big_little(root).instance(1, "4-11", type=None))
        decision, answer = self.denied(broker, "InstanceNotReady", instance="arm_spe_1")
        self.assertEqual((answer["instance"], answer["state"]), ("arm_spe_1", "partial"))
        self.assertEqual(answer["reason"], broker.instance("arm_spe_1")["problem"])
        self.assertEqual(decision["counterOffer"]["instance"], "arm_spe_0")
        self.granted(broker, instance="arm_spe_0")

    def test_no_instance_for_cpus(self):
        broker = self.broker()
        for asked in ("3-4", "0-11", "12", "4095", "0,4000"):
            with self.subTest(asked):
                _, answer = self.denied(broker, "NoInstanceForCpus", cpus=asked)
                self.assertEqual(
                    answer,
                    {
                        "cpus": asked,
                        "instances": [
                            {"name": "arm_spe_0", "cpus": "0-3"},
                            {"name": "arm_spe_1", "cpus": "4-11"},
                        ],
                    },
                )
        self.denied(broker, "NoInstanceForCpus", instance="arm_spe_0", cpus="4")
        self.granted(broker, cpus="0-3")
        self.granted(broker, instance="arm_spe_1", cpus="4")
        # The text need not be canonical, the answer is
        self.assertEqual(self.granted(broker, cpus="6,5,4-6")["cpus"], "4-6")

    def test_not_assigned(self):
        broker = self.broker(
            config=LIMITS + "[Assignment a]\nCpus=0-1\nOwner=host\n[Assignment b]\nCpus=2\nOwner=none\n"
            "[Assignment c]\nCpus=3\nOwner=guest\nVm=other\n[Assignment d]\nCpus=4\nOwner=guest\n"
        )
        for asked, owner, vm, blamed in (
            ("0", "host", None, "0"),
            ("0-2", "host", None, "0-1"),
            ("2", "none", None, "2"),
            ("2-3", "none", None, "2"),
            ("3", "guest", "other", "3"),
        ):
            with self.subTest(asked):
                _, answer = self.denied(broker, "NotAssigned", cpus=asked)
                self.assertEqual((answer["cpus"], answer["owner"], answer.get("vm")), (blamed, owner, vm))
        self.denied(broker, "NotAssigned", instance="arm_spe_0")
        self.granted(broker, cpus="4-5")
        self.assertEqual(self.granted(broker, vm="other", cpus="3")["vm"], "other")
        # Without CPUs, those that are left are taken
        self.assertEqual(self.granted(broker, vm="other", instance="arm_spe_0")["cpus"], "3")

    def test_counter_offer_cpus(self):
        broker = self.broker(config=LIMITS + "[Assignment a]\nCpus=0-1\nOwner=host\n")
        decision, _ = self.denied(broker, "NotAssigned", cpus="1-3")
        self.assertEqual(
            (decision["counterOffer"]["instance"], decision["counterOffer"]["cpus"]), ("arm_spe_0", "2-3")
        )

    def test_representable(self):
        broker = self.broker(config="[Limits]\nMaxMemory=8G\n")
        for asked, nearest in (
            (4 * MIB + 4 * KIB, 4 * MIB),
            (5000, 4096),
            (MIB + 2 * KIB, MIB),
            (2 * MIB - 1, 2093056),
            (8 * MIB - 4 * KIB, 8380416),
            (8 * MIB + 8 * KIB, 8 * MIB),
        ):
            with self.subTest(asked):
                decision, answer = self.denied(
                    broker, "BufferSizeNotRepresentable", bufferSize=asked, exact=True
                )
                self.assertEqual(answer, {"requested": asked, "nearest": nearest})
                self.assertEqual(decision["counterOffer"]["bufferSize"], nearest)
                lease = self.granted(broker, bufferSize=asked)
                self.assertEqual((lease["bufferSize"], lease["requestedBufferSize"]), (nearest, asked))
                self.assertIsNone(lease.get("limitedBy"))
                self.granted(broker, bufferSize=nearest, exact=True)
        for exact in (False, True):
            _, answer = self.denied(broker, "BufferSizeNotRepresentable", bufferSize=4095, exact=exact)
            self.assertEqual(answer, {"requested": 4095, "nearest": 4096})
        self.granted(broker, bufferSize=4096, exact=True)

    def test_limit(self):
        broker = self.broker(config="[Limits]\nMaxMemory=8G\nMaxMemoryPerVM=20M\n")
        _, answer = self.denied(broker, "LimitExceeded", bufferSize=128 * MIB, exact=True)
        self.assertEqual(answer, {"limit": "MaxBufferSize", "requested": 128 * MIB, "available": 64 * MIB})
        decision, answer = self.denied(broker, "LimitExceeded", bufferSize=16 * MIB, vcpus=2, exact=True)
        self.assertEqual(
            answer, {"limit": "MaxMemoryPerVM", "requested": charge(2, 16 * MIB), "available": 20 * MIB}
        )
        self.assertEqual(decision["counterOffer"]["bufferSize"], 8 * MIB)
        self.granted(broker, bufferSize=8 * MIB, vcpus=2, exact=True)

    def test_busy(self):
        broker = self.broker()
        held = broker.call("Acquire", request=self.request(vm="holder", cpus="1-2", mode="exclusive"))[
            "lease"
        ]
        decision, answer = self.denied(broker, "Busy", cpus="2-3")
        holder = answer["holders"][0]
        self.assertEqual(len(answer["holders"]), 1)
        self.assertEqual(
            (holder["kind"], holder["leaseId"], holder["vm"], holder["uid"], holder["cpus"]),
            ("lease", held["leaseId"], "holder", 0, "2"),
        )
        self.assertEqual(holder["pid"], held["owner"]["pid"])
        self.assertEqual(decision["counterOffer"]["cpus"], "3")
        self.granted(broker, cpus="0,3")

    def test_all_reasons_in_order(self):
        broker = self.broker(config=LIMITS + "MaxBufferSize=4M\n[Assignment a]\nCpus=0\nOwner=host\n")
        broker.call("Acquire", request=self.request(vm="holder", cpus="1", mode="exclusive"))
        self.denied(
            broker,
            "NotAssigned",
            "BufferSizeNotRepresentable",
            "LimitExceeded",
            "Busy",
            cpus="0-1",
            bufferSize=8 * MIB + 4 * KIB,
            exact=True,
        )
        self.denied(
            broker, "NotAssigned", "LimitExceeded", "Busy", cpus="0-1", bufferSize=8 * MIB, exact=True
        )
        self.denied(broker, "LimitExceeded", "Busy", cpus="1", bufferSize=8 * MIB, exact=True)
        self.denied(broker, "Busy", cpus="1", bufferSize=8 * MIB)
        self.granted(broker, cpus="2", bufferSize=4 * MIB)

    def test_elsewhere(self):
        """A named instance that is full of somebody else: the counter-offer is on the other one."""
        broker = self.broker()
        broker.call("Acquire", request=self.request(vm="holder", instance="arm_spe_0", mode="exclusive"))
        decision, _ = self.denied(broker, "Busy", instance="arm_spe_0")
        self.assertEqual(decision["counterOffer"]["instance"], "arm_spe_1")
        self.assertTrue(cpus(decision["counterOffer"]["cpus"]) <= cpus("4-11"))

    def test_no_counter_offer(self):
        broker = self.broker(config="[Policy]\nDefaultOwner=host\n")
        decision, answer = self.denied(broker, "NotAssigned", cpus="0")
        self.assertIsNone(decision.get("counterOffer"))
        self.assertEqual(answer["owner"], "host")

    def test_who(self):
        broker = self.broker(config="[Policy]\nAcquireGroup=4321\n")
        _, member = self.vmm(broker, uid=1000, groups=[4321])
        _, stranger = self.vmm(broker, uid=1001)
        self.assertTrue(member.call("Query", request=self.request())["decision"]["granted"])
        self.refused("PermissionDenied", stranger, "Query", request=self.request())


if __name__ == "__main__":
    harness.main()
