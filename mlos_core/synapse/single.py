# SPDX-License-Identifier: BUSL-1.1
"""A model in one GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import gguf, rope
from mlos_core.synapse.families_gguf import config_from_gguf
from mlos_core.synapse.files import ModelFiles, Tensor, TextFiles, as_float32, complete
from mlos_core.synapse.mapping import map_file
from mlos_core.synapse.names import EMBEDDING, ROPE_FACTORS
from mlos_core.synapse.wording import clean

_EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def open_gguf(path: Path) -> ModelFiles:
    """The model in the file at `path`.

    Raises:
        LoadFailed: the file is wrong.
        Unsupported: it is right, but not for this engine.
    """
    data = map_file(path)
    try:
        return _open(path, data)
    except (LoadFailed, Unsupported) as err:
        raise type(err)(f"{path.name}: {clean(err.message)}", hint=err.hint) from None


def _open(path: Path, data: memoryview) -> ModelFiles:
    metadata, found = gguf.parse(data)
    if metadata.get("split.count", 1) not in (0, 1):
        raise Unsupported("the file is one part of several", hint="join them with gguf-split")
    tensors = {
        name: Tensor(name, t.type, t.rows, t.columns, data[t.offset : t.offset + t.nbytes])
        for name, t in found.items()
    }
    if EMBEDDING not in tensors:
        raise LoadFailed(f"the file has no {EMBEDDING}")
    vocab_size = tensors[EMBEDDING].rows
    config = config_from_gguf(metadata, vocab_size, _rope_factors(tensors))
    return ModelFiles((path,), config, complete(config, tensors), _text(metadata, vocab_size))


def _rope_factors(tensors: dict[str, Tensor]) -> rope.Frequencies | None:
    if ROPE_FACTORS not in tensors:
        return None
    return np.frombuffer(as_float32(tensors[ROPE_FACTORS]).data, np.float32)


def _text(metadata: Mapping[str, Any], vocab_size: int) -> TextFiles:
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise LoadFailed("tokenizer.chat_template is no string")
    ends = (token_id(metadata, key, vocab_size) for key in _EOS_KEYS)
    return TextFiles(
        metadata=metadata,
        chat_template=template,
        bos_id=token_id(metadata, "bos_token_id", vocab_size),
        eos_ids=tuple(dict.fromkeys(end for end in ends if end is not None)),
        pad_id=token_id(metadata, "padding_token_id", vocab_size),
    )


def token_id(metadata: Mapping[str, Any], key: str, vocab_size: int) -> int | None:
    """A special token's number; None: the file names none.

    Raises:
        LoadFailed: it is none of the vocabulary.
    """
    value = metadata.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < vocab_size:
        raise LoadFailed(f"tokenizer.ggml.{key} is {value!r}, no token of {vocab_size}")
    return value
