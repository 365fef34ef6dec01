# SPDX-License-Identifier: BUSL-1.1
"""safetensors and GGUF: what the readers say, held against those who define the formats."""

import json

import gguf_writer as gg
import numpy as np
import pytest
import safetensors_writer as st

from axon_client.introspect import read
from axon_client.introspect.hub_config import read_config
from mlos_core.errors import LoadFailed

# --- safetensors ---------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    """`weights(name, tensors)` writes a file of safetensors with `{name: array}`."""
    numpy = pytest.importorskip("safetensors.numpy")

    def write(name, tensors):
        path = tmp_path / name
        numpy.save_file(tensors, path)
        return path

    return write


def test_safetensors_are_counted_by_dtype(weights):
    path = weights(
        "m.safetensors",
        {
            "a": np.ones((3, 4), np.float32),
            "b": np.ones((5,), np.float16),
            "ids": np.ones((2,), np.int64),
            "scalar": np.ones((), np.uint8),
        },
    )
    header = read(path, "safetensors")
    assert header.dtypes == {"float32": 12, "float16": 5, "int64": 2, "uint8": 1}
    assert header.parameters == 18
    assert header.weight_bytes == 12 * 4 + 5 * 2 + 2 * 8 + 1
    assert "weights only" in header.unknown[0]


def test_all_shards_are_counted_and_a_missing_one_is_named(weights):
    first = weights("m-00001-of-00002.safetensors", {"a": np.ones(3, np.float32)})
    with pytest.raises(LoadFailed, match="m-00002-of-00002"):
        read(first, "safetensors")
    weights("m-00002-of-00002.safetensors", {"b": np.ones(4, np.float32)})
    assert read(first, "safetensors").parameters == 7


