#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.varlink.certification: our service and our client against those of varlink-go, and against each other.

Builds varlink-go's program offline, from the sources that Debian's golang-github-varlink-go-dev installs."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

GOPATH = pathlib.Path("/usr/share/gocode")
PACKAGE = "github.com/varlink/go/cmd/varlink-go-certification"
IDL = GOPATH / "src" / PACKAGE / "orgvarlinkcertification/org.varlink.certification.varlink"
OURS = os.environ.get("CERTIFICATION", "")
BUILD = pathlib.Path(os.environ.get("CERTIFICATION_BUILD", "."))
DEADLINE = 30
SKIP = 77


def build_go():
    program = BUILD / "varlink-go-certification"
    environment = os.environ | {"GOPATH": str(GOPATH), "GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off",
                                "GOCACHE": str(BUILD / "go-cache")}
    subprocess.run(["go", "build", "-o", str(program), PACKAGE], env=environment, check=True)
    return str(program)


def connect(path):
    """Waits until somebody listens at path: neither service says when it does."""
    deadline = time.monotonic() + DEADLINE
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE)
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            select.select([], [], [], 0.01)


def call(connection, method, **parameters):
    connection.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
    message = b""
    while not message.endswith(b"\0"):
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"{method}: closed after {message!r}")
        message += piece
    return json.loads(message[:-1])


class Certification(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.go = build_go()

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="certification-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "socket")

    @contextlib.contextmanager
    def service(self, *command):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            connect(self.path).close()
            yield
            self.assertIsNone(process.poll(), "the service ended by itself")
        finally:
            process.terminate()
            stderr = process.communicate(timeout=DEADLINE)[1]
        self.assertNotRegex(stderr, rb"Sanitizer|runtime error|panic")

    def our_service(self):
        return self.service(OURS, "serve", self.path, str(IDL))

    def run_client(self, *command):
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)

    def test_our_service_their_client(self):
        with self.our_service():
            result = self.run_client(self.go, "-client", "-varlink", "unix:" + self.path)
        self.assertIn("Test10: '[Reply number 1 Reply number 2", result.stdout, result.stdout)
        self.assertIn("End: 'true'", result.stdout, result.stdout)

    def test_their_service_our_client(self):
        with self.service(self.go, "-varlink", "unix:" + self.path):
            result = self.run_client(OURS, "call", self.path)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_our_service_our_client(self):
        with self.our_service():
            for _ in range(3):
                result = self.run_client(OURS, "call", self.path)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_our_service_notices(self):
        """That it says yes to the others means something only if it can say no."""
        with self.our_service(), connect(self.path) as connection:
            prefix = "org.varlink.certification."
            client = call(connection, prefix + "Start")["parameters"]["client_id"]
            reply = call(connection, prefix + "Test01", client_id="nobody")
            self.assertEqual(reply, {"error": prefix + "ClientIdError"})
            self.assertEqual(call(connection, prefix + "Test01", client_id=client), {"parameters": {"bool": True}})
            reply = call(connection, prefix + "Test02", client_id=client, bool=False)
            self.assertEqual(reply["error"], prefix + "CertificationError")
            self.assertEqual(reply["parameters"]["wants"], {"bool": True})
            reply = call(connection, prefix + "Test03", client_id=client, int=1)
            self.assertEqual(reply["error"], prefix + "CertificationError")
            reply = call(connection, prefix + "End", client_id=client)
            self.assertEqual(reply["error"], prefix + "CertificationError")


if __name__ == "__main__":
    if not shutil.which("go"):
        print("skipped: no Go compiler")
        sys.exit(SKIP)
    if not IDL.exists():
        print("skipped: golang-github-varlink-go-dev is not installed")
        sys.exit(SKIP)
    unittest.main(verbosity=2)
