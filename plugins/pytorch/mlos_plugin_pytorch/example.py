# SPDX-License-Identifier: BUSL-1.1
"""A small model to try the plugin with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import torch

from mlos_core.smi import ModelPackage
from mlos_plugin_pytorch.torchscript import SIGNATURE

_SAYS: Final = "x:float32[?,3] -> double:float32[?,3], total:float32[?]"


class _Example(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"double": x * 2, "total": x.sum(1)}


def write_example(folder: Path) -> ModelPackage:
    """`example.pt` in `folder`: x of shape [rows, 3], twice x, and the sum of each row."""
    path = folder / "example.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.script(_Example())
        torch.jit.save(module, str(path), _extra_files={SIGNATURE: _SAYS})
    return ModelPackage("example", "1", path)
