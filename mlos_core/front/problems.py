# SPDX-License-Identifier: BUSL-1.1
"""Errors that only HTTP has, and how any error looks as a response."""

from __future__ import annotations

from typing import Any

import msgspec

from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, NotFound, Unavailable


class UnknownRoute(
    NotFound, code="unknown_route", fault="caller", http=404, grpc="UNIMPLEMENTED", exit=66
):
    """No route of that path."""


class MethodNotAllowed(
    InvalidInput, code="method_not_allowed", fault="caller", http=405, grpc="UNIMPLEMENTED", exit=65
):
    """The route exists, but not with this method."""


class NotAcceptable(
    InvalidInput, code="not_acceptable", fault="caller", http=406, grpc="INVALID_ARGUMENT", exit=65
):
    """The answer cannot be given in any form the client accepts."""


class SlowRequest(
    DeadlineExceeded,
    code="request_timeout",
    fault="caller",
    http=408,
    grpc="DEADLINE_EXCEEDED",
    exit=75,
):
    """The request did not arrive completely in time."""


class UnsupportedMediaType(
    InvalidInput,
    code="unsupported_media_type",
    fault="caller",
    http=415,
    grpc="INVALID_ARGUMENT",
    exit=65,
):
    """The body has a form that is not understood."""


class HeadersTooLarge(
    InvalidInput,
    code="headers_too_large",
    fault="caller",
    http=431,
    grpc="RESOURCE_EXHAUSTED",
    exit=65,
):
    """Request line and headers exceed their limit."""


class TooManyConnections(
    Unavailable,
    code="too_many_connections",
    fault="server",
    http=503,
    grpc="UNAVAILABLE",
    exit=75,
    retryable=True,
):
    """The server holds as many connections as it may."""


def not_ready(name: str) -> DeadlineExceeded:
    """The error for a deadline that passed before the model could be asked."""
    return DeadlineExceeded(
        f"model {name!r} was not ready in time",
        hint="a model that is being loaded goes on loading: ask again, or allow more time with "
        "timeout or X-MLOS-Timeout",
    )


RETRY_AFTER_S = 1


def body_of(error: MlosError) -> dict[str, Any]:
    """The JSON form of an error: `{"error": {"code", "message", "hint"}}`."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def encode(error: MlosError) -> bytes:
    """`body_of` as bytes."""
    return msgspec.json.encode(body_of(error))


def headers_of(error: MlosError) -> dict[str, str]:
    """The headers that go with an error."""
    return {"retry-after": str(RETRY_AFTER_S)} if error.http_status in (429, 503) else {}
