# SPDX-License-Identifier: BUSL-1.1
"""A daemon with models whose versions change, and clients that watch every answer."""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from plugin_versions import Distribution
from swap_answers import save_onnx

from mlos_core.errors import MlosError

PATIENCE = 90.0
CLIENT = str(Path(__file__).resolve().parent / "swap_client.py")
QUIET, SWAPPING = 0, 1
BUCKETS = 64  # as in swap_client.py: latencies are counted on a logarithmic scale
SETTINGS = {
    "MLOS_LOG_LEVEL": "info",
    "MLOS_HTTP": "true",
    "MLOS_HTTP_PORT": "0",
    # pip compiles anew what it installs; a rewritten module must not meet its old bytecode.
    "PYTHONDONTWRITEBYTECODE": "1",
}
MEMORY_CLIENTS = (
    {"client": "sync", "turns": [("t", "infer"), ("t", "prepare"), ("o", "infer")]},
    {"client": "sync", "turns": [("s", "stream"), ("t", "submit"), ("o", "infer")]},
    {"client": "async", "turns": [("t", "infer"), ("o", "infer")]},
    {"client": "async", "turns": [("s", "stream"), ("t", "infer")]},
)
HTTP_CLIENTS = (
    {"client": "http", "turns": [("t", "infer"), ("o", "infer")], "sizes": 2},
    {"client": "http", "turns": [("t", "infer"), ("s", "stream")], "sizes": 2},
)


class Reign:
    """The time in which one version of a model may answer."""

    def __init__(self, maker, began, ready):
        self.maker = maker
        self.began = began  # when the operation that brought it began
        self.ready = ready  # when that operation returned
        self.until = None  # when the operation that ended it returned


class History:
    """Which version of each model was served when. Times are `monotonic_ns`.

    Where processes are killed all the time nobody can tell when exactly a version's last
    worker was loaded, or gone: then (`strict` false) the times are not judged.
    """

    def __init__(self, *, strict=True):
        self.reigns = {}
        self.strict = strict

    def begins(self, model, maker, began, ready):
        """From `ready` on, new requests are answered by `maker` alone."""
        reigns = self.reigns.setdefault(model, [])
        if reigns and len(maker) == 1 and reigns[-1].maker == tuple(maker):
            return  # nothing in an answer tells one from the other
        if reigns:
            reigns[-1].until = ready
        reigns.append(Reign(tuple(maker), began, ready))

    def maker(self, model):
        return self.reigns[model][-1].maker

    def fault(self, model, maker, first_answered, last_sent):
        """What is wrong with answers of `maker` from `first_answered` to `last_sent`, or None."""
        if not maker or not self.strict:
            return None
        known = [r for r in self.reigns[model] if tuple(maker[: len(r.maker)]) == r.maker]
        if not known:
            return f"{model}: {maker} was never served"
        if len(maker) > len(known[0].maker):  # it says when it was loaded, too
            loaded = maker[-1]
            known = [r for r in known if r.began <= loaded <= r.ready]
            if not known:
                return f"{model}: {maker} was loaded out of its time"
        if not any(
            r.began <= first_answered and (r.until is None or last_sent <= r.until) for r in known
        ):
            return f"{model}: {maker} answered out of its time: {late(known, last_sent)}"
        return None


def late(reigns, last_sent):
    ends = [(last_sent - r.until) / 1e6 for r in reigns if r.until is not None]
    return ", ".join(f"{ms:.1f} ms after it was replaced" for ms in ends)


class Client:
    """One `swap_client.py` process."""

    def __init__(self, job, environ):
        self.job = job
        self.report = Path(job["report"])
        self.process = subprocess.Popen(
            [sys.executable, "-P", CLIENT, json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **environ},
        )

    @property
    def name(self):
        ways = " ".join(f"{model}.{way}" for model, way in self.job["turns"])
        return f"{self.job['client']} {ways}"

    def wait_answer(self):
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert readable, f"no answer for {self.name}"
        line = self.process.stdout.readline()
        assert line == b"answered\n", f"{self.name}: {line}"

    def wait_more(self):
        self.process.send_signal(signal.SIGUSR1)
        self.wait_answer()

    def end(self):
        """Its report, after it has had the answers to all it asked."""
        status = self.process.wait(PATIENCE)
        assert status == 0, f"{self.name} ended with {status}"
        return {"client": self.name, **json.loads(self.report.read_text())}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.process.stdout.close()


