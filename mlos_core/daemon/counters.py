# SPDX-License-Identifier: BUSL-1.1
"""Adding up what workers count. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import reduce
from typing import Final

import msgspec

from mlos_core.ipc.histogram import Times, added
from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import LEVELS, Histogram, Statistics

_OTHERWISE: Final = frozenset({"channels", "pending", "times", "batches", "engine"})
_SUMS: Final = tuple(f for f in WorkerStats.__struct_fields__ if f not in _OTHERWISE)


def add_stats(a: WorkerStats, b: WorkerStats) -> WorkerStats:
    """Two workers of one version, field by field.

    Both look at the same channels, so that of what is `pending` there the greater number
    counts; how many `channels` there are is left to whoever has them in a list.
    """
    return WorkerStats(
        **{field: getattr(a, field) + getattr(b, field) for field in _SUMS},
        pending=max(a.pending, b.pending),
        times=_add_times(a.times, b.times),
        batches=_add_batches(a.batches, b.batches),
        engine=_add_engines(a.engine, b.engine),
    )


def across(versions: Iterable[WorkerStats]) -> WorkerStats:
    """Several versions, each with channels of its own."""
    total, pending = WorkerStats(), 0
    for stats in versions:
        total, pending = add_stats(total, stats), pending + stats.pending
    return msgspec.structs.replace(total, pending=pending)


def settled(stats: WorkerStats) -> WorkerStats:
    """What stays of a worker that is gone: its counters, no levels."""
    engine = {name: value for name, value in stats.engine.items() if name not in LEVELS}
    return msgspec.structs.replace(stats, channels=0, pending=0, running=0, engine=engine)


class Ledger:
    """Counters of workers that are gone, by the version that each served.

    What a version's workers counted is kept while it serves; then it only counts in `total`.
    """

    def __init__(self) -> None:
        self._by_version: dict[str, WorkerStats] = {}
        self._former = WorkerStats()

    def fold(self, version: str, stats: WorkerStats) -> None:
        """A worker of `version` is gone."""
        self._by_version[version] = add_stats(self.of(version), settled(stats))

    def of(self, version: str) -> WorkerStats:
        """What that version's workers had counted."""
        return self._by_version.get(version, WorkerStats())

    def keep(self, versions: Container[str]) -> None:
        """No other versions serve any more."""
        for version in [v for v in self._by_version if v not in versions]:
            self._former = add_stats(self._former, self._by_version.pop(version))

    @property
    def total(self) -> WorkerStats:
        """All of them."""
        return reduce(add_stats, self._by_version.values(), self._former)


def _add_times(a: dict[str, Times], b: dict[str, Times]) -> dict[str, Times]:
    return a | {name: added(a[name], more) if name in a else more for name, more in b.items()}


def _add_batches(
    a: dict[int, tuple[int, int]], b: dict[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    total = dict(a)
    for rows, (calls, ns) in b.items():
        have = total.get(rows, (0, 0))
        total[rows] = (have[0] + calls, have[1] + ns)
    return total


def _add_engines(a: Statistics, b: Statistics) -> Statistics:
    """Name by name; of two histograms with other buckets the second one counts."""
    total = dict(a)
    for name, more in b.items():
        have = total.get(name)
        if isinstance(more, Histogram):
            fits = isinstance(have, Histogram) and have.buckets == more.buckets
            total[name] = _add_histograms(have, more) if fits else more  # type: ignore[arg-type]
        elif not isinstance(have, float | int):
            total[name] = more
        else:
            total[name] = max(have, more) if name.endswith("_perc") else have + more
    return total


def _add_histograms(a: Histogram, b: Histogram) -> Histogram:
    counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
    return Histogram(a.buckets, counts, a.sum + b.sum, a.count + b.count)
