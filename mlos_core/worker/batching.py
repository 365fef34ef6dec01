# SPDX-License-Identifier: BUSL-1.1
"""Dynamic batching: which waiting requests run together, and when.

Decisions only: no clock, no tensor, no I/O. Times are nanoseconds of one monotonic clock.

A group holds the requests that may be merged. It is due when it fills a batch (a preferred
size, where there are any), when its oldest member has waited for the policy's delay, or when
waiting longer would let a deadline pass or a time in the queue end. Of the groups that are
due, the one with the first request in line runs: by priority, then by fair turns between
clients (`fairness.py`), whatever its shape. After `PATIENCE` batches that a higher priority
took in a row, one goes to a lower one, so that no request waits for ever.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from mlos_core.ipc.messages import BatchPolicy
from mlos_core.worker.fairness import FairClock
from mlos_core.worker.waiting import Entry, Group, Lines

PATIENCE: Final = 8
LEAST_ROOM: Final = 16

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Waiting requests, grouped by a key that says what may be merged.

    Args:
        policy: sizes in rows, delay, queue and priorities.
        expected_ns: how long one call takes, so that deadlines are met; may be updated.
    """

    def __init__(self, policy: BatchPolicy, expected_ns: int = 0) -> None:
        self.expected_ns = expected_ns
        self.rows = 0
        self._max_rows = policy.max_batch_size
        sizes = policy.preferred_batch_sizes
        self._preferred = frozenset((*sizes, self._max_rows) if sizes else ())
        self._delay_ns = policy.max_queue_delay_us * 1000
        self._refuses = policy.when_full == "reject"
        self._limit = policy.max_queue_size
        kept = policy.max_queue_size or max(4 * policy.max_batch_size, LEAST_ROOM)
        self._room = kept + policy.max_batch_size
        # Whoever comes late may go first, or has to be refused in time: look at all of them.
        self._looks_far = self._refuses or policy.priority_levels > 1 or policy.queue_timeout_us > 0
        self._lines: Lines[Item] | None = Lines() if policy.preserve_ordering else None
        self._groups: dict[Hashable, Group[Item]] = {}
        self._full = 0  # groups with a full batch
        self._waiting = 0
        self._numbers = itertools.count()
        self._clocks: dict[int, FairClock] = {}
        self._levels: dict[int, int] = {}  # how many wait at each
        self._led: dict[int, int] = {}  # the turn in which a level led a batch last
        self._turn = self._passed = 0
        self._first_expiry_ns = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def crowded(self) -> bool:
        """There is no room for another request: something has to run, or to be refused."""
        return self._waiting >= self._room

    @property
    def sated(self) -> bool:
        """Whoever feeds the batcher should run something before it claims more."""
        if self._looks_far:
            return self.crowded and not self._refuses
        return self._full > 0 or self.crowded

    # --- in ---------------------------------------------------------------------------

    def add(
        self,
        item: Item,
        key: Hashable,
        rows: int,
        since_ns: int,
        deadline_ns: int = 0,
        *,
        client: Hashable = None,
        level: int = 1,
        timeout_ns: int = 0,
    ) -> None:
        """Let `item` wait.

        Args:
            item: the request.
            key: equal for requests that may be merged.
            rows: its size in dimension 0.
            since_ns: when its wait began.
            deadline_ns: when its answer is to be there; 0 for none.
            client: who shares fairly with others, and whose order is kept.
            level: its priority; 1 is served first.
            timeout_ns: how long it may wait; 0 for as long as it takes.
        """
        clock = self._clocks.get(level)
        if clock is None:
            clock = self._clocks[level] = FairClock()
        delay = min(self._delay_ns, timeout_ns // 2) if timeout_ns else self._delay_ns
        due = since_ns + delay
        if deadline_ns:
            due = min(due, deadline_ns - self.expected_ns)
        expires = since_ns + timeout_ns if timeout_ns else 0
        tag = clock.stamp(client, rows)
        entry = Entry(level, tag, next(self._numbers), item, key, client, rows, due, expires)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group()
        before = group.rows
        group.add(entry)
        self._full += before < self._max_rows <= group.rows
        self._waiting += 1
        self.rows += rows
        self._levels[level] = self._levels.get(level, 0) + 1
        if expires:
            self._first_expiry_ns = min(self._first_expiry_ns or expires, expires)
        if self._lines is not None:
            self._lines.add(entry)

    # --- when -------------------------------------------------------------------------

    def wait_ns(self, now_ns: int) -> int | None:
        """How long nothing is due: 0 when `take` gives a batch now, None when nothing waits."""
        if not self._groups:
            return None
        if self.crowded:
            return 0
        return min(self._left(group, now_ns) for group in self._groups.values())

    def _left(self, group: Group[Item], now_ns: int) -> int:
        if group.due_ns <= now_ns or group.rows >= self._max_rows:
            return 0
        if self._preferred and self._preferred_part(group.entries):
            return 0
        return group.due_ns - now_ns

    def hasten(self) -> None:
        """No companions will come: everything that waits is due."""
        for group in self._groups.values():
            group.due_ns = 0

    # --- out --------------------------------------------------------------------------

    def take(self, now_ns: int) -> list[Item]:
        """The batch that is due and first in line, in order of service; empty if none is.

        It has at most `max_batch_size` rows unless its only request has more.
        """
        due = self._due(now_ns)
        if not due:
            return []
        head = self._head(due)
        batch = self._fill(head)
        self._turn += 1
        self._led[head.level] = self._turn
        self._clocks[head.level].served(head.tag)
        self._remove(head.key, batch)
        return [entry.item for entry in batch]

    def _due(self, now_ns: int) -> list[Group[Item]]:
        if self.crowded:
            return list(self._groups.values())
        return [group for group in self._groups.values() if not self._left(group, now_ns)]

    def _head(self, due: Sequence[Group[Item]]) -> Entry[Item]:
        """The request that leads the next batch."""
        head = min(group.entries[0] for group in due)
        if max(self._levels) > head.level:
            self._passed += 1
            lower = [e for group in due for e in group.entries if e.level > head.level]
            if self._passed > PATIENCE and lower:
                head = min(lower, key=lambda e: (self._led.get(e.level, 0), e))
                self._passed = 0
        else:
            self._passed = 0
        # What its client asked before comes first where order counts, due or not.
        return head if self._lines is None else self._lines.first(head.client)

    def _fill(self, head: Entry[Item]) -> list[Entry[Item]]:
        """The batch led by `head`: as many companions in order as fit.

        Where a preferred size is filled it ends there; what is left is next in line.
        """
        line = self._groups[head.key].led_by(head)
        if self._lines is not None:
            line = self._lines.without_overtaking(line)
        batch: list[Entry[Item]] = []
        rows = 0
        for entry in line:
            if batch and rows + entry.rows > self._max_rows:
                break
            batch.append(entry)
            rows += entry.rows
        return batch[: self._preferred_part(batch) or len(batch)]

    def _preferred_part(self, entries: Sequence[Entry[Item]]) -> int:
        """How many of `entries` fill the largest preferred size they can fill; 0: none."""
        best = rows = 0
        if self._preferred:
            for count, entry in enumerate(entries, 1):
                rows += entry.rows
                if rows > self._max_rows:
                    break
                if rows in self._preferred:
                    best = count
        return best

    def expired(self, now_ns: int) -> list[Item]:
        """Take out what has waited for longer than it may."""
        if not self._first_expiry_ns or now_ns < self._first_expiry_ns:
            return []
        gone = [e for e in self._entries() if e.expires_ns and e.expires_ns <= now_ns]
        self._remove_all(gone)
        left = (entry.expires_ns for entry in self._entries() if entry.expires_ns)
        self._first_expiry_ns = min(left, default=0)
        return [entry.item for entry in gone]

    def overflow(self, *, running: bool) -> list[Item]:
        """Take out what must be refused: of too many, those that would be served last.

        Args:
            running: a batch was just taken. Otherwise one more may wait, which is about to run.
        """
        limit = self._limit if running else self._room
        gone: list[Item] = []
        while self._refuses and self._waiting > limit:
            last = max(group.entries[-1] for group in self._groups.values())
            self._remove(last.key, [last])
            gone.append(last.item)
        return gone

    def _entries(self) -> Iterator[Entry[Item]]:
        return itertools.chain.from_iterable(group.entries for group in self._groups.values())

    def _remove_all(self, entries: Iterable[Entry[Item]]) -> None:
        by_key: dict[Hashable, list[Entry[Item]]] = {}
        for entry in entries:
            by_key.setdefault(entry.key, []).append(entry)
        for key, some in by_key.items():
            self._remove(key, some)

    def _remove(self, key: Hashable, entries: list[Entry[Item]]) -> None:
        group = self._groups[key]
        was_full = group.rows >= self._max_rows
        group.remove(entries)
        if not group.entries:
            del self._groups[key]
        self._full -= was_full and group.rows < self._max_rows
        self._waiting -= len(entries)
        for entry in entries:
            self.rows -= entry.rows
            self._leave(entry)

    def _leave(self, entry: Entry[Item]) -> None:
        self._levels[entry.level] -= 1
        if not self._levels[entry.level]:
            del self._levels[entry.level]
        if self._lines is not None:
            self._lines.remove(entry)
