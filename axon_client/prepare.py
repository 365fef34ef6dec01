# SPDX-License-Identifier: BUSL-1.1
"""A package as it is to be published: its name, its manifest's bytes, its files.

What axon knows of the machine it was installed on, such as the address of an archive, is left
out, so that the same package is the same bytes wherever it is published from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from axon_client import config
from axon_client import manifest as manifests
from axon_client.catalog import find_newest
from axon_client.manifest import Distribution, Manifest, ModelFile
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec, PathSpec, Spec
from axon_client.store import Store
from mlos_core.errors import InvalidInput


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
    model = find_newest(str(what), store.installed())
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
