# SPDX-License-Identifier: BUSL-1.1
"""Whether an answer to a range request is what was asked for. Decides only; reads nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from axon_client.net.faults import Unusable, host_of
from mlos_core.errors import MlosError, ProtocolError

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", re.IGNORECASE)
_EMPTY = re.compile(r"\s*bytes\s+\*/0\s*", re.IGNORECASE)


class Body(msgspec.Struct, frozen=True):
    """What the body of an answer holds.

    Attributes:
        start: the offset of its first byte in the file.
        length: bytes; -1 if only the body's end will tell.
        total: size of the whole file; -1 if the answer does not say.
        ranged: whether the server did as it was asked, and gave a range.
        validator: what names this state of the file, for `If-Range`; empty if nothing does.
    """

    start: int
    length: int
    total: int
    ranged: bool
    validator: str = ""


def judge(
    status: int, headers: Mapping[str, str], start: int, end: int, total: int, url: str
) -> Body:
    """What an answer to the request for bytes `start` to `end` (exclusive) holds.

    Args:
        total: the file's size; -1 if nobody knows it yet.

    Raises:
        Unusable: the answer contradicts the request, the file's size or itself.
    """
    length = _length(headers, url)
    if status == 206:
        body = _partial(headers, start, end, length, url)
    elif status == 416 and start == 0 and _EMPTY.fullmatch(headers.get("Content-Range", "")):
        body = Body(0, 0, 0, True)
    elif status == 200:
        body = Body(0, length, length, False)
    else:
        raise _lie(url, f"answers {status} to a request for bytes {start} to {end - 1}")
    if total >= 0 and body.total >= 0 and body.total != total:
        raise _lie(url, f"has {body.total} bytes of a file that has {total}")
    _check_encoding(headers, body, total, url)
    return msgspec.structs.replace(body, validator=validator(headers))


def validator(headers: Mapping[str, str]) -> str:
    """A strong ETag, else the date of the last change, else nothing."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    return headers.get("Last-Modified", "") if not etag else ""


def _length(headers: Mapping[str, str], url: str) -> int:
    text = headers.get("Content-Length")
    if text is None:
        return -1
    if not re.fullmatch(r"\d{1,18}", text.strip()):
        raise _lie(url, f"says that its answer is {text[:40]!r} bytes long")
    return int(text)


def _partial(headers: Mapping[str, str], start: int, end: int, length: int, url: str) -> Body:
    stated = headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(stated)
    if not found:
        raise _lie(url, f"sends a range that it calls {stated[:80]!r}")
    first, last = int(found[1]), int(found[2])
    total = -1 if found[3] == "*" else int(found[3])
    beyond = last >= end or (total >= 0 and last >= total)
    if first != start or last < first or beyond:
        raise _lie(url, f"sends {stated[:80]!r} where bytes {start}-{end - 1} were asked for")
    if length not in (-1, last - first + 1):
        raise _lie(url, f"sends {stated[:80]!r} and says that this is {length} bytes long")
    return Body(first, last - first + 1, total, True)


def _check_encoding(headers: Mapping[str, str], body: Body, total: int, url: str) -> None:
    """A compressed body is of use only where it is the file, byte for byte."""
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity") and (total < 0 or body.total != total):
        raise _lie(url, f"sends the file in {coding[:40]!r}, though axon asks for it as it is")


def _lie(url: str, what: str) -> Unusable:
    return Unusable(broken(url, what))


def broken(url: str, what: str) -> MlosError:
    """The error for a server that breaks the rules of HTTP, or contradicts itself."""
    return ProtocolError(
        f"{host_of(url)} {what}",
        hint="the server is at fault; try a mirror, or tell its owner",
    )
