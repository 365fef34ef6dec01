# SPDX-License-Identifier: BUSL-1.1
"""Model files that are broken, cut or made to hurt: an error with a reason, nothing else."""

import contextlib
import json
import os
import random
import shutil
import struct
from pathlib import Path

import fuzz_safetensors
import gguf_writer as g
import pytest
import safetensors_writer as s

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import gguf, safetensors
from mlos_core.synapse.families_hf import model_from_hf
from mlos_core.synapse.weights import open_model

DATA = Path(__file__).parent / "data"
HUGE = (2**31, 2**32 - 1, 2**61, 2**63 - 1, 2**63, 2**64 - 1)


def refused(content, parse):
    """The reason for which `parse` refuses a file."""
    with pytest.raises((LoadFailed, Unsupported)) as caught:
        parse(memoryview(content))
    assert len(caught.value.message) > 10
    assert caught.value.message.isprintable()
    return caught.value.message


def decode_all(content):
    """Parse a GGUF file, and decode all that is in it."""
    metadata, tensors = gguf.parse(content)
    for key in metadata:
        metadata[key]
    for tensor in tensors.values():
        assert tensor.offset + tensor.nbytes <= content.nbytes
        assert tensor.rows * tensor.columns > 0


# --- GGUF -----------------------------------------------------------------------------------

KEYS = [
    ("general.name", 8, "x"),
    ("a", (9, 8), ["one", "two"]),
    ("b", (9, 4), [1, 2]),
    ("c", 7, True),
]
TENSORS = [("t", (32, 2), 8, bytes(68)), ("u", (3,), 0, bytes(12))]


def test_a_gguf_file_cut_anywhere_is_refused():
    content = g.write(KEYS, TENSORS)
    gguf.parse(memoryview(content))
    padding = -12 % 32
    for length in range(len(content) - padding):
        refused(content[:length], gguf.parse)


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("which", ["tensors", "keys"])
def test_counts_that_the_file_cannot_hold_are_refused(which, count):
    counts = {"tensors": 0, "keys": 0, which: count}
    reason = refused(g.start(**counts) + bytes(1000), gguf.parse)
    assert f"cannot hold the {count} {which}" in reason


@pytest.mark.parametrize("length", [13, *HUGE])
def test_strings_longer_than_the_file_are_refused(length):
    long = struct.pack("<Q", length) + b"abcdefghijkl"
    assert "name of key 0" in refused(g.start(0, 1) + long, gguf.parse)
    value = g.text("k") + struct.pack("<I", g.STRING) + long
    assert "value of k" in refused(g.start(0, 1) + value, gguf.parse)
    inside = g.text("k") + struct.pack("<IIQ", g.ARRAY, g.STRING, 1) + long
    assert "value of k" in refused(g.start(0, 1) + inside, gguf.parse)


@pytest.mark.parametrize("count", [3, *HUGE])
@pytest.mark.parametrize("kind", [0, 4, 8, 12])
def test_arrays_longer_than_the_file_are_refused(kind, count):
    array = g.text("k") + struct.pack("<IIQ", g.ARRAY, kind, count) + bytes(2)
    assert "value of k at byte 49 goes beyond" in refused(g.start(0, 1) + array, gguf.parse)


@pytest.mark.parametrize("kind", [13, 255, 2**32 - 1])
def test_unknown_kinds_of_values_are_refused(kind):
    value = g.text("k") + struct.pack("<I", kind) + bytes(64)
    assert "unknown kind" in refused(g.start(0, 1) + value, gguf.parse)
    array = g.text("k") + struct.pack("<IIQ", g.ARRAY, kind, 1) + bytes(64)
    assert "unknown kind" in refused(g.start(0, 1) + array, gguf.parse)


def test_booleans_are_0_or_1():
    value = g.text("k") + struct.pack("<IB", 7, 2) + bytes(8)
    assert "neither 0 nor 1" in refused(g.start(0, 1) + value, gguf.parse)
    array = g.text("k") + struct.pack("<IIQ", g.ARRAY, 7, 3) + b"\1\0\2"
    assert "neither 0 nor 1" in refused(g.start(0, 1) + array, gguf.parse)


