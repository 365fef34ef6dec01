# SPDX-License-Identifier: BUSL-1.1
"""Serving a registry in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from axon_client.registry.app import build
from axon_client.registry.protocol import RegistryProtocol
from axon_client.registry.site import Site
from mlos_core.errors import ConfigError, MlosError

log = logging.getLogger("axon.registry")
COLLECT_EVERY_S: Final = 3600.0
_BACKLOG: Final = 1024
_HEAD: Final = 32 << 10


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        ConfigError: the address does not exist, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the address {host!r} cannot be found: {error}") from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another --host or --port (0 for any free port)",
        ) from error
    return sock


def address_of(sock: socket.socket) -> str:
    """What clients call it: `http://127.0.0.1:8080`."""
    name = sock.getsockname()
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def serve(site: Site, sock: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way may end within the grace.

    Args:
        site: the registry.
        sock: where, from `listen`.
        ready: called once with the address, when requests are answered.
    """
    _allow_descriptors()
    config = uvicorn.Config(
        build(site),
        interface="asgi3",
        http=type("Protocol", (RegistryProtocol,), {"most": site.limits.connections}),
        loop="asyncio",  # uvloop has no sendfile
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD,
        timeout_graceful_shutdown=round(site.limits.grace),
    )
    server = _Server(config, lambda: ready(address_of(sock)))
    asyncio.run(_serve(server, site, sock))


def _allow_descriptors() -> None:
    """As many open files as the system lets us have: connections, and what they send."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """Leaves signals to us: a graceful stop is a success, not a death by signal."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(server: _Server, site: Site, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server)
    collecting = asyncio.create_task(_collect(site))
    try:
        await server.serve(sockets=[sock])
    finally:
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting


def _stop(server: _Server) -> None:
    server.force_exit = server.should_exit  # a second signal does not wait any more
    server.should_exit = True


async def _collect(site: Site) -> None:
    """Delete what nothing needs, from time to time."""
    while True:
        try:
            freed = await asyncio.to_thread(site.blobs.collect)
            if freed.blobs:
                log.info("collected %d blobs, %d bytes", freed.blobs, freed.bytes)
        except (MlosError, OSError) as error:
            log.warning("collection failed: %s", error)
        await asyncio.sleep(COLLECT_EVERY_S)
