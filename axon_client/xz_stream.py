# SPDX-License-Identifier: BUSL-1.1
"""xz archives from strangers. The standard library's reader takes as much memory as the
archive asks for, which may be 4 GiB; here a bound is part of unpacking.
"""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import IO, Final, cast

MOST_MEMORY: Final = 256 << 20
"""Bytes. What `xz -9` writes needs a quarter of it."""
_BLOCK: Final = 1 << 18


def open_xz(path: Path) -> IO[bytes]:
    """The unpacked bytes. Reading raises `LZMAError` or `EOFError` where they are damaged."""
    return cast("IO[bytes]", io.BufferedReader(_Xz(path), _BLOCK))


class _Xz(io.RawIOBase):
    """One stream after the other; going back begins anew."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._at = 0
        self._decoder = _decoder()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("nobody knows where it ends")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._begin()
        while self._at < target and self._take(min(_BLOCK, target - self._at)):
            pass
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take(self, most: int) -> bytes:
        """Up to `most` bytes; empty at the end."""
        while most:
            packed = b""
            if self._decoder.eof:
                packed = self._decoder.unused_data.lstrip(b"\0") or self._behind()
                if not packed:
                    return b""
                self._decoder = _decoder()
            elif self._decoder.needs_input:
                packed = self._file.read(_BLOCK)
                if not packed:
                    raise EOFError("it is cut off")
            data = self._decoder.decompress(packed, most)
            if data:
                self._at += len(data)
                return data
        return b""

    def _behind(self) -> bytes:
        """What follows a stream; zeros may lie between two."""
        while block := self._file.read(_BLOCK):
            if block := block.lstrip(b"\0"):
                return block
        return b""

    def close(self) -> None:
        self._file.close()
        super().close()


def _decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY)
