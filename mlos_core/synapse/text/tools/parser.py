# SPDX-License-Identifier: BUSL-1.1
"""Tool calls out of a stream of text.

Text outside of calls passes through at once; what could be the beginning of a marker waits
until that is decided. A call comes out whole, when its last character has come. What looks
like a call and is none (no JSON, no name, a name that is no tool's) comes out as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

from mlos_core.errors import InvalidInput


class ToolCall(NamedTuple):
    """One call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class Parsed(NamedTuple):
    """What a piece of text completed."""

    text: str
    calls: list[ToolCall]


class FormatParser(Protocol):
    """A parser of one way of writing calls."""

    def push(self, text: str) -> Parsed:
        """Take the next piece."""
        ...

    def flush(self) -> Parsed:
        """No more comes."""
        ...


def read_call(value: Any, names: Collection[str] | None) -> ToolCall | None:
    """`value` as a call, or None."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = read_json(arguments)
    if not isinstance(arguments, dict) or (names is not None and value["name"] not in names):
        return None
    return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False))


def read_json(text: str) -> Any:
    """The value in `text`, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` could begin `marker`."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0


class ToolParser:
    """The parser for a model's way of writing calls.

    Args:
        form: hermes, llama3, mistral, or "" for text without calls.
        names: the tools there are; None: any name is one.

    Raises:
        InvalidInput: the form is unknown.
    """

    def __init__(self, form: str, names: Collection[str] | None = None) -> None:
        from mlos_core.synapse.text.tools import hermes, llama3, mistral

        makers: dict[str, Any] = {
            "hermes": hermes.HermesParser,
            "llama3": llama3.Llama3Parser,
            "mistral": mistral.MistralParser,
            "": lambda _: None,
        }
        if form not in makers:
            raise InvalidInput(f"the tool format {form!r:.40} is unknown")
        self._parser: FormatParser | None = makers[form](names)

    def push(self, text: str) -> Parsed:
        """Take the next piece of text: what of it may be shown, and the calls it completed."""
        return self._parser.push(text) if self._parser else Parsed(text, [])

    def flush(self) -> Parsed:
        """What was still held back, when no more comes."""
        return self._parser.flush() if self._parser else Parsed("", [])
