# SPDX-License-Identifier: BUSL-1.1
"""Reading a request's body within its limits, and negotiating forms."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, PayloadTooLarge
from mlos_core.front.limits import Gate
from mlos_core.front.problems import NotAcceptable, SlowRequest, UnsupportedMediaType, not_ready

T = TypeVar("T")

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
NPZ: Final = "application/x-npz"
EVENTS: Final = "text/event-stream"
_MORE_TIME: Final = "ask for more time with timeout or X-MLOS-Timeout"
ANSWERS: Final = (JSON, NPY, NPZ, EVENTS)


class Body:
    """The bytes of one request's body; `release` returns their share of the memory."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._taken = 0
        self._complete = False
        self.waits_for = ""
        """The model that is being loaded, perhaps, before it can be asked."""
        self.data = b""

    async def read(self, request: Request) -> bytes:
        """Read it, refusing it before (Content-Length) or while (chunked) it is too large.

        The caller sets the deadline; `late` is what to raise when it passes.

        Raises:
            PayloadTooLarge: larger than allowed.
            Overloaded: the bodies in flight fill the memory set aside for them.
            UnsupportedMediaType: it is compressed.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType(
                "compressed bodies are not taken", hint="send it without Content-Encoding"
            )
        limits = self._gate.limits
        limit = limits.body if media_type(request) in (NPY, NPZ) else min(limits.json, limits.body)
        announced = request.headers.get("content-length")
        if announced is not None:
            self._take(int(announced), limit)  # digits only: the parser has seen to it
        self.data = await self._receive(request, limit)
        self._complete = True
        return self.data

    def late(self) -> MlosError:
        """The error for a deadline that has passed: during the body, or after it."""
        if not self._complete:
            return SlowRequest("the body did not arrive in time", hint=_MORE_TIME)
        if self.waits_for:
            return not_ready(self.waits_for)
        return DeadlineExceeded("the deadline passed before the answer came", hint=_MORE_TIME)

    async def _receive(self, request: Request, limit: int) -> bytes:
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._taken:
                self._take(size - self._taken, limit)
            chunks.append(chunk)
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _take(self, size: int, limit: int) -> None:
        if self._taken + size > limit:
            raise PayloadTooLarge(
                f"the body is larger than {limit} bytes",
                hint="send tensors as application/x-npy or x-npz, or less at once; "
                "body_limit in the daemon's configuration bounds those",
            )
        self._gate.take(size)
        self._taken += size

    def release(self) -> None:
        """Forget the bytes."""
        self.data = b""
        self._gate.give(self._taken)
        self._taken = 0


def media_type(request: Request) -> str:
    """The body's type without its parameters, lower case; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def answer_type(accept: str) -> str:
    """The form of answer that `accept` (the header) prefers; JSON where it does not care.

    Raises:
        NotAcceptable: none of ours will do.
    """
    best, best_quality = "", 0.0
    for part in accept.split(",") if accept else ("*/*",):
        kind, *options = (text.strip().lower() for text in part.split(";"))
        quality = _quality(options)
        found = JSON if kind in ("*/*", "application/*") else kind
        found = EVENTS if found == "text/*" else found
        if found in ANSWERS and quality > best_quality:
            best, best_quality = found, quality
    if not best:
        raise NotAcceptable(f"no answer can be given as {accept}", hint="accept " + _list(ANSWERS))
    return best


def _quality(options: list[str]) -> float:
    for option in options:
        if option.startswith("q="):
            try:
                return float(option[2:])
            except ValueError:
                return 0.0
    return 1.0


def decode_json(raw: bytes, kind: type[T]) -> T:
    """Decode a JSON body as `kind`.

    Raises:
        InvalidInput: it is no JSON, or does not fit; the message says where.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError as err:
        raise InvalidInput("the body is nested too deeply", hint="send a flatter one") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise InvalidInput(f"the body does not fit: {err}", hint=_expectation(kind)) from err


def _expectation(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "a JSON object with " + _list(kind.__struct_encode_fields__)
    return "send a JSON object; NaN and infinities as strings"


def require_json(request: Request) -> None:
    """Refuse a body that says it is something else than JSON.

    No type at all, and curl's default for `-d`, are taken for JSON.

    Raises:
        UnsupportedMediaType: it says so.
    """
    kind = media_type(request)
    if kind in ("", JSON, "text/json", "application/x-www-form-urlencoded") or (
        kind.endswith("+json")
    ):
        return
    raise UnsupportedMediaType(f"a body of type {kind} is not taken here", hint=f"send {JSON}")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
