# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest
from mlos_plugin_echo import EchoPlugin
from mlos_plugin_echo.engine import number_at

from mlos_core.errors import InvalidInput, LoadFailed, Overloaded
from mlos_core.smi import EngineRequest, ModelPackage


def allocate(name, dtype, shape):
    return np.full(shape, 77, dtype)


@pytest.fixture
def load(tmp_path):
    def load(text="", device="cpu", **options):
        path = tmp_path / "model.echo"
        path.write_text(text)
        return EchoPlugin().load(ModelPackage("m", "1", path), device, options)

    return load


def test_an_empty_file_echoes_a_vector_of_floats(load):
    model = load()
    x = np.arange(5, dtype=np.float32)
    assert model.signature.describe() == "x: float32[?] -> x: float32[?]"
    np.testing.assert_array_equal(model.infer({"x": x}, allocate)["x"], x)


def test_an_output_lies_where_allocate_says(load):
    given = []

    def remember(name, dtype, shape):
        given.append(allocate(name, dtype, shape))
        return given[-1]

    out = load('mode = "number"').infer({"x": np.array([3, 4], np.float32)}, remember)
    assert out["number"] is given[0]
    assert out["number"].tolist() == [3.0]


def test_json_and_toml_mean_the_same(load):
    json = load('{"mode": "sum", "inputs": [{"name": "a", "dtype": "int16", "shape": [2, -1]}]}')
    toml = load('mode = "sum"\ninputs = [{name = "a", dtype = "int16", shape = [2, -1]}]')
    assert json.signature == toml.signature


def test_strings_are_echoed(load):
    model = load('inputs = [{name = "s", dtype = "bytes", shape = [-1]}]')
    words = np.array([b"a", b""], object)
    assert model.infer({"s": words}, allocate)["s"].tolist() == [b"a", b""]


def test_the_number_of_an_empty_tensor_is_zero(load):
    out = load('mode = "number"').infer({"x": np.empty(0, np.float32)}, allocate)
    assert out["number"].tolist() == [0.0]


def test_sum_gives_one_number_per_row_where_batched(load):
    text = 'mode = "sum"\nbatched = true\ninputs = [{name="x", dtype="float32", shape=[-1, 2]}]'
    x = np.array([[1, 2], [3, 4]], np.float32)
    assert load(text).infer({"x": x}, allocate)["sum"].tolist() == [3.0, 7.0]
    assert load(text).infer({"x": x[:0]}, allocate)["sum"].shape == (0,)
    assert load(text, batched=False).infer({"x": x}, allocate)["sum"].tolist() == [10.0]


def test_options_win_over_the_file(load):
    model = load('mode = "sum"', mode="number")
    assert model.signature.outputs[0].name == "number"


def test_raise_raises_only_when_the_first_element_is_not_zero(load):
    model = load('mode = "raise"')
    assert model.infer({"x": np.zeros(2, np.float32)}, allocate)["x"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="first element is 2"):
        model.infer({"x": np.array([2, 0], np.float32)}, allocate)


def test_a_negative_sleep_is_the_callers_mistake(load):
    with pytest.raises(InvalidInput, match="negative"):
        load('mode = "sleep"').infer({"x": np.array([-1], np.float32)}, allocate)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('mode = "nonsense"', "nonsense"),
        ("colour = 1", "colour"),
        ("mode = ", "no model description"),
        ('inputs = [{name="x", dtype="float31", shape=[1]}]', "float31"),
        ("inputs = []", "at least one input"),
    ],
)
def test_a_bad_description_says_what_is_wrong(load, text, word):
    with pytest.raises(LoadFailed, match=word):
        load(text)


def test_a_missing_file_and_a_gpu_are_refused(tmp_path, load):
    package = ModelPackage("m", "1", tmp_path / "none.echo")
    with pytest.raises(LoadFailed, match=r"none\.echo"):
        EchoPlugin().load(package, "cpu", {})
    with pytest.raises(LoadFailed, match="cuda:0"):
        load(device="cuda:0")


# --- the engine ---------------------------------------------------------------------------


def request(id, prompt=b"p", resume_from=0, **parameters):
    return EngineRequest(id, {"prompt": np.array([prompt], object)}, parameters, resume_from)


def run(model, wanted):
    data, final = [], None
    while final is None:
        for event in model.step():
            if event.id == wanted:
                data += [event.data] if event.data is not None else []
                final = event if event.final else None
    return data, final


def test_a_stream_is_its_numbers_and_then_all_of_them(load):
    model = load('mode = "stream"')
    model.submit(request(1, count=3, seed=5))
    data, final = run(model, 1)
    assert data == [number_at(b"p", 5, at) for at in range(3)]
    assert final.outputs["numbers"].tolist() == data


def test_a_resumed_stream_goes_on_with_the_same_numbers(load):
    model = load('mode = "stream"')
    model.submit(request(1, count=6))
    model.submit(request(2, count=6, resume_from=4))
    whole, _ = run(model, 1)
    model.submit(request(3, count=6, resume_from=4))
    rest, final = run(model, 3)
    assert rest == whole[4:]
    assert final.outputs["numbers"].tolist() == whole


def test_a_paused_stream_stands_still(load):
    model = load('mode = "stream"')
    model.submit(request(1))
    model.pause(1)
    assert model.step() == []
    model.resume(1)
    assert [event.data for event in model.step()] == [number_at(b"p", 0, 0)]


def test_a_cancelled_stream_is_forgotten(load):
    model = load('mode = "stream"')
    model.submit(request(1))
    model.cancel(1)
    model.cancel(1)
    assert model.step() == []


def test_a_full_engine_is_overloaded(load):
    model = load('mode = "stream"\ncapacity = 1')
    model.submit(request(1))
    with pytest.raises(Overloaded, match="1 streams"):
        model.submit(request(2))


def test_unknown_parameters_are_refused(load):
    with pytest.raises(InvalidInput, match="temperature"):
        load('mode = "stream"').submit(request(1, temperature=1.0))
