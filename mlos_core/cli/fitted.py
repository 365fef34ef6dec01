# SPDX-License-Identifier: BUSL-1.1
"""A table that leaves out columns where the terminal has no room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement

from mlos_core.cli import render

_ANY_WIDTH: Final = 10_000


class Fitted:
    """A table as `render.table` makes it, of rows by column.

    Args:
        rows: at least one, all with the same columns in the same order.
        spare: columns that may be left out, the first one first.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], spare: Sequence[str]) -> None:
        self._rows = rows
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, spare = list(self._rows[0]), list(self._spare)
        unbounded = options.update(max_width=_ANY_WIDTH)
        while True:
            made = render.table(columns, [[row[name] for name in columns] for row in self._rows])
            wanted = Measurement.get(console, unbounded, made).maximum
            if wanted <= options.max_width or not spare:
                break
            gone = spare.pop(0)
            columns = [name for name in columns if name != gone]
        yield made
