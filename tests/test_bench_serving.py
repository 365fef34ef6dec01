# SPDX-License-Identifier: BUSL-1.1
"""The arithmetic of `bench/batching.py` and `bench/sharing.py`; that they measure is seen by
running them."""

from pathlib import Path

import numpy as np
import pytest

SECOND = 1_000_000_000


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "bench"))


@pytest.fixture
def sharing(bench):
    import sharing

    return sharing


@pytest.fixture
def batching_rows(bench):
    import batching_rows

    return batching_rows


def outcome(rate, memory, took=SECOND):
    from sharing_rows import Outcome

    parts = {"clients": memory - 1, "servers": 1.0}
    return Outcome(np.array([took]), rate, parts, differ=0, worst=0.0)


def test_of_a_call_that_is_partly_in_the_window_that_part_counts(sharing):
    calls = np.array([[0, 4], [4, 8], [-2, 2], [7, 11]]) * SECOND
    assert sharing.rate(calls, 0, 8 * SECOND) == pytest.approx((1 + 1 + 0.5 + 0.25) / 8)


def test_the_least_memory_is_chosen_of_those_that_are_fast_enough(sharing):
    from batching_servers import Setting

    small, large, slow = Setting(1), Setting(2), Setting(4)
    tried = {small: outcome(10, 300), large: outcome(20, 500), slow: outcome(5, 100)}
    assert sharing.choose(tried, 9) is small
    assert sharing.choose(tried, 15) is large
    assert sharing.choose(tried, 50) is large
    faster = Setting(8)
    assert sharing.choose({**tried, faster: outcome(12, 301)}, 9) is faster


def test_rows_of_sharing_have_ratios_to_those_who_load_the_model(sharing):
    import sharing_rows

    alone = [outcome(10, 1000), outcome(12, 1100), outcome(11, 900)]
    ours = [outcome(22, 250, SECOND // 2)]
    rows = [
        *sharing_rows.rows("alone", "m", "1 thread", alone),
        *sharing_rows.rows("shared", "m", "batch 8", ours),
    ]
    sharing_rows.compare(rows)
    first, second = sharing_rows.lines(rows)
    assert first[2:8] == ["1000", "1.00", "11", "1.00", "1000", "1000"]
    assert second[2:8] == ["250", "0.25", "22", "2.00", "500", "500"]
    assert sharing_rows.markdown(rows).count("\n") == 4


def load(rate, times, same=8):
    from batching_load import Outcome

    return Outcome([ms * 1_000_000 for ms in times], 1.0, rate, 1e-7, same, 8)


def test_rows_of_batching_are_sorted_by_rate_with_ratios_of_medians(batching_rows):
    base = [load(100, [8, 8]), load(200, [8]), load(300, [8])]
    rows = [
        *batching_rows.rows("onnxruntime", "m", "batch 8", base),
        *batching_rows.rows("mlos-shm", "m", "batch 16", [load(180, [10, 20, 30], same=7)]),
        *batching_rows.rows("litserve", "m", "batch 16", [load(400, [10, 20, 30])]),
    ]
    batching_rows.compare(rows)
    lines = batching_rows.lines(rows)
    assert [line[1:5] for line in lines] == [
        ["litserve", "400", "2.00", "20"],
        ["onnxruntime", "200", "1.00", "8"],
        ["mlos-shm", "180", "0.90", "20"],
    ]
    assert [line[6] for line in lines] == ["same bits", "same bits", "within 1e-07"]


def test_no_setting_uses_more_threads_than_there_are(bench):
    from batching_servers import SERVERS, first_settings, further_settings

    for contestant in SERVERS:
        tried = first_settings(contestant, 4, quick=False)
        for best in list(tried):
            for step in further_settings(contestant, quick=False):
                tried += step(best)
        assert {max(1, one.workers) * one.threads for one in tried} == {4}
        told = {one.describe(contestant) for one in tried}
        assert len(told) == len(set(tried))