@pytest.mark.parametrize("name", ["", "a b", "a\x1b[31m", "ä", "x" * 257])
def test_keys_are_printable_and_short(name):
    assert "name of key 0" in refused(g.write([(name, 4, 1)], []), gguf.parse)


@pytest.mark.parametrize("name", ["", "x" * 65, "blk\n"])
def test_tensor_names_are_printable_and_short(name):
    assert "name of tensor 0" in refused(g.write([], [(name, (4,), 0, bytes(16))]), gguf.parse)


def test_names_are_there_once():
    twice = [("k", 4, 1), ("j", 4, 1), ("k", 4, 2)]
    assert "key k is there twice" in refused(g.write(twice, []), gguf.parse)
    twice = [("t", (4,), 0, bytes(16)), ("t", (8,), 0, bytes(32))]
    assert "tensor t is there twice" in refused(g.write([], twice), gguf.parse)


@pytest.mark.parametrize("version", [0, 1, 4, 2**32 - 1])
def test_other_versions_are_unsupported(version):
    with pytest.raises(Unsupported, match=f"version {version} is unknown"):
        gguf.parse(memoryview(g.start(0, 0, version)))


def test_a_big_endian_file_is_recognised():
    content = b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    assert "big-endian" in refused(content, gguf.parse)


@pytest.mark.parametrize("content", [b"", b"G", b"GGUX" + bytes(20), b"PK\3\4", bytes(100)])
def test_other_files_are_refused(content):
    assert "not a GGUF file" in refused(content, gguf.parse)


@pytest.mark.parametrize("alignment", [0, 1, 4, 24, 33, 2**21, 2**31])
def test_an_alignment_that_is_none_is_refused(alignment):
    content = g.write([("general.alignment", 4, alignment)], [])
    assert f"is {alignment}," in refused(content, gguf.parse)


def test_an_alignment_of_another_kind_is_refused():
    assert "uint32" in refused(g.write([("general.alignment", 10, 32)], []), gguf.parse)


def described(*infos, body=bytes(128)):
    head = g.start(len(infos), 0) + b"".join(g.info(*each) for each in infos)
    return head + bytes(-len(head) % 32) + body


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((), "1 to 4 dimensions"),
        ((1, 1, 1, 1, 1), "1 to 4 dimensions"),
        ((0,), "not positive"),
        ((4, 0), "not positive"),
        ((2**63,), "not positive"),
        ((2**64 - 1,), "not positive"),
        ((2**62, 2), "beyond|counted"),
        ((1, 2**32, 2**32), "counted"),
        ((1, 2**62, 2), "counted"),
        ((2**61,), "beyond the file's end|counted"),
        ((2**60, 4), "beyond the file's end|counted"),
        ((33,), "beyond the file's end"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape, reason):
    with pytest.raises(LoadFailed, match=rf"tensor t.*({reason})"):
        gguf.parse(memoryview(described(("t", shape, 0, 0))))


def test_rows_are_whole_blocks():
    assert "multiple" in refused(described(("t", (33,), 8, 0)), gguf.parse)


@pytest.mark.parametrize("kind", [4, 5, 31, 38, 40, 2**31, 2**32 - 1])
def test_unknown_tensor_types_are_named(kind):
    assert f"tensor t is of the unknown type {kind}" in refused(
        described(("t", (32,), kind, 0)), gguf.parse
    )


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(1, "aligned"), (16, "aligned"), (128, "end"), (2**63, "end"), (2**64 - 32, "end")],
)
def test_tensors_outside_the_file_are_refused(offset, reason):
    assert reason in refused(described(("t", (4,), 0, offset)), gguf.parse)


@pytest.mark.parametrize("offset", [0, 32])
def test_tensors_that_overlap_are_refused(offset):
    content = described(("t", (24,), 0, 0), ("u", (4,), 0, offset))
    assert "tensors t and u overlap" in refused(content, gguf.parse)


