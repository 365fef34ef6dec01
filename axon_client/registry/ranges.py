# SPDX-License-Identifier: BUSL-1.1
"""Which bytes a request asks for. Decisions only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from axon_client.registry.problems import BadRange

_ONE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*")


class Span(msgspec.Struct, frozen=True):
    """Bytes from `start` on, `count` of them."""

    start: int
    count: int
    partial: bool = False


def wanted(headers: Mapping[str, str], size: int, etag: str) -> Span:
    """What to send of `size` bytes.

    Everything, where no range is asked for, or several, or one that is not understood, or
    one of another version (`If-Range`): a client must take that instead.

    Raises:
        BadRange: the range lies behind the end.
    """
    whole = Span(0, size)
    text = headers.get("range", "")
    form = _ONE.fullmatch(text)
    if form is None or headers.get("if-range", etag) != etag:
        return whole
    first, last = form[1], form[2]
    if not first and not last:
        return whole
    if first and last and int(last) < int(first):
        return whole
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (not first and not int(last)):
        error = BadRange(f"{text!r} lies behind the end", hint=f"there are {size} bytes")
        error.size = size
        raise error
    return Span(start, end - start + 1, partial=True)


def matches(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names this version."""
    if not header:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
