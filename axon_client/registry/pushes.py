# SPDX-License-Identifier: BUSL-1.1
"""Artifacts that are pushed, as packages.

A pushed artifact is kept as it came, under its digest and its version's tag; if it is a model,
the package that it holds is published, and its version never changes from then on. What is no
model is kept as a document alone.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.archive import extract_tar
from axon_client.describe import complete
from axon_client.manifest import Manifest, Metadata, ModelFile
from axon_client.oci import artifact as artifacts
from axon_client.oci import layout, media
from axon_client.oci.artifact import Artifact, Descriptor, digest_of
from axon_client.oci.reference import TAG, tag_of
from axon_client.paths import Names
from axon_client.registry.artifacts import Artifacts
from axon_client.registry.blobs import Blobs
from axon_client.registry.database import Database
from axon_client.registry.latest import check_tag, check_version
from axon_client.registry.problems import missing_blobs
from axon_client.registry.publishing import publish
from axon_client.spec import DIGEST
from axon_client.unpacking import Budget, Limits
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

_LEFT_BEHIND_S: Final = 24 * 3600.0


class Pushes:
    """Takes artifacts whose blobs are here.

    Args:
        database: where packages are published.
        blobs: their files.
        artifacts: what is there already.
    """

    def __init__(self, database: Database, blobs: Blobs, artifacts: Artifacts) -> None:
        self._database = database
        self._blobs = blobs
        self._artifacts = artifacts

    def put(self, repository: str, reference: str, body: bytes, publisher: str) -> str:
        """Keep an artifact, and publish the model in it; its digest.

        Raises:
            InvalidInput: it is no artifact, or no package can be made of it.
            MissingBlobs: its blobs are not here.
            AlreadyExists: its version is published with another content.
        """
        title, digest = f"{repository}:{reference}", digest_of(body)
        artifact = artifacts.parse(body, title)
        if DIGEST.fullmatch(reference):
            if reference != digest:
                raise InvalidInput(f"the manifest has the digest {digest}, not {reference}")
        elif not TAG.fullmatch(reference):
            raise InvalidInput(f"{reference[:80]!r} is no tag and no digest")
        self._check(artifact, title)
        with suppress(NotFound):
            if self._artifacts.get(repository, reference).digest == digest:
                return digest  # one of ours that was pulled comes back
        tag = "" if reference == digest else reference
        if tag and artifact.is_model:
            tag = self._publish(repository, artifact, tag, publisher)
        elif tag:
            self._check_free(repository, tag)
        blobs = {blob.sha256 for blob in (artifact.config, *artifact.layers)}
        check = self._checking(artifact, title)
        docker = artifact.media_type == media.DOCKER_MANIFEST
        kind = media.DOCKER_MANIFEST if docker else media.MANIFEST
        self._artifacts.documents.put(repository, digest, kind, body, blobs, tag, check)
        return digest

    def _checking(self, artifact: Artifact, title: str) -> Callable[[], None]:
        return lambda: self._check(artifact, title)

    def _check(self, artifact: Artifact, title: str) -> None:
        parts = (artifact.config, *artifact.layers)
        missing = {part.digest: None for part in parts if self._size(part) != part.size}
        if missing:
            raise missing_blobs(title, list(missing))

    def _size(self, part: Descriptor) -> int | None:
        return self._blobs.size(part.sha256)

    def _check_free(self, repository: str, tag: str) -> None:
        with suppress(NotFound):
            versions = self._database.versions(*self._artifacts.package(repository))
            if any(tag_of(row.version) == tag for row in versions):
                raise AlreadyExists(
                    f"{repository}:{tag} is a published version",
                    hint="published versions never change: choose another tag",
                )

    def _publish(self, repository: str, artifact: Artifact, tag: str, publisher: str) -> str:
        """Publish the package in an artifact; the tag of its version."""
        namespace, name = self._artifacts.package(repository)
        own = artifact.manifest_layer
        said = None
        if own is not None:
            data = self._read(own)
            said = manifests.decode(data, source=manifests.FILE_NAME)
        version = self._version(artifact, tag, namespace, said)
        package = Metadata(name=name, namespace=namespace, version=version)
        if said is None:
            data = manifests.encode(self._describe(artifact, package, f"{repository}:{tag}"))
        elif said.title != f"{namespace}/{name}@{version}":
            data = manifests.encode(layout.renamed(said, package))
        signatures = (
            artifacts.signatures_of(artifact) if own and digest_of(data) == own.digest else ()
        )
        moving = [] if tag_of(version) == tag else [tag]
        publish(
            self._database,
            self._blobs,
            data,
            signatures=signatures,
            tags=moving,
            publisher=publisher,
        )
        return tag_of(version)

    def _version(self, artifact: Artifact, tag: str, namespace: str, said: Manifest | None) -> str:
        """The version that is pushed: the tag's, else what the artifact says of itself."""
        if said and tag_of(said.metadata.version) == tag:
            return said.metadata.version
        if _is_version(tag, namespace):
            return tag
        check_tag(tag)
        stated = said.metadata.version if said else layout.version_in(self._read(artifact.config))
        if not _is_version(stated, namespace):
            raise InvalidInput(
                f"{tag!r} is no version, and the artifact names none",
                hint="push it with a tag such as 1.2.0",
            )
        return stated

    def _read(self, part: Descriptor) -> bytes:
        if part.size > manifests.MAX_BYTES:
            return b""
        with self._blobs.open(part.sha256) as file:
            return file.read(manifests.MAX_BYTES)

    def _describe(self, artifact: Artifact, package: Metadata, title: str) -> Manifest:
        """The manifest of what another tool packed, from its layers' files."""
        with self._room() as folder:
            known = self._laid_out(artifact, folder)
            manifest = layout.describe(self._read(artifact.config), package, title)
            return complete(manifest, folder, known=known)

    @contextmanager
    def _room(self) -> Iterator[Path]:
        """A folder for a while. Those that a killed server left are gone after a day."""
        parent = self._blobs.root.parents[1] / "unpacking"
        parent.mkdir(exist_ok=True)
        for old in parent.iterdir():
            with suppress(FileNotFoundError):
                if old.stat().st_mtime < time.time() - _LEFT_BEHIND_S:
                    shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)

    def _laid_out(self, artifact: Artifact, folder: Path) -> dict[str, ModelFile]:
        """The files of all layers, those of archives as new blobs."""
        known, names = {}, Names()
        budget = Budget(Limits(total_bytes=shutil.disk_usage(folder).free // 4))
        for layer in artifact.layers:
            blob = self._blobs.root / layer.sha256
            if layer.is_archive:
                limits = budget.next(layer.size)
                files = extract_tar(blob, folder, lambda count: None, limits, names)
                budget.took(len(files), sum(file.size for file in files))
                for file in files:
                    self._blobs.put(folder / file.path, file.sha256)
                    known[file.path] = file
                continue
            problem = names.add(layer.path)
            if problem:
                raise InvalidInput(f"the package is refused: {problem}")
            target = folder / layer.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(blob)
            known[layer.path] = ModelFile(layer.path, layer.size, layer.sha256)
        return known


def _is_version(text: str, namespace: str) -> bool:
    try:
        msgspec.convert(text, manifests.Version)
        check_version(text, namespace)
    except (msgspec.ValidationError, InvalidInput):
        return False
    return True
