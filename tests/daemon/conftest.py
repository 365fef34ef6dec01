# SPDX-License-Identifier: BUSL-1.1
import os

import pytest

PLUGIN = """
import os, time
from mlos_core.errors import LoadFailed
from mlos_core.smi import Plugin, TensorModel
from mlos_core.types import Signature, TensorSpec

{top}

class Model(TensorModel):
    signature = Signature(
        (TensorSpec("x", "float32", (-1,)),), (TensorSpec("y", "float32", (-1,)),)
    )

    def infer(self, batch, allocate):
        {infer}
        return {{"y": batch["x"] * 2}}

class {kind}(Plugin):
    name = "{name}"
    formats = (".{name}",)

    def load(self, package, device, options):
        {load}
        return Model()
"""


@pytest.fixture
def make_plugin(plugin_path):
    """`make_plugin(name, top=..., load=...)` installs a plugin for the daemons of the test."""

    def make(name, *, top="", load="pass", infer="pass", distribution=""):
        dist = distribution or f"dist_{name}"
        module = f"module_{dist}"
        (plugin_path / f"{module}.py").write_text(
            PLUGIN.format(name=name, kind="Kind", top=top, load=load, infer=infer)
        )
        meta = plugin_path / f"{dist}-1.0.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (meta / "entry_points.txt").write_text(f"[mlos.plugins]\n{name} = {module}:Kind\n")
        path = plugin_path / f"model.{name}"
        path.touch()
        return str(path)

    return make


class Gate:
    """A model whose requests stop inside the plugin until they are let go."""

    def __init__(self, model, fifo):
        self.model = model
        self._fifo = fifo

    def hold(self):
        """Wait until a request is inside; closing what this returns lets it go."""
        return self._fifo.open("wb")


@pytest.fixture
def gate(make_plugin, tmp_path):
    """A model of the plugin `gated`: requests whose first element is not 0 are held."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    model = make_plugin("gated", infer=f"batch['x'][0] and open({str(fifo)!r}, 'rb').read()")
    return Gate(model, fifo)
