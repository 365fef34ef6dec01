# SPDX-License-Identifier: BUSL-1.1
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

    def make(name, *, top="", load="pass", distribution=""):
        dist = distribution or f"dist_{name}"
        module = f"module_{dist}"
        (plugin_path / f"{module}.py").write_text(
            PLUGIN.format(name=name, kind="Kind", top=top, load=load)
        )
        meta = plugin_path / f"{dist}-1.0.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (meta / "entry_points.txt").write_text(f"[mlos.plugins]\n{name} = {module}:Kind\n")
        path = plugin_path / f"model.{name}"
        path.touch()
        return str(path)

    return make
