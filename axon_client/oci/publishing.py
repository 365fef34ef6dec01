# SPDX-License-Identifier: BUSL-1.1
"""`axon publish` to an OCI registry: which repository and tags, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from axon_client import manifest as manifests
from axon_client.oci.push import push
from axon_client.oci.reference import Place, place_of, tag_of
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec


def publish(
    spec: PackageSpec,
    data: bytes,
    folder: Path,
    url: str,
    tags: Sequence[str] = (),
    signatures: Sequence[dict[str, Any]] = (),
    *,
    whole: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Push a package whose files lie in `folder`.

    Args:
        spec: its name.
        data: its manifest's exact bytes.
        folder: where its files are.
        url: the registry's; packages are below its path.
        tags: what the version is called beside.
        signatures: of `data`.
        whole: the URL names the repository itself, perhaps with a tag.
        dry_run: only say what would be done.
        progress: told how far it is.

    Returns:
        What `axon publish --json` prints.
    """
    place, named = _exactly(url) if whole else (place_of(spec, url), "")
    names = list(dict.fromkeys([named or tag_of(spec.version), *tags]))
    files = manifests.decode(data).spec.format.files
    about: dict[str, Any] = {
        "package": str(spec),
        "registry": str(place),
        "files": len(files),
        "size": sum(file.size for file in files),
        "tags": names,
        "signed": bool(signatures),
        "dry_run": dry_run,
    }
    if dry_run:
        return about
    done = push(data, folder, place, names, signatures=signatures, progress=progress)
    return {**about, **msgspec.to_builtins(done)}


def _exactly(url: str) -> tuple[Place, str]:
    """The repository and the tag of `oci://HOST/REPOSITORY[:TAG]`."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    path, _, tag = path.partition(":")
    return place_of(PackageSpec("oci", path), f"{scheme}://{host}"), tag
