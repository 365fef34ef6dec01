# SPDX-License-Identifier: BUSL-1.1
"""What waits: entries, groups of those that may be merged, and the clients' lines."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Entry(NamedTuple, Generic[Item]):
    """One waiting request. Entries compare in the order in which they are to be served:
    by level, by fair tag, by arrival (`number`, which is unique)."""

    level: int
    tag: int
    number: int
    item: Item
    key: Hashable
    client: Hashable
    rows: int
    due_ns: int
    expires_ns: int


class Group(Generic[Item]):
    """Entries that may be merged, sorted. `due_ns` is the earliest of theirs."""

    __slots__ = ("due_ns", "entries", "rows")

    def __init__(self) -> None:
        self.entries: list[Entry[Item]] = []
        self.rows = 0
        self.due_ns = 0

    def add(self, entry: Entry[Item]) -> None:
        """One more."""
        entries = self.entries
        if not entries or entry.due_ns < self.due_ns:
            self.due_ns = entry.due_ns
        if not entries or entries[-1] < entry:
            entries.append(entry)
        else:
            bisect.insort(entries, entry)
        self.rows += entry.rows

    def remove(self, gone: Iterable[Entry[Item]]) -> None:
        """Some less."""
        numbers = {entry.number for entry in gone}
        self.entries = [entry for entry in self.entries if entry.number not in numbers]
        self.rows = sum(entry.rows for entry in self.entries)
        self.due_ns = min((entry.due_ns for entry in self.entries), default=0)

    def led_by(self, head: Entry[Item]) -> Iterator[Entry[Item]]:
        """`head`, then all others in order."""
        if self.entries[0] is head:
            return iter(self.entries)
        return itertools.chain((head,), (e for e in self.entries if e is not head))


class Lines(Generic[Item]):
    """Each client's requests in the order of their arrival, which none may overtake."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[Entry[Item]]] = {}

    def add(self, entry: Entry[Item]) -> None:
        """At the end of its client's line."""
        self._lines.setdefault(entry.client, deque()).append(entry)

    def remove(self, entry: Entry[Item]) -> None:
        """Out of the line, wherever it stood."""
        line = self._lines[entry.client]
        line.remove(entry)
        if not line:
            del self._lines[entry.client]

    def first(self, client: Hashable) -> Entry[Item]:
        """What comes next of a client that waits."""
        return self._lines[client][0]

    def without_overtaking(self, entries: Iterable[Entry[Item]]) -> Iterator[Entry[Item]]:
        """Those of `entries` that, run in this order, overtake nothing."""
        lines: dict[Hashable, Iterator[Entry[Item]]] = {}
        blocked: set[Hashable] = set()
        for entry in entries:
            line = lines.setdefault(entry.client, iter(self._lines[entry.client]))
            if entry.client not in blocked and next(line) is entry:
                yield entry
            else:
                blocked.add(entry.client)
