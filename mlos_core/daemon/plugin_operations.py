# SPDX-License-Identifier: BUSL-1.1
"""Operations on plugins: list them, and replace one while its models serve."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.host import PluginHost
from mlos_core.daemon.hosts import Key
from mlos_core.daemon.interpreters import interpreter
from mlos_core.daemon.logs import Log
from mlos_core.daemon.operations import Operations
from mlos_core.daemon.plugins import PluginStatus
from mlos_core.daemon.swaps import Canary, Change, canary_of
from mlos_core.errors import AlreadyExists

_log = Log("service")


class PluginOperations(Operations):
    """What can be done with plugins; see `Service`."""

    _plugin_swaps: set[Key]

    async def plugins(self) -> list[dict[str, Any]]:
        """Every installed plugin; those not known yet are imported in a host to see."""
        hosts = self.supervisor.hosts
        hosts.refresh()
        for name in hosts.catalog.names():
            await hosts.probe(name)
        await self.supervisor.release_hosts()
        rows = [self._row(status, "") for status in hosts.statuses()]
        for host in hosts.others():
            info = host.info
            if info is not None:
                status = PluginStatus(
                    info.name,
                    "ready",
                    version=info.version,
                    formats=info.formats,
                    framework=info.framework,
                    smi_version=info.smi_version,
                )
                rows.append(self._row(status, host.python))
        return rows

    def _row(self, status: PluginStatus, python: str) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(status)
        hosts = self.supervisor.hosts
        users = self._users(status.name, python)
        return plain | {
            "python": python,
            "warm": hosts.current(status.name, python) is not None,
            "workers": sum(len(deployment.workers) for deployment in users),
        }

    def _users(self, plugin: str, python: str) -> list[Deployment]:
        return [
            deployment
            for model in self.supervisor.models.values()
            for deployment in model.deployments.values()
            if (deployment.entry.plugin, deployment.entry.python) == (plugin, python)
        ]

    async def swap_plugin(
        self,
        name: str,
        python: str = "",
        canary: float = 0.0,
        max_error_rate: float = 0.05,
        timeout: float = 300.0,
    ) -> dict[str, Any]:
        """Serve all models of a plugin on the code of it that is installed now.

        A new host imports it; its workers load and warm the same models beside the old ones.
        Either all of them take over or none.

        Raises:
            NotFound, PluginBroken: it cannot be imported; the old one goes on.
            LoadFailed, ModelFailed, DeadlineExceeded: a model is not served by it.
            AlreadyExists: it is being swapped already.
        """
        self._refuse_if_stopping()
        await self._settled(timeout)
        key = (name, interpreter(python))
        if key in self._plugin_swaps:
            raise AlreadyExists(f"the plugin {name!r} is being swapped", hint="wait until it is")
        self._plugin_swaps.add(key)
        began = asyncio.get_running_loop().time()
        try:
            old, new, models = await self._swap(key, canary_of(canary, max_error_rate), timeout)
        finally:
            self._plugin_swaps.discard(key)
        seconds = round(asyncio.get_running_loop().time() - began, 3)
        _log.info("plugin_swapped", plugin=name, from_=old, to=new, models=len(models))
        return {
            "plugin": name,
            "from_version": old,
            "to_version": new,
            "models": models,
            "seconds": seconds,
        }

    async def _swap(self, key: Key, canary: Canary, within: float) -> tuple[str, str, list[str]]:
        hosts = self.supervisor.hosts
        before = hosts.current(*key)
        host = await hosts.start_beside(*key)
        running = [
            d for d in self._users(*key) if d.fleet.started and not d.unloading and d.error is None
        ]
        now = time.time()
        changes = [
            Change(d, msgspec.structs.replace(d.entry, registered_at=now), host) for d in running
        ]
        try:
            await self._swaps.swap(
                changes, canary, within, promoted=lambda: self._taken_over(changes, host)
            )
        except BaseException:
            if hosts.current(*key) is not host:
                await hosts.discard(host)
            raise
        old = before.info.version if before is not None and before.info is not None else ""
        new = host.info.version if host.info is not None else ""
        await self.supervisor.release_hosts()
        return old, new, sorted({d.entry.title for d in running})

    def _taken_over(self, changes: list[Change], host: PluginHost) -> None:
        self.supervisor.hosts.succeed(host)
        for change in changes:
            self._registry.put(change.entry, replace=True)
        self._save()
