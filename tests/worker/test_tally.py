# SPDX-License-Identifier: BUSL-1.1
"""What a worker's statistics are made of."""

import collections

from mlos_core.ipc.histogram import Times
from mlos_core.worker.tally import Tally


class Counted:
    """As much of a port as statistics ask for."""

    def __init__(self, **counters):
        self._counters = collections.Counter(counters)

    def counters(self):
        return self._counters

    def times(self):
        return {"request": Times({3: 1}, 100)}

    def pending(self):
        return 7


def batches(tally, infer_ns=0):
    return tally.statistics(Counted(infer_ns=infer_ns), 0).batches


def test_what_the_port_counted_and_what_the_loop_counted_come_together():
    tally = Tally()
    tally.executions, tally.rows, tally.cancelled, tally.copied_bytes = 3, 4, 1, 8
    port = Counted(answered=5, failures=2, failed_ns=9, cancelled=1, copied_bytes=2, running=6)
    stats = tally.statistics(port, channels=2)
    assert (stats.requests, stats.failures, stats.failed_ns, stats.running) == (5, 2, 9, 6)
    assert (stats.executions, stats.rows, stats.cancelled, stats.copied_bytes) == (3, 4, 2, 10)
    assert (stats.pending, stats.channels, stats.times) == (7, 2, {"request": Times({3: 1}, 100)})


def test_calls_are_counted_by_their_rows():
    tally = Tally()
    tally.executions, tally.rows = 5, 13
    tally.batch(8, 100, requests=4)
    tally.batch(2, 30, requests=2)
    tally.batch(2, 40, requests=1)
    # Their requests had 4 x 100 + 2 x 30 + 40 ns of all computing time: the two others the rest.
    assert batches(tally, infer_ns=520) == {8: (1, 100), 2: (2, 70), 1: (2, 20)}


def test_calls_of_one_row_may_be_noted_as_well():
    tally = Tally()
    tally.executions = tally.rows = 3
    tally.batch(1, 10)
    assert batches(tally, infer_ns=25) == {1: (3, 25)}


def test_the_number_of_sizes_is_bounded():
    tally = Tally()
    for rows in range(1, 2000):
        tally.executions += 1
        tally.rows += rows
        tally.batch(rows, 1)
    told = batches(tally, infer_ns=1999)
    assert sum(calls for calls, _ in told.values()) == 1999
    assert told[128] == (1, 1)
    assert told[256] == (128, 128)
    assert len(told) == 128 + 4


def test_steps_of_an_engine_have_no_size():
    tally = Tally()
    tally.executions = 9
    assert batches(tally) == {}


def test_a_closed_engine_is_not_asked_again():
    tally, asked = Tally(), []
    tally.engine = lambda: asked.append("asked") or {"tokens": 3.0}
    tally.engine_ends()
    for _ in range(2):
        assert tally.statistics(Counted(), 0).engine == {"tokens": 3.0}
    assert asked == ["asked"]
