# SPDX-License-Identifier: BUSL-1.1
from pathlib import Path

import pytest
from mlos_plugin_synapse import SynapsePlugin
from mlos_plugin_synapse.options import Options, size_of

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.smi import ModelPackage, parse_options
from mlos_core.synapse.config import LayerConfig, ModelConfig, RopeConfig

CONFIG = ModelConfig(
    family="llama",
    vocab_size=100,
    hidden_size=64,
    layers=(LayerConfig(),) * 10,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    context_length=1000,
    norm_eps=1e-5,
    activation="silu",
    attention_scale=0.25,
    ropes=(RopeConfig((1.0,) * 8, interleaved=False),),
)
BLOCK_BYTES = 2 * 10 * 2 * 16 * 32 * 2


def load(path, device="cpu", **options):
    return SynapsePlugin().load(ModelPackage("m", "1", Path(path)), device, options)


def parse(given):
    return parse_options(Options, given, "synapse plugin")


def test_a_misspelt_option_is_answered_with_a_suggestion():
    with pytest.raises(LoadFailed, match="did you mean 'threads'"):
        parse({"thread": 1})
    with pytest.raises(LoadFailed, match="it has threads, isa"):
        parse({"colour": "red"})


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"threads": -1}, "threads"),
        ({"precision": "float8"}, "float8"),
        ({"kv_dtype": "int4"}, "int4"),
        ({"context": 0}, "context"),
        ({"max_num_seqs": "many"}, "max_num_seqs"),
        ({"max_waiting": 5}, "max_waiting"),
    ],
)
def test_an_impossible_option_says_which(options, word):
    with pytest.raises(LoadFailed, match=word):
        parse(options)


def test_text_from_a_command_line_is_taken_as_what_it_spells():
    assert parse({"threads": "3", "kv_blocks": "7"}) == Options(threads=3, kv_blocks=7)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 << 20), ("2G", 2 << 30), (4096, 4096), ("1.5 kb", 1536), ("7", 7)],
)
def test_sizes_are_read(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["much", "-1", "5 potatoes", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(LoadFailed, match="use a size like 512MiB"):
        size_of(text)


def test_the_cache_has_as_many_blocks_as_its_memory_holds():
    assert parse({"kv_memory": 10 * BLOCK_BYTES + 5}).blocks_of(CONFIG) == 10
    assert parse({"kv_memory": 10 * BLOCK_BYTES, "kv_dtype": "int8"}).blocks_of(CONFIG) == 20
    assert parse({"kv_blocks": 3}).blocks_of(CONFIG) == 3
    with pytest.raises(LoadFailed, match=f"takes {BLOCK_BYTES} bytes"):
        parse({"kv_memory": 100}).blocks_of(CONFIG)


def test_the_cache_is_no_larger_than_can_be_used():
    assert parse({"max_num_seqs": 2}).blocks_of(CONFIG) == 2 * 32
    assert parse({"max_num_seqs": 2, "context": 100}).blocks_of(CONFIG) == 2 * 4


def test_a_context_beyond_the_models_is_refused():
    assert parse({"context": 10}).context_of(CONFIG) == 10
    assert parse({}).context_of(CONFIG) == 1000
    with pytest.raises(LoadFailed, match="made for 1000"):
        parse({"context": 1001}).context_of(CONFIG)


def test_a_step_has_room_for_every_sequence():
    limits = parse({"max_num_seqs": 300, "max_num_batched_tokens": 64}).limits()
    assert limits.max_num_batched_tokens > 300


def test_packed_weights_are_kept_where_caches_are(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert parse({}).packed() == Path("/caches/mlos/synapse")
    assert parse({"cache_dir": "/mine"}).packed() == Path("/mine")
    assert parse({"cache_dir": ""}).packed() is None


def test_a_template_that_cannot_be_read_is_a_load_failure(tmp_path):
    file = tmp_path / "chat.jinja"
    with pytest.raises(LoadFailed, match="chat template"):
        parse({"chat_template": str(file)}).template()
    file.write_text("{{ messages }}")
    assert parse({"chat_template": str(file)}).template() == "{{ messages }}"


@pytest.mark.parametrize("device", ["cuda:0", "tpu", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(device, tmp_path):
    with pytest.raises(LoadFailed, match="use cpu"):
        load(tmp_path, device=device)


def test_what_is_no_model_is_a_load_failure(tmp_path):
    with pytest.raises(LoadFailed, match="does not exist"):
        load(tmp_path / "none.gguf")
    with pytest.raises(LoadFailed):
        load(tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF, honestly")
    with pytest.raises(MlosError, match=r"bad\.gguf"):
        load(tmp_path / "bad.gguf")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("[1")
    with pytest.raises(LoadFailed):
        load(folder)
