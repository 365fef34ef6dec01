# SPDX-License-Identifier: BUSL-1.1
"""Reading archives that strangers made: zip (wheels) and tar (source archives).

Guarantees: before the first byte is unpacked every entry of the archive has been looked at,
and one name that is absolute, has `..`, a backslash or a control character, or comes twice,
or one encrypted entry, refuses the whole archive. Only regular files come out; links and
devices are refused when asked for. Sizes are counted while unpacking, never believed.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import msgspec

from axon_client.errors import IntegrityError
from axon_client.hashing import copy_durably
from axon_client.manifest import path_problem

Advance = Callable[[int], None]


class Limits(msgspec.Struct, frozen=True):
    """What an archive may hold. `ratio` bounds unpacked bytes per archived byte."""

    entries: int = 100_000
    file_bytes: int = 64 << 30
    total_bytes: int = 256 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20


class Entry(msgspec.Struct, frozen=True):
    """One regular file: its name and the size the archive claims."""

    name: str
    size: int


class Archive(Protocol):
    """An open archive whose names have been checked."""

    entries: dict[str, Entry]

    def read(self, name: str, limit: int) -> bytes:
        """A small file's contents."""
        ...

    def unpack(self, name: str, target: Path, advance: Advance) -> tuple[int, str]:
        """Write a file to `target`; gives its size and hex SHA-256."""
        ...


class _Opened:
    """Shared by both kinds: names, budget, and errors as `IntegrityError`."""

    def __init__(
        self, path: Path, entries: list[Entry], limits: Limits, open: Callable[[str], IO[bytes]]
    ) -> None:
        _check_names(path, [entry.name for entry in entries], limits)
        self.entries = {entry.name: entry for entry in entries}
        self._open = open
        self._path = path
        allowed = max(limits.ratio_from, path.stat().st_size * limits.ratio)
        self._left = min(limits.total_bytes, allowed)
        self._file_bytes = limits.file_bytes

    def read(self, name: str, limit: int) -> bytes:
        with self._guard(name), self._open(name) as source:
            data = source.read(limit + 1)
            if len(data) > limit:
                raise IntegrityError(f"{self._path.name}: {name} is larger than {limit} bytes")
            return data

    def unpack(self, name: str, target: Path, advance: Advance) -> tuple[int, str]:
        claimed = self.entries[name].size
        if claimed > min(self._left, self._file_bytes):
            raise IntegrityError(
                f"{self._path.name}: {name} unpacks to {claimed} bytes, more than is allowed",
                hint="the archive may be a decompression bomb",
            )
        with self._guard(name), self._open(name) as source:
            size, digest = copy_durably(source, target, claimed, advance)
        if size != claimed:
            raise IntegrityError(f"{self._path.name}: {name} is cut off")
        self._left -= size
        return size, digest

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise IntegrityError(f"{self._path.name}: {name} is damaged: {error}") from error


@contextmanager
def open_zip(path: Path, limits: Limits = Limits()) -> Iterator[Archive]:  # noqa: B008
    """Open a zip archive.

    Raises:
        IntegrityError: it is no zip archive, or it breaks a rule.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise IntegrityError(f"{path.name} is not a zip archive: {error}") from error
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        for info in infos:
            _check_zip_entry(path, info)
        entries = [Entry(info.filename, info.file_size) for info in infos]
        yield _Opened(path, entries, limits, lambda name: archive.open(name))


def _check_zip_entry(path: Path, info: zipfile.ZipInfo) -> None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise IntegrityError(f"{path.name}: {info.filename} is a link or a device")
    if info.flag_bits & 1:
        raise IntegrityError(f"{path.name}: {info.filename} is encrypted")
    if info.filename != info.orig_filename:
        raise IntegrityError(f"{path.name}: {info.orig_filename!r} has a control character")


@contextmanager
def open_tar(path: Path, limits: Limits = Limits()) -> Iterator[Archive]:  # noqa: B008
    """Open a tar archive, compressed or not. Links are left out of its entries.

    Raises:
        IntegrityError: it is no tar archive, or it breaks a rule.
    """
    try:
        with tarfile.open(path) as archive:
            members = {m.name: m for m in _tar_members(path, archive, limits)}
            entries = [Entry(name, member.size) for name, member in members.items()]

            def open_member(name: str) -> IO[bytes]:
                source = archive.extractfile(members[name])
                if source is None:
                    raise IntegrityError(f"{path.name}: {name} is not a regular file")
                return source

            yield _Opened(path, entries, limits, open_member)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{path.name} is not a tar archive: {error}") from error


def _tar_members(path: Path, archive: tarfile.TarFile, limits: Limits) -> Iterator[tarfile.TarInfo]:
    seen: set[str] = set()
    unpacked = 0
    allowed = max(limits.ratio_from, path.stat().st_size * limits.ratio)
    for member in archive:
        unpacked += member.size
        if len(seen) >= limits.entries or unpacked > allowed:
            raise IntegrityError(
                f"{path.name} unpacks to more than is allowed",
                hint="the archive may be a decompression bomb",
            )
        problem = "comes twice" if member.name in seen else path_problem(member.name)
        if problem and not member.isdir():
            raise IntegrityError(f"{path.name}: {member.name!r} {problem}")
        seen.add(member.name)
        if member.isreg():
            yield member


def _check_names(path: Path, names: list[str], limits: Limits) -> None:
    if len(names) > limits.entries:
        raise IntegrityError(f"{path.name} has {len(names)} entries; {limits.entries} are allowed")
    seen: set[str] = set()
    for name in names:
        problem = "comes twice" if name in seen else path_problem(name)
        if problem:
            raise IntegrityError(
                f"{path.name}: {name!r} {problem}", hint="no honest package has such an entry"
            )
        seen.add(name)
