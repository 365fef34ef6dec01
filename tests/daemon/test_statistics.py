# SPDX-License-Identifier: BUSL-1.1
"""Sums over a model's workers, those that are gone included."""

from mlos_core.daemon.model import add_stats
from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import Histogram


def test_counters_add_up_and_shares_do_not():
    a = WorkerStats(requests=2, channels=3, engine={"tokens": 5, "kv_cache_usage_perc": 0.5})
    b = WorkerStats(requests=1, channels=1, engine={"tokens": 2, "kv_cache_usage_perc": 0.2})
    total = add_stats(a, b)
    assert (total.requests, total.channels) == (3, 0)
    assert total.engine == {"tokens": 7, "kv_cache_usage_perc": 0.5}


def test_histograms_add_up_bucket_by_bucket():
    a = WorkerStats(engine={"s": Histogram((1.0, 2.0), (1, 3), 4.0, 5)})
    total = add_stats(a, a).engine["s"]
    assert total == Histogram((1.0, 2.0), (2, 6), 8.0, 10)
    other = Histogram((9.0,), (1,), 1.0, 1)
    assert add_stats(a, WorkerStats(engine={"s": other})).engine["s"] == other


def test_what_only_one_worker_counts_stays():
    a, b = WorkerStats(engine={"x": 1}), WorkerStats(engine={"y": 2})
    assert add_stats(a, b).engine == {"x": 1, "y": 2}
