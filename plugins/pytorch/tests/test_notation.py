# SPDX-License-Identifier: BUSL-1.1
import pytest

from mlos_core.errors import LoadFailed
from mlos_core.types import Signature

pytest.importorskip("torch", reason="torch is not installed")

notation = pytest.importorskip("mlos_plugin_pytorch.notation")


def test_what_a_signature_prints_can_be_typed_back():
    text = "x: float32[?, 3, 224], rate: int64[], word: bytes[-1]"
    specs = tuple(one.spec for one in notation.parse(text, "it"))
    assert Signature(specs, ()).describe() == text.replace("-1", "?") + " -> nothing"


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("n:int64[]=16000", 16000),
        ("n:float64[] = -0.5", -0.5),
        ("n:bool[]=true, x:float32[1]", True),
        ("n:bytes[]=mean", "mean"),
        ('n:bytes[]="mean"', "mean"),
        ("n:int64[]", None),
    ],
)
def test_a_number_may_have_a_default(text, default):
    assert notation.parse(text, "it")[0].default == default


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "cannot be read from 'x' on"),
        ("x:float32[1], y", "cannot be read from 'y' on"),
        ("x:float32", "cannot be read"),
        ("x:float32[a]", "gives 'x' the size 'a'"),
        ("x:float32[1,]", "gives 'x' the size ''"),
        ("x:float[1]", r"unknown dtype 'float' \(did you mean 'float(16|32|64)'"),
        ("x:bfloat16[1]", "unknown dtype 'bfloat16'"),
        ("x:int8[1], x:int8[1]", "names 'x' twice"),
        ("x:int8[" + "1," * 16 + "1]", "more than 16 dimensions"),
        ("", "it is empty"),
    ],
)
def test_what_cannot_be_read_says_where(text, words):
    with pytest.raises(LoadFailed, match=words):
        notation.parse(text, "it")