def test_the_configuration_beside_them_tells_what_they_are(weights, tmp_path):
    path = weights("model.safetensors", {"a": np.ones(3, np.float32)})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "hidden_size": 64,
        "transformers_version": "5.1.0",
        "quantization_config": {"quant_method": "gptq", "bits": 4},
        "auto_map": {"AutoModel": "modeling.Net"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    header = read(path, "safetensors")
    assert (header.architecture, header.context_length) == ("LlamaForCausalLM", 4096)
    assert header.cache_bytes_per_token == 2 * 4 * 8 * 2 * 2
    assert header.quantization == "gptq-4bit"
    assert header.chat_template
    assert header.custom_code == "modeling.Net"
    assert header.producer == "transformers 5.1.0"


def test_an_encoder_keeps_no_cache_and_is_cut_where_it_was_trained(tmp_path):
    config = {"architectures": ["BertModel"], "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 6}))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    header = read_config(tmp_path)
    assert (header.context_length, header.cache_bytes_per_token) == (256, 0)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"architectures": 3, "text_config": []}', '{"max_position_embeddings": -1}'],
)
def test_a_configuration_that_says_nothing_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    header = read_config(tmp_path)
    assert (header.architecture, header.context_length) == ("", 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a safetensors"),
        (b"\x10", "not a safetensors"),
        (st.raw({}, length=1 << 50), "longer than the file"),
        (st.raw(b"[" * 5000), "not a safetensors"),
        (st.raw({"a": st.entry("F32", [2], 0, 9)}, bytes(8)), "outside"),
        (st.raw({"a": st.entry("F32", [2], -4, 4)}, bytes(8)), "outside"),
        (st.raw({"a": st.entry("F32", [3], 0, 8)}, bytes(8)), "not what it says"),
        (st.raw({"a": st.entry("F32", [-2, -1], 0, 8)}, bytes(8)), "negative"),
        (st.raw({"a": st.entry("F32", [1] * 65, 0, 4)}, bytes(8)), "65 dimensions"),
        (st.raw({"a": st.entry("X9", [1 << 40, 1 << 40], 0, 4)}, bytes(8)), "any memory"),
        (st.raw({"a": 7}), "not a safetensors"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path, data, reason):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(LoadFailed, match=reason):
        read(path, "safetensors")


def test_a_header_that_is_too_long_is_refused_unread(tmp_path):
    path = tmp_path / "m.safetensors"
    with path.open("wb") as out:
        out.write((1 << 30).to_bytes(8, "little"))
        out.truncate((1 << 30) + 8)  # sparse: takes no disk
    with pytest.raises(LoadFailed, match="1024 MiB"):
        read(path, "safetensors")


# --- GGUF ----------------------------------------------------------------------------------------

KEYS = [
    gg.number("general.architecture", "llama"),
    gg.number("general.name", "Tiny"),
    gg.number("general.license", "mit"),
    gg.number("general.file_type", 3),
    gg.number("llama.context_length", 128),
    gg.number("llama.block_count", 2),
    gg.number("llama.embedding_length", 64),
    gg.number("llama.attention.head_count", 8),
    gg.number("llama.attention.head_count_kv", 4),
    ("tokenizer.ggml.tokens", (9, 8), ["a", "b", "c"]),
    ("tokenizer.ggml.scores", (9, 6), [0.5] * 2000),
    gg.number("tokenizer.chat_template", "{{ messages }}"),
]
TENSORS = [
    ("a", (64, 2), 0, bytes(64 * 2 * 4)),
    ("b", (64, 4), 3, bytes(64 * 4 // 32 * 20)),
]


@pytest.fixture
def model(tmp_path):
    def write(data, name="m.gguf"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_gguf_tells_what_a_language_model_is(model):
    path = model(gg.write(KEYS, TENSORS))
    header = read(path, "gguf")
    assert (header.architecture, header.name, header.license) == ("llama", "Tiny", "mit")
    assert (header.quantization, header.context_length) == ("Q4_1", 128)
    assert header.dtypes == {"q4_1": 256, "float32": 128}
    assert header.parameters == 384
    assert header.weight_bytes == 64 * 2 * 4 + 256 // 32 * 20
    assert header.cache_bytes_per_token == 2 * 4 * (8 + 8) * 2
    assert header.chat_template


def test_gguf_counts_what_its_own_library_counts(model):
    library = pytest.importorskip("gguf")
    path = model(gg.write(KEYS, TENSORS))
    tensors = library.GGUFReader(path).tensors
    header = read(path, "gguf")
    assert header.parameters == sum(int(tensor.n_elements) for tensor in tensors)
    assert header.weight_bytes == sum(int(tensor.n_bytes) for tensor in tensors)


def test_layers_may_have_different_heads(model):
    keys = [key for key in KEYS if "head_count_kv" not in key[0]]
    keys.append(("llama.attention.head_count_kv", (9, 4), [4, 2]))
    keys += [
        gg.number("llama.attention.key_length", 16),
        gg.number("llama.attention.value_length", 8),
    ]
    header = read(model(gg.write(keys, TENSORS)), "gguf")
    assert header.cache_bytes_per_token == (4 + 2) * (16 + 8) * 2


def test_the_parts_of_a_gguf_model_are_added_up(model):
    first = model(gg.write(KEYS, TENSORS[:1]), "m-00001-of-00002.gguf")
    model(gg.write([], TENSORS[1:]), "m-00002-of-00002.gguf")
    header = read(first, "gguf")
    assert (header.parameters, header.architecture) == (384, "llama")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGUF", "not a GGUF"),
        (b"GGML" + bytes(40), "does not begin like one"),
        (gg.start(0, 0, version=9), "version 9"),
        (gg.start(1 << 40, 0), "tensors"),
        (gg.start(0, 1 << 40), "keys"),
        (gg.start(0, 1) + gg.text("k")[:4], "not a GGUF"),
        (gg.start(0, 1) + (1 << 60).to_bytes(8, "little"), "a text of"),
        (gg.start(0, 1) + gg.text("k") + b"\x63\0\0\0", "kind 99"),
        (gg.start(0, 1) + gg.text("k") + b"\x09\0\0\0\x09\0\0\0" + bytes(8), "array of kind 9"),
        (
            gg.start(0, 1)
            + gg.text("k")
            + b"\x09\0\0\0\x08\0\0\0"
            + (1 << 40).to_bytes(8, "little"),
            "any vocabulary",
        ),
        (gg.start(1, 0) + gg.text("t") + (9).to_bytes(4, "little"), "9 dimensions"),
        (gg.start(1, 0) + gg.info("t", (1 << 40, 1 << 40), 0, 0), "any memory"),
        (gg.start(1, 0) + gg.info("t", (4,), 0, 1 << 40), "beyond the end"),
    ],
)
def test_gguf_files_that_lie_are_refused(model, data, reason):
    with pytest.raises(LoadFailed, match=reason):
        read(model(data), "gguf")
