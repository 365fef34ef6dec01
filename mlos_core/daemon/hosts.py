# SPDX-License-Identifier: BUSL-1.1
"""All plugin hosts: of each plugin and interpreter one that is current, started when needed.

A swap starts a host beside the current one, which becomes current when its workers serve;
whoever was forked by the old one lives on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mlos_core.daemon import interpreters
from mlos_core.daemon.host import OnExited, PluginHost
from mlos_core.daemon.logs import Log
from mlos_core.daemon.plugins import Catalog, PluginStatus, discover
from mlos_core.daemon.tasks import Tasks
from mlos_core.daemon.template import Templates
from mlos_core.errors import MlosError, PluginBroken, Unavailable
from mlos_core.ipc.messages import PluginInfo, WorkerSpec

Key = tuple[str, str]
"""Plugin, and the interpreter that hosts it ("": the daemon's own)."""
_log = Log("hosts")


class Hosts:
    """Starts hosts and keeps what they said of their plugins in the catalog.

    Args:
        load_timeout: seconds for a plugin's import, and for a fork.
        on_exited: told what became of the workers they forked.
        warm: plugins whose hosts stay although nothing uses them.
    """

    def __init__(self, load_timeout: float, on_exited: OnExited, warm: Iterable[str] = ()) -> None:
        self.catalog = Catalog()
        self._timeout = load_timeout
        self._on_exited = on_exited
        self._warm = frozenset(warm)
        self._hosts: dict[Key, PluginHost] = {}
        self._spare: set[PluginHost] = set()
        self._starting: dict[Key, asyncio.Task[PluginHost]] = {}
        self._templates = Templates()
        self._tasks = Tasks()
        self._stopped = False

    def current(self, plugin: str, python: str = "") -> PluginHost | None:
        """The host that new workers come from, if it runs."""
        host = self._hosts.get((plugin, python))
        return host if host is not None and host.alive else None

    def alive(self, spec: WorkerSpec, host: PluginHost | None = None) -> bool:
        """Whether a host runs that may have forked this worker."""
        if host is None:
            host = self.current(spec.plugin, spec.python)
        return host is not None and host.alive

    def refresh(self) -> None:
        """Look again at what is installed."""
        self.catalog.update(discover())

    # --- starting ---------------------------------------------------------------------

    async def ensure(self, plugin: str, python: str = "") -> PluginHost:
        """The running host of a plugin, started if need be.

        Raises:
            NotFound: no such plugin is installed.
            PluginBroken: it cannot be imported, or its name is claimed twice.
        """
        key = (plugin, python)
        starting = self._starting.get(key)
        if starting is None:
            host = self.current(plugin, python)
            if host is not None:
                return host
            starting = self._begin(key)
        # Several callers wait for one start, and one who gives up must not end it.
        return await asyncio.shield(starting)

    def _begin(self, key: Key) -> asyncio.Task[PluginHost]:
        self._check(key)
        task = asyncio.get_running_loop().create_task(self._start(key))
        self._starting[key] = task

        def started(task: asyncio.Task[PluginHost]) -> None:
            del self._starting[key]
            if not task.cancelled():
                task.exception()

        task.add_done_callback(started)
        return task

    def _check(self, key: Key) -> None:
        if self._stopped:
            raise Unavailable("the daemon is going down")
        plugin, python = key
        if not python:  # what another interpreter has installed only its host can tell
            self.refresh()
            self.catalog.check(plugin)

    async def _start(self, key: Key) -> PluginHost:
        host = self._hosts[key] = self._make(key)
        try:
            await self._import(host)
        except PluginBroken:
            other = self._hosts.get(key)
            if other is None or other is host or other.info is None or not other.alive:
                raise
            if not other.python:
                self.catalog.probed(other.plugin, other.info)
            return other  # a swap has put it in our place, and stopped us
        finally:
            if not host.pid:
                self._gone(key, host)
        return host

    def _make(self, key: Key) -> PluginHost:
        host = PluginHost(
            *key, self._templates, self._on_exited, on_gone=lambda: self._gone(key, host)
        )
        return host

    async def _import(self, host: PluginHost) -> None:
        try:
            info = await host.start(self._timeout)
        except PluginBroken as err:
            notes = "\n".join(getattr(err, "__notes__", []))
            if not host.python:
                self.catalog.broken(host.plugin, err.message, notes)
            _log.warning("plugin_broken", plugin=host.plugin, reason=err.message)
            raise
        if not host.python:
            self.catalog.probed(host.plugin, info)

    def _gone(self, key: Key, host: PluginHost) -> None:
        self._spare.discard(host)
        if self._hosts.get(key) is host:
            del self._hosts[key]
        if not self._stopped:
            self._tasks.spawn(self._templates.release(), "release templates")

    # --- swapping ---------------------------------------------------------------------

    async def start_beside(self, plugin: str, python: str = "") -> PluginHost:
        """A host of what is installed now, beside the current one; see `succeed` and `discard`.

        Raises:
            NotFound, PluginBroken: as `ensure`; the current host goes on.
        """
        key = (plugin, python)
        self._check(key)
        before = self.catalog.info(plugin) if not python else None
        host = self._make(key)
        self._spare.add(host)
        try:
            await self._import(host)
        except BaseException:
            self._spare.discard(host)
            if before is not None:
                self.catalog.probed(plugin, before)  # which is what serves
            raise
        return host

    def succeed(self, host: PluginHost) -> None:
        """A spare host is the current one from now on; the one before is stopped."""
        self._spare.discard(host)
        key = (host.plugin, host.python)
        old = self._hosts.get(key)
        self._hosts[key] = host
        if old is not None:
            self._spare.add(old)
            self._tasks.spawn(old.stop(), f"stop the old host of {host.plugin}")

    async def discard(self, host: PluginHost) -> None:
        """A spare host was not good enough."""
        self._spare.discard(host)
        await host.stop()

    # --- using ------------------------------------------------------------------------

    async def fork(self, spec: WorkerSpec, host: PluginHost | None = None) -> tuple[int, int]:
        """Start a worker in its plugin's host: pid and pidfd (see `PluginHost.fork`)."""
        if host in self._spare and not host.alive:
            # The current one would do it, with the old code.
            raise PluginBroken(
                f"the new host of plugin {spec.plugin!r} has ended", hint="see the daemon's log"
            )
        if host is None or not host.alive:
            host = await self.ensure(spec.plugin, spec.python)
        return await host.fork(spec, self._timeout)

    async def probe(self, plugin: str, python: str = "") -> PluginInfo | None:
        """What the plugin says of itself; `None` if it is broken. Remembered."""
        if python:
            try:
                return (await self.ensure(plugin, python)).info
            except PluginBroken:
                return None
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

    async def names(self, python: str = "") -> list[str]:
        """The plugins an interpreter has installed; raises `PluginBroken` if it is none."""
        if python:
            return await interpreters.plugins_of(python, self._timeout)
        self.refresh()
        return self.catalog.names()

    async def warm_up(self) -> None:
        """Start the hosts that are kept although nothing uses them yet."""
        for plugin in sorted(self._warm):
            try:
                await self.ensure(plugin)
            except MlosError as err:
                _log.warning("host_not_warm", plugin=plugin, reason=str(err))

    async def release(self, used: Callable[[], set[Key]]) -> None:
        """Stop every host that is neither used nor kept warm: frameworks are heavy.

        Asked anew for each, for stopping one takes time.
        """
        for key, host in list(self._hosts.items()):
            kept = not key[1] and key[0] in self._warm
            if key not in used() and not kept and key not in self._starting:
                await host.stop()
        await self._templates.release(others=True)

    def statuses(self) -> list[PluginStatus]:
        """What the user sees of every installed plugin."""
        return [self.catalog.status(name) for name in self.catalog.names()]

    def others(self) -> list[PluginHost]:
        """Current hosts of other interpreters than the daemon's own."""
        return [host for (_, python), host in sorted(self._hosts.items()) if python and host.alive]

    async def stop(self) -> None:
        """Stop them all, for good."""
        self._stopped = True
        for task in list(self._starting.values()):
            task.cancel()
        every = [*self._hosts.values(), *self._spare]
        await asyncio.gather(*(host.stop() for host in every))
        await self._templates.stop()
