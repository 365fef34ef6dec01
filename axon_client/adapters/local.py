# SPDX-License-Identifier: BUSL-1.1
"""Packages from this machine: `axon install ./dir`, `./model.onnx` or `./model.axon`.

A folder may hold a `manifest.yaml` or `axon.yaml`, complete or with identity only. Without
one the package is called `local/<folder>@0.0.0` and holds every file that is not hidden. An
archive is the same as the folder that it was made from. The bytes are read once: they are
hashed while they are copied, or share their blocks where the file system can do that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from axon_client import manifest as manifests
from axon_client import safety
from axon_client.adapters import local_archive
from axon_client.adapters.base import Resolved
from axon_client.adapters.local_archive import LEFT_OUT, MANIFESTS
from axon_client.describe import complete
from axon_client.formats import format_of
from axon_client.introspect import read_onnx
from axon_client.manifest import Manifest, Metadata
from axon_client.manifest import Spec as Technical
from axon_client.progress import Progress
from axon_client.spec import PathSpec, Spec, slug
from axon_client.store import Stage
from mlos_core.errors import InvalidInput, NotFound

VERSION = "0.0.0"


class LocalAdapter:
    """Folders, single files and archives."""

    def resolve(self, spec: Spec) -> Resolved:
        """A path is known by what its files say, so nothing is resolved ahead."""
        path = _path(spec)
        if not path.exists():
            raise NotFound(f"there is no {path}", hint="give the path of a folder or a model file")
        return Resolved(None)

    def fetch(self, spec: Spec, found: Resolved, stage: Stage, progress: Progress) -> Manifest:
        """Take the files in and describe them."""
        path = _path(spec).resolve()
        if path.is_file() and local_archive.is_archive(path.name):
            manifest = local_archive.take(path, stage, progress) or _unnamed(
                local_archive.stem(path.name)
            )
        else:
            manifest = _manifest(path)
            listed = [file.path for file in manifest.spec.format.files]
            folder = path if path.is_dir() else path.parent
            names = listed or list(_walk(path) if path.is_dir() else _with_weights(path))
            _adopt(folder, names, stage, progress)
        return complete(
            manifest, stage.files, progress, stage.known, allow_pickle=stage.allow_pickle
        )


def _path(spec: Spec) -> Path:
    if not isinstance(spec, PathSpec):
        raise InvalidInput(f"{spec} is not a path", hint="a path starts with ./ or /")
    return spec.path


def _manifest(path: Path) -> Manifest:
    there = [path / name for name in MANIFESTS if path.is_dir() and (path / name).is_file()]
    if len(there) > 1:
        raise InvalidInput(f"{path} has both {' and '.join(MANIFESTS)}", hint="keep one of them")
    return (
        manifests.load(there[0]) if there else _unnamed(path.name if path.is_dir() else path.stem)
    )


def _unnamed(title: str) -> Manifest:
    """The manifest of what says nothing of itself."""
    return manifests.new(
        Metadata(name=slug(title), namespace="local", version=VERSION), Technical()
    )


def _walk(root: Path) -> Iterator[str]:
    """Files below `root`; hidden ones are left out. Links to files are followed."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in LEFT_OUT)
        for folder in folders:
            if Path(parent, folder).is_symlink():
                raise InvalidInput(
                    f"{Path(parent, folder)} is a link to a folder", hint="copy the folder instead"
                )
        for name in sorted(names):
            path = Path(parent, name).relative_to(root).as_posix()
            if local_archive.is_part(path):
                yield path


def _with_weights(path: Path) -> Iterator[str]:
    """A single model file, and the files that an ONNX model keeps its weights in."""
    if not format_of(path.name) and not safety.why_unsafe(path):
        raise InvalidInput(f"{path.name} is not a model file", hint="install its folder instead")
    yield path.name
    if format_of(path.name) == "onnx":
        yield from read_onnx(path).external


def _adopt(folder: Path, names: list[str], stage: Stage, progress: Progress) -> None:
    done, total = 0, sum((folder / name).stat().st_size for name in names if _regular(folder, name))

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("copy", done, total)

    for name in names:
        stage.adopt(name, folder / name, advance=advance)


def _regular(folder: Path, name: str) -> bool:
    problem = manifests.path_problem(name)
    if problem:
        raise InvalidInput(f"{name!r} {problem}", hint="rename the file")
    if not (folder / name).is_file():
        raise InvalidInput(f"{folder / name} is missing or not a regular file")
    return True
