# SPDX-License-Identifier: BUSL-1.1
"""A wheel's RECORD: the digest of every file in it."""

from __future__ import annotations

import base64
import binascii
import csv

from axon_client.archive import Archive
from axon_client.errors import IntegrityError

MAX_BYTES = 64 << 20


def read_record(wheel: Archive, folder: str) -> dict[str, str]:
    """Hex SHA-256 by file name, from `folder/RECORD`.

    Raises:
        IntegrityError: the wheel has none, or it cannot be read.
    """
    name = f"{folder}/RECORD"
    if name not in wheel.entries:
        raise IntegrityError("the wheel has no RECORD", hint="it was not made by a build tool")
    text = wheel.read(name, MAX_BYTES).decode(errors="replace")
    rows = [row for row in csv.reader(text.splitlines()) if len(row) == 3 and row[1]]
    return {path: _hex(path, digest) for path, digest, _ in rows}


def _hex(path: str, digest: str) -> str:
    algorithm, _, encoded = digest.partition("=")
    if algorithm != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    except binascii.Error as error:
        raise IntegrityError(f"RECORD has a damaged digest for {path}") from error


def check_record(record: dict[str, str], path: str, digest: str) -> None:
    """Raise `IntegrityError` unless RECORD lists `path` with the hex SHA-256 `digest`."""
    if not record.get(path):
        raise IntegrityError(f"{path} is in the wheel but RECORD has no SHA-256 for it")
    if record[path] != digest:
        raise IntegrityError(f"{path} has sha256 {digest}, RECORD says {record[path]}")
