# SPDX-License-Identifier: BUSL-1.1
"""Which plugin of the runtime loads which format, and whether it is installed here."""

from __future__ import annotations

import importlib.metadata
from typing import Final

import msgspec

GROUP: Final = "mlos.plugins"
"""The entry points of plugins; the same as in `mlos_core.smi`."""
_LOADERS: Final = {
    "onnx": ("onnx", "mlos-plugin-onnx"),
    "gguf": ("synapse", "mlos-plugin-synapse"),
    "tflite": ("tflite", "mlos-plugin-tensorflow"),
    "savedmodel": ("tensorflow", "mlos-plugin-tensorflow"),
    "keras": ("tensorflow", "mlos-plugin-tensorflow"),
    "torchscript": ("pytorch", "mlos-plugin-pytorch"),
    "pt2": ("pytorch", "mlos-plugin-pytorch"),
    "pickle": ("pytorch", "mlos-plugin-pytorch"),
    "safetensors": ("pytorch", "mlos-plugin-pytorch"),
}
_OF_TRANSFORMERS: Final = ("synapse", "mlos-plugin-synapse")
"""Weights with a configuration that names their architecture."""


class Loader(msgspec.Struct, frozen=True):
    """A plugin that would load a format.

    `package` is what brings it, `distribution` and `version` what has brought it here.
    """

    format: str
    name: str
    package: str
    installed: bool
    distribution: str = ""
    version: str = ""


def loader_of(format: str, architecture: str = "") -> Loader | None:
    """The plugin for a format; None if none is known."""
    known = _LOADERS.get(format)
    if format == "safetensors" and architecture:
        known = _OF_TRANSFORMERS
    if known is None:
        return None
    name, package = known
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.name == name:
            found = point.dist
            if found is None:
                return Loader(format, name, package, True)
            return Loader(format, name, package, True, found.name, found.version)
    return Loader(format, name, package, False)
