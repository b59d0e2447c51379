# SPDX-License-Identifier: LGPL-2.1-or-later
"""ListRefusals: what was refused, newest first, a bounded number of them."""

import time

import harness
from sizes import MIB
from wire import encode

KEPT = 1024


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": MIB} | kwargs


class TestRefusals(harness.TestCase):
    def test_contents(self):
        broker = self.broker(config="[Policy]\nAcquireGroup=4321\n")
        process, client = self.vmm(broker, uid=1000, groups=[4321])
        held = broker.call("Acquire", request=request(cpus="0", mode="exclusive", vm="holder"))["lease"]
        before = int(time.time() * 1e6)
        self.refused("Busy", client, "Acquire", request=request(cpus="0-1", vm="unlucky"))
        after = int(time.time() * 1e6)
        refusals = client.call("ListRefusals")["refusals"]
        self.assertEqual(len(refusals), 1)
        refusal = refusals[0]
        self.assertRegex(refusal["id"], "^[0-9a-f]{32}$")
        self.assertEqual(
            {k: refusal[k] for k in ("error", "vm", "pid", "uid")},
            {"error": "io.spebroker.Broker.Busy", "vm": "unlucky", "pid": process.pid, "uid": 1000},
        )
        self.assertTrue(before <= refusal["whenUSec"] <= after)
        self.assertTrue(refusal["message"])
        self.assertEqual([h["leaseId"] for h in refusal["holders"]], [held["leaseId"]])

    def test_fields(self):
        """Each error's own fields are there, and those of the others are null."""
        broker = self.broker(config="[Assignment a]\nCpus=0\nOwner=guest\nVm=other\n")
        client = self.client(broker)
        own = {
            "NoSuchInstance": {"instance", "instances"},
            "NoInstanceForCpus": {"cpus", "instances"},
            "NotAssigned": {"cpus", "owner", "assignedVm"},
            "LimitExceeded": {"limit", "requested", "available"},
            "BufferSizeNotRepresentable": {"requested", "nearest"},
            "Busy": {"holders"},
        }
        client.call("Acquire", request=request(cpus="1", mode="exclusive"))
        for error, asked in (
            ("NoSuchInstance", {"instance": "arm_spe_9"}),
            ("NoInstanceForCpus", {"cpus": "3-4"}),
            ("NotAssigned", {"cpus": "0"}),
            ("LimitExceeded", {"bufferSize": 2**40, "exact": True}),
            ("BufferSizeNotRepresentable", {"bufferSize": 1}),
            ("Busy", {"cpus": "1"}),
        ):
            with self.subTest(error):
                self.refused(error, client, "Acquire", request=request(**asked))
                newest = client.call("ListRefusals", limit=1)["refusals"][0]
                self.assertEqual(newest["error"], "io.spebroker.Broker." + error)
                common = {"id", "error", "message", "whenUSec", "vm", "pid", "uid"}
                self.assertEqual({k for k, v in newest.items() if v is not None} - common, own[error])

    def test_not_refusals(self):
        """A call that is wrong, or not allowed, is no refused lease."""
        broker = self.broker(config="[Policy]\nAcquireGroup=4321\n")
        client = self.client(broker)
        self.invalid("vcpus", client, "Acquire", request={"vm": "a", "vcpus": 0})
        _, stranger = self.vmm(broker, uid=1000)
        self.refused("PermissionDenied", stranger, "Acquire", request=request())
        self.refused("NoSuchLease", client, "Release", leaseId="0" * 32)
        self.assertEqual(client.call("ListRefusals")["refusals"], [])

    def test_bounded_and_filtered(self):
        broker = self.broker()
        client = self.client(broker)
        total = KEPT + 76
        for start in range(0, total, 100):
            client.send_bytes(
                b"".join(
                    encode("Acquire", {"request": request(vm=f"vm{i % 10}", instance="arm_spe_9")})
                    for i in range(start, min(start + 100, total))
                )
            )
            for _ in range(start, min(start + 100, total)):
                self.assertEqual(client.receive_message()["error"], "io.spebroker.Broker.NoSuchInstance")
        refusals = client.call("ListRefusals")["refusals"]
        self.assertEqual(len(refusals), KEPT)
        self.assertEqual(
            [r["vm"] for r in refusals], [f"vm{i % 10}" for i in range(total - 1, total - 1 - KEPT, -1)]
        )
        self.assertEqual(len({r["id"] for r in refusals}), KEPT)
        times = [r["whenUSec"] for r in refusals]
        self.assertEqual(times, sorted(times, reverse=True))
        one = client.call("ListRefusals", vm="vm3")["refusals"]
        self.assertEqual(one, [r for r in refusals if r["vm"] == "vm3"])
        self.assertEqual(client.call("ListRefusals", vm="vm3", limit=5)["refusals"], one[:5])
        self.assertEqual(client.call("ListRefusals", limit=1)["refusals"], refusals[:1])
        self.assertEqual(client.call("ListRefusals", limit=2**40)["refusals"], refusals)
        self.assertEqual(client.call("ListRefusals", vm="none")["refusals"], [])
        self.invalid("limit", client, "ListRefusals", limit=-1)


if __name__ == "__main__":
    harness.main()
