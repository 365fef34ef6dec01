# SPDX-License-Identifier: BUSL-1.1
"""Times in buckets: the same ones as in C, and what can be read from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.ipc.histogram import BUCKETS, Times, added, below, from_ns, percentile, since
from mlos_core.ipc.native import lib

EDGES = np.array([from_ns(bucket) for bucket in range(BUCKETS)])


def counted(times):
    buckets, counts = np.unique(np.searchsorted(EDGES, times, "right") - 1, return_counts=True)
    return dict(zip(buckets.tolist(), counts.tolist(), strict=True))


def test_buckets_begin_where_they_do_in_c():
    assert BUCKETS == lib.MLOS_BUCKETS
    assert [from_ns(n) for n in range(BUCKETS)] == [lib.mlos_bucket_from(n) for n in range(BUCKETS)]


@given(st.lists(st.integers(0, 2**41), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_right_to_an_eighth(times, part):
    exact = float(np.percentile(times, part * 100, method="inverted_cdf"))
    found = percentile(counted(times), part, max(times))
    assert found == pytest.approx(exact, rel=1 / 7, abs=32)
    assert found <= max(times)


def test_nothing_counted_has_no_percentile():
    assert percentile({}, 0.5) is None


def test_the_longest_is_told_exactly_where_it_is_known():
    assert percentile(counted([12_345]), 0.5, 12_345) == 12_345
    assert percentile(counted([100, 200, 77_777]), 0.99, 77_777) == 77_777


def test_one_time_is_taken_for_the_middle_of_its_bucket():
    bucket = max(counted([12_345]))
    assert percentile({bucket: 1}, 0.5) == (from_ns(bucket) + from_ns(bucket + 1)) / 2


@given(st.lists(st.integers(0, 2**41)), st.lists(st.integers(0, 2**41)))
def test_an_interval_is_the_difference_of_two_readings(first, then):
    before, now = counted(first), counted(first + then)
    assert since(before, now) == counted(then)


def test_after_a_new_beginning_all_counts_are_new():
    assert since({3: 9}, {3: 2, 4: 1}) == {3: 2, 4: 1}
    assert since({3: 9, 4: 1}, {4: 5}) == {4: 5}


def test_workers_add_up():
    assert added(Times({1: 2}, 40), Times({1: 1, 5: 1}, 170)) == Times({1: 3, 5: 1}, 170)


@given(st.lists(st.integers(0, 2**41)))
def test_below_a_power_of_two_the_count_is_exact(times):
    bounds = [1 << power for power in range(8, 42)]
    assert below(counted(times), bounds) == [sum(t < bound for t in times) for bound in bounds]
