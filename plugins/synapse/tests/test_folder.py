# SPDX-License-Identifier: BUSL-1.1
"""A Hugging Face folder with a tiny random model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, Unsupported

TINY = Path(__file__).resolve().parents[3] / "tests" / "synapse" / "data" / "llama"
SPECIAL = ("<pad>", "<s>", "</s>")
CHARACTERS = [chr(code) for code in range(ord("!"), ord("}"))] + ["Ġ"]


@pytest.fixture
def folder(tmp_path):
    """The model beside a tokenizer whose 96 tokens are characters."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(TINY / name, tmp_path / name)
    words = [*SPECIAL, *CHARACTERS]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(id, text) for id, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {text: id for id, text in enumerate(words)},
            "merges": [],
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def _special(id, text):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": text, **flags, "special": True}


@pytest.mark.parametrize("name", ["", "model.safetensors", "config.json"])
def test_a_folder_or_any_file_of_it_is_the_model(load, folder, name):
    asker = load(folder / name)
    data, final = asker.ask("Hello there", temperature=0, max_tokens=8, ignore_eos=True)
    assert len(data) == 8
    assert final.parameters["usage"]["prompt_tokens"] == 11
    _, tokens = asker.ask("Hello there", task="tokenize")
    words = [(*SPECIAL, *CHARACTERS)[token] for token in tokens.outputs["tokens"]]
    assert "".join(words) == "HelloĠthere"


def test_its_context_is_kept(load, folder):
    asker = load(folder)
    _, final = asker.ask("abc", temperature=0, ignore_eos=True)
    assert final.parameters["usage"]["completion_tokens"] == 125
    with pytest.raises(InvalidInput, match="context has 128"):
        asker.ask("x" * 128)


def test_a_text_becomes_a_vector(load, folder):
    _, final = load(folder).ask("Hello", task="embed")
    vector = final.outputs["embedding"]
    assert vector.shape == (32,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    _, mean = load(folder, pooling="mean").ask("Hello", task="embed")
    assert not np.allclose(mean.outputs["embedding"], vector)


def test_without_a_template_there_is_no_chat(load, folder):
    with pytest.raises(Unsupported, match="no chat template"):
        load(folder).ask('[{"role": "user", "content": "hi"}]', "messages")
