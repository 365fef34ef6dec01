# SPDX-License-Identifier: BUSL-1.1
"""The signatures of an installed package, kept beside it to be checked again without a network.

An installed manifest may say more than the published one, or carry the name that the user
gave the package. So the published bytes are kept with their signatures, and the installed
manifest is held against them: the same files with the same digests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client import manifest as manifests
from axon_client.config import Policy
from axon_client.errors import IntegrityError
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.trust.ring import Trusted
from axon_client.trust.signatures import Verdict, check
from mlos_core.errors import InvalidInput

FILE_NAME: Final = "signatures.json"
MOST_BYTES: Final = 3 * manifests.MAX_BYTES


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was published: the manifest's exact bytes, their signatures, and where that was."""

    manifest: bytes
    signatures: list[dict[str, Any]]
    registry: str = ""


def encode(manifest: bytes, signatures: Sequence[Mapping[str, Any]], registry: str = "") -> bytes:
    """What to write to the file `FILE_NAME` beside the installed manifest."""
    kept = Kept(manifest, [dict(signature) for signature in signatures], registry)
    return msgspec.json.encode(kept)


def check_kept(
    data: bytes,
    installed: Manifest,
    policy: Policy = "require",
    *,
    trusted: Sequence[Trusted] | None = None,
    home: Path | None = None,
) -> Verdict:
    """Whether an installed package is still one that a trusted key has signed.

    Args:
        data: what `encode` gave; empty if nothing was kept.
    """
    if policy == "off":
        return Verdict("off", policy)
    if not data:
        return check(b"", [], installed.metadata.namespace, policy, trusted=trusted, home=home)
    try:
        kept, published = _decode(data)
    except InvalidInput as error:
        message = f"{FILE_NAME} is damaged: {error.message}"
        return Verdict("malformed", policy, message, "install it again")
    difference = _difference(published, installed)
    if difference:
        message = f"{installed.title} is not what was signed: {difference}"
        return Verdict("altered", policy, message, "install it again with --replace")
    space = published.metadata.namespace
    return check(
        kept.manifest, kept.signatures, space, policy,
        registry=kept.registry, trusted=trusted, home=home,
    )  # fmt: skip


def check_same(data: bytes, manifest: Manifest) -> None:
    """See that what a source gave is what it had published; whoever signed it, or nobody.

    Args:
        data: what `encode` gave.

    Raises:
        IntegrityError: it is not.
    """
    difference = _difference(_decode(data)[1], manifest)
    if difference:
        raise IntegrityError(
            f"{manifest.title} is not what was published: {difference}",
            hint="do not use it, and tell whoever keeps the registry",
        )


def _decode(data: bytes) -> tuple[Kept, Manifest]:
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"it has more than {MOST_BYTES} bytes")
    try:
        kept = msgspec.json.decode(data, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(str(error)) from error
    return kept, manifests.decode(kept.manifest, source="the published manifest")


def check_installed(model: InstalledModel, home: Path | None = None) -> Verdict:
    """Whether an installed model is still one that a trusted key has signed.

    Its files are not read: that their digests are the manifest's is for `verify` to see.

    Raises:
        InvalidInput: its manifest is damaged.
    """
    listed = {file.path for file in model.manifest.spec.format.files}
    path, data = model.path / FILE_NAME, b""
    if path.is_file() and FILE_NAME not in listed:  # else it is a file of the package
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    return check_kept(data, model.manifest, home=home)


def _difference(published: Manifest, installed: Manifest) -> str:
    signed = {file.path: file for file in published.spec.format.files}
    there = {file.path: file for file in installed.spec.format.files}
    for path in sorted(signed.keys() | there.keys()):
        if path not in there:
            return f"{path} is missing"
        if path not in signed:
            return f"{path} was added"
        if signed[path] != there[path]:
            return f"{path} has another digest"
    said, says = published.spec.format, installed.spec.format
    if said.pickled and not says.pickled:
        return "it no longer says that it is pickled"
    if said.execution_files and said.execution_files != says.execution_files:
        return "it names other models"
    return ""
