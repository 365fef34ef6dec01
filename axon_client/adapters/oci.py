# SPDX-License-Identifier: BUSL-1.1
"""Packages from OCI registries: `oci/ghcr.io/org/model@1.2.0`, `@sha256:…`, `@latest`.

A package is called what it was asked for, not what its manifest.yaml says: nobody but who
owns a namespace decides what is installed under it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.adapters.base import Resolved, Version
from axon_client.describe import complete
from axon_client.errors import IntegrityError
from axon_client.manifest import Manifest, Metadata
from axon_client.oci import artifact as artifacts
from axon_client.oci import layout, media
from axon_client.oci.artifact import Artifact
from axon_client.oci.client import Repository
from axon_client.oci.layers import Layers, raw_files
from axon_client.oci.reference import TAG, place_of, tag_of
from axon_client.pack import check_files
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, PathSpec, UrlSpec, kind_of
from axon_client.store import Stage
from axon_client.versions import best, parse
from mlos_core.errors import InvalidInput, NotFound

LATEST: Final = "latest"
_PINNED: Final = re.compile(r"sha256-[0-9a-f]{64}")
"""The version of what has only its digest."""


class OciAdapter:
    """An OCI registry.

    Args:
        url: of the registry; empty where names begin with its host.
        namespace: what stands for the registry itself, and is no part of its repositories.
    """

    def __init__(self, url: str = "", namespace: str = "oci") -> None:
        self._url = url
        self._namespace = namespace

    def resolve(self, spec: PackageSpec | PathSpec | UrlSpec) -> Resolved:
        """Read the artifact's manifest, and with it the digest of every file."""
        package = _package(spec)
        with self._open(package) as repository:
            reference = _reference(repository, package)
            try:
                data, digest = _artifact(repository, reference)
            except NotFound:
                # The version may be one that no tag names but what `latest` says of itself.
                data, digest = _latest_as(repository, package)
                reference = digest
            title = f"{repository.place}@{reference}"
            artifact = artifacts.parse(data, title)
            named = package.at(_version(repository, artifact, digest, reference, package.version))
            own = artifact.manifest_layer
            manifest = repository.blob(own.digest, own.size) if own else b""
            return Resolved(
                named,
                url=f"{repository.base}/manifests/{digest}",
                kind="oci",
                revision=digest,
                files=raw_files(repository, artifact),
                manifest=manifest,
                signatures=_signatures(artifact, manifest, named),
                dependencies=_dependencies(manifest, title),
            )

    def fetch(
        self,
        spec: PackageSpec | PathSpec | UrlSpec,
        found: Resolved,
        stage: Stage,
        progress: Progress,
    ) -> Manifest:
        """Bring every layer; unpack those that are archives."""
        package = _package(spec)
        with self._open(package) as repository:
            data, digest = repository.manifest(found.revision)
            title = f"{repository.place}@{digest}"
            artifact = artifacts.parse(data, title)
            assert found.package is not None
            manifest = _manifest(repository, artifact, found, title)
            Layers(repository, digest, stage, progress).bring(artifact)
        check_files(manifest, list(stage.known.values()), title)
        return complete(
            manifest, stage.files, progress, stage.known, allow_pickle=stage.allow_pickle
        )

    def versions(self, spec: PackageSpec) -> list[Version]:
        """The tags that are versions; without any, what `latest` names."""
        with self._open(spec) as repository:
            tags = repository.tags()
        exact = [tag for tag in tags if TAG.fullmatch(tag) and parse(tag) is not None]
        if exact or LATEST not in tags:
            return [Version(tag) for tag in exact]
        package = self.resolve(spec.at(LATEST)).package
        return [Version(package.version, tags=(LATEST,))] if package else []

    def _open(self, package: PackageSpec) -> Repository:
        return Repository(place_of(package, self._url, self._namespace))


