# SPDX-License-Identifier: BUSL-1.1
"""A route together with its documentation: neither can exist without the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mlos_core.front.core import Core
from mlos_core.front.peer import check_admin
from mlos_core.front.protocol import EXTENSION
from mlos_core.front.schema import ErrorBody

Handler = Callable[[Core, Request], Awaitable[Response]]


class Answer(msgspec.Struct, frozen=True):
    """One possible answer: a Struct (or nothing) in JSON, or bytes of other `types`."""

    text: str
    kind: Any = None
    types: tuple[str, ...] = ("application/json",)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one path. `{name}` in the path is a model's name and may hold slashes."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    detail: str = ""
    body: Any = None
    body_types: tuple[str, ...] = ("application/json",)
    query: tuple[tuple[str, str, str], ...] = ()  # name, JSON type, meaning
    admin: bool = False  # only for the daemon's own user
    answers: dict[int, Answer] = {}
    error: Any = ErrorBody


class _ModelName(Convertor[str]):
    regex = ".+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Application:
    """The endpoint as an ASGI application. Errors pass: the edge answers them."""

    def __init__(self, core: Core, endpoint: Endpoint) -> None:
        self._core = core
        self._handler = endpoint.handler
        self._admin = endpoint.admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._admin:
            protocol = scope["extensions"][EXTENSION]["protocol"]
            check_admin(protocol.transport.get_extra_info("socket"))
        response = await self._handler(self._core, Request(scope, receive, send))
        await response(scope, receive, send)


def routes(core: Core, endpoints: Sequence[Endpoint]) -> list[Route]:
    """The routes of `endpoints`, in their order: the first that matches wins."""
    register_url_convertor("model", _ModelName())
    return [
        Route(
            endpoint.path.replace("{name}", "{name:model}"),
            _Application(core, endpoint),
            methods=[endpoint.method],
        )
        for endpoint in endpoints
    ]
