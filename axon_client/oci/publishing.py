# SPDX-License-Identifier: BUSL-1.1
"""`axon publish` to an OCI registry: where a package goes, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axon_client import config
from axon_client import manifest as manifests
from axon_client.config import Config
from axon_client.oci import layout
from axon_client.oci.client import Repository
from axon_client.oci.push import Pushed, digest_at, push
from axon_client.oci.reference import Place, checked, tag_of
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec
from mlos_core.errors import AlreadyExists


def place_for(spec: PackageSpec, url: str, settings: Config, *, whole: bool) -> Place:
    """The repository that a package is published to.

    The namespace that is a registry's own name is no part of its repositories'; any other is,
    as it is when the registry is asked for the package.

    Args:
        url: the registry's, or with `whole` and a path, the repository's.

    Raises:
        InvalidInput: no repository can be called that.
    """
    parts = urlsplit(url)
    scheme = "https" if parts.scheme == "oci" else parts.scheme
    path = parts.path.strip("/").partition(":")[0]
    entries = settings.registries.items()
    own = {name for name, registry in entries if registry.kind == "oci" and registry.url == url}
    title = spec.name if spec.namespace in own else f"{spec.namespace}/{spec.name}"
    name = path if whole and path else f"{path}/{title}".strip("/")
    return checked(f"{scheme}://{parts.netloc}", name.lower())


def publish(
    spec: PackageSpec,
    manifest: bytes,
    folder: Path,
    url: str,
    tags: Sequence[str] = (),
    signatures: Sequence[Mapping[str, Any]] = (),
    *,
    whole: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Publish a package; what was done, as plain values.

    Args:
        spec: its name and version; the version's tag is not moved once it is there.
        manifest: the exact bytes of its manifest.yaml.
        folder: has the files that this lists.
        url: see `place_for`; a tag behind a repository is one of `tags`.
        tags: what it is called beside, which may move.
        signatures: of `manifest`.

    Raises:
        AlreadyExists: the version is there with another content.
        MlosError: the registry does not take it.
    """
    place = place_for(spec, url, config.load(), whole=whole)
    signed = [dict(signature) for signature in signatures]
    named = urlsplit(url).path.partition(":")[2]
    tags = list(dict.fromkeys([*tags, *([named] if whole and named else [])]))
    all_tags = list(dict.fromkeys([tag_of(spec.version), *tags]))
    if dry_run:
        done = _dry(manifest, place, all_tags[0], signed)
    else:
        done = push(manifest, folder, place, all_tags, signatures=signed, progress=progress)
    files = manifests.decode(manifest).spec.format.files
    return {
        "package": str(spec),
        "registry": str(place),
        "digest": done.digest,
        "files": len(files),
        "size": sum(file.size for file in files),
        "new": done.new,
        "sent": done.sent,
        "mounted": done.mounted,
        "signed": bool(signed),
        "tags": list(tags),
        "dry_run": dry_run,
    }


def _dry(manifest: bytes, place: Place, tag: str, signatures: list[dict[str, Any]]) -> Pushed:
    digest = layout.pack(manifest, signatures).digest
    with Repository(place) as repository:
        there = digest_at(repository, tag)
    if there and there != digest:
        raise AlreadyExists(
            f"{place}:{tag} is there with another content ({there})",
            hint="choose another version",
        )
    return Pushed(digest, not there)
