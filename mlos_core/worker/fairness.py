# SPDX-License-Identifier: BUSL-1.1
"""Fair shares between clients: start-time fair queueing, in rows.

Each request gets a tag when it comes: where its client's earlier rows end, but not before
the tag of what runs now. Served in the order of their tags, clients that ask without pause
get equal numbers of rows, and one that asks rarely finds itself in front: a thousand
waiting requests of one client delay another's only one by a single turn each.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

_MANY: Final = 1024


class FairClock:
    """Virtual time of one queue. Pure: it moves by `served` alone."""

    def __init__(self) -> None:
        self._now = 0
        self._ends: dict[Hashable, int] = {}
        self._prune_at = _MANY

    def stamp(self, client: Hashable, rows: int) -> int:
        """The tag of a request of `client` with that many rows; the lowest tag is served first."""
        tag = max(self._now, self._ends.get(client, 0))
        self._ends[client] = tag + rows
        if len(self._ends) > self._prune_at:
            self._prune()
        return tag

    def served(self, tag: int) -> None:
        """A request with that tag runs: nobody who comes later gets in before it."""
        self._now = max(self._now, tag)

    def _prune(self) -> None:
        """A client whose rows end in the past is like one never seen."""
        self._ends = {client: end for client, end in self._ends.items() if end > self._now}
        self._prune_at = max(_MANY, 2 * len(self._ends))
