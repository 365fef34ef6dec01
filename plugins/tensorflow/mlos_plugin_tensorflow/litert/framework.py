# SPDX-License-Identifier: BUSL-1.1
"""LiteRT, or the reason why not."""

from __future__ import annotations

import importlib.metadata
from typing import Final

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError as err:
    missing = (err.name or "").partition(".")[0]
    if missing not in ("ai_edge_litert", "flatbuffers"):
        raise
    raise ImportError(
        f"LiteRT is not installed, or not wholly (no module {missing!r}); "
        "pip install 'mlos-plugin-tensorflow[tflite]'"
    ) from None

VERSION: Final = importlib.metadata.version("ai-edge-litert")

__all__ = ["Interpreter", "VERSION", "flatbuffers", "schema"]
