# SPDX-License-Identifier: BUSL-1.1
"""Processes that are not our children: pidfds and start times.

A pid alone names nobody: it may be used again. A pidfd does, and so does a pid together
with the time its process started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from pathlib import Path
from typing import Final

from mlos_core.ipc.framing import Connection

_SO_PEERPIDFD: Final = 77
UNSEEN: Final = 1 << 20
"""The exit status of a process whose parent did not live to see it."""


def describe_status(status: int) -> str:
    """`exit code 3` or `SIGSEGV`, from an exit status as `waitstatus_to_exitcode` gives it."""
    if status == UNSEEN:
        return "a status that nobody saw"
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of `pid`; 0 when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name in parentheses may itself hold spaces and parentheses.
    return int(text.rpartition(")")[2].split()[19])


def open_if_same(pid: int, started: int) -> int:
    """A pidfd of `pid` if its process started at `started`, else -1."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return -1
    # Checked after opening: the descriptor holds on to whoever has the pid now.
    if start_time(pid) == started and not ended(fd):
        return fd
    os.close(fd)
    return -1


def ended(pidfd: int) -> bool:
    """Whether the process is gone."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def kill(pidfd: int) -> None:
    """SIGKILL; nothing if it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def peer_pidfd(connection: Connection) -> int:
    """A pidfd of the process that connected; -1 if it is gone already."""
    with contextlib.suppress(OSError):
        return connection.sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    # A kernel before 6.5: the pid could in theory have been used again since connect().
    with contextlib.suppress(OSError):
        return os.pidfd_open(connection.peer()[0])
    return -1
