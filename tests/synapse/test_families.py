# SPDX-License-Identifier: BUSL-1.1
"""Every family, from either kind of file, computes what `transformers` computes.

The tiny models and the logits expected of them were made by data/make.py.
"""

import json
import shutil
from pathlib import Path

import gguf_writer
import msgspec
import numpy as np
import pytest
import safetensors_writer
from reference_model import ReferenceModel

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import safetensors
from mlos_core.synapse.config import LayerConfig
from mlos_core.synapse.families_hf import model_from_hf
from mlos_core.synapse.weights import open_model

DATA = Path(__file__).parent / "data"
MODELS = ["gemma3", "llama", "llama3", "llama_linear", "mistral", "qwen2", "qwen3"]


def expected(name):
    with np.load(DATA / name / "expected.npz") as found:
        return found["tokens"], found["logits"]


def config_of(name):
    return json.loads((DATA / name / "config.json").read_text())


def read(name, **changes):
    return model_from_hf(config_of(name) | changes).config


@pytest.mark.parametrize("name", MODELS)
def test_folders_give_the_logits_of_transformers(name):
    tokens, logits = expected(name)
    with open_model(DATA / name) as files:
        found = ReferenceModel(files).logits(tokens)
    np.testing.assert_allclose(found, logits, atol=5e-5)


# --- the same models as GGUF files ----------------------------------------------------------

EXTRA = {
    "llama": [("llama.rope.dimension_count", 4, 16)],
    "llama_linear": [
        ("llama.rope.scaling.type", 8, "linear"),
        ("llama.rope.scaling.factor", 6, 4.0),
    ],
    "mistral": [("llama.attention.sliding_window", 4, 16)],
    "qwen2": [("qwen2.rope.freq_base", 6, 10_000.0)],
    "qwen3": [],
    "gemma3": [
        ("gemma3.rope.freq_base", 6, 1_000_000.0),
        ("gemma3.rope.scaling.type", 8, "linear"),
        ("gemma3.rope.scaling.factor", 6, 4.0),
        ("gemma3.attention.sliding_window", 4, 16),
        ("gemma3.attention.sliding_window_pattern", (9, 7), [True, False]),
        ("gemma3.attention.scale", 6, 24**-0.5),
    ],
}


@pytest.mark.parametrize("name", EXTRA)
def test_gguf_files_give_the_logits_of_transformers(name, tmp_path):
    tokens, logits = expected(name)
    family = "llama" if name in ("llama_linear", "mistral") else name
    with open_model(DATA / name) as files:
        (tmp_path / "model.gguf").write_bytes(gguf_writer.from_model(files, family, EXTRA[name]))
    with open_model(tmp_path) as files:
        found = ReferenceModel(files).logits(tokens)
    np.testing.assert_allclose(found, logits, atol=5e-5)


def test_the_factors_of_llama_3_are_read_from_their_tensor(tmp_path):
    path = tmp_path / "model.gguf"
    with open_model(DATA / "llama3") as files:
        base = ("llama.rope.freq_base", 6, 500.0)
        plain = np.array(read("llama3", rope_parameters={"rope_theta": 500.0}).ropes[0].frequencies)
        factors = plain / np.array(files.config.ropes[0].frequencies)
        assert factors[0] == 1
        assert factors[-1] == 8
        assert any(1 < factor < 8 for factor in factors)
        path.write_bytes(gguf_writer.from_model(files, "llama", [base], factors))
    tokens, logits = expected("llama3")
    with open_model(path) as files:
        assert "rope_freqs.weight" not in files.tensors
        np.testing.assert_allclose(ReferenceModel(files).logits(tokens), logits, atol=5e-5)


@pytest.mark.parametrize("factors", [[1.0] * 7, [0.0] * 8, [float("nan")] * 8])
def test_wrong_rope_factors_are_refused(factors, tmp_path):
    path = tmp_path / "model.gguf"
    with open_model(DATA / "llama3") as files:
        path.write_bytes(gguf_writer.from_model(files, "llama", [], factors))
    with pytest.raises(LoadFailed, match=r"model\.gguf: rope_freqs\.weight"):
        open_model(path)


# --- forms of config.json -------------------------------------------------------------------


def test_old_forms_of_rope_scaling_are_read():
    scaling = {"type": "linear", "factor": 4.0}
    old = read("llama_linear", rope_parameters=None, rope_theta=10_000, rope_scaling=scaling)
    assert old == read("llama_linear")
    options = dict(config_of("llama3")["rope_parameters"])
    theta = options.pop("rope_theta")
    old = read("llama3", rope_parameters=None, rope_theta=theta, rope_scaling=options)
    assert old == read("llama3")


def test_old_forms_of_gemma_are_read():
    old = config_of("gemma3")
    for name in ("layer_types", "rope_parameters"):
        del old[name]
    old |= {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "sliding_window_pattern": 2,
    }
    assert model_from_hf(old).config == read("gemma3")


def test_a_multimodal_gemma_is_read_by_its_text_model():
    inner = config_of("gemma3")
    model = model_from_hf({"model_type": "gemma3", "text_config": inner, "vision_config": {}})
    assert model.config == read("gemma3")
    assert model.tied


