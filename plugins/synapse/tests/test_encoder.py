# SPDX-License-Identifier: BUSL-1.1
"""A sentence encoder as the worker sees it: a batched tensor model over texts."""

import numpy as np
import pytest
import tiny_encoder
from mlos_plugin_synapse.encoder import load_encoder

from mlos_core.errors import InvalidInput, LoadFailed, Unsupported
from mlos_core.smi import ModelPackage
from mlos_core.types import check_inputs
from mlos_core.worker.checks import OutputCheck
from mlos_core.worker.warmup import warm_up


@pytest.fixture
def folder(tmp_path):
    tiny_encoder.write_encoder(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder):
    models = []

    def load(path=folder, device="cpu", **options):
        model = load_encoder(ModelPackage("m", "1", path), device, options)
        models.append(model)
        return model

    yield load
    for model in models:
        model.close()


def texts(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return {"text": array}


def infer(model, *items):
    given = {}

    def allocate(name, dtype, shape):
        given[name] = np.empty(shape, dtype)
        return given[name]

    batch = texts(*items)
    check_inputs(model.signature, batch)
    outputs = model.infer(batch, allocate)
    OutputCheck(model.signature).select(outputs, ())
    assert all(outputs[name] is array for name, array in given.items())
    return outputs


def test_texts_become_vectors_and_counts(load, folder):
    model = load()
    assert model.signature.batched
    assert model.signature.tasks == ("embed",)
    outputs = infer(model, b"a b", b"", b"no such word")
    assert outputs["tokens"].tolist() == [4, 2, 5]
    weights = tiny_encoder.random_weights(tiny_encoder.CONFIG)
    right = [tiny_encoder.expected(weights, ids) for ids in ([2, 4, 5, 3], [2, 3], [2, 1, 1, 1, 3])]
    np.testing.assert_allclose(outputs["embedding"], right, rtol=0, atol=3e-6)


def test_joined_requests_have_the_bits_of_each_alone(load):
    model = load(threads=2)
    words = [b"a b c", b"x", b"q r s t u v w", b"", b"z " * 40]
    joined = infer(model, *words)
    for index, word in enumerate(words):
        alone = infer(model, word)
        assert alone["embedding"][0].tobytes() == joined["embedding"][index].tobytes()
        assert alone["tokens"][0] == joined["tokens"][index]


def test_long_texts_are_cut_unless_that_is_switched_off(load):
    assert infer(load(), b"a " * 100)["tokens"].tolist() == [20]
    with pytest.raises(InvalidInput, match="text 1 has 102 tokens"):
        infer(load(truncate="false"), b"a", b"a " * 100)


def test_no_texts_give_no_vectors(load):
    outputs = infer(load())
    assert outputs["embedding"].shape == (0, 36)
    assert outputs["tokens"].shape == (0,)


def test_a_text_that_is_no_utf8_is_numbered(load):
    with pytest.raises(InvalidInput, match="text 1 is no UTF-8"):
        infer(load(), b"a", b"\xff")


def test_it_warms_up_on_an_empty_text(load):
    warm_up(load())


def test_a_file_of_the_folder_will_do(load, folder):
    assert infer(load(folder / "model.safetensors"), b"a")["tokens"].tolist() == [3]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"trunc": True}, "trunc"), ({"threads": -1}, "threads"), ({"truncate": "maybe"}, "truncate")],
)
def test_options_are_checked(load, options, named):
    with pytest.raises(LoadFailed, match=named):
        load(**options)


def test_an_instruction_set_and_a_device_are_checked(load):
    with pytest.raises(LoadFailed, match="cuda:0"):
        load(device="cuda:0")
    with pytest.raises(InvalidInput, match="sse9"):
        load(isa="sse9")


def test_other_berts_are_named(load, folder):
    tiny_encoder.write_encoder(folder, model_type="distilbert")
    with pytest.raises(Unsupported, match="distilbert"):
        load()
