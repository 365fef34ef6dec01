# SPDX-License-Identifier: BUSL-1.1
"""A model in a Hugging Face folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.config import ModelConfig
from mlos_core.synapse.families_hf import HfModel, model_from_hf
from mlos_core.synapse.files import BF16, F16, F32, ModelFiles, Tensor, TextFiles, as_float32
from mlos_core.synapse.files import complete as complete_tensors
from mlos_core.synapse.mapping import read_file
from mlos_core.synapse.names import OUTPUT, canonical
from mlos_core.synapse.safetensors import SafeTensor, open_folder_tensors
from mlos_core.synapse.wording import clean

_TYPES: Final = {"F32": F32, "F16": F16, "BF16": BF16}
_SMALL: Final = 1 << 20
_LARGE: Final = 1 << 26  # tokenizer_config.json may list every added token
_NORM: Final = re.compile(r".*norm\.weight")

Object = dict[str, Any]


def only_gguf(path: Path) -> Path:
    """The one .gguf file of a folder.

    Raises:
        LoadFailed: there is none, or more than one.
    """
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise LoadFailed(f"{path} has neither a .gguf file nor a config.json")
    names = ", ".join(file.name for file in files[:5])
    raise LoadFailed(f"{path} has {len(files)} .gguf files: {names}", hint="name one of them")


def open_folder(path: Path) -> ModelFiles:
    """The model in the folder at `path`.

    Raises:
        LoadFailed: a file is missing or wrong.
        Unsupported: all is right, but not for this engine.
    """
    try:
        values = _object(path / "config.json", _SMALL)
        model = model_from_hf(values)
        paths, found = open_folder_tensors(path)
        tensors = complete_tensors(model.config, _canonical(found, model))
        return ModelFiles(paths, model.config, tensors, _text(path, values, model.config))
    except (LoadFailed, Unsupported) as err:
        raise type(err)(f"{path.name}: {clean(err.message)}", hint=err.hint) from None


def _canonical(found: dict[str, SafeTensor], model: HfModel) -> dict[str, Tensor]:
    """Tensors under their canonical names; Gemma's norms with the 1 that the family adds."""
    tensors: dict[str, Tensor] = {}
    for source in found.values():
        name = canonical(source.name, model.config.family)
        if name is None or (model.tied and name == OUTPUT):
            continue
        if name in tensors:
            raise LoadFailed(f"the tensor {name} is there twice, once as {source.name}")
        tensors[name] = _tensor(name, source)
        if model.config.family == "gemma3" and _NORM.fullmatch(name):
            tensors[name] = as_float32(tensors[name], add=1.0)
    if not model.tied and OUTPUT not in tensors:
        raise LoadFailed("the tensor lm_head.weight is missing, and the model does not tie it")
    return tensors


def _tensor(name: str, source: SafeTensor) -> Tensor:
    if source.dtype not in _TYPES:
        raise Unsupported(
            f"tensor {source.name} is of type {source.dtype}",
            hint="this engine computes with " + ", ".join(_TYPES),
        )
    if len(source.shape) not in (1, 2) or 0 in source.shape:
        raise LoadFailed(f"tensor {source.name} has the shape {source.shape}")
    rows, columns = source.shape if len(source.shape) == 2 else (1, *source.shape)
    return Tensor(name, _TYPES[source.dtype], rows, columns, _aligned(source))


def _aligned(source: SafeTensor) -> memoryview:
    """The data where their type may lie; a copy if the file's header is of an odd length."""
    address = np.frombuffer(source.data, np.uint8).ctypes.data
    return source.data if address % 4 == 0 else memoryview(bytes(source.data))


def _object(path: Path, most: int) -> Object:
    """The object in a JSON file."""
    try:
        return msgspec.json.decode(read_file(path, most), type=Object)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise LoadFailed(f"{path.name}: {err}") from None


def _optional(path: Path, most: int) -> Object:
    return _object(path, most) if path.exists() else {}


def _text(path: Path, values: Object, config: ModelConfig) -> TextFiles:
    generation = _optional(path / "generation_config.json", _SMALL)
    tokenizer = _optional(path / "tokenizer_config.json", _LARGE)
    ids = {
        key: (*_ids(generation, key, config), *_ids(values, key, config))
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    file = path / "tokenizer.json"
    return TextFiles(
        tokenizer_file=file if file.exists() else None,
        tokenizer_config=tokenizer,
        chat_template=_template(path, tokenizer),
        bos_id=next(iter(ids["bos_token_id"]), None),
        eos_ids=tuple(dict.fromkeys(ids["eos_token_id"])),
        pad_id=next(iter(ids["pad_token_id"]), None),
    )


def _ids(values: Object, key: str, config: ModelConfig) -> list[int]:
    """Token ids that a file gives as a number, a list or not at all."""
    found = values.get(key)
    listed = found if isinstance(found, list) else [] if found is None else [found]
    for each in listed:
        if not isinstance(each, int) or not -1 <= each < config.vocab_size:
            raise LoadFailed(f"{key} is {each!r}, no token of {config.vocab_size}")
    return [each for each in listed if each >= 0]


def _template(path: Path, tokenizer: Object) -> str | None:
    """The chat template: a file of its own, or an entry, or the default of several."""
    if (path / "chat_template.jinja").exists():
        try:
            return read_file(path / "chat_template.jinja", _SMALL).decode()
        except UnicodeDecodeError as err:
            raise LoadFailed(f"chat_template.jinja is not UTF-8: {err.reason}") from None
    found = tokenizer.get("chat_template")
    if isinstance(found, list):
        named = [each for each in found if isinstance(each, dict)]
        found = next((e.get("template") for e in named if e.get("name") == "default"), None)
    if not isinstance(found, str | None):
        raise LoadFailed("tokenizer_config.json: chat_template is no string")
    return found
