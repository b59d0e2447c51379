# SPDX-License-Identifier: LGPL-2.1-or-later
"""The wire: framing, flags, malformed input, pipelining, limits; nobody's bytes harm anybody else."""

import json
import os
import random
import socket
import time

import harness
from wire import SOURCE, Client, Closed, encode

PING = encode("org.varlink.service.GetInfo")
REQUEST = {"vm": "vm", "vcpus": 1}
HEAD = b'{"method":"org.varlink.service.GetInfo"'

MALFORMED = {
    "empty message": b"\0",
    "white space": b"  \0",
    "text": b"hello\0",
    "number": b"5\0",
    "null": b"null\0",
    "array": b"[]\0",
    "string": b'"x"\0',
    "cut": HEAD + b"\0",
    "trailing bytes": HEAD + b"}x\0",
    "two objects": HEAD + b"}{}\0",
    "no method": b"{}\0",
    "method null": b'{"method":null}\0',
    "method number": b'{"method":5}\0',
    "parameters array": HEAD + b',"parameters":[]}\0',
    "parameters string": HEAD + b',"parameters":"x"}\0',
    "parameters number": HEAD + b',"parameters":1}\0',
    "parameters bool": HEAD + b',"parameters":false}\0',
    "more string": HEAD + b',"more":"yes"}\0',
    "more number": HEAD + b',"more":1}\0',
    "oneway string": HEAD + b',"oneway":"no"}\0',
    "upgrade number": HEAD + b',"upgrade":0}\0',
    "more and oneway": HEAD + b',"more":true,"oneway":true}\0',
    "more and upgrade": HEAD + b',"more":true,"upgrade":true}\0',
    "unknown member": HEAD + b',"bogus":1}\0',
    "reply member": HEAD + b',"continues":true}\0',
    "duplicate method": HEAD + b',"method":"org.varlink.service.GetInfo"}\0',
    "duplicate parameter": b'{"method":"org.varlink.service.GetInterfaceDescription","parameters":'
    b'{"interface":"a","interface":"b"}}\0',
    "duplicate escaped": HEAD + b',"\\u006dethod":"x"}\0',
    "single quotes": b"{'method':'org.varlink.service.GetInfo'}\0",
    "comment": HEAD + b"/* x */}\0",
    "trailing comma": HEAD + b",}\0",
    "True": HEAD + b',"more":True}\0',
    "NaN": HEAD + b',"parameters":{"x":NaN}}\0',
    "Infinity": HEAD + b',"parameters":{"x":Infinity}}\0',
    "leading zero": HEAD + b',"parameters":{"x":01}}\0',
    "plus": HEAD + b',"parameters":{"x":+1}}\0',
    "bare point": HEAD + b',"parameters":{"x":5.}}\0',
    "bare exponent": HEAD + b',"parameters":{"x":1e}}\0',
    "above int64": HEAD + b',"parameters":{"x":9223372036854775808}}\0',
    "below int64": HEAD + b',"parameters":{"x":-9223372036854775809}}\0',
    "30 digits": HEAD + b',"parameters":{"x":' + b"9" * 30 + b"}}\0",
    "1e999": HEAD + b',"parameters":{"x":1e999}}\0',
    "control character": HEAD + b',"parameters":{"x":"a\nb"}}\0',
    "escaped NUL": HEAD + b',"parameters":{"x":"a\\u0000b"}}\0',
    "escaped NUL in a key": HEAD + b',"parameters":{"interface\\u0000x":"b"}}\0',
    "lone surrogate": HEAD + b',"parameters":{"x":"\\ud800"}}\0',
    "swapped surrogates": HEAD + b',"parameters":{"x":"\\udc00\\ud800"}}\0',
    "bad escape": HEAD + b',"parameters":{"x":"\\x41"}}\0',
    "overlong UTF-8": HEAD + b',"parameters":{"x":"\xc0\x80"}}\0',
    "surrogate UTF-8": HEAD + b',"parameters":{"x":"\xed\xa0\x80"}}\0',
    "above 10FFFF": HEAD + b',"parameters":{"x":"\xf5\x90\x80\x80"}}\0',
    "cut UTF-8": HEAD + b',"parameters":{"x":"\xe2\x82"}}\0',
    "Latin-1": HEAD + b',"parameters":{"x":"\xe9"}}\0',
    "byte order mark": b"\xef\xbb\xbf" + HEAD + b"}\0",
    "form feed": b"\x0c" + HEAD + b"}\0",
    "deep arrays": HEAD + b',"parameters":{"x":' + b"[" * 100000 + b"]" * 100000 + b"}}\0",
    "deep objects": b'{"a":' * 50000 + b"1" + b"}" * 50000 + b"\0",
    "open arrays": b"[" * 100000 + b"\0",
}

