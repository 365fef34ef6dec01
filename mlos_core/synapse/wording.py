# SPDX-License-Identifier: BUSL-1.1
"""Messages that quote what a file says, made fit for a terminal and a log."""

from __future__ import annotations

from typing import Final

_MOST: Final = 400


def clean(text: str, most: int = _MOST) -> str:
    """`text` in printable characters, and not too many of them."""
    shown = text if len(text) <= most else text[:most] + "..."
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
