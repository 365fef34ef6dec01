# SPDX-License-Identifier: BUSL-1.1
"""A BERT small enough to write anew for each test, and what it computes, in float64.

Sizes are awkward on purpose: no width is a multiple of a vector.
"""

from __future__ import annotations

import json
from math import erf

import numpy as np
from safetensors_writer import write

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
POOLED = "sentence_transformers.models."
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CLS = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


def shapes(config):
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _norm("embeddings", hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _linear(f"{block}.attention.{name}", hidden, hidden)
        yield from _norm(f"{block}.attention.output", hidden)
        yield from _linear(f"{block}.intermediate.dense", ffn, hidden)
        yield from _linear(f"{block}.output.dense", hidden, ffn)
        yield from _norm(f"{block}.output", hidden)


def _linear(name, outputs, inputs):
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name, width):
    yield f"{name}.LayerNorm.weight", (width,)
    yield f"{name}.LayerNorm.bias", (width,)


def random_weights(config, seed=1):
    random = np.random.default_rng(seed)
    return {
        name: (random.standard_normal(shape) * 0.4).astype(np.float32)
        for name, shape in shapes(config)
    }


def file_of(weights, dtype="F32"):
    """The safetensors file of `weights`."""
    return write({name: (dtype, a.shape, a.tobytes()) for name, a in weights.items()})


def write_encoder(
    folder, *, pooling=MEAN, modules=("Transformer", "Pooling", "Normalize"), **change
):
    """A folder as sentence-transformers saves it; `change` goes into config.json."""
    config = CONFIG | change
    weights = random_weights(CONFIG)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    paths = {"Pooling": "1_Pooling"}
    listed = [{"path": paths.get(kind, ""), "type": POOLED + kind} for kind in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "model.safetensors").write_bytes(file_of(weights))
    return weights


def tokenizer():
    """Each word of one letter is a token, every other word unknown."""
    special = [
        {"id": i, "content": WORDS[i], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i in range(4)
    ]
    ends = {w: {"id": w, "ids": [i], "tokens": [w]} for i, w in ((2, "[CLS]"), (3, "[SEP]"))}
    first, last = ({"SpecialToken": {"id": w, "type_id": 0}} for w in ends)
    single = [first, {"Sequence": {"id": "A", "type_id": 0}}, last]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, last]
    return {
        "version": "1.0",
        # As some models have them: neither fits the encoder, which sets its own.
        "truncation": {
            "max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
        },
        "padding": {
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ends,
        },
        "decoder": None,
        "model": {
            "type": "WordLevel", "unk_token": "[UNK]",
            "vocab": {word: i for i, word in enumerate(WORDS)},
        },
    }  # fmt: skip


# --- the same in float64 ------------------------------------------------------------------


def expected(weights, tokens, config=CONFIG, pool="mean"):
    """The vector of one sequence: pooled, length 1."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    x = w["embeddings.word_embeddings.weight"][tokens]
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = _normed(w, "embeddings", x + w["embeddings.token_type_embeddings.weight"][0])
    for layer in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{layer}"
        x = _normed(w, f"{block}.attention.output", x + _attention(w, block, x, config))
        up = _mapped(w, f"{block}.intermediate.dense", x)
        up = up * 0.5 * (1 + np.vectorize(erf)(up / np.sqrt(2)))
        x = _normed(w, f"{block}.output", x + _mapped(w, f"{block}.output.dense", up))
    vector = x.mean(0) if pool == "mean" else x[0]
    return vector / np.linalg.norm(vector)


def _mapped(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _normed(w, name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]


def _attention(w, block, x, config):
    heads = config["num_attention_heads"]
    q, k, v = (
        _mapped(w, f"{block}.attention.self.{name}", x).reshape(len(x), heads, -1).swapaxes(0, 1)
        for name in ("query", "key", "value")
    )
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    joined = (shares @ v).swapaxes(0, 1).reshape(len(x), -1)
    return _mapped(w, f"{block}.attention.output.dense", joined)
