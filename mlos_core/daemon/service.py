# SPDX-License-Identifier: BUSL-1.1
"""The daemon's operations, free of any protocol.

The control socket reaches them through `call`, the HTTP front end directly. Every method
raises `MlosError` only.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mlos_core import __version__
from mlos_core.client import AsyncClient, connect_async
from mlos_core.config import Config
from mlos_core.daemon import plugins as plugin_rules
from mlos_core.daemon.logs import Log
from mlos_core.daemon.registry import ModelEntry, Registry, RegistryFile
from mlos_core.daemon.reports import info_of, memory_now, merge, totals
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.errors import (
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

READ_METHODS: Final = frozenset({"models", "model", "plugins", "status", "stats", "ready"})
ADMIN_METHODS: Final = frozenset({"register", "unregister"})
_PING_TIMEOUT: Final = 15.0
_STATS_TIMEOUT: Final = 1.0
_PING_BYTES: Final = 1 << 16
_log = Log("service")


class Service:
    """What the daemon can be asked for.

    Args:
        clients: how many clients are connected right now.
    """

    def __init__(
        self, config: Config, registry: Registry, file: RegistryFile, clients: Callable[[], int]
    ) -> None:
        self._config = config
        self._registry = registry
        self._file = file
        self._clients = clients
        self._client: AsyncClient | None = None
        self._pinger: AsyncClient | None = None
        self._started = time.monotonic()
        self._supervisor: Supervisor | None = None
        self.http_addresses: list[str] = []
        self.stopping = False

    # --- wiring -----------------------------------------------------------------------

    def attach(self, supervisor: Supervisor) -> None:
        """The supervisor and the service need each other."""
        self._supervisor = supervisor

    @property
    def supervisor(self) -> Supervisor:
        """Who runs the models."""
        if self._supervisor is None:
            raise Unavailable("the daemon is starting", hint="try again in a moment")
        return self._supervisor

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
            raise Unavailable("the daemon is starting", hint="try again in a moment")
        return self._client

    @property
    def _prover(self) -> AsyncClient:
        if self._pinger is None:
            raise Unavailable("the daemon is starting", hint="try again in a moment")
        return self._pinger

    async def ping(self, name: str) -> None:
        """Return once a worker of the model answered through a channel.

        Raises:
            MlosError: it did not.
        """
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                handle = await self._prover.model(
                    name, slots=1, request_bytes=_PING_BYTES, reply_bytes=_PING_BYTES
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
            raise PermissionDenied(
                f"user {uid} may not {method} models", hint="ask the user who runs the daemon"
            )
        function: Callable[..., Awaitable[Any]] = getattr(self, method)
        try:
            inspect.signature(function).bind(**params)
        except TypeError as err:
            raise InvalidInput(f"{method}: {err}", hint="see the documentation") from None
        return await function(**params)

    # --- models -----------------------------------------------------------------------

    async def register(
        self,
        name: str,
        path: str,
        plugin: str = "",
        version: str = "",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
        instances: int = 1,
        batch: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        warmup: bool = True,
        replace: bool = False,
        wait: bool = True,
        timeout: float = 60.0,
    ) -> dict[str, Any]:
        """Load a model and give it a name.

        With `wait`, return once it is ready; if it fails to load, nothing stays registered
        (or, with `replace`, the old model goes on). Without, return at once.

        Raises:
            InvalidInput, NotFound: a parameter is wrong, or no plugin fits.
            AlreadyExists: the name is taken and `replace` is not given.
            LoadFailed, PluginBroken: why it is not served.
            DeadlineExceeded: it still loads after `timeout` seconds, and goes on loading.
        """
        self._refuse_if_stopping()
        entry = _entry(
            name=name,
            path=path,
            plugin=plugin,
            version=version,
            device=device,
            options=options or {},
            instances=instances,
            batch=batch or {},
            manifest=manifest,
            warmup=warmup,
            registered_at=time.time(),
        )
        await self._settled(timeout)
        if not entry.plugin:
            entry = msgspec.structs.replace(entry, plugin=await self._choose(entry))
        else:
            self.supervisor.hosts.refresh()
            self.supervisor.hosts.catalog.check(entry.plugin)
        if name in self.supervisor.models:
            return await self._again(entry, replace, wait, timeout)
        return await self._first(entry, wait, timeout)

    async def _first(self, entry: ModelEntry, wait: bool, within: float) -> dict[str, Any]:
        self._registry.put(entry, replace=True)
        self._file.save(self._registry)
        model = self.supervisor.add(entry)
        _log.info("model_registered", model=entry.name, plugin=entry.plugin, path=entry.path)
        if wait:
            try:
                await model.wait_until(lambda: model.state == "ready", within)
            except DeadlineExceeded:
                if model.error is None:
                    raise
                await self._forget(entry.name)
                raise
            except MlosError:
                if self.supervisor.models.get(entry.name) is model:
                    await self._forget(entry.name)
                raise
        return info_of(model)

    async def _again(
        self, entry: ModelEntry, replace: bool, wait: bool, within: float
    ) -> dict[str, Any]:
        name = entry.name
        model = self.supervisor.get(name)
        trial = Registry(self._registry)
        trial.put(entry, replace=replace)
        if model.state == "failed" or model.ending is not None:
            await self._forget(name)
            return await self._first(entry, wait, within)
        if model.entry.same_as(entry):
            if wait:
                await model.wait_until(lambda: model.state == "ready", within)
            return info_of(model)
        candidate = self.supervisor.begin_replace(entry)

        def replaced() -> bool:
            if candidate.error is not None:
                raise candidate.error
            return model.fleet is candidate

        # The old registration stays on disk until the new one serves: a crash now, and the
        # next daemon comes back with what worked.
        await model.wait_until(replaced, max(within, self._config.load_timeout))
        self._registry.put(entry, replace=True)
        self._file.save(self._registry)
        return info_of(model)

    async def unregister(self, name: str) -> dict[str, Any]:
        """Let the model's workers finish what they hold, end them and forget the model.

        Raises:
            NotFound: no such model.
        """
        await self._settled(self._config.adopt_grace * 2)
        model = self.supervisor.get(name)
        await self._forget(name)
        _log.info("model_unregistered", model=name)
        return info_of(model)

    async def _forget(self, name: str) -> None:
        if name in self._registry:
            self._registry.remove(name)
            self._file.save(self._registry)
        await self.supervisor.remove(name)

    async def models(self) -> list[dict[str, Any]]:
        """Every registered model."""
        return [info_of(m) for _, m in sorted(self.supervisor.models.items())]

    async def model(self, name: str) -> dict[str, Any]:
        """One model; raises `NotFound`."""
        return info_of(self.supervisor.get(name))

    def _refuse_if_stopping(self) -> None:
        if self.stopping:
            raise Unavailable("the daemon is going down", hint="wait for the next one")

    async def _settled(self, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self.supervisor.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded("the daemon is still starting", hint="try again") from None

    # --- plugins ----------------------------------------------------------------------

    async def plugins(self) -> list[dict[str, Any]]:
        """Every installed plugin; those not known yet are imported in a host to see."""
        hosts = self.supervisor.hosts
        hosts.refresh()
        for name in hosts.catalog.names():
            await hosts.probe(name)
        await hosts.release(self.supervisor.plugins_in_use())
        plain: list[dict[str, Any]] = msgspec.to_builtins(hosts.statuses())
        return plain

    async def _choose(self, entry: ModelEntry) -> str:
        hosts = self.supervisor.hosts
        hosts.refresh()
        path = Path(entry.path)
        words = plugin_rules.wanted(path, entry.manifest)
        for name in plugin_rules.probe_order(hosts.catalog.names(), words):
            info = await hosts.probe(name)
            if info is not None and plugin_rules.matches(info, words):
                return name
        await hosts.release(self.supervisor.plugins_in_use())
        raise plugin_rules.no_plugin(path, words, hosts.statuses())

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

    async def stats(self, name: str = "") -> dict[str, dict[str, Any]]:
        """Counters of each model (or the one named), summed over workers past and present."""
        models = [self.supervisor.get(name)] if name else list(self.supervisor.models.values())
        workers = [worker for model in models for worker in model.workers.values()]
        if workers:
            await asyncio.gather(*(worker.ask_stats(_STATS_TIMEOUT) for worker in workers))
        return {model.name: merge(totals(model), model) for model in models}

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


def _entry(**fields: Any) -> ModelEntry:
    """A checked entry of what came over a wire."""
    try:
        entry = msgspec.convert(fields, ModelEntry)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"the registration does not fit: {err}", hint="correct it") from None
    entry.check()
    path = Path(entry.path)
    if not path.is_absolute():
        raise InvalidInput(
            f"the path {entry.path!r} is relative", hint="give an absolute path to the daemon"
        )
    if not path.exists():
        raise NotFound(f"there is no file or folder {entry.path}", hint="check the path")
    return entry