class Clients:
    """All clients at once; they write down each answer under the phase of the run."""

    def __init__(self, stage, jobs, seed=1):
        page = stage.folder / "phase"
        page.write_bytes(bytes(mmap.PAGESIZE))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        common = {"socket": str(stage.daemon.socket), "page": str(page), "timeout": 60.0}
        common["http"] = stage.http
        self.clients = []
        for number, job in enumerate(jobs, seed):
            own = {"seed": number, "report": str(stage.folder / f"report-{number}.json")}
            self.clients.append(Client({**common, **own, **job}, stage.daemon.environ))

    def phase(self, number):
        self._page[0] = number

    def __enter__(self):
        for client in self.clients:
            client.wait_answer()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        self._page.close()

    def wait_more(self):
        for client in self.clients:
            client.wait_more()

    def end(self):
        for client in self.clients:
            client.process.terminate()
        return [client.end() for client in self.clients]


class Stage:
    """The models `t` (tensors), `s` (streams), both of a plugin with versions, and `o` (ONNX)."""

    def __init__(self, daemon, plugin_folder, models=("t", "s", "o"), *, strict=True):
        self.daemon = daemon
        self.folder = daemon.folder
        self.plugin = Distribution(plugin_folder, daemon.folder)
        self.history = History(strict=strict)
        self.models = models
        self.made = dict.fromkeys(models, 0)  # how many files
        self.numbers = {}  # which of them is served
        self.before = {}  # and which was, for a rollback
        self.operations = []
        self._client = None

    def start(self, **settings):
        self.plugin.install(1)
        self.daemon.start(**{**SETTINGS, **settings})
        self._client = self.daemon.connect()
        for model in self.models:
            began = time.monotonic_ns()
            self.call("register", name=model, path=self.next_file(model))
            self.serves(model, self.made[model], began)
        return self

    @property
    def http(self):
        return self.call("status")["http"][0]

    def call(self, method, **params):
        return self._client.call(method, **params)

    def reconnect(self):
        """The daemon is another one now."""
        self._client.close()
        self._client = self.daemon.connect()

    def close(self):
        if self._client is not None:
            self._client.close()

    def serves(self, model, number, began):
        """A change that began then has returned: that file of the model is served."""
        self.before[model] = self.numbers.get(model)
        self.numbers[model] = number
        maker = (number,) if model == "o" else (self.plugin.number, number)
        self.history.begins(model, maker, began, time.monotonic_ns())

    def next_file(self, model, **faults):
        """Another model file: its path."""
        self.made[model] = number = self.made[model] + 1
        if model == "o":
            old = self.folder / f"o-{number - 4}.onnx"
            old.unlink(missing_ok=True)
            return save_onnx(self.folder / f"o-{number}.onnx", number)
        streams = model == "s"
        self.plugin.forget_model(number - 4, streams=streams)
        return self.plugin.model(number, streams=streams, **faults)

    # --- operations -----------------------------------------------------------------------

    def swap_plugin(self, name="storm", **options):
        """Another version of the plugin is installed and swapped in."""
        if name == "storm":
            self.plugin.install(self.plugin.number + 1)
        moved = {m: self.numbers[m] for m in self.models if (m == "o") == (name == "onnx")}
        with Operation(self, "plugin", moved):
            return self.call("swap_plugin", name=name, **options)

    def swap_model(self, model, **options):
        path = self.next_file(model)
        with Operation(self, "model", {model: self.made[model]}):
            return self.call("swap_model", name=model, path=path, **options)

    def rollback(self, model):
        """Back to the file that was served before; call it right after `swap_model`."""
        with Operation(self, "rollback", {model: self.before[model]}):
            return self.call("rollback_model", name=model)

    def refused(self, method, **params):
        """What a change that must not come about is refused with."""
        try:
            result = self.call(method, **params)
        except MlosError as error:
            return error
        raise AssertionError(f"{method} {params} was accepted: {result}")

    def pids(self, *models):
        """The processes that serve."""
        return {
            worker["pid"]
            for model in models or self.models
            for worker in self.call("model", name=model)["workers"]
        }


class Operation:
    """One change, from its beginning to its end, in the history."""

    def __init__(self, stage, kind, numbers):
        self.stage = stage
        self.kind = kind
        self.numbers = numbers

    def __enter__(self):
        self.began = time.monotonic_ns()

    def __exit__(self, kind, error, trace):
        ended = time.monotonic_ns()
        self.stage.operations.append((self.kind, self.began, ended, error is None))
        if error is None:
            for model, number in self.numbers.items():
                self.stage.serves(model, number, self.began)


def faults_of(reports, history):
    """Everything that any client has to complain of, and every answer out of its time."""
    faults = [f"{r['client']}: {fault[1:]}" for r in reports for fault in r["faults"]]
    for report in reports:
        for model, found in report["makers"].items():
            for maker, first, last, _ in found:
                if fault := history.fault(model, maker, first, last):
                    faults.append(f"{report['client']}: {fault}")
    return faults
