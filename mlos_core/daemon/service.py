# SPDX-License-Identifier: BUSL-1.1
"""The daemon's operations, free of any protocol.

The control socket reaches them through `call`, the HTTP front end directly. Every method
raises `MlosError` only.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from mlos_core import __version__
from mlos_core.client import AsyncClient, connect_async
from mlos_core.config import Config
from mlos_core.daemon.model_operations import ModelOperations
from mlos_core.daemon.operations import starting
from mlos_core.daemon.plugin_operations import PluginOperations
from mlos_core.daemon.registry import Registry, RegistryFile
from mlos_core.daemon.reports import memory_now, stats_of
from mlos_core.errors import DeadlineExceeded, InvalidInput, NotFound, PermissionDenied

READ_METHODS: Final = frozenset({"models", "model", "plugins", "status", "stats", "ready"})
ADMIN_METHODS: Final = frozenset(
    {
        "register",
        "swap_model",
        "rollback_model",
        "route_model",
        "load_model",
        "unload_model",
        "unregister",
        "swap_plugin",
    }
)
_PING_TIMEOUT: Final = 15.0
_STATS_TIMEOUT: Final = 1.0
_PING_BYTES: Final = 1 << 16


class Service(ModelOperations, PluginOperations):
    """What the daemon can be asked for.

    Args:
        clients: how many clients are connected right now.
    """

    def __init__(
        self, config: Config, registry: Registry, file: RegistryFile, clients: Callable[[], int]
    ) -> None:
        super().__init__(config, registry, file)
        self._clients = clients
        self._client: AsyncClient | None = None
        self._pinger: AsyncClient | None = None
        self._started = time.monotonic()
        self._plugin_swaps = set()
        self.http_addresses: list[str] = []

    # --- wiring -----------------------------------------------------------------------

    async def connect(self) -> None:
        """Become a client of our own control socket, once it listens."""
        self._client = await connect_async(str(self._config.socket))
        # A connection of its own: a front that waits for one model must not delay the proof
        # that another one answers.
        self._pinger = await connect_async(str(self._config.socket))

    @property
    def client(self) -> AsyncClient:
        """The data plane, for the fronts."""
        if self._client is None:
            raise starting()
        return self._client

    @property
    def _prover(self) -> AsyncClient:
        if self._pinger is None:
            raise starting()
        return self._pinger

    async def ping(self, name: str, worker: int) -> None:
        """Return once that worker of the model answered through a channel.

        Raises:
            MlosError: it did not.
        """
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                handle = await self._prover.model(
                    name,
                    slots=1,
                    request_bytes=_PING_BYTES,
                    reply_bytes=_PING_BYTES,
                    worker=worker,
                )
                try:
                    await handle.ping()
                finally:
                    await handle.close()
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {_PING_TIMEOUT:g} s") from None

    async def close(self) -> None:
        """Leave our own socket."""
        clients = (self._client, self._pinger)
        self._client = self._pinger = None
        for client in clients:
            if client is not None:
                await client.close()

    # --- calls ------------------------------------------------------------------------

    async def call(self, method: str, params: dict[str, Any], uid: int) -> Any:
        """Run a method that a peer named.

        Raises:
            NotFound: no such method.
            PermissionDenied: only the daemon's own user may change things.
            InvalidInput: the parameters do not fit.
        """
        if method not in READ_METHODS | ADMIN_METHODS:
            raise NotFound(f"the daemon has no method {method!r}")
        if method in ADMIN_METHODS and uid not in (os.getuid(), 0):
            what = method.replace("_", " ")
            raise PermissionDenied(
                f"user {uid} may not {what}", hint="ask the user who runs the daemon"
            )
        function: Callable[..., Awaitable[Any]] = getattr(self, method)
        return await function(**_converted(method, function, params))

    # --- state ------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """The daemon's own state."""
        supervisor = self.supervisor
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "socket": str(self._config.socket),
            "http": list(self.http_addresses),
            "ready": self._is_ready(),
            "models": len(supervisor.models),
            "workers": len(supervisor.crew),
            "clients": self._clients(),
            "channels": len(supervisor.book),
            "memory": memory_now(supervisor.book.nbytes),
        }

    async def stats(self, name: str = "", histograms: bool = False) -> dict[str, dict[str, Any]]:
        """Counters of each model (or the one named), summed over workers past and present.

        With `histograms` there are the counts by bucket besides, of which intervals are made.
        """
        models = [self.supervisor.get(name)] if name else list(self.supervisor.models.values())
        workers = [worker for model in models for worker in model.workers.values()]
        if workers:
            await asyncio.gather(*(worker.ask_stats(_STATS_TIMEOUT) for worker in workers))
        return {model.name: stats_of(model, histograms=histograms) for model in models}

    async def ready(self) -> dict[str, Any]:
        """Whether the daemon is up and every model that has not failed answers."""
        states = {model.name: model.state for model in self.supervisor.models.values()}
        return {"ready": self._is_ready(), "models": states}

    async def health(self) -> dict[str, Any]:
        """That the daemon lives."""
        return {"status": "ok", "version": __version__, **await self.ready()}

    def _is_ready(self) -> bool:
        if self._client is None or self.stopping or not self.supervisor.settled.is_set():
            return False
        models = self.supervisor.models.values()
        return all(model.state in ("ready", "failed", "draining") for model in models)


def _converted(
    method: str, function: Callable[..., Awaitable[Any]], params: dict[str, Any]
) -> dict[str, Any]:
    """What a peer sent, as the method's hints want it.

    Raises:
        InvalidInput: a name or a type does not fit, or a number is none.
    """
    signature = inspect.signature(function, eval_str=True)
    try:
        signature.bind(**params)
    except TypeError as err:
        raise InvalidInput(f"{method}: {err}", hint="see the documentation") from None
    converted = {}
    for name, value in params.items():
        try:
            converted[name] = msgspec.convert(value, signature.parameters[name].annotation)
        except msgspec.ValidationError as err:
            raise InvalidInput(f"{method}: {name}: {err}", hint="correct the value") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(f"{method}: {name} is {value}", hint="give a number")
    if converted.get("timeout", 0) < 0:
        raise InvalidInput(f"{method}: a timeout below 0", hint="give seconds")
    return converted
