# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from mlos_core.errors import LoadFailed
from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_plugin_pytorch.device import open_device, use_threads
from mlos_plugin_pytorch.eager import open_eager
from mlos_plugin_pytorch.example import write_example
from mlos_plugin_pytorch.exported import open_exported
from mlos_plugin_pytorch.files import SUFFIXES, kind_of, model_file
from mlos_plugin_pytorch.model import Runner, TorchModel
from mlos_plugin_pytorch.options import Options, check_use
from mlos_plugin_pytorch.program import Program
from mlos_plugin_pytorch.signature import inputs_of, settle
from mlos_plugin_pytorch.torchscript import open_torchscript

# What torch imports when the first exported program is loaded: here, once for all workers.
_LATE = (
    "sympy.combinatorics",
    "sympy.tensor.tensor",
    "torch.export._trace",
    "torch.export.passes",
    "torch.fx.experimental.validator",
    "torch._inductor.sizevars",
    "torch.utils.serialization",
)
for _name in _LATE:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)


class PyTorchPlugin(Plugin):
    """Loads TorchScript, programs of `torch.export`, and weights with code that takes them."""

    name: ClassVar[str] = "pytorch"
    formats: ClassVar[tuple[str, ...]] = SUFFIXES
    framework: ClassVar[str] = f"torch {torch.__version__}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Open the package's model; see the README for the options."""
        chosen = parse_options(Options, options, "pytorch plugin")
        place = open_device(device)
        use_threads(chosen.threads or package.threads, chosen.interop_threads)
        program = open_program(model_file(package.path, chosen.file), chosen, place)
        inputs = inputs_of(program, chosen, package.manifest)
        runner = Runner(program, inputs, place, bool(chosen.copy_inputs))
        signature = settle(program, inputs, runner, chosen, package.manifest)
        own = None if program.outputs is None else [spec.name for spec in program.outputs]
        # Cut only now: trials look at whole results.
        return TorchModel(runner, signature, own, program.cut() if program.cut else None)

    def example(self, folder: Path) -> ModelPackage:
        """A TorchScript module that doubles rows and sums them."""
        return write_example(folder)


def open_program(file: Path, options: Options, device: Any) -> Program:
    """The program in `file`, whatever kind of file it is.

    Raises:
        LoadFailed: it is of a kind that is not loaded, or cannot be loaded.
    """
    kind = kind_of(file)
    check_use(options, kind, file.name)
    match kind:
        case "torchscript":
            return open_torchscript(file, options, device)
        case "exported":
            return open_exported(file, options, device)
        case "safetensors":
            return open_eager(file, options, device, pickled=False)
        case "pickle" if options.weights_only:
            return open_eager(file, options, device, pickled=True)
        case "pickle":
            raise LoadFailed(
                f"{file.name} is a pickle: to load it is to run whatever code it holds",
                hint="save it with torch.jit.save, torch.export.save or safetensors; "
                "weights_only=true loads a state dict that holds tensors alone, with module=…",
            )
        case "compiled":
            raise LoadFailed(
                f"{file.name} is a compiled package, which is machine code for one machine",
                hint="save the exported program itself, with torch.export.save",
            )
