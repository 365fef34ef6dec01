# SPDX-License-Identifier: BUSL-1.1
"""Which files are models, in which format, and which one is a package's main model.

Pickled checkpoints (`.bin`, `.pkl`, a plain `.pt`) are no models here: opening one runs the
code inside it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from axon_client.manifest import ExecutionFile

SUFFIXES = {
    ".onnx": "onnx",
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".tflite": "tflite",
    ".keras": "keras",
    ".h5": "keras",
    ".pt2": "pt2",
    ".jit": "torchscript",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".torchscript": "torchscript",
}
FRAMEWORKS = {
    "onnx": "onnx",
    "gguf": "gguf",
    "safetensors": "pytorch",
    "tflite": "tensorflow",
    "keras": "tensorflow",
    "pt2": "pytorch",
    "torchscript": "pytorch",
}
PREFERENCE = tuple(FRAMEWORKS)
"""The format that wins when one package ships one model in several."""

_COMPANIONS = {
    ".json", ".txt", ".yaml", ".yml", ".model", ".spm", ".jinja", ".vocab", ".bpe", ".csv",
    ".tiktoken", ".onnx_data",
}  # fmt: skip
_ARCHIVED_CODE = re.compile(r"^[^/]+/(code/|constants\.pkl$)")
_SHARD = re.compile(r"-(\d{5})-of-\d{5}$")


def format_of(path: str) -> str:
    """The format that a file's suffix promises; empty for what is no model.

    Of a model in several shards only the first counts: it stands for all.
    """
    name = PurePosixPath(path)
    shard = _SHARD.search(name.stem)
    if shard and int(shard[1]) != 1:
        return ""
    return SUFFIXES.get(name.suffix.lower(), "")


def is_weights(path: str) -> bool:
    """Whether a file holds weights: a model, or a further shard of one."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def is_companion(path: str) -> bool:
    """Whether a file beside a model belongs to it: configuration, tokenizer, labels."""
    return PurePosixPath(path).suffix.lower() in _COMPANIONS


def is_pickle(path: Path) -> bool:
    """Whether a `.pt`, `.pth` or `.jit` file is a checkpoint instead of TorchScript.

    TorchScript is a zip archive with code in it, which a plain checkpoint lacks.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return True
    return not any(_ARCHIVED_CODE.match(name) for name in names)


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
