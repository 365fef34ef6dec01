# SPDX-License-Identifier: BUSL-1.1
"""Errors in OpenAI's shape, as its clients read them."""

from __future__ import annotations

import re
import secrets
from typing import Final

import msgspec
from starlette.responses import Response

from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, NotFound, Unsupported
from mlos_core.front import problems

_PATHS: Final = ("/tokenize", "/detokenize")
_PREFIX: Final = "/v1/"
_REQUEST_ID: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)
# Where a decoder found something wrong: "... - at `$.messages[0].role`".
_PLACE: Final = re.compile(r"at `\$\.?([^`]*)`")
# How a model's word on a parameter begins: "top_k is -2", "messages[0] has the role 'x'".
_LEADING: Final = re.compile(
    r"(n|stop|seed|temperature|logprobs|(?:messages|tools)[\w.\[\]]*|[a-z]+(?:_[a-z]+)+)"
    r" (?:is|are|has|names|needs|of|takes)\b"
)
# The one refusal that clients look for by its code, to shorten the prompt and ask again.
_TOO_LONG: Final = re.compile(r"the prompt has \d+ tokens; the model's context has")
_UNKNOWN: Final = re.compile(r"(?:unknown|missing required) field `([^`]*)`")


class InvalidValue(
    InvalidInput, code="invalid_value", fault="caller", http=400, grpc="INVALID_ARGUMENT", exit=65
):
    """A field of the body is wrong; `param` names it."""

    param: str = ""


def invalid(param: str, message: str, hint: str = "") -> InvalidValue:
    """The error that says what is wrong with the field `param`."""
    error = InvalidValue(message, hint=hint)
    error.param = param
    return error


class Problem(msgspec.Struct):
    """`message` says what happened, `param` which field is to blame, `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ProblemBody(msgspec.Struct):
    """Every answer with a status from 400 on, and the last event of a stream that failed."""

    error: Problem


def speaks(path: str) -> bool:
    """Whether the routes at `path` are OpenAI's."""
    return path.startswith(_PREFIX) or path in _PATHS


def request_id(given: str) -> str:
    """The request's name: the one its client gave, if that is harmless, or a new one."""
    return given if _REQUEST_ID.fullmatch(given) else "req-" + secrets.token_hex(12)


def body_of(error: MlosError) -> ProblemBody:
    """`error` in OpenAI's shape; the hint is part of the message."""
    return ProblemBody(Problem(str(error), _type(error), _param(error), _code(error)))


def encode(error: MlosError) -> bytes:
    """`body_of` as bytes."""
    return msgspec.json.encode(body_of(error))


def response(error: MlosError) -> Response:
    """The response that says `error`.

    Clients try again after 5xx unless told not to. What failed for good is told so, and a
    generation that used up its time would only do so again.
    """
    status = 400 if isinstance(error, Unsupported) else error.http_status
    headers = problems.headers_of(error)
    if status >= 500 and (not error.retryable or isinstance(error, DeadlineExceeded)):
        headers["x-should-retry"] = "false"
    return Response(encode(error), status, headers, "application/json")


def _type(error: MlosError) -> str:
    if error.http_status == 403:
        return "permission_error"
    if error.http_status == 429:
        return "rate_limit_error"
    if error.fault == "caller":
        return "invalid_request_error"
    return "server_error"


def _code(error: MlosError) -> str:
    if type(error) is NotFound:
        return "model_not_found"
    return "context_length_exceeded" if _TOO_LONG.match(error.message) else error.code


def _param(error: MlosError) -> str | None:
    """The field to blame: known here, or found in what a decoder said."""
    if isinstance(error, InvalidValue):
        return error.param or None
    if type(error) is NotFound:
        return "model"
    if not isinstance(error, (InvalidInput, Unsupported)):
        return None
    leading = _LEADING.match(error.message)
    return leading.group(1) if leading else place_of(error.message) or None


def place_of(message: str) -> str:
    """The field that a decoder's message names; empty if it names none."""
    place = _PLACE.search(message)
    field = _UNKNOWN.search(message)
    parts = [place.group(1) if place else "", field.group(1) if field else ""]
    return ".".join(part for part in parts if part)
