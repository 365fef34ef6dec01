# SPDX-License-Identifier: BUSL-1.1
"""HTTP over a Unix socket: a keep-alive connection that posts raw bytes.

The server is Starlette on uvicorn with uvloop and httptools, the client is the standard
library's, as most Python HTTP clients in use are built on it.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ipc_peers.peer import CONNECT_S, Bytes, Peer

read, write = struct.Struct("d").unpack_from, struct.Struct("d").pack


class UnixConnection(http.client.HTTPConnection):
    """`http.client` on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


async def infer(request: Request) -> Response:
    return Response(write(*read(await request.body())), media_type="application/octet-stream")


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


class Http(Peer):
    """One route, no middleware, no access log."""

    @property
    def path(self) -> str:
        return str(self.setting.folder / "http")

    def serve(self, ready: Callable[[], None]) -> None:
        app = Starlette(routes=[Route("/infer", infer, methods=["POST"])])
        options: dict[str, Any] = {"log_level": "error", "access_log": False, "lifespan": "off"}
        config = uvicorn.Config(app, uds=self.path, http="httptools", **options)
        Server(config, ready).run()  # ends on SIGTERM, which it then raises again

    def connect(self) -> None:
        self.connection = UnixConnection(self.path)
        self.connection.connect()

    def caller(self, payload: Bytes) -> Callable[[], float]:
        request, response = self.connection.request, self.connection.getresponse
        headers = {"content-type": "application/octet-stream"}

        def call() -> float:
            request("POST", "/infer", payload.tobytes(), headers)
            return read(response().read())[0]

        return call

    def close(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
