# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point `tensorflow` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from mlos_core.errors import LoadFailed
from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_plugin_tensorflow import example
from mlos_plugin_tensorflow.files import FORMATS, Kind, find_model
from mlos_plugin_tensorflow.framework import tf
from mlos_plugin_tensorflow.keras_model import open_keras
from mlos_plugin_tensorflow.modules import import_all
from mlos_plugin_tensorflow.options import Options
from mlos_plugin_tensorflow.runtime import configure
from mlos_plugin_tensorflow.saved_model import open_saved_model

_WITHOUT_EFFECT: Final[dict[Kind, tuple[str, ...]]] = {
    "saved_model": ("builder", "builder_options", "inputs", "safe_mode"),
    "keras": ("builder", "builder_options", "inputs", "signature"),
    "hdf5": ("signature",),
}


class TensorFlowPlugin(Plugin):
    """Loads SavedModel folders and Keras' files through TensorFlow."""

    name: ClassVar[str] = "tensorflow"
    formats: ClassVar[tuple[str, ...]] = FORMATS
    framework: ClassVar[str] = f"tensorflow {tf.__version__}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Open the package's model; see the README for the options."""
        chosen = parse_options(Options, options, "tensorflow plugin")
        kind, path = find_model(package.path, chosen.file)
        _check_effect(kind, options)
        configure(device, chosen, package.threads)
        import_all(chosen.imports)
        if kind == "saved_model":
            return open_saved_model(path, chosen)
        return open_keras(path, chosen)

    def example(self, folder: Path) -> ModelPackage:
        """A Keras archive with a model that scales and shifts."""
        return example.write(folder)


def _check_effect(kind: Kind, given: Mapping[str, Any]) -> None:
    """An option that would be ignored is a misunderstanding."""
    for name in _WITHOUT_EFFECT[kind]:
        if name in given:
            what = {"saved_model": "a SavedModel", "keras": "a .keras archive", "hdf5": "an .h5"}
            raise LoadFailed(
                f"the option {name} has no effect on {what[kind]}", hint="leave it out"
            )
