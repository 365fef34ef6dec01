# SPDX-License-Identifier: BUSL-1.1
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axon_client import introspect, wire
from axon_client.introspect import read_onnx
from axon_client.manifest import IOSpec
from mlos_core.errors import LoadFailed

FLOAT, INT64, STRING, BFLOAT16 = 1, 7, 8, 16


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "m.onnx"
        path.write_bytes(data)
        return read_onnx(path)

    return read


def test_names_dtypes_and_shapes_come_from_the_file(read, onnx):
    model = read(
        onnx(
            inputs={"x": (FLOAT, ["batch", 3, 224]), "ids": (INT64, []), "s": (STRING, [1])},
            outputs={"y": (BFLOAT16, [-1, 2]), "z": (99, None)},
        )
    )
    assert model.io.inputs == [
        IOSpec("x", "float32", [-1, 3, 224]),
        IOSpec("ids", "int64", []),
        IOSpec("s", "bytes", [1]),
    ]
    assert model.io.outputs == [IOSpec("y", "bfloat16", [-1, 2]), IOSpec("z", "onnx_99", None)]
    assert (model.ir_version, model.opsets, model.producer) == (8, {"ai.onnx": 17}, "tests")


def test_weights_that_are_listed_as_inputs_are_no_inputs(read, onnx):
    data = onnx(inputs={"x": (FLOAT, [1]), "w": (FLOAT, [4])}, weights=["w"])
    assert [spec.name for spec in read(data).io.inputs] == ["x"]


def test_files_with_external_weights_are_found_once_each(read, onnx):
    data = onnx(external={"a": "weights.bin", "b": "weights.bin", "c": "more/w.bin"})
    assert read(data).external == ("weights.bin", "more/w.bin")


def test_fields_of_later_versions_are_skipped(read, onnx):
    unknown = b"\xf8\x07\x01" + b"\xf9\x07" + b"12345678" + b"\xfd\x07" + b"1234"
    assert read(onnx(extra=unknown)).io == read(onnx()).io


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"<html>not found</html>", "text"),
        (b"\x08\x07", "cut off"),
    ],
)
def test_what_is_no_onnx_file_is_named_for_what_it_is(read, data, hint):
    with pytest.raises(LoadFailed) as caught:
        read(data)
    assert hint in caught.value.hint


def test_an_empty_file_is_refused(read):
    with pytest.raises(LoadFailed, match="empty"):
        read(b"")


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, data):
    from .conftest import make_onnx

    good = bytearray(make_onnx(weights=["w"], external={"a": "b"}))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    path.write_bytes(good[: data.draw(st.integers(1, len(good)))])
    try:
        read_onnx(path)
    except LoadFailed as error:
        assert "m.onnx" in error.message  # noqa: PT017


def test_a_cut_off_file_never_passes_as_whole(read, onnx):
    whole = onnx()
    graph_ends = len(whole) - 4
    for size in range(1, graph_ends):
        with pytest.raises(LoadFailed):
            read(whole[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01",
        b"\x0b",
        b"\x0c",
        b"\x0a\x05ab",
        b"\x09123",
        b"\x80" * 11,
        b"\x0a\xff\xff\xff\xff\x0f",
    ],
)
def test_bytes_that_are_not_protobuf_are_refused(data):
    with pytest.raises(wire.WireError):
        list(wire.fields(data, 0, len(data)))


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_signed_number_is_read_back(value):
    from .conftest import _number

    data = _number(1, value)
    assert wire.signed(next(wire.fields(data, 0, len(data)))) == value


def test_reading_a_schema_loads_no_framework():
    code = (
        "import sys, axon_client.introspect as i, importlib\n"
        "for module, _ in i._READERS.values():\n"
        "    importlib.import_module('axon_client.introspect.' + module)\n"
        "heavy = {'onnx', 'onnxruntime', 'numpy', 'google', 'torch', 'tensorflow', 'h5py',"
        " 'safetensors', 'gguf', 'flatbuffers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_format_without_a_reader_says_so(tmp_path):
    assert "nothing is read" in introspect.read(tmp_path / "m.xyz", "xyz").unknown[0]


# --- weights ---------------------------------------------------------------------------------


def branchy():
    """Weights in the graph, in a constant, in a branch and in a function of its own."""
    lib = pytest.importorskip("onnx")
    helper, kind = lib.helper, lib.TensorProto
    inner = helper.make_graph(
        [helper.make_node("Identity", ["v"], ["o"])],
        "branch",
        [],
        [helper.make_tensor_value_info("o", kind.FLOAT, [2])],
        [helper.make_tensor("v", kind.FLOAT, [2], [1, 2])],
    )
    constant = helper.make_tensor("", kind.FLOAT16, [3], [1.0, 2.0, 3.0])
    shape = helper.make_tensor("", kind.INT64, [1], [-1])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Own", ["y"], ["z"], domain="own"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind.BOOL, [])],
        [helper.make_tensor_value_info("z", kind.FLOAT, [2])],
        [helper.make_tensor("w", kind.INT8, [4, 5], bytes(20), raw=True)],
    )
    body = [
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("", 1, [7], [0.0] * 7))
    ]
    function = helper.make_function("own", "Own", ["a"], ["k"], body, [helper.make_opsetid("", 17)])
    return helper.make_model(graph, functions=[function]).SerializeToString()


def test_weights_are_counted_wherever_they_lie(read):
    header = read(branchy())
    assert header.dtypes == {"int8": 20, "float32": 2 * 2 + 7, "float16": 3, "int64": 1}
    assert header.parameters == 20 + 11 + 3
    assert header.weight_bytes == 20 + 11 * 4 + 3 * 2 + 8


def nested(depth):
    from .conftest import _bytes

    graph = b""
    for _ in range(depth):
        graph = _bytes(1, _bytes(5, _bytes(6, graph)))
    return _bytes(7, graph)


def test_graphs_that_are_nested_too_deep_are_refused(read):
    assert read(nested(10)).parameters == 0
    with pytest.raises(LoadFailed, match="nested"):
        read(nested(50))


def test_a_file_with_more_fields_than_any_model_is_refused(read, monkeypatch):
    from .conftest import _bytes

    monkeypatch.setattr(wire.Reader.__init__, "__defaults__", (1000,))
    with pytest.raises(LoadFailed, match="more fields"):
        read(_bytes(7, b"\x78\x00" * 2000))


def test_a_tensor_larger_than_any_memory_is_refused(read):
    from .conftest import _bytes, _number

    huge = _bytes(5, _number(1, 1 << 40) * 2 + _number(2, 1))
    with pytest.raises(LoadFailed, match="larger than any memory"):
        read(_bytes(7, huge))
    many = _bytes(5, _bytes(1, b"\x02" * 100) + _number(2, 1))
    with pytest.raises(LoadFailed, match="100 dimensions"):
        read(_bytes(7, many))
