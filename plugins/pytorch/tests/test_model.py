# SPDX-License-Identifier: BUSL-1.1
import gc
import weakref

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed, OutOfMemory
from mlos_core.types import DTYPES

torch = pytest.importorskip("torch", reason="torch is not installed")
blame = pytest.importorskip("mlos_plugin_pytorch.blame")
feed = pytest.importorskip("mlos_plugin_pytorch.feed")
results = pytest.importorskip("mlos_plugin_pytorch.results")


class Same(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        return x


class Bent(torch.nn.Module):
    """Outputs that are views, and one that is a parameter of the module."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor):
        return x.t(), self.weight, x.shape[0]


def test_an_input_is_read_where_it_lies(script, load, arena):
    model = load(script(Same()), inputs="x:float32[?,3]")
    memory = np.zeros((2, 3), np.float32)
    x = memory.view()
    x.flags.writeable = False
    for value in range(4):
        memory[:] = value
        assert (model.infer({"x": x}, arena)["output"] == value).all()


def test_a_view_shares_the_memory_and_keeps_no_array_alive():
    views = feed.Views()
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    tensor = views(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert views(array) is tensor
    known = weakref.ref(array)
    del array
    gc.collect()
    assert known() is None


def test_new_arrays_at_an_old_arrays_place_are_not_taken_for_it():
    views = feed.Views()
    for turn in range(2 * feed.MAX_VIEWS):
        array = np.full(1 + turn % 3, turn, np.float32)
        assert views(array).tolist() == array.tolist()
        del array


def test_an_output_lies_where_allocate_says_whatever_it_is_a_view_of(script, load, arena):
    model = load(script(Bent()), inputs="x:float32[?,3]")
    described = "output_0: float32[3, ?], output_1: float32[2], output_2: int64[]"
    assert model.signature.describe().endswith(described)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = model.infer({"x": x}, arena)
    assert all(arena.holds(array) for array in outputs.values())
    np.testing.assert_array_equal(outputs["output_0"], x.T)
    assert outputs["output_1"].tolist() == [1, 1]
    assert outputs["output_2"] == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_the_channel_passes(dtype, script, load, arena, read_only):
    model = load(script(Same()), inputs=f"x:{dtype}[?]")
    assert model.signature.outputs[0].dtype == dtype
    x = read_only([0, 1, 1], dtype)
    got = model.infer({"x": x}, arena)["output"]
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x)


def test_empty_and_strange_arrays_pass(script, load, arena):
    model = load(script(Same()), inputs="x:float32[?,?]")
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    for x in (whole[:0], whole[::2], whole.T, whole[:, ::-1]):
        np.testing.assert_array_equal(model.infer({"x": x}, arena)["output"], x)


def test_a_dtype_that_numpy_lacks_is_refused_with_a_way_out(script, load, arena):
    class Brief(torch.nn.Module):
        def forward(self, x: torch.Tensor):
            return x.to(torch.bfloat16)

    path = script(Brief())
    with pytest.raises(LoadFailed, match=r"output 'output' is bfloat16.*\.float\(\)"):
        load(path, inputs="x:float32[1]")
    model = load(path, inputs="x:float32[1]", outputs="y:float32[1]")
    with pytest.raises(ModelFailed, match="output 'y' is bfloat16"):
        model.infer({"x": np.zeros(1, np.float32)}, arena)


def test_what_is_no_tensor_is_no_output(arena):
    with pytest.raises(ModelFailed, match="'y' is a str"):
        results.deliver("y", "text", arena)
    with pytest.raises(ModelFailed, match="'y' is sparse_coo"):
        results.deliver("y", torch.eye(2).to_sparse(), arena)
    with pytest.raises(ModelFailed, match="two outputs of one name"):
        results.named({"a_0": torch.zeros(1), "a": [torch.zeros(1)]})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), InvalidInput),
        (IndexError("index out of range in self"), InvalidInput),
        (RuntimeError("index out of range in self"), InvalidInput),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("mat1 and mat2 cannot be multiplied"), ModelFailed),
        (InvalidInput("said already"), InvalidInput),
    ],
)
def test_who_is_to_blame(error, kind):
    assert type(blame.blamed(error, "it")) is kind


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:0", ""])
def test_an_unknown_device_is_refused(device, script, load):
    with pytest.raises(LoadFailed, match="use cpu or cuda:0"):
        load(script(Same()), device=device, inputs="x:float32[1]")


def test_a_cuda_device_that_is_not_there_is_an_error_that_says_why(script, load):
    with pytest.raises(LoadFailed, match=r"there is no cuda:63: .*register with device cpu"):
        load(script(Same()), device="cuda:63", inputs="x:float32[1]")


def test_threads_come_from_the_option_then_the_package(script, load):
    path = script(Same())
    load(path, threads=1, inputs="x:float32[1]")
    assert torch.get_num_threads() == 1
    from mlos_core.smi import ModelPackage

    plugin = pytest.importorskip("mlos_plugin_pytorch").PyTorchPlugin()
    package = ModelPackage("m", "1", path, threads=1)
    plugin.load(package, "cpu", {"inputs": "x:float32[1]", "threads": "2"})
    assert torch.get_num_threads() == 2


def test_a_misspelt_option_is_answered_with_a_suggestion(script, load):
    with pytest.raises(LoadFailed, match="did you mean 'inputs'"):
        load(script(Same()), input="x:float32[1]")
    with pytest.raises(LoadFailed, match="threads"):
        load(script(Same()), interop_threads=0)


def test_the_example_answers_like_its_signature(tmp_path, arena):
    plugin = pytest.importorskip("mlos_plugin_pytorch").PyTorchPlugin()
    model = plugin.load(plugin.example(tmp_path), "cpu", {})
    assert model.signature.batched
    outputs = model.infer({"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, arena)
    assert outputs["double"].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert outputs["total"].tolist() == [3, 12]
