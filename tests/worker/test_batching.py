# SPDX-License-Identifier: BUSL-1.1
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.ipc.messages import BatchPolicy
from mlos_core.worker.batching import PATIENCE, Batcher

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


def test_the_group_that_was_there_first_goes_first(batcher):
    batcher.add("old", "one", 4, since_ns=1)
    batcher.add("young", "two", 4, since_ns=0)
    assert [batcher.take(9), batcher.take(9)] == [["old"], ["young"]]


def test_the_feeder_stops_when_a_batch_is_full(batcher):
    for item in range(4):
        assert not batcher.sated
        batcher.add(item, "key", 1, since_ns=0)
    assert batcher.sated


def test_the_feeder_stops_when_the_room_is_full_of_small_groups(batcher):
    for number in range(20):
        assert not batcher.sated
        batcher.add(number, number, 1, since_ns=0)
    assert batcher.sated
    assert batcher.wait_ns(0) == 0  # with no room for companions nobody need wait for them
    assert batcher.take(0) == [0]
    assert not batcher.sated


# --- preferred sizes --------------------------------------------------------------------


def batch_of(waiting, now=0, since=0, **policy):
    """What runs first of so many requests of one row each."""
    batcher = Batcher(BatchPolicy(**policy))
    for item in range(waiting):
        batcher.add(item, "key", 1, since_ns=since)
    return len(batcher.take(now))


@pytest.mark.parametrize(("waiting", "size"), [(3, 0), (4, 4), (7, 4), (8, 8), (11, 8), (16, 16)])
def test_a_preferred_size_runs_at_once_and_the_largest_there_is(waiting, size):
    policy = {"max_batch_size": 16, "max_queue_delay_us": 1, "preferred_batch_sizes": (4, 8)}
    assert batch_of(waiting, **policy) == size


def test_what_fills_no_preferred_size_runs_when_its_delay_is_over():
    policy = {"max_batch_size": 8, "max_queue_delay_us": 1, "preferred_batch_sizes": (4, 8)}
    assert batch_of(3, now=999, **policy) == 0
    assert batch_of(3, now=1000, **policy) == 3


def test_a_preferred_size_is_met_in_rows():
    policy = BatchPolicy(max_batch_size=8, max_queue_delay_us=1, preferred_batch_sizes=(4,))
    batcher = Batcher(policy)
    for item in "abc":
        batcher.add(item, "key", 2, since_ns=0)
    assert batcher.take(0) == ["a", "b"]
    assert batcher.take(0) == []


# --- the queue --------------------------------------------------------------------------


def limited(size, **more):
    return Batcher(BatchPolicy(max_batch_size=2, max_queue_size=size, when_full="reject", **more))


def test_of_too_many_the_last_in_line_is_refused():
    batcher = limited(3)
    for item in range(6):
        batcher.add(item, "key", 1, since_ns=0)
    assert batcher.overflow(running=False) == [5]  # two are about to run
    assert batcher.take(0) == [0, 1]
    assert batcher.overflow(running=True) == []
    assert len(batcher) == 3


def test_a_client_that_fills_the_queue_is_refused_for_another_one():
    batcher = limited(3)
    for item in range(5):
        batcher.add(item, "key", 1, since_ns=0, client="many")
    batcher.add("only", "key", 1, since_ns=9, client="few")
    assert batcher.overflow(running=False) == [4]


def test_a_lower_priority_is_refused_for_a_higher_one():
    batcher = limited(1, priority_levels=2)
    for item in range(3):
        batcher.add(item, "key", 1, since_ns=0, level=2)
    batcher.add("urgent", "key", 1, since_ns=9, level=1)
    assert batcher.overflow(running=False) == [2]
    assert batcher.take(9) == ["urgent", 0]


def test_a_queue_that_lets_wait_refuses_nothing_and_is_sated():
    batcher = Batcher(BatchPolicy(max_batch_size=2, max_queue_size=3, priority_levels=2))
    for item in range(5):
        assert not batcher.sated
        batcher.add(item, "key", 1, since_ns=0)
    assert batcher.sated
    assert batcher.overflow(running=False) == []


def test_what_waits_for_too_long_is_taken_out():
    batcher = Batcher(BatchPolicy(max_batch_size=2))
    batcher.add("short", "key", 1, since_ns=0, timeout_ns=10)
    batcher.add("any", "key", 1, since_ns=0)
    batcher.add("long", "other", 1, since_ns=0, timeout_ns=20)
    assert batcher.expired(9) == []
    assert batcher.expired(10) == ["short"]
    assert batcher.expired(15) == []
    assert batcher.expired(99) == ["long"]
    assert batcher.take(99) == ["any"]
    assert batcher.expired(10**9) == []


