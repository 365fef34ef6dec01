# SPDX-License-Identifier: BUSL-1.1
"""A model's vocabulary: what each token id stands for, and which ids end an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER: Final = 4
UNUSED: Final = 5
BYTE: Final = 6
"""The kinds of tokens, as GGUF numbers them."""

END_NAMES: Final = frozenset(
    {
        "<|endoftext|>",
        "<|im_end|>",
        "<|end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|eot|>",
        "<|eom|>",
        "<|end_of_turn|>",
        "<end_of_turn>",
        "<turn|>",
        "<|return|>",
        "<EOT>",
        "<eot>",
    }
)
"""Control tokens that end a turn, whatever the model's file says: many files name only one."""


class Vocabulary:
    """Texts and bytes of tokens, converted when asked for: most are never looked at.

    Args:
        size: the number of ids.
        text_of: the token's text as the file has it; None where the id is unused.
        to_bytes: the bytes that a normal token's text stands for.
        literal: ids whose text is meant as it stands (control and user-defined tokens).
        control: ids that are no text and are left out of answers.
    """

    def __init__(
        self,
        size: int,
        text_of: Callable[[int], str | None],
        to_bytes: Callable[[str], bytes],
        *,
        literal: Iterable[int],
        control: Iterable[int],
    ) -> None:
        self.size = size
        self.text_of = text_of
        self.control = frozenset(control)
        self._literal = frozenset(literal) | self.control
        self._to_bytes = to_bytes
        self._bytes: dict[int, bytes] = {}

    def bytes_of(self, token: int) -> bytes:
        """The bytes that `token` adds to the text; empty for an id that means nothing."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._convert(token)
        return known

    def _convert(self, token: int) -> bytes:
        text = self.text_of(token) if 0 <= token < self.size else None
        if text is None:
            return b""
        if token in self._literal:
            return text.encode("utf-8", "replace")
        return self._to_bytes(text)

    def ends(self) -> frozenset[int]:
        """Control tokens that are known by name to end an answer."""
        return frozenset(token for token in self.control if self.text_of(token) in END_NAMES)
