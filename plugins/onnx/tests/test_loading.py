# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest
from mlos_plugin_onnx.signature import looks_batched
from onnx import TensorProto, helper

from mlos_core.errors import LoadFailed

FLOAT = TensorProto.FLOAT


class Arg:
    type = "tensor(float)"

    def __init__(self, name, *shape):
        self.name = name
        self.shape = list(shape)


def test_the_signature_comes_from_the_file(doubling, load):
    signature = load(doubling).signature
    assert signature.describe() == "x: float32[?, 3] -> y: float32[?, 3]"
    assert signature.batched


@pytest.mark.parametrize(
    ("args", "batched"),
    [
        ([Arg("x", "batch", 3), Arg("y", "batch")], True),
        ([Arg("x", "N", 3), Arg("y", "N", 5)], True),
        ([Arg("x", "batch_size", 3), Arg("y", "batch_size", 5)], True),
        ([Arg("x", "batch", 3), Arg("y", "other", 3)], False),
        ([Arg("x", "sequence", 3), Arg("y", "sequence", 3)], False),
        ([Arg("x", None, 3), Arg("y", None, 3)], False),
        ([Arg("x", 1, 3), Arg("y", 1, 3)], False),
        ([Arg("x", "batch", 3), Arg("rate"), Arg("y", "batch")], False),
        ([Arg("x", "batch", 9), Arg("state", 2, "batch", 128), Arg("y", "batch", 1)], False),
        ([Arg("x", "batch", 9), Arg("y", "batch", "batch")], False),
    ],
)
def test_only_a_batch_that_is_surely_one_is_joined(args, batched):
    assert looks_batched(args) is batched


def test_batched_can_be_said(save, load):
    node = helper.make_node("Neg", ["x"], ["y"])
    path = save([node], [("x", FLOAT, ["a", 3])], [("y", FLOAT, ["b", 3])])
    assert not load(path).signature.batched
    assert load(path, batched=True).signature.batched
    assert load(path, batched="true").signature.batched


def test_batched_cannot_be_said_of_a_fixed_dimension(save, load):
    node = helper.make_node("Neg", ["x"], ["y"])
    path = save([node], [("x", FLOAT, [1, 3])], [("y", FLOAT, [1, 3])])
    with pytest.raises(LoadFailed, match="'x' is fixed"):
        load(path, batched=True)


def test_a_misspelt_option_is_answered_with_a_suggestion(doubling, load):
    with pytest.raises(LoadFailed, match="did you mean 'intra_op_num_threads'"):
        load(doubling, intra_op_threads=1)
    with pytest.raises(LoadFailed, match="it has file,"):
        load(doubling, colour="red")


@pytest.mark.parametrize(
    "options",
    [
        {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "execution_mode": "parallel"},
        {"intra_op_num_threads": "2", "graph_optimization_level": "disable"},
        {"allow_spinning": False, "providers": ["CPUExecutionProvider"]},
    ],
)
def test_options_reach_the_session(options, doubling, load, arena):
    x = np.ones((1, 3), np.float32)
    assert load(doubling, **options).infer({"x": x}, arena)["y"].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"intra_op_num_threads": -1}, "intra_op_num_threads"),
        ({"execution_mode": "fast"}, "fast"),
        ({"providers": ["MadeUpProvider"]}, "it has .*CPUExecutionProvider"),
    ],
)
def test_an_impossible_option_says_why(options, word, doubling, load):
    with pytest.raises(LoadFailed, match=word):
        load(doubling, **options)


@pytest.mark.parametrize("device", ["tpu:0", "cuda:x", "cpu:x"])
def test_an_unknown_device_is_refused(device, doubling, load):
    with pytest.raises(LoadFailed, match="use cpu or cuda:0"):
        load(doubling, device=device)


def test_a_folder_with_one_model_needs_no_option(doubling, load):
    assert load(doubling.parent).signature.inputs[0].name == "x"


def test_of_several_models_one_must_be_named(doubling, load):
    other = doubling.with_name("other.onnx")
    other.write_bytes(doubling.read_bytes())
    with pytest.raises(LoadFailed, match=r"choose with the option file: model\.onnx, other\.onnx"):
        load(doubling.parent)
    assert load(doubling.parent, file="other.onnx").signature.batched
    with pytest.raises(LoadFailed, match=r"no model '\.\./model\.onnx'"):
        load(doubling.parent, file="../model.onnx")


def test_a_missing_file_and_a_file_of_rubbish_are_load_failures(tmp_path, load):
    with pytest.raises(LoadFailed, match="does not exist"):
        load(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(LoadFailed, match=r"cannot load bad\.onnx"):
        load(tmp_path / "bad.onnx")


def test_a_tensor_that_no_channel_carries_is_refused(save, load):
    node = helper.make_node("Identity", ["x"], ["y"])
    kind = TensorProto.BFLOAT16
    with pytest.raises(LoadFailed, match="bfloat16"):
        load(save([node], [("x", kind, [1])], [("y", kind, [1])]))


def test_external_data_beside_the_model_are_found(with_external, load, arena):
    x = np.zeros(400, np.float32)
    y = load(with_external("w.bin")).infer({"x": x}, arena)["y"]
    np.testing.assert_array_equal(y, np.arange(400))


def test_external_data_outside_the_package_are_refused(with_external, load, tmp_path):
    for location in ("../w.bin", str(tmp_path / "w.bin")):
        with pytest.raises(LoadFailed, match="own folder"):
            load(with_external(location))


def test_a_link_out_of_the_package_is_refused(with_external, load, tmp_path):
    path = with_external("link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(LoadFailed, match="own folder"):
        load(path)
