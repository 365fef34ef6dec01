# SPDX-License-Identifier: BUSL-1.1
"""Which file of a package is the model, and what kind of file it is.

The kind is told by the content: `.pt` may be TorchScript, an exported program, or a pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from mlos_core.errors import LoadFailed

SUFFIXES: Final = (".pt2", ".pt", ".jit", ".pth", ".ts", ".torchscript")
_LISTED: Final = (*SUFFIXES, ".safetensors")
_ZIP: Final = b"PK\x03\x04"

Kind = Literal["torchscript", "exported", "compiled", "safetensors", "pickle"]


def model_file(path: Path, wanted: str | None) -> Path:
    """The model file at `path`, or in the folder `path`.

    Raises:
        LoadFailed: there is none, or several and none was named.
    """
    if not path.is_dir():
        if not path.is_file():
            raise LoadFailed(f"{path} does not exist")
        return path
    found = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix in _LISTED and file.is_file()  # a pipe would hang
    )
    names = ", ".join(found) or "no file of PyTorch's"
    if wanted is not None:
        return inside(path, wanted, hint=f"it holds {names}")
    if len(found) != 1:
        raise LoadFailed(
            f"{path} holds {len(found)} files that may be the model, not one",
            hint=f"choose with the option file: {names}" if found else "is it the right folder?",
        )
    return path / found[0]


def inside(folder: Path, name: str, *, hint: str = "") -> Path:
    """The file called `name` in `folder`, or below.

    Raises:
        LoadFailed: there is none, or it lies elsewhere, links included.
    """
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        raise LoadFailed(f"{folder} has no file {name!r}", hint=hint)
    return folder / name


def kind_of(file: Path) -> Kind:
    """What `file` is, by its content.

    Raises:
        LoadFailed: nothing that PyTorch writes, or it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(16)
        if head.startswith(_ZIP):
            with zipfile.ZipFile(file) as archive:
                kind = kind_of_archive(archive.namelist())
        else:
            kind = kind_of_start(head)
    except (OSError, zipfile.BadZipFile) as err:
        raise LoadFailed(f"{file} cannot be read: {err}") from err
    if kind is None:
        raise LoadFailed(
            f"{file.name} is no TorchScript, no exported program and no safetensors file",
            hint="write one with torch.jit.save, torch.export.save or safetensors",
        )
    return kind


def kind_of_archive(names: Iterable[str]) -> Kind | None:
    """The kind of a zip file with these members, which lie in a folder named anyhow."""
    members = set(names)
    inner = {name.partition("/")[2] for name in members} | members
    if "serialized_exported_program.json" in inner or any(_is_program(n) for n in inner):
        return "exported"
    if "archive_format" in inner:
        return "compiled"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    return "pickle" if "data.pkl" in inner else None


def _is_program(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parent == PurePosixPath("models") and path.suffix == ".json"


def kind_of_start(head: bytes) -> Kind | None:
    """The kind of a file that is no zip file and begins with these bytes (at least 9)."""
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    # Pickle of protocol 2 or newer, as torch.save wrote it before 1.6.
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    return None
