# SPDX-License-Identifier: BUSL-1.1
"""What a type hint says of a tensor.

float, int, bool, str, bytes            one value: float64[], int64[], bool[], bytes[], bytes[]
list[T], T one of those                 a vector
Annotated[np.ndarray, "float32[?, 3]"]  an array of that dtype and shape; `?` or a name is any size
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
import numpy as np

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, MAX_RANK, TensorSpec

HOW: Final = (
    'use float, int, bool, str, bytes, a list of one of them, or Annotated[np.ndarray, "float32[?, '
    '3]"], as in: def predict(self, x: Annotated[np.ndarray, "float32[?, 3]"]) -> list[float]'
)
SCALARS: Final[dict[Any, str]] = {
    float: "float64",
    int: "int64",
    bool: "bool",
    str: BYTES,
    bytes: BYTES,
}
_TEXT: Final = re.compile(r"\s*(\w+)\s*\[([^\]]*)\]\s*")
_NAME: Final = re.compile(r"\?|[A-Za-z_]\w*")


class Hint(msgspec.Struct, frozen=True):
    """A hint, understood. `element` is the Python type of scalars and of lists' elements."""

    form: Literal["scalar", "list", "array"]
    dtype: str
    shape: tuple[int, ...]
    element: Any = None

    def spec(self, name: str, *, optional: bool = False) -> TensorSpec:
        """The tensor as a signature has it."""
        return TensorSpec(name, self.dtype, self.shape, optional=optional)


def understand(hint: Any, what: str) -> Hint:
    """The tensor that `hint` means; `what` has it, for the message.

    Raises:
        LoadFailed: it means none; the hint of the error shows how to write one.
    """
    if hint in SCALARS:
        return Hint("scalar", SCALARS[hint], (), hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list and arguments and arguments[0] in SCALARS:
        return Hint("list", SCALARS[arguments[0]], (-1,), arguments[0])
    if origin is Annotated and _is_array(arguments[0]):
        for text in arguments[1:]:
            if isinstance(text, str):
                return _array(text, what)
    if _is_array(hint):
        raise LoadFailed(f"the hint of {what} does not say the array's dtype and shape", hint=HOW)
    raise LoadFailed(f"{what} has the hint {_say(hint)}, which is no tensor", hint=HOW)


def _is_array(hint: Any) -> bool:
    return hint is np.ndarray or get_origin(hint) is np.ndarray


def _array(text: str, what: str) -> Hint:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise LoadFailed(f"the hint of {what} is {text!r}, not like float32[?, 3]", hint=HOW)
    dtype, inner = found[1], found[2].strip()
    if dtype not in DTYPES and dtype != BYTES:
        raise LoadFailed(
            f"the hint of {what} has the unknown dtype {dtype!r}",
            hint="use one of " + ", ".join((*DTYPES, BYTES)),
        )
    shape = tuple(_size(part.strip(), text, what) for part in inner.split(",")) if inner else ()
    if len(shape) > MAX_RANK:
        raise LoadFailed(f"the hint of {what} has more than {MAX_RANK} dimensions", hint=HOW)
    return Hint("array", dtype, shape)


def _size(part: str, text: str, what: str) -> int:
    if part.isascii() and part.isdigit():
        return int(part)
    if _NAME.fullmatch(part):
        return -1
    raise LoadFailed(f"the hint of {what} is {text!r}: {part!r} is no size", hint=HOW)


def _say(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
