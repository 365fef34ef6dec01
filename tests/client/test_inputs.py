# SPDX-License-Identifier: BUSL-1.1
"""What can be sent, and that it arrives as it was."""

import array

import numpy as np
import pytest
from channel_rig import step

from mlos_core.errors import InvalidInput, Overloaded
from mlos_core.types import DTYPES, Signature, TensorSpec


def signature(dtype, rank=1, name="a"):
    spec = TensorSpec(name, dtype, (-1,) * rank)
    return Signature((spec,), (spec,))


def ask(rig, inputs, dtype="float64", rank=1, **channel):
    """One round trip on a channel of its own: the answer, copied."""
    fds = rig.channel(**channel)
    model, port = rig.model(fds, signature=signature(dtype, rank)), rig.port(fds)
    future = model.submit(inputs)
    step(port)
    return future.result().copy()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 0, 3), (7, 3), (2, 1, 3, 1, 2), (40, 50)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back_as_it_went(rig, dtype, shape):
    random = np.random.default_rng(1)
    sent = random.integers(0, 2, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        sent = random.standard_normal(shape).astype(dtype)
    got = ask(rig, {"a": sent}, dtype, len(shape))["a"]
    assert got.dtype == sent.dtype
    assert got.shape == shape
    assert got.tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    "items",
    [[], [b""], [b"\x00\xff", b"", b"x" * 5000], [b"a", "ä", bytearray(b"c"), memoryview(b"d")]],
)
def test_byte_strings_come_back_reversed(rig, items):
    sent = np.empty(len(items), dtype=object)
    sent[:] = items
    got = ask(rig, {"a": sent}, "bytes")["a"]
    raw = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
    assert list(got) == [item[::-1] for item in raw]


def test_a_tensor_of_several_megabytes_comes_back(rig):
    sent = np.random.default_rng(2).standard_normal((512, 1024))
    got = ask(rig, {"a": sent}, rank=2, request_bytes=8 << 20, reply_bytes=8 << 20)["a"]
    assert np.array_equal(got, sent)


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a.T,
        lambda a: a[::-1, ::2],
        lambda a: a[:, 3:5],
        lambda a: np.broadcast_to(a[0], (4, a.shape[1])),
        np.asfortranarray,
        lambda a: a.astype(">f8"),
        lambda a: a.astype(">f8").T,
    ],
    ids=["transposed", "strided", "part", "broadcast", "fortran", "big-endian", "both"],
)
@pytest.mark.parametrize("rows", [6, 300])
def test_any_layout_of_an_array_arrives_in_order(rig, turn, rows):
    sent = turn(np.random.default_rng(3).standard_normal((rows, 8)))
    got = ask(rig, {"a": sent}, rank=2)["a"]
    assert np.array_equal(got, sent)


def test_a_read_only_array_is_sent(rig):
    sent = np.arange(5.0)
    sent.flags.writeable = False
    assert np.array_equal(ask(rig, {"a": sent})["a"], sent)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2, 3], "float64"),
        ([1.5, 2.5], "float32"),
        ((1, 2), "int8"),
        ([True, False], "bool"),
        (range(4), "int64"),
        (array.array("d", [1.0, 2.0]), "float64"),
        (memoryview(np.arange(3.0)), "float64"),
        (bytearray(b"abc"), "uint8"),
    ],
)
def test_lists_and_buffers_take_the_models_dtype(rig, value, dtype):
    got = ask(rig, {"a": value}, dtype)["a"]
    assert got.dtype == np.dtype(dtype)
    assert np.array_equal(got, np.asarray(value, dtype=dtype))


def test_text_is_a_bytes_tensor(rig):
    assert ask(rig, {"a": "abc"}, "bytes", 0)["a"][()] == b"cba"
    assert list(ask(rig, {"a": ["ab", b"cd"]}, "bytes")["a"]) == [b"ba", b"dc"]
    assert list(ask(rig, {"a": np.array(["ab", "c"])}, "bytes")["a"]) == [b"ba", b"c"]


class Tensor:
    """Speaks DLPack and nothing else."""

    def __init__(self, data):
        self.data = data

    def __dlpack__(self, **options):
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()


class Unwilling(Tensor):
    def __dlpack__(self, **_):
        raise RuntimeError("on another device")


def test_dlpack_tensors_are_taken(rig):
    data = np.arange(4.0)
    assert np.array_equal(ask(rig, {"a": Tensor(data)})["a"], data)


@pytest.mark.parametrize(
    "value",
    [
        Unwilling(np.arange(2.0)),
        [[1.0], [1.0, 2.0]],
        {"a": 1},
        None,
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, complex),
        np.zeros(2, "float32"),
        [float("nan")],
        [300],
        [2.5],
    ],
    ids=repr,
)
def test_what_is_no_such_tensor_is_refused_with_a_hint(rig, value):
    dtype = "int8" if isinstance(value, list) and not isinstance(value[0], list) else "float64"
    with pytest.raises(InvalidInput):
        ask(rig, {"a": value}, dtype)


@pytest.mark.parametrize("item", [5, None, 1.5, [b"x"]])
def test_a_bytes_tensor_of_something_else_is_refused(rig, item):
    sent = np.empty(1, dtype=object)
    sent[0] = item
    with pytest.raises(InvalidInput, match="bytes"):
        ask(rig, {"a": sent}, "bytes")


