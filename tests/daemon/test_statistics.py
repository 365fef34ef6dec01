# SPDX-License-Identifier: BUSL-1.1
"""Sums over a model's workers, those that are gone included."""

from types import SimpleNamespace

import msgspec
import pytest

from mlos_core.daemon.counters import Ledger, across, add_stats, settled
from mlos_core.daemon.figures import figures
from mlos_core.daemon.reports import stats_of
from mlos_core.ipc.histogram import BUCKETS, Times, from_ns
from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import Histogram


def bucket_of(ns):
    return max(bucket for bucket in range(BUCKETS) if from_ns(bucket) <= ns)


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


def test_the_longest_time_and_every_bucket_are_kept():
    a = WorkerStats(times={"request": Times({3: 1, 9: 2}, 400), "queue": Times({0: 1}, 5)})
    b = WorkerStats(times={"request": Times({9: 1}, 900), "infer": Times({1: 1}, 40)})
    assert add_stats(a, b).times == {
        "request": Times({3: 1, 9: 3}, 900),
        "queue": Times({0: 1}, 5),
        "infer": Times({1: 1}, 40),
    }


def test_calls_of_equal_size_add_up():
    a, b = WorkerStats(batches={1: (2, 10), 4: (1, 9)}), WorkerStats(batches={4: (3, 1)})
    assert add_stats(a, b).batches == {1: (2, 10), 4: (4, 10)}


def test_workers_of_one_version_see_the_same_line_and_versions_do_not():
    one, other = WorkerStats(pending=3, running=2), WorkerStats(pending=2, running=1)
    assert (add_stats(one, other).pending, add_stats(one, other).running) == (3, 3)
    assert (across([one, other]).pending, across([one, other]).running) == (5, 3)
    assert across([]) == WorkerStats()


def test_of_a_worker_that_is_gone_only_counters_stay():
    gone = settled(
        WorkerStats(
            requests=4,
            pending=1,
            running=2,
            channels=3,
            engine={"generation_tokens": 9, "num_requests_running": 2},
        )
    )
    assert gone == WorkerStats(requests=4, engine={"generation_tokens": 9})


def test_figures_tell_counts_means_and_percentiles_in_microseconds():
    counts = {bucket_of(10_000): 98, bucket_of(1_000_000): 2}
    told = figures(
        WorkerStats(
            requests=103,
            failures=3,
            queue_ns=1_000_000,
            infer_ns=1_980_000,
            times={"request": Times(counts, 1_000_300)},
            batches={2: (5, 70)},
        )
    )
    latency = told["latency"]["request"]
    assert (latency["count"], latency["mean_us"], latency["max_us"]) == (100, 29.8, 1000.3)
    assert latency["p50_us"] == pytest.approx(10, rel=1 / 8)
    assert latency["p90_us"] == pytest.approx(10, rel=1 / 8)
    assert latency["p99_us"] == pytest.approx(1000, rel=1 / 8)
    assert latency["p999_us"] <= latency["max_us"]
    assert told["latency"]["queue"]["p50_us"] is None
    assert told["batches"] == [{"rows": 2, "executions": 5, "infer_ns": 70}]
    assert (told["requests"], told["failures"]) == (103, 3)
    assert "counts" not in latency


def test_histograms_are_told_to_those_who_ask():
    stats = WorkerStats(queue_ns=7, times={"queue": Times({0: 1}, 7)})
    assert figures(stats, histograms=True)["latency"]["queue"]["counts"] == {0: 1}
    assert figures(stats, histograms=True)["latency"]["queue"]["sum_ns"] == 7


def test_what_is_told_fits_json():
    stats = WorkerStats(
        times={"queue": Times({0: 1}, 7)}, engine={"s": Histogram((1.0,), (1,), 1.0, 1)}
    )
    told = msgspec.json.decode(msgspec.json.encode(figures(stats)))
    assert told["engine"]["s"]["count"] == 1
    assert told["latency"]["queue"]["count"] == 1


def test_counters_of_workers_that_are_gone_are_kept_by_version():
    ledger = Ledger()
    for version, requests in (("1", 3), ("2", 4), ("1", 5)):
        ledger.fold(version, WorkerStats(requests=requests, running=2))
    assert (ledger.of("1").requests, ledger.of("2").requests, ledger.of("3").requests) == (8, 4, 0)
    assert ledger.total == WorkerStats(requests=12)


def test_a_version_that_serves_no_more_only_counts_in_the_total():
    ledger = Ledger()
    for version in range(1000):
        ledger.fold(str(version), WorkerStats(requests=1))
        ledger.keep([str(version)])
    assert ledger.total.requests == 1000
    assert ledger.of("999").requests == 1
    assert ledger.of("5").requests == 0


def worker(version, state="ready", channels=(), **counted):
    return SimpleNamespace(
        spec=SimpleNamespace(version=version),
        state=state,
        serving=set(channels),
        stats=WorkerStats(**counted),
    )


def model(version, *workers, past=None):
    """A model with one version, or two while one takes the other's place."""
    deployment = SimpleNamespace(
        version=version,
        state="ready",
        restarts=3,
        workers=list(workers),
        past=past or Ledger(),
        served=list(dict.fromkeys([version, *(w.spec.version for w in workers)])),
    )
    return SimpleNamespace(
        state="ready",
        restarts=3,
        channels={"a": None, "b": None},
        workers=dict(enumerate(workers)),
        deployments={version: deployment},
    )


def test_while_one_version_takes_anothers_place_both_are_told():
    old = worker("1", channels="ab", requests=5, failures=1, pending=4)
    new = worker("2", channels="b", requests=3, pending=3)
    told = stats_of(model("1", old, new))
    one, two = told["versions"]["1"], told["versions"]["2"]
    assert (one["requests"], one["failures"], one["channels"], one["restarts"]) == (5, 1, 2, 3)
    assert (two["requests"], two["failures"], two["channels"], two["restarts"]) == (3, 0, 1, 0)
    assert (told["requests"], told["workers"], told["channels"]) == (8, 2, 2)
    assert told["pending"] == 4  # both look at the same channels


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("loading", "loading"), "loading"),
        (("loading", "warming"), "warming"),
        (("ready", "draining"), "ready"),
        (("draining",), "draining"),
    ],
)
def test_a_version_beside_the_one_that_serves_is_as_far_as_its_best_worker(states, told):
    beside = [worker("2", state) for state in states]
    assert stats_of(model("1", worker("1"), *beside))["versions"]["2"]["state"] == told


def test_what_earlier_versions_counted_stays_in_the_models_sum():
    past = Ledger()
    past.fold("0", WorkerStats(requests=7))
    past.fold("1", WorkerStats(requests=2))
    past.keep(["1"])
    told = stats_of(model("1", worker("1", requests=1), past=past))
    assert told["requests"] == 10
    assert {version: row["requests"] for version, row in told["versions"].items()} == {"1": 3}
