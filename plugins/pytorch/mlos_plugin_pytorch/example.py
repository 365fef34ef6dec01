# SPDX-License-Identifier: BUSL-1.1
"""A small model to try the plugin with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import torch

from mlos_core.smi import ModelPackage

_IO: Final[dict[str, Any]] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 3]}],
    "outputs": [
        {"name": "double", "dtype": "float32", "shape": [-1, 3]},
        {"name": "total", "dtype": "float32", "shape": [-1]},
    ],
}


class _Example(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"double": x * 2, "total": x.sum(1)}


def write_example(folder: Path) -> ModelPackage:
    """`example.pt` in `folder`: x of shape [rows, 3], twice x, and the sum of each row."""
    path = folder / "example.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(_Example()), str(path))
    return ModelPackage("example", "1", path, {"spec": {"io": _IO}})
