# SPDX-License-Identifier: BUSL-1.1
"""ONNX models in MLOS Core."""

from mlos_plugin_onnx.plugin import OnnxPlugin

__all__ = ["OnnxPlugin"]
