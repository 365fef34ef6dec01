# SPDX-License-Identifier: BUSL-1.1
"""Registries of the original kind: a search, a manifest for each version, and archives.

They list no versions and state no digests beside those in the manifest, so a package comes
only if its manifest has them: of its archive, or of each of its files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from axon_client import manifest as manifests
from axon_client.adapters.base import RemoteFile, Resolved, Version
from axon_client.errors import IntegrityError
from axon_client.pack import file_name
from axon_client.remote import Entry, Filters, Remote
from axon_client.spec import PackageSpec, kind_of
from mlos_core.errors import NotFound

if TYPE_CHECKING:
    from axon_client.manifest import Manifest
    from axon_client.progress import Progress
    from axon_client.store import Stage

KIND = "original"
_MOST_HITS = 100


def resolve(remote: Remote, spec: PackageSpec) -> Resolved:
    """Read the manifest of the version that is meant.

    Raises:
        NotFound: the registry has no such package or version.
        IntegrityError: nothing says what the bytes should be.
    """
    exact = kind_of(spec.version) == "exact"
    package = spec if exact else spec.at(_latest(remote, spec))
    data = remote.manifest(package)
    manifest = manifests.decode(data, source=f"{remote.url}: {package}")
    if manifest.title != str(package):
        raise IntegrityError(f"{remote.url} has the manifest of {manifest.title} for {package}")
    archive = manifest.distribution.package
    if not archive.sha256 and not manifest.spec.format.files:
        raise IntegrityError(
            f"{remote.url} states no sha256 for {package}, neither of its archive nor of its files",
            hint="if you trust it, unpack the archive yourself and install the folder",
        )
    own = re.match(r"https?://", archive.url)
    urls = ((archive.url,) if own else ()) + (remote.archive_url(package), *archive.mirrors)
    size = archive.size or -1
    return Resolved(
        package,
        urls[0],
        archive.sha256,
        KIND,
        files=(RemoteFile(file_name(package), tuple(dict.fromkeys(urls)), size, archive.sha256),),
        manifest=data,
        dependencies=tuple(manifest.spec.dependencies.models),
    )


def fetch(found: Resolved, stage: Stage, progress: Progress) -> Manifest:
    """Fetch the archive and take out what the manifest lists."""
    from axon_client.describe import complete
    from axon_client.pack import unpack

    archive = stage.fetch(found.files[0], progress)
    folder = stage.scratch / "unpacked"
    inside = unpack(archive, folder, progress)
    manifest = manifests.decode(found.manifest, source=str(found.package))
    if inside.title != manifest.title:
        raise IntegrityError(f"the archive of {found.package} is that of {inside.title}")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != manifests.FILE_NAME:
            stage.adopt(name, path)
    known, allowed = stage.known, stage.allow_pickle
    return complete(manifest, stage.files, progress, known, allow_pickle=allowed)


def versions(remote: Remote, spec: PackageSpec) -> list[Version]:
    """The one version that the search tells."""
    return [Version(_latest(remote, spec), tags=("latest",))]


def _latest(remote: Remote, spec: PackageSpec) -> str:
    if kind_of(spec.version) not in ("any", "tag") or spec.version not in ("", "*", "latest"):
        raise NotFound(
            f"{remote.url} lists no versions, so {spec.version!r} cannot be looked up",
            hint=f"name an exact version: {spec.title}@1.2.3",
        )
    found, _ = remote.search(spec.name, Filters(namespace=spec.namespace), _MOST_HITS)
    for entry in found:
        if _is(entry, spec) and entry.version:
            return entry.version
    raise NotFound(f"{remote.url} has no {spec.title}", hint=f"axon search {spec.name}")


def _is(entry: Entry, spec: PackageSpec) -> bool:
    return (entry.namespace, entry.name) == (spec.namespace, spec.name)
