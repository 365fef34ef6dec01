# SPDX-License-Identifier: BUSL-1.1
"""What the GGUF parser gives back of files that are right."""

import gguf_writer
import numpy as np
import pytest

from mlos_core.errors import LoadFailed
from mlos_core.synapse import gguf
from mlos_core.synapse.files import COMPUTED
from mlos_core.synapse.native import ffi, lib

SCALARS = [
    ("a.uint8", 0, 255),
    ("a.int8", 1, -128),
    ("a.uint16", 2, 65535),
    ("a.int16", 3, -32768),
    ("a.uint32", 4, 2**32 - 1),
    ("a.int32", 5, -(2**31)),
    ("a.float32", 6, 0.5),
    ("a.true", 7, True),
    ("a.false", 7, False),
    ("a.string", 8, "zwölf ✓"),
    ("a.empty", 8, ""),
    ("a.uint64", 10, 2**64 - 1),
    ("a.int64", 11, -(2**63)),
    ("a.float64", 12, 1e300),
]


def parse(content):
    return gguf.parse(memoryview(content))


@pytest.mark.parametrize("version", [2, 3])
def test_values_of_every_kind_come_back(version):
    metadata, tensors = parse(gguf_writer.write(SCALARS, [], version))
    assert dict(metadata) == {name: value for name, _, value in SCALARS}
    assert {name: type(metadata[name]) for name, _, _ in SCALARS} == {
        name: type(value) for name, _, value in SCALARS
    }
    assert not tensors


@pytest.mark.parametrize("kind", sorted(gguf_writer.FORMATS))
def test_arrays_of_numbers_come_back(kind):
    wanted = [0, 1, 1] if kind == 7 else [1, 2, 100]
    metadata, _ = parse(gguf_writer.write([("x", (9, kind), wanted), ("y", 4, 7)], []))
    assert metadata["x"].tolist() == wanted
    assert metadata["x"].flags.writeable, "a copy, which outlives the file"
    assert metadata["y"] == 7


def test_arrays_of_strings_come_back_as_bytes():
    wanted = ["a", "", "längere Wörter", "\x00 in between"]
    metadata, _ = parse(gguf_writer.write([("x", (9, 8), wanted)], []))
    assert metadata["x"] == [each.encode() for each in wanted]


@pytest.mark.parametrize("kind", [4, 8])
def test_empty_arrays_are_allowed(kind):
    metadata, _ = parse(gguf_writer.write([("x", (9, kind), [])], []))
    assert len(metadata["x"]) == 0


def test_a_key_that_is_not_there_is_not_there():
    metadata, _ = parse(gguf_writer.write([], []))
    assert metadata.get("general.name") is None
    with pytest.raises(KeyError):
        metadata["general.name"]


def test_a_string_that_is_not_utf8_is_named_when_it_is_asked_for():
    metadata, _ = parse(gguf_writer.write([("bad", 8, b"\xff\xfe")], []))
    with pytest.raises(LoadFailed, match="value of bad at byte"):
        metadata["bad"]


@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_tensors_lie_where_the_file_says(alignment):
    first, second = np.arange(6, dtype=np.float32), np.arange(34, dtype=np.uint8)
    content = gguf_writer.write(
        [("general.alignment", 4, alignment)],
        [("first", (3, 2), 0, first.tobytes()), ("second", (32,), 8, second.tobytes())],
        alignment=alignment,
    )
    _, tensors = parse(content)
    assert [tensors[n][:5] for n in tensors] == [
        ("first", 0, 2, 2, 3),
        ("second", 8, 1, 1, 32),
    ]
    for name, wanted in (("first", first), ("second", second)):
        found = tensors[name]
        assert content[found.offset : found.offset + found.nbytes] == wanted.tobytes()
        assert found.offset % alignment == 0


def test_more_than_two_dimensions_are_rows():
    _, tensors = parse(gguf_writer.write([], [("x", (4, 3, 2), 0, bytes(96))]))
    assert (tensors["x"].rows, tensors["x"].columns, tensors["x"].dimensions) == (6, 4, 3)


def test_the_parser_and_the_kernels_agree_on_the_types_they_share():
    for number in COMPUTED:
        assert gguf.type_name(number) == ffi.string(lib.syn_type_name(number)).decode()
        content = gguf_writer.write([], [("x", (512, 3), number, bytes(512 * 4 * 3))])
        _, tensors = parse(content)
        assert tensors["x"].nbytes == 3 * lib.syn_row_bytes(number, 512)


def test_types_that_nobody_computes_with_have_names_too():
    assert gguf.type_name(23) == "IQ4_XS"
    assert gguf.type_name(1000) == "type 1000"
    assert gguf.type_name(-1) == "type -1"
