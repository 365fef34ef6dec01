# SPDX-License-Identifier: BUSL-1.1
"""Values of quantised tensors: those of the gguf package, from the file's bytes and packed."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from random_tensors import TYPES, random_tensor

from mlos_core.errors import LoadFailed, MlosError, Unsupported
from mlos_core.synapse.native import check, ffi, lib


def dequantise(kind, data, rows, columns):
    out = np.empty((rows, columns), np.float32)
    data = np.ascontiguousarray(data)
    pointer = ffi.from_buffer("float[]", out)
    check(lib.syn_dequantise(kind, ffi.from_buffer(data), data.nbytes, rows, columns, pointer))
    return out


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_values_are_those_of_the_gguf_package(kind):
    data = random_tensor(kind, 7, 512)
    np.testing.assert_array_equal(
        dequantise(kind, data, 7, 512), gguf.quants.dequantize(data, kind)
    )


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_names_and_sizes_are_those_of_the_gguf_package(kind):
    values, size = gguf.GGML_QUANT_SIZES[kind]
    assert ffi.string(lib.syn_type_name(kind)).decode() == kind.name
    assert lib.syn_row_bytes(kind, 3 * values) == 3 * size


def test_half_floats_of_every_bit_pattern_are_read_exactly():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, -1)
    got = dequantise(Type.F16, halves, 1, 65536)
    np.testing.assert_array_equal(got, halves.astype(np.float32))


def test_a_tensor_shorter_than_its_shape_is_the_files_fault():
    data = random_tensor(Type.Q4_1, 2, 64)
    with pytest.raises(LoadFailed, match="not enough"):
        dequantise(Type.Q4_1, data, 3, 64)


@pytest.mark.parametrize("columns", [0, -32, 33, 2**31])
def test_rows_of_no_whole_blocks_are_refused(columns):
    with pytest.raises(LoadFailed):
        check(lib.syn_row_bytes(Type.Q8_0, columns))


def test_unknown_types_are_refused_with_their_number():
    with pytest.raises(Unsupported, match="19"):
        check(lib.syn_row_bytes(19, 32))
    assert lib.syn_type_name(19) == ffi.NULL


@pytest.mark.parametrize("rows", [0, -1, 2**31, 2**62])
def test_matrices_of_impossible_size_are_refused(rows):
    with pytest.raises(MlosError):
        check(lib.syn_packed_bytes(Type.F32, rows, 2**31 - 1))
