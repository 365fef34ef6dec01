# SPDX-License-Identifier: BUSL-1.1
"""Errors that only a registry server has, and how any error looks as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mlos_core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    NotFound,
    PermissionDenied,
)

_NAMED: Final = 100


class Unauthenticated(
    PermissionDenied,
    code="unauthenticated",
    fault="caller",
    http=401,
    grpc="UNAUTHENTICATED",
    exit=77,
):
    """No token was sent, or one that is unknown, revoked or expired."""


class UnknownPath(
    NotFound, code="unknown_route", fault="caller", http=404, grpc="UNIMPLEMENTED", exit=66
):
    """The server has no such path."""


class WrongMethod(
    InvalidInput, code="method_not_allowed", fault="caller", http=405, grpc="UNIMPLEMENTED", exit=65
):
    """The path is there, but not for this method; `allowed` names those it is for."""

    allowed: str = ""


class WrongOffset(
    AlreadyExists, code="wrong_offset", fault="caller", http=409, grpc="ABORTED", exit=73
):
    """An upload goes on elsewhere than the client believes; `offset` says where, in bytes."""

    offset: int = 0


class WrongDigest(
    InvalidInput, code="wrong_digest", fault="caller", http=422, grpc="DATA_LOSS", exit=74
):
    """What was uploaded is not what was announced."""


class MissingBlobs(
    InvalidInput,
    code="missing_blobs",
    fault="caller",
    http=422,
    grpc="FAILED_PRECONDITION",
    exit=65,
):
    """A manifest names files that were not uploaded, or have another size."""

    missing: Sequence[str] = ()


class SlowRequest(
    DeadlineExceeded,
    code="request_timeout",
    fault="caller",
    http=408,
    grpc="DEADLINE_EXCEEDED",
    exit=75,
):
    """The request did not arrive in time."""


class BadRange(
    InvalidInput, code="bad_range", fault="caller", http=416, grpc="OUT_OF_RANGE", exit=65
):
    """The range begins behind the end; `size` is what there is, in bytes."""

    size: int = 0


def missing_blobs(title: str, digests: Sequence[str]) -> MissingBlobs:
    """The error for a version whose files are not all there."""
    error = MissingBlobs(
        f"{len(digests)} of the files of {title} are not here: {', '.join(digests[:3])}",
        hint="upload them first",
    )
    error.missing = digests
    return error


def body_of(error: MlosError) -> dict[str, Any]:
    """The JSON form: `{"error": {"code", "message", "hint"}}`."""
    inner = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, MissingBlobs):
        return {"error": {**inner, "missing": list(error.missing[:_NAMED])}}
    return {"error": inner}


def headers_of(error: MlosError) -> dict[str, str]:
    """The headers that go with an error."""
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": 'Bearer realm="axon", Basic realm="axon"'}
    if isinstance(error, WrongMethod):
        return {"allow": error.allowed}
    if isinstance(error, WrongOffset):
        return {"upload-offset": str(error.offset)}
    if isinstance(error, BadRange):
        return {"content-range": f"bytes */{error.size}"}
    return {"retry-after": "1"} if error.http_status in (429, 503) else {}
