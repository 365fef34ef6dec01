# SPDX-License-Identifier: BUSL-1.1
"""Several people change everything at once: the daemon never fails, hangs or forgets anything.

`python tests/system/monkey.py --seconds 120` does it at length; the tests do a little of it.
Threads with connections of their own call whatever changes models, plugins, versions and
routes, with good and bad parameters, while others ask. A call may be refused, with a reason;
an answer must be right; and when all is unregistered, nothing is left.
"""

import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

import traces  # noqa: E402
from plugin_versions import Distribution, added  # noqa: E402
from swaps import conftest  # noqa: E402

from mlos_core.errors import MlosError  # noqa: E402

SETTINGS = {
    "MLOS_LOG_LEVEL": "info",
    "MLOS_LOAD_TIMEOUT": "20",
    "MLOS_MEMORY_BUDGET": str(400 << 20),
    "PYTHONDONTWRITEBYTECODE": "1",
}
NAMES = ("a", "b", "c")
VERSIONS = ("", "1.0", "1.1", "2.0-rc.1", "2.0")
FAULTS = ({}, {}, {}, {}, {"load": "raise"}, {"load": "kill"}, {"warmup": "raise"})
QUESTION = [[float(value) for value in range(1, 9)]]


class Monkey:
    """One thread that changes things."""

    def __init__(self, daemon, plugin, seed):
        self.daemon = daemon
        self.plugin = plugin
        self.random = random.Random(seed)
        self.calls = collections.Counter()
        self.refusals = collections.Counter()

    def file(self):
        number = self.random.randrange(1, 40)
        faults = self.random.choice(FAULTS)
        if faults:
            number += 100 * (1 + FAULTS.index(faults))
        return self.plugin.model(number, ballast=self.random.choice((0, 8 << 20)), **faults)

    def some(self, *, version=True):
        where = {"name": self.random.choice(NAMES)}
        if version and self.random.random() < 0.5:
            where["version"] = self.random.choice(VERSIONS)
        return where

    def act(self, client):
        method = self.random.choice([name for name in dir(self) if name.startswith("do_")])
        name, params = getattr(self, method)()
        self.calls[name] += 1
        try:
            client.call(name, patience=90.0, **params)
        except MlosError as error:
            self.refusals[error.code] += 1
            if error.code == "internal":  # nobody is at fault for it but the daemon
                raise

    def do_register(self):
        options = {
            "add": self.random.random() < 0.7,
            "replace": self.random.random() < 0.3,
            "load": self.random.choice(("now", "demand")),
            "keep_alive": self.random.choice((-1.0, 0.05, 1.0)),
            "instances": self.random.choice((1, 1, 2)),
            "wait": self.random.random() < 0.8,
            "memory": self.random.choice((0, 60 << 20)),
            "timeout": 20.0,
        }
        return "register", {**self.some(), "path": self.file(), **options}

    do_register_more = do_register

    def do_unregister(self):
        return "unregister", self.some()

    def do_swap_model(self):
        canary = self.random.choice((0.0, 0.0, 0.2))
        return "swap_model", {**self.some(), "path": self.file(), "canary": canary, "timeout": 20.0}

    do_swap_more = do_swap_model

    def do_rollback_model(self):
        return "rollback_model", self.some()

    def do_route_model(self):
        kind = self.random.randrange(4)
        weights = {v: self.random.choice((0, 1, 2.5, -1)) for v in self.random.sample(VERSIONS, 2)}
        choices = ({"weights": weights}, {"weights": weights}, {"version": VERSIONS[2]}, {})
        return "route_model", {**self.some(version=False), **choices[kind]}

    def do_load_model(self):
        return "load_model", {**self.some(), "wait": self.random.random() < 0.5, "timeout": 20.0}

    def do_unload_model(self):
        return "unload_model", self.some()

    def do_swap_plugin(self):
        return "swap_plugin", {"name": "storm", "canary": self.random.choice((0.0, 0.1))}

    def do_look(self):
        return self.random.choice((("models", {}), ("stats", {}), ("plugins", {}), ("status", {})))


