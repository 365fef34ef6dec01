# SPDX-License-Identifier: BUSL-1.1
"""Log probabilities of tokens, in the two forms that OpenAI has for them.

The model's form, per token: `[logprob, text, [[id, logprob, text], ...]]`. A text is a string,
or bytes where the token alone is no UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

Entry = list[Any]
_LOWEST: Final = -9999.0  # JSON has no infinity; vLLM says it so


class TopLogprob(msgspec.Struct):
    """An alternative."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    """A token of the answer and the likeliest at its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    """The form of chat completions."""

    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(msgspec.Struct):
    """The form of completions: lists with an element for each token."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


def chat(entries: Iterable[Entry]) -> ChatLogprobs:
    """The form of chat completions."""
    content = []
    for logprob, text, top in entries:
        token, raw = _both(text)
        others = [TopLogprob(*_token(other, chance)) for _, chance, other in top]
        content.append(TokenLogprob(token, _finite(logprob), raw, others))
    return ChatLogprobs(content)


class TextForm:
    """The form of completions for one choice, piece by piece."""

    def __init__(self) -> None:
        self._offset = 0

    def piece(self, entries: Iterable[Entry]) -> TextLogprobs:
        """The next tokens."""
        piece = TextLogprobs([], [], [], [])
        for logprob, text, top in entries:
            token, _ = _both(text)
            chances = {_both(other)[0]: _finite(chance) for _, chance, other in top}
            chances.setdefault(token, _finite(logprob))
            piece.text_offset.append(self._offset)
            piece.token_logprobs.append(_finite(logprob))
            piece.tokens.append(token)
            piece.top_logprobs.append(chances)
            self._offset += len(token)
        return piece


def _token(text: str | bytes, logprob: float) -> tuple[str, float, list[int]]:
    token, raw = _both(text)
    return token, _finite(logprob), raw


def _both(text: str | bytes) -> tuple[str, list[int]]:
    if isinstance(text, str):
        return text, list(text.encode())
    return text.decode(errors="replace"), list(text)


def _finite(logprob: float) -> float:
    return logprob if logprob > _LOWEST else _LOWEST
