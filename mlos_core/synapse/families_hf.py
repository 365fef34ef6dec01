# SPDX-License-Identifier: BUSL-1.1
"""A model's configuration from a Hugging Face config.json, old or new in form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import rope
from mlos_core.synapse.config import LayerConfig, ModelConfig, RopeConfig
from mlos_core.synapse.families import (
    GEMMA_LOCAL_BASE,
    GEMMA_PATTERN,
    Count,
    Positive,
    Size,
    activation,
    convert,
    finish,
    unknown,
)

_FAMILIES: Final = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
}
# What transformers takes for granted where a Gemma 3 file says nothing.
_GEMMA_DEFAULTS: Final = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": 1e6,
    "query_pre_attn_scalar": 256,
    "tie_word_embeddings": True,
}
Attention = Literal["full_attention", "sliding_attention"]
Object = dict[str, Any]


class _Config(msgspec.Struct, frozen=True):
    """The entries that count, and what transformers takes for granted."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    max_position_embeddings: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    rms_norm_eps: Positive = 1e-6
    hidden_act: str = "silu"
    hidden_activation: str | None = None
    rope_theta: Positive = 10_000.0
    rope_local_base_freq: Positive = GEMMA_LOCAL_BASE
    rope_scaling: Object | None = None
    rope_parameters: Object | None = None
    partial_rotary_factor: float = 1.0
    sliding_window: Count | None = None
    use_sliding_window: bool = False
    max_window_layers: Count = 28
    sliding_window_pattern: Size = GEMMA_PATTERN
    layer_types: list[Attention] | None = None
    query_pre_attn_scalar: Positive | None = None
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    use_bidirectional_attention: bool = False
    tie_word_embeddings: bool = False
    quantization_config: Object | None = None

    @property
    def dimensions(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


class HfModel(msgspec.Struct, frozen=True):
    """A configuration, and whether the output is the embedding used again."""

    config: ModelConfig
    tied: bool


def model_from_hf(values: Mapping[str, Any]) -> HfModel:
    """The configuration in the object of a config.json.

    Raises:
        LoadFailed: an entry is missing or wrong; it is named.
        Unsupported: an architecture, rope, activation or feature that the engine does not have.
    """
    name = values.get("model_type")
    if not isinstance(name, str) or name not in _FAMILIES:
        raise unknown(str(name))
    family = _FAMILIES[name]
    read = _read(values, family)
    _refuse(read)
    config = ModelConfig(
        family=family,
        vocab_size=read.vocab_size,
        hidden_size=read.hidden_size,
        layers=_layers(read, family),
        heads=read.num_attention_heads,
        kv_heads=read.num_key_value_heads or read.num_attention_heads,
        head_dim=read.dimensions,
        intermediate_size=read.intermediate_size,
        context_length=read.max_position_embeddings,
        norm_eps=read.rms_norm_eps,
        activation=activation(read.hidden_activation or read.hidden_act),
        attention_scale=1 / math.sqrt(read.query_pre_attn_scalar or read.dimensions),
        ropes=_ropes(read, family),
        embedding_scale=math.sqrt(read.hidden_size) if family == "gemma3" else 1.0,
        logit_softcap=read.final_logit_softcapping or 0.0,
    )
    return HfModel(finish(config), read.tie_word_embeddings)


def _read(values: Mapping[str, Any], family: str) -> _Config:
    """The entries of the language model: those of a multimodal one are a level down."""
    inner = values.get("text_config")
    if inner is not None and not isinstance(inner, dict):
        raise LoadFailed("config.json: text_config is no object")
    merged = dict(values) | (inner or {})
    if family == "gemma3":
        merged = {**_GEMMA_DEFAULTS, **merged}
    return convert(merged, _Config, "config.json")


def _refuse(read: _Config) -> None:
    if read.quantization_config is not None:
        method = read.quantization_config.get("quant_method")
        raise Unsupported(
            f"the weights are quantised by {method!r}", hint="use a GGUF file of the model"
        )
    if read.attn_logit_softcapping:
        raise Unsupported("the model caps attention scores, which this engine does not")
    if read.use_bidirectional_attention:
        raise Unsupported("the model's attention is bidirectional")


def _layers(read: _Config, family: str) -> tuple[LayerConfig, ...]:
    """Windows are Mistral's everywhere, and a matter of the layer for Qwen and Gemma."""
    count, window = read.num_hidden_layers, read.sliding_window or 0
    if family == "llama" or (family.startswith("qwen") and not read.use_sliding_window):
        window = 0
    if not window:
        return (LayerConfig(),) * count
    if family == "mistral":
        return (LayerConfig(window=window),) * count
    local = LayerConfig(window=window, rope=1 if family == "gemma3" else 0)
    return tuple(local if windowed else LayerConfig() for windowed in _windowed(read, family))


def _windowed(read: _Config, family: str) -> list[bool]:
    layers = range(read.num_hidden_layers)
    if read.layer_types is not None:
        if len(read.layer_types) != len(layers):
            raise LoadFailed("config.json: layer_types has not one entry per layer")
        return [kind == "sliding_attention" for kind in read.layer_types]
    if family == "gemma3":
        return [(layer + 1) % read.sliding_window_pattern != 0 for layer in layers]
    return [layer >= read.max_window_layers for layer in layers]


def _ropes(read: _Config, family: str) -> tuple[RopeConfig, ...]:
    """That of full attention; for Gemma 3 also that of windows."""
    given = read.rope_parameters or {}
    if family != "gemma3":
        return (_rope(read, read.rope_theta, given or read.rope_scaling or {}),)
    # A layer type's own parameters in new files, bases beside each other in old ones.
    full = given.get("full_attention") or read.rope_scaling or {}
    local = given.get("sliding_attention") or {}
    return (_rope(read, read.rope_theta, full), _rope(read, read.rope_local_base_freq, local))


def _rope(read: _Config, base: float, options: Any) -> RopeConfig:
    if not isinstance(options, dict):
        raise LoadFailed("config.json: the rope parameters are no object")
    base = convert(options.get("rope_theta", base), float, "config.json: rope_theta")
    partial = options.get("partial_rotary_factor", read.partial_rotary_factor)
    if partial != 1:
        raise Unsupported(f"the model rotates only {partial!r} of each head's dimensions")
    if not 0 < base <= 1e12:
        raise LoadFailed(f"config.json: rope_theta is {base!r} and no positive number")
    kind = options.get("rope_type", options.get("type", "default"))
    values = rope.scale(rope.frequencies(base, read.dimensions), str(kind), options)
    return RopeConfig(tuple(values.tolist()), interleaved=False)
