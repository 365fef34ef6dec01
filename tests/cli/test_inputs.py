# SPDX-License-Identifier: BUSL-1.1
import io

import numpy as np
import pytest

from mlos_core.cli.inputs import cast, gather, pairs
from mlos_core.errors import InvalidInput
from mlos_core.types import Signature, TensorSpec

X = TensorSpec("x", "float32", (-1,))
N = TensorSpec("n", "int64", (1,), optional=True)
TEXT = TensorSpec("text", "bytes", (1,))
ONE = Signature((X, N), ())
TWO = Signature((X, TEXT), ())


def never():
    raise AssertionError("the standard input was read")


def read(signature, *words, stdin=never):
    return gather(signature, words, stdin)


def test_a_json_object_names_its_inputs():
    got = read(TWO, '{"x": [1, 2.5], "text": ["hi"]}')
    np.testing.assert_array_equal(got["x"], np.array([1, 2.5], np.float32))
    assert got["x"].dtype == np.float32
    assert got["text"].tolist() == ["hi"]


def test_a_lone_value_is_the_only_input_that_must_be_given():
    np.testing.assert_array_equal(read(ONE, "[1, 2]")["x"], [1, 2])
    with pytest.raises(InvalidInput) as caught:
        read(TWO, "[1, 2]")
    assert "x: float32[?], text: bytes[1]" in caught.value.hint


def test_names_take_json_or_text():
    got = read(TWO, "x=[3]", "text=good morning")
    assert got["x"].tolist() == [3.0]
    assert got["text"].tolist() == ["good morning"]
    assert got["text"].shape == (1,)


def test_text_that_holds_an_equals_sign_stays_text():
    assert read(TWO, "text=a=b")["text"].tolist() == ["a=b"]


def test_files_are_read_by_their_content(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3, dtype=np.float32))
    np.savez(tmp_path / "all.npz", x=np.zeros(2, np.float32), n=np.ones(1, np.int64))
    (tmp_path / "x.json").write_text("[7]")
    (tmp_path / "raw.bin").write_bytes(b"\x00\xff")
    assert read(ONE, f"x=@{tmp_path}/x.npy")["x"].tolist() == [0, 1, 2]
    assert read(ONE, f"@{tmp_path}/x.npy")["x"].tolist() == [0, 1, 2]
    assert set(read(ONE, f"@{tmp_path}/all.npz")) == {"x", "n"}
    assert read(ONE, f"x=@{tmp_path}/x.json")["x"].tolist() == [7]
    assert read(TWO, "x=1", f"text=@{tmp_path}/raw.bin")["text"].tolist() == [b"\x00\xff"]


def test_the_standard_input_holds_json_or_npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2, np.float32))
    assert read(ONE, "-", stdin=lambda: b'{"x": [4]}')["x"].tolist() == [4]
    assert read(ONE, "x=-", stdin=buffer.getvalue)["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "word",
    ["{", "nonsense", "@absent.npy", "y=1", '{"y": 1}', "x=[[1],[1,2]]", 'x="a"', "x=null"],
)
def test_what_cannot_be_an_input_is_an_error_with_a_hint(word):
    with pytest.raises(InvalidInput) as caught:
        read(ONE, word)
    assert caught.value.hint


def test_a_pickle_is_never_loaded(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(ONE, f"@{tmp_path}/evil.npy")


def test_an_input_is_given_once():
    with pytest.raises(InvalidInput, match="twice"):
        read(ONE, "x=1", "x=2")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0.1, "float32", np.float32(0.1)),
        (3.0, "int64", 3),
        (np.array([2.0]), "uint8", 2),
        (np.array([0.5]), "float32", np.float32(0.5)),
        (True, "bool", True),
        (float("nan"), "float16", float("nan")),
    ],
)
def test_numbers_are_cast_where_nothing_is_lost(value, dtype, expected):
    got = cast(value, TensorSpec("x", dtype, (1,)))
    assert got.dtype.name == dtype
    np.testing.assert_array_equal(got.reshape(()), expected)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "int32"),
        (300, "uint8"),
        (-1, "uint64"),
        (2**63 + 1, "int64"),
        (1e300, "float32"),
        (np.array([0.1]), "float32"),
        (2**60 + 1, "float32"),
        (2, "bool"),
        (10**30, "int64"),
    ],
)
def test_numbers_that_would_change_are_refused(value, dtype):
    with pytest.raises(InvalidInput, match="x") as caught:
        cast(value, TensorSpec("x", dtype, (1,)))
    assert dtype in caught.value.hint


def test_a_lone_number_fits_a_shape_of_one_element():
    assert cast(5, TensorSpec("x", "int64", (-1, 1))).shape == (1, 1)
    assert cast(5, TensorSpec("x", "int64", (3,))).shape == ()


def test_options_are_json_or_text():
    assert pairs(["a=1", "b=x", 'c={"d": [true]}'], "--option") == {
        "a": 1,
        "b": "x",
        "c": {"d": [True]},
    }
    with pytest.raises(InvalidInput, match="--option a"):
        pairs(["a"], "--option")
