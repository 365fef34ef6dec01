# SPDX-License-Identifier: BUSL-1.1
"""An answer that is nothing but `{"name": ..., "parameters": {...}}`, once or several times."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from mlos_core.synapse.text.tools.parser import Parsed, ToolCall, read_call

MARKER: Final = "<|python_tag|>"
_SPACE: Final = " \t\r\n"
_BETWEEN: Final = _SPACE + ";,"
_DECODER: Final = json.JSONDecoder()


class Llama3Parser:
    """See `ToolParser`. Whether the answer is a call shows in its first character; what stands
    between two calls, or after the last, belongs to nobody.
    """

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._held = ""
        self._plain = False
        self._skipped = _SPACE

    def push(self, text: str) -> Parsed:
        """Take the next piece."""
        if self._plain:
            return Parsed(text, [])
        self._held += text
        if not self._could_be_call():
            return self._give_up([])
        # A call can only be complete where an object ends.
        return self._take() if "}" in text else Parsed("", [])

    def _could_be_call(self) -> bool:
        start = self._held.lstrip(self._skipped)
        return not start or start[0] == "{" or MARKER.startswith(start[: len(MARKER)])

    def _give_up(self, calls: list[ToolCall]) -> Parsed:
        text, self._held, self._plain = self._held, "", True
        return Parsed(text, calls)

    def _take(self) -> Parsed:
        calls: list[ToolCall] = []
        while rest := self._held.lstrip(self._skipped).removeprefix(MARKER).lstrip():
            try:
                value, end = _DECODER.raw_decode(rest)
            except (ValueError, RecursionError):
                break
            call = read_call(value, self._names)
            if call is None:
                return self._give_up(calls)
            calls.append(call)
            self._held, self._skipped = rest[end:], _BETWEEN
            if not self._could_be_call():
                return self._give_up(calls)
        return Parsed("", calls)

    def flush(self) -> Parsed:
        """No more comes."""
        parsed = Parsed("", []) if self._plain else self._take()
        rest, self._held = self._held, ""
        if self._skipped is _BETWEEN and not rest.strip(_BETWEEN):
            rest = ""
        return Parsed(parsed.text + rest, parsed.calls)
