# SPDX-License-Identifier: BUSL-1.1
"""Appending to one upload, hashing what is appended."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable
from typing import IO, Final

import msgspec

from mlos_core.errors import NotFound, OutOfMemory, PayloadTooLarge

UNKNOWN: Final = -1
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class Upload(msgspec.Struct, frozen=True):
    """An upload: what was announced, and how many bytes are here.

    `sha256` is empty and `size` is `UNKNOWN` where that is only said at the end. One that is
    `finished` is a blob by now.
    """

    id: str
    sha256: str
    size: int
    offset: int
    finished: bool = False


class Digest:
    """A running SHA-256 that knows up to where it has come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._offset = 0

    def update(self, offset: int, block: bytes) -> None:
        """Take in a block, if it is the next one."""
        if offset == self._offset:
            self._hash.update(block)
            self._offset += len(block)

    def at(self, offset: int) -> str:
        """The hex digest, if it has come exactly there; else nothing."""
        return self._hash.hexdigest() if offset == self._offset else ""


class Writer:
    """Appends to one upload, which nobody else does meanwhile.

    A request that is cancelled may leave a thread behind that still writes: closing waits for
    it, so that it never writes to a descriptor that is somebody else's by then.

    Args:
        file: the upload's.
        upload: what it was when this began.
        limit: bytes that it may have at its end.
        digest: of what was written before; goes on.
        ask: told before each block how many bytes it has; what it raises stops the block.
    """

    def __init__(
        self,
        file: IO[bytes],
        upload: Upload,
        limit: int,
        digest: Digest,
        ask: Callable[[int], None],
    ) -> None:
        self._file = file
        self._limit = limit
        self._digest = digest
        self._ask = ask
        self._guard = threading.Lock()
        self._closed = False
        self.offset = upload.offset

    def close(self) -> None:
        """Write no more."""
        with self._guard:
            self._closed = True

    def write(self, block: bytes) -> None:
        """Append bytes.

        Raises:
            PayloadTooLarge: they are more than was announced, or than is allowed.
            OutOfMemory: the disk is full.
        """
        with self._guard:
            self._write(block)

    def _write(self, block: bytes) -> None:
        if self._closed:
            raise NotFound("the request that wrote to this upload is over")
        if self.offset + len(block) > self._limit:
            raise PayloadTooLarge(
                f"the upload is larger than the {self._limit} bytes it may have",
                hint="announce the size that the file has",
            )
        self._ask(len(block))
        left = memoryview(block)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise full() if error.errno in _FULL else error from error
        self._digest.update(self.offset, block)
        self.offset += len(block)


def full() -> OutOfMemory:
    """The error for a disk without room."""
    return OutOfMemory("the registry's disk has no room for that", hint="tell its administrator")
