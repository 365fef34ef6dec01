# SPDX-License-Identifier: BUSL-1.1
"""One answer of a chat model: asking for it, its text as it comes, and how fast it came."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.client import Model, Stream

Message = dict[str, Any]
"""`{"role": "user", "content": "..."}`, as in OpenAI's interface."""


def ask(
    model: Model, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
) -> Stream:
    """The stream of events that answers `messages`; closing it cancels the request."""
    encoded = np.empty(1, dtype=object)
    encoded[0] = msgspec.json.encode(messages)
    return model.stream({"messages": encoded}, parameters=parameters, timeout=timeout)


CANCELLED: Final = "cancelled"
"""The end of an answer that nobody wanted to go on; else what the model says."""


class Speed(msgspec.Struct, frozen=True):
    """What an answer took: seconds, and tokens per second after the first."""

    tokens: int
    prompt_tokens: int
    cached_tokens: int
    first_token_s: float
    tokens_per_second: float

    def __str__(self) -> str:
        parts = [f"{self.tokens} token{'s' * (self.tokens != 1)}"]
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:.0f} tok/s")
        if self.tokens:
            parts.append(f"first after {self.first_token_s * 1000:.0f} ms")
        cached = f" ({self.cached_tokens} cached)" if self.cached_tokens else ""
        return ", ".join(parts) + f"; prompt {self.prompt_tokens}{cached}"


class Answer:
    """What has come of an answer so far. Only the first choice is looked at."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.text = ""
        self.finish = ""
        self.tool_calls: list[Any] = []
        self._clock = clock
        self._start = clock()
        self._first = self._last = self._start
        self._tokens = self._at_first = 0
        self._prompt = self._cached = 0

    def take(self, event: Any) -> str:
        """Take an event in; the text it adds."""
        if not isinstance(event, dict):
            return ""
        self._prompt = event.get("p", self._prompt)
        self._cached = event.get("c", self._cached)
        if event.get("i", 0):
            return ""
        self._count(len(event.get("t", ())))
        for call in event.get("tc") or ():
            self._call(call)
        self.finish = event.get("f") or self.finish
        piece = str(event.get("s", ""))
        self.text += piece
        return piece

    def _call(self, call: Any) -> None:
        """A call, or what goes on with the arguments of the last one."""
        if "name" in call or not self.tool_calls:
            self.tool_calls.append(dict(call))
        else:
            self.tool_calls[-1]["arguments"] += call["arguments"]

    def _count(self, tokens: int) -> None:
        if not tokens:
            return
        self._last = self._clock()
        if not self._tokens:
            self._first, self._at_first = self._last, tokens
        self._tokens += tokens

    def speed(self) -> Speed:
        """How fast it came."""
        later, span = self._tokens - self._at_first, self._last - self._first
        return Speed(
            tokens=self._tokens,
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            first_token_s=round(self._first - self._start, 6),
            tokens_per_second=round(later / span, 2) if later and span > 0 else 0.0,
        )
