# SPDX-License-Identifier: LGPL-2.1-or-later
"""A socket of a test's own, for what stands in a broker's place: a thread for each connection, and what goes wrong
there is told by close(), as a thread has nobody to raise it to."""

import contextlib
import socket
import threading


class Listener:
    """Listens at path. converse(connection) is the subclass's; after it the connection is closed."""

    def __init__(self, path):
        self.path = path
        self.threads, self.faults = [], []
        self.connections = set()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        self.connections.add(connection)
        with connection:
            try:
                self.converse(connection)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except Exception as fault:
                self.faults.append(fault)
            finally:
                self.connections.discard(connection)

    @staticmethod
    def messages(connection):
        """Those that come, until it ends."""
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
            while b"\0" in data:
                message, _, data = data.partition(b"\0")
                yield message

    def hang_up(self):
        """Closes the connections that there are; who connects again is served."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # it has just ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for thread in self.threads:
            thread.join()
        if self.faults:
            raise self.faults[0]