FINE = {
    "plain": HEAD + b"}\0",
    "no parameters": HEAD + b',"parameters":{}}\0',
    "null parameters": HEAD + b',"parameters":null}\0',
    "white space": b' \t\r\n{ "method" : "org.varlink.service.GetInfo" }\n\0',
    "escaped": b'{"\\u006dethod":"org\\u002evarlink.service.GetInfo"}\0',
    "flags false": HEAD + b',"more":false,"oneway":false,"upgrade":false}\0',
    "flags null": HEAD + b',"more":null,"oneway":null,"upgrade":null}\0',
    "more, where one reply is all": HEAD + b',"more":true}\0',
    "vendor member": HEAD + b',"org.example.trace":{"x":[1,2,{"y":null}]}}\0',
}


class TestMalformed(harness.TestCase):
    def test_closed_without_a_word(self):
        """Each closes its own connection, and nothing else happens."""
        broker = self.broker()
        witness = self.client(broker)
        for name, data in MALFORMED.items():
            with self.subTest(name):
                client = self.client(broker)
                client.send_bytes(PING)
                client.receive_message()
                client.send_bytes(data)
                self.assertTrue(client.is_closed(), "a reply instead of a close")
                witness.send_bytes(PING)
                self.assertNotIn("error", witness.receive_message())

    def test_fine(self):
        """The allowed twins."""
        client = self.client(self.broker())
        for name, data in FINE.items():
            with self.subTest(name):
                client.send_bytes(data)
                self.assertEqual(client.receive_message()["parameters"]["product"], "spe-broker")

    def test_replies_before_the_fault_arrive(self):
        client = self.client(self.broker())
        client.send_bytes(PING * 3 + b"garbage\0" + PING)
        for _ in range(3):
            self.assertIn("parameters", client.receive_message())
        self.assertTrue(client.is_closed())

    def test_malformed_behind_a_stream(self):
        """What follows a stream is looked at when its turn comes, or the connection is closed; nobody
        hangs."""
        broker = self.broker()
        client = self.client(broker)
        client.stream("Watch").next()
        client.send_bytes(b"garbage\0")
        broker.call("Describe")

    def test_numbers(self):
        """The ends of int64 are numbers; a float is no int, however whole."""
        client = self.client(self.broker())
        for text, error in (
            ("9223372036854775807", None),
            ("2.0", "InvalidParameter"),
            ("2e0", "InvalidParameter"),
            ('"2"', "InvalidParameter"),
            ("-9223372036854775808", "InvalidParameter"),
        ):
            with self.subTest(text):
                client.send_bytes(
                    b'{"method":"io.spebroker.Broker.ListRefusals","parameters":{"limit":'
                    + text.encode()
                    + b"}}\0"
                )
                message = client.receive_message()
                self.assertEqual(message.get("error", "").rpartition(".")[2] or None, error, message)

    def test_generated(self):
        """Mutations of a good call: an answer or a close, never a hang and never a crash."""
        seed = int(os.environ.get("SPE_SEED", "1"))
        rng = random.Random(seed)
        good = [
            encode(
                "Acquire",
                {"request": REQUEST | {"cpus": "0-3", "bufferSize": 4096, "mode": "shared"}, "waitUSec": 0},
            ),
            encode("Assign", {"cpus": "4", "owner": "guest", "vm": "x", "runtime": True}),
            PING,
            encode("ListRefusals", {"limit": 5}),
            encode("Query", {"request": REQUEST}),
        ]
        broker = self.broker()
        witness = self.client(broker)
        for i in range(400):
            data = bytearray(rng.choice(good)[:-1])
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                choice = rng.randrange(4)
                if choice == 0:
                    data[at] = rng.randrange(1, 256)
                elif choice == 1:
                    del data[at : at + rng.randrange(1, 8)]
                elif choice == 2:
                    data[at:at] = rng.choice(
                        [b'"', b"{", b"}", b"[", b",", b":", b"\\", b"9" * 25, b"\xff", b"null"]
                    )
                else:
                    data[at:at] = data[at : at + 10]
                data = data or bytearray(b" ")
            with self.subTest(f"seed {seed}, case {i}: {bytes(data)!r}"):
                client = broker.connect()
                client.send_bytes(bytes(data).replace(b"\0", b"") + b"\0")
                try:
                    message = client.receive_message()
                    self.assertLessEqual(set(message), {"parameters", "error"})
                except Closed:
                    pass
                client.close()
        witness.call("Describe")


