# SPDX-License-Identifier: BUSL-1.1
"""The plugins as a host treats them: imported alone, instantiated, forked."""

import subprocess
import sys

import pytest

FRAMEWORKS = {"tensorflow": "tensorflow", "tflite": "ai_edge_litert"}
EXTRAS = {"tensorflow": "tensorflow", "tflite": "tflite"}

LOAD = "from mlos_core.worker import discovery\nplugin, info = discovery.load(NAME)\n"
ABSENT = "import sys\nfor each in GONE: sys.modules[each] = None\n"
BROKEN = """
from mlos_core.errors import PluginBroken
from mlos_core.worker import discovery
try:
    discovery.load(NAME)
except PluginBroken as err:
    print(err)
"""
FORK = """
import os, pathlib
import numpy as np
package = plugin.example(pathlib.Path(FOLDER))

def work(rows):
    model = plugin.load(package, "cpu", {})
    x = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)
    y = model.infer({"x": x}, lambda name, dtype, shape: np.empty(shape, dtype))["y"]
    assert (y == 2 * x + 1).all()
    model.close()

children = []
for rows in (1, 1000, 100_000):
    if not (pid := os.fork()):
        status = 1
        try:
            work(rows)
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""


def run(code, **names):
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    done = subprocess.run(
        [sys.executable, "-P", "-c", given + code],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=FRAMEWORKS)
def name(request):
    return request.param


@pytest.fixture
def usable(name):
    """The name of a plugin whose framework is there."""
    pytest.importorskip(FRAMEWORKS[name], reason=f"the extra [{EXTRAS[name]}] is not installed")
    return name


def test_without_its_framework_a_plugin_names_the_extra_to_install(name):
    said = run(ABSENT + BROKEN, NAME=name, GONE=[FRAMEWORKS[name]])
    assert f"the plugin {name!r} cannot be imported" in said
    assert f"pip install 'mlos-plugin-tensorflow[{EXTRAS[name]}]'" in said


def test_a_plugin_starts_no_thread_of_python_and_says_what_it_brings(usable):
    said = run(LOAD + "print(info.framework, info.smi_version)", NAME=usable)
    framework, version, smi = said.split()
    assert framework.replace("-", "_") == FRAMEWORKS[usable]
    assert version[0].isdigit()
    assert smi == "1"


def test_tflite_is_served_where_there_is_no_tensorflow(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the extra [tflite] is not installed")
    gone = ["tensorflow", "keras", "h5py"]
    run(ABSENT + LOAD + FORK, NAME="tflite", GONE=gone, FOLDER=str(tmp_path))


def test_importing_tensorflow_leaves_its_runtime_unstarted():
    pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")
    code = "from tensorflow.python.eager import context\nprint(context.context()._initialized)"
    assert run(LOAD + code, NAME="tensorflow").strip() == "False"


def test_a_package_says_how_many_threads_tensorflow_uses(tmp_path):
    pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")
    code = """
import pathlib
import tensorflow as tf
from mlos_core.errors import LoadFailed
from mlos_core.smi import ModelPackage
path = plugin.example(pathlib.Path(FOLDER)).path
plugin.load(ModelPackage("m", "1", path, threads=3), "cpu", {})
tf.constant(1) + 1
print(tf.config.threading.get_intra_op_parallelism_threads())
print(tf.config.threading.get_inter_op_parallelism_threads())
try:
    plugin.load(ModelPackage("m", "1", path, threads=2), "cpu", {})
except LoadFailed as err:
    print(err)
"""
    intra, inter, refusal = run(LOAD + code, NAME="tensorflow", FOLDER=str(tmp_path)).splitlines()
    assert (intra, inter) == ("3", "1")
    assert refusal.startswith("TensorFlow runs already, with other settings")


def test_workers_forked_from_a_host_compute(usable, tmp_path):
    run(LOAD + FORK, NAME=usable, FOLDER=str(tmp_path))
