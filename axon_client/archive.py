# SPDX-License-Identifier: BUSL-1.1
"""Reading archives that strangers made: zip (wheels) and tar (packages, layers, sources).

Guarantees: a name that is absolute, leaves its folder, is a device somewhere or comes twice
(also where case or Unicode normalisation does not count), a link, a device, a sparse or an
encrypted entry refuses the whole archive: of `open_zip` and `open_tar` before the first byte
is unpacked, of `extract_tar` before the byte in question. Sizes are counted while unpacking,
never believed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from axon_client.errors import IntegrityError
from axon_client.hashing import CHUNK, copy_durably
from axon_client.manifest import ModelFile
from axon_client.paths import Names, path_problem
from axon_client.tar_stream import Links, TarEntry, TarStream
from axon_client.unpacking import Limits, damage_named, open_unpacked, too_much
from axon_client.zip_layout import check_end, check_entry, check_layout, is_folder

Advance = Callable[[int], None]


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
    """Shared by both kinds: the budget, and errors as `IntegrityError`."""

    def __init__(
        self, path: Path, entries: list[Entry], limits: Limits, open: Callable[[str], IO[bytes]]
    ) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self._open = open
        self._path = path
        self._left = limits.allowed(path.stat().st_size)
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
            raise too_much(f"{self._path.name}: {name}")
        with self._guard(name), self._open(name) as source:
            size, digest = copy_durably(source, target, claimed, advance)
        if size != claimed:
            raise IntegrityError(f"{self._path.name}: {name} is cut off")
        self._left -= size
        return size, digest

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            with damage_named(f"{self._path.name}: {name}"):
                yield
        except zipfile.BadZipFile as error:
            raise IntegrityError(f"{self._path.name}: {name} is damaged: {error}") from error


@contextmanager
def open_zip(path: Path, limits: Limits = Limits()) -> Iterator[Archive]:  # noqa: B008
    """Open a zip archive.

    Raises:
        IntegrityError: it is no zip archive, or it breaks a rule.
    """
    with path.open("rb") as file:
        stated = check_end(file, path.name, limits.entries)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise IntegrityError(f"{path.name} is not a zip archive: {error}") from error
        with archive:
            infos = archive.infolist()
            if stated != len(infos):
                raise IntegrityError(
                    f"{path.name} says that it has {stated} entries, but has {len(infos)}"
                )
            _check_zip(path, file, archive, infos)
            entries = [Entry(i.filename, i.file_size) for i in infos if not is_folder(i)]
            yield _Opened(path, entries, limits, lambda name: archive.open(name))


def _check_zip(
    path: Path, file: IO[bytes], archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]
) -> None:
    names = Names()
    for info in infos:
        check_entry(path.name, info)
        problem = path_problem(
            info.filename.removesuffix("/") if is_folder(info) else info.filename
        )
        if problem:
            raise IntegrityError(
                f"{path.name}: {info.filename!r} {problem}",
                hint="no honest package has such an entry",
            )
        problem = "" if is_folder(info) else names.add(info.filename)
        if problem:
            raise IntegrityError(f"{path.name} is refused: {problem}")
    check_layout(file, path.name, infos, archive.start_dir)


@contextmanager
def open_tar(
    path: Path,
    limits: Limits = Limits(),  # noqa: B008
    links: Links = "leave out",
) -> Iterator[Archive]:
    """Open a tar archive, compressed or not, to read some of its files.

    Source archives may have links, which are left out unless `links` says otherwise.

    Raises:
        IntegrityError: it is no tar archive, or it breaks a rule.
    """
    with open_unpacked(path) as source:
        with damage_named(path.name):
            stream = TarStream(source, path.name, limits, _room(path, limits), links)
            members = {member.name: member for member in stream}
        entries = [Entry(name, member.size) for name, member in members.items()]

        def open_member(name: str) -> Any:
            source.seek(members[name].offset)
            return _Part(source, members[name].size)

        yield _Opened(path, entries, limits, open_member)


class _Part:
    """The bytes of one file within a stream."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source = source
        self._left = size

    def read(self, count: int) -> bytes:
        data = self._source.read(min(count, self._left))
        self._left -= len(data)
        return data

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def extract_tar(
    path: Path,
    folder: Path,
    advance: Advance,
    limits: Limits = Limits(),  # noqa: B008
    known: Names | None = None,
) -> list[ModelFile]:
    """Unpack a whole tar archive, compressed or not, into `folder`, reading it once.

    What was unpacked before an error stays in `folder`: give one that is thrown away. Nothing
    is flushed to disk: whoever keeps a file does that.

    Args:
        advance: told the number of bytes as they are unpacked.
        known: the names of what is in `folder` already, to which those of the archive come.

    Raises:
        IntegrityError: it is no tar archive, or it breaks a rule.
    """
    names = known or Names()
    with open_unpacked(path) as source, damage_named(path.name):
        stream = TarStream(source, path.name, limits, _room(path, limits))
        return [_extract(stream, entry, folder, advance, names) for entry in stream]


def _extract(
    stream: TarStream,
    entry: TarEntry,
    folder: Path,
    advance: Advance,
    names: Names,
) -> ModelFile:
    problem = names.add(entry.name)
    if problem:
        raise IntegrityError(f"the package is refused: {problem}")
    target, digest = folder / entry.name, hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while block := stream.read(CHUNK):
            out.write(block)
            digest.update(block)
            advance(len(block))
    return ModelFile(entry.name, entry.size, digest.hexdigest())


def _room(path: Path, limits: Limits) -> int:
    """Bytes of the stream: those of the files, and the headers around them."""
    return limits.allowed(path.stat().st_size) + (1 << 20)
