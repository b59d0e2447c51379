# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases whose files cannot be written or removed: what fails has not happened, what cannot fail happens all the same,
nobody else is affected, and when that is over nothing is left of it."""

import contextlib
import pathlib
import subprocess

import faults
import harness
import lease_file
from wire import VarlinkError

ADMIN = harness.ADMIN
ENOSPC, EROFS = 28, 30
LEASES = "spe-broker/leases"
# The steps of a file that is written, and what each can say.
STEPS = [
    ("openat", f"{LEASES}/.", "ENOSPC"),
    ("openat", f"{LEASES}/.", "EMFILE"),
    ("write", f"{LEASES}/.", "ENOSPC"),
    ("write", f"{LEASES}/.", "EDQUOT"),
    ("fchmod", f"{LEASES}/.", "EROFS"),
    ("renameat", LEASES, "ENOSPC"),
    ("renameat", LEASES, "EIO"),
]
SAID = "cannot be written"
SAID_AGAIN = "can be written again"


def request(**kwargs):
    return {"vm": "vm", "vcpus": 1, "bufferSize": 65536} | kwargs


class TestCase(harness.TestCase):
    def faulty(self, **kwargs):
        broker = self.new_broker(**kwargs)
        injected = faults.Faults(broker)
        broker.start()
        return broker, injected

    def files(self, broker):
        """All that is in the directory, with what it says."""
        return {p.name: p.read_bytes() for p in pathlib.Path(broker.root, lease_file.DIRECTORY).iterdir()}

    def assert_fails(self, code, call, method, parameters=None, **kwargs):
        with self.assertRaises(VarlinkError) as caught:
            call(method, parameters, **kwargs)
        self.assertEqual((caught.exception.name, caught.exception.parameters), ("io.systemd.System", {"errno": code}))

    def said(self, broker):
        log = broker.read_log()
        return log.count(SAID), log.count(SAID_AGAIN)


class TestSteps(TestCase):
    """Each step of a write, by itself."""

    def test_grant(self):
        broker, injected = self.faulty()
        client = self.client(broker)
        other = self.client(broker).call("Acquire", request=request(vm="other", cpus="4"))["lease"]
        watch = self.client(broker).stream("Watch")
        watch.next()
        client.call("Query", request=request())  # its peer is known now
        files, descriptors = self.files(broker), faults.descriptors(broker)
        for call, text, error in STEPS:
            with self.subTest(call=call, error=error):
                with injected.injected(f"{call}:{text}:*:{error}"):
                    self.assert_fails(faults.number(error), client.call, "Acquire",
                                      request=request(cpus="0-3", mode="exclusive", requestId="r"))
                self.assertEqual(self.files(broker), files)
                self.assertEqual([l["leaseId"] for l in broker.call("ListLeases")["leases"]], [other["leaseId"]])
                self.assertEqual(broker.call("Describe")["host"]["charge"], other["charge"])
                self.assertEqual(broker.instance("arm_spe_0")["leasedCpus"], "")
        faults.wait_for_descriptors(broker, descriptors)
        self.assertEqual(broker.counters()["leases-granted"], 1)
        lease = client.call("Acquire", request=request(cpus="0-3", mode="exclusive", requestId="r"))["lease"]
        told = watch.until(lambda reply: reply["event"].get("lease"))["event"]
        self.assertEqual((told["lease"]["change"], told["lease"]["lease"]["leaseId"]), ("granted", lease["leaseId"]))
        self.assertEqual(set(self.files(broker)), {other["leaseId"], lease["leaseId"]})
        self.assertEqual(self.said(broker), (1, 1))

    def test_half_a_write(self):
        """A write that takes only a part goes on; one that then fails leaves nothing."""
        broker, injected = self.faulty()
        client = self.client(broker)
        with injected.injected(f"write:{LEASES}/.:*:short"):
            lease = client.call("Acquire", request=request())["lease"]
            self.assertGreater(len(injected.fired()), 5)
        self.assertEqual(lease_file.read(lease_file.paths(broker.root)[lease["leaseId"]])["lease"]["state"], "granted")
        files = self.files(broker)
        with injected.injected(f"write:{LEASES}/.:1:short", f"write:{LEASES}/.:2:ENOSPC"):
            self.assert_fails(ENOSPC, client.call, "Acquire", request=request())
        self.assertEqual(self.files(broker), files)

    def test_update(self):
        broker, injected = self.faulty()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="0-2", mode="exclusive"))["lease"]
        stream = self.client(broker).stream("Follow", leaseId=lease["leaseId"])
        stream.next()
        files = self.files(broker)
        for call, text, error in STEPS:
            with self.subTest(call=call, error=error):
                with injected.injected(f"{call}:{text}:*:{error}"):
                    self.assert_fails(faults.number(error), client.call, "Update", leaseId=lease["leaseId"], cpus="1-3")
                self.assertEqual(self.files(broker), files)
                self.assertEqual(broker.lease(lease["leaseId"]), lease)
                self.assertEqual(broker.instance("arm_spe_0")["leasedCpus"], "0-2")
                # CPU 3 is not taken, CPU 0 not free.
                other = client.call("Acquire", request=request(cpus="3", mode="exclusive"))["lease"]
                self.refused("Busy", client, "Acquire", request=request(cpus="0", mode="exclusive"))
                client.call("Release", leaseId=other["leaseId"])
        client.call("Update", leaseId=lease["leaseId"], cpus="1-3")
        self.assertEqual(stream.change("updated")["lease"]["cpus"], "1-3")
        self.assertEqual(broker.instance("arm_spe_0")["leasedCpus"], "1-3")

    def test_waiter(self):
        """Its turn comes when it cannot be written: it goes on waiting, for as long as it wanted."""
        for wait, granted in ((harness.DEADLINE, True), (3, False)):
            with self.subTest(granted=granted):
                broker, injected = self.faulty()
                client, waiter = self.client(broker), self.client(broker)
                holder = client.call("Acquire", request=request(cpus="0", mode="exclusive"))["lease"]
                waiter.send("Acquire", {"request": request(cpus="0", mode="exclusive"), "waitUSec": int(wait * 1e6)})
                harness.wait_for(lambda: client.call("Describe")["host"]["counts"]["waiting"], "it waits")
                with injected.injected(f"renameat:{LEASES}:*:ENOSPC"):
                    client.call("Release", leaseId=holder["leaseId"])
                    harness.wait_for(lambda: len(injected.fired()) >= 3, "it is tried again and again")
                    if not granted:
                        with self.assertRaises(VarlinkError) as caught:
                            waiter.receive()
                        self.assertEqual(caught.exception.parameters, {"errno": ENOSPC})
                if granted:
                    lease = waiter.receive()[0]["lease"]
                    self.assertEqual(set(self.files(broker)), {lease["leaseId"]})
                    client.call("Release", leaseId=lease["leaseId"])
                self.assertEqual(self.files(broker), {})
                self.assert_idle(broker)
                self.assertEqual(self.said(broker)[0], 1)


class TestEnds(TestCase):
    """What cannot be refused: releases, deaths, revocations."""

    def test_release(self):
        """A file that cannot be removed: the lease has ended; until it is gone there is no other."""
        for error in ("EROFS", "EIO", "EACCES"):
            with self.subTest(error):
                broker, injected = self.faulty()
                client = self.client(broker)
                lease = client.call("Acquire", request=request(cpus="0-3", mode="exclusive"))["lease"]
                with injected.injected(f"unlinkat:{LEASES}:*:{error}"):
                    client.call("Release", leaseId=lease["leaseId"])
                    self.assert_idle(broker)
                    self.assert_fails(faults.number(error), client.call, "Acquire", request=request(vm="other"))
                    self.assertEqual(set(self.files(broker)), {lease["leaseId"]})
                    self.assert_idle(broker)
                harness.wait_for(lambda: not self.files(broker), "it is removed by itself")
                client.call("Acquire", request=request(vm="other", cpus="0", mode="exclusive"))
                self.assertEqual(self.said(broker), (1, 1))

    def test_deaths(self):
        broker, injected = self.faulty()
        vmms = [self.vmm() for _ in range(5)]
        for vmm in vmms:
            broker.call("Acquire", request=request(pid=vmm.pid))
        with injected.injected(f"unlinkat:{LEASES}:*:EROFS"):
            for vmm in vmms:
                vmm.kill()
            harness.wait_for(lambda: not broker.call("ListLeases")["leases"], "they end")
            self.assert_idle(broker)
            self.assertEqual(len(self.files(broker)), 5)
        harness.wait_for(lambda: not self.files(broker), "they are removed by themselves")
        self.assertEqual(self.said(broker), (1, 1))

    def test_revoke(self):
        """It is revoked all the same; that is on record as soon as it can be."""
        broker, injected = self.faulty()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="0-1"))["lease"]
        kept = client.call("Acquire", request=request(cpus="4", vm="other"))["lease"]
        path = lease_file.paths(broker.root)[lease["leaseId"]]
        other = lease_file.paths(broker.root)[kept["leaseId"]].read_bytes()
        with injected.injected(f"renameat:{LEASES}:*:ENOSPC"):
            client.call(ADMIN + "Revoke", {"leaseId": lease["leaseId"], "graceUSec": 3600 * 10**6, "reason": "x"})
            self.assertEqual(broker.lease(lease["leaseId"])["state"], "revoking")
            self.assertEqual(lease_file.read(path)["lease"]["state"], "granted")
            self.assert_fails(ENOSPC, client.call, "Acquire", request=request(cpus="5"))
        harness.wait_for(lambda: lease_file.read(path)["lease"]["state"] == "revoking", "it is put on record by itself")
        self.assertEqual(lease_file.paths(broker.root)[kept["leaseId"]].read_bytes(), other)
        client.call("Acquire", request=request(cpus="5"))
        self.assertEqual(self.said(broker), (1, 1))

    def test_assigned_away(self):
        """A lease shrinks; its CPUs are nobody's as long as the file says that they are its own."""
        broker, injected = self.faulty()
        client = self.client(broker)
        lease = client.call("Acquire", request=request(cpus="0-2", mode="exclusive"))["lease"]
        with injected.injected(f"renameat:{LEASES}:*:ENOSPC"):
            client.call(ADMIN + "Assign", {"cpus": "0", "owner": "guest", "vm": "other"})
            harness.wait_for(lambda: broker.lease(lease["leaseId"])["cpus"] == "1-2", "it shrinks")
            self.assert_fails(ENOSPC, client.call, "Acquire", request=request(vm="other", cpus="0"))
        granted = client.call("Acquire", request=request(vm="other", cpus="0"))["lease"]
        said = {i: lease_file.read(p)["lease"]["cpus"] for i, p in lease_file.paths(broker.root).items()}
        self.assertEqual(said, {lease["leaseId"]: "1-2", granted["leaseId"]: "0"})


