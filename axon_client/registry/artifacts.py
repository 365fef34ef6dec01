# SPDX-License-Identifier: BUSL-1.1
"""The registry's packages as OCI artifacts, and the artifacts that were pushed.

A published version has one artifact, which is made from its manifest and is the same every
time; one that was pushed is given as it came.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.oci import layout, media
from axon_client.oci.artifact import digest_of
from axon_client.oci.layout import Packed
from axon_client.oci.reference import TAG, tag_of
from axon_client.registry.database import Database
from axon_client.registry.documents import Documents
from axon_client.registry.records import Document
from mlos_core.errors import InvalidInput, NotFound

_KEPT: Final = 256


class Artifacts:
    """What tags and digests name.

    Args:
        database: packages and documents.
    """

    def __init__(self, database: Database) -> None:
        self.documents = Documents(database)
        self._database = database
        self._made: OrderedDict[tuple[str, bytes], Packed] = OrderedDict()
        self._guard = Lock()

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
            return self.documents.get(repository, reference)
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
        found = set(self.documents.tags(repository))
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


def _document(packed: Packed) -> Document:
    return Document(packed.digest, media.MANIFEST, packed.manifest, "")
