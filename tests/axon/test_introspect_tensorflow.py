# SPDX-License-Identifier: BUSL-1.1
"""SavedModels, Keras and TensorFlow Lite: what the readers say, and what the frameworks do."""

import json
import zipfile

import numpy as np
import pytest

from axon_client.introspect import flatbuffer, read, tensor_bundle
from axon_client.introspect.header import Tally
from axon_client.manifest import IOSpec
from mlos_core.errors import LoadFailed

from .conftest import _bytes, _number, _varint

FLOAT, STRING, INT64 = 1, 7, 9


# --- SavedModel ----------------------------------------------------------------------------------


def shape(sizes):
    if sizes is None:
        return _number(3, 1)
    return b"".join(_bytes(2, _number(1, size)) for size in sizes)


def tensors(field, told):
    return b"".join(
        _bytes(field, _bytes(1, name) + _bytes(2, _number(2, dtype) + _bytes(3, shape(sizes))))
        for name, (dtype, sizes) in told.items()
    )


def saved_model(signatures, nodes=(), inner=()):
    """`signatures`: {key: (inputs, outputs)}, each {name: (dtype number, sizes or None)}."""
    graph = b"".join(_bytes(1, _bytes(1, f"n{op}") + _bytes(2, op)) for op in nodes)
    function = b"".join(_bytes(3, _bytes(1, "n") + _bytes(2, op)) for op in inner)
    graph += _bytes(2, _bytes(1, function))
    meta = _bytes(1, _bytes(5, "2.21.0")) + _bytes(2, graph)
    for key, (inputs, outputs) in signatures.items():
        told = tensors(1, inputs) + tensors(2, outputs)
        meta += _bytes(5, _bytes(1, key) + _bytes(2, told))
    return _number(1, 1) + _bytes(2, meta)


