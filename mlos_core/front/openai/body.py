# SPDX-License-Identifier: BUSL-1.1
"""Bodies of OpenAI's routes: decoded, with the field named that does not fit."""

from __future__ import annotations

import difflib
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from starlette.requests import Request

from mlos_core.errors import InvalidInput
from mlos_core.front.core import Core
from mlos_core.front.openai.problems import invalid, place_of
from mlos_core.types import Array

T = TypeVar("T")

_LARGEST: Final = 2**31 - 1


async def read(core: Core, request: Request, kind: type[T]) -> T:
    """The request's JSON body as `kind`.

    Raises:
        InvalidValue: it does not fit.
    """
    return await core.body(request, kind, _decode)


def _decode(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError as err:
        raise InvalidInput("the body is nested too deeply", hint="send a flatter one") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        place = place_of(str(err))
        hint = _like(place, kind) if "unknown field" in str(err) else ""
        raise invalid(place, f"the body does not fit: {err}", hint) from err


def _like(field: str, kind: type[Any]) -> str:
    near = difflib.get_close_matches(field, getattr(kind, "__struct_fields__", ()), n=1)
    return f"did you mean {near[0]}?" if near else "leave it out"


def text_input(text: str | bytes) -> Array:
    """A `bytes` tensor of one element."""
    array = np.empty(1, dtype=object)
    array[0] = text.encode() if isinstance(text, str) else text
    return array


def token_input(param: str, tokens: list[Any]) -> Array:
    """Token ids as the model takes them.

    Raises:
        InvalidValue: one is no token id of any model.
    """
    for token in tokens:
        if type(token) is not int or not 0 <= token <= _LARGEST:
            raise invalid(param, f"{token!r:.40} is no token id")
    return np.array(tokens, dtype=np.int32)


def prompts(param: str, given: Any) -> list[dict[str, Array]]:
    """The model's inputs for each of one or several prompts, of text or of token ids.

    Raises:
        InvalidValue: they are something else.
    """
    if isinstance(given, str):
        return [{"text": text_input(given)}]
    if not isinstance(given, list) or not given:
        raise invalid(param, f"{param} is empty, or neither text nor token ids", _FORMS)
    if isinstance(given[0], int):
        return [_prompt(param, given)]
    if len(given) > MOST:
        raise invalid(param, f"{len(given)} prompts in one request", f"send {MOST} at most")
    return [_prompt(f"{param}[{index}]", one) for index, one in enumerate(given)]


def _prompt(param: str, one: Any) -> dict[str, Array]:
    if isinstance(one, str):
        return {"text": text_input(one)}
    if isinstance(one, list) and one:
        return {"tokens": token_input(param, one)}
    raise invalid(param, f"{param} is neither text nor token ids", _FORMS)


MOST: Final = 2048
_FORMS: Final = "send a string, a list of strings, token ids, or a list of lists of token ids"
