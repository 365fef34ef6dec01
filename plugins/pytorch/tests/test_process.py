# SPDX-License-Identifier: BUSL-1.1
"""The life of a plugin's process: import in the host, fork, load and compute in the worker."""

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")

FORKED = """
import os, sys, traceback
from pathlib import Path
import numpy as np

def tasks():
    return len(os.listdir("/proc/self/task"))

before = tasks()
from mlos_plugin_pytorch import PyTorchPlugin
import torch
from mlos_core.smi import ModelPackage
plugin = PyTorchPlugin()
assert tasks() == before, "importing the plugin starts a thread"
x = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
for _ in range(2):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        continue
    try:
        package = ModelPackage("m", "1", Path(sys.argv[1]), threads=3)
        said = {"inputs": "x:float32[?,400]", "outputs": "y:float32[?,400]", "batched": True}
        model = plugin.load(package, "cpu", {**said, "interop_threads": 2})
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (3, 2)
        alone = tasks()
        y = model.infer({"x": x}, lambda name, dtype, shape: np.empty(shape, dtype))["y"]
        assert tasks() >= alone + 2, "the threads of an operator did not start"
        np.testing.assert_allclose(y, np.exp(np.cos(x)), rtol=1e-5)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
"""


def test_threads_start_in_the_forked_worker_and_not_before(script, tmp_path):
    torch = pytest.importorskip("torch")

    class Wide(torch.nn.Module):
        def forward(self, x: torch.Tensor):
            return torch.exp(torch.cos(x))

    done = subprocess.run(
        [sys.executable, "-P", "-c", FORKED, str(script(Wide()))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
