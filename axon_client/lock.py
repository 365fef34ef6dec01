# SPDX-License-Identifier: BUSL-1.1
"""Locks between processes, on files, with a deadline.

The kernel releases them when their holder dies, so a killed installation blocks nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlos_core.errors import DeadlineExceeded

_RETRY_S = 0.02
_RETRY_CLAIM_S = 0.05


@contextmanager
def locked(path: Path, timeout_s: float, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock on `path`, which is created if need be.

    Args:
        shared: others may hold it too, if they asked for a shared one as well.

    Raises:
        DeadlineExceeded: another process held it for `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("ab") as file:
        while not try_lock(file, shared=shared):
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"another axon process has held {path} for {timeout_s:g} s",
                    hint="wait until it has finished, then try again",
                )
            time.sleep(_RETRY_S)
        yield


def try_lock(file: IO[bytes], *, shared: bool = False) -> bool:
    """Take the lock if it is free. Closing the file gives it back."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def claimed(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on a file that exists only while somebody has it or waits for it.

    Args:
        waiting: called before each further try; ends the wait by raising.
    """
    while True:
        with path.open("ab") as file:
            # The one before may have deleted the file that was opened here: then its lock
            # says nothing, and another one is made.
            if try_lock(file) and _still_there(file, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        waiting()
        time.sleep(_RETRY_CLAIM_S)


def remove_if_free(path: Path, work: Callable[[], None] | None = None) -> bool:
    """Delete such a file that nobody holds, having done `work` meanwhile; False if one does."""
    try:
        with claimed(path, _give_up):
            if work:
                work()
    except DeadlineExceeded:
        return False
    return True


def _give_up() -> None:
    raise DeadlineExceeded("another axon process works on it")


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the lock on the file `path`."""
    try:
        with path.open("rb") as file:
            return not try_lock(file)
    except FileNotFoundError:
        return False


def _still_there(file: IO[bytes], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(file.fileno())
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
