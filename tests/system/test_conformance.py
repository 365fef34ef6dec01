# SPDX-License-Identifier: BUSL-1.1
"""One behaviour, whatever the way: each test runs over every client and form of HTTP."""

import asyncio
import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from mlos_plugin_echo.engine import number_at

from mlos_core.client import connect_async
from mlos_core.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
)
from mlos_core.types import DTYPES
from tests.conftest import Daemon

from . import transports
from .kills import until

X = [{"name": "x", "dtype": "float32", "shape": [-1]}]
MODELS = {
    "types": {"inputs": [{"name": f"a_{d}", "dtype": d, "shape": [-1]} for d in DTYPES]},
    "words": {"inputs": [{"name": "s", "dtype": "bytes", "shape": [-1]}]},
    "shapes": {
        "inputs": [
            {"name": "scalar", "dtype": "int64", "shape": []},
            {"name": "matrix", "dtype": "float64", "shape": [-1, -1]},
            {"name": "cube", "dtype": "uint8", "shape": [2, -1, 3]},
        ]
    },
    "vector": {"inputs": X},
    "rows": {"batched": True, "inputs": [{"name": "x", "dtype": "float64", "shape": [-1, 3]}]},
    "sum": {"mode": "sum", "inputs": [{"name": "x", "dtype": "float64", "shape": [-1]}]},
    "raise": {"mode": "raise"},
    "sleep": {"mode": "sleep"},
    "stream": {"mode": "stream"},
    "slow": {"mode": "stream", "step_seconds": 0.01},
    "narrow": {"mode": "stream", "capacity": 1, "step_seconds": 0.01},
}


@pytest.fixture(scope="module")
def daemon():
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        folder = Path(name)
        running = Daemon(folder, {"MLOS_HTTP": "true", "MLOS_HTTP_PORT": "0"}).start()
        try:
            for model, description in MODELS.items():
                file = folder / f"{model}.echo"
                file.write_text(json.dumps(description))
                batch = {"max_batch_size": 8} if description.get("batched") else {}
                running.call("register", name=model, path=str(file), batch=batch)
            yield running
        finally:
            clean = running.clean_up()
        assert clean


@pytest.fixture(scope="module", params=list(transports.ALL))
def way(request, daemon):
    way = transports.ALL[request.param](daemon)
    yield way
    way.close()


@pytest.fixture
def is_json(way):
    return type(way) is transports.Http


def vector(*values):
    return {"x": np.array(values, np.float32)}


def words(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def extremes(dtype):
    """Values that a conversion on the way would change."""
    kind = DTYPES[dtype]
    if kind.kind == "b":
        return np.array([True, False])
    if kind.kind == "f":
        info = np.finfo(kind)
        values = [0.0, -0.0, 1 / 3, info.max, info.tiny, np.inf, -np.inf, np.nan]
        return np.array(values, kind)
    info = np.iinfo(kind)
    return np.array([info.min, 0, 1, info.max], kind)


def identical(got, sent):
    assert got.dtype == sent.dtype
    assert got.shape == sent.shape
    np.testing.assert_array_equal(got, sent)
    if sent.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(got), np.signbit(sent))


# --- data -------------------------------------------------------------------------------------


def test_every_dtype_comes_back_bit_by_bit(way):
    sent = {f"a_{dtype}": extremes(dtype) for dtype in DTYPES}
    answer = way.infer("types", sent)
    assert list(answer) == list(sent)
    for name, array in sent.items():
        identical(answer[name], array)


def test_inputs_of_several_ranks_come_back_in_their_shapes(way):
    sent = {
        "scalar": np.array(-7, np.int64),
        "matrix": np.arange(6.0).reshape(2, 3),
        "cube": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    }
    answer = way.infer("shapes", sent)
    for name, array in sent.items():
        identical(answer[name], array)


def test_an_array_that_is_not_contiguous_is_sent_as_it_looks(way):
    whole = np.arange(24.0).reshape(4, 6)
    inputs = {
        "scalar": np.array(0, np.int64),
        "matrix": whole.T[::2],
        "cube": np.zeros((2, 1, 3), np.uint8),
    }
    identical(way.infer("shapes", inputs)["matrix"], np.ascontiguousarray(whole.T[::2]))


