# SPDX-License-Identifier: BUSL-1.1
"""From a request's inputs to token ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.synapse.engine.faces import Text
from mlos_core.synapse.engine.sampling import SamplingParams
from mlos_core.types import Array

INPUTS: Final = ("text", "tokens", "messages")
MAX_CHARACTERS_PER_TOKEN: Final = 16
"""A text longer than the context times this is refused before it is tokenized."""


class Prompt(NamedTuple):
    """Token ids, and the text where that is known."""

    tokens: list[int]
    text: str | None


def read(inputs: Mapping[str, Array], params: SamplingParams, text: Text, context: int) -> Prompt:
    """The prompt of a request.

    Raises:
        InvalidInput: not exactly one input is given, or it is no text, no chat, no tokens.
    """
    given = [name for name in INPUTS if name in inputs]
    if len(given) != 1:
        raise InvalidInput(
            f"the request has {' and '.join(given) or 'no input'}",
            hint="give exactly one of " + ", ".join(INPUTS),
        )
    if given[0] == "tokens":
        return Prompt(_tokens(inputs["tokens"], text.vocab_size), None)
    source = _string(inputs[given[0]])
    limit = context * MAX_CHARACTERS_PER_TOKEN
    if len(source) > limit:
        raise InvalidInput(
            f"the {given[0]} input has {len(source)} characters; a context of {context} tokens "
            f"takes no more than {limit}"
        )
    if given[0] == "messages":
        source = _render(source, params, text)
    return Prompt(text.encode(source, wrap=params.add_special_tokens), source)


def _string(array: Array) -> str:
    raw = array.item(0)
    if isinstance(raw, str):
        return raw
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(f"the text is no UTF-8: {err}") from err


def _tokens(array: Array, vocab_size: int) -> list[int]:
    if array.size and (int(array.min()) < 0 or int(array.max()) >= vocab_size):
        worst = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise InvalidInput(f"token {worst} is not in the vocabulary of {vocab_size}")
    ids: list[int] = array.astype(np.int64).tolist()
    return ids


def _render(source: str, params: SamplingParams, text: Text) -> str:
    try:
        messages = msgspec.json.decode(source, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError) as err:
        raise InvalidInput(
            f"the messages are not understood: {err}",
            hint='send a JSON list like [{"role": "user", "content": "Hello"}]',
        ) from err
    if not messages:
        raise InvalidInput("there are no messages")
    tools = None if params.tool_choice == "none" else params.tools
    return text.render(
        messages,
        tools=tools or None,
        add_generation_prompt=params.add_generation_prompt,
        **_variables(params),
    )


def _variables(params: SamplingParams) -> dict[str, Any]:
    given = params.chat_template_kwargs or {}
    for name in ("self", "messages", "tools", "add_generation_prompt"):
        if name in given:
            raise InvalidInput(f"chat_template_kwargs must not hold {name!r}")
    return given
