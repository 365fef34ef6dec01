# SPDX-License-Identifier: BUSL-1.1
"""Whether an archive is the one that an index speaks of."""

from __future__ import annotations

from pathlib import Path

from axon_client.errors import IntegrityError
from axon_client.hashing import hash_file


def check_digest(archive: Path, stated: str, package: str) -> str:
    """The archive's hex SHA-256, which is `stated`.

    Raises:
        IntegrityError: it is another, or the index states none for `package`.
    """
    check_stated(stated, package)
    digest = hash_file(archive)
    if digest != stated:
        raise IntegrityError(
            f"{archive.name} has sha256 {digest}, the index says {stated}",
            hint="do not use it; try again, and tell the index's owner if it stays",
        )
    return digest


def check_stated(stated: str, package: str) -> None:
    """Raise `IntegrityError` if the index states no digest for `package`."""
    if not stated:
        raise IntegrityError(
            f"the index states no sha256 for {package}",
            hint="if you trust it, unpack it yourself and install the folder",
        )
