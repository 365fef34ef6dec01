# SPDX-License-Identifier: BUSL-1.1
from mlos_core.daemon.restarts import RestartPolicy, Restarts


def live(restarts, now):
    restarts.loaded(now)
    restarts.proven()


POLICY = RestartPolicy(initial=1.0, maximum=8.0, limit=4, healthy_after=10.0)


def test_a_worker_that_was_ready_starts_again_at_once():
    restarts = Restarts(POLICY)
    live(restarts, 100.0)
    assert restarts.died(101.0) == 0.0


def test_a_worker_that_dies_again_and_again_waits_longer_and_longer():
    restarts = Restarts(POLICY)
    delays = []
    for second in range(7):
        live(restarts, float(second))
        delays.append(restarts.died(second + 0.5))
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_worker_that_was_healthy_for_long_is_forgiven():
    restarts = Restarts(POLICY)
    for second in range(5):
        live(restarts, float(second))
        restarts.died(second + 0.5)
    live(restarts, 10.0)
    assert restarts.died(20.0) == 0.0


def test_a_worker_that_never_gets_ready_is_given_up():
    restarts = Restarts(POLICY)
    assert [restarts.died(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, None]


def test_being_ready_once_starts_the_count_of_failed_starts_anew():
    restarts = Restarts(POLICY)
    for _ in range(3):
        restarts.died(0.0)
    live(restarts, 0.0)
    restarts.died(20.0)
    assert [restarts.died(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, None]


def test_thousands_of_deaths_neither_overflow_nor_give_up():
    restarts = Restarts(RestartPolicy(initial=0.001, maximum=0.001))
    for _ in range(5000):
        live(restarts, 0.0)
        assert restarts.died(0.0) in (0.0, 0.001)
    assert restarts.total == 5000


def test_a_loaded_worker_that_is_killed_before_it_was_proven_is_not_held_against_the_model():
    restarts = Restarts(POLICY)
    for second in range(50):
        restarts.loaded(float(second))
        assert restarts.died(second + 0.1) is not None


def test_a_worker_whose_channel_never_answers_is_given_up():
    restarts = Restarts(POLICY)
    delays = []
    for second in range(4):
        restarts.loaded(float(second))
        restarts.unproven()
        delays.append(restarts.died(second + 0.1))
    assert delays == [1.0, 2.0, 4.0, None]
