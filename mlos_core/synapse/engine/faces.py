# SPDX-License-Identifier: BUSL-1.1
"""What the engine is between: the face it shows, what computes for it, a model's text side.

`mlos_core.synapse.executor` and `mlos_core.synapse.text` have the real ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from mlos_core.synapse.text.structured import StructuredSpec
from mlos_core.types import BYTES, Signature, TensorSpec

Ints = npt.NDArray[np.int32]

SIGNATURE: Final = Signature(
    inputs=(
        TensorSpec("text", BYTES, (1,), "a prompt in UTF-8", optional=True),
        TensorSpec("tokens", "int32", (-1,), "a prompt as token ids", optional=True),
        TensorSpec("messages", BYTES, (1,), "a chat, a JSON list of messages", optional=True),
    ),
    outputs=(
        TensorSpec("text", BYTES, (-1,), "one answer per choice", optional=True),
        TensorSpec("tokens", "int32", (-1,), "of the first choice", optional=True),
        TensorSpec("embedding", "float32", (-1,), "for the task embed", optional=True),
    ),
    streaming=True,
    tasks=("generate", "chat", "embed", "tokenize"),
)


class Executor(Protocol):
    """What computes; `mlos_core.synapse.executor` has it."""

    vocab_size: int
    context_length: int
    kv_blocks: int

    @property
    def pool(self) -> Any:
        """Its threads as C knows them, or None."""
        ...

    @property
    def block_size(self) -> int:
        """Positions of a block of the cache."""
        ...

    def forward(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints, /
    ) -> npt.NDArray[np.float32]:
        """(wanted, vocabulary) logits; valid until the next call."""
        ...

    def hidden(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints, /
    ) -> npt.NDArray[np.float32]:
        """(wanted, hidden) states after the last norm; valid until the next call."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Detokenizer(Protocol):
    """Tokens in, text out, never a part of a character."""

    def push(self, token: int, /) -> str:
        """The text that can be shown now."""
        ...

    def flush(self) -> str:
        """What is left."""
        ...


class Matcher(Protocol):
    """A grammar on its way through an answer."""

    @property
    def finished(self) -> bool:
        """Nothing but the end may follow."""
        ...

    def mask_into(self, words: npt.NDArray[np.uint32], /) -> None:
        """Set the bits of the tokens that may follow."""
        ...

    def accept(self, token: int, /) -> None:
        """This token follows."""
        ...


class ToolCall(Protocol):
    """One call, complete; `arguments` is JSON."""

    @property
    def name(self) -> str:
        """Of the tool."""
        ...

    @property
    def arguments(self) -> str:
        """An object in JSON."""
        ...


class ToolParser(Protocol):
    """Finds tool calls in a text that comes in pieces."""

    def push(self, piece: str, /) -> tuple[str, Sequence[ToolCall]]:
        """What of the text is for the reader, and the calls that are complete."""
        ...

    def flush(self) -> tuple[str, Sequence[ToolCall]]:
        """No more text will come."""
        ...


class Text(Protocol):
    """Everything between text and token ids of one model."""

    vocab_size: int

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...

    def encode(self, text: str, *, special: bool = True, wrap: bool = True) -> list[int]:
        """Token ids."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Their text."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """What one token stands for."""
        ...

    def detokenizer(self, *, skip_special: bool = True) -> Detokenizer:
        """For one answer."""
        ...

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """A chat as a prompt."""
        ...

    def tool_parser(self, tools: Sequence[Mapping[str, Any]]) -> ToolParser | None:
        """For one answer; None where the form of this model's calls is not known."""
        ...

    def tool_grammar(self, tools: Sequence[Mapping[str, Any]], names: Collection[str]) -> Matcher:
        """An answer that calls one of the named tools."""
        ...

    def grammar(self, spec: StructuredSpec) -> Matcher:
        """An answer of that form."""
        ...
