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
import contextlib
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

import stage as stages  # noqa: E402
import traces  # noqa: E402

from mlos_core.errors import MlosError  # noqa: E402

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
BESIEGED = {"MLOS_MAX_ATTEMPTS": "15", "MLOS_RESTART_LIMIT": "1000000"}


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


class Killer:
    """Kills a worker or a plugin host of the daemon every now and then; the daemon lives."""

    def __init__(self, stage, pause, seed=1):
        self.stage = stage
        self.pause = pause
        self.random = random.Random(seed)
        self.killed = collections.Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        if self.pause:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        if self.pause:
            self._thread.join()

    def _run(self):
        while not self._over.wait(self.random.expovariate(1 / self.pause)):
            self._strike()

    def _strike(self):
        victims = sorted(traces.processes(self.stage.folder / "run") - {self.stage.daemon.pid})
        with contextlib.suppress(OSError, IndexError):
            victim = self.random.choice(victims)
            name = traces.name_of(victim)
            if name.startswith("mlos"):
                os.kill(victim, signal.SIGKILL)
                self.killed[name] += 1


def attempt(stage, kind, name):
    """A change that may fail, for somebody is killed all the time; then nothing has changed."""
    number = stage.plugin.number
    try:
        change(stage, kind, name)
    except MlosError:
        if stage.plugin.number != number:
            # Whoever starts a host from now on shall find what is served.
            stage.plugin.install(number)


def storm(stage, clients, plan, quiet, swapping, change=change, every=0.0):
    """Phases of `quiet` seconds without and `swapping` seconds with changes, until all are done.

    A change begins `every` seconds, or when the one before is done.
    SIGINT, to this process alone, ends it sooner, with the result of what was done.
    """
    plan = collections.deque(plan)
    with _interruptible() as interrupted:
        while plan and not interrupted:
            clients.phase(stages.QUIET)
            time.sleep(quiet)
            clients.phase(stages.SWAPPING)
            end = time.monotonic() + swapping
            while plan and not interrupted and time.monotonic() < end:
                began = time.monotonic()
                change(stage, *plan.popleft())
                time.sleep(max(0.0, began + every - time.monotonic()))
    clients.phase(stages.QUIET)
    time.sleep(quiet)


@contextlib.contextmanager
def _interruptible():
    """A list that is no longer empty once SIGINT came."""
    came = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


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


def run(daemon, plugin_folder, plan, quiet=5.0, swapping=5.0, kill_every=0.0, every=0.0):
    """One storm over a daemon that is not started yet; its row."""
    stage = stages.Stage(daemon, plugin_folder, strict=not kill_every)
    try:
        stage.start(**(BESIEGED if kill_every else {}))
        with (
            stages.Clients(stage, (*stages.MEMORY_CLIENTS, *stages.HTTP_CLIENTS)) as clients,
            Killer(stage, kill_every) as killer,
        ):
            storm(stage, clients, plan, quiet, swapping, attempt if kill_every else change, every)
            reports = clients.end()
        return {**result(stage, reports), "killed": dict(killer.killed)}
    finally:
        stage.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugin-swaps", type=int, default=1000)
    parser.add_argument("--model-swaps", type=int, default=1000)
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds of a phase without swaps")
    parser.add_argument("--swapping", type=float, default=5.0, help="seconds of a phase with swaps")
    parser.add_argument(
        "--every",
        type=float,
        default=0.25,
        metavar="SECONDS",
        help="a swap begins that often, or when the one before is done",
    )
    parser.add_argument(
        "--kill-every",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="kill a worker or a plugin host that often, on average; swaps may then fail",
    )
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
        row = run(daemon, plugins, plan, args.quiet, args.swapping, args.kill_every, args.every)
    finally:
        clean = daemon.clean_up()
        shutil.rmtree(folder)
    row["a_swap_every"] = args.every
    row["seconds"] = round(time.monotonic() - began, 1)
    row["shared_memory_left"] = sorted(set(traces.names()) - set(before))
    row["machine"] = where
    print(json.dumps(row, indent=1))
    print(summary(row))
    if args.json:
        args.json.write_text(json.dumps(row, indent=1) + "\n")
    assert clean, "a process is left"
    assert not row["faults"], row["faults"]
    assert args.kill_every or not row["swaps_failed"], row["swaps_failed"]


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