def _package(spec: PackageSpec | PathSpec | UrlSpec) -> PackageSpec:
    if not isinstance(spec, PackageSpec):
        raise InvalidInput(f"{spec} is no repository", hint="write oci/<host>/<repository>@<tag>")
    return spec


def _reference(repository: Repository, package: PackageSpec) -> str:
    """The tag or digest that a selector means; asks for the tags only if it must."""
    selector = package.version
    kind = kind_of(selector)
    if kind == "digest" or _PINNED.fullmatch(selector):
        return selector.replace("sha256-", "sha256:")
    if kind in ("exact", "tag"):
        return tag_of(selector)
    tags = repository.tags()
    found = best(tags, selector or "*") or (LATEST if not selector and LATEST in tags else "")
    if not found:
        hint = ", ".join(tags[:10]) or "it has no tags"
        raise NotFound(f"no tag of {repository.place} fits {selector or 'any'!r}", hint=hint)
    return found


def _artifact(repository: Repository, reference: str) -> tuple[bytes, str]:
    data, digest = repository.manifest(reference)
    if b'"manifests"' in data and b'"layers"' not in data:
        inner = artifacts.only_of(data, f"{repository.place}@{reference}")
        return repository.manifest(inner)
    return data, digest


def _latest_as(repository: Repository, package: PackageSpec) -> tuple[bytes, str]:
    """What `latest` names, if that says that it is this version.

    Raises:
        NotFound: it says something else, or is not there.
    """
    if package.version != LATEST and kind_of(package.version) == "exact":
        with suppress(NotFound):
            data, digest = _artifact(repository, LATEST)
            artifact = artifacts.parse(data, str(repository.place))
            if _version(repository, artifact, digest, LATEST, LATEST) == package.version:
                return data, digest
    raise NotFound(f"{repository.place} has no tag {tag_of(package.version)!r}")


def _version(
    repository: Repository, artifact: Artifact, digest: str, reference: str, selector: str
) -> str:
    """What the version is called: the tag, unless that moves; then what the config says."""
    if ":" not in reference and reference != LATEST:
        return selector if kind_of(selector) in ("exact", "tag") else reference
    config = artifact.config
    stated = ""
    if config.media_type == media.CONFIG and config.size <= layout.MAX_CONFIG:
        stated = layout.version_in(repository.blob(config.digest, config.size))
    try:
        msgspec.convert(stated, manifests.Version)
    except msgspec.ValidationError:
        return digest.replace(":", "-")
    return stated


def _signatures(
    artifact: Artifact, manifest: bytes, package: PackageSpec
) -> tuple[dict[str, str], ...]:
    """What vouches for this package, and not for another one or an older version of it.

    A registry may put what was signed under any name and tag; then nobody vouches for it.
    """
    if not manifest:
        return ()
    about = manifests.decode(manifest).metadata
    title = f"/{about.namespace}/{about.name}".lower()
    same_name = title.endswith(f"/{package.name}") or f"/{package.title}".endswith(title)
    if not same_name or tag_of(about.version) != tag_of(package.version):
        return ()
    return artifacts.signatures_of(artifact)


def _dependencies(manifest: bytes, title: str) -> tuple[str, ...]:
    if not manifest:
        return ()
    return tuple(manifests.decode(manifest, source=title).spec.dependencies.models)


def _manifest(repository: Repository, artifact: Artifact, found: Resolved, title: str) -> Manifest:
    """Ours if there is one, else what the config says; under the name that was asked for."""
    assert found.package is not None
    name = Metadata(found.package.name, found.package.namespace, found.package.version)
    own = artifact.manifest_layer
    if own is None:
        size = min(artifact.config.size, layout.MAX_CONFIG)
        return layout.describe(repository.blob(artifact.config.digest, size), name, title)
    data = found.manifest or repository.blob(own.digest, own.size)
    if artifacts.digest_of(data) != own.digest:
        raise IntegrityError(f"the manifest of {title} is another than its artifact's")
    return layout.renamed(manifests.decode(data, source=title), name)
