# SPDX-License-Identifier: BUSL-1.1
"""A lock between processes, on a file, with a deadline.

The kernel releases it when its holder dies, so a killed installation blocks nobody.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlos_core.errors import DeadlineExceeded

_RETRY_S = 0.02


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the exclusive lock on `path`, which is created if need be.

    Raises:
        DeadlineExceeded: another process held it for `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("ab") as file:
        while not try_lock(file):
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"another axon process has held {path} for {timeout_s:g} s",
                    hint="wait until it has finished, then try again",
                )
            time.sleep(_RETRY_S)
        yield


def try_lock(file: IO[bytes]) -> bool:
    """Take the lock if it is free. Closing the file gives it back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
