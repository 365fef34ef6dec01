# SPDX-License-Identifier: BUSL-1.1
"""Plugin hosts: one process per plugin that has it imported and forks its workers.

A host ends when the daemon's end of its socket closes; the workers it forked live on. It
has a session of its own, so ctrl-C in the daemon's terminal does not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from mlos_core import __version__
from mlos_core.daemon.logs import Log
from mlos_core.daemon.peer import Peer
from mlos_core.errors import DeadlineExceeded, MlosError, PluginBroken, ProtocolError, Unavailable
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


def describe_status(status: int) -> str:
    """`exit code 3` or `SIGSEGV`, from an exit status as `waitstatus_to_exitcode` gives it."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class PluginHost:
    """One running host."""

    def __init__(
        self, plugin: str, python: str, on_exited: OnExited, on_gone: Callable[[], None]
    ) -> None:
        self.plugin = plugin
        self.python = python
        self.info: PluginInfo | None = None
        self._on_exited = on_exited
        self._on_gone = on_gone
        self._forks: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._unanswered: set[int] = set()
        self._answered = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._peer: Peer | None = None
        self._ended = asyncio.Event()
        self._imported: asyncio.Future[PluginInfo] | None = None

    @property
    def pid(self) -> int:
        """The process, 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it can be asked to fork."""
        return self._peer is not None and not self._peer.closed and not self._ended.is_set()

    async def start(self, within: float) -> PluginInfo:
        """Start the process and wait until the plugin is imported.

        Raises:
            PluginBroken: the import failed, ended the process or took longer than `within` seconds.
        """
        loop = asyncio.get_running_loop()
        self._imported = loop.create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(theirs)
            failed = stack.enter_context(contextlib.ExitStack())
            failed.callback(ours.close)
            self._process = _spawn(self.plugin, self.python, theirs.fileno())
            failed.pop_all()
        self._watch(loop)
        self._peer = Peer(
            framing.Connection(ours), f"host {self.plugin}", self._frame, self._hung_up
        )
        self._peer.start()
        try:
            async with asyncio.timeout(within):
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

    async def fork(self, spec: WorkerSpec, within: float) -> tuple[int, int]:
        """Start a worker: its pid and a pidfd that the caller owns.

        Raises:
            Unavailable: the host ended.
            DeadlineExceeded: it did not answer in time.
        """
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        if self._peer is None or not self.alive:
            raise Unavailable(f"the host of plugin {self.plugin!r} is gone")
        self._forks[spec.owner] = future
        self._unanswered.add(spec.owner)
        self._peer.send(Fork(spec))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(
                f"the host of plugin {self.plugin!r} did not fork within {within:g} s"
            ) from None
        except asyncio.CancelledError:
            # The birth may have been told in the moment in which nobody wanted it any more.
            if future.done() and not future.cancelled() and future.exception() is None:
                _unwanted(future.result()[1])
            raise
        finally:
            self._forks.pop(spec.owner, None)

    async def stop(self) -> None:
        """Hang up and wait until the process is gone; after a grace time, kill it."""
        await self._hear_out()
        if self._peer is not None:
            self._peer.close()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_STOP_GRACE):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("host_killed", plugin=self.plugin, pid=self.pid)
            self._process.kill()
            await self._ended.wait()

    async def _hear_out(self) -> None:
        """A worker whose birth we never hear of could not be ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_GRACE):
                while self._unanswered and self.alive:
                    self._answered.clear()
                    await self._answered.wait()

    # --- events -----------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        process = self._process
        assert process is not None
        pidfd = os.pidfd_open(process.pid)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._exited(process.wait())

        loop.add_reader(pidfd, ended)

    def _exited(self, status: int) -> None:
        self._ended.set()
        self._answered.set()
        expected = self._peer is None or self._peer.closed
        if self._peer is not None:
            # What it said last is still in the socket: the reason, or who was forked.
            self._drain_socket()
            self._peer.close()
        self._fail(
            PluginBroken(
                f"the plugin host ended with {describe_status(status)}",
                hint="the plugin's import ended it; see the daemon's log",
            )
        )
        level = _log.info if expected or status == 0 else _log.warning
        level("host_ended", plugin=self.plugin, pid=self.pid, status=describe_status(status))
        self._on_gone()

    def _drain_socket(self) -> None:
        peer = self._peer
        with contextlib.suppress(BlockingIOError, OSError, MlosError):
            while peer is not None and not peer.closed and peer.connection.feed():
                while (frame := peer.connection.pop()) is not None:
                    self._frame(*frame)

    def _hung_up(self, reason: str) -> None:
        self._answered.set()
        for future in self._forks.values():
            if not future.done():
                future.set_exception(Unavailable(f"the host of plugin {self.plugin!r} is gone"))
        if reason and self._process is not None and not self._ended.is_set():
            self._process.kill()

    def _fail(self, error: PluginBroken) -> None:
        if self._imported is not None and not self._imported.done():
            self._imported.set_exception(error)

    def _frame(self, body: bytes, fds: list[int]) -> None:
        message = framing.decode(body, FromHost)
        if isinstance(message, Forked):
            self._forked(message, fds)
            return
        framing.close_all(fds)
        if isinstance(message, Exited):
            self._told(message.owner)
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

    def _told(self, owner: int) -> None:
        self._unanswered.discard(owner)
        self._answered.set()

    def _forked(self, message: Forked, fds: list[int]) -> None:
        self._told(message.owner)
        future = self._forks.get(message.owner)
        if len(fds) != 1:
            framing.close_all(fds)
            raise ProtocolError("a host forked a worker without giving its pidfd")
        if future is None or future.done():
            _unwanted(fds[0])
        else:
            future.set_result((message.pid, fds[0]))


def _unwanted(pidfd: int) -> None:
    """End a worker that nobody waits for any more: nobody would ever watch it."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def broken(message: HostBroken) -> PluginBroken:
    """The error for what a host said; the traceback rides along for `plugins`."""
    # Of a new version that is not taken, or in another interpreter, `plugins` says nothing.
    hint = "the log of mlosd has the traceback" if message.traceback else ""
    error = PluginBroken(message.reason, hint=hint)
    error.add_note(message.traceback)
    return error


def _spawn(plugin: str, python: str, fd: int) -> subprocess.Popen[bytes]:
    # -P: the current folder must not be searched for modules.
    command = [python or sys.executable, "-P", "-m", "mlos_core.worker.host"]
    try:
        return subprocess.Popen(
            [*command, "--plugin", plugin, "--fd", str(fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,
        )
    except OSError as err:
        raise PluginBroken(
            f"the interpreter {command[0]} cannot be started: {err.strerror}",
            hint="give a virtual environment, or a Python binary, with --python",
        ) from err
