# SPDX-License-Identifier: BUSL-1.1
"""A stream as server-sent events.

What stands in them is a `Wire`'s business. In the house's own, `Events`, each event of the
model is one `data:` line of JSON. The stream ends with `event: end`, or, when it fails after
it began, with `event: error` and the usual error body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlos_core.errors import DeadlineExceeded, MlosError, Unavailable
from mlos_core.front import problems
from mlos_core.front.codec import from_array

log = logging.getLogger("mlos.http")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
# A reader that is this far behind at the end does not get the last word.
_LAST_WORD_S = 1.0


def encode_event(data: Any, kind: str = "") -> bytes:
    """One event on the wire."""
    head = f"event: {kind}\n".encode() if kind else b""
    return head + b"data: " + msgspec.json.encode(data, enc_hook=from_array) + b"\n\n"


class Wire(Protocol):
    """The bytes of a stream, in one dialect."""

    def event(self, event: Any, /) -> bytes:
        """One event of the model; empty if there is nothing to send for it."""

    def end(self) -> bytes:
        """After the last event."""

    def error(self, error: MlosError, /) -> bytes:
        """Instead of what would have followed."""


class Events:
    """The house's own dialect.

    Args:
        last: the data of `event: end`.
    """

    def __init__(self, last: Any) -> None:
        self._last = last

    def event(self, event: Any) -> bytes:
        """A `data:` line."""
        return encode_event(event)

    def end(self) -> bytes:
        """`event: end`."""
        return encode_event(self._last, "end")

    def error(self, error: MlosError) -> bytes:
        """`event: error`."""
        return encode_event(problems.body_of(error), "error")


class EventStream(Response):
    """Sends `events` as they come.

    The first one is awaited before the status is sent, so that what fails at once is an
    ordinary error response.
    """

    def __init__(self, events: AsyncIterator[Any], seconds: float, wire: Wire) -> None:
        self.status_code = 200
        self._events = events
        self._seconds = seconds
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; ends with the stream, the deadline or the client."""
        started, wire = False, self._wire
        try:
            async with asyncio.timeout(self._seconds), aclosing(self._events) as events:  # type: ignore[type-var]
                async for event in events:
                    if not started:
                        await _start(send)
                        started = True
                    if data := wire.event(event):
                        await _send(send, data)
            if not started:
                await _start(send)
                started = True
            last = wire.end()
        except MlosError as error:
            if not started:
                raise
            last = wire.error(error)
        except TimeoutError:
            if not started:
                raise
            last = wire.error(DeadlineExceeded("the deadline passed before the stream ended"))
        except asyncio.CancelledError:
            if started:  # does nothing if it is the client that has gone
                await _send_last(send, wire.error(Unavailable("the server is stopping")))
            raise
        except Exception as error:
            if not started:
                raise
            log.error("a stream failed", exc_info=error)
            last = wire.error(MlosError("internal error", hint="the daemon's log says more"))
        await _send_last(send, last)


async def _send_last(send: Send, data: bytes) -> None:
    async with asyncio.timeout(_LAST_WORD_S):
        await _send(send, data, more=False)


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
