# SPDX-License-Identifier: BUSL-1.1
"""What model files say of themselves: one reader per format.

Nothing is executed, nothing unpickled and no framework loaded. Every reader is bounded in
time and memory, however its file lies about counts and lengths, and a file that is not what
its name says is `LoadFailed`, with what it seems to be instead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from axon_client.introspect.header import Header
from axon_client.introspect.onnx import read_onnx

_READERS: Final = {
    "onnx": ("onnx", "read_onnx"),
    "torchscript": ("torchscript", "read_torchscript"),
    "pt2": ("exported", "read_exported"),
    "savedmodel": ("saved_model", "read_saved_model"),
    "keras": ("keras", "read_keras"),
    "tflite": ("tflite", "read_tflite"),
    "safetensors": ("safetensors", "read_safetensors"),
    "gguf": ("gguf", "read_gguf"),
    "pickle": ("checkpoint", "read_checkpoint"),
}
"""By format: the module here and its function, imported when a file of that format is read."""


def read(path: Path, format: str) -> Header:
    """The header of a model file.

    Raises:
        LoadFailed: it is no file of that format.
    """
    if format not in _READERS:
        return Header(unknown=(f"nothing is read of the format {format}",))
    module, name = _READERS[format]
    reader: Callable[[Path], Header] = getattr(
        importlib.import_module(f"axon_client.introspect.{module}"), name
    )
    return reader(path)


__all__ = ["Header", "read", "read_onnx"]
