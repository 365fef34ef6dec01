# SPDX-License-Identifier: BUSL-1.1
import gc

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from mlos_core.errors import InvalidInput
from mlos_core.types import DTYPES

FLOAT = TensorProto.FLOAT


def reference(path, **inputs):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def frozen(values, dtype=np.float32):
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


def test_arrays_that_come_again_are_bound_and_outputs_written_where_allocate_says(
    doubling, load, arena
):
    model = load(doubling)
    x = frozen([[1, 2, 3]])
    outputs = [model.infer({"x": x}, arena)["y"] for _ in range(4)]
    assert [arena.holds(y) for y in outputs] == [False, False, True, True]
    for y in outputs:
        assert y.tolist() == [[2, 4, 6]]


def test_large_outputs_of_a_known_shape_are_bound_at_once(doubling, load, arena):
    model = load(doubling)
    for start in range(3):
        x = np.full((5000, 3), start, np.float32)
        y = model.infer({"x": x}, arena)["y"]
        assert arena.holds(y) == (start > 0)
        np.testing.assert_array_equal(y, x + x)


def test_each_place_of_the_output_gets_its_own_binding(doubling, load):
    model = load(doubling)
    memory = np.zeros((1, 3), np.float32)
    batch = {"x": memory}
    places = [np.empty((1, 3), np.float32) for _ in range(3)]
    for turn in range(12):
        memory[:] = turn
        place = places[turn % 3]
        y = model.infer(batch, lambda *_, place=place: place)["y"]
        assert y.tolist() == [[2 * turn] * 3]
        assert y is place or turn < 2


def test_large_outputs_of_a_fixed_shape_are_bound_from_the_first_call(save, load, arena):
    node = helper.make_node("Neg", ["x"], ["y"])
    path = save([node], [("x", FLOAT, [9999])], [("y", FLOAT, [9999])])
    x = np.arange(9999, dtype=np.float32)
    y = load(path).infer({"x": x}, arena)["y"]
    assert arena.holds(y)
    np.testing.assert_array_equal(y, -x)


def test_a_bound_input_is_read_where_it_lies(doubling, load, arena):
    model = load(doubling)
    memory = np.array([[1, 2, 3]], np.float32)
    x = memory.view()
    x.flags.writeable = False
    batch = {"x": x}
    for start in range(5):
        memory[:] = start
        assert model.infer(batch, arena)["y"].tolist() == [[2 * start] * 3]


def test_new_arrays_at_an_old_arrays_place_are_not_taken_for_it(doubling, load, arena):
    model = load(doubling)
    for start in range(200):
        x = np.full((1 + start % 3, 3), start, np.float32)
        np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], x + x)
        del x
        gc.collect(0)


def test_other_inputs_beside_the_same_first_one_make_a_plan_of_their_own(save, load, arena):
    path = save(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [("a", FLOAT, [1]), ("b", FLOAT, [1])],
        [("y", FLOAT, [1])],
    )
    model = load(path)
    a = frozen([1])
    assert model.infer({"a": a, "b": frozen([10])}, arena)["y"].tolist() == [11]
    assert model.infer({"a": a, "b": frozen([20])}, arena)["y"].tolist() == [21]


def test_outputs_that_depend_on_the_data_come_out_right(nonzero, load, arena):
    model = load(nonzero)
    for values in ([1, 0, 0, 2], [1, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0], [0, 3, 0, 0]):
        x = frozen(values)
        (want,) = reference(nonzero, x=x)
        np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], want)


def test_a_file_that_lies_about_its_output_shape_still_answers(save, load, arena):
    path = save(
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, [3])],
    )
    model = load(path)
    for _ in range(3):
        assert model.infer({"x": frozen([1])}, arena)["y"].tolist() == [1, 1]


def test_strings_go_in_as_bytes_and_come_out_as_text(same_text, load, arena):
    model = load(same_text)
    words = np.array([b"a", "ü".encode(), b""], object)
    assert model.signature.describe() == "s: bytes[?] -> t: bytes[?]"
    assert list(model.infer({"s": words}, arena)["t"]) == ["a", "ü", ""]


def test_a_string_that_is_no_utf8_is_the_callers_mistake(same_text, load, arena):
    with pytest.raises(InvalidInput, match="UTF-8"):
        load(same_text).infer({"s": np.array([b"\xff"], object)}, arena)


def test_empty_tensors_pass(doubling, load, arena):
    model = load(doubling)
    for _ in range(3):
        assert model.infer({"x": np.empty((0, 3), np.float32)}, arena)["y"].shape == (0, 3)


def test_inputs_that_are_not_contiguous_are_read_right(doubling, load, arena):
    model = load(doubling)
    x = np.arange(6, dtype=np.float32).reshape(3, 2).T
    for _ in range(3):
        np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], x + x)


def test_a_failing_model_raises_and_answers_the_next_call(save, load, arena):
    path = save(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", FLOAT, ["n"]), ("shape", TensorProto.INT64, [1])],
        [("y", FLOAT, ["m"])],
    )
    model = load(path)
    x = frozen([1, 2])
    good, bad = frozen([2], np.int64), frozen([3], np.int64)
    for _ in range(3):
        assert model.infer({"x": x, "shape": good}, arena)["y"].tolist() == [1, 2]
        with pytest.raises(Exception, match="Reshape"):
            model.infer({"x": x, "shape": bad}, arena)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_passes_bound_and_unbound(dtype, save, load, arena):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("Identity", ["x"], ["y"])
    model = load(save([node], [("x", kind, ["n"])], [("y", kind, ["n"])]))
    x = np.array([0, 1, 1]).astype(dtype)
    for _ in range(3):
        y = model.infer({"x": x}, arena)["y"]
        np.testing.assert_array_equal(y, x)
        assert y.dtype == x.dtype
    assert arena.holds(y)


def test_batches_of_changing_size_are_bound_once_each_size_was_seen(save, load, arena):
    size = 5000
    path = save(
        [helper.make_node("Add", ["a", "b"], ["y"]), helper.make_node("Mul", ["a", "b"], ["z"])],
        [("a", FLOAT, ["batch", size]), ("b", FLOAT, ["batch", size])],
        [("y", FLOAT, ["batch", size]), ("z", FLOAT, ["batch", size])],
    )
    model = load(path)
    noise = np.random.default_rng(3)
    for turn, rows in enumerate((1, 8, 3, 8, 1, 3, 32, 8, 3)):
        # New arrays each time, as a merged batch is.
        a, b = noise.random((2, rows, size), np.float32)
        got = model.infer({"a": a, "b": b}, arena)
        np.testing.assert_array_equal(got["y"], a + b)
        np.testing.assert_array_equal(got["z"], a * b)
        seen = turn in (3, 4, 5, 7, 8)
        assert [arena.holds(got[name]) for name in "yz"] == [seen, seen]


def test_clients_that_take_turns_keep_their_bindings(doubling, load, arena):
    model = load(doubling)
    made = []
    session, model._session = model._session, None

    class Counting:
        run = staticmethod(session.run)

        def io_binding(self):
            made.append(session.io_binding())
            return made[-1]

    model._session = Counting()
    inputs = [frozen([[n, n, n]]) for n in range(32)]
    for _ in range(6):
        for n, x in enumerate(inputs):
            assert model.infer({"x": x}, arena)["y"].tolist() == [[2 * n] * 3]
    assert len(made) == 32
