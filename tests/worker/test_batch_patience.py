# SPDX-License-Identifier: BUSL-1.1
"""Whether to wait a little for the companions of what is there."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlos_core.worker.anticipation import Anticipation, Costs

US = 1000


def costs_of(fixed, row, sizes=(1, 8, 32, 16)):
    costs = Costs()
    for rows in sizes:
        costs.learn(rows, fixed + row * rows)
    return costs


@pytest.fixture
def crowd():
    """Calls cost 1 ms and 50 µs for each row; a batch has 32 rows at most."""
    return Anticipation(32, costs_of(1000 * US, 50 * US))


def after_a_call(crowd, rows, ended=0):
    crowd.ran(rows, 0, ended)
    return crowd


def test_costs_are_read_off_calls_of_several_sizes():
    costs = costs_of(1000 * US, 50 * US)
    assert costs.fixed_ns == pytest.approx(1000 * US)
    assert costs.row_ns == pytest.approx(50 * US)
    assert costs.expected_ns(4) == pytest.approx(1200 * US, rel=0.01)


def test_costs_stay_known_while_all_calls_are_alike():
    costs = costs_of(1000 * US, 50 * US)
    for _ in range(1000):
        costs.learn(32, 2600 * US)
    assert costs.fixed_ns == pytest.approx(1000 * US, rel=0.05)


def test_costs_follow_a_model_that_gets_slower():
    costs = costs_of(1000 * US, 50 * US)
    for turn in range(200):
        rows = 1 + turn % 8
        costs.learn(rows, 3000 * US + 10 * US * rows)
    assert costs.fixed_ns == pytest.approx(3000 * US, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 1 << 16), st.integers(0, 10**12)), min_size=1))
@example([(9, 0), (41, 115)])
def test_costs_are_never_negative(calls):
    costs = Costs()
    for rows, took in calls:
        costs.learn(rows, took)
    assert costs.fixed_ns >= 0
    assert costs.row_ns >= 0


def test_before_the_first_call_nobody_is_expected(crowd):
    assert crowd.is_alone(5)
    assert crowd.left_ns(1, 5) == 0


def test_as_many_are_awaited_as_there_were(crowd):
    after_a_call(crowd, 32)
    assert not crowd.is_alone(1)
    assert crowd.left_ns(31, 10) > 0
    assert crowd.left_ns(32, 10) == 0


def test_who_waited_during_a_call_is_of_the_crowd(crowd):
    crowd.ran(1, 0, ended_ns=1000)
    for _ in range(7):
        crowd.came(1, submitted_ns=500)
    crowd.came(1, submitted_ns=1001)  # one who was just answered
    assert crowd.left_ns(7, 1100) > 0
    assert crowd.left_ns(8, 1100) == 0


def test_no_more_is_awaited_than_fits_a_batch(crowd):
    after_a_call(crowd, 64)
    assert crowd.left_ns(32, 0) == 0


def test_the_wait_is_an_eighth_of_the_call_and_ends(crowd):
    after_a_call(crowd, 32)
    left = crowd.left_ns(16, 0)
    assert left == pytest.approx(2600 * US / 8, rel=0.01)
    assert crowd.left_ns(20, left - 1) == 1
    assert crowd.left_ns(20, left) == 0


def test_the_wait_is_no_longer_than_the_call_that_it_saves():
    crowd = after_a_call(Anticipation(32, costs_of(20 * US, 50 * US)), 32)
    assert crowd.left_ns(16, 0) == pytest.approx(20 * US, rel=0.01)


def test_where_rows_are_the_whole_price_nobody_waits():
    crowd = after_a_call(Anticipation(32, costs_of(0, 50 * US)), 32)
    assert crowd.left_ns(1, 0) == 0


def waits(crowd, back, turns=400):
    """How many of the turns lingered: of 32 clients, `back` come back in time, the others
    during the call."""
    lingered = 0
    for turn in range(turns):
        now = turn * 10_000 * US
        if crowd.left_ns(back, now):
            lingered += 1
            assert crowd.left_ns(back, now + 10_000 * US) == 0
        crowd.ran(back, 0, now)
        crowd.came(32 - back, now - 1)
    return lingered


def test_waiting_that_does_not_pay_becomes_rare(crowd):
    after_a_call(crowd, 32)
    assert 1 <= waits(crowd, back=31) - 6 <= 400 // 64 + 1


def test_waiting_that_pays_again_comes_back(crowd):
    after_a_call(crowd, 32)
    waits(crowd, back=31)
    for turn in range(1000):
        now = turn * US
        crowd.left_ns(31, now)
        crowd.ran(32, 0, now)
    crowd.ran(32, 0, 0)
    assert crowd.left_ns(31, 0) > 0


def test_nobody_is_awaited_where_nobody_can_come(crowd):
    after_a_call(crowd, 32)
    crowd.give_up()
    assert crowd.left_ns(1, 0) == 0


@pytest.mark.parametrize(("came", "paid"), [(30, True), (12, False)])
def test_waiting_pays_too_if_most_come(crowd, came, paid):
    """325 µs for rows that share 1 ms: ten rows have to become clearly more."""
    after_a_call(crowd, 32)
    for turn in range(20):
        now = turn * 10_000 * US
        lingered = crowd.left_ns(10, now) > 0
        assert lingered or not paid
        crowd.ran(came, 0, now)
        crowd.came(32 - came, now - 1)
    assert lingered is paid


def mean_batch(crowd, costs, think_us, clients=32, turns=300):
    """Rows of a batch, with clients that ask again so many µs after their answer."""
    dice = random.Random(1)
    now, calls = 0, []
    asked = [dice.randrange(1000) for _ in range(clients)]
    for _ in range(turns):
        now = max(now, min(asked))
        seen = set()
        while True:
            for client in set(range(clients)) - seen:
                if asked[client] <= now:
                    seen.add(client)
                    crowd.came(1, asked[client])
            if not (left := crowd.left_ns(len(seen), now)):
                break
            coming = [asked[client] for client in set(range(clients)) - seen]
            now = min([now + left, *coming])
        took = 1000 * US + 50 * US * len(seen)
        costs.learn(len(seen), took)
        crowd.ran(len(seen), 0, now := now + took)
        for client in seen:
            now += 5 * US
            asked[client] = now + dice.randrange(think_us * US)
        calls.append(len(seen))
    return sum(calls) / len(calls)


def test_clients_that_come_back_at_once_get_whole_batches():
    costs = Costs()
    assert mean_batch(Anticipation(32, costs), costs, think_us=200) > 31


def test_two_clients_are_not_served_in_turn():
    costs = Costs()
    assert mean_batch(Anticipation(32, costs), costs, think_us=100, clients=2) > 1.9
