# SPDX-License-Identifier: BUSL-1.1
"""Publishing a package: describe, check, send what is missing, and then the manifest.

The manifest comes last, so a version appears with all its files or not at all. What axon
knows of the machine it was installed on, such as the address of an archive, is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from axon_client import config
from axon_client import manifest as manifests
from axon_client.adapters import registry_of
from axon_client.catalog import find
from axon_client.manifest import Distribution, Manifest, ModelFile
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.remote import Remote
from axon_client.spec import PackageSpec, PathSpec, Spec
from axon_client.store import Store
from axon_client.uploads import Sent, send
from mlos_core.errors import (
    AlreadyExists,
    ConfigError,
    InvalidInput,
    NotFound,
    Unsupported,
)


class Package(msgspec.Struct, frozen=True):
    """What is to be published.

    Attributes:
        spec: the name that it gets.
        data: the manifest's exact bytes.
        folder: where the files lie.
        signatures: of `data`, that it has already.
    """

    spec: PackageSpec
    data: bytes
    folder: Path
    listed: tuple[ModelFile, ...]
    signatures: tuple[dict[str, Any], ...] = ()

    @property
    def files(self) -> dict[Path, ModelFile]:
        """The manifest's files, by where they lie on this machine."""
        return {self.folder / file.path: file for file in self.listed}

    @property
    def sha256(self) -> str:
        """The manifest's digest, which pins everything."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.listed)


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


@contextmanager
def prepared(
    what: str | Spec,
    store: Store,
    *,
    rename: PackageSpec | None = None,
    allow_pickle: bool = False,
    progress: Progress = silent,
) -> Iterator[Package]:
    """An installed package, or a folder or file, ready to be published; until the block ends.

    Raises:
        NotFound: it is not installed.
        InvalidInput: it holds pickles and nobody allowed them, or its name cannot be published.
    """
    if isinstance(what, PathSpec):
        from axon_client.adapters import adapter_for

        source = adapter_for(what, store.home)
        with store.stage(allow_pickle=allow_pickle) as stage:
            manifest = source.fetch(what, source.resolve(what), stage, progress)
            yield _package(manifest, stage.files, rename, allow_pickle)
        return
    model = find(str(what), store.installed())
    package = _package(model.manifest, model.path, rename, allow_pickle)
    yield _as_it_came(package, model)


def _package(
    manifest: Manifest, folder: Path, rename: PackageSpec | None, allow_pickle: bool
) -> Package:
    if manifest.spec.format.pickled and not allow_pickle:
        raise InvalidInput(
            f"{manifest.title} holds pickles, which run code when they are opened",
            hint="convert it to safetensors or ONNX, or publish it with --allow-pickle",
        )
    about = manifest.metadata
    if rename:
        about = msgspec.structs.replace(
            about,
            namespace=rename.namespace or about.namespace,
            name=rename.name,
            version=rename.version or about.version,
        )
    if about.namespace in config.RESERVED:
        raise InvalidInput(
            f"{about.namespace}/ has a source of its own: nobody would look for it in a registry",
            hint=f"give it a namespace of yours: --as NAMESPACE/{about.name}@{about.version}",
        )
    made = manifests.new(about, manifest.spec, Distribution())
    spec = PackageSpec(about.namespace, about.name, about.version)
    return Package(spec, manifests.encode(made), folder, tuple(made.spec.format.files))


def _as_it_came(package: Package, model: InstalledModel) -> Package:
    """With the bytes and signatures that it was published with, if it is still that package."""
    from axon_client import trust

    try:
        kept = msgspec.json.decode((model.path / trust.FILE_NAME).read_bytes(), type=dict[str, Any])
        data = msgspec.convert(kept["manifest"], bytes)
        manifest = manifests.decode(data)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError, InvalidInput):
        return package
    listed = manifest.spec.format.files
    if manifest.title != str(package.spec) or tuple(listed) != package.listed:
        return package
    return msgspec.structs.replace(package, data=data, signatures=tuple(kept["signatures"]))


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
