# SPDX-License-Identifier: BUSL-1.1
"""Files that are there whole or not at all, and names that outlast a power cut."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlos_core.errors import PermissionDenied


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends without an error.

    Its bytes are on the disk before it has its name. Until then it is called `.axon-<random>`,
    which is allowed wherever `path` is, however long that is.

    Args:
        mode: its permissions, less those that the umask takes away.

    Raises:
        PermissionDenied: nothing may be written there.
    """
    new = path.with_name(f".axon-{secrets.token_hex(8)}")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except PermissionError as error:
        raise PermissionDenied(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
