# SPDX-License-Identifier: BUSL-1.1
"""All plugin hosts, at most one per plugin, started when first needed."""

from __future__ import annotations

import asyncio

from mlos_core.daemon.host import OnExited, PluginHost
from mlos_core.daemon.logs import Log
from mlos_core.daemon.plugins import Catalog, PluginStatus, discover
from mlos_core.errors import PluginBroken, Unavailable
from mlos_core.ipc.messages import PluginInfo, WorkerSpec

_log = Log("hosts")


class Hosts:
    """Starts hosts and keeps what they said of their plugins in the catalog."""

    def __init__(self, load_timeout: float, on_exited: OnExited) -> None:
        self.catalog = Catalog()
        self._timeout = load_timeout
        self._on_exited = on_exited
        self._hosts: dict[str, PluginHost] = {}
        self._starting: dict[str, asyncio.Task[PluginHost]] = {}
        self._stopped = False

    def alive(self, plugin: str) -> bool:
        """Whether a host of the plugin runs."""
        host = self._hosts.get(plugin)
        return host is not None and host.alive

    def refresh(self) -> None:
        """Look again at what is installed."""
        self.catalog.update(discover())

    async def ensure(self, plugin: str) -> PluginHost:
        """The running host of a plugin, started if need be.

        Raises:
            NotFound: no such plugin is installed.
            PluginBroken: it cannot be imported, or its name is claimed twice.
        """
        starting = self._starting.get(plugin)
        if starting is None:
            host = self._hosts.get(plugin)
            if host is not None and host.alive:
                return host
            starting = self._begin(plugin)
        # Several callers wait for one start, and one who gives up must not end it.
        return await asyncio.shield(starting)

    def _begin(self, plugin: str) -> asyncio.Task[PluginHost]:
        if self._stopped:
            raise Unavailable("the daemon is going down")
        self.refresh()
        self.catalog.check(plugin)
        task = asyncio.get_running_loop().create_task(self._start(plugin))
        self._starting[plugin] = task

        def started(task: asyncio.Task[PluginHost]) -> None:
            del self._starting[plugin]
            if not task.cancelled():
                task.exception()

        task.add_done_callback(started)
        return task

    async def _start(self, plugin: str) -> PluginHost:
        host = PluginHost(plugin, self._on_exited, lambda: self._gone(plugin, host))
        self._hosts[plugin] = host
        try:
            info = await host.start(self._timeout)
        except PluginBroken as err:
            notes = "\n".join(getattr(err, "__notes__", []))
            self.catalog.broken(plugin, err.message, notes)
            _log.warning("plugin_broken", plugin=plugin, reason=err.message)
            raise
        self.catalog.probed(plugin, info)
        return host

    def _gone(self, plugin: str, host: PluginHost) -> None:
        if self._hosts.get(plugin) is host:
            del self._hosts[plugin]

    async def fork(self, spec: WorkerSpec) -> tuple[int, int]:
        """Start a worker in its plugin's host: pid and pidfd (see `PluginHost.fork`)."""
        host = await self.ensure(spec.plugin)
        return await host.fork(spec, self._timeout)

    async def probe(self, plugin: str) -> PluginInfo | None:
        """What the plugin says of itself; `None` if it is broken. Remembered."""
        info = self.catalog.info(plugin)
        if info is not None:
            return info
        if self.catalog.status(plugin).state != "unprobed":
            return None
        try:
            await self.ensure(plugin)
        except PluginBroken:
            return None
        return self.catalog.info(plugin)

    async def release(self, used: set[str]) -> None:
        """Stop every host whose plugin is not in `used`: frameworks are heavy."""
        for plugin, host in list(self._hosts.items()):
            if plugin not in used and plugin not in self._starting:
                await host.stop()

    def statuses(self) -> list[PluginStatus]:
        """What the user sees of every installed plugin."""
        return [self.catalog.status(name) for name in self.catalog.names()]

    async def stop(self) -> None:
        """Stop them all, for good."""
        self._stopped = True
        for task in list(self._starting.values()):
            task.cancel()
        await asyncio.gather(*(host.stop() for host in list(self._hosts.values())))
