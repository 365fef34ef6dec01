# SPDX-License-Identifier: BUSL-1.1
"""Seals: how a file shows that nobody has written to it since its digest was computed.

The fraction of the second of a sealed file's time of change is derived from its digest.
Whoever writes to it breaks the seal, by mistake or otherwise, so that a sealed file can be
taken for what its name says without being read; one with a broken seal is hashed first.
What a seal cannot show, bits that rot on the disk, `axon verify` finds.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from axon_client.hashing import hash_file
from mlos_core.errors import InvalidInput

_SECOND: Final = 1_000_000_000


def seal(path: Path, digest: str) -> None:
    """Make a file read-only, and let its time of change say which digest it had."""
    seconds = path.stat().st_mtime_ns // _SECOND
    path.chmod(0o444)
    moment = seconds * _SECOND + _fraction(digest)
    os.utime(path, ns=(moment, moment))


def is_sealed(status: os.stat_result, digest: str) -> bool:
    """Whether nobody has written to the file since it was sealed."""
    return stat.S_ISREG(status.st_mode) and status.st_mtime_ns % _SECOND == _fraction(digest)


def _fraction(digest: str) -> int:
    return int(digest[:7], 16)  # below 2**28, and so below a second


def is_intact(path: Path, digest: str) -> bool:
    """Whether a file still has its digest; reads it only if its seal is broken."""
    try:
        if is_sealed(path.stat(), digest):
            return True
        if hash_file(path) != digest:
            return False
    except (FileNotFoundError, InvalidInput):
        return False
    with suppress(PermissionError, OSError):  # in a store that is only read it stays unsealed
        seal(path, digest)
    return True
