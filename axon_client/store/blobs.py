# SPDX-License-Identifier: BUSL-1.1
"""A folder of read-only, sealed files that are named by their SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from axon_client.seals import is_intact, is_sealed, seal
from mlos_core.errors import InvalidInput

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def check_digest(digest: str) -> str:
    """The digest, if it is one.

    Raises:
        InvalidInput: it is not 64 lower-case hex digits.
    """
    if not _DIGEST.match(digest):
        raise InvalidInput(f"{digest[:80]!r} is not a SHA-256", hint="64 lower-case hex digits")
    return digest


def is_digest(name: str) -> bool:
    """Whether a file's name is a digest."""
    return bool(_DIGEST.match(name))


class Blobs:
    """One folder of blobs. Who changes it while others do holds the store's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self.folder / check_digest(digest)

    def has(self, digest: str) -> bool:
        """Whether there is a blob of that name."""
        return self.path(digest).is_file()

    def names(self) -> Iterator[str]:
        """The digests of all blobs."""
        with suppress(FileNotFoundError):
            yield from (path.name for path in self.folder.iterdir() if is_digest(path.name))

    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(path.stat().st_size for path in map(self.path, self.names()))

    def take(self, source: Path, digest: str) -> Path:
        """Move a synced file of that digest into the folder; gives the blob.

        A blob that is there and intact is kept, and the source deleted: whoever links to a
        blob shares it with all others that do.
        """
        blob = self.path(digest)
        if is_intact(blob, digest):
            source.unlink()
        else:
            if not is_sealed(source.stat(), digest):  # a layer's is, and belongs to another user
                seal(source, digest)
            source.replace(blob)
        return blob

    def remove(self, digest: str) -> int:
        """Delete a blob; gives its size."""
        path = self.path(digest)
        size = path.stat().st_size
        path.unlink()
        return size
