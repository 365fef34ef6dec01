# SPDX-License-Identifier: BUSL-1.1
"""Workers that die at every moment while clients ask: every request is answered, and right.

`python tests/system/kills.py --kills 1000 --json FILE` does it at length; the tests do a
little of it. A worker dies at the crash point that its number gives it, after a random
number of passes, or by SIGKILL from outside at a random moment.
"""

import argparse
import collections
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TENSOR_WAYS = ("infer", "prepare", "submit", "infer_async")
STREAM_WAYS = ("stream", "stream", "stream_async", "stream_async")
SETTINGS = {
    "MLOS_MAX_ATTEMPTS": "15",
    "MLOS_RESTART_LIMIT": "1000000",
    "MLOS_LOG_LEVEL": "info",
    "MLOS_ADOPT_GRACE": "10",
}
SPECS = {
    "m": {
        "mode": "echo",
        "batched": True,
        "inputs": [{"name": "x", "dtype": "float64", "shape": [-1, -1]}],
    },
    "s": {"mode": "stream"},
}


def register(daemon, folder, name, instances=1):
    """The model `m` (echo) or `s` (streams)."""
    path = folder / f"{name}.echo"
    path.write_text(json.dumps(SPECS[name]))
    batch = {"max_batch_size": 8} if name == "m" else {}
    daemon.call("register", name=name, path=str(path), instances=instances, batch=batch)


