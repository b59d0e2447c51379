# SPDX-License-Identifier: LGPL-2.1-or-later
"""ListRefusals: what was refused, newest first, a bounded number of them."""

import time

import harness
from journal import Journal
from sizes import MIB
from wire import encode

KEPT = 1024
NOT_GRANTED = "6ba63443ef394e578149b8dbd0a6cb49"


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

    def test_users(self):
        """Who is refused in a loop pushes out nobody else's refusals, but uses all the room that nobody else needs."""
        broker = self.broker(config="[Policy]\nAcquireGroup=4321\n")
        _, quiet = self.vmm(broker, uid=1000, groups=[4321])
        _, noisy = self.vmm(broker, uid=1001, groups=[4321])
        for cpus in ("3-4", "0-11"):
            self.refused("NoInstanceForCpus", quiet, "Acquire", request=request(vm="quiet", cpus=cpus))
        for _ in range(KEPT // 64 + 2):
            noisy.send_bytes(encode("Acquire", {"request": request(vm="noisy", instance="arm_spe_9")}) * 64)
            for _ in range(64):
                self.assertEqual(noisy.receive_message()["error"], "io.spebroker.Broker.NoSuchInstance")
        refusals = broker.call("ListRefusals")["refusals"]
        self.assertEqual([r["uid"] for r in refusals], [1001] * (KEPT - 2) + [1000] * 2)
        self.assertEqual([r["cpus"] for r in refusals[-2:]], ["0-11", "3-4"])

    def test_one_line(self):
        """What a client says is not put into the log if it would not stay one line there."""
        broker = self.broker()
        self.invalid("instance", self.client(broker), "Acquire", request=request(instance="a\nspe-broker: b"))


class TestJournal(harness.TestCase):
    def setUp(self):
        self.daemon = self.new_broker(config="[Policy]\nAcquireGroup=4321\n[Limits]\nMaxLeasesPerUser=1\n")
        self.journal = Journal(self.daemon)
        self.addCleanup(self.journal.close)
        self.daemon.start()
        self.process, self.vmm_client = self.vmm(self.daemon, uid=1000, groups=[4321])

    def refuse(self, error, **kwargs):
        """The refusal as listed, once it has been answered."""
        self.refused(error, self.vmm_client, "Acquire", request=request(**kwargs))
        return self.daemon.call("ListRefusals", limit=1)["refusals"][0]

    def test_fields(self):
        held = self.daemon.call("Acquire", request=request(cpus="0", mode="exclusive", vm="holder"))["lease"]
        refusal = self.refuse("Busy", cpus="0-1", vm="web ä")
        entry = self.journal.wait(NOT_GRANTED)
        text = entry.pop("MESSAGE")
        self.assertEqual(text, f"VM web ä (pid {self.process.pid}) was refused with Busy: {refusal['message']}")
        self.assertEqual(entry, {
            "MESSAGE_ID": NOT_GRANTED, "PRIORITY": "5", "SYSLOG_IDENTIFIER": "spe-broker",
            "SPE_BROKER_REFUSAL": refusal["id"], "SPE_BROKER_ERROR": "io.spebroker.Broker.Busy",
            "SPE_BROKER_VM": "web ä", "SPE_BROKER_OWNER_PID": str(self.process.pid), "SPE_BROKER_OWNER_UID": "1000",
            "SPE_BROKER_LEASE": held["leaseId"]})

    def test_limit(self):
        self.vmm_client.call("Acquire", request=request(cpus="0"))
        refusal = self.refuse("LimitExceeded", cpus="1")
        entry = self.journal.wait(NOT_GRANTED)
        self.assertEqual((entry["SPE_BROKER_LIMIT"], entry["SPE_BROKER_REFUSAL"]), ("MaxLeasesPerUser", refusal["id"]))

    def test_waited(self):
        """The 'no' at the end of a wait, too, and of an Update; and none where there is no 'no'."""
        held = self.daemon.call("Acquire", request=request(cpus="0", mode="exclusive", vm="holder"))["lease"]
        self.vmm_client.send("Acquire", {"request": request(cpus="0", vm="patient"), "waitUSec": 20_000})
        with self.assertRaises(harness.VarlinkError):
            self.vmm_client.receive()
        self.assertEqual(self.journal.wait(NOT_GRANTED)["SPE_BROKER_VM"], "patient")
        lease = self.vmm_client.call("Acquire", request=request(cpus="1", vm="mover"))["lease"]
        self.refused("Busy", self.vmm_client, "Update", leaseId=lease["leaseId"], cpus="0")
        self.assertEqual(self.journal.wait(NOT_GRANTED, 2)["SPE_BROKER_VM"], "mover")
        self.vmm_client.call("Query", request=request(cpus="0"))
        self.daemon.call("Release", leaseId=held["leaseId"])
        self.vmm_client.call("Update", leaseId=lease["leaseId"], cpus="0")
        self.journal.wait(NOT_GRANTED, 2)

    def test_flood(self):
        """A few lines, however often it asks; another VM's refusal is there all the same."""
        for _ in range(100):
            self.refuse("NoSuchInstance", vm="noisy", instance="arm_spe_9")
        self.refuse("NoSuchInstance", vm="other", instance="arm_spe_9")
        entries = harness.wait_for(lambda: [e["SPE_BROKER_VM"] for e in self.journal.of(NOT_GRANTED)][-1:] == ["other"]
                                   and self.journal.of(NOT_GRANTED), "the other VM's")
        self.assertEqual([e["SPE_BROKER_VM"] for e in entries], ["noisy"] * 5 + ["other"])


if __name__ == "__main__":
    harness.main()
