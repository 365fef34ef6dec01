# SPDX-License-Identifier: BUSL-1.1
"""Plugin hosts: one process per plugin that has it imported and forks its workers.

A host ends when the daemon's end of its socket closes; the workers it forked live on. It
has a session of its own, so ctrl-C in the daemon's terminal does not reach it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final

from mlos_core import __version__
from mlos_core.daemon.births import Births, Born
from mlos_core.daemon.logs import Log
from mlos_core.daemon.peer import Peer
from mlos_core.daemon.procs import describe_status
from mlos_core.daemon.template import Child, Templates
from mlos_core.errors import DeadlineExceeded, PluginBroken
from mlos_core.ipc import framing
from mlos_core.ipc.messages import (
    Exited,
    Fork,
    Forked,
    FromHost,
    HostBroken,
    HostReady,
    PluginInfo,
    WorkerSpec,
)

OnExited = Callable[[Exited], None]
_STOP_GRACE: Final = 5.0
_log = Log("host")


class PluginHost:
    """One running host."""

    def __init__(
        self,
        plugin: str,
        python: str,
        templates: Templates,
        on_exited: OnExited,
        on_gone: Callable[[], None],
    ) -> None:
        self.plugin = plugin
        self.python = python
        self.info: PluginInfo | None = None
        self._on_exited = on_exited
        self._on_gone = on_gone
        self._templates = templates
        self._births = Births(f"the host of plugin {plugin!r}")
        self._process: Child | None = None
        self._peer: Peer | None = None
        self._imported: asyncio.Future[PluginInfo] | None = None

    @property
    def pid(self) -> int:
        """The process, 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it can be asked to fork."""
        process, peer = self._process, self._peer
        return bool(process and not process.ended.done() and peer and not peer.closed)

    async def start(self, within: float) -> PluginInfo:
        """Start the process and wait until the plugin is imported.

        Raises:
            PluginBroken: the import failed, ended the process or took longer than `within` seconds.
        """
        end = asyncio.get_running_loop().time() + within
        self._imported = asyncio.get_running_loop().create_future()
        await self._begin(within)
        assert self._process is not None
        try:
            async with asyncio.timeout_at(end):
                info = await self._imported
        except TimeoutError:
            # Busy importing, it would not hear us hang up; and it has forked nobody yet.
            self._process.kill()
            await self.stop()
            raise PluginBroken(
                f"the plugin {self.plugin!r} was not imported within {within:g} s",
                hint="raise load_timeout, or see what its import does",
            ) from None
        except PluginBroken:
            await self.stop()
            raise
        except asyncio.CancelledError:
            self._process.kill()  # likewise; nobody waits for its import any more
            raise
        self.info = info
        _log.info("host_ready", plugin=self.plugin, pid=self.pid, version=info.version)
        return info

    async def _begin(self, within: float) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with theirs:
            try:
                process = await self._templates.fork(
                    self.plugin, self.python, theirs.fileno(), within
                )
            except DeadlineExceeded as err:
                ours.close()
                raise PluginBroken(err.message, hint="raise load_timeout") from err
            except BaseException:
                ours.close()
                raise
        self._process = process
        self._peer = Peer(
            framing.Connection(ours), f"host {self.plugin}", self._frame, self._hung_up
        )
        self._peer.start()
        process.ended.add_done_callback(lambda ended: self._exited(ended.result()))

    async def fork(self, spec: WorkerSpec, within: float) -> Born:
        """Start a worker: its pid and a pidfd that the caller owns.

        Raises:
            Unavailable: the host ended.
            DeadlineExceeded: it did not answer in time.
        """
        peer = self._peer if self.alive else None
        return await self._births.ask(peer, Fork(spec), spec.owner, within)

    async def stop(self) -> None:
        """Hang up and wait until the process is gone; after a grace time, kill it."""
        await self._births.settle(self._peer)
        if self._peer is not None:
            self._peer.close()
        if self._process is None:
            return
        ended = asyncio.shield(self._process.ended)
        try:
            async with asyncio.timeout(_STOP_GRACE):
                await ended
        except TimeoutError:
            _log.warning("host_killed", plugin=self.plugin, pid=self.pid)
            self._process.kill()
            await asyncio.shield(self._process.ended)

    # --- events -----------------------------------------------------------------------

    def _exited(self, status: int) -> None:
        assert self._peer is not None
        expected = self._peer.closed
        # What it said last is still in the socket: the reason, or who was forked.
        self._peer.finish()
        self._peer.close()
        self._births.end()
        self._fail(
            PluginBroken(
                f"the plugin host ended with {describe_status(status)}",
                hint="the plugin's import ended it; see the daemon's log",
            )
        )
        level = _log.info if expected or status == 0 else _log.warning
        level("host_ended", plugin=self.plugin, pid=self.pid, status=describe_status(status))
        self._on_gone()

    def _hung_up(self, reason: str) -> None:
        self._births.end()
        if reason and self._process is not None:
            self._process.kill()

    def _fail(self, error: PluginBroken) -> None:
        if self._imported is not None and not self._imported.done():
            self._imported.set_exception(error)

    def _frame(self, body: bytes, fds: list[int]) -> None:
        message = framing.decode(body, FromHost)
        if isinstance(message, Forked):
            self._births.born(message, fds)
            return
        framing.close_all(fds)
        if isinstance(message, Exited):
            self._births.told(message.owner)
            self._on_exited(message)
        elif isinstance(message, HostReady):
            self._introduced(message)
        else:
            self._fail(broken(message))

    def _introduced(self, message: HostReady) -> None:
        if message.core != __version__:
            self._fail(
                PluginBroken(
                    f"the interpreter {self.python or sys.executable} has mlos-core "
                    f"{message.core or 'of an older protocol'}, the daemon {__version__}",
                    hint="install the same version of mlos-core there",
                )
            )
        elif self._imported is not None and not self._imported.done():
            self._imported.set_result(message.plugin)


def broken(message: HostBroken) -> PluginBroken:
    """The error for what a host said; the traceback rides along for `plugins`."""
    # Of a new version that is not taken, or in another interpreter, `plugins` says nothing.
    hint = "the log of mlosd has the traceback" if message.traceback else ""
    error = PluginBroken(message.reason, hint=hint)
    error.add_note(message.traceback)
    return error
