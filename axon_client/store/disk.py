# SPDX-License-Identifier: BUSL-1.1
"""What the store asks of a file system: links, clones, an atomic exchange, and durability."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from axon_client.files import sync_folder

NO_HARD_LINKS = {
    errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS,
}  # fmt: skip
_FICLONE = 0x40049409
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def link(blob: Path, at: Path) -> None:
    """A hard link; a symbolic one where the file system has no hard links."""
    if not hard_link(blob, at):
        at.symlink_to(blob)


def hard_link(source: Path, at: Path) -> bool:
    """A second name for a file, if the file system and its rules allow it."""
    try:
        at.hardlink_to(source)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return False
    return True


def clone(source: IO[bytes], target: IO[bytes]) -> bool:
    """Make the empty file `target` share the blocks of `source`, where that can be done."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at one instant, if the file system can do that."""
    import ctypes  # only a replacement needs it, and each start would pay for it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    done = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    return bool(done == 0)


def sync(file: IO[bytes]) -> None:
    """Bring what was written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Bring a file's contents to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_tree(path: Path) -> None:
    """Bring the names in a folder, and in those below it, to the disk."""
    for folder, _, _ in os.walk(path):
        sync_folder(Path(folder))


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def prune(folder: Path, root: Path) -> None:
    """Delete `folder` and the folders around it below `root`, as far as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise
        folder = folder.parent


def files_below(folder: Path) -> Iterator[Path]:
    """Every file and link below a folder; none if it is gone."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)
