# SPDX-License-Identifier: BUSL-1.1
"""A model in a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.files import ModelFiles


def only_gguf(path: Path) -> Path:
    """The one .gguf file of a folder.

    Raises:
        LoadFailed: there is none, or more than one.
    """
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise LoadFailed(f"{path} has neither a .gguf file nor a config.json")
    names = ", ".join(file.name for file in files[:5])
    raise LoadFailed(f"{path} has {len(files)} .gguf files: {names}", hint="name one of them")


def open_folder(path: Path) -> ModelFiles:
    """The model in the folder at `path`."""
    raise Unsupported("safetensors: not yet")
