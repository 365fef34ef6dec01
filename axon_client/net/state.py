# SPDX-License-Identifier: BUSL-1.1
"""What a partial file holds: a line of JSON about the file, then one for each part.

Lines are only added, so a process that is killed leaves at worst an unfinished one, which
is not counted. Nothing is flushed to the disk: after a power cut the digests tell which of
the parts that are named really are there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from axon_client.net.plan import MOST_PARTS
from mlos_core.errors import Unavailable

_MOST_BYTES = 4 << 20


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which file this is.

    Attributes:
        digest: `sha256:…` or `git_sha1:…` as the source stated it; empty if it did not.
        url: where it comes from, for a file without a digest.
        validator: what the server called its state then.
    """

    size: int
    part_bytes: int
    digest: str = ""
    url: str = ""
    validator: str = ""
    version: int = 1


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part, and the hex SHA-256 of its bytes."""

    part: int
    sha256: str


class State:
    """The state file of one download; this process holds it alone.

    Raises:
        Unavailable: another process is at it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _alone(path)

    def read(self) -> tuple[Head | None, dict[int, str]]:
        """What an earlier download left; None if that is nothing, or not to be understood."""
        lines = os.pread(self._file, _MOST_BYTES, 0).split(b"\n")[:-1]
        try:
            head = msgspec.json.decode(lines[0], type=Head)
        except (LookupError, msgspec.DecodeError, UnicodeDecodeError):
            return None, {}
        if head.size < 0 or head.part_bytes < 1 or head.size > MOST_PARTS * head.part_bytes:
            return None, {}
        count = -(-head.size // head.part_bytes)
        return head, {p.part: p.sha256 for p in _parts(lines[1:]) if 0 <= p.part < count}

    def begin(self, head: Head) -> None:
        """Forget everything, and say which file this is."""
        os.ftruncate(self._file, 0)
        os.write(self._file, msgspec.json.encode(head) + b"\n")

    def add(self, part: int, sha256: str) -> None:
        """A part is there."""
        os.write(self._file, msgspec.json.encode(Part(part, sha256)) + b"\n")

    def close(self, *, finished: bool) -> None:
        """Let go of the file, and remove it if the download has finished."""
        if finished:
            self._path.unlink(missing_ok=True)
        file, self._file = self._file, -1  # a thread that is stuck would write into another file
        os.close(file)


def _alone(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise Unavailable(
                f"another process is downloading {path.stem}", hint="wait until it has finished"
            ) from error
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # its last owner finished, and removed it, before the lock was ours


def _parts(lines: list[bytes]) -> Iterator[Part]:
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Part)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # torn by a power cut: the part is fetched again
