# SPDX-License-Identifier: BUSL-1.1
"""A daemon's control socket and nothing behind it: the test gives the answers."""

import contextlib
import os
import queue
import socket
import threading

from mlos_core.errors import MlosError, Unavailable
from mlos_core.ipc import framing
from mlos_core.ipc.messages import Answer, Call, ClientMessage, Problem, Welcome

PATIENCE = 30.0


class ControlDaemon:
    """Welcomes everybody. What else is asked goes to `serve`, or waits in `asked`.

    `serve(method, params)` gives the result of a call, or raises an `MlosError`.
    """

    def __init__(self, path, serve=None):
        self.path = str(path)
        self.asked = queue.Queue()
        self.connections = []
        self._serve = serve
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            connection = framing.Connection(sock)
            connection.receive(PATIENCE)
            connection.send(Welcome(os.getpid(), "1.0"))
            self.connections.append(connection)
            thread = threading.Thread(target=self._read, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _read(self, connection):
        with contextlib.suppress(Unavailable):
            while True:
                body, fds = connection.receive(PATIENCE)
                framing.close_all(fds)
                message = framing.decode(body, ClientMessage)
                if self._serve is not None and isinstance(message, Call):
                    connection.send(self._answer(message))
                else:
                    self.asked.put(message)

    def _answer(self, call):
        try:
            return Answer(call.id, result=self._serve(call.method, call.params))
        except MlosError as error:
            return Answer(call.id, problem=Problem(error.code, error.message, error.hint))

    def next(self, kind):
        """The next message, which is of that kind."""
        message = self.asked.get(timeout=PATIENCE)
        assert isinstance(message, kind), message
        return message

    def send(self, message, fds=()):
        """To the newest connection."""
        self.connections[-1].send(message, fds)

    def hang_up(self):
        """Close the newest connection."""
        self.connections[-1].sock.shutdown(socket.SHUT_RDWR)

    def stop(self):
        """End everything."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for connection in self.connections:
            connection.close()
