# SPDX-License-Identifier: BUSL-1.1
"""What in a store is needed, and what may go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from axon_client.manifest import FILE_NAME, MAX_BYTES
from axon_client.store.blobs import Blobs, is_digest
from axon_client.store.disk import files_below

_DIGESTS = re.compile(rb"\b[0-9a-f]{64}\b")


class Freed(msgspec.Struct, frozen=True):
    """What a removal gave back, or would. `bytes` counts blobs and unfinished downloads."""

    blobs: int = 0
    bytes: int = 0
    partials: int = 0
    stages: int = 0

    def __add__(self, other: Freed) -> Freed:
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Freed(*(a + b for a, b in zip(mine, others, strict=True)))


def referred(*folders: Path) -> set[str]:
    """The digests that models and stages below `folders` need.

    Those are what a manifest lists, or a symbolic link names; a hard link shows at the blob
    itself. Manifests are searched, not read: a damaged one keeps what it still names.
    """
    return {digest for folder in folders for path in files_below(folder) for digest in _in(path)}


def _in(path: Path) -> Iterator[str]:
    with suppress(FileNotFoundError):
        if path.is_symlink():
            name = path.readlink().name
            if is_digest(name):
                yield name
        elif path.name == FILE_NAME and path.is_file():
            with path.open("rb") as file:  # a package may call anything of its own so
                data = file.read(MAX_BYTES)
            # The archive that a package came in is named too, and is no part of it.
            own = data.partition(b"\ndistribution:")[0]
            yield from (found.decode() for found in _DIGESTS.findall(own))


def sweep(blobs: Blobs, candidates: set[str], needed: set[str], *, dry_run: bool = False) -> Freed:
    """Delete the candidates that nobody needs and no hard link leads to.

    Call with the store's lock held, so that nobody links to one meanwhile.
    """
    freed = size = 0
    for digest in candidates - needed:
        with suppress(FileNotFoundError):
            status = blobs.path(digest).stat()
            if status.st_nlink == 1:
                if not dry_run:
                    blobs.remove(digest)
                freed, size = freed + 1, size + status.st_size
    return Freed(freed, size)
