# SPDX-License-Identifier: BUSL-1.1
"""The outermost layer of the HTTP application: every request passes it, every error ends in it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import nullcontext
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlos_core.errors import DeadlineExceeded, MlosError, Unavailable
from mlos_core.front import problems
from mlos_core.front.limits import Gate
from mlos_core.front.metrics import HttpMetrics
from mlos_core.front.openai import problems as openai_problems
from mlos_core.front.origin import check_origin
from mlos_core.front.problems import MethodNotAllowed, UnknownRoute
from mlos_core.front.protocol import EXTENSION, FrontProtocol

log = logging.getLogger("mlos.http")
# Asked by those who watch the server: answered also when it is full.
UNGATED: Final = ("/health", "/health/live", "/health/ready", "/metrics")


class Exchange:
    """One request on its way: what was sent of the answer, and to whom."""

    def __init__(self, scope: Scope, send: Send) -> None:
        connection = (scope.get("extensions") or {}).get(EXTENSION)
        self.protocol: FrontProtocol | None = connection["protocol"] if connection else None
        self.status = 0
        self.complete = False
        self._id = b""
        if openai_problems.speaks(scope["path"]):
            given = Headers(scope=scope).get("x-request-id", "")
            scope["mlos.request_id"] = openai_problems.request_id(given)
            self._id = scope["mlos.request_id"].encode()
        self._send = send
        if self.protocol is not None:
            self.protocol.task = asyncio.current_task()

    @property
    def gone(self) -> bool:
        """The client is no longer there."""
        return self.protocol is not None and self.protocol.gone

    async def send(self, message: Message) -> None:
        """ASGI's `send`, noting the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._id:
                message["headers"] = [*message["headers"], (b"x-request-id", self._id)]
        else:
            self.complete = not message.get("more_body", False)
        await self._send(message)


class Edge:
    """Checks who asks and whether there is room, counts, and turns every error into JSON."""

    def __init__(self, app: ASGIApp, gate: Gate, metrics: HttpMetrics, host: str) -> None:
        self._app = app
        self._gate = gate
        self._metrics = metrics
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises nothing but the end of the process."""
        began = time.perf_counter()
        exchange = Exchange(scope, send)
        scope["app"] = self  # makes the router raise its 404 and 405 instead of answering
        try:
            await self._serve(scope, receive, exchange)
        except asyncio.CancelledError:
            if not exchange.gone:  # the server stops
                await self._answer(scope, exchange, _stopping())
        except Exception as error:
            await self._answer(scope, exchange, self._known(scope, error))
        finally:
            if exchange.protocol is not None:
                exchange.protocol.task = None
            route = getattr(scope.get("route"), "path_format", "unmatched")
            self._metrics.observe(
                scope["method"], route, exchange.status, time.perf_counter() - began
            )

    async def _serve(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        headers = Headers(scope=scope)
        if origin := headers.get("origin"):
            check_origin(origin, headers.get("host", ""), self._host)
        gated = scope["path"] not in UNGATED
        with self._gate.request() if gated else nullcontext():
            await self._app(scope, receive, exchange.send)

    def _known(self, scope: Scope, error: Exception) -> MlosError | None:
        if isinstance(error, MlosError):
            return error
        if isinstance(error, ClientDisconnect):
            return None
        if isinstance(error, TimeoutError):
            return DeadlineExceeded("the deadline passed before the answer was ready")
        if isinstance(error, HTTPException):
            return _route_problem(scope, error)
        number = secrets.token_hex(4)
        log.error(
            "request %s %s failed (%s)", scope["method"], scope["path"], number, exc_info=error
        )
        return MlosError("internal error", hint=f"the daemon's log says more under {number}")

    async def _answer(self, scope: Scope, exchange: Exchange, error: MlosError | None) -> None:
        if error is None or exchange.gone or exchange.complete:
            return
        if exchange.status:  # too late for a status: the connection's end is the only sign
            if exchange.protocol is not None:
                exchange.protocol.abort()
            return
        speaks = openai_problems.speaks(scope["path"])
        response = openai_problems.response(error) if speaks else error_response(error)
        response.headers.update(_allow(scope, error))
        await response(scope, _nothing_more, exchange.send)


def error_response(error: MlosError) -> Response:
    """The response that says `error`."""
    return Response(
        problems.encode(error),
        status_code=error.http_status,
        headers=problems.headers_of(error),
        media_type="application/json",
    )


def _route_problem(scope: Scope, error: HTTPException) -> MlosError:
    method, path = scope["method"], scope["path"]
    if error.status_code == 405:
        allowed = _methods(scope)
        return MethodNotAllowed(f"{path} does not take {method}", hint=f"use {allowed}")
    return UnknownRoute(f"no route {method} {path}", hint="GET /docs lists the routes")


def _methods(scope: Scope) -> str:
    """Every method that some route takes at this path."""
    found: set[str] = set()
    for route in scope["router"].routes:
        if route.path_regex.match(scope["path"]):
            found |= route.methods
    return ", ".join(sorted(found))


def _allow(scope: Scope, error: MlosError) -> dict[str, str]:
    return {"allow": _methods(scope)} if isinstance(error, MethodNotAllowed) else {}


def _stopping() -> MlosError:
    return Unavailable("the server is stopping", hint="try again after the time of Retry-After")


async def _nothing_more() -> Any:
    return {"type": "http.disconnect"}
