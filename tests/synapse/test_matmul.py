# SPDX-License-Identifier: BUSL-1.1
"""Packed matrices and their multiplication, on every instruction set that this machine has."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from random_tensors import TYPES, random_tensor

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.synapse.native import ISAS, check, ffi, lib

FAST = [name for name in ISAS if name != "reference" and lib.syn_isa_available(ISAS[name])]
FORMS = {"8": lib.SYN_ACT_8, "16": lib.SYN_ACT_16}


def aligned(size):
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


class Matrix:
    """A packed matrix and the float32 values of its weights."""

    def __init__(self, kind, rows, columns, seed=0):
        data = random_tensor(kind, rows, columns, seed)
        self.kind, self.rows, self.columns = kind, rows, columns
        self.values = gguf.quants.dequantize(data, kind)
        self.packed = aligned(check(lib.syn_packed_bytes(kind, rows, columns)))
        self.pack(data)
        out = ffi.new("syn_matrix **")
        place = ffi.from_buffer(self.packed)
        check(lib.syn_matrix_view(out, kind, rows, columns, place, self.packed.nbytes))
        self.pointer = ffi.gc(out[0], lib.syn_matrix_free)

    def pack(self, data, first=0, last=None):
        place, last = ffi.from_buffer(self.packed), self.rows if last is None else last
        data = np.ascontiguousarray(data)
        shape = (self.rows, self.columns)
        buffer = ffi.from_buffer(data)
        check(lib.syn_pack(self.kind, buffer, data.nbytes, *shape, first, last, place))

    def row(self, number):
        out = np.empty(self.columns, np.float32)
        check(lib.syn_matrix_row(self.pointer, number, ffi.from_buffer("float[]", out)))
        return out

    def times(self, x, *, form="16", isa="reference", onto=None):
        """x: [m, columns] -> [m, rows]"""
        x = np.ascontiguousarray(x, np.float32)
        out = np.empty((len(x), self.rows), np.float32) if onto is None else onto.copy()
        form = lib.syn_matrix_form(self.pointer, FORMS[form])
        source, target = ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", out)
        add = onto is not None
        check(lib.syn_matmul(ISAS[isa], self.pointer, form, source, len(x), target, add))
        return out


def activations(rows, columns, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32) + 0.5


@pytest.fixture(params=TYPES, ids=lambda kind: kind.name)
def matrix(request):
    return Matrix(request.param, 43, 512)


def test_rows_of_a_packed_matrix_are_the_tensors_rows(matrix):
    rows = np.stack([matrix.row(n) for n in range(matrix.rows)])
    np.testing.assert_array_equal(rows, matrix.values)


@pytest.mark.parametrize(("form", "error"), [("8", 0.01), ("16", 0.001)])
def test_products_are_those_of_float64(matrix, form, error):
    x = activations(5, matrix.columns)
    exact = x.astype(np.float64) @ matrix.values.T.astype(np.float64)
    got = matrix.times(x, form=form)
    assert np.abs(got - exact).max() < error * np.abs(exact).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("isa", FAST)
def test_every_instruction_set_gives_the_references_bits(matrix, isa, form):
    x = activations(37, matrix.columns)
    np.testing.assert_array_equal(matrix.times(x, form=form, isa=isa), matrix.times(x, form=form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("isa", FAST)
def test_a_rows_result_does_not_depend_on_the_rows_beside_it(matrix, isa, form):
    x = activations(70, matrix.columns)
    together = matrix.times(x, form=form, isa=isa)
    for count in (1, 2, 5, 12, 66):
        part = matrix.times(x[-count:], form=form, isa=isa)
        np.testing.assert_array_equal(part, together[-count:])


@pytest.mark.parametrize("isa", ["reference", *FAST])
def test_results_are_added_onto_what_is_there(matrix, isa):
    x, onto = activations(3, matrix.columns), activations(3, matrix.rows, seed=2)
    added = matrix.times(x, isa=isa, onto=onto)
    np.testing.assert_array_equal(added, onto + matrix.times(x, isa=isa))


@pytest.mark.parametrize("isa", ["reference", *FAST])
@pytest.mark.parametrize("form", FORMS)
def test_infinities_and_nans_reach_the_output_of_their_row_only(isa, form):
    matrix = Matrix(Type.Q4_1, 20, 64)
    x = activations(4, 64)
    clean = matrix.times(x, form=form, isa=isa)
    x[1, 40], x[2, 3] = np.inf, np.nan
    got = matrix.times(x, form=form, isa=isa)
    assert np.isnan(got[1:3]).all()
    np.testing.assert_array_equal(got[[0, 3]], clean[[0, 3]])


@pytest.mark.parametrize("isa", ["reference", *FAST])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-30, 1e30])
def test_activations_of_any_size_are_multiplied(isa, form, scale):
    matrix = Matrix(Type.Q8_0, 16, 64)
    got = matrix.times(activations(2, 64) * np.float32(scale), form=form, isa=isa)
    assert np.isfinite(got).all()
    assert scale == 0 or scale < 1e-40 or got.any()


def test_packing_by_parts_is_packing_at_once(matrix):
    data, whole = random_tensor(matrix.kind, 43, 512), matrix.packed.copy()
    matrix.packed[:] = 0xAA
    matrix.pack(data, 32, 43)
    matrix.pack(data, 0, 32)
    used = lib.syn_packed_bytes(matrix.kind, 48, 512) - 64
    np.testing.assert_array_equal(matrix.packed[:used], whole[:used])


@pytest.mark.parametrize(("first", "last"), [(-16, 16), (0, 17), (8, 32), (32, 16), (0, 64)])
def test_parts_that_are_no_whole_panels_are_refused(first, last):
    matrix = Matrix(Type.Q8_0, 43, 64)
    with pytest.raises(InvalidInput):
        matrix.pack(random_tensor(Type.Q8_0, 43, 64), first, last)


def test_a_file_shorter_than_the_matrix_is_refused():
    matrix = Matrix(Type.Q8_0, 43, 64)
    with pytest.raises(LoadFailed):
        matrix.pack(random_tensor(Type.Q8_0, 42, 64))


def test_packed_bytes_that_are_too_few_or_misplaced_are_refused():
    matrix = Matrix(Type.Q8_0, 43, 64)
    out, memory = ffi.new("syn_matrix **"), ffi.from_buffer(matrix.packed)
    for start, size in ((0, matrix.packed.nbytes - 1), (1, matrix.packed.nbytes)):
        with pytest.raises(InvalidInput):
            check(lib.syn_matrix_view(out, matrix.kind, 43, 64, memory + start, size))


def test_rows_outside_the_matrix_are_refused():
    matrix = Matrix(Type.Q8_0, 43, 64)
    for number in (-1, 43, 47):
        with pytest.raises(InvalidInput):
            matrix.row(number)


def test_activations_in_a_form_that_does_not_fit_are_refused():
    x = np.zeros((1, 64), np.float32)
    out = np.zeros((1, 43), np.float32)
    pointers = ffi.from_buffer("float[]", x), 1, ffi.from_buffer("float[]", out), 0
    for kind, form in ((Type.Q8_0, lib.SYN_ACT_F32), (Type.F32, lib.SYN_ACT_8), (Type.Q8_0, 3)):
        with pytest.raises(InvalidInput):
            check(lib.syn_matmul(0, Matrix(kind, 43, 64).pointer, form, *pointers))
