# SPDX-License-Identifier: BUSL-1.1
"""A plugin that does one thing wrong, as its option `fault` says, and a daemon to try it on."""

import os
import signal

import pytest

from mlos_core.cli import private
from mlos_core.cli.plugins import QUICK
from mlos_core.conformance import Target, outcome, processes
from mlos_core.conformance.checks import unloading
from mlos_core.conformance.subject import Subject
from mlos_core.conformance.suite import CHECKS

FAULTY = '''
import os, signal, subprocess, tempfile, threading, time
import numpy as np
from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.smi import EngineModel, Event, Plugin, TensorModel
from mlos_core.types import Signature, TensorSpec

KNOWN = {"fault"}


class Rows(TensorModel):
    """y = x + 1, but for the fault."""

    def __init__(self, fault):
        self.fault, self.calls, self.last = fault, 0, None
        width = 300_000 if fault == "wide" else 2
        x = TensorSpec("x", "float32", (-1, width))
        y = TensorSpec("y", "float32", (-1, 2))
        self.signature = Signature((x,), (y,), batched=fault != "fixed")

    def infer(self, batch, allocate):
        x = batch["x"]
        self.calls += 1
        if self.fault == "nan" and not np.isfinite(x).all():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "empty" and not len(x):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "invalid" and x.max(initial=0) > 1e30:
            self.calls = 10**6  # answers are wrong from now on
        y = allocate("y", "float32", (len(x), 2))
        y[...] = x[:, :2] + 1
        if self.fault in ("counts", "invalid"):
            y += self.calls // 10**(6 * (self.fault == "invalid"))
        if self.fault == "mean" and len(x) > 1:
            y += x.mean()
        if self.fault == "order" and len(x) > 2:
            y[...] = y[::-1].copy()
        if self.fault == "keeps":
            if self.last is not None:
                self.last[...] = 0
            self.last = y
        return {"y": y}

    def close(self):
        if self.fault == "worse":
            raise OSError("nothing closes")


class Count(EngineModel):
    """n numbers, but for the fault."""

    signature = Signature((TensorSpec("n", "float32", (1,)),), (), streaming=True)

    def __init__(self, fault):
        self.fault, self.at = fault, {}

    def submit(self, request):
        start = 0 if self.fault == "forgets" else request.resume_from
        self.at[request.id] = [start, float(request.inputs["n"].item())]

    def cancel(self, id):
        self.at.pop(id, None)

    def pause(self, id):
        self.at[id].append("paused")

    def resume(self, id):
        self.at[id].pop()

    def step(self):
        return [event for id in list(self.at) if len(self.at[id]) == 2 for event in self.next(id)]

    def next(self, id):
        at, n = self.at[id]
        if at == 2000:
            del self.at[id]
            return [Event(id, final=True)]
        self.at[id][0] += 1
        extra = len(self.at) if self.fault == "mixes" else time.time() * (self.fault == "clock")
        return [Event(id, data=[at, n, extra])]


class FaultyPlugin(Plugin):
    name = "faulty"
    formats = (".faulty",)

    def load(self, package, device, options):
        fault = options.get("fault", "")
        unknown = set(options) - KNOWN
        if unknown and fault != "options":
            raise LoadFailed(f"no option {sorted(unknown)[0]!r}", hint="it has fault")
        if device != "cpu" and fault != "device":
            raise LoadFailed("only cpu")
        if package.path.is_dir() and fault != "anything":
            raise LoadFailed("a folder")
        good = package.path.is_file() and package.path.read_bytes() == b"faulty" * 10
        if not good and fault == "crash":
            os.abort()
        if not good and fault != "anything":
            raise LoadFailed("not faulty")
        if fault == "descriptor":
            os.open("/dev/null", os.O_RDONLY)
        if fault == "thread":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        if fault == "file":
            tempfile.mkstemp()
        if fault == "process":
            subprocess.Popen(["sleep", "100"])
        if fault == "never":
            raise ValueError("it never loads")
        return (Count if fault in ("clock", "forgets", "mixes", "stream") else Rows)(fault)
'''


def install(folder, name="faulty", code=FAULTY):
    """Put a plugin's module and its metadata into a folder."""
    (folder / f"{name}_module.py").write_text(code)
    meta = folder / f"{name}-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(
        f"[mlos.plugins]\n{name} = {name}_module:{name.capitalize()}Plugin\n"
    )


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    plugins = tmp_path_factory.mktemp("plugins")
    install(plugins)
    with private.temporary_folder("mlos-test-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(plugins))
        (folder / "tmp").mkdir()
        with private.running(folder, **QUICK, TMPDIR=str(folder / "tmp")) as running:
            yield running
        for pid in processes.marked(f"TMPDIR={folder / 'tmp'}"):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def judge(daemon, tmp_path, monkeypatch):
    """`judge(check, fault)` is the outcome of one check, found by its sentence."""
    monkeypatch.setattr(unloading, "_SETTLED_S", 1.0)
    subjects = []
    checks = {outcome.sentence(c): (group, c) for group, every in CHECKS.items() for c in every}

    def judge(name, fault="", **fields):
        path = tmp_path / "model.faulty"
        path.write_bytes(b"faulty" * 10)
        options = {"fault": fault} if fault else {}
        target = Target("faulty", path, options, timeout=20.0, **fields)
        subjects.append(subject := Subject(target, daemon))
        subject.at_first = subject.temporary_files()
        if name != "the model loads":
            outcome.run("contract", checks["the model loads"][1], subject)
        return outcome.run(*checks[name], subject)

    yield judge
    for subject in subjects:
        subject.retire()
        subject.close()
