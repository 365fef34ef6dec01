# SPDX-License-Identifier: BUSL-1.1
"""What each event leaves for a successor: which choice got which token.

One note per event of a generation, four bytes: the token in 24 bits, the choice in 8; one
byte where the event belongs to the token before it. The
events themselves follow from the tokens, so a successor computes no answer twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SIZE: Final = 4
CONTINUES: Final = b"+"
MAX_TOKEN: Final = 1 << 24


def note(choice: int, token: int) -> bytes:
    """The note of one event."""
    return (choice << 24 | token).to_bytes(_SIZE, "little")


def read(notes: Sequence[bytes], choices: int, vocab_size: int) -> list[list[int]]:
    """The tokens of each choice, as far as the notes are ones that `note` wrote."""
    tokens: list[list[int]] = [[] for _ in range(choices)]
    for raw in notes:
        if raw == CONTINUES:
            continue
        value = int.from_bytes(raw, "little")
        choice, token = value >> 24, value & (MAX_TOKEN - 1)
        if len(raw) != _SIZE or choice >= choices or token >= vocab_size:
            break
        tokens[choice].append(token)
    return tokens
