# SPDX-License-Identifier: BUSL-1.1
"""What `mlosctl top` makes of two readings, and the command itself."""

import io
import json
import os
import pty
import select
import subprocess
import sys

import pytest
from rich.console import Console

from mlos_core.cli.top.rates import compare
from mlos_core.cli.top.sample import Process, Sample, processes
from mlos_core.cli.top.view import ORDERS, render
from mlos_core.client import connect
from mlos_core.ipc.histogram import BUCKETS, from_ns

STATUS = {
    "version": "0.1",
    "pid": 1,
    "uptime_s": 61.0,
    "models": 1,
    "clients": 2,
    "channels": 3,
    "memory": {"channels": 1 << 20, "resident": 1 << 21, "shm_free": 1 << 30},
}


def bucket_of(ns):
    return max(bucket for bucket in range(BUCKETS) if from_ns(bucket) <= ns)


def counters(requests=0, ns=(), **changes):
    counts = {}
    for value in ns:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return {
        "state": "ready",
        "requests": requests,
        "failures": 0,
        "executions": 0,
        "rows": 0,
        "pending": 0,
        "running": 0,
        "workers": 1,
        "restarts": 0,
        "engine": {},
        "latency": {"request": {"counts": counts}},
        **changes,
    }


def sample(at, by_version, processes=None):
    workers = [
        {"pid": 10 + n, "state": "ready", "restarts": 0, "version": version}
        for n, version in enumerate(by_version)
    ]
    info = {
        "name": "m",
        "version": "1",
        "workers": workers,
        "versions": [{"version": version, "weight": 0.5} for version in by_version],
    }
    stats = {"m": {"versions": by_version}}
    return Sample(at, STATUS, [info], stats, processes or {})


def only(before, now):
    found = compare(sample(10.0, {"1": before}), sample(12.0, {"1": now}))
    assert len(found.versions) == 1
    return found.versions[0]


def test_rates_are_those_of_the_interval():
    row = only(
        counters(requests=100, failures=1, executions=50, rows=100),
        counters(requests=140, failures=3, executions=60, rows=180, pending=4, running=2),
    )
    assert (row.requests_s, row.errors_s, row.batch) == (20.0, 1.0, 8.0)
    assert (row.waiting, row.running, row.weight) == (4, 2, 0.5)


def test_percentiles_are_those_of_the_interval_alone():
    slow = [1_000_000_000] * 1000
    row = only(counters(ns=slow), counters(ns=slow + [20_000] * 98 + [5_000_000] * 2))
    assert row.p50_us == pytest.approx(20, rel=1 / 8)
    assert row.p99_us == pytest.approx(5000, rel=1 / 8)


def test_where_nothing_happened_there_is_nothing_to_tell():
    row = only(counters(requests=5, ns=[1000]), counters(requests=5, ns=[1000]))
    assert (row.requests_s, row.p50_us, row.p99_us, row.batch) == (0.0, None, None, None)


def test_a_model_registered_anew_begins_at_nothing():
    row = only(counters(requests=100, ns=[10] * 9), counters(requests=4, ns=[20_000]))
    assert row.requests_s == 2.0
    assert row.p50_us == pytest.approx(20, rel=1 / 8)


def test_a_version_that_was_not_there_counts_from_its_beginning():
    view = compare(sample(0.0, {}), sample(2.0, {"2": counters(requests=6)}))
    assert [(row.version, row.requests_s) for row in view.versions] == [("2", 3.0)]


def test_an_engines_queue_and_tokens_are_told():
    before = {"generation_tokens_total": 100.0}
    now = {"generation_tokens_total": 150.0, "num_requests_waiting": 3}
    row = only(counters(engine=before), counters(engine=now, running=8, pending=1))
    assert (row.tokens_s, row.waiting, row.running) == (25.0, 4, 5)


def test_processes_are_summed_by_version():
    first = {1: Process(1.0, 7), 10: Process(5.0, 100), 11: Process(0.0, 50)}
    then = {1: Process(1.5, 9), 10: Process(7.0, 300), 11: Process(0.5, 60)}
    both = {"1": counters(), "2": counters()}
    view = compare(sample(0.0, both, first), sample(2.0, both, then))
    assert [(row.version, row.cpu, row.memory) for row in view.versions] == [
        ("1", 1.0, 300),
        ("2", 0.25, 60),
    ]
    assert [(row.pid, row.version) for row in view.workers] == [(10, "1"), (11, "2")]
    assert (view.daemon.cpu, view.daemon.memory) == (0.25, 9)


def test_a_process_that_is_new_has_no_rate_yet():
    view = compare(
        sample(0.0, {"1": counters()}), sample(1.0, {"1": counters()}, {10: Process(5.0, 100)})
    )
    assert (view.workers[0].cpu, view.workers[0].memory) == (0.0, 100)
    assert view.daemon.memory == 1 << 21  # what the daemon says of itself


