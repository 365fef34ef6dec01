# SPDX-License-Identifier: BUSL-1.1
"""What the server's routes share: JSON in and out, bodies within their bounds."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from axon_client.registry.problems import SlowRequest, body_of, headers_of
from axon_client.registry.ranges import matches
from axon_client.registry.writer import Writer
from mlos_core.errors import InvalidInput, MlosError, PayloadTooLarge

T = TypeVar("T")
_BLOCK: Final = 1 << 20
JSON: Final = "application/json"
FRESH: Final = "no-cache"
"""May be kept, but must be asked about each time: what can change."""


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps."""
    about = {"cache-control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(value), status, about, JSON)


def refusal(error: MlosError) -> Response:
    """An error as an answer."""
    return reply(body_of(error), error.http_status, headers_of(error))


def kept(
    request: Request,
    body: bytes,
    media_type: str = JSON,
    cache: str = FRESH,
) -> Response:
    """An answer that a client may keep; one that has it already gets 304 without a body."""
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    about = {"etag": etag, "cache-control": cache}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=about)
    return Response(body, 200, about, media_type)


async def chunks(request: Request, stall_s: float) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        SlowRequest: nothing came for `stall_s` seconds.
        ClientDisconnect: the client is gone.
    """
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(stall_s):
                chunk = await anext(stream)
        except TimeoutError as error:
            raise SlowRequest(
                f"nothing came for {stall_s:g} s", hint="go on where the upload ends"
            ) from error
        except StopAsyncIteration:
            return
        yield chunk


async def feed(request: Request, writer: Writer, stall_s: float) -> None:
    """Write a body as it comes; while one block is written, the next is received."""
    held, writing = bytearray(), None
    try:
        async for chunk in chunks(request, stall_s):
            held += chunk
            if len(held) >= _BLOCK:
                if writing:
                    await writing
                writing = asyncio.ensure_future(run_in_threadpool(writer.write, bytes(held)))
                held = bytearray()
    finally:
        if writing:
            await writing
        if held:
            await run_in_threadpool(writer.write, bytes(held))


async def read_json(request: Request, kind: type[T], limit: int, standard: bytes = b"") -> T:
    """A body of at most `limit` bytes, checked against `kind`; an empty one counts as `standard`.

    Raises:
        PayloadTooLarge: there is more.
        InvalidInput: it is not JSON, or not of that form; says where.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise PayloadTooLarge(f"the body is larger than {limit} bytes")
    try:
        return msgspec.json.decode(data or standard, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"the body is not what is expected here: {error}") from error


def number(request: Request, name: str, standard: int, most: int) -> int:
    """A parameter of the query that is a whole number; what is above `most` counts as that.

    Raises:
        InvalidInput: it is something else.
    """
    text = request.query_params.get(name, "")
    if not text:
        return standard
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(f"{name} is {text[:40]!r}, not a whole number")
    return min(int(text), most)


def offset_of(request: Request) -> int:
    """The Upload-Offset header.

    Raises:
        InvalidInput: it is missing, or no number.
    """
    text = request.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(
            f"Upload-Offset is {text[:40]!r}, not a whole number",
            hint="HEAD on the upload says how many bytes are there",
        )
    return int(text)
