# SPDX-License-Identifier: BUSL-1.1
"""Opening a model, whichever way it is stored."""

from __future__ import annotations

from pathlib import Path

from mlos_core.synapse.files import ModelFiles, Tensor, TextFiles
from mlos_core.synapse.folder import only_gguf, open_folder
from mlos_core.synapse.safetensors import has_safetensors
from mlos_core.synapse.single import open_gguf

__all__ = ["ModelFiles", "Tensor", "TextFiles", "open_model"]


def open_model(path: Path | str) -> ModelFiles:
    """A model from a .gguf file, a folder with one, or a Hugging Face folder.

    Some folders have a config.json beside a .gguf file; what weights there are decides.

    Raises:
        LoadFailed: something is missing or wrong; the message names it.
        Unsupported: a kind of model or tensor that this engine does not have.
    """
    path = Path(path)
    if not path.is_dir():
        return open_gguf(path)
    if (path / "config.json").exists() and (has_safetensors(path) or not list(path.glob("*.gguf"))):
        return open_folder(path)
    return open_gguf(only_gguf(path))
