# SPDX-License-Identifier: BUSL-1.1
"""Sentence embeddings: right, and the same bits in every batch and on every instruction set."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_encoder
from safetensors_writer import write

from mlos_core.errors import Closed, InvalidInput, LoadFailed, MlosError, Unsupported
from mlos_core.synapse.encoder import Encoder
from mlos_core.synapse.encoder_files import is_encoder, open_encoder
from mlos_core.synapse.encoder_text import EncoderTokenizer
from mlos_core.synapse.native import ISAS, lib

DATA = Path(__file__).parent / "data"
HERE = [name for name, isa in ISAS.items() if lib.syn_isa_available(isa)]
NORMALISED = ("Transformer", "Pooling", "Normalize")


@pytest.fixture
def folder(tmp_path):
    tiny_encoder.write_encoder(tmp_path)
    return tmp_path


@pytest.fixture
def make(tmp_path):
    """An encoder from a folder that `write_encoder` makes, closed at the end."""
    made = []

    def make(threads=1, isa=None, **change):
        weights = tiny_encoder.write_encoder(tmp_path, **change)
        made.append(Encoder(tmp_path, threads=threads, isa=isa))
        return made[-1], weights

    yield make
    for encoder in made:
        encoder.close()


def random_batch(random, count=24, longest=40):
    sizes = random.integers(1, longest + 1, count)
    return [random.integers(0, len(tiny_encoder.WORDS), size).tolist() for size in sizes]


# --- a small model ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "pooling"), [("mean", tiny_encoder.MEAN), ("cls", tiny_encoder.CLS)]
)
def test_vectors_are_those_of_the_same_model_in_float64(make, pool, pooling):
    encoder, weights = make(pooling=pooling)
    batch = random_batch(np.random.default_rng(3))
    right = [tiny_encoder.expected(weights, tokens, pool=pool) for tokens in batch]
    np.testing.assert_allclose(encoder.encode(batch), right, rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", HERE)
def test_a_vector_has_the_same_bits_alone_and_in_any_batch(make, name):
    random = np.random.default_rng(5)
    alone, _ = make()
    batches = [random_batch(random, count) for count in (1, 2, 7, 24, 60)]
    right = [[alone.encode([tokens]).tobytes() for tokens in batch] for batch in batches]
    for threads in (1, 3):
        encoder, _ = make(threads, ISAS[name])
        for batch, rows in zip(batches, right, strict=True):
            order = random.permutation(len(batch))
            found = encoder.encode([batch[i] for i in order])
            assert [row.tobytes() for row in found] == [rows[i] for i in order]


def test_without_normalisation_vectors_keep_their_length(make):
    plain, _ = make(modules=("Transformer", "Pooling"))
    unit, _ = make(modules=NORMALISED)
    raw, one = plain.encode([[2, 5, 3]])[0], unit.encode([[2, 5, 3]])[0]
    assert np.linalg.norm(raw) > 1.5
    np.testing.assert_allclose(raw / np.linalg.norm(raw), one, atol=1e-6)


def test_no_sequences_give_no_vectors(make):
    encoder, _ = make()
    assert encoder.encode([]).shape == (0, 36)


def test_vectors_can_be_written_in_place(make):
    encoder, _ = make()
    out = np.zeros((2, 36), np.float32)
    assert encoder.encode([[2, 3], [2, 4, 3]], out=out) is out
    assert out.tobytes() == encoder.encode([[2, 3], [2, 4, 3]]).tobytes()
    with pytest.raises(InvalidInput, match="do not fit"):
        encoder.encode([[2, 3]], out=out)
    assert encoder.statistics() == {"sequences": 4, "tokens": 10}


@pytest.mark.parametrize(
    "sequences", [[[]], [[1], []], [[1] * 41], [[30]], [[-1]], [[1 << 40]], [["a"]]]
)
def test_impossible_tokens_are_the_callers_mistake(make, sequences):
    encoder, _ = make()
    with pytest.raises(InvalidInput):
        encoder.encode(sequences)
    assert encoder.encode([[1]]).shape == (1, 36)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_impossible_numbers_of_threads_are_refused(folder, threads):
    with pytest.raises(InvalidInput, match="threads"):
        Encoder(folder, threads=threads)


def test_a_closed_encoder_says_so(make):
    encoder, _ = make()
    encoder.close()
    encoder.close()
    with pytest.raises(Closed):
        encoder.encode([[1]])


# --- what a folder may hold ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "roberta"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
    ],
)
def test_another_kind_of_model_is_named(tmp_path, change, named):
    tiny_encoder.write_encoder(tmp_path, **change)
    with pytest.raises(Unsupported, match=named):
        open_encoder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 0},
        {"num_attention_heads": 5},
        {"vocab_size": "many"},
        {"num_hidden_layers": 1 << 40},
        {"layer_norm_eps": -1},
    ],
)
def test_impossible_sizes_are_refused(tmp_path, change):
    tiny_encoder.write_encoder(tmp_path, **change)
    with pytest.raises(LoadFailed, match=r"config\.json"):
        open_encoder(tmp_path)


@pytest.mark.parametrize(
    "change", [{"hidden_size": 48}, {"vocab_size": 31}, {"num_hidden_layers": 3}]
)
def test_tensors_that_are_not_the_configurations_are_named(tmp_path, change):
    tiny_encoder.write_encoder(tmp_path, **change)
    with pytest.raises(LoadFailed, match="the tensor"):
        Encoder(tmp_path)


@pytest.mark.parametrize(
    ("pooling", "modules", "named"),
    [
        ({"pooling_mode_max_tokens": True}, NORMALISED, "max_tokens"),
        ({"pooling_mode": "lasttoken"}, NORMALISED, "lasttoken"),
        ({}, NORMALISED, "nothing"),
        (tiny_encoder.MEAN | tiny_encoder.CLS, ("Transformer", "Pooling", "Dense"), "Dense"),
    ],
)
def test_another_kind_of_pooling_is_named(tmp_path, pooling, modules, named):
    tiny_encoder.write_encoder(tmp_path, pooling=pooling, modules=modules)
    with pytest.raises(Unsupported, match=named):
        open_encoder(tmp_path)


def test_a_plain_bert_is_pooled_by_the_mean(folder):
    (folder / "modules.json").unlink()
    (folder / "sentence_bert_config.json").unlink()
    files = open_encoder(folder)
    assert (files.pooling, files.normalise, files.max_tokens) == ("mean", False, 40)


def test_older_names_and_half_floats_are_read(folder, tmp_path):
    weights = tiny_encoder.random_weights(tiny_encoder.CONFIG)
    with Encoder(folder) as encoder:
        right = encoder.encode([[2, 7, 3]])
    renamed = {
        "bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): a
        for name, a in weights.items()
    }
    (folder / "model.safetensors").write_bytes(tiny_encoder.file_of(renamed))
    with Encoder(folder) as encoder:
        assert encoder.encode([[2, 7, 3]]).tobytes() == right.tobytes()
    halves = {name: a.astype(np.float16) for name, a in weights.items()}
    (folder / "model.safetensors").write_bytes(tiny_encoder.file_of(halves, "F16"))
    with Encoder(folder) as encoder:
        rounded = tiny_encoder.expected(halves, [2, 7, 3])
        np.testing.assert_allclose(encoder.encode([[2, 7, 3]])[0], rounded, rtol=0, atol=3e-6)


def test_tensors_of_whole_numbers_are_refused(folder):
    weights = tiny_encoder.random_weights(tiny_encoder.CONFIG)
    parts = {name: ("I32", a.shape, a.tobytes()) for name, a in weights.items()}
    (folder / "model.safetensors").write_bytes(write(parts))
    with pytest.raises(Unsupported, match="I32"):
        Encoder(folder)


@pytest.mark.parametrize("file", ["config.json", "modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("content", [b"", b"[]x", b"\xff{}", b"[" * 100_000, b'{"a": 1}'])
def test_broken_files_are_refused(folder, file, content):
    (folder / file).write_bytes(content)
    with pytest.raises(MlosError, match="json"):
        open_encoder(folder)


def test_pooling_is_not_read_from_elsewhere(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "../1_Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(LoadFailed, match="no folder beside"):
        open_encoder(folder)


def test_berts_are_told_by_their_configuration(tmp_path):
    assert not is_encoder(tmp_path)
    tiny_encoder.write_encoder(tmp_path)
    assert is_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert not is_encoder(tmp_path)


# --- texts --------------------------------------------------------------------------------


def test_texts_are_cut_where_the_model_ends(folder):
    tokenizer = EncoderTokenizer(folder, open_encoder(folder), truncate=True)
    short, long = tokenizer.encode(["a b", "c " * 100])
    assert short == [2, 4, 5, 3]
    assert (len(long), long[0], long[-1]) == (20, 2, 3)


def test_or_a_long_text_is_an_error_that_numbers_it(folder):
    tokenizer = EncoderTokenizer(folder, open_encoder(folder), truncate=False)
    assert len(tokenizer.encode(["a " * 18])[0]) == 20
    with pytest.raises(InvalidInput, match="text 1 has 21 tokens; the model takes 20"):
        tokenizer.encode(["a", "a " * 19])


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"version": "1.0"}'])
def test_a_tokenizer_that_is_none_is_refused(folder, content):
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(LoadFailed, match=r"tokenizer\.json"):
        EncoderTokenizer(folder, open_encoder(folder), truncate=True)


def test_a_tokenizer_of_another_model_is_refused(folder):
    files = open_encoder(folder)
    tokenizer = tiny_encoder.tokenizer()
    tokenizer["model"]["vocab"]["more"] = len(tiny_encoder.WORDS)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(LoadFailed, match="31 tokens, the model 30"):
        EncoderTokenizer(folder, files, truncate=True)


# --- the real model -----------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_real_models_vectors_are_those_of_transformers(minilm):
    """`data/make_encoder_expected.py` wrote what is expected."""
    texts = json.loads((DATA / "encoder_texts.json").read_text())
    expected = np.load(DATA / "encoder_expected.npy")
    files = open_encoder(minilm)
    sequences = EncoderTokenizer(minilm, files, truncate=True).encode(texts)
    with Encoder(files, threads=2) as encoder:
        found = encoder.encode(sequences)
        assert np.abs(found - expected).max() < 1e-5
        assert np.sum(found.astype(np.float64) * expected, 1).min() > 0.999999
        alone = [encoder.encode([sequence])[0].tobytes() for sequence in sequences]
        assert [row.tobytes() for row in found] == alone
    for name in HERE:
        if name != "reference":  # the small model's part: this one takes it seconds a text
            with Encoder(files, isa=ISAS[name]) as encoder:
                assert encoder.encode(sequences[:5]).tobytes() == found[:5].tobytes()
