# SPDX-License-Identifier: BUSL-1.1
"""What a request says beside its body: who asks, and how long it may take."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec
from starlette.requests import Request

from mlos_core.front import questions
from mlos_core.front.core import Core


class Head(msgspec.Struct, frozen=True):
    """What all chunks of an answer repeat."""

    id: str
    model: str
    created: int


def head(request: Request, kind: str, model: str) -> Head:
    """The head of an answer; its id is the request's, so that logs and answers meet."""
    name = request.scope["mlos.request_id"].removeprefix("req-")
    return Head(f"{kind}-{name}", model, int(time.time()))


def seconds(core: Core, request: Request) -> float:
    """How long a generation may take: the query's `timeout`, `X-MLOS-Timeout`, or our limit.

    Raises:
        InvalidInput: it is no positive number.
    """
    return core.limits.deadline(questions.url_options(request).timeout, core.limits.generation)


def cache_salt(request: Request, own: str | None) -> dict[str, Any]:
    """The parameter that keeps callers out of each other's prefix cache.

    It is a hash of the bearer token and of the salt that the body names; a request with
    neither shares with all others of that kind.
    """
    token = request.headers.get("authorization", "")
    if not token and not own:
        return {}
    secret = f"{len(token)}:{token}{own or ''}".encode()
    return {"cache_salt": hashlib.blake2b(secret, digest_size=16, person=b"mlos-salt").hexdigest()}
