# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import onnx
import pytest
from mlos_plugin_onnx import OnnxPlugin
from onnx import TensorProto, helper

from mlos_core.smi import ModelPackage

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


class Arena:
    """`allocate` that remembers, and that can be told to give the same memory again."""

    def __init__(self):
        self.given = []
        self._reuse = {}

    def __call__(self, name, dtype, shape):
        array = self._reuse.get((name, dtype, shape))
        if array is None:
            array = self._reuse[name, dtype, shape] = np.full(shape, 7).astype(dtype)
        self.given.append(array)
        return array

    def holds(self, array):
        return any(array is given for given in self.given)


@pytest.fixture
def arena():
    return Arena()


@pytest.fixture
def save(tmp_path):
    """Write a graph of `nodes`; tensors are `(name, type, shape)`."""

    def save(nodes, inputs, outputs, constants=(), file="model.onnx"):
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(*tensor) for tensor in inputs],
            [helper.make_tensor_value_info(*tensor) for tensor in outputs],
            list(constants),
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture
def load():
    models = []

    def load(path, device="cpu", **options):
        model = OnnxPlugin().load(ModelPackage("m", "1", path), device, options)
        models.append(model)
        return model

    yield load
    for model in models:
        model.close()


@pytest.fixture
def doubling(save):
    """y = x + x for x of shape [batch, 3]."""
    return save(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [("x", FLOAT, ["batch", 3])],
        [("y", FLOAT, ["batch", 3])],
    )


@pytest.fixture
def nonzero(save):
    """Where x is not zero: as many columns as the data want."""
    return save(
        [helper.make_node("NonZero", ["x"], ["y"])],
        [("x", FLOAT, [4])],
        [("y", INT64, [1, "found"])],
    )


@pytest.fixture
def same_text(save):
    return save(
        [helper.make_node("Identity", ["s"], ["t"])],
        [("s", STRING, ["n"])],
        [("t", STRING, ["n"])],
    )


@pytest.fixture
def with_external(tmp_path, save):
    """A model whose weights lie at `location`, seen from its folder."""

    def build(location):
        weights = np.arange(400, dtype=np.float32)
        (tmp_path / "package").mkdir(exist_ok=True)
        for folder in (tmp_path, tmp_path / "package"):
            weights.tofile(folder / "w.bin")
        tensor = onnx.numpy_helper.from_array(weights, "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        node = helper.make_node("Add", ["x", "w"], ["y"])
        tensors = [("x", FLOAT, [400])], [("y", FLOAT, [400])]
        return save([node], *tensors, [tensor], file="package/model.onnx")

    return build
