# SPDX-License-Identifier: BUSL-1.1
"""`[TOOL_CALLS]` followed by a list of calls, or by name and arguments, to the answer's end."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

from mlos_core.synapse.text.tools.parser import (
    Parsed,
    ToolCall,
    overlap,
    read_call,
    read_json,
)

MARKER: Final = "[TOOL_CALLS]"
_NAMED = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(?:\[CALL_ID\][A-Za-z0-9]*)?(?:\[ARGS\])?\s*(?=\{)")
_DECODER: Final = json.JSONDecoder()


class MistralParser:
    """See `ToolParser`. Everything after the first marker is decided at its end."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._held = ""
        self._inside = False

    def push(self, text: str) -> Parsed:
        """Take the next piece."""
        self._held += text
        if self._inside:
            return self._take() if text.rstrip().endswith("]") else Parsed("", [])
        place = self._held.find(MARKER)
        if place < 0:
            keep = overlap(self._held, MARKER)
            shown = self._held[: len(self._held) - keep]
            self._held = self._held[len(shown) :]
            return Parsed(shown, [])
        shown, self._held = self._held[:place], self._held[place + len(MARKER) :]
        self._inside = True
        return Parsed(shown, self._take().calls)

    def _take(self) -> Parsed:
        """A complete list of calls, as soon as its bracket closes."""
        value = read_json(self._held)
        if not isinstance(value, list) or not value:
            return Parsed("", [])
        calls = [read_call(entry, self._names) for entry in value]
        if None in calls:
            return Parsed("", [])
        self._held, self._inside = "", False
        return Parsed("", [call for call in calls if call is not None])

    def flush(self) -> Parsed:
        """No more comes."""
        held, self._held = self._held, ""
        if not self._inside:
            return Parsed(held, [])
        self._inside = False
        calls: list[ToolCall] = []
        for part in held.split(MARKER):
            found = self._read(part)
            if not found:
                return Parsed(MARKER + held, [])
            calls += found
        return Parsed("", calls)

    def _read(self, part: str) -> list[ToolCall]:
        named = _NAMED.match(part)
        if not named:
            value = read_json(part)
            entries = value if isinstance(value, list) else [value]
            calls = [read_call(entry, self._names) for entry in entries]
            return [call for call in calls if call is not None] if None not in calls else []
        try:
            arguments, end = _DECODER.raw_decode(part, named.end())
        except (ValueError, RecursionError):
            return []
        call = read_call({"name": named[1], "arguments": arguments}, self._names)
        return [call] if call is not None and not part[end:].strip() else []
