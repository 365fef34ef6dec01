# SPDX-License-Identifier: BUSL-1.1
"""The HTTP front end: Starlette's router over uvicorn's HTTP protocol in the daemon's loop.

Starlette and not Litestar: `bench/http_framework.py` runs no-op handlers under both, with
the same server (medians in microseconds, one connection, two cores, Python 3.11):

    case                  bare ASGI   Starlette   Litestar
    JSON, Unix socket            40          62        107
    JSON, TCP                    65          72        115
    588 KiB, Unix socket        167         182        212
    588 KiB, TCP                164         183        213

Beside the time: a model's name may hold slashes in front of a suffix (`/models/a/b/infer`),
which Starlette's convertors match and Litestar's path parameters cannot.

uvicorn is used as a protocol, not as a server: its `Server` takes the signal handlers and
wakes ten times a second, and the daemon has its own loop, signals and shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.routing import Router
from starlette.types import ASGIApp

from mlos_core.errors import ConfigError, MlosError
from mlos_core.front import endpoint, listen, openapi
from mlos_core.front.core import Core
from mlos_core.front.edge import Edge
from mlos_core.front.endpoint import Endpoint
from mlos_core.front.limits import Limits
from mlos_core.front.memory import keep_freed_memory
from mlos_core.front.ports import HttpConfig, Service
from mlos_core.front.protocol import FrontProtocol, FrontState
from mlos_core.front.table import ENDPOINTS

log = logging.getLogger("mlos.http")
_FLUSH_S = 1.0


class RunningFront:
    """A front end that serves. `addresses` is where."""

    def __init__(self, core: Core, state: FrontState, sockets: Sequence[socket.socket]) -> None:
        self.core = core
        self.addresses = [listen.address_of(sock) for sock in sockets]
        self._state = state
        self._files = [_File(sock) for sock in sockets if sock.family == socket.AF_UNIX]
        self._servers: list[asyncio.Server] = []
        self._stopped = False

    async def start(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on `sockets`, which are ours from now on."""
        config = _uvicorn_config(app, self._state.limits)
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return FrontProtocol(config, self._state, {}, loop)

        for sock in sockets:
            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(connection, sock=sock)
            else:
                server = await loop.create_server(connection, sock=sock)
            self._servers.append(server)

    async def stop(self) -> None:
        """Take no more, let running requests end within the grace, cancel the rest."""
        if self._stopped:
            return
        self._stopped = True
        for server in self._servers:
            server.close()
        for file in self._files:
            file.remove()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._finish(self._state.limits.grace)
        for task in list(self._state.tasks):
            task.cancel("the server stops")
        await self._finish(_FLUSH_S)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self.core.close()

    async def _finish(self, seconds: float) -> None:
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=seconds)


class _File:
    """The path of a Unix socket, removed only while it is still this one."""

    def __init__(self, sock: socket.socket) -> None:
        self._path = Path(sock.getsockname())
        self._inode = self._path.stat().st_ino

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def build(
    service: Service,
    limits: Limits,
    host: str = "",
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> tuple[Core, ASGIApp]:
    """The application, and what its routes share."""
    core = Core(service, limits)
    core.document = msgspec.json.encode(openapi.document(endpoints))
    router = Router(endpoint.routes(core, endpoints), redirect_slashes=False)
    return core, Edge(router, core.gate, core.metrics, host)


async def serve(service: Service, config: HttpConfig, limits: Limits | None = None) -> RunningFront:
    """Serve `service` on the addresses that `config` names, in the running loop.

    Args:
        service: what is served; it stays the caller's.
        config: addresses and the largest body.
        limits: the other bounds; the default ones if not given.

    Raises:
        ConfigError, AlreadyExists: an address cannot be listened on.
    """
    keep_freed_memory()
    limits = limits or Limits(body=config.body_limit)
    core, app = build(service, limits, config.http_host)
    sockets = _open(config)
    front = RunningFront(core, FrontState(limits), sockets)
    await front.start(app, sockets)
    log.info("HTTP on %s", ", ".join(front.addresses))
    return front


def _open(config: HttpConfig) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        if config.http_host:
            sockets.append(listen.tcp(config.http_host, config.http_port))
        if config.http_socket:
            sockets.append(listen.unix(Path(config.http_socket)))
    except MlosError:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise ConfigError("HTTP has no address", hint="set http_host or http_socket")
    return sockets


def _uvicorn_config(app: Any, limits: Limits) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=FrontProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=1,
        timeout_keep_alive=limits.idle_timeout,
    )
    config.load()
    return config