class Asker:
    """One thread that asks, and judges what it gets."""

    def __init__(self, daemon, seed):
        self.daemon = daemon
        self.random = random.Random(seed)
        self.answers = 0
        self.refusals = collections.Counter()

    def act(self, client):
        version = self.random.choice(("", "", "1.0", "2.0"))
        try:
            with client.model(self.random.choice(NAMES), version=version, timeout=30.0) as model:
                for _ in range(self.random.randrange(1, 200)):
                    with model.infer({"x": QUESTION}) as result:
                        self.judge(result)
        except MlosError as error:
            self.refusals[error.code] += 1
            if error.code in ("internal", "deadline_exceeded"):
                raise
            time.sleep(0.01)

    def judge(self, result):
        plugin, number, _ = (int(value) for value in result["who"][0])
        more = result["y"] - QUESTION
        assert (more == added(plugin, number)).all(), (plugin, number, more)
        self.answers += 1


class Crowd:
    """All threads, until the time is over; the first thing that goes wrong ends them all."""

    def __init__(self, actors):
        self.over = threading.Event()
        self.faults = []
        self.threads = [threading.Thread(target=self._run, args=(actor,)) for actor in actors]

    def _run(self, actor):
        try:
            with actor.daemon.connect() as client:
                while not self.over.is_set():
                    actor.act(client)
        except BaseException:
            self.faults.append(traceback.format_exc())
            self.over.set()

    def run(self, seconds):
        for thread in self.threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads), "a call does not come back"
        assert not self.faults, self.faults[0]


def run(daemon, plugin_folder, seconds, seed=1, monkeys=3, askers=3):
    """Let them loose, then take everything away; the row."""
    plugin = Distribution(plugin_folder, daemon.folder)
    plugin.install(1)
    daemon.start(**SETTINGS)
    shakers = [Monkey(daemon, plugin, seed * 100 + n) for n in range(monkeys)]
    watchers = [Asker(daemon, seed * 100 + 50 + n) for n in range(askers)]
    Crowd([*shakers, *watchers]).run(seconds)
    with daemon.connect() as client:
        for model in client.call("models"):
            client.call("unregister", name=model["name"])
        left = settle(daemon, client)
    return {
        "seed": seed,
        "calls": dict(sum((m.calls for m in shakers), collections.Counter())),
        "refusals": dict(sum((m.refusals for m in shakers), collections.Counter())),
        "answers": sum(a.answers for a in watchers),
        "unanswered": dict(sum((a.refusals for a in watchers), collections.Counter())),
        "errors": [line for j in daemon.journals for line in j.events("call_failed")],
        "left": left,
    }


def settle(daemon, client, seconds=30.0):
    """What is still there after everything was unregistered and some time has passed."""
    end = time.monotonic() + seconds
    while True:
        status = client.call("status")
        pids = traces.processes(daemon.folder / "run") - {daemon.pid}
        left = {str(pid): traces.name_of(pid) for pid in sorted(pids)}
        stays = [pid for pid, name in left.items() if name == "mlos-template"]
        for pid in stays[:1]:  # the next host is forked from it
            del left[pid]
        found = {k: status[k] for k in ("models", "workers", "channels") if status[k]}
        if (not left and not found) or time.monotonic() > end:
            return {**found, **left}
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mlos-monkey-"))
    plugins = folder / "plugins"
    plugins.mkdir()
    path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH"))))
    daemon = conftest().Daemon(folder, {"PYTHONPATH": path})
    try:
        row = run(daemon, plugins, args.seconds, args.seed)
        assert not row["left"], row
        assert not row["errors"], row
    except BaseException:
        for journal in daemon.journals:
            print("\n".join(map(str, journal.lines[-200:])))
        raise
    finally:
        clean = daemon.clean_up()
        shutil.rmtree(folder)
    for key, value in row.items():
        print(f"{key}: {value}")
    assert clean, "a process is left"


if __name__ == "__main__":
    main()