def test_a_message_about_a_long_name_has_its_reason():
    name = "k" * 256
    content = g.start(0, 1) + g.text(name) + struct.pack("<I", 99)
    assert refused(content, gguf.parse).endswith("is of an unknown kind")


def test_a_mutated_gguf_file_never_does_more_than_fail():
    random.seed(1)
    seeds = [g.write(KEYS, TENSORS), g.write(KEYS, TENSORS, version=2, alignment=64)]
    outcomes = set()
    for _ in range(5000):
        content = mutate(random.choice(seeds))
        try:
            decode_all(memoryview(content))
            outcomes.add("parsed")
        except (LoadFailed, Unsupported) as err:
            outcomes.add(type(err))
    assert outcomes == {"parsed", LoadFailed, Unsupported}


def mutate(content):
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed))
        match random.randrange(5):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at] = random.choice((0, 1, 9, 255, random.randrange(256)))
            case 2:
                changed[at : at + 8] = struct.pack("<Q", random.choice((0, 1, *HUGE)))
            case 3:
                del changed[at : at + random.randint(1, 9)]
            case 4:
                changed[at:at] = random.randbytes(random.randint(1, 9))
        changed = changed or bytearray(b"\0")
    return bytes(changed)


# --- safetensors ----------------------------------------------------------------------------

PLAIN = {
    "a": ("F32", (2,), bytes(8)),
    "b": ("BF16", (3,), bytes(6)),
    "c": ("U8", (2, 5), bytes(10)),
}


def test_a_safetensors_file_cut_anywhere_is_refused():
    content = s.write(PLAIN, {"format": "pt"})
    safetensors.parse(memoryview(content))
    for length in range(len(content)):
        refused(content[:length], safetensors.parse)


@pytest.mark.parametrize("length", [3, 100, 100_000_001, *HUGE])
def test_headers_longer_than_the_file_or_the_format_allows_are_refused(length):
    assert "header" in refused(s.raw(b"{}", length=length), safetensors.parse)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b" {}",
        b"{",
        b"{}{}",
        b'{"a": NaN}',
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": null}',
        b"\xff\xfe{}",
        b'{"\xff": {}}',
        b'{"a": "\xff"}',
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": []}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "more": 1}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 16]}}',
        b'{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}}',
        b'{"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": 0, "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_headers_that_are_none_are_refused(header):
    refused(s.raw(header, bytes(8)), safetensors.parse)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"__metadata__": {"x": "1", "x": "2"}}',
    ],
)
def test_nothing_is_there_twice(header):
    assert "twice" in refused(s.raw(header, bytes(8)), safetensors.parse)


@pytest.mark.parametrize("first", [b'"\xff"', b"[" * 100_000, b"9" * 5000])
def test_what_is_said_again_is_read_too(first):
    again = b'"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    refused(s.raw(b'{"a": ' + first + b", " + again, bytes(8)), safetensors.parse)


def test_unknown_types_are_named():
    header = {"a": s.entry("F4", (2,), 0, 8)}
    assert "'a' is of the unknown type 'F4'" in refused(s.raw(header, bytes(8)), safetensors.parse)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"a": ("F32", (2,), 0, 4)}, "its shape takes 8 bytes"),
        ({"a": ("F32", (2,), 8, 0)}, "its shape takes 8 bytes"),
        ({"a": ("F32", (2**62, 2**62), 0, 8)}, "its shape takes"),
        ({"a": ("F32", (2**61,), 0, 2**63 - 1)}, "its shape takes"),
        ({"a": ("U8", (2**63 - 1,), 0, 2**63 - 1)}, "beyond the file's end"),
        ({"a": ("F32", (2,), 4, 12)}, "leaves a gap"),
        ({"a": ("F32", (2,), 0, 8), "b": ("F32", (1,), 4, 8)}, "'b' at 4 overlaps"),
        ({"a": ("F32", (2,), 0, 8), "b": ("F32", (2,), 0, 8)}, "'b' at 0 overlaps"),
        ({"a": ("F32", (1,), 0, 4), "b": ("F32", (1,), 8, 12)}, "'b' at 8 leaves a gap"),
        ({"a": ("F32", (1,), 0, 4)}, "8 bytes at the file's end belong to no tensor"),
        ({"a": ("F32", (4,), 0, 16)}, "ends at 16, beyond"),
    ],
)
def test_data_that_do_not_cover_the_file_are_refused(entries, reason):
    header = {name: s.entry(*each) for name, each in entries.items()}
    assert reason in refused(s.raw(header, bytes(12)), safetensors.parse)


