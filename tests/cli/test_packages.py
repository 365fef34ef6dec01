# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl register` and `axon register` take packages, with a real daemon behind them."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import axon_client
from axon_client.cli import run
from axon_client.spec import PackageSpec
from mlos_core.cli import packages
from mlos_core.cli.mlosctl import mlosctl as command

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "axon"))
    return tmp_path / "axon"


@pytest.fixture
def folder(home, tmp_path):
    """A package `lab/adder@1.2` in a folder, not installed."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    rows = [helper.make_tensor_value_info(name, kind, ["batch", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", rows[:1], rows[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "adder"
    path.mkdir()
    (path / "adder.onnx").write_bytes(model.SerializeToString())
    (path / "axon.yaml").write_text(
        "{apiVersion: axon.mlos.io/v1, kind: Model, "
        'metadata: {name: adder, namespace: lab, version: "1.2"}}'
    )
    return path


@pytest.fixture
def mlosctl(daemon):
    def call(*words):
        done = CliRunner().invoke(command, ["--socket", str(daemon.socket), *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return call


def test_a_package_is_registered_with_its_name_version_and_manifest(mlosctl, daemon, folder):
    model = axon_client.install(str(folder))
    done = mlosctl("register", "lab/adder@^1")
    assert done.exit_code == 0, done.stderr
    info = daemon.call("model", name="adder")
    assert (info["version"], info["plugin"], info["state"]) == ("1.2", "onnx", "ready")
    assert info["path"] == str(model.path / "adder.onnx")
    assert info["manifest"]["metadata"]["namespace"] == "lab"


def test_a_package_takes_another_name_version_and_plugin_where_they_are_given(
    mlosctl, daemon, folder
):
    axon_client.install(str(folder))
    done = mlosctl("register", "sum", "lab/adder", "--version", "9", "--file", "adder")
    assert done.exit_code == 0, done.stderr
    assert daemon.call("model", name="sum")["version"] == "9"
    assert mlosctl("register", "none", "lab/adder", "--file", "other").exit_code == 66


def test_a_file_or_folder_needs_no_name_and_a_missing_package_says_so(mlosctl, daemon, folder):
    done = mlosctl("register", str(folder / "adder.onnx"), "--plugin", "onnx")
    assert done.exit_code == 0, done.stderr
    assert daemon.call("model", name="adder")["manifest"] is None
    package = axon_client.install(str(folder), rename=PackageSpec("lab", "sum", "1.0"))
    assert mlosctl("register", str(package.path), "--plugin", "onnx").exit_code == 0
    assert daemon.call("model", name="sum")["state"] == "ready"
    done = mlosctl("register", "nosuch/package")
    assert done.exit_code == 66
    assert "nosuch" in done.stderr
    assert mlosctl("register", "own", str(folder), "--file", "x").exit_code == 65


def test_what_is_missing_is_installed_first(mlosctl, daemon, folder, monkeypatch):
    model = axon_client.install(str(folder))

    def fetch(text, home, progress, *, options):
        assert (text, options.allow_pickle) == ("far/adder", False)
        return model

    monkeypatch.setattr("axon_client.installer.install", fetch)
    assert mlosctl("register", "far/adder").exit_code == 0
    assert daemon.call("model", name="adder")["version"] == "1.2"


def test_a_path_is_no_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packages.is_package("pypi/magika@>=1,<2")
    (tmp_path / "pypi" / "magika").mkdir(parents=True)
    words = ("pypi/magika", "./a/b", "/a/b", "~/a", "magika", "a/", "a b/c")
    assert not any(map(packages.is_package, words))


def test_the_command_line_of_the_runtime_loads_no_package_manager():
    code = (
        "import sys, mlos_core.cli.mlosctl\n"
        "print([name for name in sys.modules if name.startswith('axon_client')])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture
def axon(daemon, capfdbinary):
    def call(*words):
        code = run(["register", *words, "--socket", str(daemon.socket), "--json"])
        return code, json.loads(capfdbinary.readouterr().out)

    return call


def test_axon_registers_what_is_installed_and_installs_where_that_is_wanted(axon, daemon, folder):
    code, answer = axon(str(folder))
    assert (code, answer["error"]["code"]) == (66, "not_found")
    code, answer = axon(str(folder), "--install", "--option", "intra_op_num_threads=1")
    assert (code, answer["state"]) == (0, "ready")
    assert daemon.call("model", name="adder")["options"] == {"intra_op_num_threads": 1}
    code, answer = axon("adder", "--option", "x")
    assert (code, answer["error"]["code"]) == (65, "invalid_input")
