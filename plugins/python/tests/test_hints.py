# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed

from .conftest import ask, scalar, text


@pytest.mark.parametrize(
    ("hint", "described"),
    [
        ("float", "float64[]"),
        ("int", "int64[]"),
        ("bool", "bool[]"),
        ("str", "bytes[]"),
        ("bytes", "bytes[]"),
        ("list[float]", "float64[?]"),
        ("list[str]", "bytes[?]"),
        ('Annotated[np.ndarray, "float32[?, 3]"]', "float32[?, 3]"),
        ('Annotated[np.ndarray, "uint8[rows, 224,224 , 3]"]', "uint8[?, 224, 224, 3]"),
        ('Annotated[np.ndarray, "int64[]"]', "int64[]"),
        ('Annotated[np.typing.NDArray[np.str_], "bytes[?]"]', "bytes[?]"),
    ],
)
def test_hints_become_tensors(served, hint, described):
    model = served(f"class A:\n    def predict(self, x: {hint}) -> {hint}:\n        return x")
    assert model.signature.describe() == f"x: {described} -> output: {described}"


@pytest.mark.parametrize(
    ("signature", "word"),
    [
        ("x) -> float", "'x' of predict has no hint"),
        ("x: float)", "returns"),
        ("x: dict) -> float", "the hint dict"),
        ("x: np.ndarray) -> float", "dtype and shape"),
        ("x: np.typing.NDArray[np.float32]) -> float", "dtype and shape"),
        ('x: Annotated[np.ndarray, "float31[?]"]) -> float', "float31"),
        ('x: Annotated[np.ndarray, "float32"]) -> float', "not like"),
        ('x: Annotated[np.ndarray, "float32[a b]"]) -> float', "no size"),
        ('x: Annotated[np.ndarray, "float32[-1]"]) -> float', "no size"),
        ("x: list[dict]) -> float", "no tensor"),
        ("x: float) -> dict[str, float]", "no tensor"),
        ("x: float) -> None", "no tensor"),
        ("*x: float) -> float", "no input"),
        ("**x: float) -> float", "no input"),
        ("x: Unknown) -> float", "Unknown"),
    ],
)
def test_a_bad_hint_is_refused_and_shows_a_good_one(served, signature, word):
    code = f"from __future__ import annotations\nclass A:\n    def predict(self, {signature}: ..."
    # A model's own `from __future__` has to be its first line.
    with pytest.raises(LoadFailed) as caught:
        served(code.partition("\n")[2].replace("Unknown", '"Unknown"'))
    assert word in caught.value.message
    assert caught.value.hint


def test_an_async_predict_is_refused(served):
    with pytest.raises(LoadFailed, match="async"):
        served("class A:\n    async def predict(self, x: float) -> float:\n        return x")


def test_predict_gets_plain_python_values(served):
    model = served(
        """
        class A:
            def predict(self, s: str, raw: bytes, n: int, many: list[str]) -> str:
                assert type(n) is int
                return repr((s, raw, n, many))
        """
    )
    given = {"s": scalar("grün".encode()), "raw": scalar(b"\xff"), "n": scalar(3, np.int64)}
    answer = ask(model, **given, many=text(b"a", b""))
    assert answer["output"].item() == "('grün', b'\\xff', 3, ['a', ''])"


def test_a_parameter_with_a_default_is_an_optional_input(served):
    model = served(
        "class A:\n    def predict(self, x: float, y: float = 5.0) -> float:\n        return x + y"
    )
    assert [spec.optional for spec in model.signature.inputs] == [False, True]
    assert ask(model, x=scalar(1, np.float64))["output"].item() == 6.0


def test_text_that_is_none_is_the_callers_mistake(served):
    model = served("class A:\n    def predict(self, x: str) -> str:\n        return x")
    with pytest.raises(InvalidInput, match="'x' is no text"):
        ask(model, x=scalar(b"\xff"))


