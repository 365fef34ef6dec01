# SPDX-License-Identifier: BUSL-1.1
"""Publishing a package to an OCI registry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from axon_client.net import Options
from axon_client.oci import layout
from axon_client.oci.client import Repository
from axon_client.oci.reference import Place
from axon_client.oci.upload import bring
from axon_client.progress import Progress, silent
from mlos_core.errors import AlreadyExists, NotFound


class Pushed(msgspec.Struct, frozen=True):
    """What became of a push.

    Attributes:
        digest: the artifact's, `sha256:<hex>`.
        new: whether the first tag did not name it before.
        sent, mounted, there: how many files were sent, taken over, or in the repository.
    """

    digest: str
    new: bool
    sent: int = 0
    mounted: int = 0
    there: int = 0


def push(
    manifest: bytes,
    folder: Path,
    place: Place,
    tags: Sequence[str],
    *,
    signatures: Sequence[dict[str, str]] = (),
    mount: str = "",
    replace: bool = False,
    progress: Progress = silent,
    options: Options | None = None,
) -> Pushed:
    """Push a package as a ModelPack artifact, its files first and its tags last.

    Args:
        manifest: the exact bytes of its manifest.yaml, which lists its files.
        folder: has these files.
        tags: what it is called there. The first is its version, and is not moved from another
            artifact unless `replace` says so; the others are.
        signatures: of `manifest`.
        mount: another repository of the registry that may have its files.

    Raises:
        AlreadyExists: the first tag names something else.
        MlosError: the registry does not take it.
    """
    packed = layout.pack(manifest, signatures)
    with Repository(place, options) as repository:
        there = digest_at(repository, tags[0])
        if there == packed.digest:
            new = False
        elif there and not replace:
            raise AlreadyExists(
                f"{place}:{tags[0]} is there with another content ({there})",
                hint="choose another version",
            )
        else:
            new = True
        how = _bring_all(repository, packed, folder, mount, progress)
        for tag in tags:
            repository.put_manifest(packed.manifest, tag)
    return Pushed(packed.digest, new, **how)


def digest_at(repository: Repository, tag: str) -> str:
    """The digest of what a tag names; empty if it names nothing."""
    try:
        return repository.manifest(tag)[1]
    except NotFound:
        return ""


def _bring_all(
    repository: Repository, packed: layout.Packed, folder: Path, mount: str, progress: Progress
) -> dict[str, int]:
    blobs = {layer.digest: layer for layer in packed.artifact.layers}
    blobs[packed.artifact.config.digest] = packed.artifact.config
    total, done = sum(blob.size for blob in blobs.values()), 0
    how = {"sent": 0, "mounted": 0, "there": 0}

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"push {repository.place}", done, total)

    for digest, blob in blobs.items():
        small = packed.blobs.get(digest)
        source: Any = partial(io.BytesIO, small) if small is not None else None
        source = source or partial((folder / blob.path).open, "rb")
        done_by = bring(repository, digest, blob.size, source, advance, mount)
        how[done_by] += small is None
    return how
