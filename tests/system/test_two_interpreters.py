# SPDX-License-Identifier: BUSL-1.1
"""PyTorch in the daemon's own interpreter and TensorFlow in another one, served at once.

MLOS_TEST_TENSORFLOW names a virtual environment that holds mlos-core of the same version and
mlos-plugin-tensorflow with both of its extras. Each framework writes its model, and its own
answers, in a process of its own; what is served must have the same bits.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mlos_core.client import connect
from mlos_core.errors import InvalidInput, PluginBroken
from tests.conftest import Daemon

from .transports import at_once

VENV = os.environ.get("MLOS_TEST_TENSORFLOW", "")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not VENV, reason="MLOS_TEST_TENSORFLOW names no virtual environment"),
]

COUNT = 8
QUESTIONS = f"""
import sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
random = np.random.default_rng(5)
weight = random.standard_normal((64, 10), np.float32)
questions = [random.standard_normal((1 + i % 3, 64), np.float32) for i in range({COUNT})]

def keep(name, answers):
    arrays = {{f"x{{i}}": x for i, x in enumerate(questions)}}
    arrays.update({{f"y{{i}}": np.asarray(y) for i, y in enumerate(answers)}})
    np.savez(folder / f"{{name}}.npz", **arrays)
"""
TENSORFLOW = """
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
module = tf.Module()
module.weight = tf.Variable(weight)
module.serve = tf.function(
    lambda x: {"y": tf.nn.softmax(tf.nn.tanh(x) @ module.weight)},
    input_signature=[tf.TensorSpec([None, 64], tf.float32, name="x")],
)
tf.saved_model.save(module, str(folder / "tensorflow"), {"serving_default": module.serve})
loaded = tf.saved_model.load(str(folder / "tensorflow")).signatures["serving_default"]
keep("tensorflow", [loaded(x=tf.constant(x))["y"] for x in questions])

from ai_edge_litert.interpreter import Interpreter
converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "tensorflow"))
(folder / "tflite.tflite").write_bytes(converter.convert())
runner = Interpreter(str(folder / "tflite.tflite"), num_threads=1).get_signature_runner()
keep("tflite", [runner(x=x)["y"] for x in questions])
"""
PYTORCH = """
import torch
torch.set_num_threads(1)

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(weight))

    def forward(self, x):
        return torch.softmax(torch.tanh(x) @ self.weight, 1)

rows = {"x": {0: torch.export.Dim("rows")}}
program = torch.export.export(Network(), (torch.ones(3, 64),), dynamic_shapes=rows)
torch.export.save(program, str(folder / "pytorch.pt2"))
with torch.inference_mode():
    keep("pytorch", [program.module()(torch.from_numpy(x)) for x in questions])
"""


def make(python, code, folder):
    command = [python, "-P", "-c", QUESTIONS + code, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """What to register, by name: the parameters of `register`."""
    folder = tmp_path_factory.mktemp("models")
    make(Path(VENV) / "bin" / "python", TENSORFLOW, folder)
    there = {"python": VENV, "threads": 1}
    known = {
        "tensorflow": {"path": str(folder / "tensorflow"), "plugin": "tensorflow", **there},
        "tflite": {"path": str(folder / "tflite.tflite"), "plugin": "tflite", **there},
    }
    names = ("torch", "mlos_plugin_pytorch")
    if all(importlib.util.find_spec(name) for name in names):
        make(sys.executable, PYTORCH, folder)
        here = {"path": str(folder / "pytorch.pt2"), "plugin": "pytorch", "threads": 1}
        known["pytorch"] = here
    else:
        (folder / "echo.echo").write_text('{"mode": "echo"}')
        known["echo"] = {"path": str(folder / "echo.echo"), "plugin": "echo"}
    return known


@pytest.fixture(scope="module")
def daemon(models):
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        running = Daemon(Path(name), {}).start()
        try:
            for model, how in models.items():
                running.call("register", name=model, timeout=120.0, **how)
            yield running
        finally:
            clean = running.clean_up()
        assert clean


def known_answers(models, name):
    """Questions, and what the framework answered in process."""
    folder = Path(models[name]["path"]).parent
    with np.load(folder / f"{name}.npz") as file:
        return [(file[f"x{i}"], file[f"y{i}"]) for i in range(COUNT)]


def ask(daemon, models, name):
    """Ask everything; true if every bit is right."""
    pairs = known_answers(models, name)
    with connect(daemon.socket) as client:
        model = client.model(name)
        (spec,) = model.signature.inputs
        answers = [
            next(iter(model.infer({spec.name: x}).values())).copy() for x, _ in pairs for _ in "12"
        ]
    wanted = [y for _, y in pairs for _ in "12"]
    return [a.tobytes() for a in answers] == [y.tobytes() for y in wanted]


def worker_of(daemon, name):
    (worker,) = daemon.call("model", name=name)["workers"]
    return worker["pid"]


def loaded_by(pid):
    return Path(f"/proc/{pid}/maps").read_text()


def test_both_frameworks_answer_at_once_with_their_own_bits(daemon, models):
    names = [name for name in models if name != "echo"] * 2
    right = at_once([lambda name=name: ask(daemon, models, name) for name in names])
    assert right == [True] * len(names)


def test_each_framework_is_in_the_processes_of_its_own_interpreter_only(daemon, models):
    maps = {name: loaded_by(worker_of(daemon, name)) for name in models}
    assert "libtensorflow" in maps["tensorflow"]
    assert "_pywrap_litert_interpreter" in maps["tflite"]
    for name, text in maps.items():
        assert (name == "tensorflow") == ("libtensorflow" in text)
        assert (name == "pytorch") == ("libtorch" in text)
        assert (VENV in text) == ("python" in models[name])


def test_a_killed_worker_is_succeeded_in_its_interpreter(daemon, models):
    before = worker_of(daemon, "tensorflow")
    os.kill(before, signal.SIGKILL)
    assert ask(daemon, models, "tensorflow")
    after = worker_of(daemon, "tensorflow")
    assert after != before
    assert "libtensorflow" in loaded_by(after)


def test_what_is_served_says_which_interpreter_it_is_in(daemon, models):
    for name, how in models.items():
        binary = str(Path(VENV) / "bin" / "python") if "python" in how else ""
        assert daemon.call("model", name=name)["python"] == binary


def test_an_interpreter_that_cannot_serve_says_why(daemon, models, tmp_path):
    path = models["tflite"]["path"]
    with pytest.raises(InvalidInput, match="no Python interpreter at"):
        daemon.call("register", name="x", path=path, plugin="tflite", python=str(tmp_path))
    with pytest.raises(PluginBroken, match="nobodys"):
        daemon.call("register", name="x", path=path, plugin="nobodys", python=VENV)
    assert "x" not in {model["name"] for model in daemon.call("models")}
