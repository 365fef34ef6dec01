# SPDX-License-Identifier: BUSL-1.1
"""Tensor names: what a model must have, and what Hugging Face calls it.

Canonical names are GGUF's (`blk.0.attn_q.weight`); shapes are [outputs, inputs], vectors
[1, n].
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mlos_core.errors import LoadFailed
from mlos_core.synapse.config import ModelConfig
from mlos_core.synapse.families import WITH_HEAD_NORMS, WITH_POST_NORMS

Shape = tuple[int, int]

ROPE_FACTORS: Final = "rope_freqs.weight"
OUTPUT: Final = "output.weight"
EMBEDDING: Final = "token_embd.weight"

_TOP: Final = {
    "model.embed_tokens.weight": EMBEDDING,
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": OUTPUT,
}
_PARTS: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA_PARTS: Final = _PARTS | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# Where files with more than a language model in them keep it.
_PREFIXES: Final = ("language_model.model.", "model.language_model.")
_HEAD: Final = "language_model.lm_head."
# Not of the language model, or computed anew.
_IGNORED: Final = re.compile(
    r"(model\.)?(vision_tower|multi_modal_projector)\..*|.*\.rotary_emb\.inv_freq"
)
_LAYER: Final = re.compile(r"model\.layers\.(\d{1,4})\.(.+)\.(weight|bias)")


def canonical(name: str, family: str) -> str | None:
    """The canonical name of what Hugging Face calls `name`; None: not of the language model.

    Raises:
        LoadFailed: the model would need it, and this engine does not know what it is.
    """
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = "model." + name.removeprefix(prefix)
    if name.startswith(_HEAD):
        name = "lm_head." + name.removeprefix(_HEAD)
    if name in _TOP:
        return _TOP[name]
    if _IGNORED.fullmatch(name):
        return None
    parts = _GEMMA_PARTS if family in WITH_POST_NORMS else _PARTS
    if (found := _LAYER.fullmatch(name)) and found[2] in parts:
        return f"blk.{int(found[1])}.{parts[found[2]]}.{found[3]}"
    raise unused([name])


def unused(names: Iterable[str]) -> LoadFailed:
    """The error for tensors that a model has and this engine would leave out."""
    shown = ", ".join(sorted(names)[:3])
    return LoadFailed(
        f"the file has tensors that models of this family do not have: {shown}",
        hint="is the architecture in its configuration the right one?",
    )


def needed(config: ModelConfig) -> dict[str, Shape]:
    """What a model of that configuration cannot do without."""
    shapes = {
        EMBEDDING: (config.vocab_size, config.hidden_size),
        "output_norm.weight": (1, config.hidden_size),
    }
    layer = _layer(config)
    for index in range(len(config.layers)):
        shapes |= {f"blk.{index}.{part}.weight": shape for part, shape in layer.items()}
    return shapes


def optional(config: ModelConfig) -> dict[str, Shape]:
    """What a model of that configuration may have: a head of its own, biases of q, k and v."""
    shapes = {OUTPUT: (config.vocab_size, config.hidden_size)}
    layer = _layer(config)
    for index in range(len(config.layers)):
        for part in ("attn_q", "attn_k", "attn_v"):
            shapes[f"blk.{index}.{part}.bias"] = (1, layer[part][0])
    return shapes


def _layer(config: ModelConfig) -> dict[str, Shape]:
    """The weights of one block."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {
        "attn_norm": (1, hidden),
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_norm": (1, hidden),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    if config.family in WITH_HEAD_NORMS:
        shapes |= {"attn_q_norm": (1, config.head_dim), "attn_k_norm": (1, config.head_dim)}
    if config.family in WITH_POST_NORMS:
        shapes |= {"post_attention_norm": (1, hidden), "post_ffw_norm": (1, hidden)}
    return shapes
