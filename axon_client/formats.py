# SPDX-License-Identifier: BUSL-1.1
"""Which files are models, in which format, and which one is a package's main model.

Pickled checkpoints (`.bin`, `.pkl`, a plain `.pt`) are no models here unless somebody allows
them: opening one runs the code inside it. What may run code is told in `safety`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from axon_client.manifest import ExecutionFile
from mlos_core.errors import LoadFailed

SUFFIXES = {
    ".onnx": "onnx",
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".tflite": "tflite",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".pt2": "pt2",
    ".jit": "torchscript",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
}
SAVED_MODEL = "saved_model.pb"
PICKLE = "pickle"
FRAMEWORKS = {
    "onnx": "onnx",
    "gguf": "gguf",
    "safetensors": "pytorch",
    "tflite": "tensorflow",
    "savedmodel": "tensorflow",
    "keras": "tensorflow",
    "pt2": "pytorch",
    "torchscript": "pytorch",
    PICKLE: "pytorch",
}
PREFERENCE = tuple(FRAMEWORKS)
"""The format that wins when one package ships one model in several."""

_COMPANIONS = {
    ".json", ".txt", ".yaml", ".yml", ".model", ".spm", ".jinja", ".vocab", ".bpe", ".csv",
    ".tiktoken", ".onnx_data",
}  # fmt: skip
_OF_SAVED_MODELS = re.compile(
    r"(^|/)(variables/variables\.(index|data-\d{5}-of-\d{5})|fingerprint\.pb|keras_metadata\.pb)$"
)
_ARCHIVED_CODE = re.compile(r"^[^/]+/(code/|constants\.pkl$)")
_PROGRAM = re.compile(r"(^|/)(models/[^/]+\.json|serialized_exported_program\.json)$")
_SHARD = re.compile(r"-(\d{5})-of-\d{5}$")


def format_of(path: str) -> str:
    """The format that a file's suffix promises; empty for what is no model.

    Of a model in several shards only the first counts: it stands for all.
    """
    name = PurePosixPath(path)
    if name.name == SAVED_MODEL:
        return "savedmodel"
    shard = _SHARD.search(name.stem)
    if shard and int(shard[1]) != 1:
        return ""
    return SUFFIXES.get(name.suffix.lower(), "")


def is_weights(path: str) -> bool:
    """Whether a file holds weights: a model, or a further shard of one."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES or bool(format_of(path))


def is_companion(path: str) -> bool:
    """Whether a file beside a model belongs to it: configuration, tokenizer, labels."""
    return PurePosixPath(path).suffix.lower() in _COMPANIONS or bool(_OF_SAVED_MODELS.search(path))


def is_pickle(path: Path) -> bool:
    """Whether a `.pt`, `.pth` or `.jit` file is a checkpoint instead of TorchScript.

    TorchScript is a zip archive with code in it, an exported program one with a graph; a
    checkpoint has neither.
    """
    return kind_of_torch(path) == PICKLE


def kind_of_torch(path: Path) -> str:
    """What a file of PyTorch's is by its content: `torchscript`, `pt2` or `pickle`."""
    # Late: whoever lists what is installed opens no archive.
    from axon_client.introspect.zipped import members_of

    try:
        with members_of(path, "an archive") as members:
            names = list(members.sizes)
    except LoadFailed:
        return PICKLE
    if any(_PROGRAM.search(name) for name in names):
        return "pt2"
    return "torchscript" if any(_ARCHIVED_CODE.match(name) for name in names) else PICKLE


def choose_main(package: str, models: Sequence[ExecutionFile]) -> str:
    """The path of the model that a package means when it is asked for none by name.

    The only one; or the one called like the package or `model`, in the preferred format.
    Empty if that leaves a choice: then the user has to make it.
    """
    if len(models) == 1:
        return models[0].path
    titles = {_plain(package.rpartition("/")[2]), "model"}
    named = [model for model in models if _plain(PurePosixPath(model.path).stem) in titles]
    for format in PREFERENCE:
        found = [model.path for model in named if model.format == format]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _SHARD.sub("", text).lower())