def descriptors(pid):
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def until(condition, seconds=30.0, show=lambda: "it did not come about"):
    """Wait for what will come about."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, show()
        time.sleep(0.01)
    return value


def settle(daemon, most=None):
    """Wait until every channel is given back, every worker serves, and the daemon has no
    more than `most` descriptors open; how many it has."""
    until(lambda: (s := daemon.call("status"))["ready"] and s["channels"] == 0)
    if most is not None:
        until(
            lambda: descriptors(daemon.pid) <= most,
            show=lambda: f"{open_files(daemon.pid)}, not {most}",
        )
    return descriptors(daemon.pid)


def open_files(pid):
    """What a process has open."""
    return sorted(str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())


def in_shared_memory():
    """The names in /dev/shm."""
    return {entry.name for entry in Path("/dev/shm").iterdir()}


class Killer:
    """Counts how workers of a daemon die, and sees to it that they do.

    Args:
        points: the crash points of the daemon's workers, in the order of `MLOS_CRASH_AT`.
        pause: mean seconds between two kills from outside.
    """

    def __init__(self, daemon, name, points, pause=0.12, seed=1):
        self.daemon = daemon
        self.name = name
        self.points = points
        self.pause = pause
        self.outside = set()
        self.random = random.Random(seed)

    def run(self, kills, point=None, seconds=600.0):
        """Until `kills` workers have died (at that point); how many by what."""
        end = time.monotonic() + seconds
        with self.daemon.connect() as client:
            while (found := self.count())[point] < kills:
                assert time.monotonic() < end, f"only {found} in {seconds} s"
                time.sleep(self.random.expovariate(1 / self.pause))
                self.strike(client)
        return found

    def strike(self, client):
        workers = [w for w in client.call("model", name=self.name)["workers"] if w["pid"]]
        if workers:
            victim = self.random.choice(workers)
            try:
                os.kill(victim["pid"], signal.SIGKILL)
            except ProcessLookupError:
                return
            self.outside.add(victim["owner"])

    def count(self):
        """How many have died by what; `None` counts all."""
        points, counts = self.points, collections.Counter()
        for line in self.daemon.journal.events("worker_gone", model=self.name):
            outside = line["owner"] in self.outside
            counts["outside" if outside else points[line["owner"] % len(points)]] += 1
            counts[None] += 1
        return counts


# --- at length --------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--daemon-kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    conftest, crash = _module("conftest"), _module("crash")
    load = _module("system/load")
    rows = []
    folder = Path(tempfile.mkdtemp(prefix="mlos-kills-"))
    try:
        environ = crash.build(folder / "build")
        for name, ways, share, instances in (
            ("m", TENSOR_WAYS, 0.5, 1),
            ("m", TENSOR_WAYS, 0.2, 2),
            ("s", STREAM_WAYS, 0.3, 1),
        ):
            daemon_folder = folder / f"{name}{instances}"
            daemon_folder.mkdir()
            daemon = conftest.Daemon(daemon_folder, environ)
            try:
                rows.append(
                    siege(daemon, crash, load, name, ways, round(args.kills * share), instances)
                )
            finally:
                assert daemon.clean_up(), "a process is left"
            print(json.dumps(rows[-1]), flush=True)
        daemon = conftest.Daemon(folder / "daemons", environ)
        daemon.folder.mkdir()
        try:
            daemons = siege_of_daemons(daemon, load, args.daemon_kills)
        finally:
            assert daemon.clean_up(), "a process is left"
        print(json.dumps(daemons), flush=True)
    finally:
        shutil.rmtree(folder)
    if args.kills >= 1000:
        seen = {point for row in rows for point in row["died"]}
        assert seen >= set(crash.WORKER_POINTS), set(crash.WORKER_POINTS) - seen
    print(summary(rows))
    print(summary_of_daemons(daemons))
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "daemons": daemons}, indent=1) + "\n")


def siege(daemon, crash, load, name, ways, kills, instances):
    """One model, four clients, `kills` deaths; one row of the record."""
    points = crash.WORKER_POINTS
    before = in_shared_memory()
    daemon.start(**SETTINGS, MLOS_CRASH_AT=crash.plan(points))
    register(daemon, daemon.folder, name, instances)
    fds = settle(daemon)
    worker_fds = max(map(descriptors, worker_pids(daemon)))
    began = time.monotonic()
    killer = Killer(daemon, name, points)
    with load.Load(daemon, daemon.environ, ways, model=name) as running:
        died = killer.run(kills)
        reports = running.end()
    seconds = time.monotonic() - began
    row = {
        "model": name,
        "instances": instances,
        "kills": died.pop(None),
        "seconds": round(seconds, 1),
        "answers": sum(r["answers"] for r in reports),
        "events": sum(r["events"] for r in reports),
        "wrong": 0,
        "died": dict(sorted(died.items())),
        "daemon_fds": [fds, settle(daemon, fds)],
        "worker_fds": [worker_fds, max(map(descriptors, worker_pids(daemon)))],
    }
    assert row["worker_fds"][1] <= worker_fds, row
    assert daemon.stop() == 0
    row["shared_memory_left"] = sorted(in_shared_memory() - before)
    assert not row["shared_memory_left"]
    return row


def siege_of_daemons(daemon, load, kills):
    """The daemon dies under load again and again, every third time with all its workers."""
    before = in_shared_memory()
    daemon.start(**SETTINGS)
    for name in ("m", "s"):
        register(daemon, daemon.folder, name, instances=2)
    adopted = replaced = 0
    with (
        load.Load(daemon, daemon.environ, TENSOR_WAYS, model="m") as tensors,
        load.Load(daemon, daemon.environ, STREAM_WAYS, model="s") as streams,
    ):
        for turn in range(kills):
            then = worker_pids(daemon)
            daemon.kill()
            if turn % 3 == 2:
                for pid in then:
                    os.kill(pid, signal.SIGKILL)
            else:
                tensors.wait_more()
                streams.wait_more()
            daemon.start(**SETTINGS)
            tensors.wait_more()
            streams.wait_more()
            until(lambda: daemon.call("status")["ready"])
            now = worker_pids(daemon)
            adopted += len(then & now)
            replaced += len(now - then)
            assert turn % 3 == 2 or now == then, f"{then} became {now}"
        reports = tensors.end() + streams.end()
    settle(daemon)
    assert daemon.stop() == 0
    assert in_shared_memory() <= before
    return {
        "kills": kills,
        "adopted": adopted,
        "replaced": replaced,
        "answers": sum(r["answers"] for r in reports),
    }


def worker_pids(daemon):
    """The processes of all workers that serve."""
    models = daemon.call("models")
    return {w["pid"] for m in models for w in m["workers"] if w["state"] == "ready"}


def summary_of_daemons(row):
    return (
        f"{row['kills']} kills of the daemon under load: {row['adopted']} workers adopted, "
        f"{row['replaced']} killed with it and replaced, {row['answers']} requests of 8 clients "
        "answered once and right"
    )


def summary(rows):
    kills, answers, events = (sum(r[k] for r in rows) for k in ("kills", "answers", "events"))
    points = {point for r in rows for point in r["died"]}
    return (
        f"{kills} kills of workers at {len(points)} kinds of moments, {answers} requests of 12 "
        f"clients, {events} stream events: every one answered once and right"
    )


def _module(name):
    spec = importlib.util.spec_from_file_location(
        f"mlos_tests_{Path(name).name}", HERE.parent / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
