# SPDX-License-Identifier: BUSL-1.1
"""Tensors as people write them: `x: float32[?, 4], mask: bool[?]`."""

from __future__ import annotations

import re
from typing import Final

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, TensorSpec

_TENSOR: Final = re.compile(r"\s*(\w[\w./-]*)\s*:\s*(\w+)\s*\[([^\[\]]*)\]\s*(?:,|$)", re.ASCII)


def parse_tensors(text: str) -> tuple[TensorSpec, ...]:
    """What `TensorSpec.describe` shows, read back; a size may also be -1.

    Raises:
        LoadFailed: the text is none, or names an unknown dtype.
    """
    specs: list[TensorSpec] = []
    at = 0
    while at < len(text):
        match = _TENSOR.match(text, at)
        if match is None:
            raise _unreadable(text)
        name, dtype, sizes = match.groups()
        if dtype not in DTYPES and dtype != BYTES:
            raise LoadFailed(
                f"the input {name!r} has the unknown dtype {dtype!r}",
                hint="use one of " + ", ".join((*DTYPES, BYTES)),
            )
        specs.append(TensorSpec(name, dtype, _shape(sizes, text)))
        at = match.end()
    if len({spec.name for spec in specs}) != len(specs) or not specs:
        raise _unreadable(text)
    return tuple(specs)


def _shape(sizes: str, text: str) -> tuple[int, ...]:
    words = [word.strip() for word in sizes.split(",")] if sizes.strip() else []
    if not all(word in ("?", "-1") or word.isdecimal() for word in words):
        raise _unreadable(text)
    return tuple(-1 if word in ("?", "-1") else int(word) for word in words)


def _unreadable(text: str) -> LoadFailed:
    return LoadFailed(
        f"the option inputs cannot be read: {text!r}",
        hint="write it like 'image: float32[?, 224, 224, 3]', each name once",
    )
