# SPDX-License-Identifier: BUSL-1.1
"""Comparing an installed model with its manifest, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from axon_client import manifest as manifests
from axon_client.hashing import hash_file
from axon_client.manifest import ModelFile
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.seals import is_intact
from mlos_core.errors import InvalidInput

Kind = Literal["missing", "damaged", "extra", "manifest", "signature"]

SIGNATURES = "signatures.json"
"""What may lie beside a manifest: see `axon_client.trust.kept`."""
_MOST_KEPT = 3 * manifests.MAX_BYTES
_BESIDE = {manifests.FILE_NAME, SIGNATURES}


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as the manifest says. `path` is relative to the model."""

    path: str
    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


def verify(model: InstalledModel, blobs: Path, progress: Progress = silent) -> list[Problem]:
    """Hash every file of `model` again.

    Returns:
        Every damaged, missing or additional file; an empty list if all is well.
    """
    try:
        files = model.manifest.spec.format.files
    except InvalidInput as error:
        return [Problem(manifests.FILE_NAME, "manifest", error.message)]
    problems = [p for p in _check_files(model, files, progress) if p]
    problems += _check_blobs(model, blobs, files)
    problems += _check_signatures(model, {file.path for file in files})
    problems += [
        Problem(path, "extra", "not in the manifest")
        for path in sorted(_present(model.path) - {f.path for f in files} - _BESIDE)
    ]
    return problems


def _check_signatures(model: InstalledModel, listed: set[str]) -> Iterator[Problem]:
    """Signatures that are kept beside the manifest must be those of these files.

    Whose they are was asked at installation, and may have been changed by the user since.
    """
    path = model.path / SIGNATURES
    if SIGNATURES in listed or not path.is_file():
        return
    from axon_client.trust import check_kept  # most models have none, and keys take a while

    with path.open("rb") as file:
        verdict = check_kept(file.read(_MOST_KEPT), model.manifest, "require")
    if verdict.state == "altered":
        yield Problem(SIGNATURES, "signature", verdict.message)


def is_as_listed(model: InstalledModel, blobs: Path) -> bool:
    """Whether a model's files are the blobs that its manifest lists, unchanged since then.

    Reads only a file whose seal is broken.
    """
    files = model.manifest.spec.format.files
    listed = {file.path for file in files}
    if not listed <= _present(model.path) <= listed | _BESIDE:
        return False
    return all(_is_blob(model.path / file.path, blobs / file.sha256) for file in files)


def _is_blob(path: Path, blob: Path) -> bool:
    return blob.exists() and path.exists() and path.samefile(blob) and is_intact(blob, blob.name)


def _check_files(
    model: InstalledModel, files: list[ModelFile], progress: Progress
) -> Iterator[Problem | None]:
    done, total = 0, sum(file.size for file in files)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("verify", done, total)

    for file in files:
        path = model.path / file.path
        try:
            digest = hash_file(path, advance)
        except FileNotFoundError:
            yield Problem(file.path, "missing", "the file is gone")
        except (OSError, InvalidInput) as error:
            yield Problem(file.path, "damaged", str(error))
        else:
            yield _compare(file, digest, path.stat().st_size)


def _compare(file: ModelFile, digest: str, size: int) -> Problem | None:
    if size != file.size:
        return Problem(file.path, "damaged", f"has {size} bytes, not {file.size}")
    if digest != file.sha256:
        return Problem(file.path, "damaged", f"has sha256 {digest}, not {file.sha256}")
    return None


def _check_blobs(model: InstalledModel, blobs: Path, files: list[ModelFile]) -> Iterator[Problem]:
    """Blobs that are not the linked file itself: gone, or replaced behind the link."""
    for digest in sorted({file.sha256 for file in files}):
        blob = blobs / digest
        linked = [model.path / file.path for file in files if file.sha256 == digest]
        name = f"blobs/sha256/{digest}"
        if not blob.is_file():
            yield Problem(name, "missing", "the blob is gone")
        elif not all(path.exists() and path.samefile(blob) for path in linked):
            found = hash_file(blob)
            if found != digest:
                yield Problem(name, "damaged", f"has sha256 {found}")


def _present(folder: Path) -> set[str]:
    return {
        Path(parent, name).relative_to(folder).as_posix()
        for parent, folders, names in os.walk(folder)
        for name in (*names, *(f for f in folders if Path(parent, f).is_symlink()))
    }
