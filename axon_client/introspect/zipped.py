# SPDX-License-Identifier: BUSL-1.1
"""Members of zip files, bounded: by the list of members and by what one may unpack to."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from axon_client.introspect.mapped import refusal
from mlos_core.errors import LoadFailed

_MOST_LISTED: Final = 16 << 20
"""Bytes of the list of members; a model with a hundred thousand tensors has less."""
_END: Final = b"PK\x05\x06"
_END64: Final = b"PK\x06\x06"
_NO_ZIP: Final = (
    zipfile.BadZipFile, ValueError, struct.error, OverflowError, NotImplementedError, OSError
)  # fmt: skip
"""What zipfile raises of files that are damaged."""
_FARTHEST: Final = (1 << 16) + 22 + 20 + 56


class Members:
    """A zip file that lists a bounded number of members."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        self.sizes = {info.filename: info.file_size for info in archive.infolist()}

    def read(self, member: str, limit: int) -> bytes:
        """A member's bytes.

        Raises:
            LoadFailed: it is damaged, or unpacks to more than `limit` bytes.
        """
        data = self.head(member, limit + 1)
        if len(data) > limit:
            raise LoadFailed(f"{self._name}: {member} is larger than {limit >> 20} MiB")
        return data

    def head(self, member: str, size: int) -> bytes:
        """The first bytes of a member, at most `size`.

        Raises:
            LoadFailed: it is damaged.
        """
        try:
            with self._archive.open(member) as file:
                return file.read(size)
        except (*_NO_ZIP, zlib.error, EOFError, KeyError, RuntimeError) as error:
            raise LoadFailed(f"{self._name}: {member} cannot be read: {error}") from error


@contextmanager
def members_of(path: Path, kind: str) -> Iterator[Members]:
    """The members of the zip file at `path`.

    Raises:
        LoadFailed: it is none, and so not of its `kind`.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror}") from error
    with file:
        try:
            _check_list(file)
            archive = zipfile.ZipFile(file)
        except _NO_ZIP as error:
            raise refusal(path, kind, error) from error
        with archive:
            members = Members(archive, path.name)
            if len(members.sizes) < len(archive.infolist()):
                raise LoadFailed(f"{path.name} has two members of one name")
            yield members


def _check_list(file: BinaryIO) -> None:
    """zipfile reads the whole list at once, however long the file says that it is."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _FARTHEST))
    tail = file.read(_FARTHEST)
    end, wide = tail.rfind(_END), tail.rfind(_END64)
    if end < 0:
        raise zipfile.BadZipFile("it is no zip file")
    stated = [struct.unpack_from("<I", tail, end + 12)[0]] if len(tail) >= end + 16 else []
    if wide >= 0 and len(tail) >= wide + 48:
        stated.append(struct.unpack_from("<Q", tail, wide + 40)[0])
    listed = [count for count in stated if count != 0xFFFF_FFFF]
    if any(count > _MOST_LISTED for count in listed):
        raise zipfile.BadZipFile("it lists more members than any model has")
    file.seek(0)