@pytest.mark.parametrize(
    "inputs", [{}, {"a": np.zeros(2), "z": np.zeros(1)}, {"a": np.zeros((2, 2))}]
)
def test_inputs_that_do_not_fit_the_model_are_refused(rig, inputs):
    with pytest.raises(InvalidInput, match="expects"):
        ask(rig, inputs)


@pytest.mark.parametrize("value", [object(), 1 << 70, {1, 2}])
def test_a_parameter_that_cannot_be_sent_is_refused(stepped, value):
    model, port = stepped
    with pytest.raises(InvalidInput):
        model.submit({"x": np.zeros(1)}, parameters={"p": [object()] if value == {1, 2} else value})
    assert step(port) == 0


def test_a_header_larger_than_its_place_in_the_slot_arrives(stepped):
    model, port = stepped
    parameters = {"text": "x" * 5000, "deep": [[[{"k": [1, 2.5, None, True, b"raw"]}]]]}
    future = model.submit({"x": np.arange(3.0)}, parameters=parameters)
    request = port.poll()
    assert request.parameters == parameters
    request.answer({"y": np.arange(2.0)}, parameters)
    result = future.result()
    assert result.parameters == parameters
    assert np.array_equal(result["y"], np.arange(2.0))


def test_a_header_larger_than_workers_read_is_refused_at_once(rig):
    fds = rig.channel(request_bytes=8 << 20)
    model = rig.model(fds)
    with pytest.raises(InvalidInput, match="limit"):
        model.submit({"x": np.zeros(1)}, parameters={"text": "x" * (2 << 20)})
    assert model.usage()["request_bytes_used"] == 0


# --- memory of the channel ---------------------------------------------------------------


def test_an_array_made_by_alloc_is_not_copied(stepped):
    model, port = stepped
    x = model.alloc(4000, "float64")
    x[:] = np.arange(4000)
    before = model.usage()["copied_bytes"]
    future = model.submit({"x": x})
    request = port.poll()
    assert np.array_equal(request.inputs["x"], x)
    x[7] = -1  # the worker sees the very same memory
    assert request.inputs["x"][7] == -1
    made = request.allocate("y", "float64", (4000,))
    made[:] = 3
    request.answer({"y": made})
    with future.result() as result:
        assert not result["y"].flags.owndata
        assert (result["y"] == 3).all()
    assert model.usage()["copied_bytes"] == before
    assert port.counters()["copied_bytes"] == 0


def test_a_part_of_an_allocated_array_is_not_copied_either(stepped):
    model, port = stepped
    x = model.alloc((10, 100), "float64")
    x[:] = 2
    before = model.usage()["copied_bytes"]
    future = model.submit({"x": x[3]})
    step(port)
    assert np.array_equal(future.result()["y"], np.full(100, 5.0))
    copied = model.usage()["copied_bytes"] - before
    assert copied == 800  # the small answer alone


def test_views_that_the_worker_could_not_read_go_as_copies(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    x = model.alloc(1000, "float64")
    swapped, odd = x.view(">f8"), x.view("uint8")[3 : 3 + 800].view("float64")
    swapped[:] = np.arange(1000)
    for sent in (swapped, swapped[10:20], odd, x[::2], x[::-1]):
        sent[...] = np.arange(len(sent))
        future = model.submit({"x": sent})
        step(port)
        assert np.array_equal(future.result()["y"], 2 * np.arange(len(sent)) + 1)


def test_an_array_of_another_channel_is_copied(rig):
    first, second = rig.channel(), rig.channel()
    mine, other = rig.model(first), rig.model(second)
    port = rig.port(first)
    x = other.alloc(300, "float64")
    x[:] = 4
    future = mine.submit({"x": x})
    step(port)
    assert (future.result()["y"] == 9).all()


def test_memory_of_alloc_comes_back_with_the_last_view(stepped):
    model, _ = stepped
    x = model.alloc((100, 100), "float32")
    assert x.shape == (100, 100)
    assert model.usage()["request_bytes_used"] >= 40000
    view = x[5:7].reshape(-1)
    del x
    assert model.usage()["request_bytes_used"] >= 40000
    del view
    assert model.usage()["request_bytes_used"] == 0


def test_memory_stays_while_a_request_reads_it_whatever_happens_to_the_dict(stepped):
    model, port = stepped
    x = model.alloc(1000, "float64")
    x[:] = 1
    inputs = {"x": x}
    future = model.submit(inputs)
    inputs.clear()
    del x
    other = model.alloc(1000, "float64")
    other[:] = 99
    step(port)
    assert (future.result()["y"] == 3).all()


@pytest.mark.parametrize("shape", [0, (), (3, 0), 7])
def test_alloc_makes_any_shape(stepped, shape):
    model, _ = stepped
    assert model.alloc(shape).shape == np.zeros(shape).shape


def test_alloc_refuses_what_no_tensor_can_be(stepped):
    model, _ = stepped
    with pytest.raises(InvalidInput):
        model.alloc(3, "complex128")


def test_a_full_arena_is_overload_and_ends_with_a_free(rig):
    model = rig.model(rig.channel(request_bytes=8192))
    first = model.alloc(8192, "uint8")
    with pytest.raises(Overloaded, match="arena"):
        model.alloc(1, "uint8")
    del first
    assert model.alloc(8192, "uint8").size == 8192
