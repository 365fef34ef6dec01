# SPDX-License-Identifier: BUSL-1.1
"""Packages in a real daemon: registered, and swapped for the next version while asked."""

import threading

import numpy as np
import pytest

import axon_client
from axon_client import register as packages
from mlos_core.errors import LoadFailed

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PATIENCE = 30.0
MANIFEST = """\
apiVersion: axon.mlos.io/v1
kind: Model
metadata: {{name: scale, namespace: lab, version: {version!r}}}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "axon"))
    return tmp_path / "axon"


def scale(factor, name="x", dtype=onnx.TensorProto.FLOAT):
    """An ONNX model: its input times `factor`."""
    helper = onnx.helper
    rows = [helper.make_tensor_value_info(n, dtype, ["batch", 3]) for n in (name, "y")]
    weight = helper.make_tensor("k", dtype, [1], [factor])
    graph = helper.make_graph(
        [helper.make_node("Mul", [name, "k"], ["y"])], "scale", rows[:1], rows[1:], [weight]
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def package(home, tmp_path):
    """`package("1.0", model)` installs `lab/scale` in that version."""

    def install(version, content, file="scale.onnx"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / file).write_bytes(content)
        (folder / "axon.yaml").write_text(MANIFEST.format(version=version))
        return axon_client.install(str(folder))

    return install


X = {"x": np.array([[1.0, 2.0, 3.0]], np.float32)}


def factor_of(result):
    """By what `scale` multiplied."""
    factor = float(result["y"][0, 0])
    assert np.array_equal(result["y"], X["x"] * factor)
    return factor


class Asker:
    """Asks in closed loop; every answer is one of those that are right, or a fault."""

    def __init__(self, daemon, name, right, inputs=X, judge=factor_of):
        self.answers = []
        self.faults = []
        self._client = daemon.connect()
        self._model = self._client.model(name, slots=4)
        self._right = right
        self._inputs = inputs
        self._judge = judge
        self._over = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(PATIENCE)
        self._client.close()

    def _run(self):
        while not self._over.is_set():
            try:
                with self._model.infer(self._inputs) as result:
                    answer = self._judge(result)
                assert answer in self._right
            except Exception as error:
                with self._news:
                    self.faults.append(error)
                    self._news.notify_all()
                return
            with self._news:
                self.answers.append(answer)
                self._news.notify_all()

    def wait(self, answer, count=20):
        """Wait until the last `count` answers were this one."""
        with self._news:
            assert self._news.wait_for(
                lambda: self.faults or self.answers[-count:] == [answer] * count, PATIENCE
            )


def test_an_update_swaps_a_served_model_and_no_request_fails(daemon, package):
    old = package("1.0", scale(2.0))
    info = packages.register(old, daemon.connect)
    assert (info["state"], info["version"]) == ("ready", "1.0")
    (one,) = packages.served(daemon.connect)
    assert (str(one.package), one.file) == ("lab/scale@1.0", "scale.onnx")
    new = package("2.0", scale(3.0))
    with Asker(daemon, "scale", (2.0, 3.0)) as asker:
        asker.wait(2.0)
        (swapped,) = packages.swap(new, daemon.connect)
        assert swapped.problem is None
        asker.wait(3.0)
    assert asker.faults == []
    assert asker.answers == sorted(asker.answers)
    info = daemon.call("model", name="scale")
    assert info["version"] == "2.0"
    assert info["path"] == str(new.path / "scale.onnx")
    assert info["manifest"]["metadata"]["version"] == "2.0"
    assert packages.swap(new, daemon.connect) == []


def test_a_new_version_with_another_signature_is_refused_and_the_old_one_goes_on(daemon, package):
    packages.register(package("1.0", scale(2.0)), daemon.connect)
    other = package("2.0", scale(3.0, name="z"))
    with Asker(daemon, "scale", (2.0,)) as asker:
        asker.wait(2.0)
        (refused,) = packages.swap(other, daemon.connect)
        assert isinstance(refused.problem, LoadFailed)
        assert "still 1.0" in packages.describe_swaps([refused])[0]
        asker.wait(2.0, count=len(asker.answers) + 20)
    assert asker.faults == []
    (allowed,) = packages.swap(other, daemon.connect, allow_new_signature=True)
    assert allowed.problem is None
    assert daemon.call("model", name="scale")["signature"]["inputs"][0]["name"] == "z"


def test_a_version_that_does_not_load_leaves_the_old_one_serving(daemon, package):
    packages.register(package("1.0", scale(2.0)), daemon.connect)
    broken = bytearray(scale(3.0))
    broken[broken.index(b"Mul")] ^= 1  # an operator that there is none of
    (refused,) = packages.swap(package("2.0", bytes(broken)), daemon.connect)
    assert refused.problem is not None
    assert daemon.call("model", name="scale")["version"] == "1.0"


def test_other_packages_and_other_names_are_left_alone(daemon, package, tmp_path):
    old = package("1.0", scale(2.0))
    packages.register(old, daemon.connect, name="a")
    packages.register(old, daemon.connect, name="b")
    (tmp_path / "own.onnx").write_bytes(scale(5.0))
    daemon.call("register", name="own", path=str(tmp_path / "own.onnx"), plugin="onnx")
    assert {one.name for one in packages.served(daemon.connect)} == {"a", "b"}
    swaps = packages.swap(package("2.0", scale(3.0)), daemon.connect)
    assert sorted(one.served.name for one in swaps) == ["a", "b"]
    assert all(one.problem is None for one in swaps)
    assert daemon.call("model", name="own")["version"] == ""


@pytest.mark.network
@pytest.mark.timeout(300)
def test_a_real_model_is_updated_from_the_index_while_it_is_asked(daemon, home):
    from axon_client.cli import run

    packages.register(axon_client.install("pypi/magika@1.0.2"), daemon.connect)
    content = np.random.default_rng(1).integers(0, 257, (1, 2048)).astype(np.int32)
    with daemon.connect() as client, client.model("magika").infer({"bytes": content}) as result:
        label = int(result["target_label"].argmax())
    asked = {"inputs": {"bytes": content}, "judge": lambda r: int(r["target_label"].argmax())}
    with Asker(daemon, "magika", (label,), **asked) as asker:
        asker.wait(label)
        assert run(["update", "pypi/magika", "--socket", str(daemon.socket)]) == 0
        asker.wait(label, count=len(asker.answers) + 20)
    assert asker.faults == []
    assert daemon.call("model", name="magika")["version"] != "1.0.2"