class TestFraming(harness.TestCase):
    def test_split(self):
        """A byte at a time."""
        client = self.client(self.broker())
        for byte in PING + PING:
            client.send_bytes(bytes([byte]))
        for _ in range(2):
            self.assertIn("parameters", client.receive_message())

    def test_coalesced_and_cut(self):
        client = self.client(self.broker())
        data = PING * 10
        client.send_bytes(data[:-5])
        for _ in range(9):
            client.receive_message()
        client.send_bytes(data[-5:] + PING[:7])
        client.receive_message()
        client.send_bytes(PING[7:])
        client.receive_message()

    def test_pipelined(self):
        """A thousand calls in one write: answered in order."""
        client = self.client(self.broker())
        names = ["io.spebroker.Broker", "io.spebroker.Admin", "org.varlink.service"]
        client.send_bytes(
            b"".join(
                encode("org.varlink.service.GetInterfaceDescription", {"interface": names[i % 3]})
                if i % 7
                else encode("ListLeases")
                for i in range(1000)
            )
        )
        for i in range(1000):
            parameters = client.receive_message()["parameters"]
            if i % 7:
                self.assertTrue(f"interface {names[i % 3]}" in parameters["description"], i)
            else:
                self.assertEqual(parameters, {"leases": []})

    def test_pipelined_with_effect(self):
        broker = self.broker()
        client = self.client(broker)
        client.send_bytes(encode("Acquire", {"request": REQUEST | {"bufferSize": 4096}}) * 1000)
        ids = {client.receive_message()["parameters"]["lease"]["leaseId"] for _ in range(1000)}
        self.assertEqual(len(ids), 1000)
        client.send_bytes(b"".join(encode("Release", {"leaseId": i}) for i in ids))
        for _ in ids:
            self.assertNotIn("error", client.receive_message())
        self.assert_idle(broker)

    def test_half_close(self):
        """Everything received before the end is answered."""
        client = self.client(self.broker())
        client.send_bytes(PING * 500)
        client.socket.shutdown(socket.SHUT_WR)
        for _ in range(500):
            client.receive_message()
        self.assertTrue(client.is_closed())

    def test_oneway(self):
        """No reply at all, not even an error."""
        broker = self.broker()
        client = self.client(broker)
        client.oneway("Describe")
        client.oneway("Acquire", request=REQUEST)
        client.oneway("Acquire", request={"vm": 5})
        client.oneway("Acquire", request=REQUEST | {"instance": "arm_spe_9"})
        client.oneway("org.varlink.service.NoSuchMethod")
        client.oneway("Follow", leaseId="0")
        self.assertEqual([l["vm"] for l in client.call("ListLeases")["leases"]], ["vm"])

    def test_large_message(self):
        """Large but within bounds is answered; without end is not kept."""
        broker = self.broker()
        client = self.client(broker)
        client.send("ListLeases", {"vm": "x" * 500_000})
        self.assertEqual(client.receive()[0]["leases"], [])
        client = self.client(broker)
        with self.assertRaises(Closed):
            for _ in range(64):
                client.send_bytes(b"x" * (1 << 20))
            client.receive_message()

    def test_nul_flood(self):
        broker = self.broker()
        client = self.client(broker)
        with self.assertRaises(Closed):
            for _ in range(64):
                client.send_bytes(b"\0" * (1 << 20))
            client.receive_message()
        broker.call("Describe")

    def test_reset(self):
        """Peers that vanish at any point of a call."""
        broker = self.broker()
        for data in (
            b"",
            PING[:9],
            PING,
            PING * 100,
            encode("Watch", more=True),
            encode("Acquire", {"request": REQUEST}, more=True),
        ):
            for _ in range(10):
                client = broker.connect()
                client.send_bytes(data)
                client.close()
        broker.call("Describe")
        harness.wait_for(
            lambda: broker.call("Describe")["host"]["counts"]["connections"] == 1, "they are gone"
        )
        self.assertEqual(broker.call("Describe")["host"]["counts"]["watchers"], 0)

    def test_descriptors_are_not_taken(self):
        """A peer that passes descriptors fills nobody's table: newer kernels tell it so at once."""
        broker = self.broker()
        client = self.client(broker)
        client.call("Describe")
        before = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
        for _ in range(50):
            try:
                socket.send_fds(client.socket, [PING], [0, 1, 2])
            except PermissionError:
                client.send_bytes(PING)
            client.receive_message()
        self.assertLessEqual(len(os.listdir(f"/proc/{broker.process.pid}/fd")), before)


