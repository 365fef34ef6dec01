# SPDX-License-Identifier: BUSL-1.1
"""Digests of a file that is being written: of its parts, and of the whole in order.

SHA-256 of a whole cannot be put together from its parts. So the parts may arrive in any
order, and `Follower` hashes the file from the front as far as it is there: it reads what was
written a moment ago, from memory, and needs one block of its own however large the file is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

from axon_client.errors import IntegrityError
from axon_client.hashing import git_blob

BLOCK = 1 << 20


class Follower:
    """Hashes a file's bytes in order.

    Args:
        file: descriptor of the file, open for reading.
        git_size: also make git's name of a file of so many bytes; -1 is not to.
    """

    def __init__(self, file: int, git_size: int = -1) -> None:
        self._file = file
        self._buffer = memoryview(bytearray(BLOCK))
        self._sha256 = hashlib.sha256()
        self._git = git_blob(git_size) if git_size >= 0 else None
        self.position = 0

    def advance(self, end: int) -> None:
        """Hash what lies between the last call's end and this one."""
        for block in blocks(self._file, self.position, end, self._buffer):
            self._sha256.update(block)
            if self._git:
                self._git.update(block)
        self.position = end

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of what was hashed."""
        return self._sha256.hexdigest()

    @property
    def git_sha1(self) -> str:
        """Git's hex name of what was hashed; empty if it was not asked for."""
        return self._git.hexdigest() if self._git else ""


def hash_range(file: int, start: int, end: int, stopped: Callable[[], bool]) -> str:
    """The hex SHA-256 of a range of a file; of less of it once `stopped`."""
    digest = hashlib.sha256()
    for block in blocks(file, start, end, memoryview(bytearray(BLOCK))):
        digest.update(block)
        if stopped():
            break
    return digest.hexdigest()


def blocks(file: int, start: int, end: int, buffer: memoryview) -> Iterator[memoryview]:
    """The bytes of a range, as views of `buffer`; each is gone when the next one comes."""
    while start < end:
        count = os.preadv(file, [buffer[: end - start]], start)
        if not count:
            raise IntegrityError("the partial file became shorter while it was downloaded")
        yield buffer[:count]
        start += count
