# SPDX-License-Identifier: BUSL-1.1
"""An encoder's tensors as the library takes them: found by name, checked, numbered."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.encoder_files import BertConfig, EncoderFiles
from mlos_core.synapse.native import check, ffi, lib
from mlos_core.synapse.safetensors import SafeTensor

_TYPES: Final = {"F32": 0, "F16": 1, "BF16": 30}
_POOLINGS: Final = {"mean": lib.SYN_POOLING_MEAN, "cls": lib.SYN_POOLING_CLS}

_WHOLE: Final = {
    "embeddings.word_embeddings.weight": lib.SYN_ENCODER_WORDS,
    "embeddings.position_embeddings.weight": lib.SYN_ENCODER_POSITIONS,
    "embeddings.token_type_embeddings.weight": lib.SYN_ENCODER_TYPES,
    "embeddings.LayerNorm.weight": lib.SYN_ENCODER_NORM,
    "embeddings.LayerNorm.bias": lib.SYN_ENCODER_NORM_BIAS,
}
_LAYER: Final = {
    "attention.self.query.weight": lib.SYN_ENCODER_QUERY,
    "attention.self.query.bias": lib.SYN_ENCODER_QUERY_BIAS,
    "attention.self.key.weight": lib.SYN_ENCODER_KEY,
    "attention.self.key.bias": lib.SYN_ENCODER_KEY_BIAS,
    "attention.self.value.weight": lib.SYN_ENCODER_VALUE,
    "attention.self.value.bias": lib.SYN_ENCODER_VALUE_BIAS,
    "attention.output.dense.weight": lib.SYN_ENCODER_PROJECTION,
    "attention.output.dense.bias": lib.SYN_ENCODER_PROJECTION_BIAS,
    "attention.output.LayerNorm.weight": lib.SYN_ENCODER_ATTENTION_NORM,
    "attention.output.LayerNorm.bias": lib.SYN_ENCODER_ATTENTION_NORM_BIAS,
    "intermediate.dense.weight": lib.SYN_ENCODER_UP,
    "intermediate.dense.bias": lib.SYN_ENCODER_UP_BIAS,
    "output.dense.weight": lib.SYN_ENCODER_DOWN,
    "output.dense.bias": lib.SYN_ENCODER_DOWN_BIAS,
    "output.LayerNorm.weight": lib.SYN_ENCODER_OUTPUT_NORM,
    "output.LayerNorm.bias": lib.SYN_ENCODER_OUTPUT_NORM_BIAS,
}


class Weight(NamedTuple):
    """A tensor's number in the library, its layer, GGUF's number of its type, its bytes."""

    number: int
    layer: int
    type: int
    data: memoryview


def weights(files: EncoderFiles) -> Iterator[Weight]:
    """Every tensor that the encoder has by its configuration.

    Raises:
        LoadFailed: one is missing, or has another shape.
        Unsupported: one is not of a float type.
    """
    config = native_config(files)
    rows, columns = ffi.new("int64_t *"), ffi.new("int64_t *")
    for name, number, layer in _places(files.config):
        check(lib.syn_encoder_shape(config, number, rows, columns))
        tensor = _find(files, name, (rows[0], columns[0]))
        yield Weight(number, layer, _TYPES[tensor.dtype], tensor.data)


def forget_pages(files: EncoderFiles) -> None:
    """Let go of the pages that were read: most of them are copied, and not needed again."""
    mapped = {id(tensor.data.obj): tensor.data.obj for tensor in files.tensors.values()}
    for mapping in mapped.values():
        if isinstance(mapping, mmap.mmap):
            mapping.madvise(mmap.MADV_DONTNEED)


def _places(config: BertConfig) -> Iterator[tuple[str, int, int]]:
    """Every tensor's name, its number in the library, and its layer."""
    for name, number in _WHOLE.items():
        yield name, number, 0
    for layer in range(config.num_hidden_layers):
        for name, number in _LAYER.items():
            yield f"encoder.layer.{layer}.{name}", number, layer


def _find(files: EncoderFiles, name: str, shape: tuple[int, int]) -> SafeTensor:
    tensor = files.tensors.get(name)
    if tensor is None:
        raise LoadFailed(f"the tensor {name} is missing", hint="is this a whole BERT?")
    if tensor.dtype not in _TYPES:
        raise Unsupported(
            f"the tensor {name} has the type {tensor.dtype}", hint="known: " + ", ".join(_TYPES)
        )
    wanted = shape if shape[0] > 1 or len(tensor.shape) == 2 else shape[1:]
    if tuple(tensor.shape) != wanted:
        raise LoadFailed(
            f"the tensor {name} has the shape {list(tensor.shape)}; "
            f"by the configuration it is {list(wanted)}"
        )
    return tensor


def native_config(files: EncoderFiles) -> Any:
    """The encoder's sizes as the library's struct."""
    config = files.config
    return ffi.new(
        "syn_encoder_config *",
        {
            "words": config.vocab_size,
            "positions": config.max_position_embeddings,
            "types": config.type_vocab_size,
            "hidden": config.hidden_size,
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "ffn": config.intermediate_size,
            "eps": config.layer_norm_eps,
            "pooling": _POOLINGS[files.pooling],
            "norm": files.normalise,
        },
    )
