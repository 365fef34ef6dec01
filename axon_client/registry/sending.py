# SPDX-License-Identifier: BUSL-1.1
"""Sending files: whole or a range of them, without their bytes passing through Python where
the server can do that (ASGI's `http.response.zerocopysend`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import IO, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

ZERO_COPY: Final = "http.response.zerocopysend"
_PIECE: Final = 1 << 20
"""What a client must take within the stall time: 17 KB/s are fast enough."""
_READ: Final = 1 << 20
Headers = dict[str, str]


class Stalled(Exception):
    """The client took nothing for too long; the connection ends."""


def extend_deadline(scope: Scope) -> None:
    """Take the limit of a whole request off one whose length its size decides."""
    deadline = scope.get("axon.deadline")
    if deadline is not None:
        deadline.reschedule(None)


class FileResponse:
    """Bytes `start` to `start + count` of an open file, which is closed at the end."""

    def __init__(
        self, file: IO[bytes], start: int, count: int, status: int, headers: Headers, stall_s: float
    ) -> None:
        self._file = file
        self._start = start
        self._count = count
        self._status = status
        self._headers = {**headers, "content-length": str(count)}
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        extend_deadline(scope)
        with self._file:
            await send(_head(self._status, self._headers))
            if scope["method"] != "HEAD":
                zero_copy = ZERO_COPY in scope.get("extensions", {})
                await (self._zero_copy(send) if zero_copy else self._copy(send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _zero_copy(self, send: Send) -> None:
        at, end = self._start, self._start + self._count
        while at < end:
            count = min(_PIECE, end - at)
            piece = {"type": ZERO_COPY, "file": self._file, "offset": at, "count": count}
            await _timely(send, {**piece, "more_body": True}, self._stall_s)
            at += count

    async def _copy(self, send: Send) -> None:
        handle, at, end = self._file.fileno(), self._start, self._start + self._count
        while at < end:
            block = await run_in_threadpool(os.pread, handle, min(_READ, end - at), at)
            if not block:
                raise Stalled("the file has become shorter")
            await _timely(send, _body(block), self._stall_s)
            at += len(block)


class MadeResponse:
    """A body of a known size that is made piece by piece, in a thread."""

    def __init__(
        self, pieces: Iterator[bytes], count: int, headers: Headers, stall_s: float
    ) -> None:
        self._pieces = pieces
        self._headers = {**headers, "content-length": str(count)}
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        extend_deadline(scope)
        await send(_head(200, self._headers))
        if scope["method"] != "HEAD":
            while block := await run_in_threadpool(_gather, self._pieces):
                await _timely(send, _body(block), self._stall_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _gather(pieces: Iterator[bytes]) -> bytes:
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _READ:
            break
    return bytes(held)


async def _timely(send: Send, message: dict[str, Any], stall_s: float) -> None:
    try:
        async with asyncio.timeout(stall_s):
            await send(message)
    except TimeoutError as error:
        raise Stalled(f"the client took nothing for {stall_s:g} s") from error


def _head(status: int, headers: Headers) -> dict[str, Any]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def _body(block: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": block, "more_body": True}
