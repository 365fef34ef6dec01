# SPDX-License-Identifier: BUSL-1.1
"""Dynamic batching: which waiting requests run together, and when.

Decisions only: no clock, no tensor, no I/O. Times are nanoseconds of one monotonic clock.
A group is run when it is full, when its oldest member has waited for the policy's delay,
or when waiting longer would let a member's deadline pass. Groups that are due run in the
order of their oldest members, so no shape can starve another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from mlos_core.ipc.messages import BatchPolicy

Item = TypeVar("Item")


class _Group(Generic[Item]):
    __slots__ = ("due_ns", "items", "rows", "since_ns")

    def __init__(self) -> None:
        self.items: deque[tuple[Item, int, int, int]] = deque()
        self.rows = 0
        self.since_ns = 0
        self.due_ns = 0


class Batcher(Generic[Item]):
    """Waiting requests, grouped by a key that says what may be merged.

    Args:
        policy: the size in rows of a full batch, and the longest wait for companions.
        expected_ns: how long one call takes, so that deadlines are met; may be updated.
    """

    def __init__(self, policy: BatchPolicy, expected_ns: int = 0) -> None:
        self.expected_ns = expected_ns
        self._max_rows = policy.max_batch_size
        self._delay_ns = policy.max_queue_delay_us * 1000
        self._groups: dict[Hashable, _Group[Item]] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def full(self) -> bool:
        """Enough waits: whoever feeds the batcher should run something first."""
        return self._waiting >= 4 * self._max_rows

    def add(
        self, item: Item, key: Hashable, rows: int, since_ns: int, deadline_ns: int = 0
    ) -> None:
        """Let `item` wait.

        Args:
            item: the request.
            key: equal for requests that may be merged.
            rows: its size in dimension 0.
            since_ns: when its wait began.
            deadline_ns: 0 for none.
        """
        group = self._groups.setdefault(key, _Group())
        group.items.append((item, rows, since_ns, deadline_ns))
        self._waiting += 1
        self._measure(group)

    def _measure(self, group: _Group[Item]) -> None:
        group.rows = sum(rows for _, rows, _, _ in group.items)
        group.since_ns = min(since for _, _, since, _ in group.items)
        deadlines = [deadline - self.expected_ns for _, _, _, deadline in group.items if deadline]
        group.due_ns = min([group.since_ns + self._delay_ns, *deadlines])

    def wait_ns(self, now_ns: int) -> int | None:
        """How long nothing is due: 0 when `take` gives a batch now, None when nothing waits."""
        if not self._groups:
            return None
        return min(self._left(group, now_ns) for group in self._groups.values())

    def _left(self, group: _Group[Item], now_ns: int) -> int:
        return 0 if group.rows >= self._max_rows else max(0, group.due_ns - now_ns)

    def hasten(self) -> None:
        """No companions will come: everything that waits is due."""
        for group in self._groups.values():
            group.due_ns = 0

    def take(self, now_ns: int) -> list[Item]:
        """The batch that is due and has waited longest, in order of arrival; empty if none is.

        It has at most `max_batch_size` rows unless its only request has more.
        """
        due = [key for key, group in self._groups.items() if not self._left(group, now_ns)]
        if not due:
            return []
        key = min(due, key=lambda key: self._groups[key].since_ns)
        return self._cut(key)

    def _cut(self, key: Hashable) -> list[Item]:
        group = self._groups[key]
        batch: list[Item] = []
        rows = 0
        while group.items and (not batch or rows + group.items[0][1] <= self._max_rows):
            item, size, _, _ = group.items.popleft()
            batch.append(item)
            rows += size
        self._waiting -= len(batch)
        if group.items:
            self._measure(group)
        else:
            del self._groups[key]
        return batch
