# SPDX-License-Identifier: BUSL-1.1
"""A small model to try the plugin with: `python -m mlos_plugin_tensorflow.example FILE`.

Making it starts TensorFlow's threads, which a plugin host must not have: so it is made in a
process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from mlos_core.errors import LoadFailed
from mlos_core.smi import ModelPackage

_PATIENCE_S: Final = 120.0


def write(folder: Path) -> ModelPackage:
    """`y = 2 x + 1` for x: float32[?, 4], as `scale.keras` in `folder`.

    Raises:
        LoadFailed: Keras could not write it.
    """
    file = folder / "scale.keras"
    command = [sys.executable, "-P", "-m", __spec__.name, str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise LoadFailed(f"the example was not written within {_PATIENCE_S:g} s") from err
    if done.returncode:
        raise LoadFailed(f"the example cannot be written: {done.stderr.strip()[-500:]}")
    return ModelPackage("example", "1", file)


def _main(file: str) -> None:
    from mlos_plugin_tensorflow.framework import keras

    x = keras.Input((4,), name="x")
    y = keras.layers.Rescaling(2.0, offset=1.0)(x)
    keras.Model(x, {"y": y}).save(file)


if __name__ == "__main__":
    _main(sys.argv[1])