class TestFairness(harness.TestCase):
    def test_slow_reader(self):
        """One that never reads its answers stalls nobody, and is not buffered without end."""
        broker = self.broker()
        slow = self.client(broker)
        slow.socket.setblocking(False)
        call = encode("org.varlink.service.GetInterfaceDescription", {"interface": "io.spebroker.Broker"})
        sent = 0
        for _ in range(200):
            try:
                sent += slow.socket.send(call * 100)
            except BlockingIOError:
                broker.call("Describe")
            except OSError:
                break
        self.assertGreater(sent, 0)
        for _ in range(20):
            broker.call("Describe")
        self.assertLess(broker.resident_kib(), 96 * 1024)

    def test_left_over_calls(self):
        """One that sends many calls and leaves: what it has sent is done, but others are served in
        between, not afterwards."""
        broker = self.broker()
        client = self.client(broker)
        client.call("Describe")
        flood = self.client(broker)
        flood.send_bytes(encode("Acquire", {"request": REQUEST | {"bufferSize": 4096}}) * 1000)
        flood.close()
        begin = time.monotonic()
        client.call("Describe")
        waited = time.monotonic() - begin
        harness.wait_for(lambda: client.call("Describe")["host"]["counts"]["connections"] == 1, "it is done")
        self.assertLess(waited, (time.monotonic() - begin) / 4)
        self.assertEqual(client.call("Describe")["host"]["counts"]["leases"], 1000)

    def test_half_messages(self):
        """Many that never finish a message."""
        broker = self.broker()
        clients = [self.client(broker) for _ in range(200)]
        for client in clients:
            client.send_bytes(PING[:-1])
        broker.call("Describe")
        for client in clients:
            client.send_bytes(PING[-1:])
        for client in clients:
            client.receive_message()

    def test_connections_per_user(self):
        broker = self.broker(config="[Policy]\nAcquireGroup=4321\n[Limits]\nMaxConnectionsPerUser=4\n")
        process = self.vmm(uid=1000)
        clients = []
        for _ in range(4):
            clients.append(process.connect(broker))
            self.addCleanup(clients[-1].close)
            clients[-1].call("Describe")
        with process.connect(broker) as client:
            self.assertTrue(client.is_closed())
        broker.call("Describe")
        self.vmm(broker, uid=1001)[1].call("Describe")
        clients.pop().close()

        def again():
            with process.connect(broker) as client:
                try:
                    return client.call("Describe")
                except Closed:
                    return None

        harness.wait_for(again, "a place is free again")

    def test_connections(self):
        broker = self.broker(config="[Limits]\nMaxConnections=8\n")
        clients = [self.client(broker) for _ in range(8)]
        for client in clients:
            client.call("Describe")
        over = self.client(broker)
        self.assertTrue(over.is_closed())
        for client in clients:
            client.call("Describe")

    def test_many_connections(self):
        broker = self.broker()
        clients = [self.client(broker) for _ in range(500)]
        for client in clients:
            client.send("Describe")
        for client in clients:
            client.receive()


