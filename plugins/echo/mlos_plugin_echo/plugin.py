# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mlos_core.errors import LoadFailed
from mlos_core.smi import Model, ModelPackage, Plugin
from mlos_plugin_echo.description import Description, read
from mlos_plugin_echo.engine import StreamModel
from mlos_plugin_echo.tensors import KINDS

_EXAMPLE = """\
mode = "sum"
batched = true
inputs = [{ name = "x", dtype = "float32", shape = [-1, 3] }]
"""


class EchoPlugin(Plugin):
    """Loads `.echo` files."""

    name: ClassVar[str] = "echo"
    formats: ClassVar[tuple[str, ...]] = (".echo",)

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """The model that the file (or the only `.echo` file of the folder) describes."""
        if device != "cpu":
            raise LoadFailed(f"echo models cannot use the device {device!r}", hint="use cpu")
        description: Description = read(package.path, options)
        if description.mode == "stream":
            return StreamModel(description)
        return KINDS[description.mode](description)

    def example(self, folder: Path) -> ModelPackage:
        """A batched model that sums rows of three numbers."""
        path = folder / "example.echo"
        path.write_text(_EXAMPLE)
        return ModelPackage("example", "1", path)
