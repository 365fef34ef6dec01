# SPDX-License-Identifier: BUSL-1.1
"""The `.echo` file: TOML, or JSON if it starts with a brace."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, TensorSpec

Mode = Literal["echo", "number", "sum", "stream", "crash", "raise", "sleep"]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a file, with the options of the registration laid over it."""

    mode: Mode = "echo"
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", (-1,)),)
    batched: bool = False
    capacity: int = 64
    step_seconds: float = 0.0


def read(path: Path, options: Mapping[str, Any]) -> Description:
    """Read a file, or the only `.echo` file of a folder.

    Raises:
        LoadFailed: saying what is wrong with which file.
    """
    file = _file_of(path)
    try:
        text = file.read_text()
        is_json = text.lstrip().startswith("{")
        content = msgspec.json.decode(text) if is_json else tomllib.loads(text)
        description = msgspec.convert({**content, **options}, Description)
    except (OSError, ValueError, TypeError) as err:
        raise LoadFailed(
            f"{file} is no model description: {err}",
            hint="known keys: " + ", ".join(Description.__struct_fields__),
        ) from err
    for spec in description.inputs:
        if spec.dtype != BYTES and spec.dtype not in DTYPES:
            raise LoadFailed(
                f"{file}: input {spec.name!r} has the unknown dtype {spec.dtype!r}",
                hint="use one of " + ", ".join((*DTYPES, BYTES)),
            )
    if not description.inputs:
        raise LoadFailed(f"{file}: a model needs at least one input")
    return description


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.echo"))
    if len(files) != 1:
        raise LoadFailed(
            f"{path} holds {len(files)} .echo files, not one", hint="name the file itself"
        )
    return files[0]
