# SPDX-License-Identifier: BUSL-1.1
"""Connections that cannot be held up for ever, and that another thread can cut.

A socket's own time-out starts anew with each byte, so a server that sends its headers one
byte at a time would never be given up. Connections here have a deadline for the handshake
and for an answer's headers as a whole; the body's pace is the reader's to watch.
"""

from __future__ import annotations

import http.client
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError


class Wire:
    """The sockets of one client.

    Args:
        deadline_s: for a handshake, and for an answer's headers.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self._cut = False

    def cut(self) -> None:
        """End every connection; whoever waits for one gets an error. None opens any more."""
        with self._lock:
            self._cut = True
            sockets = list(self._sockets)
        for sock in sockets:
            _shut(sock)

    @contextmanager
    def watched(self, connection: Any) -> Iterator[None]:
        """Cut `connection` unless the block ends in time."""
        # A connection lets go of its socket while an answer is still read from it.
        sock = connection.sock
        timer = threading.Timer(self._deadline_s, lambda: _shut(sock or connection.sock))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._keep(sock or connection.sock)

    def _keep(self, sock: Any) -> None:
        with self._lock:
            if sock is not None:
                self._sockets.add(sock)
            if self._cut:
                raise ProtocolError("the download was given up")


def _shut(sock: Any) -> None:
    if isinstance(sock, socket.socket):
        # Not a TLS socket's own method: only this wakes a reader in another thread.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


@contextmanager
def _closed_if_refused(connection: Any) -> Iterator[None]:
    """Close an answer whose headers urllib3 does not take: it leaves that to the collector."""
    answers: list[http.client.HTTPResponse] = []

    def answer(*given: Any, **named: Any) -> http.client.HTTPResponse:
        answers.append(http.client.HTTPResponse(*given, **named))
        return answers[-1]

    connection.response_class = answer
    try:
        yield
    except BaseException:
        for refused in answers:
            refused.close()
        raise


def pool_classes(wire: Wire) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Pools whose connections are on `wire`."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            with wire.watched(self):
                super().connect()

        def getresponse(self) -> Any:
            with wire.watched(self), _closed_if_refused(self):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            with wire.watched(self):
                super().connect()

        def getresponse(self) -> Any:
            with wire.watched(self), _closed_if_refused(self):
                return super().getresponse()

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
