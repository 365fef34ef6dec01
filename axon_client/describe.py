# SPDX-License-Identifier: BUSL-1.1
"""Writing a manifest's technical part from the files themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client import manifest as manifests
from axon_client.errors import IntegrityError
from axon_client.formats import FRAMEWORKS, PREFERENCE, SUFFIXES, choose_main, format_of, is_pickle
from axon_client.hashing import hash_file
from axon_client.introspect import read_onnx
from axon_client.manifest import IO, ExecutionFile, Format, Framework, Manifest, ModelFile, Spec
from axon_client.models import MAIN
from axon_client.progress import Progress, silent
from mlos_core.errors import InvalidInput

_MOST_CONFIG: Final = 1 << 20


def complete(manifest: Manifest, folder: Path, progress: Progress = silent) -> Manifest:
    """Check what `manifest` says of the files in `folder` and fill in what it leaves out.

    Raises:
        InvalidInput: there is no model among the files, or a listed file is missing.
        IntegrityError: a file is not the one the manifest lists.
    """
    said = manifest.spec
    files = list_files(folder, progress)
    if said.format.files:
        _check_listed(said.format.files, files, manifest.title)
        files = said.format.files
    models = said.format.execution_files or find_models(manifest.metadata.name, folder, files)
    if not models:
        raise InvalidInput(
            f"{manifest.title} holds no model", hint="known suffixes: " + ", ".join(SUFFIXES)
        )
    chief = _chief(models)
    spec = Spec(
        framework=said.framework if said.framework.name else _framework(chief, folder),
        format=Format(
            type=said.format.type or chief.format,
            execution_format=said.format.execution_format or chief.format,
            multi_encoder=said.format.multi_encoder,
            files=files,
            execution_files=models,
        ),
        io=said.io if said.io.inputs or said.io.outputs else _io(chief, folder),
        requirements=said.requirements,
        performance=said.performance,
        dependencies=said.dependencies,
    )
    return manifests.new(manifest.metadata, spec, manifest.distribution)


def list_files(folder: Path, progress: Progress = silent) -> list[ModelFile]:
    """Every file below `folder` with size and digest, sorted by path."""
    paths = sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    done, total = 0, sum(path.stat().st_size for path in paths)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("hash", done, total)

    return [
        ModelFile(p.relative_to(folder).as_posix(), p.stat().st_size, hash_file(p, advance))
        for p in paths
    ]


def find_models(package: str, folder: Path, files: Sequence[ModelFile]) -> list[ExecutionFile]:
    """The model files, the main one first and marked as such.

    Raises:
        LoadFailed: a file called `.onnx` is not an ONNX model.
    """
    models = [ExecutionFile(f.path, format_of(f.path)) for f in files if format_of(f.path)]
    models = [m for m in models if m.format != "torchscript" or not is_pickle(folder / m.path)]
    for model in models:
        if model.format == "onnx":
            check_external(folder, model.path)
    main = choose_main(package, models)
    marked = [msgspec.structs.replace(m, type=MAIN) if m.path == main else m for m in models]
    return sorted(marked, key=lambda m: (m.type != MAIN, m.path))


def check_external(folder: Path, model: str) -> None:
    """Make sure that an ONNX file's external weights lie in the package.

    Raises:
        IntegrityError: a location leads out of the package.
        InvalidInput: a file is missing.
    """
    path = folder / model
    for location in read_onnx(path).external:
        problem = manifests.path_problem(location)
        if problem:
            raise IntegrityError(f"{model}: the location of its weights, {location!r}, {problem}")
        if not (path.parent / location).is_file():
            raise InvalidInput(
                f"{model} keeps weights in {location}, which is missing",
                hint="install the folder that holds both",
            )


def _chief(models: Sequence[ExecutionFile]) -> ExecutionFile:
    """The model that names the package's format: the main one, or the preferred format."""
    order = {format: rank for rank, format in enumerate(PREFERENCE)}
    return min(models, key=lambda m: (m.type != MAIN, order.get(m.format, len(order))))


def _framework(chief: ExecutionFile, folder: Path) -> Framework:
    """By format; safetensors beside a `config.json` with a model type are transformers'."""
    if chief.format == "safetensors":
        beside = (folder / chief.path).with_name("config.json")
        config = _object(beside) if beside.is_file() else {}
        if isinstance(config.get("model_type"), str):
            version = config.get("transformers_version")
            return Framework("transformers", version if isinstance(version, str) else "")
    return Framework(FRAMEWORKS.get(chief.format, chief.format))


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file holds anything else."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_CONFIG), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _io(chief: ExecutionFile, folder: Path) -> IO:
    if chief.type != MAIN or chief.format != "onnx":
        return IO()
    return read_onnx(folder / chief.path).io


def _check_listed(listed: Sequence[ModelFile], found: Sequence[ModelFile], title: str) -> None:
    there = {file.path: file for file in found}
    for file in listed:
        real = there.get(file.path)
        if real is None:
            raise InvalidInput(f"{title}: {file.path} is in the manifest but not in the package")
        if (real.size, real.sha256) != (file.size, file.sha256):
            raise IntegrityError(
                f"{title}: {file.path} has {real.size} bytes and sha256 {real.sha256}, "
                f"the manifest says {file.size} and {file.sha256}",
                hint="fetch it again; if you changed it yourself, correct the manifest",
            )