def test_a_mutated_safetensors_file_never_does_more_than_fail():
    rng = random.Random(2)
    outcomes = {fuzz_safetensors.outcome(fuzz_safetensors.mutant(rng)) for _ in range(10_000)}
    assert outcomes == {"parsed", "LoadFailed", "Unsupported"}


# --- whole models ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(DATA / "qwen2", tmp_path / "qwen2"))


@pytest.fixture
def written(tmp_path):
    """`written(content)` opens a GGUF file of that content."""

    def write(content):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return open_model(path)

    return write


def model(change=lambda keys, tensors: None, arch="llama"):
    """The tiny llama as GGUF, after `change` had its way with keys and tensors."""
    with open_model(DATA / "llama") as files:
        keys = {"general.architecture": g.number("general.architecture", arch)}
        for name, value in g.sizes(files.config).items():
            keys[name] = g.number(f"{arch}.{name}", value)
        tensors = {}
        for name, tensor in files.tensors.items():
            shape = (tensor.columns,) if tensor.rows == 1 else (tensor.columns, tensor.rows)
            tensors[name] = (name, shape, 0, bytes(tensor.data))
    change(keys, tensors)
    return g.write(list(keys.values()), list(tensors.values()))


JUNK = [None, True, -1, 0, 3, 2**70, 0.5, -0.0, 1e300, "", "x", [], [[]], {}, {"factor": [1]}]
CONFIG_KEYS = [
    *("model_type", "text_config", "rope_parameters", "rope_scaling", "layer_types"),
    *("sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern"),
    *("head_dim", "num_key_value_heads", "hidden_act", "hidden_activation", "rms_norm_eps"),
    *("rope_theta", "rope_local_base_freq", "query_pre_attn_scalar", "final_logit_softcapping"),
    *("partial_rotary_factor", "tie_word_embeddings", "quantization_config", "vocab_size"),
    *("hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings"),
]


@pytest.mark.parametrize("key", CONFIG_KEYS)
@pytest.mark.parametrize("name", ["llama3", "qwen2", "gemma3"])
def test_junk_in_a_configuration_is_refused_or_of_no_account(name, key):
    config = json.loads((DATA / name / "config.json").read_text())
    junk = [*JUNK, *({"full_attention": each, "rope_type": each} for each in JUNK)]
    junk += [{"rope_type": "llama3", "factor": each, "rope_theta": each} for each in JUNK]
    for each in junk:
        with contextlib.suppress(LoadFailed, Unsupported):
            for rope in model_from_hf(config | {key: each}).config.ropes:
                assert all(0 <= frequency < 1e30 for frequency in rope.frequencies)


MORE_KEYS = [
    *("attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.sliding_window", "attention.sliding_window_pattern", "attention.scale"),
    *("rope.freq_base", "rope.freq_base_swa", "rope.dimension_count", "rope.scaling.type"),
    *("rope.scaling.factor", "rope.scale_linear", "final_logit_softcapping", "expert_count"),
    *("embedding_length", "feed_forward_length", "attention.layer_norm_rms_epsilon"),
]


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3"])
def test_junk_in_the_keys_of_a_gguf_file_is_refused_or_of_no_account(arch, written):
    values = [(0, 0), (4, 2**32 - 1), (5, -1), (7, True), (8, ""), (6, 1e-30), (6, float("nan"))]
    values += [(12, 1e300), ((9, 4), []), ((9, 8), ["x"]), ((9, 7), [True, False])]
    for key in [*MORE_KEYS, "block_count", "attention.head_count", "context_length"]:
        for kind, value in values:

            def change(keys, _, key=key, kind=kind, value=value):
                keys[key] = (f"{arch}.{key}", kind, value)

            with contextlib.suppress(LoadFailed, Unsupported):
                written(model(change, arch)).close()


