# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import onnxruntime as ort

from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_plugin_onnx.files import model_file
from mlos_plugin_onnx.model import OnnxModel
from mlos_plugin_onnx.options import Options
from mlos_plugin_onnx.session import open_session
from mlos_plugin_onnx.signature import signature_of


class OnnxPlugin(Plugin):
    """Loads `.onnx` files through onnxruntime."""

    name: ClassVar[str] = "onnx"
    formats: ClassVar[tuple[str, ...]] = (".onnx",)
    framework: ClassVar[str] = f"onnxruntime {ort.__version__}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Open the package's model; see the README for the options."""
        chosen = parse_options(Options, options, "onnx plugin")
        file = model_file(package.path, chosen.file)
        session = open_session(file, device, chosen)
        signature = signature_of(session.get_inputs(), session.get_outputs(), chosen.batched)
        return OnnxModel(session, signature)
