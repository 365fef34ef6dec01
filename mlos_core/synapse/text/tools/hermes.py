# SPDX-License-Identifier: BUSL-1.1
"""`<tool_call>{"name": ..., "arguments": {...}}</tool_call>` in a stream of text."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mlos_core.synapse.text.tools.parser import Parsed, ToolCall, overlap, read_call, read_json

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"


class HermesParser:
    """See `ToolParser`. White space between calls belongs to nobody."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._held = ""
        self._inside = False
        self._after_call = False

    def push(self, text: str) -> Parsed:
        """Take the next piece."""
        self._held += text
        shown: list[str] = []
        calls: list[ToolCall] = []
        while self._step(shown, calls):
            pass
        return Parsed("".join(shown), calls)

    def _step(self, shown: list[str], calls: list[ToolCall]) -> bool:
        """Deal with the next marker; False when more text is needed."""
        marker = CLOSE if self._inside else OPEN
        place = self._held.find(marker)
        if self._inside:
            if place >= 0:
                self._end(self._held[:place], CLOSE, shown, calls)
                self._held = self._held[place + len(CLOSE) :]
            return place >= 0
        if place < 0:
            keep = overlap(self._held, OPEN)
            self._show(self._held[: len(self._held) - keep], shown)
            self._held = self._held[len(self._held) - keep :]
            return False
        self._show(self._held[:place], shown)
        self._held = self._held[place + len(OPEN) :]
        self._inside = True
        return True

    def _show(self, text: str, shown: list[str]) -> None:
        if self._after_call:
            text = text.lstrip()
        if text:
            shown.append(text)
            self._after_call = False

    def _end(self, body: str, close: str, shown: list[str], calls: list[ToolCall]) -> None:
        self._inside = False
        call = read_call(read_json(body), self._names)
        if call is None:
            self._show(OPEN + body + close, shown)
        else:
            calls.append(call)
            self._after_call = True

    def flush(self) -> Parsed:
        """No more comes; a call whose end marker is missing counts if it is whole."""
        shown: list[str] = []
        calls: list[ToolCall] = []
        held, self._held = self._held, ""
        if self._inside:
            self._end(held, "", shown, calls)
        else:
            self._show(held, shown)
        return Parsed("".join(shown), calls)