def test_every_sixth_layer_of_gemma_sees_everything():
    config = read("gemma3", num_hidden_layers=7, layer_types=None)
    windowed, full = LayerConfig(window=16, rope=1), LayerConfig()
    assert config.layers == (*(windowed,) * 5, full, windowed)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({}, [0, 0]),
        ({"sliding_window": 8}, [0, 0]),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, [0, 8]),
        (
            {
                "sliding_window": 8,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            [8, 0],
        ),
    ],
)
def test_windows_of_qwen_are_a_matter_of_the_layer(changes, windows):
    config = read("qwen2", **({"layer_types": None} | changes))
    assert [layer.window for layer in config.layers] == windows


def test_mistral_without_a_window_sees_everything():
    assert all(layer.window == 0 for layer in read("mistral", sliding_window=None).layers)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, "architecture 'mamba'.*known are llama"),
        ({"model_type": None}, "architecture 'None'"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope scaling 'yarn'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rotates only 0.5"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised by 'awq'"),
        ({"attn_logit_softcapping": 50.0}, "caps attention"),
        ({"use_bidirectional_attention": True}, "bidirectional"),
        ({"num_hidden_layers": 5000}, "layers is 5000"),
    ],
)
def test_what_the_engine_does_not_have_is_named(changes, reason):
    with pytest.raises(Unsupported, match=reason):
        read("llama", **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": None}, r"hidden_size"),
        ({"hidden_size": 0}, r"hidden_size"),
        ({"hidden_size": 1e9}, r"hidden_size"),
        ({"hidden_size": "64"}, r"hidden_size"),
        ({"num_attention_heads": -1}, r"num_attention_heads"),
        ({"num_key_value_heads": 3}, "share 3 key-value heads"),
        ({"head_dim": 9}, "9 dimensions have no pairs"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor is None"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"text_config": []}, "text_config is no object"),
    ],
)
def test_wrong_entries_of_a_configuration_are_named(changes, reason):
    with pytest.raises(LoadFailed, match=reason):
        read("llama", **changes)


def test_as_many_layer_types_as_layers_are_needed():
    with pytest.raises(LoadFailed, match="layer_types"):
        read("gemma3", layer_types=["full_attention"])


# --- what a folder holds beside weights -----------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny llama that a test may change."""
    return Path(shutil.copytree(DATA / "llama", tmp_path / "llama"))


def test_a_configuration_beside_a_gguf_file_does_not_hide_it(folder):
    with open_model(folder) as files:
        content = gguf_writer.from_model(files, "llama")
    (folder / "model.gguf").write_bytes(content)
    with open_model(folder) as files:
        assert [path.name for path in files.paths] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    with open_model(folder) as files:
        assert [path.name for path in files.paths] == ["model.gguf"]


def test_special_tokens_of_generation_come_first(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 2], "pad_token_id": 7}')
    with open_model(folder) as files:
        assert (files.bos_id, files.eos_ids, files.pad_id) == (1, (5, 2), 7)


@pytest.mark.parametrize("found", ["96", "-2", '"</s>"', "[1, 96]", "1.5"])
def test_special_tokens_outside_the_vocabulary_are_refused(folder, found):
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {found}}}')
    with pytest.raises(LoadFailed, match="eos_token_id is"):
        open_model(folder)


def test_a_chat_template_is_a_file_an_entry_or_one_of_several(folder):
    with open_model(folder) as files:
        assert files.chat_template is None
    config = folder / "tokenizer_config.json"
    several = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    config.write_text(json.dumps({"chat_template": several}))
    with open_model(folder) as files:
        assert files.chat_template == "D"
    config.write_text(json.dumps({"chat_template": "C"}))
    with open_model(folder) as files:
        assert files.chat_template == "C"
        assert files.text.tokenizer_config == {"chat_template": "C"}
    (folder / "chat_template.jinja").write_text("J")
    with open_model(folder) as files:
        assert files.chat_template == "J"


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_is_taken_out_of_a_multimodal_folder(prefix, tmp_path):
    found = safetensors.parse(memoryview((DATA / "gemma3" / "model.safetensors").read_bytes()))
    tensors = {
        name.replace("model.", prefix, 1): (t.dtype, t.shape, bytes(t.data))
        for name, t in found.items()
    }
    tensors["vision_tower.vision_model.post_layernorm.weight"] = ("F32", (2,), bytes(8))
    tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = ("F32", (2,), bytes(8))
    (tmp_path / "model.safetensors").write_bytes(safetensors_writer.write(tensors))
    config = {"model_type": "gemma3", "text_config": config_of("gemma3")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_model(tmp_path) as whole, open_model(DATA / "gemma3") as alone:
        assert whole.config == alone.config
        assert {n: bytes(t.data) for n, t in whole.tensors.items()} == {
            n: bytes(t.data) for n, t in alone.tensors.items()
        }


def test_a_tied_head_is_not_kept_twice(folder):
    changed = config_of("llama") | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(changed))
    with open_model(folder) as files:
        assert "output.weight" not in files.tensors


def test_vectors_are_float32_whatever_the_file_has():
    with open_model(DATA / "qwen2") as files:
        types = {tensor.rows > 1: set() for tensor in files.tensors.values()}
        for tensor in files.tensors.values():
            types[tensor.rows > 1].add(tensor.type)
    assert types == {False: {0}, True: {30}}


def test_a_configuration_survives_the_wire():
    config = read("gemma3")
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=type(config))
    assert again == config
