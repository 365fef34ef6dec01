# SPDX-License-Identifier: BUSL-1.1
"""Tar archives from strangers, read once from front to back.

The standard library parses a header block, and no more: its reader takes extended headers
into memory whatever their size, lets one name replace another, and reads a compressed
archive twice. Here every name, size and kind is checked before its bytes are touched, memory
is bounded, and what is not a plain file or folder is refused.

    one entry:  [x: PAX records] [L: long GNU name] header  data, filled up to 512 bytes
    the end:    a block of zeros, and nothing but zeros behind it
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import IO, Final, Literal

import msgspec

from axon_client.errors import IntegrityError
from axon_client.paths import MAX_PATH, Names, path_problem
from axon_client.unpacking import Limits, too_much

Links = Literal["refuse", "leave out"]
BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_MOST_EXTENDED: Final = 64 << 10
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n\0]{1,256})=")
_ZEROS: Final = bytes(BLOCK)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_NO_FILES: Final = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}


class TarEntry(msgspec.Struct, frozen=True):
    """A file of the archive; its bytes begin at `offset` of the unpacked stream."""

    name: str
    size: int
    offset: int


class TarStream:
    """The files of an archive.

    Args:
        source: the unpacked archive; its `read` may give less than it is asked for.
        title: what errors call it.
        limits: how many headers of any kind there may be, and how large a file.
        room: how many bytes there may be in all.
        links: links and devices are errors, or left out of what comes.
    """

    def __init__(
        self,
        source: IO[bytes],
        title: str,
        limits: Limits,
        room: int,
        links: Links = "refuse",
    ) -> None:
        self._source = source
        self._title = title
        self._limits = limits
        self._room = room
        self._links = links
        self._position = 0
        self._left = 0
        self._names = Names()

    def __iter__(self) -> Iterator[TarEntry]:
        """Each file in turn; `read` gives its bytes until the next one is asked for."""
        entries = 0
        override = _Override()
        while header := self._header():
            entries += 1
            if entries > self._limits.entries:
                self._fail(f"has more than {self._limits.entries} entries")
            if self._extended(header, override):
                continue
            entry = self._entry(header, override)
            override = _Override()
            if entry:
                self._left = entry.size
                yield entry
                self._skip(self._left)
                self._skip(-entry.size % BLOCK)
        if override.name is not None or override.size is not None:
            self._fail("ends with a header that names no file")
        self._check_end()

    def read(self, most: int = -1) -> bytes:
        """Up to `most` bytes of the present file; empty at its end."""
        wanted = self._left if most < 0 else min(most, self._left)
        data = self._take(min(wanted, _CHUNK))
        self._left -= len(data)
        return data

    def _take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        if self._position + count > self._room:
            raise too_much(self._title)
        data = self._source.read(count)
        while len(data) < count:
            more = self._source.read(count - len(data))
            if not more:
                self._fail("is cut off" if self._position else "is not a tar archive")
            data += more
        self._position += count
        return data

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._take(min(count, _CHUNK)))
        self._left = 0

    def _header(self) -> tarfile.TarInfo | None:
        block = self._take(BLOCK)
        if block == _ZEROS:
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise IntegrityError(f"{self._title} is not a tar archive: {error}") from error
        if not 0 <= header.size < 1 << 62:
            self._fail(f"has {header.name!r} with a size of {header.size}")
        return header

    def _extended(self, header: tarfile.TarInfo, override: _Override) -> bool:
        """Take in a header that speaks of the next ones; False if it is an entry itself."""
        if header.type not in (b"x", b"X", b"g", b"L", b"K"):
            return False
        if header.size > _MOST_EXTENDED:
            self._fail(f"has an extended header of {header.size} bytes")
        data = self._take(header.size)
        self._skip(-header.size % BLOCK)
        if header.type == b"L":
            override.set_name(self, data.rstrip(b"\0"))
        elif header.type != b"K":
            self._pax(data, override, for_all=header.type == b"g")
        return True

    def _pax(self, data: bytes, override: _Override, for_all: bool) -> None:
        at = 0
        while at < len(data):
            found = _RECORD.match(data, at)
            end = at + int(found[1]) if found else 0
            if not found or end <= found.end() or data[end - 1 : end] != b"\n":
                self._fail("has a damaged PAX header")
            assert found is not None
            key, value = found[2], data[found.end() : end - 1]
            at = end
            if key.startswith(b"GNU.sparse"):
                self._fail("has a sparse file")
            if for_all and key in (b"path", b"size", b"linkpath"):
                self._fail(f"has a PAX header that gives all files one {key.decode()}")
            if key == b"path":
                override.set_name(self, value)
            elif key == b"size":
                override.set_size(self, value)

    def _entry(self, header: tarfile.TarInfo, override: _Override) -> TarEntry | None:
        folder = header.type == tarfile.DIRTYPE
        name = _plain(header.name if override.name is None else override.name)
        if name or not folder:
            problem = path_problem(name) if len(name) <= MAX_PATH else "is too long"
            if problem:
                self._fail(f"has {name[:MAX_PATH]!r}, which {problem}")
        size = self._size(name, header.size, override.size)
        if size > self._limits.file_bytes or self._position + size > self._room:
            raise too_much(f"{self._title}: {name}")
        if header.type in _FILES:
            problem = self._names.add(name)
            if problem:
                self._fail(f"is refused: {problem}")
            return TarEntry(name, size, self._position)
        kind = _NO_FILES.get(header.type, "a folder" if folder else "")
        if not kind:
            self._fail(f"has {name!r} of an unknown or sparse kind, {header.type!r}")
        if size:
            self._fail(f"has {name!r}, {kind} with contents")
        if not folder and self._links == "refuse":
            self._fail(f"has {name!r}, {kind}")
        return None

    def _size(self, name: str, stated: int, override: int | None) -> int:
        if override is None or override == stated:
            return stated
        if stated:
            self._fail(f"has {name!r} with two sizes, {stated} and {override}")
        return override

    def _check_end(self) -> None:
        while block := self._source.read(_CHUNK):
            self._position += len(block)
            if block.strip(b"\0"):
                self._fail("goes on behind its end")
            if self._position > self._room:
                raise too_much(self._title)

    def _fail(self, what: str) -> None:
        raise IntegrityError(f"{self._title} {what}", hint="no honest package has that")


class _Override:
    """What extended headers say of the next entry. Each thing may be said once."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.size: int | None = None

    def set_name(self, archive: TarStream, value: bytes) -> None:
        if self.name is not None:
            archive._fail("has an entry with two names")
        self.name = value.decode("utf-8", "surrogateescape")

    def set_size(self, archive: TarStream, value: bytes) -> None:
        if self.size is not None or not re.fullmatch(rb"[0-9]{1,18}", value):
            archive._fail("has an entry with two sizes, or one that is no number")
        self.size = int(value)


def _plain(name: str) -> str:
    """`tar c .` writes ./ ahead of every name, and / behind a folder's."""
    return name.removeprefix("./").removesuffix("/") if name not in (".", "./") else ""
