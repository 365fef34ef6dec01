# SPDX-License-Identifier: BUSL-1.1
"""A model's configuration from the metadata of its GGUF file.

Llama files have the rows of q and k permuted so that rotated pairs lie side by side; all
others keep Hugging Face's halves. Mistral files call themselves llama.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import rope
from mlos_core.synapse.config import LayerConfig, ModelConfig, RopeConfig
from mlos_core.synapse.families import (
    GEMMA_LOCAL_BASE,
    GEMMA_PATTERN,
    Count,
    Positive,
    Size,
    convert,
    finish,
    unknown,
)

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
_LARGE_GEMMA_LAYERS = 62  # the 27B, which scales attention by its width per head


class _Metadata(msgspec.Struct, kw_only=True, frozen=True):
    """The keys that count, without the architecture before them."""

    layers: Size = msgspec.field(name="block_count")
    context_length: Size
    hidden: Size = msgspec.field(name="embedding_length")
    intermediate: Size = msgspec.field(name="feed_forward_length")
    heads: Size = msgspec.field(name="attention.head_count")
    kv_heads: Size | None = msgspec.field(name="attention.head_count_kv", default=None)
    key_length: Size | None = msgspec.field(name="attention.key_length", default=None)
    value_length: Size | None = msgspec.field(name="attention.value_length", default=None)
    norm_eps: Positive = msgspec.field(name="attention.layer_norm_rms_epsilon")
    window: Count = msgspec.field(name="attention.sliding_window", default=0)
    rope_base: Positive = msgspec.field(name="rope.freq_base", default=10_000.0)
    local_base: Positive = msgspec.field(name="rope.freq_base_swa", default=GEMMA_LOCAL_BASE)
    rotated: Size | None = msgspec.field(name="rope.dimension_count", default=None)
    scaling: str = msgspec.field(name="rope.scaling.type", default="")
    factor: Positive | None = msgspec.field(name="rope.scaling.factor", default=None)
    old_factor: Positive | None = msgspec.field(name="rope.scale_linear", default=None)
    experts: Count = msgspec.field(name="expert_count", default=0)
    softcap: float = msgspec.field(name="final_logit_softcapping", default=0.0)
    attention_softcap: float = msgspec.field(name="attn_logit_softcapping", default=0.0)
    scale: Positive | None = msgspec.field(name="attention.scale", default=None)

    @property
    def head_dim(self) -> int:
        return self.key_length or self.hidden // self.heads


def config_from_gguf(
    metadata: Mapping[str, Any], vocab_size: int, rope_factors: rope.Frequencies | None
) -> ModelConfig:
    """The configuration. `vocab_size` is the rows of token_embd.weight, `rope_factors` what
    rope_freqs.weight holds.

    Raises:
        LoadFailed: a key is missing or wrong; it is named.
        Unsupported: an architecture, rope scaling or feature that the engine does not have.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str):
        raise LoadFailed("the file has no general.architecture")
    if name not in _ARCHITECTURES:
        raise unknown(name)
    read = _read(metadata, name)
    _refuse(read, name)
    if name == "gemma3":
        if rope_factors is not None:
            raise Unsupported("Gemma 3 with a tensor rope_freqs.weight is unknown")
        return finish(_gemma3(read, metadata, vocab_size))
    values = _frequencies(read)
    if rope_factors is not None:
        values = rope.divide(values, rope_factors)
    return finish(
        ModelConfig(
            family=name,
            # Files of Qwen repeat a window that their models do not use.
            layers=(LayerConfig(read.window if name == "llama" else 0),) * read.layers,
            activation="silu",
            attention_scale=read.scale or 1 / math.sqrt(read.head_dim),
            ropes=(RopeConfig(tuple(values.tolist()), interleaved=name == "llama"),),
            **_sizes(read, vocab_size),
        )
    )


def _read(metadata: Mapping[str, Any], name: str) -> _Metadata:
    known = {field.encode_name for field in msgspec.structs.fields(_Metadata)}
    values = {}
    for key in metadata:
        short = key.removeprefix(name + ".")
        if short != key and short in known:
            value = metadata[key]
            values[short] = value.tolist() if isinstance(value, np.ndarray) else value
    return convert(values, _Metadata, f"the file's {name} keys")


def _refuse(read: _Metadata, name: str) -> None:
    if read.experts:
        raise Unsupported(f"this {name} model is a mixture of experts")
    if read.attention_softcap:
        raise Unsupported("the model caps attention scores, which this engine does not")
    if read.value_length not in (None, read.head_dim):
        raise Unsupported("the model's keys and values differ in length")
    if read.rotated not in (None, read.head_dim):
        raise Unsupported(f"the model rotates {read.rotated} of {read.head_dim} dimensions")


def _sizes(read: _Metadata, vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": read.hidden,
        "heads": read.heads,
        "kv_heads": read.kv_heads or read.heads,
        "head_dim": read.head_dim,
        "intermediate_size": read.intermediate,
        "context_length": read.context_length,
        "norm_eps": read.norm_eps,
        "logit_softcap": read.softcap,
    }


def _frequencies(read: _Metadata) -> rope.Frequencies:
    """Those of full attention, scaled."""
    values = rope.frequencies(read.rope_base, read.head_dim)
    factor = read.factor or read.old_factor
    kind = read.scaling or ("linear" if factor else "none")
    return rope.scale(values, kind, {"factor": factor})


def _gemma3(read: _Metadata, metadata: Mapping[str, Any], vocab_size: int) -> ModelConfig:
    width = read.hidden // read.heads if read.layers == _LARGE_GEMMA_LAYERS else read.head_dim
    local = rope.frequencies(read.local_base, read.head_dim)
    return ModelConfig(
        family="gemma3",
        layers=tuple(
            LayerConfig(window=read.window, rope=1) if windowed else LayerConfig()
            for windowed in _windowed(read, metadata.get("gemma3.attention.sliding_window_pattern"))
        ),
        activation="gelu_tanh",
        attention_scale=read.scale or 1 / math.sqrt(width),
        embedding_scale=math.sqrt(read.hidden),
        ropes=tuple(
            RopeConfig(tuple(values.tolist()), interleaved=False)
            for values in (_frequencies(read), local)
        ),
        **_sizes(read, vocab_size),
    )


def _windowed(read: _Metadata, pattern: Any) -> list[bool]:
    """Which layers have a window: all but every sixth, unless the file says something else."""
    if not read.window:
        return [False] * read.layers
    if isinstance(pattern, np.ndarray):
        if pattern.shape != (read.layers,):
            raise LoadFailed("gemma3.attention.sliding_window_pattern is not one per layer")
        return [bool(each) for each in pattern]
    every = pattern if isinstance(pattern, int) and pattern > 0 else GEMMA_PATTERN
    return [(layer + 1) % every != 0 for layer in range(read.layers)]
