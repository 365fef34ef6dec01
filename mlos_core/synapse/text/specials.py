# SPDX-License-Identifier: BUSL-1.1
"""Finding special tokens in text: the longest one at each place, from left to right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping


class SpecialTokens:
    """A set of literal tokens.

    Made for thousands of them and no cost where none is near: a search for their first
    characters, then one look-up per length that tokens with the same two characters have.

    Args:
        tokens: ids by text; an empty text is left out.
    """

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self._ids = {text: token for text, token in tokens.items() if text}
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {start: sorted(sizes, reverse=True) for start, sizes in lengths.items()}
        firsts = "".join(re.escape(char) for char in sorted({text[0] for text in self._ids}))
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def _at(self, text: str, place: int) -> str | None:
        start = text[place : place + 2]
        for length in self._lengths.get(start, ()):
            if (found := text[place : place + length]) in self._ids:
                return found
        if len(start) == 2 and start[0] in self._ids:
            return start[0]
        return None

    def split(self, text: str) -> Iterator[str | int]:
        """`text` cut into runs without special tokens (str, not empty) and tokens (int)."""
        begin = place = 0
        while self._first is not None and (found := self._first.search(text, place)):
            token = self._at(text, found.start())
            if token is None:
                place = found.start() + 1
                continue
            if found.start() > begin:
                yield text[begin : found.start()]
            yield self._ids[token]
            begin = place = found.start() + len(token)
        if begin < len(text):
            yield text[begin:]
