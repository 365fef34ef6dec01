# SPDX-License-Identifier: BUSL-1.1
"""OCI manifests, as strict types: what a registry says of an artifact, checked."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

import msgspec

from axon_client import manifest as manifests
from axon_client.oci import media
from axon_client.paths import Names, path_problem
from mlos_core.errors import InvalidInput, Unsupported

MAX_BYTES: Final = 4 << 20
MAX_LAYERS: Final = 10_000
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62))]
MediaType = Annotated[str, msgspec.Meta(max_length=255)]


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A blob: what it is, its digest, its size in bytes."""

    media_type: MediaType
    digest: Digest
    size: Size
    annotations: dict[str, str] | None = None
    artifact_type: str = ""

    @property
    def sha256(self) -> str:
        """The hex digits of its digest."""
        return self.digest.removeprefix("sha256:")

    @property
    def notes(self) -> dict[str, str]:
        """Its annotations."""
        return self.annotations or {}

    @property
    def is_archive(self) -> bool:
        """Whether it is a tar archive of files."""
        return media.is_archive(self.media_type, self.notes)

    @property
    def path(self) -> str:
        """What it is called in the package, if it is one file."""
        return media.path_of(self.media_type, self.notes)


class Artifact(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An image manifest."""

    schema_version: int
    config: Descriptor
    layers: Annotated[list[Descriptor], msgspec.Meta(max_length=MAX_LAYERS)]
    media_type: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] | None = None

    @property
    def is_model(self) -> bool:
        """Whether it says of itself that it is one."""
        return (
            self.artifact_type == media.ARTIFACT
            or self.config.media_type == media.CONFIG
            or any(media.is_modelpack(layer.media_type) for layer in self.layers)
        )

    @property
    def manifest_layer(self) -> Descriptor | None:
        """The layer that is our manifest.yaml."""
        found = [x for x in self.layers if x.path == manifests.FILE_NAME and not x.is_archive]
        return found[0] if len(found) == 1 and found[0].size <= manifests.MAX_BYTES else None


class _Index(msgspec.Struct, frozen=True):
    manifests: Annotated[list[Descriptor], msgspec.Meta(max_length=1000)]


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse(data: bytes, title: str) -> Artifact:
    """An image manifest, checked.

    Raises:
        InvalidInput: it is none, or breaks a rule; names `title`.
        Unsupported: it is a list of several, or of another version.
    """
    artifact: Artifact = _decode(data, Artifact, title)
    if artifact.schema_version != 2:
        raise Unsupported(f"{title} has schema version {artifact.schema_version}, not 2")
    names = Names()
    for layer in artifact.layers:
        problem = _layer_problem(layer, names)
        if problem:
            raise InvalidInput(f"{title}: {problem}", hint="push it again with another tool")
    return artifact


def _layer_problem(layer: Descriptor, names: Names) -> str:
    if layer.is_archive:
        return ""
    if not layer.path:
        return f"the layer {layer.digest} of type {layer.media_type} says no name for its file"
    problem = path_problem(layer.path)
    return f"the layer name {layer.path!r} {problem}" if problem else names.add(layer.path)


def only_of(data: bytes, title: str) -> str:
    """The digest of the one model that an index holds.

    Raises:
        Unsupported: it holds none or several.
    """
    index: _Index = _decode(data, _Index, title)
    found = [m for m in index.manifests if m.artifact_type == media.ARTIFACT] or index.manifests
    if len(found) != 1:
        raise Unsupported(
            f"{title} is a list of {len(index.manifests)} artifacts",
            hint="name one of them: " + ", ".join(m.digest for m in index.manifests[:4]),
        )
    return found[0].digest


def signatures_of(artifact: Artifact) -> tuple[dict[str, str], ...]:
    """The signatures of its manifest.yaml; none where they cannot be read."""
    try:
        text = (artifact.annotations or {}).get(media.SIGNATURES, "[]")
        return tuple(msgspec.json.decode(text, type=list[dict[str, str]])[:16])
    except msgspec.DecodeError:
        return ()


def _decode(data: bytes, kind: Any, title: str) -> Any:
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{title} is larger than {MAX_BYTES >> 20} MiB: no artifact")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{title} is no artifact that axon can read: {error}") from error
