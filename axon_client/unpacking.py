# SPDX-License-Identifier: BUSL-1.1
"""What an archive may unpack to, and the stream of its unpacked bytes."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import msgspec

from axon_client.errors import IntegrityError
from axon_client.xz_stream import open_xz
from mlos_core.errors import Unsupported


class Limits(msgspec.Struct, frozen=True):
    """What an archive may hold. `ratio` bounds unpacked bytes per archived byte.

    Up to `ratio_from` bytes are allowed whatever the ratio.
    """

    entries: int = 100_000
    file_bytes: int = 64 << 30
    total_bytes: int = 256 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20

    def allowed(self, archived: int) -> int:
        """The bytes that an archive of `archived` bytes may unpack to."""
        return min(self.total_bytes, max(self.ratio_from, archived * self.ratio))


class Budget:
    """What several archives may hold together: no more than one of the size of all of them."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self._limits = limits
        self._archived = 0
        self._bytes = 0
        self._files = 0

    def next(self, archived: int) -> Limits:
        """The limits of one more archive, of `archived` bytes."""
        self._archived += archived
        return msgspec.structs.replace(
            self._limits,
            total_bytes=max(0, self._limits.allowed(self._archived) - self._bytes),
            entries=max(0, self._limits.entries - self._files),
        )

    def took(self, files: int, size: int) -> None:
        """So much came out of it."""
        self._files += files
        self._bytes += size


_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def compression_of(path: Path) -> str:
    """`gzip`, `bzip2`, `xz`, `zstd`, or empty for none of them."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def open_unpacked(path: Path) -> IO[bytes]:
    """The unpacked bytes, with no bound: the reader counts them.

    Raises:
        Unsupported: it is zstd, and no module for that is installed.
    """
    kind = compression_of(path)
    if kind == "gzip":
        return cast("IO[bytes]", gzip.open(path))
    if kind == "bzip2":
        return bz2.open(path)
    if kind == "xz":
        return open_xz(path)
    return _zstd(path) if kind == "zstd" else path.open("rb")


def _zstd(path: Path) -> IO[bytes]:
    for name in ("compression.zstd", "backports.zstd"):  # the second is the first's backport
        try:
            opened: IO[bytes] = importlib.import_module(name).open(path)
        except ImportError:
            continue
        return opened
    raise Unsupported(
        f"{path.name} is compressed with zstd, which this Python cannot read",
        hint="pip install backports.zstd",
    )


def too_much(title: str) -> IntegrityError:
    """The error of an archive that unpacks to more than is allowed."""
    return IntegrityError(
        f"{title} unpacks to more than is allowed",
        hint="the archive may be a decompression bomb",
    )


@contextmanager
def damage_named(title: str) -> Iterator[None]:
    """Turns what the decompressors raise into an `IntegrityError` that names the archive."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise IntegrityError(f"{title} is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the disk's; bzip2's own have no number
            raise
        raise IntegrityError(f"{title} is damaged: {error}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise IntegrityError(f"{title} is damaged: {error}") from error
