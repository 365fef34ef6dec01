# SPDX-License-Identifier: BUSL-1.1
"""All that `axon info` says of a package, as plain values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from axon_client import manifest as manifests
from axon_client import requirements
from axon_client.adapters.base import Resolved
from axon_client.describe import WARNINGS, facts, weights_of
from axon_client.fit import fit
from axon_client.formats import SUFFIXES, choose_main, format_of
from axon_client.introspect import Header, read
from axon_client.inventory import find_models
from axon_client.licences import find_licence
from axon_client.machine import Machine
from axon_client.manifest import (
    ExecutionFile,
    Facts,
    Manifest,
    ModelFile,
    Requirements,
    as_dict,
)
from axon_client.models import MAIN, InstalledModel, execution_files
from axon_client.plugins import Loader, loader_of
from axon_client.safety import unsafe_files
from mlos_core.errors import InvalidInput, MlosError, NotFound


class Read(msgspec.Struct, frozen=True):
    """One model of a package: what its file says, or why that cannot be told."""

    file: ExecutionFile
    header: Header = Header()
    error: str = ""

    @property
    def loader(self) -> Loader | None:
        """The plugin that would load it."""
        return loader_of(self.file.format, self.header.architecture)


def read_models(folder: Path, models: Sequence[ExecutionFile]) -> list[Read]:
    """Read the headers of a package's models."""
    return [_read(folder, model) for model in models]


def _read(folder: Path, model: ExecutionFile) -> Read:
    try:
        return Read(model, read(folder / model.path, model.format))
    except (MlosError, OSError) as error:
        return Read(model, Header(), str(error))


def about_installed(model: InstalledModel, machine: Machine) -> dict[str, Any]:
    """A package of the store."""
    manifest = model.manifest
    found = read_models(model.path, model.models)
    loaded = [one for one in found if one.file.type == MAIN] or found
    weights = [weights_of(one.file, one.header, model.path) for one in loaded]
    reckoned = requirements.estimate(weights, model.size)
    needs = requirements.fill(manifest.spec.requirements, reckoned)
    main = loaded[0].header if len(loaded) == 1 else Header()
    return {
        "installed": True,
        "path": str(model.path),
        "size": model.size,
        **_told(manifest, main),
        "models": [_model(one, manifest) for one in found],
        **_fits(needs, reckoned, machine, loaded, installed=True),
        "manifest": manifest.as_dict(),
    }


def about_path(path: Path, machine: Machine) -> dict[str, Any]:
    """A model file or a folder of this machine, as it lies there.

    Raises:
        NotFound: there is no such file or folder.
        InvalidInput: it holds no model.
    """
    if not path.exists():
        raise NotFound(f"there is no {path}", hint="give the path of a folder or a model file")
    folder = path if path.is_dir() else path.parent
    names = [path.name] if path.is_file() else sorted(_below(folder))
    sizes = {name: (folder / name).stat().st_size for name in names}
    files = [ModelFile(name, size, "") for name, size in sizes.items()]
    models = find_models(folder.name if path.is_dir() else path.stem, folder, files)
    if not models:
        raise InvalidInput(f"{path} holds no model", hint="known: " + ", ".join(SUFFIXES))
    found = read_models(folder, models)
    loaded = [one for one in found if one.file.type == MAIN] or found
    weights = [weights_of(one.file, one.header, folder) for one in loaded]
    reckoned = requirements.estimate(weights, sum(sizes.values()))
    main = loaded[0].header if len(loaded) == 1 else Header()
    unsafe = unsafe_files(folder, names)
    return {
        "package": str(path),
        "installed": False,
        "path": str(path),
        "size": sum(sizes.values()),
        "license": main.license or find_licence(folder, names),
        "pickled": bool(unsafe),
        **as_dict(facts(Facts(), main)),
        "files": [{"path": name, "size": size} for name, size in sizes.items()],
        "models": [_model(one, None) for one in found],
        "warnings": [f"{name} is {reason}" for name, reason in unsafe.items()],
        **_fits(requirements.fill(Requirements(), reckoned), reckoned, machine, loaded),
    }


