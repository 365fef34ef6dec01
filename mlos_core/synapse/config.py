# SPDX-License-Identifier: BUSL-1.1
"""What a decoder model is: every number the executor needs, none of where it came from."""

from __future__ import annotations

from typing import Literal

import msgspec

Activation = Literal["silu", "gelu_tanh"]


class RopeConfig(msgspec.Struct, frozen=True):
    """A rotary position embedding.

    `frequencies` are the inverse frequencies, rotated dimensions / 2 of them, already scaled.
    Pair i is (2i, 2i + 1) when `interleaved`, else (i, i + half the dimensions).
    """

    frequencies: tuple[float, ...]
    interleaved: bool


class LayerConfig(msgspec.Struct, frozen=True):
    """One block: how far its attention sees back (0: all the way), and which rope it uses."""

    window: int = 0
    rope: int = 0


class ModelConfig(msgspec.Struct, frozen=True):
    """A decoder-only transformer with RMS norms, rope and a gated feed-forward.

    Norm weights are used as they are stored: a loader has added what a family adds to them.
    `attention_scale` multiplies q·k. `logit_softcap` of 0 is none.
    """

    family: str
    vocab_size: int
    hidden_size: int
    layers: tuple[LayerConfig, ...]
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    norm_eps: float
    activation: Activation
    attention_scale: float
    ropes: tuple[RopeConfig, ...]
    embedding_scale: float = 1.0
    logit_softcap: float = 0.0
