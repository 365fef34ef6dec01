# SPDX-License-Identifier: BUSL-1.1
"""SHA-256 of files, in one pass and bounded memory."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mlos_core.errors import InvalidInput

CHUNK = 1 << 20


def ignore(count: int) -> None:
    """Nobody wants to know how many bytes there were."""


def hash_file(path: Path, advance: Callable[[int], None] = ignore) -> str:
    """The hex SHA-256 of a regular file's contents.

    Raises:
        InvalidInput: it is a pipe, a device or a folder.
    """
    # A named pipe would otherwise wait for a writer that never comes.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"{path} is not a regular file")
        digest = hashlib.sha256()
        while block := file.read(CHUNK):
            digest.update(block)
            advance(len(block))
        return digest.hexdigest()


def git_blob(size: int) -> hashlib._Hash:
    """The beginning of what git hashes to name a file: its kind and its size."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def git_name(path: Path) -> str:
    """The hex SHA-1 that git calls a file's contents by."""
    with path.open("rb") as file:
        digest = git_blob(os.fstat(file.fileno()).st_size)
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def copy_durably(
    source: IO[bytes], target: Path, limit: int, advance: Callable[[int], None] = ignore
) -> tuple[int, str]:
    """Copy at most `limit` bytes into a new file, flushed to disk.

    Returns:
        The number of bytes and their hex SHA-256.

    Raises:
        InvalidInput: the source holds more than `limit` bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while block := source.read(CHUNK):
            size += len(block)
            if size > limit:
                raise InvalidInput(f"{target.name} is larger than the {limit} bytes it may have")
            file.write(block)
            digest.update(block)
            advance(len(block))
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()
