# SPDX-License-Identifier: BUSL-1.1
"""Plugins and models are swapped under load: nothing fails, nothing is lost, every answer is right.

`python tests/system/swaps.py --plugin-swaps 1000 --model-swaps 1000 --json FILE` does it at
length; the tests do a little of it. Four clients over shared memory and two over HTTP ask in
closed loop, streams among them. Phases of quiet and phases of swaps take turns, and latencies
are told apart by them. Every answer is checked: for its numbers, for the version that gave it,
and for the time in which that version was to serve.
"""

import argparse
import collections
import importlib.util
import itertools
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

import stage as stages  # noqa: E402
import traces  # noqa: E402

# Of ten changes five are of a plugin and five of a model, one of these taken back.
ROUND = (
    ("plugin", "storm"),
    ("model", "t"),
    ("rollback", "t"),
    ("plugin", "storm"),
    ("model", "o"),
    ("plugin", "onnx"),
    ("model", "s"),
    ("plugin", "storm"),
    ("model", "t"),
    ("plugin", "storm"),
)
PLUGIN, MODEL = "plugin", "model"


def changes(plugin_swaps, model_swaps):
    """The changes in turn, until both numbers are reached."""
    left = {PLUGIN: plugin_swaps, MODEL: model_swaps}
    for kind, name in itertools.cycle(ROUND):
        counted = PLUGIN if kind == "plugin" else MODEL
        if not any(left.values()):
            return
        if left[counted]:
            left[counted] -= 1
            yield kind, name


def change(stage, kind, name):
    """Do one."""
    if kind == "plugin":
        stage.swap_plugin(name)
    elif kind == "model":
        stage.swap_model(name)
    else:
        stage.rollback(name)


def storm(stage, clients, plan, quiet, swapping):
    """Phases of `quiet` seconds without and `swapping` seconds with changes, until all are done."""
    plan = collections.deque(plan)
    while plan:
        clients.phase(stages.QUIET)
        time.sleep(quiet)
        clients.phase(stages.SWAPPING)
        end = time.monotonic() + swapping
        while plan and time.monotonic() < end:
            change(stage, *plan.popleft())
    clients.phase(stages.QUIET)
    time.sleep(quiet)


# --- what came of it ----------------------------------------------------------------------


def percentile(histogram, share):
    """Milliseconds below which that share of the latencies lies."""
    left = share * sum(histogram.values())
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return math.exp((bucket + 0.5) / stages.BUCKETS) / 1e6
    return 0.0


def latencies(reports):
    """For each way to ask: milliseconds when quiet and while swapping, and their ratio."""
    sums = collections.defaultdict(collections.Counter)
    for report in reports:
        for key, histogram in report["latencies"].items():
            way, phase = key.split()
            sums[way, int(phase)].update({int(k): v for k, v in histogram.items()})
    rows = {}
    for way in sorted({way for way, _ in sums}):
        quiet, swapping = (sums[way, phase] for phase in (stages.QUIET, stages.SWAPPING))
        rows[way] = {
            "quiet": _percentiles(quiet),
            "swapping": _percentiles(swapping),
            "p99_ratio": round(percentile(swapping, 0.99) / percentile(quiet, 0.99), 2),
        }
    return rows


def _percentiles(histogram):
    marks = {"p50_ms": 0.5, "p99_ms": 0.99, "p99.9_ms": 0.999, "max_ms": 1.0}
    row = {name: round(percentile(histogram, share), 3) for name, share in marks.items()}
    return {"answers": sum(histogram.values()), **row}


def durations(operations):
    """How long each kind of change took, in milliseconds."""
    rows = {}
    for kind in sorted({op[0] for op in operations}):
        took = sorted((end - begin) / 1e6 for k, begin, end, _ in operations if k == kind)
        rows[kind] = {
            "count": len(took),
            "p50_ms": round(took[len(took) // 2], 1),
            "p99_ms": round(took[int(len(took) * 0.99)], 1),
            "max_ms": round(took[-1], 1),
        }
    return rows


def result(stage, reports):
    """All numbers of a run."""
    counts = collections.Counter()
    for report in reports:
        counts.update(report["counts"])
    faults = stages.faults_of(reports, stage.history)
    kinds = collections.Counter(kind for kind, _, _, good in stage.operations if good)
    return {
        "plugin_swaps": kinds["plugin"],
        "model_swaps": kinds["model"] + kinds["rollback"],
        "rollbacks": kinds["rollback"],
        "swaps_failed": sum(not good for *_, good in stage.operations),
        "answers": sum(r["answers"] for r in reports),
        **{kind: counts[kind] for kind in ("failed", "wrong", "lost", "duplicate")},
        "faults": faults[:20],
        "latencies": latencies(reports),
        "durations": durations(stage.operations),
    }


def machine():
    """Where this was measured."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    names = [x.partition(": ")[2] for x in cpuinfo.splitlines() if x.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def summary(row):
    ratio = row["latencies"]["memory"]["p99_ratio"]
    faults = ", ".join(f"{row[kind]} {kind}" for kind in ("failed", "wrong", "lost", "duplicate"))
    return (
        f"{row['plugin_swaps']} plugin swaps and {row['model_swaps']} model swaps under load: "
        f"{row['answers']} answers, {faults}; p99 through shared memory {ratio} times the quiet one"
    )


# --- at length ----------------------------------------------------------------------------


def run(daemon, plugin_folder, plan, quiet=5.0, swapping=5.0, jobs=None):
    """One storm over a daemon that is not started yet; its row."""
    jobs = jobs or (*stages.MEMORY_CLIENTS, *stages.HTTP_CLIENTS)
    stage = stages.Stage(daemon, plugin_folder)
    try:
        stage.start()
        with stages.Clients(stage, jobs) as clients:
            storm(stage, clients, plan, quiet, swapping)
            reports = clients.end()
        return result(stage, reports)
    finally:
        stage.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugin-swaps", type=int, default=1000)
    parser.add_argument("--model-swaps", type=int, default=1000)
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds of a phase without swaps")
    parser.add_argument("--swapping", type=float, default=5.0, help="seconds of a phase with swaps")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    where = machine()
    folder = Path(tempfile.mkdtemp(prefix="mlos-swaps-"))
    plugins = folder / "plugins"
    plugins.mkdir()
    path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH"))))
    daemon = conftest().Daemon(folder, {"PYTHONPATH": path})
    before = traces.names()
    began = time.monotonic()
    try:
        plan = changes(args.plugin_swaps, args.model_swaps)
        row = run(daemon, plugins, plan, args.quiet, args.swapping)
    finally:
        clean = daemon.clean_up()
        shutil.rmtree(folder)
    row["seconds"] = round(time.monotonic() - began, 1)
    row["shared_memory_left"] = sorted(set(traces.names()) - set(before))
    row["machine"] = where
    print(json.dumps(row, indent=1))
    print(summary(row))
    if args.json:
        args.json.write_text(json.dumps(row, indent=1) + "\n")
    assert clean, "a process is left"
    assert not row["faults"], row["faults"]
    assert not row["swaps_failed"], row["swaps_failed"]


def conftest():
    """The module with `Daemon`, for scripts."""
    path = HERE.parent / "conftest.py"
    spec = importlib.util.spec_from_file_location("mlos_tests_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
