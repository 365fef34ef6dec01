# SPDX-License-Identifier: BUSL-1.1
"""From a manifest's bytes to a published version: what is checked before it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from axon_client import manifest as manifests
from axon_client import trust
from axon_client.registry.blobs import Blobs
from axon_client.registry.cards import card_of
from axon_client.registry.database import Database
from axon_client.registry.latest import check_version
from axon_client.registry.records import Release
from axon_client.registry.rows import MAX_SIGNATURES
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput


def publish(
    database: Database,
    blobs: Blobs,
    manifest: bytes,
    *,
    signatures: Sequence[Mapping[str, Any]] = (),
    tags: Sequence[str] = (),
    publisher: str = "",
    expected: PackageSpec | None = None,
) -> bool:
    """Publish a version whose files are here; whether it is new.

    Args:
        database: where it is entered.
        blobs: where its files are.
        manifest: its exact bytes.
        signatures: of those bytes.
        tags: what it is called beside.
        publisher: the id of the token that asks.
        expected: what the request called it, which the manifest must say, too.

    Raises:
        InvalidInput: the manifest, a tag or a signature is wrong.
        MissingBlobs: files are not here.
        AlreadyExists: the version is there with another manifest.
    """
    release = release_of(manifest, signatures, publisher)
    if expected is not None and release.title != str(expected):
        raise InvalidInput(
            f"the manifest is that of {release.title}, not of {expected}",
            hint="publish it under the name that its metadata says",
        )
    return database.publish(release, tags, lambda: blobs.check(release.title, release.files))


def release_of(
    manifest: bytes, signatures: Sequence[Mapping[str, Any]] = (), publisher: str = ""
) -> Release:
    """What a manifest says, checked.

    Raises:
        InvalidInput: it is no manifest, lists no files, or a signature is not one of it.
    """
    parsed = manifests.decode(manifest)
    about, technical = parsed.metadata, parsed.spec
    check_version(about.version, about.namespace)
    if manifests.FILE_NAME in about.name.split("/"):
        raise InvalidInput(f"a part of a name may not be {manifests.FILE_NAME}")
    if not technical.format.files and not technical.dependencies.models:
        raise InvalidInput(
            f"the manifest of {parsed.title} lists no files",
            hint="'axon publish' fills in spec.format.files",
        )
    if len(signatures) > MAX_SIGNATURES:
        raise InvalidInput(f"a version has at most {MAX_SIGNATURES} signatures")
    for signature in signatures:
        _check_signature(manifest, signature, about.namespace)
    return Release(
        namespace=about.namespace,
        name=about.name,
        version=about.version,
        manifest=manifest,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        card=card_of(parsed),
        files=tuple(technical.format.files),
        dependencies=tuple(technical.dependencies.models),
        signatures=tuple(dict(signature) for signature in signatures),
        publisher=publisher,
    )


def _check_signature(manifest: bytes, signature: Mapping[str, Any], namespace: str) -> None:
    """Whether it is what its key signed; whose key that is, every client decides itself."""
    key = signature.get("key")
    anybody = [trust.Trusted(key, namespaces=["*"])] if isinstance(key, str) else []
    verdict = trust.check(manifest, [signature], namespace, "require", trusted=anybody)
    if verdict.state != "trusted":
        raise InvalidInput(f"a signature is refused: {verdict.message}", hint="sign it again")
