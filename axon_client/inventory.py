# SPDX-License-Identifier: BUSL-1.1
"""The files of a package: which there are, which of them are models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client import safety
from axon_client.errors import IntegrityError
from axon_client.formats import PICKLE, choose_main, format_of, kind_of_torch
from axon_client.hashing import hash_file
from axon_client.introspect import read_onnx
from axon_client.introspect.mapped import LFS, head_of
from axon_client.manifest import ExecutionFile, ModelFile
from axon_client.models import MAIN
from axon_client.progress import Progress, silent
from mlos_core.errors import InvalidInput

_LARGEST_POINTER: Final = 1024


def list_files(
    folder: Path, progress: Progress = silent, known: Mapping[str, ModelFile] | None = None
) -> list[ModelFile]:
    """Every file below `folder` with size and digest, sorted by path.

    Raises:
        InvalidInput: one only points to a file that was not fetched.
    """
    found = sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    there = {path.relative_to(folder).as_posix(): path for path in found}
    known = known or {}
    done, total = 0, sum(p.stat().st_size for name, p in there.items() if name not in known)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("hash", done, total)

    for name, path in there.items():
        _refuse_pointer(name, path)
    return [
        known.get(name) or ModelFile(name, path.stat().st_size, hash_file(path, advance))
        for name, path in there.items()
    ]


def _refuse_pointer(name: str, path: Path) -> None:
    small = path.stat().st_size <= _LARGEST_POINTER
    if small and format_of(name) and head_of(path).startswith(LFS):
        raise InvalidInput(
            f"{name} is a Git LFS pointer, not the model",
            hint="fetch the file itself with 'git lfs pull'",
        )


def check_listed(listed: Sequence[ModelFile], found: Sequence[ModelFile], title: str) -> None:
    """Compare the files there are with those that a manifest lists.

    Raises:
        InvalidInput: one is missing.
        IntegrityError: one is another.
    """
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


def find_models(package: str, folder: Path, files: Sequence[ModelFile]) -> list[ExecutionFile]:
    """The model files, the main one first and marked as such.

    Raises:
        LoadFailed: a file called `.onnx` is not an ONNX model.
    """
    formats = {file.path: _format(folder, file.path) for file in files}
    models = [ExecutionFile(path, format) for path, format in formats.items() if format]
    for model in models:
        if model.format == "onnx":
            check_external(folder, model.path, read_onnx(folder / model.path).external)
    main = choose_main(package, models)
    marked = [msgspec.structs.replace(m, type=MAIN) if m.path == main else m for m in models]
    return sorted(marked, key=lambda m: (m.type != MAIN, m.path))


def _format(folder: Path, path: str) -> str:
    """By name, and for PyTorch's files by content: a `.pt` may be one of three things."""
    format = format_of(path)
    if format == "torchscript":
        return kind_of_torch(folder / path)
    if format:
        return format
    checkpoint = PurePosixPath(path).suffix.lower() in (".bin", ".ckpt")
    return PICKLE if checkpoint and safety.why_unsafe(folder / path) else ""


def check_external(folder: Path, model: str, locations: Sequence[str]) -> None:
    """Make sure that an ONNX file's external weights lie in the package.

    Raises:
        IntegrityError: a location leads out of the package.
        InvalidInput: a file is missing.
    """
    for location in locations:
        problem = manifests.path_problem(location)
        if problem:
            raise IntegrityError(f"{model}: the location of its weights, {location!r}, {problem}")
        if not ((folder / model).parent / location).is_file():
            raise InvalidInput(
                f"{model} keeps weights in {location}, which is missing",
                hint="install the folder that holds both",
            )
