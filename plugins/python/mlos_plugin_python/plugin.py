# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from mlos_core.errors import LoadFailed
from mlos_core.smi import Model, ModelPackage, Plugin
from mlos_plugin_python.code import FILE, find_class, find_file, load_module
from mlos_plugin_python.contract import read_contract
from mlos_plugin_python.creation import create
from mlos_plugin_python.engine import PredictEngine
from mlos_plugin_python.tensors import PredictModel, close

_EXAMPLE: Final = '''\
from typing import Annotated

import numpy as np

Rows = Annotated[np.ndarray, "float32[rows, 3]"]


class Model:
    """Scales vectors."""

    batched = True

    def setup(self, factor: float = 2.0) -> None:
        self.factor = np.float32(factor)

    def predict(self, x: Rows) -> Rows:
        return x * self.factor
'''


class PythonPlugin(Plugin):
    """Serves a class with `predict`; see the README."""

    name: ClassVar[str] = "python"
    formats: ClassVar[tuple[str, ...]] = (FILE, ".py")
    framework: ClassVar[str] = f"python {platform.python_version()}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """The model in the folder's `model.py`; options but `cls` go to its `setup`."""
        given = dict(options)
        wanted = given.pop("cls", "")
        if not isinstance(wanted, str):
            raise LoadFailed(f"the option cls is {wanted!r}", hint="give the name of a class")
        file = find_file(package.path)
        module = load_module(file)
        model = None
        try:
            kind = find_class(module, wanted)
            contract = read_contract(kind)
            model = create(kind, package, device, given, file.parent)
            stepwise = contract.streaming or contract.parameters
            return (PredictEngine if stepwise else PredictModel)(model, contract, file)
        except BaseException:
            close(model, file)
            raise

    def example(self, folder: Path) -> ModelPackage:
        """A folder with a `model.py` that scales rows of three numbers."""
        (folder / FILE).write_text(_EXAMPLE)
        return ModelPackage("example", "1", folder)
