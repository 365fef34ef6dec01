# SPDX-License-Identifier: BUSL-1.1
"""Opening model files: mapped, so that weights which nobody looks at are never read."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlos_core.errors import LoadFailed

LFS = b"version https://git-lfs"


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a file that is not empty.

    Raises:
        LoadFailed: it is empty, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise LoadFailed(f"{path.name} is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror}") from error


def refusal(path: Path, kind: str, reason: object) -> LoadFailed:
    """The error for a file that is not of its kind, with what it seems to be instead."""
    return LoadFailed(f"{path.name} is not {kind}: {reason}", hint=seems(head_of(path)))


def head_of(path: Path, size: int = 64) -> bytes:
    """The first bytes of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def seems(head: bytes) -> str:
    """What a file that begins like this is, and what to do."""
    if head.startswith(LFS):
        return "it is a Git LFS pointer; fetch the file itself with 'git lfs pull'"
    if head[:1] in (b"<", b"{"):
        return "it is text, perhaps an error page that was saved in the model's place"
    return "it may be cut off; fetch it again"