class TestService(harness.TestCase):
    def test_info(self):
        info = self.client(self.broker()).call("org.varlink.service.GetInfo")
        self.assertEqual(
            sorted(info["interfaces"]), ["io.spebroker.Admin", "io.spebroker.Broker", "org.varlink.service"]
        )
        self.assertEqual(info["product"], "spe-broker")

    def test_descriptions(self):
        """Byte for byte what is installed."""
        client = self.client(self.broker())
        for name in ("io.spebroker.Broker", "io.spebroker.Admin"):
            text = client.call("org.varlink.service.GetInterfaceDescription", interface=name)["description"]
            self.assertEqual(text, (SOURCE / "idl" / f"{name}.varlink").read_text())
        text = client.call("org.varlink.service.GetInterfaceDescription", interface="org.varlink.service")[
            "description"
        ]
        for word in ("GetInfo", "GetInterfaceDescription", "InvalidParameter", "ExpectedMore"):
            self.assertIn(word, text)

    def test_unknown(self):
        client = self.client(self.broker())
        for method, error, field in (
            ("no.such.interface.Method", "InterfaceNotFound", {"interface": "no.such.interface"}),
            ("io.spebroker.Broker.Nope", "MethodNotFound", {"method": "io.spebroker.Broker.Nope"}),
            ("io.spebroker.Broker.acquire", "MethodNotFound", {"method": "io.spebroker.Broker.acquire"}),
        ):
            with self.subTest(method):
                answer = self.refused(harness.SERVICE + error, client, method)
                self.assertEqual(answer, field)
        answer = self.refused(
            harness.SERVICE + "InterfaceNotFound",
            client,
            "org.varlink.service.GetInterfaceDescription",
            interface="no.such",
        )
        self.assertEqual(answer, {"interface": "no.such"})
        self.invalid("interface", client, "org.varlink.service.GetInterfaceDescription")
        self.invalid("x", client, "org.varlink.service.GetInfo", x=1)

    def test_odd_method_names(self):
        """A name without a dot, or with nothing around it: refused or closed, never obeyed."""
        broker = self.broker()
        for method in (
            "",
            ".",
            "GetInfo",
            ".GetInfo",
            "org.varlink.service.",
            "org.varlink.service",
            "a" * 100000,
        ):
            with self.subTest(method[:30]):
                client = self.client(broker)
                client.send_bytes(json.dumps({"method": method}).encode() + b"\0")
                try:
                    self.assertIn("error", client.receive_message())
                except Closed:
                    pass

    def test_socket(self):
        """Anybody may connect; the registry leads to the socket."""
        broker = self.broker()
        self.assertEqual(broker.socket_path.stat().st_mode & 0o777, 0o666)
        link = broker.root / "run/varlink/registry/io.spebroker.Broker"
        with Client(link) as client:
            client.call("Describe")
        broker.stop()
        self.assertFalse(broker.socket_path.exists())

    def test_stale_socket(self):
        """After a crash the next start takes the path over."""
        broker = self.broker()
        broker.kill()
        self.assertTrue(broker.socket_path.exists())
        broker.start()
        broker.call("Describe")

    def test_activated(self):
        """systemd's way: the listening socket is inherited."""
        broker = self.new_broker()
        path = broker.root / "activated"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen(16)
        broker.socket_path = path
        broker.listener = listener
        broker.start()
        broker.call("Describe")


if __name__ == "__main__":
    harness.main()
