# SPDX-License-Identifier: BUSL-1.1
"""One sequence of tokens on its way through the model."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlos_core.synapse.engine.blocks import block_name

Pooling = Literal["last", "mean"]


class State(IntEnum):
    """Where a sequence is."""

    NEW = 0
    WAITING = 1
    RUNNING = 2
    PARKED = 3
    """Paused, without blocks."""
    GONE = 4


class Sequence:
    """Tokens, how many of them are in the KV cache, and in which blocks.

    Args:
        arrival: its place in the order of all; the lower, the earlier served.
        prompt: token ids.
        limit: the most tokens it may ever have, prompt included.
        root: what the names of its blocks start from; None: its blocks are not shared.
        pooling: None for generation; else how its hidden states become one.
        owner: what the engine needs to know it by; not looked at here.
    """

    __slots__ = (
        "arrival",
        "blocks",
        "computed",
        "length",
        "limit",
        "names",
        "owner",
        "paused",
        "pooling",
        "prompt",
        "root",
        "slot",
        "state",
        "tabled",
        "tokens",
    )

    def __init__(
        self,
        arrival: int,
        prompt: Tokens[int] | npt.NDArray[np.int32],
        limit: int,
        root: bytes | None = None,
        pooling: Pooling | None = None,
        owner: Any = None,
    ) -> None:
        self.arrival = arrival
        self.prompt = len(prompt)
        self.length = self.prompt
        self.limit = limit
        # Never moved: the sampler reads it in place.
        self.tokens = np.empty(max(limit, self.prompt), np.int32)
        self.tokens[: self.prompt] = prompt
        self.root = root
        self.pooling = pooling
        self.owner = owner
        self.computed = 0
        self.blocks: list[int] = []
        self.names: list[bytes] = []
        self.slot = -1
        self.tabled = 0
        self.paused = False
        self.state = State.NEW

    @property
    def generated(self) -> int:
        """How many tokens it has beyond the prompt."""
        return self.length - self.prompt

    def append(self, token: int) -> None:
        """Take one more token."""
        self.tokens[self.length] = token
        self.length += 1

    def name_blocks(self, count: int, block_size: int) -> list[bytes]:
        """The names of its first `count` blocks, which must be full of tokens."""
        names = self.names
        for index in range(len(names), count):
            before = names[-1] if names else self.root
            assert before is not None
            part = self.tokens[index * block_size : (index + 1) * block_size]
            names.append(block_name(before, part.tobytes()))
        return names[:count]
