# SPDX-License-Identifier: BUSL-1.1
"""Nothing here imports torch before a test asks for it: without it, tests are skipped."""

import warnings

import numpy as np
import pytest

from mlos_core.smi import ModelPackage


class Arena:
    """`allocate` that remembers what it gave."""

    def __init__(self):
        self.given = []

    def __call__(self, name, dtype, shape):
        array = np.full(shape, 7).astype(dtype)
        self.given.append(array)
        return array

    def holds(self, array):
        return any(array is given for given in self.given)


@pytest.fixture
def arena():
    return Arena()


@pytest.fixture(autouse=True)
def threads_as_before():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("mlos_plugin_pytorch", reason="the plugin is not installed")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def load():
    from mlos_plugin_pytorch import PyTorchPlugin

    models = []

    def load(path, device="cpu", manifest=None, threads=0, **options):
        package = ModelPackage("m", "1", path, manifest, threads)
        model = PyTorchPlugin().load(package, device, options)
        models.append(model)
        return model

    yield load
    for model in models:
        model.close()


@pytest.fixture
def script(tmp_path):
    """`script(module)` writes it as TorchScript; returns its path."""
    import torch

    def script(module, file="model.pt"):
        path = tmp_path / file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(module.eval()), str(path))
        return path

    return script


@pytest.fixture
def export(tmp_path):
    """`export(module, *arguments)` writes it as a torch.export program; returns its path."""
    import torch

    def export(module, *arguments, file="model.pt2", **options):
        path = tmp_path / file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module.eval(), arguments, **options), path)
        return path

    return export


def frozen(values, dtype=np.float32):
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


@pytest.fixture
def read_only():
    """`read_only(values)`: an array as the worker gives it."""
    return frozen
