# SPDX-License-Identifier: BUSL-1.1
"""External data: what is refused before onnxruntime sees the file, and what is not."""

import os

import numpy as np
import onnx
import pytest
from mlos_plugin_onnx.external import check_external_data
from mlos_plugin_onnx.protobuf import Malformed, fields, varint
from onnx import TensorProto, helper

from mlos_core.errors import LoadFailed

FLOAT = TensorProto.FLOAT


@pytest.fixture(autouse=True, params=["small", "large"])
def size(request, monkeypatch):
    """Large files are looked through in another way before they are walked."""
    if request.param == "large":
        monkeypatch.setattr("mlos_plugin_onnx.external._SMALL", 0)


def external(name="w", size=400, **entries):
    """A tensor of `size` float32 whose data lie where `entries` say."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[size])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


@pytest.fixture
def write(tmp_path):
    """A model file with these tensors, beside a file `w.bin` of 1600 bytes."""
    folder = tmp_path / "package"
    folder.mkdir()
    for place in (tmp_path, folder):
        np.arange(400, dtype=np.float32).tofile(place / "w.bin")

    def write(*tensors, nodes=()):
        graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
        path = folder / "model.onnx"
        path.write_bytes(helper.make_model(graph).SerializeToString())
        return path

    return write


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin"},
        {"location": "w.bin", "offset": 0, "length": 1600},
        {"location": "./w.bin", "checksum": "00"},
    ],
)
def test_a_plain_file_beside_the_model_is_taken(entries, write):
    check_external_data(write(external(**entries)))


@pytest.mark.parametrize("location", ["../w.bin", "x/../../w.bin", "/etc/passwd", "", ".", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(location, write):
    with pytest.raises(LoadFailed, match="own folder"):
        check_external_data(write(external(location=location)))


def test_an_address_in_memory_is_refused_even_where_a_file_has_its_name(write):
    path = write(external(location="*/_ORT_MEM_ADDR_/*", offset=4096, length=4))
    file = path.parent / "*" / "_ORT_MEM_ADDR_" / "*"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(8192))
    with pytest.raises(LoadFailed, match="an address in memory"):
        check_external_data(path)


def test_a_key_that_protobuf_would_cut_short_hides_nothing(write):
    path = write(external(location="../w.bin"))
    whole = path.read_bytes()
    # The graph is field 7; to the reader in onnxruntime it still is with bits beyond 32.
    graph = whole.index(b"\x3a")
    path.write_bytes(whole[:graph] + b"\xba\x80\x80\x80\x10" + whole[graph + 1 :])
    with pytest.raises(LoadFailed, match="a field has the number"):
        check_external_data(path)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_taken(write, tmp_path):
    path = write(external(location="link.bin"))
    link = path.parent / "link.bin"
    link.symlink_to("w.bin")
    check_external_data(path)
    link.unlink()
    link.symlink_to(tmp_path / "w.bin")
    with pytest.raises(LoadFailed, match="a link out of its own folder"):
        check_external_data(path)


def test_a_folder_that_is_a_link_out_is_refused(write, tmp_path):
    path = write(external(location="inside/w.bin"))
    (path.parent / "inside").symlink_to(tmp_path)
    with pytest.raises(LoadFailed, match="a link out of its own folder"):
        check_external_data(path)


def test_links_in_a_circle_and_missing_files_are_refused(write):
    path = write(external(location="circle"))
    with pytest.raises(LoadFailed, match="missing"):
        check_external_data(path)
    (path.parent / "circle").symlink_to("circle")
    with pytest.raises(LoadFailed, match="missing"):
        check_external_data(path)


def test_a_pipe_on_which_loading_would_hang_is_refused(write):
    path = write(external(location="pipe"))
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(LoadFailed, match="no plain file"):
        check_external_data(path)


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"offset": 4, "length": 1600}, "1600 bytes, not 1604"),
        ({"length": 1601}, "1600 bytes, not 1601"),
        ({"offset": 4}, "1600 bytes, not 1604"),
        ({"offset": -4}, "whole numbers"),
        ({"length": "many"}, "whole numbers"),
        ({"length": "٣"}, "whole numbers"),
        ({"offset": 10**30}, "beyond"),
    ],
)
def test_places_that_are_not_in_the_file_are_refused(entries, word, write):
    with pytest.raises(LoadFailed, match=word):
        check_external_data(write(external(location="w.bin", **entries)))


def test_the_size_follows_from_shape_and_type_where_none_is_said(write):
    tensor = external(size=3201, location="w.bin")
    tensor.data_type = TensorProto.INT4
    with pytest.raises(LoadFailed, match="1600 bytes, not 1601"):
        check_external_data(write(tensor))
    tensor.dims[:] = [1600, 2]
    check_external_data(write(tensor))


def test_of_a_key_that_comes_twice_both_values_are_checked(write):
    tensor = external(location="../w.bin")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    with pytest.raises(LoadFailed, match="outside"):
        check_external_data(write(tensor))


def nested(tensor, depth):
    """An If in an If in an If, whose innermost branch has the tensor."""
    graph = helper.make_graph([], "inner", [], [], [tensor])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    return graph.node


def test_a_tensor_deep_inside_a_branch_is_found(write):
    with pytest.raises(LoadFailed, match="outside"):
        check_external_data(write(nodes=nested(external(location="/w.bin"), 5)))


def test_graphs_nested_without_end_are_refused(write):
    with pytest.raises(LoadFailed, match="nested more than"):
        check_external_data(write(nodes=nested(external(location="w.bin"), 30)))


@pytest.mark.parametrize("kind", ["constant", "sparse", "function", "training"])
def test_tensors_hide_nowhere(kind, write):
    bad = external(location="/w.bin")
    path = write()
    model = onnx.load_model(path, load_external_data=False)
    if kind == "constant":
        model.graph.node.append(helper.make_node("Constant", [], ["c"], value=bad))
    elif kind == "sparse":
        model.graph.sparse_initializer.add().indices.CopyFrom(bad)
    elif kind == "function":
        node = helper.make_node("Constant", [], ["c"], value=bad)
        model.functions.add(name="f", domain="d").node.append(node)
    else:
        model.training_info.add().initialization.initializer.append(bad)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LoadFailed, match="outside"):
        check_external_data(path)


def test_a_file_cut_anywhere_is_refused_or_taken_but_never_breaks_the_check(write):
    path = write(external(location="w.bin"), nodes=nested(external(location="w.bin"), 2))
    whole = path.read_bytes()
    refused = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            check_external_data(path)
        except LoadFailed:
            refused += 1
    assert refused > len(whole) // 4


def test_random_damage_never_breaks_the_check(write):
    path = write(external(location="w.bin", offset=0, length=1600))
    whole = path.read_bytes()
    noise = np.random.default_rng(5)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for place in noise.integers(0, len(whole), 3):
            damaged[place] = noise.integers(0, 256)
        path.write_bytes(damaged)
        try:
            check_external_data(path)
        except LoadFailed:
            refused += 1
    assert 0 < refused < 500


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (b"\x0a\x05abc", "2 bytes too far"),
        (b"\x00\x00", "number 0"),
        (b"\xba\x80\x80\x80\x10\x00", "number 536870919"),
        (b"\x0b", "wire type 3"),
        (b"\x09abc", "cut off"),
        (b"\x08" + b"\xff" * 11, "no end"),
        (b"\x08", "no end"),
    ],
)
def test_bytes_that_are_no_message_are_refused(message, word):
    with pytest.raises(Malformed, match=word):
        list(fields(memoryview(message)))


def test_fields_and_varints_are_read_as_protobuf_writes_them():
    assert list(fields(memoryview(b"\x08\x96\x01\x15abcd\x12\x01z"))) == [(1, 150), (2, b"z")]
    assert varint(memoryview(b"\xff" * 9 + b"\x01"), 0) == (2**64 - 1, 10)
