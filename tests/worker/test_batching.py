# SPDX-License-Identifier: BUSL-1.1
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.ipc.messages import BatchPolicy
from mlos_core.worker.batching import Batcher

MS = 1_000_000


@pytest.fixture
def batcher():
    """Four rows at most, 2 ms of waiting at most."""
    return Batcher(BatchPolicy(max_batch_size=4, max_queue_delay_us=2000))


def test_nothing_waits_in_an_empty_batcher(batcher):
    assert batcher.wait_ns(0) is None
    assert batcher.take(0) == []


def test_a_full_batch_runs_at_once(batcher):
    for item in "abcd":
        batcher.add(item, "key", 1, since_ns=0)
    assert batcher.wait_ns(0) == 0
    assert batcher.take(0) == ["a", "b", "c", "d"]
    assert len(batcher) == 0


def test_a_small_batch_waits_for_its_delay_and_no_longer(batcher):
    batcher.add("a", "key", 1, since_ns=10 * MS)
    assert batcher.wait_ns(10 * MS) == 2 * MS
    assert batcher.take(11 * MS) == []
    assert batcher.take(12 * MS) == ["a"]


def test_the_delay_counts_from_the_oldest(batcher):
    batcher.add("a", "key", 1, since_ns=0)
    batcher.add("b", "key", 1, since_ns=MS)
    assert batcher.take(2 * MS) == ["a", "b"]


def test_only_equal_keys_run_together(batcher):
    batcher.add("a", "one", 1, since_ns=0)
    batcher.add("b", "two", 1, since_ns=1)
    batcher.add("c", "one", 1, since_ns=2)
    assert batcher.take(9 * MS) == ["a", "c"]
    assert batcher.take(9 * MS) == ["b"]


def test_rows_count_and_not_requests(batcher):
    batcher.add("a", "key", 3, since_ns=0)
    batcher.add("b", "key", 3, since_ns=0)
    assert batcher.take(0) == ["a"]
    assert batcher.take(0) == []
    assert batcher.take(2 * MS) == ["b"]


def test_a_request_larger_than_a_batch_runs_alone(batcher):
    batcher.add("a", "key", 1, since_ns=0)
    batcher.add("huge", "key", 9, since_ns=0)
    assert batcher.take(0) == ["a"]
    assert batcher.take(0) == ["huge"]


def test_a_deadline_ends_the_waiting_early_enough(batcher):
    batcher.expected_ns = 300_000
    batcher.add("a", "key", 1, since_ns=0, deadline_ns=MS)
    assert batcher.wait_ns(0) == 700_000
    assert batcher.take(700_000) == ["a"]


def test_without_a_delay_nothing_waits():
    batcher = Batcher(BatchPolicy(max_batch_size=4))
    batcher.add("a", "key", 1, since_ns=5)
    assert batcher.wait_ns(5) == 0


def test_what_is_hastened_is_due(batcher):
    batcher.add("a", "key", 1, since_ns=0)
    batcher.hasten()
    assert batcher.take(0) == ["a"]


def test_the_group_that_waited_longest_goes_first(batcher):
    batcher.add("young", "one", 4, since_ns=5)
    batcher.add("old", "two", 4, since_ns=1)
    assert [batcher.take(9), batcher.take(9)] == [["old"], ["young"]]


def test_a_batcher_with_several_batches_is_full(batcher):
    for item in range(16):
        assert not batcher.full
        batcher.add(item, "key", 1, since_ns=0)
    assert batcher.full


requests = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 100), st.integers(0, 200))
)


@given(requests, st.integers(1, 5), st.integers(0, 1))
def test_everything_runs_once_in_order_and_within_the_limit(added, limit, delay_us):
    batcher = Batcher(BatchPolicy(max_batch_size=limit, max_queue_delay_us=delay_us))
    for number, (key, rows, since, deadline) in enumerate(added):
        batcher.add(number, key, rows, since, deadline)
    seen = []
    while (batch := batcher.take(10_000)) != []:
        assert len({added[number][0] for number in batch}) == 1
        assert len(batch) == 1 or sum(added[number][1] for number in batch) <= limit
        seen += batch
    assert sorted(seen) == list(range(len(added)))
    for key in "abc":
        mine = [number for number in seen if added[number][0] == key]
        assert mine == sorted(mine)
    assert batcher.wait_ns(0) is None


@given(requests, st.integers(0, 5000))
def test_what_is_due_and_what_waits_agree(added, now):
    batcher = Batcher(BatchPolicy(max_batch_size=4, max_queue_delay_us=1))
    for number, (key, rows, since, deadline) in enumerate(added):
        batcher.add(number, key, rows, since, deadline)
    while (left := batcher.wait_ns(now)) is not None:
        assert bool(batcher.take(now)) == (left == 0)
        now += left
