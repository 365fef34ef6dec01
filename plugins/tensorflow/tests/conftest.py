# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.smi import ModelPackage


class Arena:
    """`allocate` that remembers, and that gives the same memory again."""

    def __init__(self):
        self.given = []
        self._reuse = {}

    def __call__(self, name, dtype, shape):
        array = self._reuse.get((name, dtype, shape))
        if array is None:
            array = self._reuse[name, dtype, shape] = np.full(shape, 7).astype(dtype)
        self.given.append(array)
        return array

    def holds(self, array):
        return any(array is given for given in self.given)


@pytest.fixture
def arena():
    return Arena()


@pytest.fixture
def place():
    """`place(values, dtype, skip)` puts an array where a channel would, or `skip` bytes off."""

    def put(values, dtype, skip=0):
        array = np.asarray(values, dtype)
        raw = np.zeros(array.nbytes + 128, np.uint8)
        start = -raw.ctypes.data % 64 + skip
        placed = raw[start : start + array.nbytes].view(dtype).reshape(array.shape)
        placed[...] = array
        return placed

    return put


@pytest.fixture
def load_with():
    """`load_with(plugin, path, **options)`; models are closed at the end."""
    models = []

    def load(plugin, path, device="cpu", threads=0, **options):
        package = ModelPackage("m", "1", path, threads=threads)
        models.append(plugin.load(package, device, options))
        return models[-1]

    yield load
    for model in models:
        model.close()


@pytest.fixture
def load(load_with):
    """Load with the tensorflow plugin."""
    from mlos_plugin_tensorflow.plugin import TensorFlowPlugin

    return lambda path, **options: load_with(TensorFlowPlugin(), path, **options)


@pytest.fixture
def load_lite(load_with):
    """Load with the tflite plugin."""
    from mlos_plugin_tensorflow.litert.plugin import LiteRtPlugin

    return lambda path, **options: load_with(LiteRtPlugin(), path, **options)
