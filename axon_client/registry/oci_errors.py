# SPDX-License-Identifier: BUSL-1.1
"""Errors as OCI's clients know them: `{"errors": [{"code", "message"}]}`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from axon_client.registry import problems
from axon_client.registry.http import reply
from mlos_core.errors import (
    AlreadyExists,
    InvalidInput,
    MlosError,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
)

VERSION: Final = {"docker-distribution-api-version": "registry/2.0"}
"""A header of every answer."""
_CODES: Final[tuple[tuple[type[MlosError], str, int], ...]] = (
    (problems.Unauthenticated, "UNAUTHORIZED", 401),
    (PermissionDenied, "DENIED", 403),
    (problems.WrongOffset, "BLOB_UPLOAD_INVALID", 416),
    (problems.WrongDigest, "DIGEST_INVALID", 400),
    (problems.MissingBlobs, "MANIFEST_BLOB_UNKNOWN", 404),
    (problems.BadRange, "BLOB_UPLOAD_INVALID", 416),
    (PayloadTooLarge, "SIZE_INVALID", 413),
    (AlreadyExists, "DENIED", 409),
    (Overloaded, "TOOMANYREQUESTS", 429),
)
"""The first that fits counts."""


def speaking(handler: Callable[[Request], Any], kind: str = "") -> Callable[[Request], Any]:
    """A handler whose errors look as OCI's clients know them; `kind` is what may be unknown."""
    if inspect.iscoroutinefunction(handler):

        async def waiting(request: Request) -> Any:
            try:
                return await handler(request)
            except MlosError as error:
                return refusal(error, kind)

        return waiting

    def at_once(request: Request) -> Any:
        try:
            return handler(request)
        except MlosError as error:
            return refusal(error, kind)

    return at_once


def refusal(error: MlosError, kind: str) -> Response:
    """An error as an answer."""
    code, status = _code(error, kind)
    headers = {**VERSION, **problems.headers_of(error)}
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="axon"'
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return reply({"errors": [{"code": code, "message": text}]}, status, headers)


def _code(error: MlosError, kind: str) -> tuple[str, int]:
    for known, code, status in _CODES:
        if isinstance(error, known):
            return code, status
    if isinstance(error, NotFound):
        return f"{kind or 'NAME'}_UNKNOWN", 404
    if isinstance(error, InvalidInput) or error.http_status < 500:
        return (f"{kind}_INVALID", 400) if kind else ("UNSUPPORTED", 404)
    return "UNSUPPORTED", error.http_status
