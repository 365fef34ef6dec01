# SPDX-License-Identifier: BUSL-1.1
"""Templates, which plugin hosts are forked from: one for each interpreter, started when needed.

A template whose imported files were changed on disk forks no more; it stays until its hosts
have ended, whose exit statuses only it can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from typing import Final

from mlos_core.daemon import procs
from mlos_core.daemon.births import Births
from mlos_core.daemon.logs import Log
from mlos_core.daemon.peer import Peer
from mlos_core.daemon.procs import UNSEEN, describe_status
from mlos_core.errors import DeadlineExceeded, PluginBroken, Unavailable
from mlos_core.ipc import framing
from mlos_core.ipc.messages import Exited, Forked, FromTemplate, Stale, StartHost

_STOP_GRACE: Final = 5.0
_TRIES: Final = 3
_log = Log("template")
_numbers = itertools.count(1)


class _IsStale(Exception):
    """What the template has imported was changed on disk."""


class Child:
    """A process that a template has forked. `ended` has its exit status in the end."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = pidfd

    def kill(self) -> None:
        """SIGKILL; nothing if it is gone already."""
        if not self.ended.done():
            procs.kill(self._pidfd)

    def exited(self, status: int) -> None:
        """It was reaped."""
        if not self.ended.done():
            os.close(self._pidfd)
            self.ended.set_result(status)

    def orphaned(self) -> None:
        """Its parent is gone: the kernel tells when it ends, but not how."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._pidfd)
            self.exited(UNSEEN)

        if not self.ended.done():
            loop.add_reader(self._pidfd, gone)


class Template:
    """One running template."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.stale = False
        self._ended = asyncio.Event()
        self._children: dict[int, Child] = {}
        self._early: dict[int, int] = {}
        self._births = Births(f"the template of {python or sys.executable}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self._process = _spawn(python, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._peer = Peer(framing.Connection(ours), "template", self._frame, self._hung_up)
        self._peer.start()
        self._watch()

    @property
    def alive(self) -> bool:
        """Whether it can be asked to fork."""
        return not self.stale and not self._peer.closed

    @property
    def idle(self) -> bool:
        """Whether nobody lives whom it forked, or is to."""
        return not self._children and self._births.idle

    async def fork(self, plugin: str, fd: int, within: float) -> Child:
        """Start a host of `plugin` that talks through the socket `fd`.

        Raises:
            _IsStale: another template must do it.
            PluginBroken: the template ended.
            DeadlineExceeded: it did not answer in time.
        """
        number = next(_numbers)
        message = StartHost(number, plugin)
        try:
            pid, pidfd = await self._births.ask(self._peer, message, number, within, fd)
            child = self._children[number] = Child(pid, pidfd)
            child.ended.add_done_callback(lambda _: self._children.pop(number, None))
            if number in self._early:
                child.exited(self._early[number])
        except Unavailable:
            raise await self._broken() from None
        except DeadlineExceeded:
            self._process.kill()  # one that hangs must not be asked again; its hosts live on
            raise
        finally:
            self._early.pop(number, None)
        if self._peer.closed:
            child.orphaned()
        return child

    async def _broken(self) -> PluginBroken:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_GRACE):
                await self._ended.wait()
        status = self._process.returncode
        return PluginBroken(
            f"the interpreter {self.python or sys.executable}, which is to host plugins, "
            f"ended with {describe_status(UNSEEN if status is None else status)}",
            hint="see the daemon's log; it needs the mlos-core of the daemon's version",
        )

    async def stop(self) -> None:
        """Hang up and wait until the process is gone; after a grace time, kill it."""
        await self._births.settle(self._peer)
        self._peer.close()
        try:
            async with asyncio.timeout(_STOP_GRACE):
                await self._ended.wait()
        except TimeoutError:
            self._process.kill()
            await self._ended.wait()

    def _frame(self, body: bytes, fds: list[int]) -> None:
        message = framing.decode(body, FromTemplate)
        if isinstance(message, Forked):
            self._births.born(message, fds)
            return
        framing.close_all(fds)
        if isinstance(message, Stale):
            self.stale = True
            self._births.refused(message.owner, _IsStale("its files were changed"))
        else:
            self._reaped(message)

    def _reaped(self, message: Exited) -> None:
        child = self._children.get(message.owner)
        if child is not None:
            child.exited(message.status)
        elif not message.pid:
            error = PluginBroken("no plugin host can be forked", hint="see the daemon's log")
            self._births.refused(message.owner, error)
        elif self._births.awaits(message.owner):
            self._early[message.owner] = message.status  # it came with the birth

    def _hung_up(self, reason: str) -> None:
        self._births.end()
        for child in list(self._children.values()):
            child.orphaned()
        if reason:
            self._process.kill()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(self._process.pid)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            status = self._process.wait()
            expected = self._peer.closed or status == 0
            # What it said last is still in the socket: who was forked, and how they ended.
            self._peer.finish()
            self._peer.close()
            self._ended.set()
            level = _log.info if expected else _log.warning
            level("template_ended", pid=self._process.pid, status=describe_status(status))

        loop.add_reader(pidfd, ended)


class Templates:
    """Forks hosts of any interpreter."""

    def __init__(self) -> None:
        self._current: dict[str, Template] = {}
        self._every: set[Template] = set()

    async def fork(self, plugin: str, python: str, fd: int, within: float) -> Child:
        """Start a host of `plugin` in `python` that talks through the socket `fd`.

        Raises:
            PluginBroken: the interpreter cannot be started, or ended.
            DeadlineExceeded: it did not fork in time.
        """
        for _ in range(_TRIES):
            template = self._current.get(python)
            if template is None or not template.alive:
                template = self._current[python] = Template(python)
                self._every.add(template)
            with contextlib.suppress(_IsStale):
                return await template.fork(plugin, fd, within)
        raise PluginBroken(
            f"what {python or sys.executable} has installed changes all the time",
            hint="try again when the installation is done",
        )

    async def release(self, *, others: bool = False) -> None:
        """End the stale ones without hosts; with `others`, also those of other interpreters."""
        for template in list(self._every):
            current = self._current.get(template.python) is template and template.alive
            if template.idle and not (current and not (others and template.python)):
                if current:
                    del self._current[template.python]
                await template.stop()
                self._every.discard(template)

    async def stop(self) -> None:
        """End them all."""
        self._current.clear()
        await asyncio.gather(*(template.stop() for template in self._every))


def _spawn(python: str, fd: int) -> subprocess.Popen[bytes]:
    # -P: the current folder must not be searched for modules.
    command = [python or sys.executable, "-P", "-m", "mlos_core.worker.template"]
    try:
        return subprocess.Popen(
            [*command, "--fd", str(fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,
        )
    except OSError as err:
        raise PluginBroken(
            f"the interpreter {command[0]} cannot be started: {err.strerror}",
            hint="give a virtual environment, or a Python binary, with --python",
        ) from err
