# SPDX-License-Identifier: BUSL-1.1
"""A plugin whose versions follow each other on disk, and models that misbehave on demand.

`Distribution.install(n)` is what `pip install --upgrade` does: the module and its metadata
are another version's from then on. Every answer says which version of the plugin, which model
file and which worker made it, and its numbers depend on the first two, so that a wrong, mixed
or late answer is seen. `faults` of a plugin version or of a model file name where it breaks.
"""

import json
import shutil
import threading

SOURCE = """
import json, os, signal, sys, time
import numpy as np
from mlos_core.errors import LoadFailed
from mlos_core.smi import Plugin, TensorModel
from mlos_core.types import Signature, TensorSpec
from mlos_plugin_echo.description import Description
from mlos_plugin_echo.engine import StreamModel

PLUGIN = {number}
FAULTS = {faults!r}


def go_wrong(how):
    if how == "raise":
        raise RuntimeError("this version is broken")
    if how == "hang":
        time.sleep(3600)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit":
        os._exit(0)
    elif how == "leave":
        sys.exit(0)
    elif how and how.startswith("/"):  # a gate: go on when somebody has opened it
        open(how).read()


go_wrong(FAULTS.get("import"))


class Tensors(TensorModel):
    def __init__(self, number, faults):
        columns = 7 if faults.get("signature") else 8
        x = TensorSpec("x", "float64", (-1, columns))
        y, who = TensorSpec("y", "float64", (-1, columns)), TensorSpec("who", "int64", (-1, 3))
        self.signature = Signature((x,), (y, who), batched=True)
        self.who = np.array([PLUGIN, number, time.monotonic_ns()])
        self.add = PLUGIN + 4096.0 * number
        self.faults = faults
        self.calls = 0

    def infer(self, batch, allocate):
        x = batch["x"]
        self.calls += 1
        # The first call warms up, and so may some more.
        when = {{1: "warmup"}}.get(self.calls, "serve" if self.calls > 20 else "")
        how = self.faults.get(when)
        go_wrong(how)
        if how == "shapes":
            return {{"y": np.zeros((x.shape[0] + 1, 2)), "who": np.zeros((1, 1), np.int64)}}
        y = allocate("y", "float64", x.shape)
        np.add(x, self.add, out=y)
        who = allocate("who", "int64", (x.shape[0], 3))
        who[:] = self.who
        return {{"y": y, "who": who}}


class Streams(StreamModel):
    def __init__(self, number, faults):
        super().__init__(Description(mode="stream", step_seconds=0.001))
        signature = self.signature
        outputs = (*signature.outputs, TensorSpec("who", "int64", (3,)))
        self.signature = Signature(signature.inputs, outputs, streaming=True)
        self.who = np.array([PLUGIN, number, time.monotonic_ns()])

    def step(self):
        events = super().step()
        for event in events:
            if event.final:
                event.outputs["who"] = self.who
        return events


class Kind(Plugin):
    name = "{name}"
    formats = (".{name}",)
    framework = "{name} {number}"

    def load(self, package, device, options):
        made = json.loads(package.path.read_text())
        faults = {{**FAULTS, **made.get("faults", {{}})}}
        go_wrong(faults.get("load"))
        ballast = made.get("ballast", 0)
        model = (Streams if made.get("streams") else Tensors)(made["number"], faults)
        model.ballast = np.ones(ballast // 8)
        return model
"""


def added(plugin, number):
    """What the answer of that version has more than the question."""
    return plugin + 4096.0 * number


class Distribution:
    """The plugin `name` in `folder`, which is on the search path of a daemon.

    Its models lie elsewhere: a search path that changes is read anew by every look for plugins.
    """

    def __init__(self, folder, models, name="storm"):
        self.folder = folder
        self.models = models
        self.name = name
        self.number = 0

    def install(self, number, **faults):
        """Put version `number` in the place of the one there is; no moment has neither."""
        module = self.folder / f"{self.name}_plugin.py"
        source = SOURCE.format(name=self.name, number=number, faults=faults)
        _write(module, source)
        _write(
            self.meta / "METADATA",
            f"Metadata-Version: 2.1\nName: mlos-{self.name}\nVersion: 1.0.{number}\n",
        )
        points = f"[mlos.plugins]\n{self.name} = {self.name}_plugin:Kind\n"
        _write(self.meta / "entry_points.txt", points)
        self.number = number

    @property
    def meta(self):
        folder = self.folder / f"mlos_{self.name}-1.dist-info"
        folder.mkdir(exist_ok=True)
        return folder

    def uninstall(self):
        (self.folder / f"{self.name}_plugin.py").unlink()
        shutil.rmtree(self.meta)

    def model(self, number, *, streams=False, ballast=0, **faults):
        """The path of a model file."""
        path = self._model_path(number, streams)
        content = {"number": number, "faults": faults, "streams": streams, "ballast": ballast}
        _write(path, json.dumps(content))
        return str(path)

    def forget_model(self, number, *, streams=False):
        """Remove the file of a version that nobody can want any more."""
        self._model_path(number, streams).unlink(missing_ok=True)

    def _model_path(self, number, streams):
        return self.models / f"{'streams' if streams else 'model'}-{number}.{self.name}"


def _write(path, text):
    """The file is the old one or the new one, never half of it."""
    fresh = path.with_name(f"{path.name}.{threading.get_ident()}.new")
    fresh.write_text(text)
    fresh.replace(path)
