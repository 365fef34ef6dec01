# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.synapse.config import ModelConfig
from mlos_core.synapse.engine import Limits

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]

BLOCK: Final = 32
MOST_THREADS: Final = 64
_DTYPE_BYTES: Final = {"bfloat16": 2, "float16": 2, "int8": 1, "float32": 4}
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to the machine or to the model."""

    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    isa: str = ""
    precision: Literal["mixed", "int8", "int16"] = "mixed"
    context: Count | None = None
    kv_memory: str | int = "512MiB"
    kv_blocks: Count | None = None
    kv_dtype: Literal["bfloat16", "float16", "int8", "float32"] = "bfloat16"
    max_num_seqs: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    max_num_batched_tokens: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 512
    mixed_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 20.0
    max_waiting: Annotated[int, msgspec.Meta(ge=128, le=1 << 20)] = 1024
    chat_template: str | None = None
    pooling: Literal["last", "mean"] = "last"
    cache_dir: str | None = None
    prepare_grammars: bool = False

    def limits(self) -> Limits:
        """A step has room for every sequence, and for some of a prompt beside them."""
        least = self.max_num_seqs + BLOCK
        tokens = max(self.max_num_batched_tokens, least)
        return Limits(self.max_num_seqs, tokens, tokens)

    def thread_count(self) -> int:
        """As many as this process may use, unless told."""
        return self.threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)

    def template(self) -> str | None:
        """The text of the chat template file.

        Raises:
            LoadFailed: it cannot be read.
        """
        if self.chat_template is None:
            return None
        try:
            return Path(self.chat_template).read_text()
        except (OSError, UnicodeDecodeError) as err:
            raise LoadFailed(f"the chat template cannot be read: {err}") from err

    def packed(self) -> Path | None:
        """Where packed weights are kept."""
        if self.cache_dir is not None:
            return Path(self.cache_dir) if self.cache_dir else None
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "mlos" / "synapse"

    def context_of(self, config: ModelConfig) -> int:
        """The most tokens of a sequence.

        Raises:
            LoadFailed: more than the model was made for.
        """
        if self.context is None:
            return config.context_length
        if self.context > config.context_length:
            raise LoadFailed(
                f"context is {self.context}; the model was made for {config.context_length}",
                hint="leave the option context out, or lower it",
            )
        return self.context

    def blocks_of(self, config: ModelConfig) -> int:
        """How many blocks the KV cache has: no more than can be used at once.

        Raises:
            LoadFailed: the memory does not hold one.
        """
        if self.kv_blocks is not None:
            return self.kv_blocks
        per_token = 2 * len(config.layers) * config.kv_heads * config.head_dim
        size = per_token * BLOCK * _DTYPE_BYTES[self.kv_dtype]
        blocks = size_of(self.kv_memory) // size
        if blocks < 1:
            raise LoadFailed(
                f"kv_memory is {self.kv_memory}; one block of {BLOCK} tokens takes {size} bytes"
            )
        return min(blocks, self.max_num_seqs * -(-self.context_of(config) // BLOCK))


def size_of(text: str | int) -> int:
    """Bytes: a number, or one with a unit like `512MiB` or `2G` (powers of 1024).

    Raises:
        LoadFailed: it is neither.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(text).lower())
    if found is None:
        raise LoadFailed(f"kv_memory is {text!r}, not a size", hint="use a size like 512MiB")
    return int(float(found[1]) * _UNITS[found[2]])