def test_the_unchanged_model_opens(written):
    written(model()).close()


@pytest.mark.parametrize(
    ("key", "kind", "value", "reason"),
    [
        ("embedding_length", 4, 0, "embedding_length"),
        ("embedding_length", 4, 2**32 - 1, "embedding_length"),
        ("embedding_length", 6, float("nan"), "embedding_length"),
        ("embedding_length", 8, "32", "embedding_length"),
        ("embedding_length", 4, 48, "is 96 x 32 and not 96 x 48"),
        ("attention.head_count", 5, -4, "head_count"),
        ("attention.head_count_kv", (9, 4), [1, 1], "head_count_kv"),
        ("attention.head_count_kv", 4, 3, "share 3"),
        ("attention.layer_norm_rms_epsilon", 6, float("nan"), "epsilon|finite"),
        ("attention.layer_norm_rms_epsilon", 6, float("inf"), "epsilon"),
        ("block_count", 4, 3, r"9 tensors are missing: blk\.2"),
        ("block_count", 4, 1, r"do not have: blk\.1"),
        ("rope.freq_base", 6, float("nan"), "freq_base"),
        ("rope.freq_base", 6, -1.0, "freq_base"),
        ("rope.scaling.type", 8, "yarn", "'yarn'"),
        ("rope.scaling.type", 8, "linear", "factor"),
        ("rope.dimension_count", 4, 4, "rotates 4 of 16"),
        ("expert_count", 4, 8, "mixture of experts"),
    ],
)
def test_keys_that_make_no_model_are_named(written, key, kind, value, reason):
    def change(keys, _):
        keys[key] = ("llama." + key, kind, value)

    with pytest.raises((LoadFailed, Unsupported), match=rf"model\.gguf: .*({reason})"):
        written(model(change))


def test_keys_that_are_missing_are_named(written):
    with pytest.raises(LoadFailed, match="block_count"):
        written(model(lambda keys, _: keys.pop("block_count")))
    with pytest.raises(LoadFailed, match=r"general\.architecture"):
        written(model(lambda keys, _: keys.pop("general.architecture")))


def test_an_unknown_architecture_is_named(written):
    with pytest.raises(Unsupported, match="architecture 'rwkv6'"):
        written(model(arch="rwkv6"))


def test_tensors_that_are_missing_are_named(written):
    with pytest.raises(LoadFailed, match=r"1 tensors are missing: output_norm\.weight"):
        written(model(lambda _, tensors: tensors.pop("output_norm.weight")))
    with pytest.raises(LoadFailed, match=r"no token_embd\.weight"):
        written(model(lambda _, tensors: tensors.pop("token_embd.weight")))


def test_tensors_that_the_family_does_not_have_are_named(written):
    def change(_, tensors):
        tensors["blk.0.attn_output.bias"] = ("blk.0.attn_output.bias", (32,), 0, bytes(128))

    with pytest.raises(LoadFailed, match=r"do not have: blk\.0\.attn_output\.bias"):
        written(model(change))


def test_tensors_of_types_that_the_engine_does_not_compute_with_are_named(written):
    def change(_, tensors):
        name = "blk.0.attn_q.weight"
        tensors[name] = (name, (32, 32), 20, bytes(32 * 18))

    with pytest.raises(Unsupported, match=r"attn_q\.weight is of type IQ4_NL.*Q4_K") as caught:
        written(model(change))
    assert "BF16" in caught.value.hint


