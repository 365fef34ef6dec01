# SPDX-License-Identifier: BUSL-1.1
"""Files, mapped or read: only regular ones, only as large as they may be."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from mlos_core.errors import LoadFailed


def map_file(path: Path) -> memoryview:
    """A file's bytes, mapped read-only and shared with whoever maps it too.

    Raises:
        LoadFailed: it is not there, not readable, empty or no regular file.
    """
    descriptor = _open(path)
    try:
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as err:
        raise LoadFailed(f"{path} cannot be mapped: {err}") from None
    finally:
        os.close(descriptor)


def read_file(path: Path, most: int) -> bytes:
    """The content of a small file.

    Raises:
        LoadFailed: as with `map_file`, or it has more than `most` bytes.
    """
    with open(_open(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise LoadFailed(f"{path} has more than {most} bytes")
    return content


def _open(path: Path) -> int:
    """A descriptor of a regular file; a pipe does not make us wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as err:
        raise LoadFailed(f"{path} cannot be opened: {err}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LoadFailed(f"{path} is no regular file")
    return descriptor
