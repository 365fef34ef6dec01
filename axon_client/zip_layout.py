# SPDX-License-Identifier: BUSL-1.1
"""Whether a zip archive is laid out so that every reader finds the same files in it.

A zip says everything twice: in the directory at its end, and ahead of each file. Readers that
believe one or the other see different archives, and entries may share bytes so that little
unpacks to much. What is checked here the standard library checks late or not at all.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Sequence
from typing import IO, Final

from axon_client.errors import IntegrityError

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_END_MAGIC, _LOCATOR_MAGIC = b"PK\x05\x06", b"PK\x06\x07"
_END64_MAGIC, _LOCAL_MAGIC = b"PK\x06\x06", b"PK\x03\x04"
_MOST_DIRECTORY: Final = 16 << 20
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _SIZES_BEHIND, _UTF8 = 0x1, 0x8, 0x800
_FLAGS: Final = 0x6 | _SIZES_BEHIND | _UTF8
"""How hard it was compressed, and the two above; the others encrypt, patch or hide."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_end(file: IO[bytes], title: str, most_entries: int) -> int:
    """Check the record at the archive's end, before anything that it points to is read.

    Returns:
        How many entries it says there are.

    Raises:
        IntegrityError: there is none, there are two, or it contradicts itself.
    """
    size = file.seek(0, 2)
    start = max(0, size - (_END.size + _LOCATOR.size + _FULL_16))
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise IntegrityError(f"{title} is not a zip archive: it has no end record")
    record = _END.unpack_from(tail, at)
    entries, length, comment = record[4], record[5], record[7]
    if record[1] or record[2]:
        raise IntegrityError(f"{title} is one of several disks")
    if at + _END.size + comment != len(tail):
        raise IntegrityError(f"{title} has data behind its end, or two ends")
    if tail[at - _LOCATOR.size :].startswith(_LOCATOR_MAGIC) and at >= _LOCATOR.size:
        entries, length = _end64(file, title, tail[at - _LOCATOR.size :], record)
    if length > _MOST_DIRECTORY or entries > most_entries:
        raise IntegrityError(f"{title} has {entries} entries; {most_entries} are allowed")
    if length > start + at:
        raise IntegrityError(f"{title} has a directory that is longer than the archive")
    return int(entries)


def _end64(file: IO[bytes], title: str, locator: bytes, end: tuple[int, ...]) -> tuple[int, int]:
    _, _, offset, _ = _LOCATOR.unpack_from(locator)
    file.seek(0, 2)
    if offset + _END64.size > file.tell():
        raise IntegrityError(f"{title} has a zip64 record outside of the archive")
    file.seek(offset)
    record = _END64.unpack(file.read(_END64.size))
    entries, length, where = record[7], record[8], record[9]
    if record[0] != _END64_MAGIC:
        raise IntegrityError(f"{title} has no zip64 record where it says one is")
    said = ((end[4], _FULL_16, entries), (end[5], _FULL_32, length), (end[6], _FULL_32, where))
    if any(short not in (full, long) for short, full, long in said):
        raise IntegrityError(f"{title} has a zip64 record that contradicts its end record")
    return entries, length


def is_folder(info: zipfile.ZipInfo) -> bool:
    """Whether an entry is a folder. Its name may be empty."""
    return info.filename.endswith("/")


def check_entry(title: str, info: zipfile.ZipInfo) -> None:
    """Check what the directory says of one entry.

    Raises:
        IntegrityError: it is no plain file or folder, or cannot be read by everybody.
    """
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & _ENCRYPTED:
        raise IntegrityError(f"{title}: {info.filename!r} is encrypted")
    if info.flag_bits & ~_FLAGS:
        raise IntegrityError(f"{title}: {info.filename!r} has the flags {info.flag_bits:#x}")
    if info.filename != info.orig_filename:
        raise IntegrityError(f"{title}: {info.orig_filename!r} has a control character")
    if kind not in (0, stat.S_IFDIR if is_folder(info) else stat.S_IFREG):
        raise IntegrityError(f"{title}: {info.filename!r} is a link or a device")
    if is_folder(info) and info.file_size:
        raise IntegrityError(f"{title}: {info.filename!r} is a folder with contents")
    if info.compress_type not in _METHODS:
        raise IntegrityError(
            f"{title}: {info.filename!r} is compressed by method {info.compress_type}, "
            "which is not allowed"
        )


def check_layout(
    file: IO[bytes], title: str, infos: Sequence[zipfile.ZipInfo], directory: int
) -> None:
    """Compare the directory, which begins at `directory`, with what is ahead of each file.

    Raises:
        IntegrityError: they differ, two entries share bytes, or bytes lie ahead of the first.
    """
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise IntegrityError(f"{title}: {info.filename!r} overlaps another entry")
        if not end and info.header_offset:
            raise IntegrityError(f"{title} has data ahead of its first entry")
        end = _check_local(file, title, info)
        if end > directory:
            raise IntegrityError(f"{title}: {info.filename!r} overlaps the directory")


def _check_local(file: IO[bytes], title: str, info: zipfile.ZipInfo) -> int:
    """Check one local header; where the entry's bytes end."""
    file.seek(info.header_offset)
    block = file.read(_LOCAL.size)
    if len(block) < _LOCAL.size or not block.startswith(_LOCAL_MAGIC):
        raise IntegrityError(f"{title}: {info.filename!r} is not where the directory says")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra = _LOCAL.unpack(block)
    name = file.read(name_length)
    same_sizes = flags & _SIZES_BEHIND or (
        crc == info.CRC
        and packed in (info.compress_size, _FULL_32)
        and size in (info.file_size, _FULL_32)
    )
    same_kind = (flags ^ info.flag_bits) & (_ENCRYPTED | _UTF8) == 0
    expected = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    if name != expected or method != info.compress_type or not (same_sizes and same_kind):
        raise IntegrityError(
            f"{title}: the directory and the header of {info.filename!r} contradict each other"
        )
    behind: int = _LOCAL.size + name_length + extra + info.compress_size
    return info.header_offset + behind
