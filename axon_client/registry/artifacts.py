# SPDX-License-Identifier: BUSL-1.1
"""The registry's packages as OCI artifacts, and artifacts that are pushed as packages.

A published version has one artifact, which is made from its manifest and is the same every
time. A pushed artifact is kept as it came, under its digest and its version's tag; if it is a
model, the package that it holds is published, and its version never changes from then on.
What is no model is kept as a document alone.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.archive import extract_tar
from axon_client.describe import complete
from axon_client.manifest import Manifest, Metadata, ModelFile
from axon_client.oci import artifact as artifacts
from axon_client.oci import layout, media
from axon_client.oci.artifact import Artifact, Descriptor, digest_of
from axon_client.oci.layout import Packed
from axon_client.oci.reference import DIGEST, TAG, tag_of
from axon_client.paths import Names
from axon_client.registry.blobs import Blobs
from axon_client.registry.database import Database
from axon_client.registry.documents import Documents
from axon_client.registry.latest import check_tag, check_version
from axon_client.registry.problems import missing_blobs
from axon_client.registry.publishing import publish
from axon_client.registry.records import Document
from axon_client.unpacking import Limits
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

_KEPT: Final = 256
_LEFT_BEHIND_S: Final = 24 * 3600.0


class Artifacts:
    """Args:
    database: packages and documents.
    blobs: their files.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._documents = Documents(database)
        self._made: OrderedDict[tuple[str, bytes], Packed] = OrderedDict()
        self._guard = Lock()

    # --- reading ----------------------------------------------------------------------

    def package(self, repository: str) -> tuple[str, str]:
        """Namespace and name of the package that a repository stands for.

        Repositories are in lower case, packages need not be.

        Raises:
            InvalidInput: no package can be called that.
        """
        namespace, _, name = repository.partition("/")
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT namespace, name FROM packages"
                " WHERE namespace = ? COLLATE NOCASE AND name = ? COLLATE NOCASE",
                (namespace, name),
            ).fetchone()
        if row is not None:
            return row[0], row[1]
        try:
            msgspec.convert(namespace, manifests.Namespace)
            msgspec.convert(name, manifests.Name)
        except msgspec.ValidationError as error:
            raise InvalidInput(
                f"{repository[:200]!r} is no repository here", hint="write <namespace>/<name>"
            ) from error
        return namespace, name

    def get(self, repository: str, reference: str) -> Document:
        """The artifact that a tag or a digest names.

        Raises:
            NotFound: there is none.
        """
        with suppress(NotFound):
            return self._documents.get(repository, reference)
        for version, packed in self._packed(repository, reference):
            if reference in (packed.digest, tag_of(version)):
                return _document(packed)
        with suppress(NotFound):
            tagged = self._database.tags(*self.package(repository)).get(reference)
            if tagged:
                return self.get(repository, tag_of(tagged))
        raise NotFound(f"{repository} has nothing called {reference[:80]!r}")

    def small(self, repository: str, digest: str) -> bytes:
        """The config or manifest.yaml of a version, which is no blob of its own.

        Raises:
            NotFound: no version has such a blob.
        """
        for _, packed in self._packed(repository):
            if digest in packed.blobs:
                return packed.blobs[digest]
        raise NotFound(f"{repository} has no blob {digest[:80]!r}")

    def tags(self, repository: str) -> list[str]:
        """Every tag, sorted; yanked versions are left out.

        Raises:
            NotFound: there is no such repository.
        """
        found = set(self._documents.tags(repository))
        try:
            index = self._database.index(*self.package(repository))
        except NotFound:
            if not found:
                raise
            return sorted(found)
        yanked = {tag_of(row.version) for row in index.versions if row.yanked is not None}
        sound = {tag_of(row.version) for row in index.versions}
        return sorted((found | sound | {t for t in index.tags if TAG.fullmatch(t)}) - yanked)

    def repositories(self) -> list[str]:
        """Every package's, sorted."""
        return sorted(f"{ns}/{name}".lower() for ns, name in self._database.packages())

    def _packed(self, repository: str, reference: str = "") -> Iterator[tuple[str, Packed]]:
        """Versions with their artifacts; with signatures, and as it was without them.

        Args:
            reference: a tag leaves out the versions that have another one.
        """
        namespace, name = self.package(repository)
        tag = "" if ":" in reference else reference
        with suppress(NotFound):
            for row in self._database.versions(namespace, name):
                if tag and tag_of(row.version) != tag:
                    continue
                detail = self._database.version(namespace, name, row.version)
                if not detail.files:
                    continue  # a package of packages has nothing that other tools could pull
                data = self._database.manifest(namespace, name, row.version)
                yield row.version, self._pack(data, detail.signatures)
                if detail.signatures:
                    yield row.version, self._pack(data, [])

    def _pack(self, data: bytes, signatures: list[dict[str, str]]) -> Packed:
        key = (digest_of(data), msgspec.json.encode(signatures))
        with self._guard:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        packed = layout.pack(data, signatures)
        with self._guard:
            self._made[key] = packed
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return packed

    # --- writing ----------------------------------------------------------------------

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
            if self.get(repository, reference).digest == digest:
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
        self._documents.put(repository, digest, kind, body, blobs, tag, check)
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
            versions = self._database.versions(*self.package(repository))
            if any(tag_of(row.version) == tag for row in versions):
                raise AlreadyExists(
                    f"{repository}:{tag} is a published version",
                    hint="published versions never change: choose another tag",
                )

    def _publish(self, repository: str, artifact: Artifact, tag: str, publisher: str) -> str:
        """Publish the package in an artifact; the tag of its version."""
        namespace, name = self.package(repository)
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
            data = manifests.encode(_renamed(said, package))
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
        limits = Limits(total_bytes=shutil.disk_usage(folder).free // 4)
        for layer in artifact.layers:
            blob = self._blobs.root / layer.sha256
            if layer.is_archive:
                for file in extract_tar(blob, folder, lambda count: None, limits, names):
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


def _renamed(said: Manifest, package: Metadata) -> Manifest:
    """The same package under another name; what it was called is noted."""
    metadata = msgspec.structs.replace(
        said.metadata,
        name=package.name,
        namespace=package.namespace,
        version=package.version,
        annotations={**said.metadata.annotations, media.PACKAGE: said.title},
    )
    return msgspec.structs.replace(said, metadata=metadata)


def _document(packed: Packed) -> Document:
    return Document(packed.digest, media.MANIFEST, packed.manifest, "")
