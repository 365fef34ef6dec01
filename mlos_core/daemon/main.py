# SPDX-License-Identifier: BUSL-1.1
"""The composition root: everything is made, started and stopped here, in this order.

lock - registry - control socket - adoption - own client - models - HTTP front
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from typing import Protocol

import uvloop

from mlos_core import __version__
from mlos_core.config import Config, make_private
from mlos_core.daemon import logs
from mlos_core.daemon.allocate import OwnersFile
from mlos_core.daemon.control import ControlServer
from mlos_core.daemon.files import Lock
from mlos_core.daemon.logs import Log
from mlos_core.daemon.registry import RegistryFile
from mlos_core.daemon.restoring import restore
from mlos_core.daemon.service import Service
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.errors import ConfigError, MlosError
from mlos_core.ipc import channel as segments

_log = Log("main")


class RunningFront(Protocol):
    """A front end that listens."""

    @property
    def addresses(self) -> list[str]:
        """Where."""

    async def stop(self) -> None:
        """Finish what is under way, then close."""


def run(config: Config) -> int:
    """Be the daemon until a signal ends it; the exit status.

    Raises:
        MlosError: it could not start.
    """
    handler = logs.setup(config.log_format, config.log_level, sys.stderr)
    run_lock = Lock(make_private(config.run_path, config.run_dir_mode) / "mlosd.lock")
    state_lock = Lock(make_private(config.state_path) / "mlosd.lock")
    try:
        run_lock.acquire()
        state_lock.acquire()
        return uvloop.run(_main(config))
    finally:
        state_lock.release()
        run_lock.release()
        logs.teardown(handler)


async def _main(config: Config) -> int:
    daemon = Daemon(config)
    stop, now = _signals()
    running = asyncio.ensure_future(daemon.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            await stopping
    finally:
        for task in (running, stopping):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await daemon.stop(now)
    return 0


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events: stop gracefully (the first SIGTERM or SIGINT), and stop now (the second)."""
    loop = asyncio.get_running_loop()
    stop, now = asyncio.Event(), asyncio.Event()

    def received(name: str) -> None:
        _log.info("signal", name=name, second=stop.is_set())
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number.name)
    # A closed terminal is no reason to end a service.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return stop, now


class Daemon:
    """All parts of the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._front: RunningFront | None = None
        self._made = False

    def _make(self) -> None:
        config = self._config
        file = RegistryFile(config.registry_file)
        registry = file.load()
        owners = OwnersFile(config.owners_file).load()
        self.registry = registry
        self.service = Service(config, registry, file, lambda: self.control.clients)
        self.supervisor = Supervisor(config, owners, self.service.ping)
        self.service.attach(self.supervisor)
        self.control = ControlServer(config, self.supervisor, self.service)
        self._made = True

    async def start(self) -> None:
        """Start everything; returns when the daemon serves.

        Raises:
            MlosError: something it needs cannot be had.
        """
        segments.sweep()
        self._make()
        self.control.start()
        await self.service.connect()
        restoring = asyncio.ensure_future(
            restore(self.supervisor, self.registry, self._config.workers_file)
        )
        try:
            await self._start_front()
            await restoring
        finally:
            restoring.cancel()
        _notify("READY=1")
        _log.info(
            "daemon_ready",
            version=__version__,
            pid=os.getpid(),
            socket=str(self._config.socket),
            http=",".join(self.service.http_addresses) or "off",
            models=len(self.registry),
        )

    async def _start_front(self) -> None:
        config = self._config
        if not config.http:
            return
        # In a thread: the models' plugin hosts start meanwhile.
        front = await asyncio.to_thread(importlib.import_module, "mlos_core.front.http")
        try:
            self._front = await front.serve(self.service, config)
        except OSError as err:
            raise ConfigError(
                f"HTTP cannot listen on {config.http_host}:{config.http_port}: {err.strerror}",
                hint="choose another --http-port (0 takes any free one), or --no-http",
            ) from err
        self.service.http_addresses = list(self._front.addresses)

    async def stop(self, now: asyncio.Event) -> None:
        """End in order: nobody new, let what runs finish, then let go. `now` cuts it short."""
        if not self._made:
            return
        _notify("STOPPING=1")
        keep = self._config.keep_workers
        self.service.stopping = True
        self.control.stop_accepting()
        graceful = asyncio.ensure_future(self._finish(keep))
        hurry = asyncio.ensure_future(now.wait())
        await asyncio.wait((graceful, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not graceful.done():
            graceful.cancel()
        with contextlib.suppress(asyncio.CancelledError, MlosError):
            await graceful
        await self._let_go(keep)
        _log.info("daemon_stopped", kept_workers=keep)

    async def _finish(self, keep: bool) -> None:
        if self._front is not None:
            await self._front.stop()
        if not keep:
            await self.supervisor.drain_all()

    async def _let_go(self, keep: bool) -> None:
        await self.service.close()
        await self.supervisor.stop(keep_workers=keep)
        await self.control.stop()


def _notify(state: str) -> None:
    """Tell systemd, if it asked."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as err:
            _log.warning("notify_failed", reason=str(err))
