# SPDX-License-Identifier: BUSL-1.1
"""Times in buckets, as the data plane counts them (`csrc/ipc/histogram.h`).

There are eight buckets to each power of two, so that a bucket is at most an eighth of what it
counts, from 256 ns to 73 minutes, and linear ones below. Counts add up and subtract: percentiles
of several workers, or of the last second, come out as exact as those of one worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

BUCKETS: Final = 280
_UNIT: Final = 5
_STEPS: Final = 3


class Times(msgspec.Struct, frozen=True):
    """How many times fell into each bucket (empty ones are left out), and the longest in ns."""

    counts: dict[int, int] = {}
    max_ns: int = 0


def from_ns(bucket: int) -> int:
    """The shortest time in nanoseconds that `bucket` counts, which is where the one before ends."""
    steps = 1 << _STEPS
    if bucket < steps:
        return bucket << _UNIT
    return (steps + bucket % steps) << (bucket // steps + _UNIT - 1)


def added(a: Times, b: Times) -> Times:
    """Both together."""
    counts = dict(a.counts)
    for bucket, count in b.counts.items():
        counts[bucket] = counts.get(bucket, 0) + count
    return Times(counts, max(a.max_ns, b.max_ns))


def since(before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    """What `now` counts and `before` did not. Where counts were lost, they began anew."""
    if any(count > now.get(bucket, 0) for bucket, count in before.items()):
        return dict(now)
    gained = {bucket: count - before.get(bucket, 0) for bucket, count in now.items()}
    return {bucket: count for bucket, count in gained.items() if count}


def percentile(counts: Mapping[int, int], part: float, max_ns: int | None = None) -> float | None:
    """The time in nanoseconds that `part` (0.5: the median) of all do not exceed.

    Inside its bucket it is interpolated, so it is right to an eighth of itself. `max_ns`, where
    it is known, is the longest of all. `None` if nothing was counted.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(part * total))
    if rank == total and max_ns is not None:
        return float(max_ns)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            break
    start, end = from_ns(bucket), from_ns(bucket + 1)
    value = end - (seen - rank + 0.5) / counts[bucket] * (end - start)
    return value if max_ns is None else min(value, float(max_ns))


def below(counts: Mapping[int, int], bounds_ns: Sequence[int]) -> list[int]:
    """How many were shorter than each of the ascending `bounds_ns`.

    Exact where a bound is one of `from_ns`: every power of two from 256 is.
    """
    found: list[int] = []
    ordered: Iterable[tuple[int, int]] = sorted(counts.items())
    for bound in bounds_ns:
        found.append(sum(count for bucket, count in ordered if from_ns(bucket + 1) <= bound))
    return found
