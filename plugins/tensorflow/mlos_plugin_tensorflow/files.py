# SPDX-License-Identifier: BUSL-1.1
"""What of a package is the model, and in which format."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple

from mlos_core.errors import LoadFailed

Kind = Literal["saved_model", "keras", "hdf5"]
GRAPHS: Final = ("saved_model.pb", "saved_model.pbtxt")
SUFFIXES: Final[dict[str, Kind]] = {".keras": "keras", ".h5": "hdf5", ".hdf5": "hdf5"}
FORMATS: Final = (*SUFFIXES, ".pb")


class Found(NamedTuple):
    """A SavedModel's folder, or a file of Keras."""

    kind: Kind
    path: Path


def find_model(path: Path, wanted: str | None) -> Found:
    """The model at `path`, or in the folder `path`; of several, the `wanted` one.

    Raises:
        LoadFailed: there is none, or several and none was named.
    """
    if not path.exists():
        raise LoadFailed(f"{path} does not exist")
    itself = _recognise(path)
    if itself is not None and wanted is None:
        return itself
    if not path.is_dir():
        raise LoadFailed(
            f"{path} is no model of TensorFlow or Keras",
            hint="it loads SavedModel folders, .keras archives and .h5 files",
        )
    return _choose(path, _inside(path), wanted)


def _recognise(path: Path) -> Found | None:
    if path.is_dir():
        is_model = any((path / name).is_file() for name in GRAPHS)
        return Found("saved_model", path) if is_model else None
    if not path.is_file():  # reading a pipe would hang
        return None
    if path.name in GRAPHS:
        return Found("saved_model", path.parent)
    kind = SUFFIXES.get(path.suffix.lower())
    return Found(kind, path) if kind else None


def _inside(folder: Path) -> dict[str, Found]:
    found = {}
    for entry in sorted(folder.rglob("*")):
        model = _recognise(entry)
        if model is not None and model.path.name not in GRAPHS:
            found[model.path.relative_to(folder).as_posix()] = model
    return found


def _choose(folder: Path, models: dict[str, Found], wanted: str | None) -> Found:
    names = ", ".join(models) or "no SavedModel, .keras or .h5 file"
    if wanted is not None:
        if wanted not in models:
            raise LoadFailed(f"{folder} has no model {wanted!r}", hint=f"it holds {names}")
        return models[wanted]
    if len(models) != 1:
        raise LoadFailed(
            f"{folder} holds {len(models)} models, not one",
            hint=f"choose with the option file: {names}" if models else "is it the right folder?",
        )
    (model,) = models.values()
    return model
