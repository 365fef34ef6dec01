# SPDX-License-Identifier: BUSL-1.1
"""`x:float32[?,3,224,224], rate:int64[]=16000`: tensors as people write them on one line.

It is what `Signature.describe` prints, so what an error message shows can be typed back.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, MAX_RANK, TensorSpec

_TENSOR: Final = re.compile(
    r"\s*([^\s:,=\[\]]+)\s*:\s*(\w+)\s*\[([^\[\]]*)\]\s*(?:=\s*([^,]+?)\s*)?(?:,|$)"
)
_EXAMPLE: Final = 'write them like "x:float32[?,3,224,224], rate:int64[]=16000", ? for any size'


class Stated(msgspec.Struct, frozen=True):
    """A tensor, and the value it has where a request leaves it out (None: it must not)."""

    spec: TensorSpec
    default: Any = None


def parse(text: str, option: str) -> tuple[Stated, ...]:
    """The tensors that `text` lists.

    Args:
        text: comma-separated `name:dtype[sizes]`; a size is a number, `?` or `-1`. Behind `=`
            may stand a number, true, false, or a text: a default.
        option: where it comes from, for errors.

    Raises:
        LoadFailed: it cannot be read, a dtype is unknown, or a name comes twice.
    """
    stated: list[Stated] = []
    at = 0
    while at < len(text):
        found = _TENSOR.match(text, at)
        if found is None:
            raise LoadFailed(
                f"{option} cannot be read from {text[at:].strip()!r} on", hint=_EXAMPLE
            )
        name, dtype, sizes, default = found.groups()
        spec = checked(name, dtype, _shape(name, sizes, option), option)
        stated.append(Stated(spec, None if default is None else _value(default)))
        at = found.end()
    _check_names([one.spec.name for one in stated], option)
    return tuple(stated)


def _check_names(names: list[str], option: str) -> None:
    if not names:
        raise LoadFailed(f"{option} is empty", hint=_EXAMPLE)
    for name in names:
        if names.count(name) > 1:
            raise LoadFailed(f"{option} names {name!r} twice", hint=_EXAMPLE)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def checked(name: str, dtype: str, shape: tuple[int, ...], source: str) -> TensorSpec:
    """A spec whose dtype is one that channels carry.

    Raises:
        LoadFailed: it is not.
    """
    known = (*DTYPES, BYTES)
    if dtype not in known:
        near = difflib.get_close_matches(dtype, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(known)
        raise LoadFailed(f"{source} gives {name!r} the unknown dtype {dtype!r}", hint=hint)
    if len(shape) > MAX_RANK:
        raise LoadFailed(f"{source} gives {name!r} more than {MAX_RANK} dimensions")
    return TensorSpec(name, dtype, shape)


def _shape(name: str, sizes: str, option: str) -> tuple[int, ...]:
    words = [word.strip() for word in sizes.split(",")] if sizes.strip() else []
    for word in words:
        if word not in ("?", "-1") and not word.isdecimal():
            raise LoadFailed(f"{option} gives {name!r} the size {word!r}", hint=_EXAMPLE)
    return tuple(int(word) if word.isdecimal() else -1 for word in words)