def _below(folder: Path) -> Iterator[str]:
    """Files below a folder, hidden ones left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(parent, name).is_file():
                yield Path(parent, name).relative_to(folder).as_posix()


def about_remote(spec: str, found: Resolved, machine: Machine) -> dict[str, Any]:
    """A package that is not installed, as far as its source tells without fetching it."""
    sizes = [file.size for file in found.files]
    size = sum(sizes) if sizes and min(sizes) >= 0 else -1
    package = found.package
    about: dict[str, Any] = {
        "package": str(package) if package else spec,
        "installed": False,
        "size": size,
        "source": found.url,
        "revision": found.revision,
        "yanked": found.yanked,
        "files": [{"path": file.path, "size": file.size} for file in found.files],
        "dependencies": {"models": list(found.dependencies)},
        "warnings": list(found.notes),
    }
    if not found.manifest:
        return about | _offered(found, machine)
    manifest = manifests.decode(found.manifest, source=f"the manifest of {about['package']}")
    size = sum(file.size for file in manifest.spec.format.files)
    models = [Read(file) for file in execution_files(manifest)]
    loaded = [one for one in models if one.file.type == MAIN] or models
    return {
        **about,
        **_told(manifest, Header()),
        "size": size,
        "yanked": found.yanked,
        "models": [_model(one, manifest) for one in models],
        **_fits(_stated(manifest, size), None, machine, loaded),
        "manifest": manifest.as_dict(),
    }


def _offered(found: Resolved, machine: Machine) -> dict[str, Any]:
    """What the names and sizes of a source's files tell: models, and what they need about."""
    sizes = {file.path: file.size for file in found.files}
    named = [ExecutionFile(path, format_of(path)) for path in sizes if format_of(path)]
    if found.package is None or not named or min(sizes.values()) < 0:
        return {}
    main = choose_main(found.package.name, named)
    models = [Read(msgspec.structs.replace(m, type=MAIN) if m.path == main else m) for m in named]
    loaded = [one for one in models if one.file.type == MAIN] or models
    weights = [
        requirements.Weights(one.file.format, Header(), sum(sizes[p] for p in _parts(one, sizes)))
        for one in loaded
    ]
    reckoned = requirements.estimate(weights, sum(sizes.values()))
    return {
        "models": [_model(one, None) for one in models],
        **_fits(requirements.fill(Requirements(), reckoned), reckoned, machine, loaded),
    }


def _parts(one: Read, paths: Iterable[str]) -> list[str]:
    """The files of a model in shards: all that are called like the first but for its number."""
    begin, shard, end = one.file.path.partition("-00001-of-")
    if not shard:
        return [one.file.path]
    return [path for path in paths if path.startswith(f"{begin}-") and path.endswith(end)]


def _stated(manifest: Manifest, size: int) -> Requirements:
    """The requirements of a manifest, which at least lists its files."""
    said = manifest.spec.requirements
    if said.storage.min_gb:
        return said
    space = manifests.Space(requirements.in_gb(size), requirements.in_gb(size))
    return msgspec.structs.replace(said, storage=space)


def _told(manifest: Manifest, main: Header) -> dict[str, Any]:
    """What the manifest says, and where it says nothing the header of its only model."""
    about, spec = manifest.metadata, manifest.spec
    return {
        "package": manifest.title,
        "description": about.description,
        "license": about.license or main.license,
        "license_files": list(about.license_files),
        "homepage": about.homepage,
        "authors": [as_dict(author) for author in about.authors],
        "tags": list(about.tags),
        "source": manifest.distribution.package.url,
        "framework": as_dict(spec.framework),
        "format": spec.format.execution_format,
        "pickled": spec.format.pickled,
        **as_dict(facts(spec.model, main)),
        "dependencies": as_dict(spec.dependencies),
        "warnings": about.annotations.get(WARNINGS, "").splitlines(),
    }


def _model(one: Read, manifest: Manifest | None) -> dict[str, Any]:
    """One of the models. What the manifest says of the main one wins."""
    said = manifest.spec.io if manifest and one.file.type == MAIN else manifests.IO()
    io = said if said.inputs or said.outputs else one.header.io
    header: dict[str, Any] = msgspec.to_builtins(one.header)
    about = {
        "path": one.file.path,
        "format": one.file.format,
        "type": one.file.type,
        **header,
        "inputs": [as_dict(spec) for spec in io.inputs],
        "outputs": [as_dict(spec) for spec in io.outputs],
        "plugin": msgspec.to_builtins(one.loader),
    }
    about.pop("io", None)
    return about | ({"error": one.error} if one.error else {})


def _fits(
    needs: Requirements,
    reckoned: requirements.Estimate | None,
    machine: Machine,
    loaded: Sequence[Read],
    *,
    installed: bool = False,
) -> dict[str, Any]:
    by_name = {one.loader.name: one.loader for one in loaded if one.loader}
    behind = reckoned if needs.estimated else None
    answer = fit(needs, behind, machine, tuple(by_name.values()), installed=installed)
    return {
        "requirements": as_dict(needs),
        "estimate": msgspec.to_builtins(reckoned),
        "machine": msgspec.to_builtins(machine),
        "runs_here": msgspec.to_builtins(answer),
    }
