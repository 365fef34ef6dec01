# SPDX-License-Identifier: BUSL-1.1
"""A small model to try the plugin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlos_core.smi import ModelPackage
from mlos_plugin_tensorflow.litert.writer import Operator, Tensor, to_bytes


def write(folder: Path) -> ModelPackage:
    """`y = 2 x + 1` for x: float32[?, 4], as `scale.tflite` in `folder`."""
    file = folder / "scale.tflite"
    file.write_bytes(scale_and_shift(2.0, 1.0))
    return ModelPackage("example", "1", file)


def scale_and_shift(scale: float, shift: float) -> bytes:
    """The bytes of a model with one multiplication and one addition."""
    tensors = {
        "x": Tensor((-1, 4)),
        "scale": Tensor((1,), np.array([scale])),
        "product": Tensor((-1, 4)),
        "shift": Tensor((1,), np.array([shift])),
        "y": Tensor((-1, 4)),
    }
    operators = [
        Operator("MUL", "MulOptions", ("x", "scale"), ("product",)),
        Operator("ADD", "AddOptions", ("product", "shift"), ("y",)),
    ]
    return to_bytes(tensors, operators, ["x"], ["y"])
