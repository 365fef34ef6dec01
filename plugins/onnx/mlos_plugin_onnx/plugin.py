# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnxruntime as ort

from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_plugin_onnx.example import write_example
from mlos_plugin_onnx.external import check_external_data
from mlos_plugin_onnx.files import model_file
from mlos_plugin_onnx.model import OnnxModel
from mlos_plugin_onnx.options import Options
from mlos_plugin_onnx.profile import trace_prefix
from mlos_plugin_onnx.session import open_session, threads_for, usable_cores
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
        check_external_data(file)
        cores = os.cpu_count() or 1
        threads = threads_for(chosen.intra_op_num_threads, package.threads, usable_cores(), cores)
        profile = None
        if chosen.profile is not None:
            profile = trace_prefix(chosen.profile, package.name, os.getpid())
        session = open_session(file, device, chosen, threads, profile)
        signature = signature_of(session.get_inputs(), session.get_outputs(), chosen.batched)
        return OnnxModel(session, signature, profiled=profile is not None)

    def example(self, folder: Path) -> ModelPackage:
        """`y = 2 x + 1` for rows of three numbers."""
        return ModelPackage("example", "1.0.0", write_example(folder))