@pytest.mark.parametrize(
    ("hint", "names", "value"),
    [
        ("tuple[float, str]", ["output_0", "output_1"], '(x, "b")'),
        ("Data", ["a", "b"], 'Data(x, "b")'),
        ("Typed", ["a", "b"], '{"a": x, "b": "b"}'),
        ("Named", ["a", "b"], 'Named(x, "b")'),
    ],
)
def test_several_outputs_have_names(served, hint, names, value):
    model = served(
        f"""
        @dataclass
        class Data:
            a: float
            b: str
        class Typed(TypedDict):
            a: float
            b: str
        class Named(NamedTuple):
            a: float
            b: str
        class A:
            def predict(self, x: float) -> {hint}:
                return {value}
        """
    )
    answer = ask(model, x=scalar(2, np.float64))
    assert list(answer) == names
    assert [array.item() for array in answer.values()] == [2.0, "b"]


@pytest.mark.parametrize(
    ("hint", "value", "word"),
    [
        ("float", '"a"', "str"),
        ("float", "None", "NoneType"),
        ("float", "[1.0]", r"float64\[1\]"),
        ("list[float]", "2.0", "float"),
        ("list[int]", "[0.5]", r"float64\[1\].*int64"),
        ("str", "3", "int"),
        ("list[str]", '["a", 3]', "not all text"),
        ('Annotated[np.ndarray, "float32[2]"]', "np.zeros(3)", r"float64\[3\].*float32\[2\]"),
        ('Annotated[np.ndarray, "uint8[]"]', "300", "does not fit"),
        ("tuple[float, float]", "(1.0,)", "tuple of 1"),
        ("Typed", '{"a": 1.0}', "dict with a"),
        ("Data", "(1.0, 2.0)", "tuple of 2"),
    ],
)
def test_an_answer_that_is_not_what_the_hint_says_fails(served, hint, value, word):
    model = served(
        f"""
        @dataclass
        class Data:
            a: float
        class Typed(TypedDict):
            a: float
            b: float
        class A:
            def predict(self, x: float) -> {hint}:
                return {value}
        """
    )
    with pytest.raises(ModelFailed, match=word):
        ask(model, x=scalar(2, np.float64))


def test_a_number_may_change_its_dtype_within_its_kind(served):
    model = served(
        """
        class A:
            def predict(self, x: float) -> Annotated[np.ndarray, "float32[?]"]:
                return [x, 1]
        """
    )
    answer = ask(model, x=scalar(0.5, np.float64))["output"]
    assert answer.dtype == np.float32
    assert answer.tolist() == [0.5, 1]


def test_an_empty_list_is_an_empty_vector_of_any_dtype(served):
    model = served("class A:\n    def predict(self, x: float) -> list[int]:\n        return []")
    assert ask(model, x=scalar(1, np.float64))["output"].dtype == np.int64


# --- batches ----------------------------------------------------------------------------------

ROWS = """
class A:
    batched = True
    def predict(self, x: list[float], name: list[str]) -> list[str]:
        return [f"{n}{v:g}" for v, n in zip(x, name)][: LIMIT]
"""


def test_a_batched_predict_gets_all_rows(served):
    model = served(ROWS.replace("LIMIT", "9"))
    assert model.signature.batched
    answer = ask(model, x=np.array([1.0, 2.0]), name=text(b"a", b"b"))
    assert answer["output"].tolist() == ["a1", "b2"]


def test_a_batched_predict_that_loses_a_row_fails(served):
    model = served(ROWS.replace("LIMIT", "1"))
    with pytest.raises(ModelFailed, match="1 rows of 'output' for 2"):
        ask(model, x=np.array([1.0, 2.0]), name=text(b"a", b"b"))
    with pytest.raises(InvalidInput, match="different numbers of rows"):
        ask(model, x=np.array([1.0, 2.0]), name=text(b"a"))


@pytest.mark.parametrize(
    "signature",
    [
        "x: float) -> list[float]",
        'x: Annotated[np.ndarray, "float32[2, ?]"]) -> list[float]',
        "x: list[float]) -> float",
        "x: list[float], *, parameters: dict) -> list[float]",
    ],
)
def test_what_cannot_be_batched_is_refused(served, signature):
    with pytest.raises(LoadFailed, match="batched"):
        served(f"class A:\n    batched = True\n    def predict(self, {signature}: ...")
