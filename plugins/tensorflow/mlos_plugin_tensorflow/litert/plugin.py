# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point `tflite` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mlos_core.errors import LoadFailed
from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_plugin_tensorflow.litert import example
from mlos_plugin_tensorflow.litert.files import FORMATS, model_file
from mlos_plugin_tensorflow.litert.framework import VERSION
from mlos_plugin_tensorflow.litert.options import Options
from mlos_plugin_tensorflow.litert.session import open_model


class LiteRtPlugin(Plugin):
    """Loads `.tflite` files through LiteRT, on the CPU."""

    name: ClassVar[str] = "tflite"
    formats: ClassVar[tuple[str, ...]] = FORMATS
    framework: ClassVar[str] = f"ai-edge-litert {VERSION}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Open the package's model; see the README for the options."""
        chosen = parse_options(Options, options, "tflite plugin")
        if device != "cpu":
            raise LoadFailed(f"the tflite plugin knows no device {device!r}", hint="use cpu")
        return open_model(model_file(package.path, chosen.file), chosen, package.threads)

    def example(self, folder: Path) -> ModelPackage:
        """A `.tflite` file with a model that scales and shifts."""
        return example.write(folder)
