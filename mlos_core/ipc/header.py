# SPDX-License-Identifier: BUSL-1.1
"""Request and reply headers: the msgspec part of the data plane.

A header names tensors by offset into the segment. Its bytes come from another process,
so every field is checked against the segment before an array is made of it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import (
    ChannelBroken,
    InvalidInput,
    MlosError,
    Overloaded,
    PayloadTooLarge,
    from_wire,
)
from mlos_core.types import BYTES, DTYPES, MAX_RANK, Array, decode_bytes

INFER: Final = 0
STREAM: Final = 1
PING: Final = 2


class TensorRef(msgspec.Struct, array_like=True, frozen=True):
    """A tensor that lies in the segment: `nbytes` bytes at `offset`, C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class RequestHeader(msgspec.Struct, array_like=True, frozen=True):
    """What a client asks. `outputs` empty means all of them."""

    kind: int
    inputs: tuple[TensorRef, ...] = ()
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}


class ReplyHeader(msgspec.Struct, array_like=True, frozen=True):
    """What a worker answers. A non-empty `code` is an error (see `mlos_core.errors`)."""

    outputs: tuple[TensorRef, ...] = ()
    parameters: dict[str, Any] = {}
    code: str = ""
    message: str = ""
    hint: str = ""


encode: Final = msgspec.msgpack.Encoder().encode
_decode_request: Final = msgspec.msgpack.Decoder(RequestHeader).decode
_decode_reply: Final = msgspec.msgpack.Decoder(ReplyHeader).decode


def decode_request(raw: bytes) -> RequestHeader:
    """Decode what a client wrote.

    Raises:
        InvalidInput: the bytes are no request header.
    """
    try:
        return _decode_request(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        raise InvalidInput(f"the request header cannot be decoded: {err}") from err


def decode_reply(raw: bytes) -> ReplyHeader:
    """Decode what a worker wrote.

    Raises:
        ChannelBroken: the bytes are no reply header.
    """
    try:
        return _decode_reply(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        raise ChannelBroken(f"the reply header cannot be decoded: {err}") from err


def encode_error(error: MlosError, limit: int) -> bytes:
    """A reply header for `error` of at most `limit` bytes; long texts are cut."""
    room = max(16, (limit - 64) // 2)
    needed = error.reply_bytes if isinstance(error, PayloadTooLarge | Overloaded) else 0
    return encode(
        ReplyHeader(
            parameters={"reply_bytes": needed} if needed else {},
            code=error.code,
            message=_cut(error.message, room),
            hint=_cut(error.hint, room),
        )
    )


def error_of(head: ReplyHeader) -> MlosError | None:
    """The error that a reply carries, if any."""
    if not head.code:
        return None
    error = from_wire(head.code, head.message, head.hint)
    needed = head.parameters.get("reply_bytes")
    if isinstance(error, PayloadTooLarge | Overloaded) and isinstance(needed, int):
        error.reply_bytes = needed
    return error


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode(errors="ignore") + "…"


def view(segment: memoryview, ref: TensorRef, *, base: int = 0) -> Array:
    """The array that `ref` describes, as a view of `segment` (a copy for `bytes`).

    Args:
        segment: the whole segment.
        ref: a descriptor from the other side; nothing about it is trusted.
        base: the lowest offset a tensor may have.

    Raises:
        InvalidInput: the descriptor does not fit its own shape or the segment.
    """
    if ref.offset < base or ref.nbytes < 0 or ref.offset + ref.nbytes > len(segment):
        raise InvalidInput(f"tensor {ref.name!r} lies outside the segment")
    if len(ref.shape) > MAX_RANK or any(d < 0 or d > len(segment) for d in ref.shape):
        raise InvalidInput(f"tensor {ref.name!r} has an impossible shape")
    part = segment[ref.offset : ref.offset + ref.nbytes]
    if ref.dtype == BYTES:
        return decode_bytes(part.tobytes(), ref.shape)
    dtype = DTYPES.get(ref.dtype)
    if dtype is None:
        raise InvalidInput(f"tensor {ref.name!r} has the unknown dtype {ref.dtype!r}")
    if math.prod(ref.shape) * dtype.itemsize != ref.nbytes:
        raise InvalidInput(f"tensor {ref.name!r}: {ref.nbytes} bytes do not hold its shape")
    if ref.offset % dtype.itemsize:
        raise InvalidInput(f"tensor {ref.name!r} is not aligned")
    try:
        return np.ndarray(ref.shape, dtype, part)
    except ValueError as err:  # no bytes, but dimensions whose product NumPy cannot hold
        raise InvalidInput(f"tensor {ref.name!r} has an impossible shape: {err}") from err
