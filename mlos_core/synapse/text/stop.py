# SPDX-License-Identifier: BUSL-1.1
"""Stop strings: found across tokens, and nothing of one shown before it is ruled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mlos_core.errors import InvalidInput

MAX_STRINGS: Final = 64
MAX_LENGTH: Final = 1024


class Stopped(NamedTuple):
    """What may be shown now, and the stop string that was met (None: go on)."""

    text: str
    met: str | None


class StopChecker:
    """Holds back text that could be the beginning of a stop string.

    The stop string that begins first wins; of several at one place the longest, as far as
    the text pushed at once shows. Text from there on is dropped.

    Args:
        strings: the stop strings.
        include: show the stop string itself too.

    Raises:
        InvalidInput: there are too many, or one is empty or too long.
    """

    def __init__(self, strings: Sequence[str], *, include: bool = False) -> None:
        if len(strings) > MAX_STRINGS:
            raise InvalidInput(f"{len(strings)} stop strings are more than {MAX_STRINGS}")
        if not all(0 < len(string) <= MAX_LENGTH for string in strings):
            raise InvalidInput(f"a stop string must have 1 to {MAX_LENGTH} characters")
        self._strings = sorted(set(strings), key=len, reverse=True)
        self._longest = len(self._strings[0]) if self._strings else 0
        self._include = include
        self._held = ""

    def push(self, text: str) -> Stopped:
        """Take the next piece of text."""
        if not self._strings:
            return Stopped(text, None)
        text = self._held + text
        found = [(text.find(s), s) for s in self._strings if s in text]
        if found:
            # The longest comes first among those at the same place.
            place, met = min(found, key=lambda hit: hit[0])
            self._held = ""
            return Stopped(text[: place + len(met)] if self._include else text[:place], met)
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return Stopped(text[: len(text) - keep], None)

    def _beginning(self, text: str) -> int:
        """How many characters at the end of `text` could begin a stop string."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-size:]
            if any(string.startswith(end) for string in self._strings):
                return size
        return 0

    def flush(self) -> str:
        """The text that is still held back, when no more comes."""
        held, self._held = self._held, ""
        return held