def test_strings_come_back_byte_by_byte(way):
    sent = words(b"plain", b"", "gr\u00fc\u00dfe \U0001f30d".encode(), b"\xff\x00\xfe")
    assert way.infer("words", {"s": sent})["s"].tolist() == sent.tolist()


def test_empty_tensors_come_back_empty(way):
    identical(way.infer("vector", vector())["x"], np.empty(0, np.float32))
    assert way.infer("words", {"s": np.empty(0, object)})["s"].shape == (0,)


def test_only_the_wanted_outputs_come(way):
    sent = {f"a_{dtype}": extremes(dtype) for dtype in DTYPES}
    answer = way.infer("types", sent, outputs=["a_int8", "a_float64"])
    assert set(answer) == {"a_int8", "a_float64"}


def test_a_big_tensor_arrives_whole(way, is_json):
    x = np.arange(100_000 if is_json else 5_000_000, dtype=np.float64)
    assert way.infer("sum", {"x": x})["sum"].tolist() == [x.sum()]


def test_a_big_answer_arrives_whole(way, is_json):
    x = np.arange(100_000 if is_json else 2_000_000, dtype=np.float32)
    identical(way.infer("vector", {"x": x})["x"], x)


def test_sizes_may_change_from_call_to_call(way):
    for size in (1, 300, 2, 20_000, 0, 5, 300):
        x = np.arange(size, dtype=np.float32)
        identical(way.infer("vector", {"x": x})["x"], x)


def test_concurrent_calls_get_each_their_own_answer(way):
    def ask(number):
        for turn in range(15):
            x = np.full((1 + turn % 2, 3), number * 1000 + turn, np.float64)
            identical(way.infer("rows", {"x": x})["x"], x)

    transports.at_once([functools.partial(ask, number) for number in range(6)])


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ({"y": np.zeros(2, np.float32)}, "y"),
        ({}, "x"),
        ({"x": np.zeros((2, 2), np.float32)}, "x"),
        ({"x": words(b"no number")}, "x"),
    ],
    ids=["unknown name", "missing", "rank", "dtype"],
)
def test_wrong_inputs_say_what_the_model_expects(way, inputs, word):
    with pytest.raises(InvalidInput) as caught:
        way.infer("vector", inputs)
    assert repr(word) in caught.value.message or "no inputs" in caught.value.message
    assert "x: float32[?]" in caught.value.hint


def test_a_wrong_size_names_the_right_one(way):
    inputs = {
        "scalar": np.array(0, np.int64),
        "matrix": np.zeros((1, 1)),
        "cube": np.zeros((2, 1, 4), np.uint8),
    }
    with pytest.raises(InvalidInput, match=r"cube.*uint8\[2, \?, 3\]"):
        way.infer("shapes", inputs)


def test_an_unknown_output_is_refused(way):
    with pytest.raises(InvalidInput, match="nonsense"):
        way.infer("vector", vector(1), outputs=["nonsense"])


def test_an_unknown_model_is_not_found(way):
    with pytest.raises(NotFound, match="nobody"):
        way.infer("nobody", vector(1))


def test_a_model_that_raises_says_so_and_goes_on(way):
    with pytest.raises(ModelFailed, match="first element is 3"):
        way.infer("raise", vector(3))
    identical(way.infer("raise", vector(0, 5))["x"], np.array([0, 5], np.float32))


def test_a_models_own_error_keeps_its_kind(way):
    with pytest.raises(InvalidInput, match="negative"):
        way.infer("sleep", vector(-1))


def test_a_request_ends_at_its_deadline(way):
    with pytest.raises(DeadlineExceeded):
        way.infer("sleep", vector(0.4), timeout=0.1)
    identical(way.infer("sleep", vector(0))["x"], np.zeros(1, np.float32))


def test_what_nobody_waits_for_is_not_run(way, daemon):
    def ran():
        return daemon.call("stats", name="sleep")["sleep"]["executions"]

    before = ran()
    with daemon.connect() as client:
        busy = client.model("sleep").submit(vector(1.0))
        for _ in range(2):  # behind it in line, or gone before they even got there
            way.break_off("sleep", vector(0.1))
        identical(busy.result()["x"], np.ones(1, np.float32))
    way.infer("sleep", vector(0))  # behind them
    assert ran() == before + 2


