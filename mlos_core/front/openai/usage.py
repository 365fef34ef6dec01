# SPDX-License-Identifier: BUSL-1.1
"""Counting tokens as the events go by."""

from __future__ import annotations

from typing import Any

import msgspec


class PromptDetails(msgspec.Struct):
    """`cached_tokens` of the prompt's tokens were not computed anew."""

    cached_tokens: int


class Usage(msgspec.Struct):
    """What an answer cost."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptDetails


class Counter:
    """The tokens of all prompts and choices of one request."""

    def __init__(self) -> None:
        self.prompt = 0
        self.cached = 0
        self.completion = 0

    def add(self, event: dict[str, Any]) -> None:
        """Count one event of the model."""
        self.completion += len(event.get("t", ()))
        if "p" in event:
            self.prompt += event["p"]
            self.cached += event.get("c", 0)

    def usage(self) -> Usage:
        """The counts so far."""
        details = PromptDetails(self.cached)
        return Usage(self.prompt, self.prompt + self.completion, self.completion, details)