def test_a_vector_is_of_a_float_type(written):
    def change(_, tensors):
        tensors["output_norm.weight"] = ("output_norm.weight", (32,), 8, bytes(34))

    with pytest.raises(Unsupported, match=r"vector output_norm\.weight is of type Q8_0"):
        written(model(change))


@pytest.mark.parametrize("value", [96, -1, 2**31 - 1])
def test_special_tokens_outside_the_vocabulary_are_refused(written, value):
    def change(keys, _):
        keys["eos"] = ("tokenizer.ggml.eos_token_id", 5, value)

    with pytest.raises(LoadFailed, match="eos_token_id"):
        written(model(change))


def test_one_part_of_several_is_unsupported(written):
    def change(keys, _):
        keys["split"] = ("split.count", 2, 3)

    with pytest.raises(Unsupported, match="one part of several"):
        written(model(change))


def test_paths_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(LoadFailed, match="cannot be opened"):
        open_model(tmp_path / "absent.gguf")
    with pytest.raises(LoadFailed, match="neither"):
        open_model(tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"")
    with pytest.raises(LoadFailed, match="cannot be mapped"):
        open_model(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes(b"")
    with pytest.raises(LoadFailed, match=r"2 \.gguf files: a\.gguf, b\.gguf"):
        open_model(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadFailed, match="no regular file"):
        open_model(tmp_path / "pipe")
    with pytest.raises(LoadFailed, match="cannot be opened"):
        open_model(tmp_path / "a\0b")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (1 << 21)])
def test_a_configuration_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(LoadFailed, match=r"config\.json"):
        open_model(folder)


def test_tensors_of_a_folder_have_the_configured_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 95}))
    with pytest.raises(LoadFailed, match="is 96 x 64 and not 95 x 64"):
        open_model(folder)


@pytest.mark.parametrize(
    ("tensor", "error", "reason"),
    [
        (("I64", (4,), bytes(32)), Unsupported, "of type I64"),
        (("F32", (), bytes(4)), LoadFailed, r"has the shape \(\)"),
        (("F32", (2, 2, 2), bytes(32)), LoadFailed, "has the shape"),
        (("F32", (0,), b""), LoadFailed, "has the shape"),
    ],
)
def test_tensors_of_a_folder_are_matrices_and_vectors_of_floats(folder, tensor, error, reason):
    content = s.write({"model.norm.weight": tensor})
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(error, match=reason):
        open_model(folder)


def test_rope_factors_are_not_for_gemma(tmp_path):
    with open_model(DATA / "gemma3") as files:
        content = g.from_model(files, "gemma3", factors=[1.0] * 8)
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(Unsupported, match=r"rope_freqs\.weight"):
        open_model(tmp_path)


def test_a_tensor_that_nobody_knows_is_named(folder):
    content = s.write({"model.layers.0.self_attn.sinks": ("F32", (4,), bytes(16))})
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(LoadFailed, match=r"do not have: model\.layers\.0\.self_attn\.sinks"):
        open_model(folder)


def test_two_names_for_one_tensor_are_refused(folder):
    one = ("F32", (64,), bytes(256))
    content = s.write({"model.norm.weight": one, "language_model.model.norm.weight": one})
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(LoadFailed, match=r"output_norm\.weight is there twice"):
        open_model(folder)


def test_messages_quote_a_file_in_printable_characters_and_shortly(folder):
    config = json.loads((folder / "config.json").read_text())
    name = "\x1b[31m" + "x" * 100_000
    for key in ("model_type", "hidden_act", "eos_token_id", "hidden_size"):
        (folder / "config.json").write_text(json.dumps(config | {key: name}))
        with pytest.raises((LoadFailed, Unsupported)) as caught:
            open_model(folder)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 1000
    (folder / "config.json").write_text(json.dumps(config))
    content = s.write({f"model.layers.0.{name}": ("F32", (4,), bytes(16))})
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(LoadFailed) as caught:
        open_model(folder)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
