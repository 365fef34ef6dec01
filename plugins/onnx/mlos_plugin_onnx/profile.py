# SPDX-License-Identifier: BUSL-1.1
"""Where onnxruntime's trace goes."""

from __future__ import annotations

import os
from pathlib import Path

from mlos_core.errors import LoadFailed


def trace_prefix(wanted: str, name: str, pid: int) -> Path:
    """How the trace's file name begins; onnxruntime appends the time and `.json`.

    The process id is in it, because several workers of a model may write at once.

    Args:
        wanted: the option: an existing folder, or a path whose last part begins the name.
        name: the model's.

    Raises:
        LoadFailed: it is not absolute, or the folder is missing or not writable.
    """
    path = Path(wanted)
    if not path.is_absolute():
        # Relative to what? Not to the model's folder, and the daemon's is nobody's wish.
        raise LoadFailed(
            f"the option profile must be an absolute path, not {wanted!r}",
            hint="a folder, or a folder and how the file's name begins",
        )
    prefix = path / name.replace("/", "_") if path.is_dir() else path
    folder = prefix.parent
    if not folder.is_dir():
        raise LoadFailed(f"there is no folder {folder} for the profile", hint="create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LoadFailed(f"the profile cannot be written to {folder}", hint="choose another folder")
    return prefix.with_name(f"{prefix.name}-{pid}")
