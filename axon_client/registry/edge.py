# SPDX-License-Identifier: BUSL-1.1
"""Around the routes: how many requests, how long each, what an error looks like, the log."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from axon_client.registry.http import refusal
from axon_client.registry.limits import Limits
from axon_client.registry.problems import SlowRequest, UnknownPath, WrongMethod
from axon_client.registry.sending import ZERO_COPY, Stalled
from mlos_core.errors import InvalidInput, MlosError, Overloaded

access_log = logging.getLogger("axon.registry.access")
log = logging.getLogger("axon.registry")
_GONE: Final = 499
_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
)


class Edge:
    """The application, seen from outside: every request gets an answer, every error is JSON."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        begun = time.monotonic()
        self._running += 1
        try:
            await self._answer({**scope, "app": self}, receive, answer)
        finally:
            self._running -= 1
            _note(scope, answer, time.monotonic() - begun)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            if self._running > self._limits.requests:
                raise Overloaded("the server has enough to do", hint="try again later")
            async with asyncio.timeout(self._limits.request_time) as deadline:
                scope["axon.deadline"] = deadline
                await self._app(scope, receive, answer)
        except (ClientDisconnect, Stalled) as reason:
            answer.status = _GONE
            log.debug("%s", reason)
        except asyncio.CancelledError:
            answer.status = _GONE  # the server stops; this is the end of the request's task
        except TimeoutError:
            await self._refuse(SlowRequest("this request took too long"), scope, receive, answer)
        except HTTPException as error:
            await self._refuse(_known(error), scope, receive, answer)
        except MlosError as error:
            await self._refuse(error, scope, receive, answer)
        except Exception as error:
            log.exception("%s %s", scope["method"], _path(scope))
            fault = MlosError(f"the server failed: {type(error).__name__}", hint="see its log")
            await self._refuse(fault, scope, receive, answer)

    async def _refuse(
        self, error: MlosError, scope: Scope, receive: Receive, answer: _Answer
    ) -> None:
        if answer.status == 0:  # else the connection ends in the middle, which says it, too
            await refusal(error)(scope, receive, answer)


class _Answer:
    """Passes an answer on, and remembers its status and size."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *_SAFE]}
        elif message["type"] == ZERO_COPY:
            self.size += message["count"]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def _known(error: HTTPException) -> MlosError:
    if error.status_code == 404:
        return UnknownPath("the server has no such path", hint="docs/registry.md lists them")
    if error.status_code == 405:
        wrong = WrongMethod("this path is not for this method")
        wrong.allowed = (error.headers or {}).get("Allow", "")
        return wrong
    return InvalidInput(str(error.detail))


def _path(scope: Scope) -> str:
    raw: Any = scope.get("raw_path") or scope["path"].encode()
    return bytes(raw).decode("ascii", "backslashreplace")


def _note(scope: Scope, answer: _Answer, seconds: float) -> None:
    client = scope.get("client") or ("-", 0)
    status = answer.status or _GONE
    access_log.info(
        "%s %s %s %d %d bytes %.1f ms",
        client[0],
        scope["method"],
        _path(scope),
        status,
        answer.size,
        seconds * 1000,
    )
