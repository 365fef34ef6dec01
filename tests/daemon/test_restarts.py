# SPDX-License-Identifier: BUSL-1.1
from mlos_core.daemon.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy(initial=1.0, maximum=8.0, limit=4, healthy_after=10.0)


def test_a_worker_that_was_ready_starts_again_at_once():
    restarts = Restarts(POLICY)
    restarts.ready(100.0)
    assert restarts.died(101.0) == 0.0


def test_a_worker_that_dies_again_and_again_waits_longer_and_longer():
    restarts = Restarts(POLICY)
    delays = []
    for second in range(7):
        restarts.ready(float(second))
        delays.append(restarts.died(second + 0.5))
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_worker_that_was_healthy_for_long_is_forgiven():
    restarts = Restarts(POLICY)
    for second in range(5):
        restarts.ready(float(second))
        restarts.died(second + 0.5)
    restarts.ready(10.0)
    assert restarts.died(20.0) == 0.0


def test_a_worker_that_never_gets_ready_is_given_up():
    restarts = Restarts(POLICY)
    assert [restarts.died(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, None]


def test_being_ready_once_starts_the_count_of_failed_starts_anew():
    restarts = Restarts(POLICY)
    for _ in range(3):
        restarts.died(0.0)
    restarts.ready(0.0)
    restarts.died(20.0)
    assert [restarts.died(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, None]


def test_thousands_of_deaths_neither_overflow_nor_give_up():
    restarts = Restarts(RestartPolicy(initial=0.001, maximum=0.001))
    for _ in range(5000):
        restarts.ready(0.0)
        assert restarts.died(0.0) in (0.0, 0.001)
    assert restarts.total == 5000
