# SPDX-License-Identifier: BUSL-1.1
"""A process that forks others when the daemon asks, and tells it of their births and deaths.

It has one thread, always: a fork copies no other. It ends when the daemon's end of the socket
closes; whom it forked lives on.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from mlos_core.ipc.framing import Connection, close_all
from mlos_core.ipc.messages import Exited, Forked

log = logging.getLogger(__name__)

_EX_OSERR: Final = 71


class Forker(ABC):
    """Forks children, each known to the daemon by the number it gave."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._children: dict[int, tuple[int, int]] = {}
        self._poller = select.poll()

    @abstractmethod
    def asked(self, body: bytes, fds: list[int]) -> None:
        """A message of the daemon; whose descriptors belong to the callee."""

    def run(self) -> None:
        """Serve until the daemon's end closes."""
        # What exists now is shared with all children: keep the collector from touching it.
        gc.collect()
        gc.freeze()
        self._poller.register(self.connection, select.POLLIN)
        while True:
            for fd, _ in self._poller.poll():
                if fd in self._children:
                    self._reap(fd)
                elif not self._read():
                    return

    def _read(self) -> bool:
        if not self.connection.feed():
            return False
        while (frame := self.connection.pop()) is not None:
            self.asked(*frame)
        return True

    def fork(self, owner: int, live: Callable[[], int]) -> None:
        """Start a child that does `live` and exits with what that returns."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as err:
            log.error("no process can be forked: %s", err)
            self.connection.send(Exited(owner, 0, _EX_OSERR))
            return
        if pid == 0:
            self._become(live)
        # The child is not reaped before its pidfd is closed: the pid cannot be reused yet.
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (owner, pid)
        self._poller.register(pidfd, select.POLLIN)
        self.connection.send(Forked(owner, pid), (pidfd,))

    def _become(self, live: Callable[[], int]) -> None:
        """In the child: forget the parent, live, and end."""
        status = _EX_OSERR
        try:
            self.connection.close()
            close_all(self._children)
            status = live()
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        owner, pid = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        self.connection.send(Exited(owner, pid, os.waitstatus_to_exitcode(status)))