def block(entries):
    """A block of a table: keys share the prefix with the key before."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:]
        out += value
        before = key
    return out + bytes(4) + (1).to_bytes(4, "little")


def index(variables):
    """An index of variables: {name: (dtype number, sizes, bytes)}."""
    entries = [(b"", _number(1, 1))]
    for name, (dtype, sizes, size) in sorted(variables.items()):
        told = _number(1, dtype) + _bytes(2, shape(sizes)) + _number(5, size)
        entries.append((name.encode(), told))
    data = block(entries)
    handle = _varint(0) + _varint(len(data))
    out = data + bytes(5)
    at = len(out)
    top = block([(b"z", handle)])
    out += top + bytes(5)
    footer = _varint(0) + _varint(0) + _varint(at) + _varint(len(top))
    return out + footer.ljust(40, b"\0") + tensor_bundle._MAGIC


@pytest.fixture
def saved(tmp_path):
    def write(data, variables=None):
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        (folder / "saved_model.pb").write_bytes(data)
        if variables is not None:
            (folder / "variables").mkdir(exist_ok=True)
            (folder / "variables" / "variables.index").write_bytes(variables)
        return folder

    return write


SERVING = {
    "serving_default": (
        {"x": (FLOAT, [-1, 4]), "name": (STRING, [])},
        {"y": (INT64, None)},
    )
}


def test_a_saved_model_says_what_serving_calls(saved):
    header = read(saved(saved_model({"__saved_model_init_op": ({}, {}), **SERVING})), "savedmodel")
    assert header.io.inputs == [IOSpec("name", "bytes", []), IOSpec("x", "float32", [-1, 4])]
    assert header.io.outputs == [IOSpec("y", "int64", None)]
    assert header.producer == "tensorflow 2.21.0"
    assert header.parameters is None


def test_its_variables_are_counted_without_copies_and_without_training(saved):
    variables = index(
        {
            "dense/kernel/.ATTRIBUTES/VARIABLE_VALUE": (FLOAT, [3, 4], 48),
            "dense/bias/.ATTRIBUTES/VARIABLE_VALUE": (FLOAT, [4], 16),
            "dense/kernel/.OPTIMIZER_SLOT/m": (FLOAT, [3, 4], 48),
            "_all_variables/0": (FLOAT, [3, 4], 48),
            "save_counter/.ATTRIBUTES": (INT64, [], 8),
            "_CHECKPOINTABLE_OBJECT_GRAPH": (STRING, [], 900),
        }
    )
    header = read(saved(saved_model(SERVING), variables), "savedmodel")
    assert (header.parameters, header.weight_bytes) == (16, 64)


@pytest.mark.parametrize("where", ["nodes", "inner"])
def test_a_graph_that_reaches_out_of_itself_is_named(saved, where):
    data = saved_model(SERVING, **{where: ["MatMul", "EagerPyFunc", "WriteFile", "PyFunc"]})
    header = read(saved(data), "savedmodel")
    assert header.runs_code == ("its graph calls Python, its graph writes files of the machine")
    second = saved_model(SERVING) + _bytes(2, _bytes(2, _bytes(1, _bytes(2, "PyFunc"))))
    assert read(saved(second), "savedmodel").runs_code == "its graph calls Python"
    renamed = _bytes(2, _bytes(2, _bytes(1, _bytes(2, "MatMul") + _bytes(2, "PyFunc"))))
    assert read(saved(renamed), "savedmodel").runs_code == "its graph calls Python"
    quiet = saved_model(SERVING, nodes=["SaveV2", "MatMul"])
    assert read(saved(quiet), "savedmodel").runs_code == ""


@pytest.mark.parametrize(
    ("data", "variables", "reason"),
    [
        (b"", None, "empty"),
        (b"\x08\x01", None, "no graph"),
        (b"\xff" * 20, None, "not a SavedModel"),
        (saved_model(SERVING)[:-3], None, "not a SavedModel"),
        (saved_model(SERVING), b"x" * 60, "no index"),
        (saved_model(SERVING), bytes(60) + tensor_bundle._MAGIC, "variables.index"),
        (saved_model(SERVING), b"", "no index"),
    ],
)
def test_what_is_no_saved_model_is_refused(saved, data, variables, reason):
    with pytest.raises(LoadFailed, match=reason):
        read(saved(data, variables), "savedmodel")


def test_an_index_that_is_cut_or_changed_never_does_more_than_raise(tmp_path):
    good = index({f"v{n}": (FLOAT, [2, 2], 16) for n in range(20)})
    path = tmp_path / "variables.index"
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 0xFF
        path.write_bytes(bad)
        try:
            tensor_bundle.weigh_variables(path, Tally())
        except ValueError as error:
            assert str(error)  # noqa: PT017


# --- Keras ---------------------------------------------------------------------------------------


def keras(path, config, **members):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        out.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        for name, data in members.items():
            out.writestr(name, data)
    return path


def layer(kind, **config):
    return {"module": "keras.layers", "class_name": kind, "config": config}


FUNCTIONAL = {
    "class_name": "Functional",
    "config": {
        "layers": [
            layer("InputLayer", name="a", batch_shape=[None, 3], dtype="float32"),
            layer("InputLayer", name="b", batch_shape=[None, None], dtype="string"),
            layer("Dense", name="o", units=5),
        ],
        "output_layers": [["o", 0, 0], ["p", 0, 0]],
    },
}


def test_a_keras_archive_names_its_inputs_and_outputs(tmp_path):
    header = read(keras(tmp_path / "m.keras", FUNCTIONAL), "keras")
    assert header.io.inputs == [IOSpec("a", "float32", [-1, 3]), IOSpec("b", "bytes", [-1, -1])]
    assert [spec.name for spec in header.io.outputs] == ["o", "p"]
    assert (header.architecture, header.producer) == ("Functional", "keras 3.15.1")
    assert header.runs_code == ""
    assert "HDF5" in header.unknown[0]


def test_a_lambda_layer_is_found_however_deep_it_lies(tmp_path):
    inner = {"class_name": "Sequential", "config": {"layers": [layer("Lambda", function="...")]}}
    config = {"class_name": "Functional", "config": {"layers": [inner]}}
    assert "Lambda" in read(keras(tmp_path / "m.keras", config), "keras").runs_code


@pytest.mark.parametrize(
    ("config", "reason"),
    [(b"{", "cannot be read"), (b'{"a":' * 200 + b"1" + b"}" * 200, "nested"), (b"[]", "cannot")],
)
def test_a_configuration_that_is_none_is_refused(tmp_path, config, reason):
    with pytest.raises(LoadFailed, match=reason):
        read(keras(tmp_path / "m.keras", config), "keras")


def test_an_hdf5_file_says_little_and_that_it_does(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    header = read(path, "keras")
    assert len(header.unknown) == 2
    assert header.runs_code == ""
    path.write_bytes(path.read_bytes() + b'{"class_name": "Lambda", "config"')
    assert "Lambda" in read(path, "keras").runs_code
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + rb'{"class_name": "L\u0061mbda"}')
    assert "Lambda" in read(path, "keras").runs_code
    path.write_bytes(b"text")
    with pytest.raises(LoadFailed, match="HDF5"):
        read(path, "keras")


# --- TensorFlow Lite -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tflite():
    pytest.importorskip("ai_edge_litert")
    writer = pytest.importorskip("mlos_plugin_tensorflow.litert.writer")
    given = {
        "x": writer.Tensor((-1, 3)),
        "k": writer.Tensor((3,), np.ones(3, np.float32)),
        "y": writer.Tensor((-1, 3)),
    }
    operators = [writer.Operator("MUL", "MulOptions", ("x", "k"), ("y",))]
    return writer.to_bytes(given, operators, ("x",), ("y",))


def test_tensorflow_lite_has_signature_and_weights(tflite, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite)
    header = read(path, "tflite")
    assert header.io.inputs == [IOSpec("x", "float32", [-1, 3])]
    assert header.io.outputs == [IOSpec("y", "float32", [-1, 3])]
    assert (header.parameters, header.weight_bytes) == (3, 12)


def test_a_changed_tensorflow_lite_file_is_read_or_refused(tflite, tmp_path):
    path = tmp_path / "m.tflite"
    for at in range(len(tflite)):
        bad = bytearray(tflite)
        bad[at] ^= 0x80
        path.write_bytes(bad)
        try:
            read(path, "tflite")
        except LoadFailed as error:
            assert "m.tflite" in error.message  # noqa: PT017
    for size in range(1, len(tflite), 7):
        path.write_bytes(tflite[:size])
        try:
            read(path, "tflite")
        except LoadFailed as error:
            assert "m.tflite" in error.message  # noqa: PT017


def test_lists_that_share_their_items_are_bounded(tflite, tmp_path, monkeypatch):
    monkeypatch.setattr(flatbuffer, "_MOST_STEPS", 50)
    (tmp_path / "m.tflite").write_bytes(tflite)
    with pytest.raises(LoadFailed, match="more parts"):
        read(tmp_path / "m.tflite", "tflite")


# --- the real ones, where TensorFlow is ----------------------------------------------------------


def test_models_that_tensorflow_saved_are_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras_ = pytest.importorskip("keras")
    model = keras_.Sequential(
        [
            keras_.Input((4,), name="x"),
            keras_.layers.Dense(8, activation="relu"),
            keras_.layers.BatchNormalization(),
            keras_.layers.Dense(2),
        ]
    )
    model.save(tmp_path / "m.keras")
    model.export(str(tmp_path / "saved"), verbose=False)
    header = read(tmp_path / "saved", "savedmodel")
    assert header.parameters == model.count_params()
    assert header.io.inputs == [IOSpec("x", "float32", [-1, 4])]
    assert header.io.outputs[0].shape == [-1, 2]
    assert header.producer == f"tensorflow {tf.__version__}"
    assert read(tmp_path / "m.keras", "keras").io.inputs == header.io.inputs
    lite = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    (tmp_path / "m.tflite").write_bytes(lite)
    assert read(tmp_path / "m.tflite", "tflite").io.inputs == header.io.inputs
