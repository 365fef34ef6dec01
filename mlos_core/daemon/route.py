# SPDX-License-Identifier: BUSL-1.1
"""Weighted routes: which version the next request, or the next channel, gets.

Requests over HTTP are spread one by one, channels as whole ones: a channel is a client, and
what a version gets of them follows the weights as closely as whole numbers can.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping

from mlos_core.errors import InvalidInput


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as shares whose sum is 1; versions of weight 0 are left out.

    Raises:
        InvalidInput: a weight is negative or no number, or all are 0.
    """
    for version, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInput(
                f"the weight of version {version!r} is {weight}", hint="give numbers from 0 on"
            )
    largest = max(weights.values(), default=0.0)
    if not largest:
        raise InvalidInput("no version has a weight", hint="give at least one above 0")
    scaled = {version: weight / largest for version, weight in weights.items() if weight}
    total = math.fsum(scaled.values())
    return {version: weight / total for version, weight in scaled.items()}


class Chooser:
    """Smooth weighted round robin: versions alternate, and after n choices each has had its
    share of n to within one choice per version."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._shares = check_weights(weights)
        self._credit = dict.fromkeys(self._shares, 0.0)

    def next(self) -> str:
        """The version of the next request."""
        for version, share in self._shares.items():
            self._credit[version] += share
        chosen = max(self._credit, key=self._credit.__getitem__)
        self._credit[chosen] -= 1.0
        return chosen


def assign(counts: Mapping[str, int], weights: Mapping[str, float]) -> str:
    """The version that one more channel goes to: the one furthest behind its share.

    Args:
        counts: how many channels each version has.
        weights: as `check_weights` takes them.
    """
    shares = check_weights(weights)
    total = 1 + sum(counts.get(version, 0) for version in shares)
    return max(shares, key=lambda version: shares[version] * total - counts.get(version, 0))


def moves(counts: Mapping[str, int], weights: Mapping[str, float]) -> list[tuple[str, str]]:
    """The fewest moves of a channel, as (from, to), after which all have their shares."""
    goal = quotas(sum(counts.values()), weights, counts)
    versions = {**goal, **counts}
    giving = [v for v in versions for _ in range(counts.get(v, 0) - goal.get(v, 0))]
    taking = [v for v in versions for _ in range(goal.get(v, 0) - counts.get(v, 0))]
    return list(zip(giving, taking, strict=True))


def quotas(
    total: int, weights: Mapping[str, float], have: Mapping[str, int] = types.MappingProxyType({})
) -> dict[str, int]:
    """`total` in whole parts after the weights.

    What is left over goes to the largest rests, and among equal ones to who has most now.
    """
    shares = check_weights(weights)
    exact = {version: share * total for version, share in shares.items()}
    whole = {version: math.floor(value + 1e-9) for version, value in exact.items()}
    by_rest = sorted(exact, key=lambda v: (round(whole[v] - exact[v], 9), -have.get(v, 0)))
    for version in by_rest[: total - sum(whole.values())]:
        whole[version] += 1
    return whole
