# SPDX-License-Identifier: BUSL-1.1
"""Publishing a package: check, send what is missing, and then the manifest.

The manifest comes last, so a version appears with all its files or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from axon_client import config
from axon_client.adapters import registry_of
from axon_client.prepare import Package, prepared
from axon_client.progress import Progress, silent
from axon_client.remote import Remote
from axon_client.store import Store
from axon_client.uploads import Sent, send
from mlos_core.errors import AlreadyExists, ConfigError, NotFound, Unsupported

__all__ = ["Package", "Published", "prepared", "publish", "registry_for"]


class Published(msgspec.Struct, frozen=True):
    """What publishing did. `new` is False if the same version was there."""

    package: str
    registry: str
    manifest_sha256: str
    files: int
    size: int
    new: bool
    sent: Sent
    signed: bool
    tags: tuple[str, ...] = ()
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


def publish(
    package: Package,
    remote: Remote,
    store: Store,
    tags: Sequence[str] = (),
    signatures: Sequence[dict[str, Any]] = (),
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Published:
    """Publish a package to an axon registry.

    Args:
        package: what `prepared` gave.
        remote: where it goes.
        store: whose folder keeps uploads that were cut.
        tags: names that the version gets.
        signatures: of the manifest, as `trust.sign` makes them.
        dry_run: check everything and send nothing.
        progress: told how far each file is.

    Raises:
        AlreadyExists: the version is there with other content.
        PermissionDenied: the token may not publish there.
        IntegrityError: a file is not the one that the manifest lists.
    """
    new = _is_new(package, remote)
    sent = Sent()
    if new and dry_run:
        sent = _lacking(package, remote)
    elif new:
        parallel = config.load(store.home).parallel
        sent = send(remote, package.files, store.home, progress, parallel)
    if not dry_run:
        text = package.data.decode()
        body = {"manifest": text, "signatures": list(signatures), "tags": list(tags)}
        new = remote.put_version(package.spec, body)
    return Published(
        str(package.spec),
        remote.url,
        package.sha256,
        len(package.listed),
        package.size,
        new,
        sent,
        bool(signatures),
        tuple(tags),
        dry_run,
    )


def _is_new(package: Package, remote: Remote) -> bool:
    """Whether the registry lacks the version. Asked first: files may be many gigabytes."""
    try:
        index = remote.package(package.spec)
    except NotFound:
        return True
    for release in index.versions:
        if release.version == package.spec.version:
            if release.manifest_sha256 != package.sha256:
                raise AlreadyExists(
                    f"{package.spec} is published with other content in {remote.url}",
                    hint="published versions never change: choose another version",
                )
            return False
    return True


def _lacking(package: Package, remote: Remote) -> Sent:
    lacking = {f.sha256: f.size for f in package.listed if not remote.has_blob(f.sha256)}
    return Sent(len(lacking), sum(lacking.values()))


def registry_for(name: str | None, namespace: str) -> tuple[str, config.Kind]:
    """URL and kind of the registry that is named, by name or URL, or serves a namespace.

    Raises:
        NotFound: there is none.
        ConfigError: none is configured for the namespace.
    """
    settings = config.load()
    if name and "://" in name:
        kind: config.Kind = "oci" if name.startswith("oci:") else "axon"
        known = [entry for entry in settings.registries.values() if entry.url == name]
        return _publishable(name, known[0].kind if known else kind)
    chosen = name or registry_of(namespace, settings)
    if not chosen:
        raise ConfigError(
            f"no registry is configured for {namespace}/",
            hint="axon registry set NAME URL, or name one with --registry",
        )
    if chosen not in settings.registries:
        hint = config.suggest(chosen, settings.registries) or f"axon registry add {chosen} URL"
        raise NotFound(f"there is no registry {chosen!r}", hint=hint)
    return _publishable(settings.registries[chosen].url, settings.registries[chosen].kind)


def _publishable(url: str, kind: config.Kind) -> tuple[str, config.Kind]:
    if kind == "hf":
        raise Unsupported(
            f"axon publishes to axon and OCI registries, and {url} is a hub of kind hf",
            hint="upload there with the hub's own tool: hf upload",
        )
    return url, kind
