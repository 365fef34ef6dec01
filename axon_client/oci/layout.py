# SPDX-License-Identifier: BUSL-1.1
"""A package as a ModelPack artifact, and an artifact as a package.

    manifest.yaml   a layer of its own, so that nothing is lost on the way back
    each file       a raw layer, whose digest is the file's: a store of either kind has it
    config          what other tools show of a model

The same package gives the same bytes. An artifact that another tool made has tar layers,
perhaps, and no manifest.yaml; then its config says what there is to say.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from axon_client import manifest as manifests
from axon_client.formats import is_weights
from axon_client.manifest import Author, Facts, Manifest, Metadata, ModelFile, Spec
from axon_client.oci import media
from axon_client.oci.artifact import Artifact, Descriptor, digest_of
from mlos_core.errors import InvalidInput

MAX_CONFIG: Final = 1 << 20
_DOCUMENTS: Final = re.compile(r"(readme|licen[cs]e|notice|copying|changelog)|.*\.(md|rst|pdf)$")
_CODE: Final = (".py", ".sh", ".ipynb", ".c", ".cc", ".cpp", ".h", ".cu", ".js", ".lua")


class Packed(msgspec.Struct, frozen=True):
    """An artifact that was made: its manifest's bytes and those of its small blobs.

    `blobs` are by digest, `sha256:<hex>`; the files' are not among them.
    """

    manifest: bytes
    digest: str
    blobs: dict[str, bytes]
    artifact: Artifact


# --- a package as an artifact ---------------------------------------------------------


def pack(data: bytes, signatures: Sequence[dict[str, str]] = ()) -> Packed:
    """The artifact of a package with this manifest.yaml.

    Raises:
        InvalidInput: `data` is no manifest, or one without files.
    """
    manifest = manifests.decode(data)
    files = sorted(manifest.spec.format.files, key=lambda file: file.path)
    if not files:
        raise InvalidInput(f"{manifest.title} lists no files", hint="install it, then push it")
    config = msgspec.json.encode(_config(manifest, files, digest_of(data)), order="sorted")
    artifact = Artifact(
        schema_version=2,
        media_type=media.MANIFEST,
        artifact_type=media.ARTIFACT,
        config=Descriptor(media.CONFIG, digest_of(config), len(config)),
        layers=[
            _layer(manifest, ModelFile(manifests.FILE_NAME, len(data), digest_of(data)[7:])),
            *(_layer(manifest, file) for file in files),
        ],
        annotations=_annotations(manifest, signatures),
    )
    encoded = msgspec.json.encode(artifact, order="sorted")
    blobs = {artifact.config.digest: config, digest_of(data): data}
    return Packed(encoded, digest_of(encoded), blobs, artifact)


def renamed(said: Manifest, package: Metadata) -> Manifest:
    """The same package under another name; what it was called is noted."""
    metadata = msgspec.structs.replace(
        said.metadata,
        name=package.name,
        namespace=package.namespace,
        version=package.version,
        annotations={**said.metadata.annotations, media.PACKAGE: said.title},
    )
    return msgspec.structs.replace(said, metadata=metadata)


def _layer(manifest: Manifest, file: ModelFile) -> Descriptor:
    notes = {media.PATH: file.path, media.TITLE: file.path}
    kind = f"application/vnd.cncf.model.{_role(manifest, file.path)}.v1.raw"
    return Descriptor(kind, f"sha256:{file.sha256}", file.size, notes)


def _role(manifest: Manifest, path: str) -> str:
    models = {model.path for model in manifest.spec.format.execution_files}
    name = PurePosixPath(path).name.lower()
    if path in models or is_weights(path):
        return "weight"
    if path == manifests.FILE_NAME or path in manifest.metadata.license_files:
        return "doc"
    if _DOCUMENTS.match(name):
        return "doc"
    return "code" if name.endswith(_CODE) else "weight.config"


def _config(manifest: Manifest, files: Sequence[ModelFile], own: str) -> dict[str, Any]:
    about, spec = manifest.metadata, manifest.spec
    descriptor = {
        "name": about.name,
        "version": about.version,
        "createdAt": _time(about.created),
        "authors": [author.name for author in about.authors],
        "licenses": [about.license] if about.license else [],
        "description": about.description,
        "sourceURL": about.homepage,
        "docURL": about.documentation,
    }
    config = {
        "architecture": spec.model.architecture,
        "format": spec.format.execution_format or spec.format.type,
        "paramSize": _rounded(spec.model.parameters),
        "quantization": spec.model.quantization,
    }
    layers = [own, *(f"sha256:{file.sha256}" for file in files)]
    return {
        "descriptor": {key: value for key, value in descriptor.items() if value},
        "config": {key: value for key, value in config.items() if value},
        "modelfs": {"type": "layers", "diffIds": layers},
    }


def _rounded(parameters: int) -> str:
    """As people write it: 135M, 7.2B."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters or "")


def _time(moment: datetime.datetime | None) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment and moment.tzinfo else ""


def _annotations(manifest: Manifest, signatures: Sequence[dict[str, str]]) -> dict[str, str]:
    about = manifest.metadata
    prefix = "org.opencontainers.image."
    notes = {
        f"{prefix}title": f"{about.namespace}/{about.name}",
        f"{prefix}version": about.version,
        f"{prefix}description": about.description,
        f"{prefix}licenses": about.license,
        f"{prefix}url": about.homepage,
        f"{prefix}documentation": about.documentation,
        f"{prefix}created": _time(about.created),
        media.PACKAGE: manifest.title,
        media.SIGNATURES: msgspec.json.encode(list(signatures)).decode() if signatures else "",
    }
    return {key: value for key, value in notes.items() if value}


# --- an artifact as a package ---------------------------------------------------------


def describe(config: bytes, package: Metadata, title: str) -> Manifest:
    """A manifest for what another tool packed, from its config; files come later.

    Raises:
        InvalidInput: a field's value is not allowed.
    """
    values = _object(config)
    about, facts = _object_in(values, "descriptor"), _object_in(values, "config")
    licenses = about.get("licenses")
    authors = about.get("authors")
    metadata = msgspec.structs.replace(
        package,
        description=_text(about, "description"),
        license=" AND ".join(x for x in licenses if isinstance(x, str))
        if isinstance(licenses, list)
        else "",
        authors=[Author(x) for x in authors if isinstance(x, str)]
        if isinstance(authors, list)
        else [],
        homepage=_text(about, "sourceURL"),
        documentation=_text(about, "docURL"),
        annotations={media.PACKAGE: title},
    )
    known = Facts(
        architecture=_text(facts, "architecture"), quantization=_text(facts, "quantization")
    )
    return manifests.new(metadata, Spec(model=known))


def version_in(config: bytes) -> str:
    """The version that a config names; empty if it names none."""
    return _text(_object_in(_object(config), "descriptor"), "version")


def _object(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _object_in(values: dict[str, Any], key: str) -> dict[str, Any]:
    inner = values.get(key)
    return inner if isinstance(inner, dict) else {}


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""