class TestFileSystem(TestCase):
    """Nothing injected: a file system that is really full, or read-only."""

    def on_tmpfs(self, options):
        broker = self.new_broker()
        run = broker.root / "run"
        run.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(run)], capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f"nothing can be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(run)], check=True)
        self.addCleanup(broker.stop)
        return broker.start(), run

    def fill(self, run):
        """Until not a byte more fits."""
        with contextlib.suppress(OSError), open(run / "junk", "wb", buffering=0) as junk:
            while junk.write(bytes(4096)):
                pass

    def live(self, broker, run, make_full, make_room, code):
        client = self.client(broker)
        kept, ending = (client.call("Acquire", request=request(cpus=cpu))["lease"] for cpu in ("4", "5"))
        before = broker.lease(kept["leaseId"])
        make_full()
        for _ in range(3):
            self.assert_fails(code, client.call, "Acquire", request=request(cpus="6"))
            self.assert_fails(code, client.call, "Update", leaseId=kept["leaseId"], cpus="7")
        self.assertEqual(broker.lease(kept["leaseId"]), before)
        client.call("Release", leaseId=ending["leaseId"])
        self.assertIsNone(broker.lease(ending["leaseId"]))
        client.call("Query", request=request(cpus="6"))
        self.assertEqual([p.name for p in pathlib.Path(run, LEASES).iterdir() if p.name.startswith(".")], [])
        make_room()
        client.call("Acquire", request=request(cpus="6"))
        client.call("Update", leaseId=kept["leaseId"], cpus="7")
        self.assertEqual(len(self.files(broker)), 2)
        self.assertLessEqual(self.said(broker)[0], 1)
        # And it is all there for the next one.
        leases = broker.call("ListLeases")["leases"]
        broker.kill()
        broker.start()
        self.assertEqual(broker.call("ListLeases")["leases"], leases)

    def test_no_room(self):
        broker, run = self.on_tmpfs("size=64k")
        self.live(broker, run, lambda: self.fill(run), (run / "junk").unlink, ENOSPC)

    def test_no_inode(self):
        broker, run = self.on_tmpfs("nr_inodes=32")

        def take_all():
            with contextlib.suppress(OSError):
                for i in range(64):
                    (run / f"junk{i}").touch()

        def give_all():
            for path in run.glob("junk*"):
                path.unlink()

        self.live(broker, run, take_all, give_all, ENOSPC)

    def test_read_only(self):
        broker, run = self.on_tmpfs("size=1m")

        def remount(how):
            subprocess.run(["mount", "-o", f"remount,{how}", str(run)], check=True)

        self.live(broker, run, lambda: remount("ro"), lambda: remount("rw"), EROFS)


if __name__ == "__main__":
    harness.main()
