# SPDX-License-Identifier: BUSL-1.1
"""uvicorn's HTTP/1.1 protocol with two things that it lacks.

Files are sent by the kernel: ASGI's extension `http.response.zerocopysend`. And a connection
that sends no request, or goes on sending the body of one that was answered, ends.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from axon_client.registry.limits import Limits
from axon_client.registry.sending import ZERO_COPY, Stalled


class _Size:
    """Stands for bytes that do not pass through here; h11 only asks how many there are."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class RegistryProtocol(H11Protocol):
    """One connection.

    Beyond `most` of them a further one is closed at once; one on whose requests nobody works
    ends after `idle_s`.
    """

    most: int = Limits().connections
    idle_s: float = 30.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._inner = self.app
        self.app = self._with_files
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.most:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._unwatch()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Bytes came."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """A request was answered."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Limit the time in which nobody works on a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._idle is None and not self.transport.is_closing():
            self._idle = self.loop.call_later(self.idle_s, self.transport.abort)

    def _unwatch(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _with_files(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def extended(message: Message) -> None:
            if message["type"] == ZERO_COPY:
                await self._send_file(message)
            else:
                await send(message)

        extensions = {**scope.get("extensions", {}), ZERO_COPY: {}}
        await self._inner({**scope, "extensions": extensions}, receive, extended)

    async def _send_file(self, message: Message) -> None:
        """Give a piece of a file to the kernel. A failure ends the connection."""
        if self.cycle.disconnected:
            raise Stalled("the client is gone")
        file, offset, count = message["file"], message["offset"], message["count"]
        if os.fstat(file.fileno()).st_size < offset + count:
            raise Stalled("the file has become shorter")
        # An answer whose length is known has no framing around its parts.
        self.conn.send_with_data_passthrough(h11.Data(data=_Size(count)))  # type: ignore[arg-type]
        try:
            await self.loop.sendfile(self.transport, file, offset, count)
        except BaseException as error:
            self.cycle.disconnected = True
            self.transport.abort()
            if isinstance(error, (OSError, RuntimeError)):
                raise Stalled(f"the client is gone: {error}") from error
            raise
