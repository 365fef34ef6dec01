# SPDX-License-Identifier: BUSL-1.1
"""Packages of an axon registry, dynamic or static.

The index names each version's manifest by its digest, the manifest each file by its own, so
whoever keeps the index answers for every byte. The manifest comes as it was published: its
bytes are what signatures are made for. Registries of the original kind are in `original`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from axon_client import manifest as manifests
from axon_client import versions as ordering
from axon_client.adapters import catalogue, original, several
from axon_client.adapters.base import Hit, RemoteFile, Resolved, Version
from axon_client.errors import IntegrityError
from axon_client.manifest import Manifest
from axon_client.progress import Progress
from axon_client.remote import Entry, Filters, Index, Release, Remote
from axon_client.spec import PackageSpec, PathSpec, UrlSpec, kind_of
from axon_client.store import Stage
from mlos_core.errors import InvalidInput, MlosError, NotFound

KIND: Final = "axon"
_NEIGHBOURS: Final = 200
_NO_REASON: Final = "no reason was given"


class RegistryAdapter:
    """The registry at `url`; `home` has the settings and credentials."""

    def __init__(self, url: str, home: Path | None = None) -> None:
        self.remote = Remote(url, home)

    def resolve(self, spec: PackageSpec | PathSpec | UrlSpec) -> Resolved:
        """Choose a version, and read its manifest."""
        wanted = _package(spec)
        try:
            index = self.remote.package(wanted)
        except NotFound:
            if self.remote.about().original:
                return original.resolve(self.remote, wanted)
            raise self._unknown(wanted) from None
        release = choose(index, wanted)
        package = wanted.at(release.version)
        data = self.remote.manifest(package, release.manifest_sha256)
        manifest = manifests.decode(data, source=f"{self.remote.url}: {package}")
        if manifest.title != str(package):
            raise IntegrityError(
                f"{self.remote.url} has the manifest of {manifest.title} for {package}"
            )
        return Resolved(
            package,
            self.remote.url,
            kind=KIND,
            revision=f"sha256:{release.manifest_sha256}",
            files=tuple(self._file(file) for file in manifest.spec.format.files),
            manifest=data,
            signatures=tuple(self.remote.detail(package).signatures),
            dependencies=tuple(manifest.spec.dependencies.models),
            yanked=reason(release),
        )

    def _file(self, file: manifests.ModelFile) -> RemoteFile:
        return RemoteFile(file.path, (self.remote.blob_url(file.sha256),), file.size, file.sha256)

    def fetch(
        self,
        spec: PackageSpec | PathSpec | UrlSpec,
        found: Resolved,
        stage: Stage,
        progress: Progress,
    ) -> Manifest:
        """Bring the files that the store lacks, several at once."""
        if found.kind != KIND:
            return original.fetch(found, stage, progress)
        several.obtain(stage, found.files, progress)
        return manifests.decode(found.manifest, source=str(found.package))

    def versions(self, spec: PackageSpec) -> list[Version]:
        """What the index lists."""
        try:
            index = self.remote.package(spec)
        except NotFound:
            if self.remote.about().original:
                return original.versions(self.remote, spec)
            raise self._unknown(spec) from None
        names: dict[str, list[str]] = {}
        for tag, version in index.tags.items():
            names.setdefault(version, []).append(tag)
        return [
            Version(r.version, reason(r), tuple(names.get(r.version, ())), r.created)
            for r in index.versions
        ]

    def search(self, query: str, limit: int) -> list[Hit]:
        """Packages that fit, the best first."""
        return [entry.hit for entry in self.find(query, Filters(), limit)[0]]

    def find(self, query: str, filters: Filters, limit: int) -> tuple[list[Entry], int]:
        """The same with filters, and how many there are in all."""
        about = self.remote.about()
        if about.static:
            found = catalogue.search(self.remote.everything(), query, filters)
            return found[:limit], len(found)
        found, total = self.remote.search(query, filters, limit)
        if about.original:  # it knows no filters
            found = [entry for entry in found if catalogue.fits(entry, filters)]
            total = len(found)
        return found, total

    def facets(self, query: str, filters: Filters) -> dict[str, dict[str, int]]:
        """How many hits there are of each kind."""
        about = self.remote.about()
        if about.static:
            return catalogue.facets(catalogue.search(self.remote.everything(), query, filters))
        if about.original:
            return catalogue.facets(self.remote.search(query, filters, _NEIGHBOURS)[0])
        return self.remote.facets(query, filters)

    def _unknown(self, spec: PackageSpec) -> NotFound:
        """Name the package that may have been meant."""
        hint = f"axon search {spec.name.rpartition('/')[2]}"
        with suppress(MlosError):
            around, _ = self.find("", Filters(namespace=spec.namespace), _NEIGHBOURS)
            near = difflib.get_close_matches(spec.name, [entry.name for entry in around], n=1)
            hint = f"did you mean {spec.namespace}/{near[0]}?" if near else hint
        return NotFound(f"{self.remote.url} has no {spec.title}", hint=hint)


def choose(index: Index, spec: PackageSpec) -> Release:
    """The version that the spec's selector means. Yanked ones only if named exactly.

    Raises:
        NotFound: none fits; says what there is.
    """
    selector = spec.version
    there = {release.version: release for release in index.versions}
    sound = [version for version, release in there.items() if release.yanked is None]
    kind = kind_of(selector)
    if kind == "digest":
        digest = selector.removeprefix("sha256:")
        named = [r.version for r in index.versions if r.manifest_sha256 == digest]
        chosen = named[0] if named else None
    elif selector in there:
        chosen = selector
    elif kind == "any":
        chosen = index.tags.get("latest") or ordering.best(sound, "", spec.namespace)
        chosen = chosen or next(iter(ordering.sort(sound, spec.namespace)), None)
    elif kind == "tag":
        chosen = index.tags.get(selector)
    else:
        chosen = ordering.best(sound, selector, spec.namespace)
    if chosen not in there:
        which = f"fits {selector!r}" if selector else "may be chosen"
        raise NotFound(f"no version of {spec.title} {which}", hint=_offer(index))
    return there[chosen]


def _offer(index: Index) -> str:
    sound = [release.version for release in index.versions if release.yanked is None]
    if not sound:
        return "every version is yanked; name one exactly to have it all the same"
    tags = [f"{tag} ({version})" for tag, version in index.tags.items()]
    more = ", …" if len(sound) > 10 else ""
    return f"there are: {', '.join(sound[:10])}{more}" + (f"; tags: {', '.join(tags)}" * bool(tags))


def reason(release: Release) -> str:
    """Why a version is yanked; empty if it is sound."""
    return "" if release.yanked is None else release.yanked or _NO_REASON


def _package(spec: PackageSpec | PathSpec | UrlSpec) -> PackageSpec:
    if not isinstance(spec, PackageSpec):
        raise InvalidInput(f"{spec} is not a package of a registry")
    return spec


__all__: Sequence[str] = ["RegistryAdapter", "choose", "reason"]