# --- streams ----------------------------------------------------------------------------------


PROMPT = {"prompt": words(b"tell me")}


def numbers(count, seed=0):
    return [number_at(b"tell me", seed, at) for at in range(count)]


def test_a_stream_comes_whole_and_in_order(way):
    events = way.stream("stream", PROMPT, parameters={"count": 200, "seed": 4})
    assert events == numbers(200, 4)


def test_an_empty_stream_ends_at_once(way):
    assert way.stream("stream", PROMPT, parameters={"count": 0}) == []


def test_a_streaming_model_can_be_asked_for_its_final_answer_alone(way):
    answer = way.infer("stream", PROMPT, parameters={"count": 5})
    identical(answer["numbers"], np.array(numbers(5), np.int64))


def test_streams_at_once_do_not_mix(way):
    def ask(seed):
        return way.stream("stream", PROMPT, parameters={"count": 50, "seed": seed})

    streams = transports.at_once([functools.partial(ask, seed) for seed in range(5)])
    assert streams == [numbers(50, seed) for seed in range(5)]


def test_a_refused_stream_says_why(way):
    with pytest.raises(InvalidInput, match="temperature"):
        way.stream("stream", PROMPT, parameters={"temperature": 1})


def test_a_stream_may_be_left_early(way, daemon):
    def cancelled():
        return daemon.call("stats", name="slow")["slow"]["cancelled"]

    before = cancelled()
    first, leave = way.start_stream("slow", PROMPT, parameters={"count": 100_000})
    assert first == numbers(1)[0]
    leave()
    until(lambda: cancelled() > before)


def test_a_model_that_is_full_is_overloaded(way):
    _, leave = way.start_stream("narrow", PROMPT, parameters={"count": 100_000})
    try:
        with pytest.raises(Overloaded, match="1 streams"):
            way.infer("narrow", PROMPT)
    finally:
        leave()
    until(lambda: again(way))


def again(way):
    """Whether the engine has noticed that its stream was left."""
    try:
        return way.stream("narrow", PROMPT, parameters={"count": 2}) == numbers(2)
    except Overloaded:
        return False


# --- what only the clients of the channel can run into ----------------------------------------


def test_more_requests_than_slots_are_refused_at_once(daemon):
    with daemon.connect() as client:
        model = client.model("sleep", slots=2)
        held = [model.submit(vector(0.2)) for _ in range(2)]
        with pytest.raises(Overloaded, match="2 slots"):
            model.submit(vector(0))
        answers = [future.result()["x"].tolist() for future in held]
        assert answers == [[np.float32(0.2)]] * 2
        identical(model.infer(vector(0))["x"], np.zeros(1, np.float32))


def test_an_answer_may_be_held_while_the_next_one_is_asked_for(daemon):
    x = np.arange(750_000, dtype=np.float32)  # two of them do not fit the arena at first
    with daemon.connect() as client:
        model = client.model("vector", reply_bytes=4 << 20)
        answer = model.infer({"x": x})
        for _ in range(4):
            answer = model.infer({"x": x})
        identical(answer["x"], x)
        held = []
        with pytest.raises(Overloaded, match="release"):
            held.extend(iter(lambda: model.infer({"x": x}), None))
        for one in held:
            identical(one["x"], x)


def test_an_answer_may_be_held_in_a_loop_too(daemon):
    x = np.arange(750_000, dtype=np.float32)

    async def ask():
        async with await connect_async(daemon.socket) as client:
            model = await client.model("vector", reply_bytes=4 << 20)
            answer = await model.infer({"x": x})
            for _ in range(4):
                answer = await model.infer({"x": x})
            identical(answer["x"], x)

    asyncio.run(ask())


def test_an_answer_larger_than_its_arena_is_refused_with_the_size_or_asked_for_again(daemon):
    x = np.arange(100_000, dtype=np.float32)
    with daemon.connect() as client:
        model = client.model("vector", reply_bytes=1 << 16)
        with pytest.raises(PayloadTooLarge, match=r"reply arena.*400000"):
            model.submit({"x": x}).result()
        identical(model.submit(vector(1)).result()["x"], np.ones(1, np.float32))
        identical(model.infer({"x": x})["x"], x)
