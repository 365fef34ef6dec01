# SPDX-License-Identifier: BUSL-1.1
"""The plugin class: what the entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mlos_core import __version__
from mlos_core.errors import LoadFailed, MlosError
from mlos_core.smi import Model, ModelPackage, Plugin, parse_options
from mlos_core.synapse.encoder_files import is_encoder
from mlos_core.synapse.engine import Engine
from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import choose_isa
from mlos_core.synapse.text import TextModel
from mlos_core.synapse.weights import open_model
from mlos_plugin_synapse.options import Options


class SynapsePlugin(Plugin):
    """Loads GGUF files and Hugging Face folders."""

    name: ClassVar[str] = "synapse"
    formats: ClassVar[tuple[str, ...]] = (".gguf", ".safetensors")
    framework: ClassVar[str] = f"synapse {__version__}"

    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Open the package's model; see the README for the options."""
        if device != "cpu":
            raise LoadFailed(f"the synapse plugin cannot use the device {device!r}", hint="use cpu")
        if _is_encoder(package.path):
            from mlos_plugin_synapse.encoder import load_encoder

            return load_encoder(package, device, options)
        chosen = parse_options(Options, options, "synapse plugin")
        return _load_decoder(_model_path(package.path), chosen)


def _is_encoder(path: Path) -> bool:
    """Whether `path` is the folder of a model of the BERT kind, or a file of it."""
    return path.suffix != ".gguf" and is_encoder(path if path.is_dir() else path.parent)


def _model_path(path: Path) -> Path:
    """Of a Hugging Face folder any file may be named."""
    if not path.exists():
        raise LoadFailed(f"{path} does not exist")
    return path.parent if path.suffix in (".safetensors", ".json") else path


def _load_decoder(path: Path, options: Options) -> Engine:
    with open_model(path) as files:
        text = TextModel(files, chat_template=options.template())
        context = options.context_of(files.config)
        executor = Executor(
            files,
            threads=options.thread_count(),
            isa=_isa(options.isa),
            kv_blocks=options.blocks_of(files.config),
            kv_dtype=options.kv_dtype,
            precision=options.precision,
            cache_dir=options.packed(),
        )
    if options.prepare_grammars:
        text.prepare_grammars()
    return Engine(
        executor,
        text,
        options.limits(),
        max_waiting=options.max_waiting,
        pooling=options.pooling,
        context=context,
        mixed_seconds=options.mixed_ms / 1000,
    )


def _isa(name: str) -> int:
    try:
        return choose_isa(name)
    except MlosError as err:
        raise LoadFailed(err.message, hint=err.hint) from err
