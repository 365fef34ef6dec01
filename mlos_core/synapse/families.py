# SPDX-License-Identifier: BUSL-1.1
"""The model families: their configurations from either kind of file.

`families_gguf` reads GGUF's metadata, `families_hf` a config.json; both end in `finish`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, TypeVar

import msgspec

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.config import Activation, ModelConfig
from mlos_core.synapse.wording import clean

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]

FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
WITH_HEAD_NORMS: Final = frozenset({"qwen3", "gemma3"})
WITH_POST_NORMS: Final = frozenset({"gemma3"})
GEMMA_LOCAL_BASE: Final = 10_000.0
GEMMA_PATTERN: Final = 6
"""Every sixth layer of Gemma 3 sees everything, the others a window."""

_ACTIVATIONS: Final[dict[str, Activation]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_MOST: Final = {"layers": 1024, "heads": 1024, "head_dim": 1024}

Read = TypeVar("Read")


def activation(name: str) -> Activation:
    """The activation that Hugging Face calls `name`.

    Raises:
        Unsupported: the engine does not have it.
    """
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    raise Unsupported(
        f"the activation {clean(name, 60)!r} is unknown",
        hint="known are " + ", ".join(_ACTIVATIONS),
    )


def unknown(family: str) -> Unsupported:
    """The error for a family that is not here."""
    return Unsupported(
        f"the model architecture {clean(family, 60)!r} is unknown",
        hint="known are " + ", ".join(FAMILIES),
    )


def convert(values: Any, kind: type[Read], where: str) -> Read:
    """`values` checked and typed as `kind`.

    Raises:
        LoadFailed: a value is missing, of another type or out of range; it is named.
    """
    try:
        return msgspec.convert(values, kind, strict=True)
    except msgspec.ValidationError as err:
        raise LoadFailed(f"{where}: {err}") from None


def finish(config: ModelConfig) -> ModelConfig:
    """`config`, if its numbers fit each other.

    Raises:
        LoadFailed: they do not.
        Unsupported: a model of this kind would run, but not here.
    """
    if config.heads % config.kv_heads:
        raise LoadFailed(
            f"{config.heads} attention heads cannot share {config.kv_heads} key-value heads"
        )
    if config.head_dim % 2:
        raise LoadFailed(f"heads of {config.head_dim} dimensions have no pairs to rotate")
    sizes = {
        "layers": len(config.layers),
        "heads": config.heads,
        "head_dim": config.head_dim,
    }
    for name, most in _MOST.items():
        if sizes[name] > most:
            raise Unsupported(f"{name} is {sizes[name]}, more than {most}")
    numbers = (config.norm_eps, config.attention_scale, config.embedding_scale)
    if not all(map(math.isfinite, (*numbers, config.logit_softcap))):
        raise LoadFailed("the model's configuration has a number that is not finite")
    return config
