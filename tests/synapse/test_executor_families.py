# SPDX-License-Identifier: BUSL-1.1
"""The executor against `transformers`, on every family and every instruction set."""

from pathlib import Path

import gguf_writer
import numpy as np
import pytest
from reference_model import ReferenceModel

from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import ISAS, lib
from mlos_core.synapse.weights import open_model

DATA = Path(__file__).parent / "data"
MODELS = ["gemma3", "llama", "llama3", "llama_linear", "mistral", "qwen2", "qwen3"]
HERE = [name for name, isa in ISAS.items() if lib.syn_isa_available(isa)]
BLOCKS = 4


def expected(name):
    with np.load(DATA / name / "expected.npz") as found:
        return found["tokens"], found["logits"]


def logits(files, tokens, isa, *, kv_dtype="float32", precision="mixed", chunks=()):
    """All logits, the text cut at `chunks`, its blocks in the cache in no order."""
    executor = Executor(
        files,
        threads=2,
        isa=ISAS[isa],
        kv_blocks=BLOCKS,
        kv_dtype=kv_dtype,
        precision=precision,
    )
    table = np.array([[2, 0, 3, 1]], np.int32)
    out = []
    for part in np.split(np.arange(len(tokens), dtype=np.int32), list(chunks)):
        zeros = np.zeros(len(part), np.int32)
        rows = np.arange(len(part), dtype=np.int32)
        out.append(executor.forward(tokens[part], part, zeros, table, rows).copy())
    executor.close()
    return np.concatenate(out)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("name", MODELS)
def test_float_weights_give_the_logits_of_transformers(name, isa):
    tokens, wanted = expected(name)
    with open_model(DATA / name) as files:
        found = logits(files, tokens, isa)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(("kv_dtype", "most"), [("bfloat16", 0.05), ("float16", 0.006)])
@pytest.mark.parametrize("name", MODELS)
def test_a_smaller_cache_is_as_exact_as_its_type(name, kv_dtype, most):
    tokens, wanted = expected(name)
    with open_model(DATA / name) as files:
        found = logits(files, tokens, HERE[-1], kv_dtype=kv_dtype)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < most


@pytest.mark.parametrize("name", MODELS)
def test_how_a_text_is_cut_changes_no_bit(name):
    tokens, _ = expected(name)
    with open_model(DATA / name) as files:
        whole = logits(files, tokens, HERE[-1])
        cut = logits(files, tokens, HERE[-1], chunks=(1, 2, 17, 50, 51))
    assert whole.tobytes() == cut.tobytes()


@pytest.mark.parametrize("isa", HERE)
def test_interleaved_ropes_of_gguf_files_give_the_same_logits(isa, tmp_path):
    tokens, wanted = expected("llama")
    with open_model(DATA / "llama") as files:
        (tmp_path / "model.gguf").write_bytes(gguf_writer.from_model(files, "llama"))
    with open_model(tmp_path) as files:
        assert files.config.ropes[0].interleaved
        np.testing.assert_allclose(logits(files, tokens, isa), wanted, atol=1e-4)


def log_softmax(values):
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


@pytest.mark.parametrize("matrices", gguf_writer.QUANTISED)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_quantised_model_is_as_exact_as_its_activations(family, matrices, tmp_path):
    """Mean KL divergence from the dequantised weights, in nats."""
    tokens, _ = expected(family)
    path = tmp_path / "model.gguf"
    with open_model(DATA / family) as files:
        path.write_bytes(gguf_writer.from_model(files, family, matrices=matrices))
    with open_model(path) as files:
        wanted = log_softmax(ReferenceModel(files).logits(tokens))
        found = {
            precision: log_softmax(logits(files, tokens, HERE[-1], precision=precision))
            for precision in ("int8", "mixed", "int16")
        }
    kl = {k: (np.exp(wanted) * (wanted - v)).sum(-1).mean() for k, v in found.items()}
    assert kl["int16"] < kl["mixed"] < kl["int8"], kl
    assert kl["int16"] < 2e-5, kl
    assert kl["int8"] < 3e-3, kl