def test_nobody_waits_for_companions_until_its_time_is_over(batcher):
    batcher.add("hasty", "key", 1, since_ns=0, timeout_ns=MS)
    assert batcher.wait_ns(0) == MS // 2
    assert batcher.take(MS // 2) == ["hasty"]


# --- priorities -------------------------------------------------------------------------


def test_a_higher_priority_goes_first_and_takes_lower_ones_along():
    batcher = Batcher(BatchPolicy(max_batch_size=2, priority_levels=3))
    for item, key, level in [("c", "x", 3), ("b", "y", 2), ("a", "x", 1)]:
        batcher.add(item, key, 1, since_ns=0, level=level)
    assert batcher.take(0) == ["a", "c"]
    assert batcher.take(0) == ["b"]


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_no_priority_waits_for_ever(levels):
    batcher = Batcher(BatchPolicy(max_batch_size=1, priority_levels=levels))
    for level in range(2, levels + 1):
        batcher.add(level, "key", 1, since_ns=0, level=level)
    served = []
    for turn in range((PATIENCE + 1) * (levels - 1)):
        batcher.add("urgent", "key", 1, since_ns=turn, level=1)
        served += batcher.take(turn)
    assert served[:PATIENCE] == ["urgent"] * PATIENCE
    assert [item for item in served if item != "urgent"] == list(range(2, levels + 1))


# --- fair turns -------------------------------------------------------------------------


def test_one_request_does_not_wait_for_a_thousand_of_another_client():
    batcher = Batcher(BatchPolicy(max_batch_size=4, max_queue_size=2000))
    for item in range(1000):
        batcher.add(item, "key", 1, since_ns=0, client="many")
    assert batcher.take(0) == [0, 1, 2, 3]
    batcher.add("only", "key", 1, since_ns=5, client="few")
    assert "only" in batcher.take(5)


def test_a_shape_of_its_own_does_not_wait_for_a_thousand_of_another():
    batcher = Batcher(BatchPolicy(max_batch_size=4, max_queue_size=2000))
    for item in range(1000):
        batcher.add(item, "common", 1, since_ns=0, client="many")
    batcher.take(0)
    batcher.add("only", "rare", 1, since_ns=5, client="few")
    assert "only" in batcher.take(5) + batcher.take(5)


def test_large_requests_cost_their_client_as_many_turns():
    batcher = Batcher(BatchPolicy(max_batch_size=4, max_queue_size=100))
    for _ in range(20):
        batcher.add("large", "key", 4, since_ns=0, client="a")
        batcher.add("small", "key", 1, since_ns=0, client="b")
    served = [item for _ in range(8) for item in batcher.take(0)]
    assert served.count("large") == 4
    assert served.count("small") == 16  # as many rows


def test_a_client_that_lies_about_its_time_gains_nothing():
    batcher = Batcher(BatchPolicy(max_batch_size=1, max_queue_size=100))
    for item in range(10):
        batcher.add("liar", "key", 1, since_ns=-(10**15), client="liar")
        batcher.add("honest", "key", 1, since_ns=item, client="honest")
    served = [batcher.take(99)[0] for _ in range(10)]
    assert served.count("honest") == 5


# --- order ------------------------------------------------------------------------------


def test_kept_order_holds_across_shapes_and_priorities():
    policy = BatchPolicy(max_batch_size=4, priority_levels=2, preserve_ordering=True)
    batcher = Batcher(policy)
    for item, key, client, level in [
        (0, "x", "a", 2),
        (1, "y", "a", 1),
        (2, "x", "a", 1),
        ("b", "y", "b", 1),
    ]:
        batcher.add(item, key, 1, since_ns=0, client=client, level=level)
    served = [batcher.take(0) for _ in range(4)]
    assert [item for batch in served for item in batch if item != "b"] == [0, 1, 2]
    assert ["b"] in served or [1, "b"] in served


# --- whatever comes ---------------------------------------------------------------------

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


arrivals = st.lists(
    st.tuples(
        st.sampled_from("xyz"),  # shape
        st.sampled_from("ab"),  # client
        st.integers(1, 5),  # rows
        st.integers(1, 3),  # priority
        st.integers(0, 3),  # batches taken after it
    ),
    max_size=40,
)
policies = st.builds(
    BatchPolicy,
    max_batch_size=st.integers(1, 4),
    max_queue_size=st.just(200),
    preferred_batch_sizes=st.sampled_from([(), (1,), (2, 3)]),
    priority_levels=st.just(3),
    preserve_ordering=st.booleans(),
)


@given(arrivals, policies)
def test_every_policy_serves_each_request_once_in_batches_that_fit(added, policy):
    batcher = Batcher(policy)
    served = []
    for number, (key, client, rows, level, turns) in enumerate(added):
        batcher.add(number, key, rows, number, client=client, level=level)
        served += [batcher.take(number) for _ in range(turns)]
    while len(batcher):
        served.append(batcher.take(10**9))
        assert served[-1]
    assert sorted(n for batch in served for n in batch) == list(range(len(added)))
    for batch in served:
        assert len({added[n][0] for n in batch}) <= 1
        assert len(batch) < 2 or sum(added[n][2] for n in batch) <= policy.max_batch_size
    if policy.preserve_ordering:
        for client in "ab":
            mine = [n for batch in served for n in batch if added[n][1] == client]
            assert mine == sorted(mine)
    assert (batcher.rows, batcher.wait_ns(0)) == (0, None)


@given(arrivals, st.integers(1, 20))
def test_a_full_queue_stays_within_its_limit_and_loses_nothing(added, limit):
    batcher = limited(limit, priority_levels=3)
    seen = []
    for number, (key, client, rows, level, turns) in enumerate(added):
        batcher.add(number, key, rows, number, client=client, level=level)
        seen += batcher.overflow(running=False)
        assert len(batcher) <= limit + 2
        if not turns:
            seen += batcher.take(number)
            seen += batcher.overflow(running=True)
            assert len(batcher) <= limit
    while len(batcher):
        seen += batcher.take(10**9)
    assert sorted(seen) == list(range(len(added)))


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(1, 8))
def test_clients_that_always_ask_get_equal_shares(depths, size):
    """Closed loops of different depths: after many batches nobody has had much more."""
    batcher = Batcher(BatchPolicy(max_batch_size=size, max_queue_size=1000))
    for client, depth in enumerate(depths):
        for _ in range(max(depth, size)):
            batcher.add(client, "key", 1, since_ns=0, client=client)
    served = [0] * len(depths)
    for now in range(100):
        for client in batcher.take(now):
            served[client] += 1
            batcher.add(client, "key", 1, since_ns=now, client=client)
    assert max(served) - min(served) <= 2 * size
