# SPDX-License-Identifier: BUSL-1.1
import collections
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlos_core.daemon.route import Chooser, assign, check_weights, moves, quotas
from mlos_core.errors import InvalidInput

WEIGHTS = st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 100.0), min_size=1)
COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20))


@pytest.mark.parametrize(
    "weights", [{}, {"1": 0.0}, {"1": -1.0, "2": 2.0}, {"1": math.nan}, {"1": math.inf}]
)
def test_impossible_weights_are_refused(weights):
    with pytest.raises(InvalidInput):
        check_weights(weights)


def test_weights_become_shares_whatever_their_scale():
    assert check_weights({"1": 90, "2": 30, "3": 0}) == {"1": 0.75, "2": 0.25}
    assert check_weights({"1": 1e308, "2": 1e308}) == {"1": 0.5, "2": 0.5}
    assert check_weights({"1": 5e-324}) == {"1": 1.0}


def test_choices_alternate_instead_of_coming_in_runs():
    chooser = Chooser({"old": 3, "new": 1})
    assert [chooser.next() for _ in range(8)] == ["old", "old", "new", "old"] * 2


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 300))
def test_after_any_number_of_choices_each_version_had_its_share(weights, count):
    chooser, shares = Chooser(weights), check_weights(weights)
    had = collections.Counter(chooser.next() for _ in range(count))
    for version, share in shares.items():
        assert abs(had[version] - share * count) < len(shares)


def test_a_channel_goes_to_the_version_furthest_behind():
    weights = {"1": 0.9, "2": 0.1}
    assert assign({}, weights) == "1"
    assert assign({"1": 9}, weights) == "2"
    assert assign({"1": 9, "2": 1, "gone": 5}, weights) == "1"


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 60))
def test_quotas_are_whole_and_near_the_share(weights, total):
    parts, shares = quotas(total, weights), check_weights(weights)
    assert sum(parts.values()) == total
    assert all(abs(parts[v] - share * total) < 1 + 1e-6 for v, share in shares.items())


@settings(deadline=None)
@given(COUNTS, WEIGHTS)
def test_moves_are_the_fewest_that_give_everyone_its_share(counts, weights):
    after = collections.Counter(counts)
    planned = moves(counts, weights)
    for giver, taker in planned:
        after[giver] -= 1
        after[taker] += 1
    goal = quotas(sum(counts.values()), weights, counts)
    assert {v: n for v, n in after.items() if n} == {v: n for v, n in goal.items() if n}
    assert not {giver for giver, _ in planned} & {taker for _, taker in planned}


def test_an_odd_channel_stays_where_it_is():
    assert moves({"1": 1, "2": 2}, {"1": 1, "2": 1}) == []
    assert moves({"1": 2, "2": 1}, {"1": 1, "2": 1}) == []
