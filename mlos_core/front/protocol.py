# SPDX-License-Identifier: BUSL-1.1
"""uvicorn's HTTP protocol with what a server of heavy requests needs beside it.

What it adds, without a task or a timer per request:

- a connection that ends cancels the task of its request at once;
- limits on headers, on connections, and on the time a request's head may take;
- a refused body is read and thrown away up to a limit, so that the client gets to see the
  refusal, and then the connection ends;
- the Date header is made when a second begins, not by a ticking task, so that an idle
  server does nothing;
- what the parser refuses is answered in the form of all other errors.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlos_core.errors import InvalidInput, MlosError
from mlos_core.front import problems
from mlos_core.front.limits import Limits
from mlos_core.front.problems import HeadersTooLarge, SlowRequest, TooManyConnections

EXTENSION = "mlos.connection"


class FrontState(ServerState):
    """uvicorn's shared state and the limits of the front end."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self._second = 0

    def tick(self) -> None:
        """Renew the Date header if its second has passed."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]


class FrontProtocol(HttpToolsProtocol):
    """One connection. `gone` says that the client is no longer there."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: FrontState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gone = False
        self._state = server_state
        self._limits = server_state.limits
        self.task: asyncio.Task[Any] | None = None  # of the running request; it says so itself
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True  # before and between requests, too
        self._in_body = False
        self._is_current = False  # `cycle` is of the request that is being parsed
        self._head_bytes = 0
        self._field_bytes = 0
        self._discarded = 0
        self._refusal: MlosError | None = None

    # --- connection ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(TooManyConnections("the server holds as many connections as it may"))
        else:
            self._watch(self._limits.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was made to: its request ends, too."""
        self.gone = True
        self._unwatch()
        super().connection_lost(exc)
        if self.task is not None and not self.task.done():
            self.task.cancel("the client is gone")

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and bound a head that does not end."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # Still no whole head: its bytes are counted here, whatever the parser keeps.
            if self._head_bytes > self._limits.headers:
                self._refuse(self._too_large())
            elif self._head_bytes:
                self._watch(self._limits.head_timeout)

    def abort(self) -> None:
        """Drop the connection without a further word."""
        self.transport.abort()

    # --- parser callbacks -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._state.tick()
        self._in_head, self._in_body, self._is_current = True, True, False
        self._field_bytes = self._discarded = 0
        self.scope["extensions"] = {EXTENSION: {"protocol": self}}

    def on_url(self, url: bytes) -> None:
        """The request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer of a chunked body."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the application starts."""
        self._in_head, self._head_bytes = False, 0
        self._unwatch()
        super().on_headers_complete()
        self._is_current = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body, wanted or not."""
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > self._limits.discard:
                self.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_head, self._in_body = True, False
        super().on_message_complete()
        if not self.pipeline:
            # The last read may have paused reading; the end of the connection must be seen.
            self.flow.resume_reading()
        if self.cycle.response_complete:  # a refused body has ended: an idle connection again
            self._unwatch()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer is sent, perhaps before the body was read."""
        super().on_response_complete()
        if self._in_body and not self.transport.is_closing():
            self._watch(self._limits.linger)

    # --- refusals ---------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """The parser cannot go on."""
        self._refuse(self._refusal or InvalidInput(msg, hint="send HTTP/1.1"))

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > self._limits.headers:
            self._refusal = self._too_large()
            raise self._refusal  # ends the parsing; `send_400_response` answers

    def _too_large(self) -> MlosError:
        return HeadersTooLarge(
            f"request line and headers are larger than {self._limits.headers} bytes",
            hint="send tensors in the body",
        )

    def _refuse(self, error: MlosError) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            if not self._is_current:  # an earlier request is still to be answered, this one not
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if self.cycle.response_started or self.pipeline:
                self.abort()  # it would be read as part of another answer
                return
            self.cycle.disconnected = True  # nobody else answers this request
        body = problems.encode(error)
        head = [STATUS_LINE[error.http_status], b"content-type: application/json\r\n"]
        for name, value in problems.headers_of(error).items():
            head.append(f"{name}: {value}\r\n".encode())
        head.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        self.transport.write(b"".join(head) + body)
        self.transport.close()

    # --- the one timer ------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes:
            self._refuse(SlowRequest("the head of the request did not arrive in time"))
        else:
            self.abort()
