# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's varlinkctl against the daemon: each that tools/fetch-varlinkctl got, and the system's own."""

import glob
import json
import os
import shutil
import subprocess
import sys

import harness
from wire import ADMIN, BROKER

SOURCE = os.environ.get("SPE_SOURCE_DIR", ".")
PROGRAMS = sorted(glob.glob(os.path.join(glob.escape(SOURCE), "build/varlinkctl/*/varlinkctl")))
PROGRAMS += filter(None, [shutil.which("varlinkctl")])
INTERFACES = [BROKER.rstrip("."), ADMIN.rstrip(".")]


class Varlinkctl(harness.TestCase):
    def setUp(self):
        self.daemon = self.broker()
        self.address = str(self.daemon.socket_path)

    def run_each(self, *arguments, status=0):
        """Runs it once per varlinkctl there is; returns what each printed."""
        texts = []
        for program in PROGRAMS:
            done = subprocess.run([program, "--no-pager", *arguments], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
            self.assertEqual(done.returncode, status, f"{program} {arguments}: {done.stdout}{done.stderr}")
            texts.append(done.stdout)
        return texts

    def call(self, method, parameters, *options, status=0):
        """The replies that each printed."""
        texts = self.run_each(*options, "--json=short", "call", self.address, BROKER + method,
                              json.dumps(parameters), status=status)
        return [[parse(line) for line in text.split("\n") if line.strip()] for text in texts]

    def test_info(self):
        info = self.daemon.call("org.varlink.service.GetInfo")
        for text in self.run_each("--json=short", "info", self.address):
            self.assertEqual(json.loads(text), info)

    def test_list_interfaces(self):
        for text in self.run_each("list-interfaces", self.address):
            self.assertEqual(set(text.split()), {"org.varlink.service", *INTERFACES})

    def test_list_methods(self):
        wanted = {f"{i}.{m}" for i in INTERFACES for m in methods_of(i)}
        for text in self.run_each("list-methods", self.address):
            self.assertEqual({m for m in text.split() if not m.startswith("org.varlink.")}, wanted)

    def test_introspect(self):
        """It parses what we describe, and finds in it every declaration that the file has."""
        for interface in INTERFACES:
            for text in self.run_each("introspect", self.address, interface):
                self.assertIn(f"interface {interface}", text)
                for keyword, name in declarations(interface):
                    self.assertIn(f"{keyword} {name}", text)

    def test_validate_idl(self):
        """The files are in the subset that every parser has."""
        for interface in INTERFACES:
            self.run_each("validate-idl", os.path.join(SOURCE, "idl", interface + ".varlink"))

    def test_call(self):
        wanted = self.daemon.call("ListInstances")
        self.assertTrue(wanted["instances"])
        for replies in self.call("ListInstances", {}):
            self.assertEqual(replies, [wanted])

    def test_call_with_parameters(self):
        request = {"request": {"vm": "one", "vcpus": 2, "cpus": "0-1"}}
        for (reply,) in self.call("Query", request):
            self.assertIs(reply["decision"]["granted"], True)
            self.assertEqual(reply["decision"]["offer"]["cpus"], "0-1")

    def test_error(self):
        """The error's parameters are printed, and the exit status is 1."""
        for replies in self.call("Follow", {"leaseId": "0" * 32}, "--more", status=1):
            self.assertEqual(replies, [{"leaseId": "0" * 32}])
        for replies in self.call("Query", {"request": {"vcpus": 0}}, status=1):
            self.assertEqual(replies, [{"parameter": "vcpus"}])

    def test_stream(self):
        """A stream that ends: a lease whose owner is gone."""
        for program in PROGRAMS:
            with self.subTest(program=program):
                process, client = self.vmm(self.daemon)
                lease = client.call("Acquire", request={"vm": "one", "vcpus": 1})["lease"]
                follower = subprocess.Popen([program, "--more", "--json=short", "call", self.address,
                                             BROKER + "Follow", json.dumps({"leaseId": lease["leaseId"]})],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                self.addCleanup(follower.stdout.close)
                self.assertEqual(parse(follower.stdout.readline())["lease"]["state"], "granted")
                process.kill()
                self.assertEqual(parse(follower.stdout.readline())["change"], "ended")
                self.assertEqual(follower.wait(harness.DEADLINE), 0)


def parse(line):
    """One reply; those of a stream are a JSON text sequence (RFC 7464)."""
    return json.loads(line.lstrip("\x1e"))


def source_of(interface):
    with open(os.path.join(SOURCE, "idl", interface + ".varlink"), encoding="utf-8") as f:
        return f.read()


def declarations(interface):
    words = [line.replace("(", " ").split() for line in source_of(interface).splitlines()]
    return [(w[0], w[1]) for w in words if len(w) > 1 and w[0] in ("type", "method", "error")]


def methods_of(interface):
    return [name for keyword, name in declarations(interface) if keyword == "method"]


if __name__ == "__main__":
    if not PROGRAMS:
        print("no varlinkctl: tools/fetch-varlinkctl gets it")
        sys.exit(77)
    harness.main()