def shown(view, order="name", width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(render(view, order, "q quit"))
    return out.getvalue()


def test_the_view_shows_the_daemon_the_versions_and_the_workers():
    now = counters(requests=2500, ns=[1_500] * 9, executions=10, rows=15, restarts=4)
    view = compare(
        sample(0.0, {"1": counters()}, {10: Process(0.0, 0)}),
        sample(1.0, {"1": now}, {10: Process(0.5, 3 << 20)}),
    )
    text = shown(view)
    for part in ("mlosd 0.1", "2 clients", "2,500", "µs", "1.5", "50 %", "3.0 MiB", "q quit"):
        assert part in text
    assert " 10 " in text


def test_routes_and_tokens_are_shown_where_there_are_any():
    def text(**now):
        return shown(compare(sample(0.0, {"1": counters()}), sample(1.0, {"1": counters(**now)})))

    assert "tok/s" not in text()
    assert "tok/s" in text(engine={"generation_tokens": 2.0})
    assert "route" in text()  # half of the requests go elsewhere


def test_a_narrow_terminal_shows_whole_columns_and_fewer_of_them():
    now = counters(requests=123_456, ns=[1_500_000], executions=1, rows=8, failures=77)
    view = compare(sample(0.0, {"1.0.0": counters()}), sample(1.0, {"1.0.0": now}))
    for width in (80, 100, 120):
        lines = shown(view, width=width).splitlines()
        (row,) = [line for line in lines if "123,456" in line]
        for part in ("m", "1.0.0", "ready", "77.0", " ms"):
            assert part in row
    assert "restarts" not in shown(view, width=80).split("pid 1")[1].split("pid")[0]
    assert "restarts" in shown(view, width=200).split("pid 1")[1].split("pid")[0]


def test_a_view_without_models_says_how_to_get_one():
    assert "mlosctl register" in shown(compare(sample(0.0, {}), sample(1.0, {})))


@pytest.mark.parametrize(
    ("order", "first"), [("name", "1"), ("rate", "2"), ("p99", "1"), ("cpu", "2"), ("memory", "2")]
)
def test_versions_are_sorted_as_asked(order, first):
    one, two = counters(requests=1, ns=[9_000_000]), counters(requests=9, ns=[1_000])
    view = compare(
        sample(0.0, {"1": counters(), "2": counters()}, {11: Process(0.0, 0)}),
        sample(1.0, {"1": one, "2": two}, {11: Process(1.0, 5)}),
    )
    assert min(view.versions, key=ORDERS[order]).version == first


def test_times_are_told_in_the_unit_that_fits():
    for ns, text in ((700, "µs"), (3_000_000, "ms"), (5_000_000_000, " s ")):
        view = compare(sample(0.0, {"1": counters()}), sample(1.0, {"1": counters(ns=[ns])}))
        assert text in shown(view)


# --- the kernel's word --------------------------------------------------------------------


def test_the_kernel_tells_of_living_processes_alone():
    found = processes([os.getpid(), 0, 2**22 + 1])
    assert list(found) == [os.getpid()]
    assert found[os.getpid()].cpu_s > 0
    assert found[os.getpid()].memory > 1 << 20


def test_a_strange_name_and_an_unreadable_share_are_no_trouble(tmp_path):
    folder = tmp_path / "42"
    folder.mkdir()
    numbers = " ".join(str(n) for n in range(4, 53))
    (folder / "stat").write_text(f"42 (a) b) (c) S {numbers}")
    found = processes([42], tmp_path)[42]
    assert found.cpu_s == pytest.approx((14 + 15) / os.sysconf("SC_CLK_TCK"))
    assert found.memory == 24 * os.sysconf("SC_PAGE_SIZE")


# --- the command --------------------------------------------------------------------------


def environ(daemon):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLOS_")}
    return {**kept, "MLOS_SOCKET": str(daemon.socket), "TERM": "xterm", "COLUMNS": "200"}


def command(*words):
    return [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl", "top", *words]


def run(daemon, *words):
    return subprocess.run(
        command(*words), env=environ(daemon), capture_output=True, text=True, timeout=60
    )


def register(daemon, path):
    with connect(daemon.socket) as client:
        client.call("register", name="e", path=str(path), version="3.1")
        return client.call("status")["pid"]


def test_once_prints_one_interval(daemon, echo_file):
    register(daemon, echo_file())
    done = run(daemon, "--once", "--interval", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3.1" in done.stdout
    assert "ready" in done.stdout


def test_json_tells_numbers(daemon, echo_file):
    pid = register(daemon, echo_file())
    done = run(daemon, "--json", "--once", "--interval", "0.05")
    (line,) = done.stdout.splitlines()
    view = json.loads(line)
    (version,) = view["versions"]
    assert (version["model"], version["version"], version["workers"]) == ("e", "3.1", 1)
    assert version["memory"] > 1 << 20
    (worker,) = view["workers"]
    assert worker["version"] == "3.1"
    assert view["daemon"]["pid"] == pid


def test_json_goes_on_line_by_line_until_its_reader_leaves(daemon):
    process = subprocess.Popen(
        command("--json", "--interval", "0.05"), env=environ(daemon), stdout=subprocess.PIPE
    )
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert all(line["seconds"] > 0 for line in lines)


def test_in_a_terminal_s_sorts_and_q_ends_it(daemon):
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        command("--interval", "30"),
        env=environ(daemon),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = read_until(terminal, b"sort (name)")
        os.write(terminal, b"s")
        seen += read_until(terminal, b"sort (rate)")
        os.write(terminal, b"q")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert b"\x1b[?1049h" in seen  # a screen of its own


def read_until(terminal, wanted):
    seen = b""
    while wanted not in seen:
        assert select.select([terminal], [], [], 30)[0], seen
        seen += os.read(terminal, 65536)
    return seen
