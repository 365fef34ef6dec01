# SPDX-License-Identifier: BUSL-1.1
"""`POST /tokenize` and `POST /detokenize`, in vLLM's form."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.front.core import Core, reply
from mlos_core.front.openai import body as bodies
from mlos_core.front.openai import caller, serving, tools
from mlos_core.front.openai.asking import ask
from mlos_core.front.openai.fields import refuse
from mlos_core.front.openai.problems import invalid
from mlos_core.front.ports import Result
from mlos_core.types import Array

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "continue_final_message": (False,),
    "chat_template": (),
    "return_token_strs": (False,),
}


class TokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text (`prompt`), or a conversation as for chat completions."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[tools.Tool] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # --- known, not served
    continue_final_message: Any = None
    chat_template: Any = None
    return_token_strs: Any = None


class Tokens(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The token ids, and how many the model takes at most, where it says so."""

    count: int
    max_model_len: int | UnsetType = UNSET
    tokens: list[int]


class DetokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Token ids."""

    tokens: list[Any]
    model: str | None = None


class Text(msgspec.Struct):
    """The text that the tokens stand for."""

    prompt: str


async def tokenize(core: Core, request: Request) -> Response:
    """Text to token ids."""
    body = await bodies.read(core, request, TokenizeBody)
    refuse(body, _NEUTRAL)
    inputs = _inputs(body)
    seconds = caller.seconds(core, request)
    target = await serving.choose(core, body.model, "tokenize", seconds)
    return reply(await ask(core, target, inputs, _parameters(body), seconds, _tokens))


async def detokenize(core: Core, request: Request) -> Response:
    """Token ids to text."""
    body = await bodies.read(core, request, DetokenizeBody)
    inputs = {"tokens": bodies.token_input("tokens", body.tokens)}
    seconds = caller.seconds(core, request)
    target = await serving.choose(core, body.model, "tokenize", seconds)
    return reply(await ask(core, target, inputs, {"task": "detokenize"}, seconds, _text))


def _inputs(body: TokenizeBody) -> dict[str, Array]:
    if (body.prompt is None) == (body.messages is None):
        raise invalid("prompt", "give either prompt or messages")
    if body.messages is None:
        return {"text": bodies.text_input(body.prompt or "")}
    return {"messages": bodies.text_input(msgspec.json.encode(body.messages))}


def _parameters(body: TokenizeBody) -> dict[str, Any]:
    parameters: dict[str, Any] = {"task": "tokenize", **tools.parameters(body.tools, None)}
    for name in ("add_special_tokens", "add_generation_prompt", "chat_template_kwargs"):
        value = getattr(body, name)
        if value is not None:
            parameters[name] = value
    return parameters


def _tokens(result: Result) -> Tokens:
    tokens: list[int] = result["tokens"].reshape(-1).tolist()
    limit = result.parameters.get("context_length", UNSET)
    return Tokens(count=len(tokens), max_model_len=limit, tokens=tokens)


def _text(result: Result) -> Text:
    raw: bytes = result["text"].reshape(-1)[0]
    return Text(raw.decode(errors="replace"))
