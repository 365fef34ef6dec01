# SPDX-License-Identifier: BUSL-1.1
"""Workers that outlived their daemon, and how the next one finds them.

`workers.json` in the run folder names each worker's pid together with the start time of its
process. A restarted daemon opens a pidfd for those that still live, waits until they have
connected again, and kills the rest: only then is everything they held orphaned.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mlos_core.daemon import procs
from mlos_core.daemon.files import write_atomic
from mlos_core.daemon.logs import Log

_log = Log("adoption")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One worker. `started` is in clock ticks since boot; `version` and `registered_at` tell
    which registration it runs."""

    owner: int
    lane: int
    pid: int
    started: int
    model: str
    version: str = ""
    registered_at: float = 0.0


class WorkersFile:
    """The living workers, on disk while they live."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, records: Iterable[Record]) -> None:
        """Replace the file. It need not survive a power cut: no worker does."""
        data = msgspec.json.encode(sorted(records, key=lambda record: record.owner))
        write_atomic(self.path, data, durable=False)

    def load(self) -> list[Record]:
        """What the last daemon wrote; damaged or missing is empty, with a log line."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Record])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as err:
            # Workers we cannot find end by themselves once their orphan grace is over.
            _log.error("workers_file_unreadable", path=str(self.path), reason=str(err))
            return []


class Survivor(msgspec.Struct):
    """A worker of the last daemon that lives. Owns `pidfd`."""

    record: Record
    pidfd: int


def survivors(records: Iterable[Record]) -> dict[int, Survivor]:
    """Those that still live, by pid."""
    found: dict[int, Survivor] = {}
    for record in records:
        pidfd = procs.open_if_same(record.pid, record.started)
        if pidfd >= 0:
            found[record.pid] = Survivor(record, pidfd)
    return found


def kill(survivor: Survivor) -> None:
    """End one that did not come back; returns at once."""
    _log.warning("survivor_killed", pid=survivor.record.pid, model=survivor.record.model)
    procs.kill(survivor.pidfd)


def wait_ended(survivor: Survivor, within: float = 5.0) -> None:
    """Block until one that was killed is gone."""
    poll = select.poll()
    poll.register(survivor.pidfd, select.POLLIN)
    if not poll.poll(within * 1000):
        _log.error("survivor_lingers", pid=survivor.record.pid, model=survivor.record.model)


def release(survivor: Survivor) -> None:
    """Close the pidfd."""
    os.close(survivor.pidfd)
