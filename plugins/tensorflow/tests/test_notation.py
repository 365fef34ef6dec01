# SPDX-License-Identifier: BUSL-1.1
import pytest
from mlos_plugin_tensorflow.notation import parse_tensors

from mlos_core.errors import LoadFailed
from mlos_core.types import Signature, TensorSpec


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("x: float32[]", [TensorSpec("x", "float32", ())]),
        ("x:bytes[?]", [TensorSpec("x", "bytes", (-1,))]),
        (
            " image : uint8[-1, 32,32 ,3], mask: bool[?, 4]",
            [TensorSpec("image", "uint8", (-1, 32, 32, 3)), TensorSpec("mask", "bool", (-1, 4))],
        ),
    ],
)
def test_tensors_are_read(text, specs):
    assert parse_tensors(text) == tuple(specs)


def test_what_a_signature_shows_can_be_read_back():
    specs = (TensorSpec("a", "int64", (-1, 2)), TensorSpec("b.c", "float16", ()))
    shown = Signature(specs, ()).describe().removesuffix(" -> nothing")
    assert parse_tensors(shown) == specs


@pytest.mark.parametrize(
    "text",
    ["", "x", "x: float32", "x: float32[2", "x: float32[a]", "x: float32[1,]", "x: int8[2] y"],
)
def test_what_cannot_be_read_says_how_to_write_it(text):
    with pytest.raises(LoadFailed, match="write it like 'image: float32"):
        parse_tensors(text)


def test_a_name_twice_and_an_unknown_dtype_are_refused():
    with pytest.raises(LoadFailed, match="each name once"):
        parse_tensors("x: int8[1], x: int8[2]")
    with pytest.raises(LoadFailed, match=r"unknown dtype 'float' .*float32"):
        parse_tensors("x: float[1]")
