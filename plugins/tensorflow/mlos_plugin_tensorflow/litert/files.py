# SPDX-License-Identifier: BUSL-1.1
"""Which file of a package is the model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlos_core.errors import LoadFailed

FORMATS: Final = (".tflite",)


def model_file(path: Path, wanted: str | None) -> Path:
    """The `.tflite` file at `path`, or in the folder `path`.

    Raises:
        LoadFailed: there is none, or several and none was named.
    """
    if not path.is_dir():
        if not path.is_file():
            raise LoadFailed(f"{path} does not exist")
        return path
    found = (file for file in path.rglob("*.tflite") if file.is_file())  # a pipe would hang
    files = sorted(file.relative_to(path).as_posix() for file in found)
    names = ", ".join(files) or "no .tflite file"
    if wanted is not None:
        if wanted not in files:
            raise LoadFailed(f"{path} has no model {wanted!r}", hint=f"it holds {names}")
        return path / wanted
    if len(files) != 1:
        raise LoadFailed(
            f"{path} holds {len(files)} .tflite files, not one",
            hint=f"choose with the option file: {names}" if files else "is it the right folder?",
        )
    return path / files[0]
