# SPDX-License-Identifier: BUSL-1.1
"""How long work reports how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""`progress(task, done, total)`, in bytes; `total` is 0 while it is unknown."""


def silent(task: str, done: int, total: int) -> None:
    """Nobody listens."""
