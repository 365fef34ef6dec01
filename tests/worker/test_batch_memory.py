# SPDX-License-Identifier: BUSL-1.1
"""The memory of merged calls: used again, never shared with anybody outside."""

import weakref

import numpy as np
import pytest

from mlos_core.errors import ModelFailed
from mlos_core.smi import TensorModel
from mlos_core.types import Signature, TensorSpec
from mlos_core.worker.calls import Calls
from mlos_core.worker.checks import OutputCheck
from mlos_core.worker.joining import Joiner, RowStore, Scratch, check_rows
from mlos_core.worker.note import Note
from mlos_core.worker.tally import Tally

F4 = np.dtype("float32")


def test_the_same_size_gives_the_same_array():
    store = RowStore()
    first, view = store.rows("x", F4, (3, 2))
    again = store.rows("x", F4, (3, 2))
    assert again[0] is first
    assert again[1] is view
    assert (first.shape, first.flags.c_contiguous) == ((3, 2), True)
    assert not view.flags.writeable


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [("z", F4, (3, 2)), ("x", np.dtype("int32"), (3, 2)), ("x", F4, (3, 4))],
)
def test_another_name_dtype_or_shape_of_a_row_has_memory_of_its_own(name, dtype, shape):
    store = RowStore()
    first, _ = store.rows("x", F4, (3, 2))
    other, _ = store.rows(name, dtype, shape)
    assert (other.dtype, other.shape) == (dtype, shape)
    assert not np.shares_memory(first, other)


def test_what_would_take_too_much_memory_is_not_kept():
    store = RowStore(max_bytes=4 * 2 * 4)
    small, _ = store.rows("x", F4, (3, 2))
    large, _ = store.rows("x", F4, (3, 3))
    assert store.rows("x", F4, (3, 2))[0] is small
    assert store.rows("x", F4, (3, 3))[0] is not large


def test_room_grows_with_what_is_asked_and_serves_smaller_sizes():
    store = RowStore()
    small, _ = store.rows("x", F4, (3, 2))
    large, _ = store.rows("x", F4, (5, 2))
    assert not np.shares_memory(small, large)
    assert np.shares_memory(store.rows("x", F4, (8, 2))[0], large)
    assert np.shares_memory(store.rows("x", F4, (3, 2))[0], large)


def test_what_was_longest_unused_makes_room():
    store = RowStore(max_bytes=2 * 4)
    kept = [store.rows(name, F4, (1, 1))[0] for name in "ab"]
    store.rows("a", F4, (1, 1))
    store.rows("c", F4, (1, 1))
    assert store.rows("a", F4, (1, 1))[0] is kept[0]
    assert store.rows("b", F4, (1, 1))[0] is not kept[1]


def test_a_cleared_store_holds_nothing():
    store = RowStore()
    first, _ = store.rows("x", F4, (3, 2))
    store.clear()
    assert not np.shares_memory(store.rows("x", F4, (3, 2))[0], first)


def test_a_second_array_for_an_output_does_not_lie_in_the_first():
    scratch = Scratch()
    first = scratch.allocate("y", "float32", (4, 2))
    second = scratch.allocate("y", "float32", (3, 2))
    assert not np.shares_memory(first, second)
    scratch.begin()
    assert scratch.allocate("y", "float32", (4, 2)) is first


@pytest.mark.parametrize(
    ("dtype", "shape"), [("bytes", (2,)), ("float32", ()), ("float32", (0, 3))]
)
def test_odd_outputs_get_room_too(dtype, shape):
    assert Scratch().allocate("y", dtype, shape).shape == shape


class Asked:
    """As much of a request as joining looks at."""

    def __init__(self, *values):
        self.inputs = {"x": np.array(values, np.float32), "n": np.array(values, object)}


def test_inputs_are_joined_one_behind_the_other_and_read_only():
    joined = Joiner().join([Asked(1, 2), Asked(3)])
    assert {name: array.tolist() for name, array in joined.items()} == {
        "x": [1, 2, 3],
        "n": [1, 2, 3],
    }
    with pytest.raises(ValueError, match="read-only"):
        joined["x"][0] = 9


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4)])
def test_an_output_without_a_row_for_each_row_of_input_is_the_models_fault(shape):
    with pytest.raises(ModelFailed, match="for a batch of 2 rows"):
        check_rows({"y": np.zeros(shape)}, 2)


class Claimed(Asked):
    """As much of a request as a call looks at."""

    outputs = ()

    def __init__(self, value):
        super().__init__(value)
        self.checked = Note(1, "key", 1, 0)

    def cancelled(self):
        return False

    def allocate(self, name, dtype, shape):
        return np.empty(shape, dtype)

    def answer(self, outputs, parameters, started_ns, ended_ns):
        self.answered = outputs["y"].tolist()


class Observer(TensorModel):
    """Keeps no array, but notes by a weak reference whether it lives."""

    signature = Signature((), (TensorSpec("y", "float32", (-1,)),), batched=True)

    def infer(self, batch, allocate):
        y = allocate("y", "float32", (len(batch["x"]),))
        y[:] = batch["x"]
        self.scratch = weakref.ref(y.base)
        return {"y": y}


def test_memory_of_merged_calls_is_given_back_when_nobody_asks_for_long():
    model = Observer()
    calls = Calls(model, OutputCheck(model.signature), Tally(), lambda _: None)
    requests = [Claimed(1), Claimed(2)]
    calls.run(requests)
    assert [request.answered for request in requests] == [[1], [2]]
    calls.rest(calls.ended_ns + 10**9)
    assert model.scratch() is not None
    calls.rest(calls.ended_ns + 60 * 10**9)
    assert model.scratch() is None
