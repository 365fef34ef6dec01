# SPDX-License-Identifier: BUSL-1.1
"""TensorFlow and Keras, imported quietly, or the reason why not.

Importing them starts no thread and no device: TensorFlow's runtime begins with the first
tensor, which is made in the worker. So a host may import them and fork.
"""

from __future__ import annotations

import os

# Both are read once, at the import. Warnings of the C++ side stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"

try:
    import h5py
    import keras
    import tensorflow as tf
except ModuleNotFoundError as err:
    missing = (err.name or "").partition(".")[0]
    if missing not in ("tensorflow", "keras", "h5py"):
        raise
    raise ImportError(
        f"TensorFlow is not installed, or not wholly (no module {missing!r}); "
        "pip install 'mlos-plugin-tensorflow[tensorflow]'"
    ) from None

__all__ = ["h5py", "keras", "tf"]
